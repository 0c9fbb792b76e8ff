// Package e2e tests the binary as its users meet it: as a process, with the real
// nginx and the real logrotate beside it, restarted, killed, and starved of disk.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/test/rig"
)

// bin is the agent that all tests run.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	code := run(m)
	if sendersDir != "" {
		os.RemoveAll(sendersDir)
	}
	os.Exit(code)
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tw-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if bin, err = rig.Build(context.Background(), "../..", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// patience is how long a test waits for anything; a machine that is busy with other
// tests is slow.
const patience = 60 * time.Second

// world is a directory with an agent and the logs it follows.
type world struct {
	*testing.T
	*rig.Home
	ctx   context.Context
	agent *rig.Agent
}

// newWorld makes the directory. config is what Home.WriteConfig takes; the agent is
// not started.
func newWorld(t *testing.T, config string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "tw")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Home: &rig.Home{Bin: bin, Dir: dir}}
	ctx, cancel := context.WithTimeout(t.Context(), limit())
	w.ctx = ctx
	t.Cleanup(func() {
		cancel()
		if w.agent != nil {
			w.agent.Kill()
		}
		if t.Failed() {
			t.Logf("the agent's log ends with:\n%s", w.LogTail())
			if os.Getenv("TAILWATER_KEEP") != "" {
				t.Logf("everything is in %s", dir)
				return
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{dir, w.path("logs")} {
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	w.config(config)
	return w
}

// newBareWorld makes one that gets its configuration later, when its addresses are known.
func newBareWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, "inputs: {a: {files: [/nothing]}}\noutputs: {a: {discard: {}}}\n")
}

// limit is how long one test may take.
func limit() time.Duration {
	if torture() > 0 {
		return 5 * patience
	}
	return patience
}

// torture is what $TAILWATER_TORTURE asks for: the time that each of the long tests
// takes. Without it they are short.
func torture() time.Duration {
	d, err := time.ParseDuration(os.Getenv("TAILWATER_TORTURE"))
	if err != nil {
		return 0
	}
	return d
}

// seed is $TAILWATER_SEED, else a new one. It is printed when the test fails.
func seed(t *testing.T) uint64 {
	t.Helper()
	s, err := strconv.ParseUint(os.Getenv("TAILWATER_SEED"), 10, 64)
	if err != nil {
		s = rand.Uint64N(1_000_000)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with TAILWATER_SEED=%d", s)
		}
	})
	return s
}

// fileOutput sends every input to DIR/out.ndjson.
const fileOutput = `
outputs:
  out: {file: {path: '$DIR/out.ndjson'}}
`

// path is a path in the world's directory.
func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.Dir}, elem...)...)
}

func (w *world) config(body string) {
	w.Helper()
	w.check(w.WriteConfig(body))
}

// check ends the test on an error.
func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// start starts the agent and waits until it is ready.
func (w *world) start(args ...string) {
	w.Helper()
	a, err := w.Start(args...)
	w.check(err)
	w.agent = a
	w.check(a.Ready(w.ctx))
}

// stop asks the agent to stop and wants it to end with the code.
func (w *world) stop(want int) {
	w.Helper()
	code, err := w.agent.Stop(w.ctx)
	w.check(err)
	if code != want {
		w.Fatalf("the stopped agent ends with code %d, want %d", code, want)
	}
	_, err = w.Ledger(w.ctx) // its sums must agree
	w.check(err)
}

// log opens a log below DIR/logs, with its directory.
func (w *world) log(name string) *rig.Log {
	w.Helper()
	full := w.path("logs", name)
	w.check(os.MkdirAll(filepath.Dir(full), 0o755))
	l, err := rig.OpenLog(full, name)
	w.check(err)
	w.Cleanup(func() { l.Close() })
	return l
}

// write appends lines and ends the test when that fails.
func (w *world) write(l *rig.Log, count, pad int) {
	w.Helper()
	w.check(l.Write(count, pad))
}

// count reads what has been delivered to DIR/out*.ndjson.
func (w *world) count() *rig.Tally {
	w.Helper()
	tally, err := rig.Count(w.path("out*.ndjson*"))
	w.check(err)
	return tally
}

// exact waits until every line of the logs is delivered and then wants each once and
// in order.
func (w *world) exact(logs ...*rig.Log) {
	w.Helper()
	w.exactBut(nil, logs...)
}

// exactBut is exact for lines that mayMiss does not excuse.
func (w *world) exactBut(mayMiss func(id string, n int) bool, logs ...*rig.Log) {
	w.Helper()
	streams := make([]*rig.Lines, len(logs))
	for i, l := range logs {
		streams[i] = l.Lines
	}
	err := rig.Poll(w.ctx, "every line to be delivered", func() error {
		tally, err := rig.Count(w.path("out*.ndjson*"))
		if err != nil {
			return rig.Final(err)
		}
		if len(tally.Broken) > 0 {
			return rig.Final(tally.Clean(mayMiss, streams...))
		}
		return tally.Clean(mayMiss, streams...)
	})
	w.check(err)
	tally := w.count()
	if err := tally.Exact(mayMiss, streams...); err != nil {
		w.Error(err)
	}
	w.counted("out")
}

// counted wants the ledger to have as many documents of the output as are there, where
// there is such an output. Lines without a number may still be coming.
func (w *world) counted(output string) {
	w.Helper()
	w.check(rig.Poll(w.ctx, "the ledger to count the documents", func() error {
		l, err := w.Ledger(w.ctx)
		if err != nil {
			return rig.Final(err)
		}
		tally, err := rig.Count(w.path("out*.ndjson*"))
		if err != nil {
			return rig.Final(err)
		}
		var sum agent.Share
		for _, s := range l.Inputs {
			sum.Add(s)
		}
		if o, known := sum.Outputs[output]; known && o.Documents-o.Refused != int64(tally.Documents) {
			return fmt.Errorf("output %s: %d documents are there; the ledger has %d, %d of them refused", output, tally.Documents, o.Documents, o.Refused)
		}
		return nil
	}))
}

// metrics are the running agent's.
func (w *world) metrics() rig.Metrics {
	w.Helper()
	m, err := w.agent.Metrics()
	w.check(err)
	return m
}

// accounts wants every byte that was written to be read or abandoned, by the metrics.
func (w *world) accounts(written int64) {
	w.Helper()
	w.check(rig.Poll(w.ctx, "the metrics to account for every byte", func() error {
		m, err := w.agent.Metrics()
		if err != nil {
			return err
		}
		read, abandoned := int64(m.Sum("read_bytes_total")), int64(m.Sum("abandoned_bytes_total"))
		if read+abandoned != written {
			return fmt.Errorf("read %d + abandoned %d = %d bytes, %d were written", read, abandoned, read+abandoned, written)
		}
		return nil
	}))
	w.books(written, nil)
}

// books wants every byte that was written, and every document that was found at each
// output, to be in the ledger.
func (w *world) books(written int64, documents map[string]int) {
	w.Helper()
	w.check(w.Balanced(w.ctx, rig.Books{Written: written, Documents: documents}))
}

// command runs one of the agent's commands to its end.
func (w *world) command(args ...string) (stdout, stderr string, code int) {
	w.Helper()
	cmd := w.Command(w.ctx, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// pause lets the agent and the clock go on for about that long: for what has to happen
// at some random moment of the agent's life, never to wait for something.
func (w *world) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// realTool fetches a real program (see test/env/fetch).
func realTool(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skipf("no apt-get here, from whose packages the real %s comes", name)
	}
	cmd := exec.CommandContext(t.Context(), "../env/fetch", name)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out))
}
