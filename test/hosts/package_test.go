package hosts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// packages are built once: one version for all architectures, and the next for this one.
var packages = sync.OnceValues(func() ([2]string, error) {
	var dirs [2]string
	for i, build := range [][2]string{{"v1.0.0", "amd64 arm64"}, {"v1.0.1", arch}} {
		dirs[i] = filepath.Join(built, build[0])
		if err := makeTarget(context.Background(), "package", "DIST="+dirs[i], "VERSION="+build[0], "ARCHS="+build[1]); err != nil {
			return dirs, err
		}
	}
	return dirs, nil
})

// debs are the packages for this machine's architecture, the older one first.
func debs(t *testing.T) (older, newer string) {
	t.Helper()
	dirs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dirs[0], "packages", "tailwater_1.0.0-1_"+arch+".deb"), filepath.Join(dirs[1], "packages", "tailwater_1.0.1-1_"+arch+".deb")
}

// shopConfig reads logs that are for root alone, which the agent, who is not, may read by its
// capability.
const shopConfig = `
listen: ''

inputs:
  app:
    files: [/var/log/shop/*.log]
    format: json
outputs:
  out: {file: {path: /var/log/tailwater/out.ndjson}}
`

// install copies a package into the machine and installs it.
func (m *machine) install(deb string) string {
	m.Helper()
	data, err := os.ReadFile(deb)
	m.check(err)
	m.check(os.WriteFile(m.shared("tailwater.deb"), data, 0o644))
	return m.run("dpkg", "-i", "/srv/tailwater.deb")
}

// shopLog opens a log in the machine that only root may read.
func (m *machine) shopLog(name string) *rig.Log {
	m.Helper()
	dir := m.path("/var/log/shop")
	m.check(os.MkdirAll(dir, 0o700))
	l, err := rig.OpenLog(filepath.Join(dir, name), name)
	m.check(err)
	m.check(os.Chmod(l.Name, 0o600))
	m.Cleanup(func() { l.Close() })
	return l
}

// exact waits until every line is in the output and wants each once.
func (m *machine) exact(logs ...*rig.Log) {
	m.Helper()
	var streams []*rig.Lines
	for _, l := range logs {
		streams = append(streams, l.Lines)
	}
	out := m.path("/var/log/tailwater/out.ndjson")
	m.check(rig.Poll(m.ctx, "every line to be delivered", func() error {
		tally, err := rig.Count(out)
		if err != nil {
			return err
		}
		if err := tally.Clean(nil, streams...); err != nil {
			return fmt.Errorf("%w\n%s", err, m.journal())
		}
		return nil
	}))
	tally, err := rig.Count(out)
	m.check(err)
	if err := tally.Exact(nil, streams...); err != nil {
		m.Error(err)
	}
}

