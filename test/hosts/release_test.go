package hosts

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// site is a host to release to: a directory, with an agent that its restart command
// starts.
type site struct {
	*home
	dir     string
	rsync   string
	addr    string
	notices notices
}

// notices are what a webhook of the agent was sent.
type notices struct {
	mu  sync.Mutex
	all []string
}

func (n *notices) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, string(body))
}

func (n *notices) say(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(strings.Join(n.all, "\n"), text)
}

// newSite makes one whose directory has that name.
func newSite(t *testing.T, name string) *site {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the release script needs curl on its target")
	}
	s := &site{home: newHome(t, homeConfig), rsync: fetched(t, "rsync")}
	s.dir = filepath.Join(s.Dir, name)
	hook := httptest.NewServer(&s.notices)
	t.Cleanup(hook.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.check(err)
	s.addr = l.Addr().String()
	l.Close()
	s.check(s.WriteConfig(homeConfig + fmt.Sprintf("notify:\n  hook: {webhook: {url: '%s'}}\n", hook.URL)))
	text := strings.Replace(mustRead(t, s.Config()), "listen: ''", "listen: "+s.addr, 1)
	s.check(os.WriteFile(s.Config(), []byte(text), 0o644))
	// What systemctl restart does, for this directory's agent.
	s.check(os.WriteFile(filepath.Join(s.Dir, "restart"), []byte(`#!/bin/bash
cd "$1" || exit
if [ -e pid ]; then
  kill "$(cat pid)" 2>/dev/null
  while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
fi
setsid "$2/current/tailwater" run -c tailwater.yaml </dev/null >>agent.log 2>&1 &
echo $! >pid
`), 0o755))
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(s.Dir, "pid")); err == nil {
			exec.Command("kill", "-9", strings.TrimSpace(string(pid))).Run()
		}
	})
	return s
}

// release runs the script.
func (s *site) release(args ...string) (string, int) {
	s.Helper()
	return s.releaseTo(s.dir, nil, args...)
}

func (s *site) releaseTo(target string, env []string, args ...string) (string, int) {
	s.Helper()
	return s.run(append([]string{"RSYNC=" + s.rsync}, env...), filepath.Join(root, "deploy/jenkins/release"), append([]string{
		"--config", s.Config(), "--restart", fmt.Sprintf("%[1]s/restart %[1]s %[2]q", s.Dir, s.dir), "--health", "http://" + s.addr, "--settle", "1", "--wait", "20", target}, args...)...)
}

// runs is the version of the agent that runs.
func (s *site) runs() string {
	s.Helper()
	out, code := s.run(nil, s.Bin, "status", "--state", s.State(), "--json")
	if code != 0 {
		return "none: " + out
	}
	_, rest, _ := strings.Cut(out, `"version": "`)
	version, _, _ := strings.Cut(rest, `"`)
	return version
}

