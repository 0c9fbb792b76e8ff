package hosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// home is a directory with an agent that follows logs in it.
type home struct {
	*testing.T
	*rig.Home
	ctx   context.Context
	agent *rig.Agent
}

const homeConfig = `
inputs:
  app:
    files: ['$DIR/logs/*.log']
    format: json
outputs:
  out: {file: {path: '$DIR/out.ndjson'}}
`

func newHome(t *testing.T, config string) *home {
	t.Helper()
	h := &home{T: t, Home: &rig.Home{Bin: theAgent(t), Dir: tempDir(t)}}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	h.ctx = ctx
	t.Cleanup(func() {
		cancel()
		if h.agent != nil {
			h.agent.Kill()
		}
		if t.Failed() {
			t.Logf("the agent's log ends with:\n%s", h.LogTail())
		}
	})
	h.check(os.Mkdir(filepath.Join(h.Dir, "logs"), 0o755))
	h.check(h.WriteConfig(config))
	return h
}

func (h *home) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *home) start() {
	h.Helper()
	a, err := h.Start()
	h.check(err)
	h.agent = a
	h.check(a.Ready(h.ctx))
}

func (h *home) stop() {
	h.Helper()
	code, err := h.agent.Stop(h.ctx)
	h.check(err)
	if code != 0 {
		h.Fatalf("the agent ends with code %d", code)
	}
}

func (h *home) log(name string) *rig.Log {
	h.Helper()
	l, err := rig.OpenLog(filepath.Join(h.Dir, "logs", name), name)
	h.check(err)
	h.Cleanup(func() { l.Close() })
	return l
}

// exact waits until every line is delivered and wants each once.
func (h *home) exact(logs ...*rig.Log) {
	h.Helper()
	var streams []*rig.Lines
	for _, l := range logs {
		streams = append(streams, l.Lines)
	}
	count := func() *rig.Tally {
		tally, err := rig.Count(filepath.Join(h.Dir, "out*.ndjson"))
		h.check(err)
		return tally
	}
	h.check(rig.Poll(h.ctx, "every line to be delivered", func() error { return count().Clean(nil, streams...) }))
	if err := count().Exact(nil, streams...); err != nil {
		h.Error(err)
	}
}

