package hosts

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/tailwater/tailwater/test/rig"
)

// cloud is a metadata service and what takes the answers of lifecycle hooks, as far as
// the scale-in script knows them.
type cloud struct {
	*httptest.Server
	mu       sync.Mutex
	state    string // of the instance, in its group
	asked    int    // times that it was asked for the state
	failures int    // reports that are still to be refused
	reports  []string
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{state: "InService"}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			fmt.Fprint(w, "token")
		case r.URL.Path == "/report" && c.failures > 0:
			c.failures--
			http.Error(w, "throttled", http.StatusServiceUnavailable)
		case r.URL.Path == "/report":
			c.reports = append(c.reports, string(body))
		case r.Header.Get("X-aws-ec2-metadata-token") != "token":
			http.Error(w, "", http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/autoscaling/target-lifecycle-state":
			c.asked++
			fmt.Fprint(w, c.state)
		case r.URL.Path == "/latest/meta-data/instance-id":
			fmt.Fprint(w, "i-17")
		case r.URL.Path == "/latest/meta-data/placement/region":
			fmt.Fprint(w, "eu-north-1")
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) terminate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = "Terminated"
}

func (c *cloud) report(t *testing.T) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.reports) != 1 {
		t.Fatalf("%d reports came, want one: %q", len(c.reports), c.reports)
	}
	return c.reports[0]
}

// reportTo is a report command: what aws or aliyun would be, with the same variables.
func (c *cloud) reportTo() string {
	return `curl -fsS --data "$RESULT $LEFT_FILES $LEFT_BYTES $INSTANCE_ID $REGION" ` + c.URL + "/report"
}

