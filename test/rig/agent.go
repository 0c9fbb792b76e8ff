package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Build returns the path of the agent that tests run: $TAILWATER_BIN where it is set, as
// `make test` does, else one compiled into dir, without the profile, which would have every
// package compiled once more. root is the module's root.
func Build(ctx context.Context, root, dir string) (string, error) {
	if bin := os.Getenv("TAILWATER_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(dir, "tailwater")
	cmd := exec.CommandContext(ctx, "go", "build", "-pgo=off", "-o", bin, "./cmd/tailwater")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	return bin, nil
}

// Home is a directory for one agent: its configuration, its state, what it logs. The
// path is short, as that of a unix socket must be.
type Home struct {
	Bin string // the agent's binary
	Dir string
	// Env is added to the agent's environment.
	Env []string
}

// Config is the path of the configuration file.
func (h *Home) Config() string { return filepath.Join(h.Dir, "tailwater.yaml") }

// State is the path of the state directory.
func (h *Home) State() string { return filepath.Join(h.Dir, "state") }

// LogFile is where the agent's stderr goes, over all its runs.
func (h *Home) LogFile() string { return filepath.Join(h.Dir, "agent.log") }

// WriteConfig writes the configuration: body with the state directory, a host and no
// listener put before it. $DIR in body stands for the home's directory.
func (h *Home) WriteConfig(body string) error {
	text := "state: $DIR/state\nlisten: ''\nmetadata: none\nhost: rig\n" + body
	// The agent, which watches the file, must never see half of it.
	next := h.Config() + ".next"
	if err := os.WriteFile(next, []byte(strings.ReplaceAll(text, "$DIR", h.Dir)), 0o644); err != nil {
		return err
	}
	return os.Rename(next, h.Config())
}

// Command returns the agent's command of that name with its arguments.
func (h *Home) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.Bin, args...)
	cmd.Dir = h.Dir
	cmd.Env = append(os.Environ(), h.Env...)
	return cmd
}

// Agent is one running `tailwater run`.
type Agent struct {
	home   *Home
	cmd    *exec.Cmd
	client *http.Client
	exited chan struct{}
}

// Start runs the agent and returns at once; see Ready. Its stdout goes to stdout in
// the home, and its log to LogFile.
func (h *Home) Start(args ...string) (*Agent, error) {
	cmd := h.Command(context.Background(), append([]string{"run", "-c", h.Config()}, args...)...)
	for name, to := range map[string]*io.Writer{"stdout": &cmd.Stdout, "agent.log": &cmd.Stderr} {
		f, err := os.OpenFile(filepath.Join(h.Dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, err
		}
		defer f.Close() // the child has its own
		*to = f
	}
	// When the test dies, so does its agent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	socket := filepath.Join(h.State(), "tailwater.sock")
	a := &Agent{home: h, cmd: cmd, exited: make(chan struct{}), client: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
	}}
	go func() {
		cmd.Wait() // its error is in ProcessState
		close(a.exited)
	}()
	return a, nil
}

// PID is the process's.
func (a *Agent) PID() int { return a.cmd.Process.Pid }

// Signal sends s to the process.
func (a *Agent) Signal(s os.Signal) error { return a.cmd.Process.Signal(s) }

// Ready waits until the agent answers on its socket.
func (a *Agent) Ready(ctx context.Context) error {
	return Poll(ctx, "the agent to be ready", func() error {
		if !a.Running() {
			return Final(fmt.Errorf("the agent has ended with code %d:\n%s", a.ExitCode(), a.home.LogTail()))
		}
		_, err := a.Get("/readyz")
		return err
	})
}

// Running tells whether the process has not ended yet.
func (a *Agent) Running() bool {
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

// ExitCode is the ended process's, -1 when a signal ended it.
func (a *Agent) ExitCode() int { return a.cmd.ProcessState.ExitCode() }

// Usage is the ended process's CPU time and its largest resident memory in bytes.
func (a *Agent) Usage() (cpu time.Duration, rss int64) {
	s := a.cmd.ProcessState
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		rss = u.Maxrss << 10
	}
	return s.UserTime() + s.SystemTime(), rss
}

// Kill ends the process with SIGKILL and waits for it.
func (a *Agent) Kill() {
	a.cmd.Process.Kill() // it may have ended already
	<-a.exited
}

// Stop asks the agent to stop and waits until it has, with its exit code.
func (a *Agent) Stop(ctx context.Context) (code int, err error) {
	if err := a.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	return a.Wait(ctx)
}

// Wait waits for the end of the process. When ctx ends first, the process is killed
// and what it logged last is in the error.
func (a *Agent) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-a.exited:
		return a.ExitCode(), nil
	case <-ctx.Done():
		a.Signal(syscall.SIGQUIT) // for the stacks, in the log
		select {
		case <-a.exited:
		case <-time.After(2 * time.Second):
		}
		a.Kill()
		return -1, fmt.Errorf("the agent did not end in time: %w\n%s", context.Cause(ctx), a.home.LogTail())
	}
}

// Drain runs `tailwater drain` and waits for the agent's end.
func (a *Agent) Drain(ctx context.Context) error {
	out, err := a.home.Command(ctx, "drain", "--state", a.home.State(), "--timeout", "60s").CombinedOutput()
	if err != nil {
		return fmt.Errorf("drain: %w\n%s%s", err, out, a.home.LogTail())
	}
	code, err := a.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("the drained agent ended with code %d\n%s", code, a.home.LogTail())
	}
	return err
}

// Get asks the agent over its socket and returns the body of a 200.
func (a *Agent) Get(path string) ([]byte, error) {
	resp, err := a.client.Get("http://agent" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// LogTail is the end of what the agent has logged.
func (h *Home) LogTail() string {
	data, err := os.ReadFile(h.LogFile())
	if err != nil {
		return err.Error()
	}
	const enough = 6 << 10
	if len(data) > enough {
		data = append([]byte("[..]"), data[len(data)-enough:]...)
	}
	return string(data)
}

// LogCount counts the lines of the agent's log that hold text.
func (h *Home) LogCount(text string) int {
	data, err := os.ReadFile(h.LogFile())
	if err != nil {
		return 0
	}
	n := 0
	for line := range bytes.Lines(data) {
		if bytes.Contains(line, []byte(text)) {
			n++
		}
	}
	return n
}
