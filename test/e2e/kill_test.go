package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// TestKillsWhileOneOutputIsDown ends the agent twenty times, by SIGKILL and SIGTERM,
// under a load of 10,000 lines a second that rotates. One of its two outputs takes
// nothing until the end. Each of both has every line once.
func TestKillsWhileOneOutputIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `
shutdown_timeout: 300ms
inputs:
  app: {files: ['$DIR/logs/*.log'], format: json}
outputs:
  up: {file: {path: '$DIR/up.ndjson'}}
  down: {file: {path: '$DIR/dir/down.ndjson'}}
`)
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 1))
	w.check(os.WriteFile(w.path("dir"), nil, 0o644)) // where a directory would be made
	l := w.log("a.log")
	w.write(l, 1, 0)
	w.start()
	rounds := 6
	if torture() > 0 {
		rounds = 20
	}
	rotated := 0
	for round := range rounds {
		for range 10 + rng.IntN(40) {
			w.write(l, 100, rng.IntN(100))
			w.pause(10 * time.Millisecond)
		}
		if rng.IntN(2) == 0 {
			rotated++
			w.check(os.Rename(l.Name, fmt.Sprintf("%s.%d", l.Name, rotated)))
			w.check(l.Reopen())
			w.write(l, 100, 0)
		}
		if round%2 == 0 {
			w.agent.Kill()
		} else {
			w.check(w.agent.Signal(syscall.SIGTERM))
			if _, err := w.agent.Wait(w.ctx); err != nil { // 0 or 3, by what "down" had been given
				t.Fatal(err)
			}
		}
		w.start()
	}
	w.delivered("up.ndjson", l)
	w.check(os.Remove(w.path("dir")))
	w.delivered("dir/down.ndjson", l)
	w.delivered("up.ndjson", l)
	w.books(l.Bytes, map[string]int{"up": l.N, "down": l.N})
	w.stop(0)
	w.books(l.Bytes, map[string]int{"up": l.N, "down": l.N})
}

// TestKillsSoonAfterTheStartGetOn: an agent that does not live for a second, time and
// again, must have delivered something for good each time, as logs are rotated meanwhile.
func TestKillsSoonAfterTheStartGetOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	l := w.log("a.log")
	saved := 0
	for range 8 {
		w.write(l, 100, 0)
		w.start()
		for began := time.Now(); time.Since(began) < 600*time.Millisecond; w.pause(10 * time.Millisecond) {
			if m, err := w.agent.Metrics(); err == nil && m.Sum("checkpoint_timestamp_seconds") > 0 {
				saved++
				break
			}
		}
		w.agent.Kill()
	}
	if saved == 0 {
		t.Error("no checkpoint within 600 ms of any of 8 starts")
	}
	w.write(l, 100, 0)
	w.start()
	w.exact(l)
}

// delivered waits until the file has every line of the log, and wants each once.
func (w *world) delivered(name string, l *rig.Log) {
	w.Helper()
	w.check(rig.Poll(w.ctx, "every line in "+name, func() error {
		tally, err := rig.Count(w.path(name))
		if err != nil {
			return err
		}
		return tally.Clean(nil, l.Lines)
	}))
	tally, err := rig.Count(w.path(name))
	w.check(err)
	if err := tally.Exact(nil, l.Lines); err != nil {
		w.Errorf("%s: %v", name, err)
	}
}

// TestReloadsThatChangeOutputs adds an output with a field of the lines in its path,
// moves one, and takes one away, under load.
func TestReloadsThatChangeOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	l := w.log("a.log")
	w.start()
	w.write(l, 5000, 20)
	w.config(strings.Replace(oneInput, "outputs:\n", "outputs:\n  more: {file: {path: '$DIR/more-{f}.ndjson'}}\n", 1))
	w.check(w.agent.Signal(syscall.SIGHUP))
	reloaded := func(n int) {
		w.check(rig.Poll(w.ctx, "the reload", func() error {
			if got := w.LogCount("configuration reloaded"); got < n {
				return fmt.Errorf("%d reloads", got)
			}
			return nil
		}))
	}
	reloaded(1)
	for range 20 {
		w.write(l, 500, 20)
		w.pause(5 * time.Millisecond)
	}
	w.exact(l)
	made, err := os.ReadDir(w.Dir)
	w.check(err)
	for _, e := range made {
		if strings.HasPrefix(e.Name(), "more-") && e.Name() != "more-a.log.ndjson" {
			t.Errorf("the new output made %s", e.Name())
		}
	}
	w.config(oneInput)
	w.check(w.agent.Signal(syscall.SIGHUP))
	reloaded(2)
	w.write(l, 5000, 20)
	w.exact(l)
	w.stop(0)
}

// TestStdoutIsClosed must not end the agent, nor keep lines from its other outputs.
func TestStdoutIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(oneInput, "outputs:\n", "outputs:\n  screen: {stdout: {}}\n", 1)+"\nshutdown_timeout: 500ms\n")
	l := w.log("a.log")
	w.write(l, 10, 0)
	read, write, err := os.Pipe()
	w.check(err)
	cmd := w.Command(w.ctx, "run", "-c", w.Config())
	cmd.Stdout = write
	w.check(cmd.Start())
	write.Close()
	read.Close()
	w.exact(l)
	w.write(l, 1000, 0)
	w.exact(l)
	w.check(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("ended with %v, want exit code 3: the lines for stdout are undelivered", err)
	}
}
