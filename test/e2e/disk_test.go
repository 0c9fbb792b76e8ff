package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// smallDisk mounts a file system of that size on DIR/name.
func (w *world) smallDisk(name, size string) {
	w.Helper()
	dir := w.path(name)
	w.check(os.Mkdir(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		w.Skipf("a small disk cannot be mounted here (%v): that needs root", err)
	}
	w.Cleanup(func() {
		if w.agent != nil {
			w.agent.Kill()
		}
		if err := syscall.Unmount(dir, 0); err != nil {
			w.Error(err)
		}
	})
}

// TestFullDiskUnderTheOutput: the output's disk fills up in the middle of a batch, and
// has room again later.
func TestFullDiskUnderTheOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: json\noutputs:\n  out: {file: {path: '$DIR/disk/out.ndjson'}}\n")
	w.smallDisk("disk", "8m")
	ballast := w.path("disk", "ballast")
	w.check(os.WriteFile(ballast, make([]byte, 7<<20), 0o644))
	l := w.log("app.log")
	w.start()
	w.write(l, 10_000, 100)
	w.check(rig.Poll(w.ctx, "the output to complain", func() error {
		m, err := w.agent.Metrics()
		if err == nil && m.Sum("output_errors_total") == 0 {
			err = errors.New("no word of the full disk")
		}
		return err
	}))
	if data, err := os.ReadFile(w.path("disk", "out.ndjson")); err != nil || len(data) > 0 && data[len(data)-1] != '\n' {
		t.Errorf("a torn line stands in the output: %s, %v", tail(data), err)
	}
	if _, err := w.agent.Get("/healthz"); err != nil {
		t.Error(err)
	}
	w.check(os.Remove(ballast))
	w.check(rig.Poll(w.ctx, "every line", func() error {
		tally, err := rig.Count(w.path("disk", "out*"))
		if err != nil {
			return err
		}
		return tally.Exact(nil, l.Lines)
	}))
	w.stop(0)
}

// TestFullDiskUnderTheState: without room for a checkpoint the agent goes on, says so,
// and has lost nothing when it is killed.
func TestFullDiskUnderTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.smallDisk("state", "2m")
	l := w.log("a.log")
	w.write(l, 100, 10)
	w.start()
	w.exact(l)
	w.check(w.fill(w.path("state", "ballast")))
	other := w.log("b.log")
	w.write(other, 100, 10)
	w.write(l, 2000, 10)
	w.check(rig.Poll(w.ctx, "the known file's lines", func() error { return w.count().Clean(nil, l.Lines) }))
	w.agent.Kill()
	w.check(os.Remove(w.path("state", "ballast")))
	w.write(l, 100, 10)
	w.start()
	w.exact(l, other)
}

// fill writes until there is no room left.
func (w *world) fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 4096)
	for range 1 << 20 {
		if _, err := f.Write(block); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return nil
			}
			return err
		}
	}
	return errors.New("the small disk is not small")
}

// TestOutputThatTakesNothingAtTheEnd: the agent stops when it was told to, says with
// its exit code that lines are undelivered, and sends them after the next start.
func TestOutputThatTakesNothingAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shutdown_timeout: 1s\ninputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: json\n"+toStdout)
	tap := newTap(w)
	l := w.log("app.log")
	w.write(l, 20_000, 300)
	w.start()
	w.check(rig.Poll(w.ctx, "something to be read", func() error {
		if w.metrics().Sum("read_bytes_total") == 0 {
			return errors.New("nothing is")
		}
		return nil
	}))
	begun := time.Now()
	w.stop(3)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	close(tap.open)
	w.start()
	// What was half written to the pipe when the process ended is torn, and comes again.
	w.check(rig.Poll(w.ctx, "every line", func() error {
		tally := w.count()
		if len(tally.Broken) > 1 {
			return rig.Final(fmt.Errorf("%d documents are broken: %s", len(tally.Broken), tally.Broken))
		}
		for n := range l.N {
			if !tally.Has(l.ID, n) {
				return fmt.Errorf("line %d is missing", n)
			}
		}
		return nil
	}))
	w.stop(0)
}

