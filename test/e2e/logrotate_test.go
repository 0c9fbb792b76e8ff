package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// modes are logrotate's ways, each as its configuration says it. In those that rename,
// logrotate asks the writer to reopen its log and waits until it has, as it would with
// a signal; a log may be compressed then.
var modes = []struct {
	name   string
	conf   string
	copies bool // copytruncate: what is written between copy and truncation is nowhere
	glob   string
}{
	{"create", "create", false, "app.log"},
	{"create-glob-matches-all", "create", false, "app.log*"},
	{"compress", "create\ncompress", false, "app.log"},
	{"delaycompress", "create\ncompress\ndelaycompress", false, "app.log"},
	{"dateext", "create\ndateext\ndateformat -%Y%m%d-%s", false, "app.log"},
	{"dateext-compress", "create\ndateext\ndateformat -%Y%m%d-%s\ncompress\ndelaycompress", false, "app.log"},
	{"copytruncate", "copytruncate", true, "app.log"},
	{"copytruncate-glob-matches-all", "copytruncate", true, "app.log*"},
	{"copytruncate-compress", "copytruncate\ncompress", true, "app.log"},
}

// TestLogrotateItself has the real logrotate rotate under a writer, in every mode, with
// the agent running all the time or restarted between.
func TestLogrotateItself(t *testing.T) {
	tool := realTool(t, "logrotate")
	for _, m := range modes {
		for _, restarts := range []bool{false, true} {
			name := m.name
			if restarts {
				name += "-restarts"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/"+m.glob+"']\n    format: json\n"+fileOutput)
				logrotateStory(w, tool, m.conf, m.copies, restarts)
			})
		}
	}
}

// rounds of rotation; those that name by the second take one second each.
const rotations = 5

func logrotateStory(w *world, tool, mode string, copies, restarts bool) {
	conf := w.path("logrotate.conf")
	reopen := w.path("reopen")
	script := fmt.Sprintf("postrotate\ntouch %[1]s; while [ -e %[1]s ]; do sleep 0.01; done\nendscript\n", reopen)
	if copies {
		script = ""
	}
	text := fmt.Sprintf("%s/logs/app.log {\nrotate 100\n%s\n%s}\n", w.Dir, mode, script)
	w.check(os.WriteFile(conf, []byte(text), 0o644))

	l := w.log("app.log")
	w.start()
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- keepWriting(l, reopen, stop) }()
	for i := range rotations {
		w.pause(200 * time.Millisecond)
		if strings.Contains(mode, "%s") {
			// Past the second by more than the coarse clock, which logrotate reads, is behind.
			w.pause(time.Until(time.Now().Truncate(time.Second).Add(1050 * time.Millisecond)))
		}
		if restarts && i%2 == 0 {
			w.stop(0)
		}
		if err := runLogrotate(w.ctx, w, tool, conf); err != nil {
			w.Error(err)
		}
		if restarts && i%2 == 0 {
			w.start()
		}
	}
	w.pause(100 * time.Millisecond)
	close(stop)
	w.check(<-stopped)
	var gone func(string, int) bool
	if copies {
		onDisk := linesOnDisk(w)
		gone = func(_ string, n int) bool { return !onDisk[n] }
	}
	w.exactBut(gone, l)
}

// keepWriting appends about 5,000 lines a second, and reopens its log when the file
// reopen is there.
func keepWriting(l *rig.Log, reopen string, stop chan struct{}) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if err := l.Write(10, 60); err != nil {
			return err
		}
		if _, err := os.Stat(reopen); err == nil {
			if err := l.Reopen(); err != nil {
				return err
			}
			if err := os.Remove(reopen); err != nil {
				return err
			}
		}
	}
}

// linesOnDisk are the numbers of the lines in the log and its rotated files.
func linesOnDisk(w *world) map[int]bool {
	names, err := filepath.Glob(w.path("logs", "app.log*"))
	w.check(err)
	found := make(map[int]bool)
	for _, name := range names {
		data, err := rig.ReadAll(name)
		w.check(err)
		for line := range bytes.Lines(data) {
			var l struct{ N int }
			// A copy may end within a line.
			if json.Unmarshal(line, &l) == nil {
				found[l.N] = true
			}
		}
	}
	return found
}