// run runs a command to its end, with the agent's directory first in its PATH.
func (h *home) run(env []string, name string, args ...string) (output string, code int) {
	h.Helper()
	cmd := exec.CommandContext(h.ctx, name, args...)
	cmd.Env = append(os.Environ(), append([]string{"PATH=" + filepath.Dir(h.Bin) + ":" + os.Getenv("PATH")}, env...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// machineName is the name that the ids of the agent's lines begin with.
func (h *home) machineName() string {
	h.Helper()
	docs := mustRead(h.T, filepath.Join(h.Dir, "out.ndjson"))
	_, rest, ok := strings.Cut(docs[strings.LastIndex(strings.TrimSpace(docs), "\n")+1:], `"id":"`)
	name, _, _ := strings.Cut(rest, "-")
	if !ok || name == "" {
		h.Fatalf("no id in the last of the documents: %.300s", docs)
	}
	return name
}

// TestImagePrepare: a golden image holds nothing of the machine that it was made on,
// and what was delivered there is not sent again by a clone.
func TestImagePrepare(t *testing.T) {
	t.Parallel()
	h := newHome(t, homeConfig)
	prepare := func(args ...string) (string, int) {
		return h.run(nil, h.Bin, append([]string{"image-prepare", "-c", h.Config()}, args...)...)
	}
	if out, code := prepare(); code != 0 {
		t.Errorf("where the agent has never run: code %d, %s", code, out)
	}
	log := h.log("a.log")
	h.check(log.Write(500, 10))
	h.start()
	h.exact(log)
	original := h.machineName()

	if out, code := prepare(); code != 1 || !strings.Contains(out, fmt.Sprint(h.agent.PID())) || !strings.Contains(out, "tailwater drain") {
		t.Errorf("while the agent runs: code %d, %s", code, out)
	}
	h.exact(log) // it has not been disturbed
	h.stop()

	h.check(log.Write(3, 10))
	dead := filepath.Join(h.State(), "dead")
	h.check(os.MkdirAll(dead, 0o700))
	h.check(os.WriteFile(filepath.Join(dead, "out-1.ndjson"), []byte("{}\n"), 0o600))
	before := h.stateText()
	if out, code := prepare(); code != 1 || !strings.Contains(out, log.Name) || !strings.Contains(out, "dead letters") {
		t.Errorf("with lines and dead letters left: code %d, %s", code, out)
	}
	if !strings.Contains(h.stateText(), original) || len(before) == 0 {
		t.Error("a refused preparation has changed the state")
	}
	h.start()
	h.exact(log)
	h.stop()

	out, code := prepare("--remove-dead-letters")
	if code != 0 || !strings.Contains(out, "removed: the machine's identity") || !strings.Contains(out, "kept: the read positions of 1 log") {
		t.Fatalf("code %d, %s", code, out)
	}
	if strings.Contains(h.stateText(), original) {
		t.Errorf("the state still holds the machine's name %s", original)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("the dead letters are there")
	}

	h.check(log.Write(5, 10))
	h.start() // as a clone would
	h.exact(log)
	h.stop()
	if clone := h.machineName(); clone == original {
		t.Errorf("the clone's lines have ids of the original, %s", original)
	}

	// Without positions a clone sends what the image has.
	if out, code := prepare("--forget-positions"); code != 0 || !strings.Contains(out, "removed: the read positions") {
		t.Fatalf("code %d, %s", code, out)
	}
	h.check(os.Remove(filepath.Join(h.Dir, "out.ndjson")))
	h.start()
	h.exact(log)
}

// TestImagePrepareOfWhatWasReceived: lines that were sent to the original, and answered
// for, are not sent by every clone in ids of its own; nor are those that it has delivered.
func TestImagePrepareOfWhatWasReceived(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := "shutdown_timeout: 300ms\ninputs: {web: {http: {listen: '" + addr + "'}}}\noutputs: {out: {file: {path: '$DIR/%s.ndjson'}}}\n"
	h := newHome(t, fmt.Sprintf(config, "dir/out"))
	prepare := func(args ...string) (string, int) {
		return h.run(nil, h.Bin, append([]string{"image-prepare", "-c", h.Config()}, args...)...)
	}
	post := func(text string) {
		t.Helper()
		resp, err := http.Post("http://"+addr+"/v1/logs/shop", "text/plain", strings.NewReader(text))
		h.check(err)
		resp.Body.Close()
		if resp.StatusCode != 202 {
			t.Fatal(resp.Status)
		}
	}
	h.check(os.WriteFile(filepath.Join(h.Dir, "dir"), nil, 0o644)) // where a directory would be made
	h.start()
	post("one\n")
	if code, err := h.agent.Stop(h.ctx); err != nil || code != 3 {
		t.Fatalf("stopped with code %d, %v", code, err)
	}
	if out, code := prepare(); code != 1 || !strings.Contains(out, "spool/web") || !strings.Contains(out, "--undelivered") {
		t.Errorf("with a line left: code %d, %s", code, out)
	}
	if out, code := prepare("--undelivered"); code != 0 || !strings.Contains(out, "kept: what was received") {
		t.Errorf("with a line that every clone may send: code %d, %s", code, out)
	}
	h.check(os.Remove(filepath.Join(h.Dir, "dir")))
	h.start()
	out := filepath.Join(h.Dir, "dir", "out.ndjson")
	count := func(want int) {
		t.Helper()
		h.check(rig.Poll(h.ctx, "the documents", func() error {
			data, err := os.ReadFile(out)
			if n := strings.Count(string(data), "\n"); err != nil || n != want {
				return fmt.Errorf("%d documents, want %d; %v", n, want, err)
			}
			return nil
		}))
	}
	count(1)
	h.stop()
	if said, code := prepare("--forget-positions"); code != 0 || !strings.Contains(said, "removed: the spools of 1 inputs") {
		t.Errorf("with everything delivered: code %d, %s", code, said)
	}
	h.start() // as a clone would
	post("two\n")
	count(2)
	h.stop()
}

// stateText is all that the state directory holds.
func (h *home) stateText() string {
	h.Helper()
	var all strings.Builder
	h.check(filepath.WalkDir(h.State(), func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		all.Write(data)
		return err
	}))
	return all.String()
}

// TestStartIsQuick: with a thousand known files, and a cloud's metadata service that is
// asked no more in this boot. It is CPU time that is measured, as the machine may be busy.
func TestStartIsQuick(t *testing.T) {
	h := newHome(t, homeConfig)
	var logs []*rig.Log
	for i := range 1000 {
		l := h.log(fmt.Sprintf("%03d.log", i))
		h.check(l.Write(2, 20))
		h.check(l.Close())
		logs = append(logs, l)
	}
	h.start()
	h.exact(logs...)
	h.stop()
	least := time.Hour
	for range 5 {
		h.start()
		least = min(least, cpuOf(t, h.agent.PID()))
		h.stop()
	}
	t.Logf("ready after %v of CPU", least)
	if least > 100*time.Millisecond {
		t.Errorf("a start takes %v of CPU until the agent is ready", least)
	}
}

// cpuOf is the CPU time that a process has used.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat := mustRead(t, fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths
}