// TestPackageFromInstallToPurge: what an administrator does with the package, on a
// machine with a real systemd, while a program logs.
func TestPackageFromInstallToPurge(t *testing.T) {
	t.Parallel()
	older, newer := debs(t)
	m := boot(t)
	m.install(older)
	m.becomes("ActiveState", "active")
	for name, want := range map[string]string{
		"/etc/tailwater/tailwater.yaml": "640 root tailwater", "/var/lib/tailwater": "700 tailwater tailwater",
		"/var/log/tailwater": "750 tailwater tailwater", "/var/lib/tailwater/tailwater.sock": "600 tailwater tailwater",
	} {
		if got := m.run("stat", "-c", "%a %U %G", name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if enabled := m.run("systemctl", "is-enabled", "tailwater.service"); enabled != "enabled" {
		t.Errorf("the service is %s after the installation", enabled)
	}

	const config = "/etc/tailwater/tailwater.yaml"
	log := m.shopLog("shop.log")
	m.check(log.Write(1000, 100))
	m.write(config, shopConfig, 0o644)
	m.run("systemctl", "reload", "tailwater.service")
	m.exact(log)
	m.confined()

	// An upgrade under load.
	writing, stop := context.WithCancel(m.ctx)
	wrote := make(chan error, 1)
	go func() {
		for writing.Err() == nil {
			if err := log.Write(20, 100); err != nil {
				wrote <- err
				return
			}
			time.Sleep(time.Millisecond) // the pace of the program that logs
		}
		wrote <- nil
	}()
	was := m.property("MainPID")
	m.install(newer)
	if out := m.run("tailwater", "version"); !strings.Contains(out, "v1.0.1") {
		t.Errorf("after the upgrade: %s", out)
	}
	if now := m.property("MainPID"); now == was || now == "0" {
		t.Errorf("the upgraded agent has the pid %s, the old one had %s", now, was)
	}
	stop()
	m.check(<-wrote)
	m.exact(log)
	if got := mustRead(t, m.path(config)); got != shopConfig {
		t.Errorf("the administrator's configuration was changed by the upgrade:\n%s", got)
	}

	// A configuration that the new program refuses does not stop the old one.
	m.write(config, "inputs: {}\n", 0o644)
	was = m.property("MainPID")
	if out := m.install(older); !strings.Contains(out, config+":1:") {
		t.Errorf("the installation says nothing of the configuration it refuses:\n%s", out)
	}
	if now := m.property("MainPID"); now != was {
		t.Errorf("the agent was stopped for a configuration that is refused: pid %s, was %s", now, was)
	}
	m.fail("systemctl", "reload", "tailwater.service")
	m.check(log.Write(100, 0))
	m.exact(log)
	m.write(config, shopConfig, 0o644)
	m.install(newer)

	// Killed, it is there again.
	was = m.property("MainPID")
	m.run("kill", "-9", was)
	m.check(log.Write(100, 0))
	m.exact(log)
	if now := m.property("MainPID"); now == was {
		t.Errorf("a killed agent was not started again")
	}

	// Removed, it keeps what it knows; a new installation goes on from there.
	m.run("dpkg", "-r", "tailwater")
	if out := m.fail("pgrep", "-x", "tailwater"); out != "" {
		t.Errorf("the removed agent runs: %s", out)
	}
	m.check(log.Write(100, 0))
	m.install(newer)
	m.exact(log)

	m.run("dpkg", "-P", "tailwater")
	for _, name := range []string{"/etc/tailwater", "/var/lib/tailwater", "/var/log/tailwater", "/usr/bin/tailwater", "/usr/lib/systemd/system/tailwater.service",
		"/etc/systemd/system/multi-user.target.wants/tailwater.service"} {
		if _, err := os.Lstat(m.path(name)); err == nil {
			t.Errorf("%s is there after the purge", name)
		}
	}
}

// confined wants the running agent to have the capabilities to read any file and to lease it, and no more.
func (m *machine) confined() {
	m.Helper()
	status := mustRead(m.T, m.path("/proc/"+m.property("MainPID")+"/status"))
	for _, want := range []string{"CapPrm:\t0000000010000004\n", "CapEff:\t0000000010000004\n", "CapBnd:\t0000000010000004\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(status, want) {
			m.Errorf("the agent's status has not %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		m.Error("the agent runs as root")
	}
}

// TestStoppedWithLinesUndelivered: the exit code 3 is no failure, lines wait, and a stop may
// take longer than the unit's own time when the configuration says so.
func TestStoppedWithLinesUndelivered(t *testing.T) {
	t.Parallel()
	older, _ := debs(t)
	m := boot(t)
	m.install(older)
	log := m.shopLog("shop.log")
	m.check(log.Write(100, 0))
	closed := strings.Replace(shopConfig, "file: {path: /var/log/tailwater/out.ndjson}", "kafka: {brokers: ['127.0.0.1:1'], topic: x}", 1)
	m.write("/etc/tailwater/tailwater.yaml", "shutdown_timeout: 4s\n"+closed, 0o644)
	// Less than that: the agent has to ask for more.
	m.write("/etc/systemd/system/tailwater.service.d/hasty.conf", "[Service]\nTimeoutStopSec=1s\n", 0o644)
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "tailwater.service")
	m.check(rig.Poll(m.ctx, "the agent to have read the log", func() error {
		if out, err := m.command("tailwater", "status", "--json").CombinedOutput(); err != nil || !strings.Contains(string(out), `"read_lines": 100`) {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	}))
	m.run("systemctl", "stop", "tailwater.service")
	if log := m.journal(); !strings.Contains(log, "stopped with lines undelivered") || !strings.Contains(log, "tailwater.service: Deactivated successfully") {
		t.Errorf("the service was not let end in its own time and way:\n%s", log)
	}
	m.write("/etc/tailwater/tailwater.yaml", shopConfig, 0o644)
	m.run("systemctl", "start", "tailwater.service")
	m.exact(log)

	// Root prepares an image, and the agent, who is not root, goes on as a clone.
	m.run("systemctl", "stop", "tailwater.service")
	m.run("tailwater", "image-prepare")
	if others := m.run("find", "/var/lib/tailwater", "!", "-user", "tailwater"); others != "" {
		t.Errorf("after root has prepared the image, these are not the agent's:\n%s", others)
	}
	m.check(log.Write(100, 0))
	m.run("systemctl", "start", "tailwater.service")
	m.exact(log)

	// A copy that was not prepared is known by its machine-id.
	m.run("systemctl", "stop", "tailwater.service")
	m.write("/etc/machine-id", "99998888777766665555444433332222\n", 0o444)
	m.check(log.Write(100, 0))
	m.run("systemctl", "start", "tailwater.service")
	m.exact(log)
	if log := m.journal(); !strings.Contains(log, "this state was copied from another machine") {
		t.Errorf("another machine-id is not taken for another machine:\n%s", log)
	}
}

// TestShutdownOfAHostThatDoesNotComeBack: with the drop-in, the last words of a host
// are delivered before it is gone, an unfinished line too.
func TestShutdownOfAHostThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	older, _ := debs(t)
	m := boot(t)
	m.install(older)
	m.check(os.Chmod(m.shared(""), 0o777))
	m.write("/etc/tailwater/tailwater.yaml", strings.ReplaceAll(shopConfig, "/var/log/tailwater/", "/srv/"), 0o644)
	m.write("/etc/systemd/system/tailwater.service.d/drain-at-shutdown.conf", mustRead(t, root+"/deploy/systemd/drain-at-shutdown.conf"), 0o644)
	m.write("/etc/systemd/system/tailwater.service.d/srv.conf", "[Service]\nReadWritePaths=/srv\n", 0o644)
	// A program that, asked to stop, takes a moment and then says its last words.
	m.write("/etc/systemd/system/nginx.service", `[Service]
Type=exec
ExecStart=/bin/sh -c 'trap "sleep 1; printf last-words >>/var/log/shop/nginx.log; exit" TERM; while :; do sleep 0.1; done'
`, 0o644)
	log := m.shopLog("shop.log")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "restart", "tailwater.service")
	m.run("systemctl", "start", "nginx.service")
	m.check(log.Write(1000, 0))
	m.run("systemctl", "--no-block", "poweroff")
	select {
	case <-m.exited:
	case <-m.ctx.Done():
		t.Fatal("the machine does not go down")
	}
	tally, err := rig.Count(m.shared("out.ndjson"))
	m.check(err)
	if err := tally.Exact(nil, log.Lines); err != nil {
		t.Error(err)
	}
	if out := mustRead(t, m.shared("out.ndjson")); !strings.Contains(out, `last-words`) {
		t.Error("the unfinished last line of a program that stopped at the shutdown is not delivered")
	}
}