func scaleIn(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("the scale-in script needs curl for its reports")
	}
	path, err := filepath.Abs(filepath.Join(root, "deploy/ecs/scale-in"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestScaleInWatchesAndDelivers: the group decides to delete the host, and everything is
// delivered, an unfinished line too, before it is told to go on.
func TestScaleInWatchesAndDelivers(t *testing.T) {
	t.Parallel()
	script, c := scaleIn(t), newCloud(t)
	c.failures = 2
	h := newHome(t, homeConfig)
	log := h.log("a.log")
	h.check(log.Write(2000, 50))
	h.start()
	done := make(chan struct{})
	var out string
	var code int
	go func() {
		defer close(done)
		cmd := exec.CommandContext(h.ctx, script, "--watch", "--hook-time", "40", "--report", c.reportTo(), "--", "-c", h.Config())
		cmd.Env = append(os.Environ(), "METADATA="+c.URL, "WATCH_EVERY=0.05", "TAILWATER="+h.Bin)
		text, _ := cmd.CombinedOutput()
		out, code = string(text), cmd.ProcessState.ExitCode()
	}()
	h.check(rig.Poll(h.ctx, "the script to watch", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.asked < 3 {
			return fmt.Errorf("it has asked %d times", c.asked)
		}
		return nil
	}))
	if !h.agent.Running() {
		t.Fatal("the agent was drained although the host is in service")
	}
	h.check(log.Write(2000, 50))
	h.check(log.WriteString("no end"))
	c.terminate()
	<-done
	if code != 0 {
		t.Errorf("code %d: %s", code, out)
	}
	if got := c.report(t); got != "CONTINUE 0 0 i-17 eu-north-1" {
		t.Errorf("the hook was told %q", got)
	}
	if code, err := h.agent.Wait(h.ctx); code != 0 || err != nil {
		t.Errorf("the drained agent ends with code %d, %v", code, err)
	}
	h.exact(log)
	if !strings.Contains(mustRead(t, filepath.Join(h.Dir, "out.ndjson")), "no end") {
		t.Error("the unfinished last line is not delivered")
	}
}

// TestScaleInWithinTheHooksTime: an output that takes nothing does not keep the hook
// waiting; what is left is told.
func TestScaleInWithinTheHooksTime(t *testing.T) {
	t.Parallel()
	script, c := scaleIn(t), newCloud(t)
	h := newHome(t, strings.Replace(homeConfig, "file: {path: '$DIR/out.ndjson'}", "kafka: {brokers: ['127.0.0.1:1'], topic: x}", 1))
	log := h.log("a.log")
	h.check(log.Write(100, 50))
	h.start()
	env := []string{"METADATA=" + c.URL}
	begun := time.Now()
	out, code := h.run(env, script, "--hook-time", "7", "--report", c.reportTo(), "--", "--state", h.State())
	if took := time.Since(begun); took > 20*time.Second { // it has 7 s; the rest is for a machine that is busy
		t.Errorf("it took %v", took)
	}
	if want := fmt.Sprintf("ABANDON 1 %d", log.Bytes); code != 3 || !strings.HasPrefix(c.report(t), want) || !strings.Contains(out, log.Name) {
		t.Errorf("code %d, the hook was told %q, want %q: %s", code, c.reports, want, out)
	}
	if !h.agent.Running() {
		t.Error("the agent does not go on")
	}

	c.reports, c.failures = nil, 9
	if out, code := h.run(env, script, "--hook-time", "6", "--report", c.reportTo(), "--", "--state", h.State()); code != 4 {
		t.Errorf("with reports that fail: code %d, %s", code, out)
	}
	h.agent.Kill()
	c.failures = 0
	if out, code := h.run(env, script, "--hook-time", "60", "--report", c.reportTo(), "--", "--state", h.State()); code != 1 || !strings.HasPrefix(c.report(t), "ABANDON 0 0") {
		t.Errorf("without an agent: code %d, told %q: %s", code, c.reports, out)
	}
	for _, args := range [][]string{{"--hook-time", "5"}, {"--hook-time", "soon"}, {"--what"}} {
		if out, code := h.run(env, script, args...); code != 2 || strings.Count(strings.TrimSpace(out), "\n") > 0 {
			t.Errorf("%v: code %d, %s", args, code, out)
		}
	}
}

// TestDrainOfALargeBacklog: 100 MB go out within 10 s when the output can take it. It is
// CPU time that is measured, as the machine may be busy with other tests.
func TestDrainOfALargeBacklog(t *testing.T) {
	h := newHome(t, homeConfig)
	h.start()
	log := h.log("a.log")
	h.check(h.agent.Signal(syscall.SIGSTOP)) // so that all of it is a backlog
	for log.Bytes < 100e6 {
		h.check(log.Write(5000, 400))
	}
	h.check(h.agent.Signal(syscall.SIGCONT))
	begun := time.Now()
	h.check(h.agent.Drain(h.ctx))
	took := time.Since(begun)
	cpu, _ := h.agent.Usage()
	t.Logf("%d MB drained in %v, %v of CPU", log.Bytes/1e6, took, cpu)
	if cpu > 5*time.Second {
		t.Errorf("the drain has used %v of CPU: it would not be over within 10 s on a busy core", cpu)
	}
	h.exact(log)
}

// TestCloudInitExample: its YAML is right, and so is the configuration it writes.
func TestCloudInitExample(t *testing.T) {
	t.Parallel()
	text := mustRead(t, filepath.Join(root, "deploy/ecs/cloud-init.yaml"))
	var data struct {
		WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		RunCmd     [][]string                                    `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal([]byte(text), &data); err != nil || !strings.HasPrefix(text, "#cloud-config\n") {
		t.Fatalf("no cloud-config: %v", err)
	}
	dir := tempDir(t)
	checked := false
	for _, f := range data.WriteFiles {
		name := filepath.Join(dir, filepath.Base(f.Path))
		if err := os.WriteFile(name, []byte(f.Content), 0o644); err != nil {
			t.Fatal(err)
		}
		switch f.Path {
		case "/etc/tailwater/tailwater.yaml":
			checked = true
			if out, err := exec.CommandContext(t.Context(), theAgent(t), "check", "-c", name).CombinedOutput(); err != nil {
				t.Errorf("its configuration: %s", out)
			}
		case "/etc/systemd/system/tailwater.service.d/drain-at-shutdown.conf":
			for line := range strings.Lines(f.Content) {
				if !strings.Contains(mustRead(t, filepath.Join(root, "deploy/systemd/drain-at-shutdown.conf")), line) {
					t.Errorf("its drop-in has a line that the one in deploy/systemd has not: %s", line)
				}
			}
		}
	}
	if !checked || len(data.RunCmd) == 0 {
		t.Error("it writes no configuration, or runs nothing")
	}
}
