// Package systemd tells the service manager how the process is, as sd_notify(3) does.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Notify sends the assignments (READY=1 and the like) to the service manager that
// started this process. Without one it does nothing.
func Notify(assignments ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// A name that begins with @ is in the abstract namespace; net knows that too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	return nil
}

// Ready says that the start is over.
func Ready() error { return Notify("READY=1") }

// Stopping says that the process is about to end, and asks for the time it needs,
// should that be more than the unit's TimeoutStopSec.
func Stopping(within time.Duration) error {
	return Notify("STOPPING=1", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}
