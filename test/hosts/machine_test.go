package hosts

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// machine is a small Debian machine with a real systemd as its first process: see
// testdata/machine.
type machine struct {
	*testing.T
	ctx    context.Context
	dir    string
	log    *bytes.Buffer // what systemd says; to be read once it has ended
	pid    int           // of its first process, as seen from here
	exited chan struct{}
}

const patience = 60 * time.Second

// boot starts a machine, or skips the test where that cannot be.
func boot(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a machine of its own, with systemd, needs root")
	}
	for _, need := range []string{"/lib/systemd/systemd", "/usr/bin/dpkg"} {
		if _, err := os.Stat(need); err != nil {
			t.Skipf("a machine of its own needs a Debian with systemd: %v", err)
		}
	}
	groups := cgroups(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	m := &machine{T: t, ctx: ctx, dir: tempDir(t), log: new(bytes.Buffer), exited: make(chan struct{})}
	for _, d := range []string{"layer", "shared"} {
		m.check(os.Mkdir(filepath.Join(m.dir, d), 0o755))
	}
	cmd := exec.Command("testdata/machine", m.dir, strings.Join(groups, " "))
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.check(cmd.Start())
	go func() {
		cmd.Wait()
		close(m.exited)
	}()
	t.Cleanup(func() {
		cancel()
		cmd.Process.Kill() // its first process dies with it, and all others with that
		<-m.exited
		if t.Failed() {
			t.Logf("the machine said:\n%s", m.log)
		}
		for _, g := range groups {
			removeCgroup(t, g)
		}
	})
	m.check(rig.Poll(ctx, "the machine to be up", func() error {
		select {
		case <-m.exited:
			return rig.Final(fmt.Errorf("it has ended: %s", m.log))
		default:
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			return err
		}
		if m.pid, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil {
			return fmt.Errorf("no first process yet: %q", raw)
		}
		out, err := m.command("systemctl", "is-active", "machine.target").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}))
	return m
}

// cgroups names the groups that the machine will live in, one in each hierarchy in which
// systemd makes groups of its own.
func cgroups(t *testing.T) (all []string) {
	name := fmt.Sprintf("tailwater-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	for _, hierarchy := range []string{"", "systemd", "unified", "pids", "devices", "memory"} {
		dir := filepath.Join("/sys/fs/cgroup", hierarchy)
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			all = append(all, filepath.Join(dir, name))
		}
	}
	if len(all) == 0 {
		t.Skip("a machine of its own needs the cgroup file system")
	}
	return all
}

// removeCgroup removes a group and those in it, whose processes have all been killed.
func removeCgroup(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := rig.Poll(ctx, "the machine's cgroups to be empty", func() error {
		return exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
	})
	if _, there := os.Stat(dir); err != nil && there == nil {
		t.Error(err)
	}
}

func (m *machine) check(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

// path is where the machine's file is to be found from here.
func (m *machine) path(name string) string { return fmt.Sprintf("/proc/%d/root%s", m.pid, name) }

// shared is where /srv/NAME is to be found from here, also when the machine is gone.
func (m *machine) shared(name string) string { return filepath.Join(m.dir, "shared", name) }

// command is a command to be run in the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-p", "-u", "-i", "-r", "-w", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	return cmd
}

// run runs a command in the machine and wants it to succeed.
func (m *machine) run(args ...string) string {
	m.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, m.journal())
	}
	return strings.TrimSpace(string(out))
}

// fail runs a command in the machine and wants it not to succeed.
func (m *machine) fail(args ...string) string {
	m.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err == nil {
		m.Fatalf("%s: should have failed\n%s", strings.Join(args, " "), out)
	}
	return strings.TrimSpace(string(out))
}

// journal is what the service's journal has.
func (m *machine) journal() string {
	out, _ := m.command("journalctl", "--no-pager", "-o", "cat", "-n", "60", "-u", "tailwater").CombinedOutput()
	return string(out)
}

// write puts a file into the machine, in the place of what was there.
func (m *machine) write(name, content string, mode os.FileMode) {
	m.Helper()
	m.check(os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	m.check(os.WriteFile(m.path(name)+".next", []byte(content), mode))
	m.check(os.Rename(m.path(name)+".next", m.path(name)))
}

// property asks systemd for one of the service's properties.
func (m *machine) property(name string) string {
	m.Helper()
	return m.run("systemctl", "show", "--value", "-p", name, "tailwater.service")
}

// becomes waits until the service's property has that value.
func (m *machine) becomes(name, want string) {
	m.Helper()
	m.check(rig.Poll(m.ctx, name+" to be "+want, func() error {
		if got := m.property(name); got != want {
			return fmt.Errorf("it is %q\n%s", got, m.journal())
		}
		return nil
	}))
}
