// Package lock lets one process at a time use a state directory.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// name is the file in the directory that is locked. It holds the pid of the process
// that has the lock, for whoever meets it; it is never removed, as two processes
// could then lock two files of the same name.
const name = "lock"

// retryEvery is how often a lock that is taken is tried again.
const retryEvery = 50 * time.Millisecond

// TakenError says that another process uses the directory.
type TakenError struct {
	Dir string
	// Pid is the other process, 0 when it is not known.
	Pid int
}

func (e *TakenError) Error() string {
	who := "another process"
	if e.Pid > 0 {
		who = fmt.Sprintf("the process with pid %d", e.Pid)
	}
	return fmt.Sprintf("state directory %s is in use by %s; stop that one first, or wait for it with --wait", e.Dir, who)
}

// Acquire locks the directory, which it makes when it is missing. It tries once at
// least, and again until ctx ends; then it returns a *TakenError with the holder's
// pid. The kernel gives the lock back when the process dies, however it dies.
func Acquire(ctx context.Context, dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory %s: lock: %w", dir, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("state directory %s: lock: %w", dir, err)
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			taken := &TakenError{dir, pidIn(f)}
			f.Close()
			return nil, taken
		}
	}
	// The pid is for people; a full disk is no reason not to run.
	if err := f.Truncate(0); err == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { f.Close() }, nil
}

func pidIn(f *os.File) int {
	buf := make([]byte, 20)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return 0
	}
	return pid
}