// TestWhatElseAGlobCanMatch: fifos, sockets, directories, unreadable files and links
// that lead nowhere hold up nobody.
func TestWhatElseAGlobCanMatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.check(syscall.Mkfifo(w.path("logs", "fifo.log"), 0o600))
	w.check(os.Mkdir(w.path("logs", "dir.log"), 0o755))
	w.check(os.Symlink(w.path("nowhere"), w.path("logs", "dangling.log")))
	w.check(os.Symlink("loop.log", w.path("logs", "loop.log")))
	socket, err := net.Listen("unix", w.path("logs", "socket.log"))
	w.check(err)
	defer socket.Close()
	w.check(os.WriteFile(w.path("logs", "unreadable.log"), []byte("secret\n"), 0))
	a := w.log("a.log")
	w.write(a, 100, 0)
	w.start()
	z := w.log("z.log")
	w.write(z, 100, 0)
	w.exact(a, z)
	w.check(os.Remove(w.path("logs", "fifo.log")))
	later := w.log("fifo.log")
	w.write(later, 10, 0)
	w.exact(a, z, later)
	w.stop(0)
}

// TestInodeReused: a file is removed and another gets its inode, with a bigger, an
// equal and a smaller size, while the agent runs and while it does not.
func TestInodeReused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.start()
	reused := 0
	var logs []*rig.Log
	for round := range 24 {
		old := w.log(fmt.Sprintf("old%d.log", round))
		w.write(old, 20, 50)
		w.exact(append(logs, old)...)
		running := round%2 == 0
		if !running {
			w.stop(0)
		}
		was := inode(w, old.Name)
		w.check(old.Close())
		w.check(os.Remove(old.Name))
		next := w.log(fmt.Sprintf("new%d.log", round))
		if inode(w, next.Name) == was {
			reused++
		}
		w.write(next, []int{19, 20, 40}[round%3], 50)
		logs = append(logs, old, next)
		if !running {
			w.start()
		}
		w.exact(logs...)
	}
	if reused == 0 {
		t.Skip("this file system gives no inode again so soon")
	}
}

func inode(w *world, name string) uint64 {
	info, err := os.Stat(name)
	w.check(err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestManyFilesLeaveNoTrace: files that come and go do not make the state grow.
func TestManyFilesLeaveNoTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	w.start()
	files := 2000
	if torture() > 0 {
		files = 100_000
	}
	const atOnce = 100
	for from := 0; from < files; from += atOnce {
		for i := from; i < from+atOnce; i++ {
			line := (&rig.Lines{ID: fmt.Sprint(i)}).Append(nil, 1, 10)
			w.check(os.WriteFile(w.path("logs", fmt.Sprintf("%d.log", i)), line, 0o644))
		}
		w.check(rig.Poll(w.ctx, "the files to be read", func() error {
			if got := int(w.metrics().Sum("output_lines_total")); got < from+atOnce {
				return fmt.Errorf("%d of %d", got, from+atOnce)
			}
			return nil
		}))
		for i := from; i < from+atOnce; i++ {
			w.check(os.Remove(w.path("logs", fmt.Sprintf("%d.log", i))))
		}
	}
	// What was deleted a moment ago is held open until it is known to have come to
	// its end; only then does its entry go.
	w.check(rig.Poll(w.ctx, "the deleted files to be let go", func() error {
		if n := w.metrics().Sum("open_files"); n > 0 {
			return fmt.Errorf("%v are open", n)
		}
		return nil
	}))
	w.stop(0)
	var size int64
	for _, name := range stateFiles(w) {
		info, err := os.Stat(name)
		w.check(err)
		size += info.Size()
	}
	if size > 2<<20 {
		t.Errorf("the state has %d bytes", size)
	}
	begun := time.Now()
	w.start()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the next start took %v", took)
	}
}

// TestHostileLines: bytes that no logger writes make documents that every JSON reader
// takes, and their neighbours stay whole.
func TestHostileLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    max_line: 64KiB\n    multiline: none\n    format: plain\n"+fileOutput)
	l := w.log("app.log")
	hostile := []string{"\x00\x00\x00", "\xff\xfe\xfd", "\x1b[31mred", `{"a":`, `"\u12`, strings.Repeat("x", 200_000), strings.Repeat("\xf0\x9f", 3000), "\r", "\u2028\u2029"}
	w.start()
	for _, text := range hostile {
		w.write(l, 3, 10)
		w.check(l.WriteString(text + "\n"))
	}
	w.write(l, 3, 10)
	w.exact(l)
	truncated := 0
	for _, d := range w.documents(filepath.Join(w.Dir, "out.ndjson")) {
		if d["truncated"] == true {
			truncated++
			if n := len(d["message"].(string)); n > 64<<10 {
				t.Errorf("a message of %d bytes", n)
			}
		}
	}
	if truncated != 1 {
		t.Errorf("%d documents are marked as truncated, want 1", truncated)
	}
	if data, err := os.ReadFile(w.path("out.ndjson")); err != nil || bytes.ContainsAny(data, "\x00\x1b") {
		t.Errorf("raw control characters stand in the output (%v)", err)
	}
}
