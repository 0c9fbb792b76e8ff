package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

const twoOutputs = `
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {out: {discard: {}}, new: {discard: {}}}
`

// descriptors counts this process's descriptors.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	r.append("a.log", lines("a", 0, 100))
	r.exact(r.basin("out"), "a", 100)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	n := 100
	for i := range 60 {
		r.append("a.log", lines("a", n, n+500))
		n += 500
		switch i % 3 {
		case 0:
			r.configure(strings.Replace(oneOutput, "format: plain", fmt.Sprintf("format: plain, fields: {round: r%d}", i), 1))
			if err := r.agent.Reload(); err != nil {
				t.Fatal(err)
			}
		case 1:
			r.configure(strings.Replace(oneOutput, "files:", "fiels:", 1))
			if err := r.agent.Reload(); err == nil || !strings.Contains(err.Error(), "tailwater.yml:5") || !strings.Contains(err.Error(), "files") {
				t.Fatalf("a configuration with a mistake: %v", err)
			}
		case 2:
			r.configure(oneOutput)
			if err := r.agent.Reload(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.exact(r.basin("out"), "a", n)
	if g := runtime.NumGoroutine(); g > goroutines+5 {
		t.Errorf("%d goroutines, before the reloads %d", g, goroutines)
	}
	if f := descriptors(t); f > files+5 {
		t.Errorf("%d descriptors, before the reloads %d", f, files)
	}
}

func TestAnOutputAddedByAReloadBeginsWhereTheOthersAre(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	r.append("a.log", lines("a", 0, 100))
	r.exact(r.basin("out"), "a", 100)
	// The output has the lines a moment before they count as delivered.
	r.eventually("the positions to be saved", func() bool {
		for _, f := range r.agent.allFlows() {
			if f.file.Progress().Pos["out"].Off < f.file.Size() || f.dirty.Load() {
				return false
			}
		}
		return true
	})
	r.configure(twoOutputs)
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.append("a.log", lines("a", 100, 200))
	r.exact(r.basin("out"), "a", 200)
	r.eventually("the new lines in the new output", func() bool { return r.basin("new").count() == 100 })
	if got := r.basin("new").messages()[0]; got != "a line 100" {
		t.Errorf("the new output begins with %q", got)
	}
}

func TestAChangedFileIsTakenOverByItself(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	r.append("a.log", lines("a", 0, 1))
	r.exact(r.basin("out"), "a", 1)
	r.configure(strings.Replace(oneOutput, "format: plain", "format: plain, fields: {env: new}", 1))
	n := 1
	r.eventually("the new field", func() bool {
		r.append("a.log", lines("a", n, n+1))
		n++
		b := r.basin("out")
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.docs[len(b.docs)-1]["env"] == "new"
	})
	r.exact(r.basin("out"), "a", n)
}

func TestADeadOutputThatIsRenamedGoesOnWithoutAGap(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.basin("out").broke(errors.New("connection refused"))
	r.start()
	r.append("a.log", lines("a", 0, 100))
	r.eventually("the lines to be read", func() bool { return r.agent.metrics.input("app").lines.Load() == 100 })
	r.configure(strings.Replace(oneOutput, "out:", "other:", 1))
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.exact(r.basin("other"), "a", 100)
}
