package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

const oneInput = `
inputs:
  app:
    files: ['$DIR/logs/**/*.log']
    format: json
` + fileOutput

func TestEveryLineArrivesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	a, b := w.log("a.log"), w.log("deep/er/b.log")
	w.write(a, 1000, 50)
	w.start()
	w.write(a, 1000, 0)
	w.write(b, 1000, 200)
	c := w.log("made/later/c.log")
	w.write(c, 10, 0)
	w.exact(a, b, c)
	w.accounts(a.Bytes + b.Bytes + c.Bytes)
	w.stop(0)
	w.exact(a, b, c)
}

// TestRestartsUnderLoad stops and kills the agent again and again while lines come.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 0))
	a, b := w.log("a.log"), w.log("b.log")
	w.start()
	for round := range 16 {
		for range 5 + rng.IntN(20) {
			w.write(a, rng.IntN(200), rng.IntN(300))
			w.write(b, rng.IntN(20), rng.IntN(30))
			w.pause(time.Duration(rng.IntN(8)) * time.Millisecond)
		}
		if round%2 == 0 {
			w.agent.Kill()
		} else {
			w.stop(0)
		}
		w.write(b, 1, 0)
		w.start()
	}
	w.exact(a, b)
}

// TestTheProcessIsCalm: its timers may be served together, and nothing else shows that it
// has executed itself anew for that.
func TestTheProcessIsCalm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.start()
	proc := fmt.Sprintf("/proc/%d/", w.agent.PID())
	slack, err := os.ReadFile(proc + "timerslack_ns")
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("the timer slack of another process is not this user's to know")
	}
	w.check(err)
	if got := strings.TrimSpace(string(slack)); got != "500000" {
		t.Errorf("the timer slack is %s ns", got)
	}
	name, err := os.ReadFile(proc + "comm")
	w.check(err)
	if got := strings.TrimSpace(string(name)); !strings.HasPrefix(filepath.Base(w.Bin), got) {
		t.Errorf("the process is called %s", got)
	}
}

// TestSecondInstance must not disturb the first, and takes over when asked to wait.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	a := w.log("a.log")
	w.write(a, 100, 0)
	w.start()
	w.exact(a)

	begun := time.Now()
	_, errs, code := w.command("run", "-c", w.Config())
	if code != 1 || !strings.Contains(errs, strconv.Itoa(w.agent.PID())) {
		t.Errorf("the second instance ends with code %d and says %q, want 1 and the first one's pid %d", code, errs, w.agent.PID())
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}

	first := w.agent
	second, err := w.Start("--wait", "30s")
	w.check(err)
	w.agent = second
	w.write(a, 100, 0)
	if code, err := first.Stop(w.ctx); err != nil || code != 0 {
		t.Fatalf("the first ends with code %d, %v", code, err)
	}
	w.check(second.Ready(w.ctx))
	w.write(a, 100, 0)
	w.exact(a)
}

// TestStateFilesDamaged: whatever a power cut or a bad disk makes of the state, the
// agent starts and no line is lost.
func TestStateFilesDamaged(t *testing.T) {
	t.Parallel()
	damages := map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"zeros":   func(b []byte) []byte { return append(b[:len(b)*3/4], make([]byte, len(b)/4+512)...) },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
		"garbage": func(b []byte) []byte { return []byte(strings.Repeat("\xff\x00garbage\n", 100)) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, oneInput)
			a := w.log("a.log")
			w.write(a, 500, 20)
			w.start()
			w.exact(a)
			w.stop(0)
			for _, file := range stateFiles(w) {
				data, err := os.ReadFile(file)
				w.check(err)
				if len(data) > 0 {
					w.check(os.WriteFile(file, damage(data), 0o600))
				}
			}
			w.write(a, 500, 20)
			w.start()
			err := rig.Poll(w.ctx, "every line to be there", func() error { return w.count().Clean(nil, a.Lines) })
			w.check(err)
			w.stop(0)
		})
	}
}

// stateFiles are the regular files in the state directory.
func stateFiles(w *world) []string {
	var files []string
	err := filepath.WalkDir(w.State(), func(name string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, name)
		}
		return err
	})
	w.check(err)
	if len(files) == 0 {
		w.Fatal("the agent has no state")
	}
	return files
}

// TestHangupsUnderLoad reloads right and wrong configurations while lines come.
func TestHangupsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	a := w.log("a.log")
	w.start()
	before, err := w.agent.Proc()
	w.check(err)
	for i := range 200 {
		w.write(a, 20, 100)
		switch i % 3 {
		case 0:
			w.config("inputs:\n  app:\n    fiels: [x]\n" + fileOutput)
		case 1:
			w.config(strings.Replace(oneInput, "format: json", "format: json\n    fields: {round: '"+strconv.Itoa(i)+"'}", 1))
		default:
			w.config(oneInput)
		}
		w.check(w.agent.Signal(syscall.SIGHUP))
		w.pause(5 * time.Millisecond)
	}
	w.config(oneInput)
	w.check(w.agent.Signal(syscall.SIGHUP))
	w.write(a, 50, 0)
	w.exact(a)
	if n := w.LogCount("fiels"); n == 0 {
		t.Error("no word about the configuration that was refused")
	}
	after, err := w.agent.Proc()
	w.check(err)
	if after.Files > before.Files+20 {
		t.Errorf("%d descriptors, %d before the reloads", after.Files, before.Files)
	}
	w.stop(0)
}

// TestTraceCutByARestart: a stack trace whose second half is written after the agent
// has gone stays one event.
func TestTraceCutByARestart(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"stopped", "killed"} {
		w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: app\n"+fileOutput)
		l := w.log("app.log")
		w.check(l.WriteString("2026-11-23 20:00:00.100 [main] INFO  c.e.A - before\n"))
		w.start()
		w.waitForText("before", 1)
		w.check(l.WriteString("2026-11-23 20:00:00.200 [main] ERROR c.e.A - it broke\njava.lang.IllegalStateException: no\n\tat c.e.A.run(A.java:1)\n"))
		if way == "killed" {
			w.agent.Kill()
		} else {
			w.stop(0)
		}
		w.check(l.WriteString("\tat c.e.A.main(A.java:2)\nCaused by: java.io.IOException: gone\n\t... 2 more\n2026-11-23 20:00:00.300 [main] INFO  c.e.A - after\n"))
		w.start()
		w.waitForText("after", 1)
		w.waitForText(`no\n\tat c.e.A.run(A.java:1)\n\tat c.e.A.main(A.java:2)\nCaused by: java.io.IOException: gone\n\t... 2 more`, 1)
		if n := w.count().Documents; n != 3 {
			t.Errorf("%s: %d events, want 3", way, n)
		}
	}
}

// waitForText waits until so many documents hold text.
func (w *world) waitForText(text string, times int) {
	w.Helper()
	w.check(rig.Poll(w.ctx, "documents with "+text, func() error {
		data, err := os.ReadFile(w.path("out.ndjson"))
		if err != nil {
			return err
		}
		if n := strings.Count(string(data), text); n != times {
			return fmt.Errorf("%d documents hold it, want %d; all: %s", n, times, tail(data))
		}
		return nil
	}))
}