// programs are the agent in two versions.
var programs = sync.OnceValues(func() (paths [2]string, err error) {
	for i, version := range []string{"v2.0.0", "v2.1.0"} {
		paths[i] = filepath.Join(built, version, "tailwater")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X main.version="+version, "-o", paths[i], "./cmd/tailwater")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return paths, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return paths, nil
})

// moody is a version that is like the real program but for what it does to run.
func (s *site) moody(version, run string) string {
	s.Helper()
	real, err := programs()
	s.check(err)
	path := filepath.Join(s.Dir, "moody-"+version)
	s.check(os.WriteFile(path, []byte(fmt.Sprintf(`#!/bin/bash
case $1 in
version) echo "tailwater %s (a test's)" ;;
run) %s ;;
*) exec %s "$@" ;;
esac
`, version, run, real[0])), 0o755))
	return path
}

// TestReleaseAndRollBack: releases under load, good ones and ones that fail in each
// way that can be told; no line is lost or doubled by any of them.
func TestReleaseAndRollBack(t *testing.T) {
	t.Parallel()
	real, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "opt")
	log := s.log("a.log")
	writing, stop := context.WithCancel(s.ctx)
	wrote := make(chan error, 1)
	go func() {
		for writing.Err() == nil {
			if err := log.Write(10, 50); err != nil {
				wrote <- err
				return
			}
			time.Sleep(2 * time.Millisecond) // the pace of the program that logs
		}
		wrote <- nil
	}()
	t.Cleanup(stop)

	if out, code := s.release("--dry-run", "--binary", real[0]); code != 0 || !strings.Contains(out, "would run:") {
		t.Errorf("a dry run: code %d, %s", code, out)
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("a dry run has made the directory")
	}
	if out, code := s.release("--binary", real[0]); code != 0 {
		t.Fatalf("the first release: code %d, %s\n%s", code, out, s.LogTail())
	}
	if v := s.runs(); v != "v2.0.0" || !s.notices.say("tailwater v2.0.0 is released") {
		t.Errorf("after the first release %s runs; notices: %v", v, s.notices.all)
	}
	if out, code := s.release("--binary", real[1]); code != 0 {
		t.Fatalf("the second release: code %d, %s", code, out)
	}
	if v := s.runs(); v != "v2.1.0" || !s.notices.say("it was v2.0.0") {
		t.Errorf("after the second release %s runs; notices: %v", v, s.notices.all)
	}
	for version, c := range map[string]struct{ run, wait, why string }{
		"v2.2.0": {"exit 1", "2", "nobody answers"},
		"v2.3.0": {"exec " + real[0] + ` "$@"`, "10", "version v2.0.0 answers"}, // another program than it should be, once it is up
	} {
		out, code := s.release("--wait", c.wait, "--binary", s.moody(version, c.run))
		if code != 3 || !strings.Contains(out, c.why) {
			t.Errorf("the release of %s ends with code %d, want 3 for %s: %s", version, code, c.why, out)
		}
		if v := s.runs(); v != "v2.1.0" {
			t.Errorf("after the release of %s that failed %s runs", version, v)
		}
		if !s.notices.say("the release of tailwater " + version + " failed") {
			t.Errorf("nobody was told that %s failed: %v", version, s.notices.all)
		}
	}

	// A configuration that is refused, and a release that is under way, change nothing.
	good := mustRead(t, s.Config())
	bad := s.Config() + ".bad"
	s.check(os.WriteFile(bad, []byte("inputs: {}\n"), 0o644))
	if out, code := s.release("--binary", real[0], "--config", bad); code != 1 || !strings.Contains(out, bad+":1:") {
		t.Errorf("with a bad configuration: code %d, %s", code, out)
	}
	locked := exec.CommandContext(s.ctx, "flock", filepath.Join(s.dir, "lock"), "sh", "-c", "echo locked; cat")
	in, err := locked.StdinPipe()
	s.check(err)
	said, err := locked.StdoutPipe()
	s.check(err)
	s.check(locked.Start())
	if _, err := said.Read(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	if out, code := s.release("--binary", real[0]); code != 4 {
		t.Errorf("two at once: code %d, %s", code, out)
	}
	in.Close()
	locked.Wait()
	if v := s.runs(); v != "v2.1.0" || mustRead(t, s.Config()) != good {
		t.Errorf("after releases that were refused %s runs", v)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "releases", ".*")); len(left) > 0 {
		t.Errorf("half releases are left: %v", left)
	}
	stop()
	s.check(<-wrote)
	s.exact(log)
}

// TestJenkinsfileNamesWhatThereIs: its steps call targets and options that exist.
func TestJenkinsfileNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	text := mustRead(t, filepath.Join(root, "deploy/jenkins/Jenkinsfile"))
	if open, closed := strings.Count(text, "{"), strings.Count(text, "}"); open != closed {
		t.Errorf("%d braces are opened and %d closed", open, closed)
	}
	makefile, help := mustRead(t, filepath.Join(root, "Makefile")), mustRead(t, filepath.Join(root, "deploy/jenkins/release"))
	calls := 0
	for line := range strings.Lines(text) {
		_, command, ok := strings.Cut(line, "sh '")
		if !ok {
			continue
		}
		calls++
		words := strings.Fields(strings.TrimRight(command, "'\n"))
		for i, word := range words {
			switch {
			case words[0] == "make" && i > 0 && !strings.Contains(makefile, "\n"+word+":"):
				t.Errorf("make has no target %s", word)
			case strings.HasPrefix(word, "--") && !strings.Contains(help, "#   "+word+" "):
				t.Errorf("release has no option %s", word)
			}
		}
		if words[0] != "make" {
			if info, err := os.Stat(filepath.Join(root, words[0])); err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("%s cannot be run: %v", words[0], err)
			}
		}
	}
	if calls < 3 {
		t.Errorf("only %d commands were found in it", calls)
	}
}
