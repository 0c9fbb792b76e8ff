package systemd

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheServiceManagerHears(t *testing.T) {
	dir, err := os.MkdirTemp("", "tw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{filepath.Join(dir, "notify"), "@" + strings.ReplaceAll(dir, "/", "-")} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		l.SetReadDeadline(time.Now().Add(10 * time.Second))
		t.Setenv("NOTIFY_SOCKET", name)
		buf := make([]byte, 200)
		for want, send := range map[string]func() error{
			"READY=1": Ready,
			"STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000": func() error { return Stopping(25 * time.Second) },
		} {
			if err := send(); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(buf)
			if err != nil || string(buf[:n]) != want {
				t.Errorf("the manager at %s hears %q, %v, want %q", name, buf[:n], err, want)
			}
		}
	}
}

func TestWithoutAServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready(); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", "/nonexistent/notify")
	if err := Ready(); err == nil {
		t.Error("no error where the manager cannot be reached")
	}
}
