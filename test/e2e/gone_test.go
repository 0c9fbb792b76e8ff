package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

// blind runs do while the agent cannot look.
func (w *world) blind(do func()) {
	w.Helper()
	w.check(w.agent.Signal(syscall.SIGSTOP))
	do()
	w.check(w.agent.Signal(syscall.SIGCONT))
}

// TestTruncatedWrittenAndGoneBetweenTwoLooks: what was written after a truncation is in
// the descriptor that the agent has, and nowhere else.
func TestTruncatedWrittenAndGoneBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"deleted", "moved"} {
		w := newWorld(t, oneInput)
		l := w.log("a.log")
		w.write(l, 100, 20)
		w.start()
		w.exact(l)
		w.blind(func() {
			w.check(l.Truncate())
			w.write(l, 10, 20)
			if way == "deleted" {
				w.check(os.Remove(l.Name))
			} else {
				w.check(os.Rename(l.Name, w.path("elsewhere")))
			}
		})
		w.exact(l)
		// The writer does not know.
		w.blind(func() {
			w.check(l.Truncate())
			w.write(l, 3, 20)
		})
		if way == "deleted" {
			w.exact(l)
			w.accounts(l.Bytes)
		}
		w.stop(0)
	}
}

// TestRotatedAsSoonAsTheAgentIsReady: from when the agent says that it is ready on, no
// rotation is too early.
func TestRotatedAsSoonAsTheAgentIsReady(t *testing.T) {
	t.Parallel()
	for range 5 {
		w := newWorld(t, oneInput)
		l := w.log("a.log")
		w.write(l, 100, 20)
		w.start()
		w.check(os.Rename(l.Name, l.Name+".1"))
		w.check(l.Reopen())
		w.write(l, 100, 20)
		w.exact(l)
		w.accounts(l.Bytes)
		w.agent.Kill()
	}
}

// TestMovedWhileNobodyHadItOpen: a log under another watched directory, or back from one
// that is not watched, is the log that it was.
func TestMovedWhileNobodyHadItOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	l := w.log("here/a.log")
	w.write(l, 100, 20)
	w.start()
	w.exact(l)
	w.stop(0)
	w.check(os.Rename(w.path("logs", "here"), w.path("logs", "there")))
	l.Name = w.path("logs", "there", "a.log")
	w.write(l, 10, 20)
	w.start()
	w.exact(l)
	w.check(l.Close())
	w.check(rig.Poll(w.ctx, "the log to be closed", func() error {
		if open := w.openLogs(); len(open) > 0 {
			return fmt.Errorf("open: %v", open)
		}
		return nil
	}))
	w.check(os.Rename(l.Name, w.path("hidden")))
	w.check(rig.Poll(w.ctx, "the log to be missed", func() error {
		if n := w.metrics().Sum("watched_files"); n > 0 {
			return fmt.Errorf("%v are watched", n)
		}
		return nil
	}))
	w.stop(0)
	w.start()
	w.check(os.Rename(w.path("hidden"), l.Name))
	w.check(l.Reopen())
	w.write(l, 10, 20)
	w.exact(l)
	w.stop(0)
}

// TestAHoleOfManyGigabytes is what a program that does not append leaves before its
// lines after a truncation: it is leapt over in little memory and time (pains 5).
func TestAHoleOfManyGigabytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.start()
	lines := &rig.Lines{ID: "a.log"}
	f, err := os.Create(w.path("logs", "a.log"))
	w.check(err)
	defer f.Close()
	put := func(at int64) {
		if _, err := f.WriteAt(lines.Append(nil, 10, 20), at); err != nil {
			t.Skip(err)
		}
	}
	put(0)
	w.check(rig.Poll(w.ctx, "the first lines", func() error { return w.count().Clean(nil, lines) }))
	w.check(f.Truncate(0))
	put(12 << 30)
	w.check(rig.Poll(w.ctx, "the lines behind the hole", func() error { return w.count().Clean(nil, lines) }))
	w.check(w.count().Exact(nil, lines))
	proc, err := w.agent.Proc()
	w.check(err)
	if proc.RSS > 100<<20 {
		t.Errorf("resident: %d MiB", proc.RSS>>20)
	}
	if data, err := os.ReadFile(w.path("out.ndjson")); err != nil || strings.Contains(string(data), `\u0000`) {
		t.Errorf("NULs stand in the output, %v", err)
	}
	w.stop(0)
}
