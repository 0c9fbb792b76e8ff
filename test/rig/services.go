package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Services are real servers, Kafka and Elasticsearch, that test/env/services-up has
// started for this process alone. They end with it, however it ends.
type Services struct {
	Dir string // their data and logs

	root   string
	env    []string
	reaper *exec.Cmd
	hold   io.Closer
	values map[string]string
}

// StartServices starts servers on free ports. root is the module's root; settings are
// NAME=value as test/env/services-up describes them. The first run on a machine
// downloads the servers.
func StartServices(ctx context.Context, root string, settings ...string) (*Services, error) {
	dir, err := os.MkdirTemp("", "tailwater-services-")
	if err != nil {
		return nil, err
	}
	s := &Services{Dir: dir, root: root}
	if err := s.armReaper(); err != nil {
		return nil, err
	}
	kafkaPort, err := freePorts(0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52)
	if err != nil {
		return nil, err
	}
	esPort, err := freePorts(0, 100)
	if err != nil {
		return nil, err
	}
	s.env = append([]string{fmt.Sprint("KAFKA_PORT=", kafkaPort), fmt.Sprint("ES_PORT=", esPort)}, settings...)
	if err := s.Up(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// armReaper starts a shell that waits for the end of this process, when its stdin is
// closed by whatever ends it, and then stops the servers and removes their data.
func (s *Services) armReaper() error {
	s.reaper = exec.Command("sh", "-c", `cat >/dev/null; "$0" "$1" --remove; rm -rf "$1"`,
		filepath.Join(s.root, "test/env/services-down"), s.Dir)
	s.reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not for the terminal's ^C
	stdin, err := s.reaper.StdinPipe()
	if err != nil {
		return err
	}
	s.hold = stdin
	return s.reaper.Start()
}

// Up starts those of the servers that do not run, and returns when they answer.
func (s *Services) Up(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.root, "test/env/services-up"), s.Dir)
	cmd.Env = append(os.Environ(), s.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("services-up: %w\n%s", err, said.Bytes())
	}
	s.values = make(map[string]string)
	for line := range strings.Lines(out.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			s.values[name] = value
		}
	}
	return nil
}

// Value is one of the values that services-up prints, such as KAFKA_BROKERS.
func (s *Services) Value(name string) string { return s.values[name] }

// Brokers are the addresses of a listener: KAFKA_BROKERS, KAFKA_TLS_BROKERS, ..
func (s *Services) Brokers(listener string) []string { return strings.Split(s.Value(listener), ",") }

// PID is the process of one server: kafka-1, kafka-2, kafka-3 or elasticsearch.
func (s *Services) PID(server string) (int, error) {
	text, err := os.ReadFile(filepath.Join(s.Dir, server, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Signal sends a signal to one server, named as for PID.
func (s *Services) Signal(server string, sig syscall.Signal) error {
	pid, err := s.PID(server)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, sig)
}

// Kill ends one server with SIGKILL and returns when it is gone; Up brings it back.
func (s *Services) Kill(ctx context.Context, server string) error {
	if err := s.Signal(server, syscall.SIGKILL); err != nil {
		return err
	}
	return Poll(ctx, "the end of "+server, func() error {
		if err := s.Signal(server, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("it is still there: %v", err)
		}
		return nil
	})
}

// Stop ends the servers and removes their data.
func (s *Services) Stop() error {
	s.hold.Close()
	return s.reaper.Wait()
}

// freePorts finds a port such that it and its neighbours at these distances are free,
// below those that the system gives to clients.
func freePorts(distances ...int) (int, error) {
	for range 200 {
		base := 20000 + rand.IntN(12000)
		if allFree(base, distances) {
			return base, nil
		}
	}
	return 0, errors.New("no free ports between 20000 and 32000")
}

func allFree(base int, distances []int) bool {
	for _, d := range distances {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", base+d))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// ServicesTime is how long servers may take to start on a busy machine, downloads
// aside.
const ServicesTime = 3 * time.Minute
