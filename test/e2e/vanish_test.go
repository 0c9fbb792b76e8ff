package e2e

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// tap is an output that takes no more than the test lets it: the agent's stdout is a
// pipe whose other end copies to DIR/out.ndjson once it is opened.
type tap struct {
	*world
	pipe *os.File
	open chan struct{}
}

// toStdout is the outputs section of configurations with a tap.
const toStdout = `
outputs:
  tap: {stdout: {format: json}}
`

// newTap makes the pipe; do so before the agent starts.
func newTap(w *world) *tap {
	w.Helper()
	w.check(syscall.Mkfifo(w.path("stdout"), 0o600))
	pipe, err := os.OpenFile(w.path("stdout"), os.O_RDWR, 0)
	w.check(err)
	t := &tap{w, pipe, make(chan struct{})}
	out, err := os.Create(w.path("out.ndjson"))
	w.check(err)
	go func() {
		defer out.Close()
		<-t.open
		io.Copy(out, bufio.NewReader(pipe)) // until the pipe is closed
	}()
	w.Cleanup(func() { pipe.Close() })
	return t
}

// TestOutputStallsWhileLogsRotate: an output that takes nothing while a log is rotated
// many times over, its oldest files removed, loses no line.
func TestOutputStallsWhileLogsRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits: {held_deleted: 1GiB}\ninputs:\n  app:\n    files: ['$DIR/logs/app.log']\n    format: json\n"+toStdout)
	tap := newTap(w)
	l := w.log("app.log")
	w.start()
	for round := range 12 {
		w.write(l, 3000, 500)
		w.rename(l, 5)
		w.check(l.Reopen())
		// A rotation that is over before anyone could have looked is another test.
		w.untilHeld(round)
	}
	w.write(l, 10, 0)
	if proc, err := w.agent.Proc(); err != nil || proc.RSS > 300<<20 {
		t.Errorf("resident: %d MiB, %v", proc.RSS>>20, err)
	}
	close(tap.open)
	w.exact(l)
	w.accounts(l.Bytes)
}

// rename shifts app.log to app.log.1 and so on, and removes what comes after keep.
func (w *world) rename(l *rig.Log, keep int) {
	w.Helper()
	for i := keep; i >= 1; i-- {
		newer := l.Name
		if i > 1 {
			newer = fmt.Sprintf("%s.%d", l.Name, i-1)
		}
		if err := os.Rename(newer, fmt.Sprintf("%s.%d", l.Name, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.Fatal(err)
		}
	}
}

// untilHeld waits until the agent has a descriptor on each file that may be deleted
// next, or has none to hold.
func (w *world) untilHeld(round int) {
	w.Helper()
	want := fmt.Sprintf("%s.1", w.path("logs", "app.log"))
	w.check(rig.Poll(w.ctx, fmt.Sprintf("the agent to notice rotation %d", round), func() error {
		if _, held := w.openLogs()[want]; !held {
			return fmt.Errorf("it has open: %v", w.openLogs())
		}
		return nil
	}))
}

// openLogs are the files below DIR/logs that the agent has open, with their sizes.
func (w *world) openLogs() map[string]int64 {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.agent.PID()))
	w.check(err)
	open := make(map[string]int64)
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, w.path("logs")+"/") {
			continue
		}
		if info, err := os.Stat(fd); err == nil {
			open[to] = info.Size()
		}
	}
	return open
}

// TestDeletedFilesOccupyNoMoreThanTheyMay: of deleted files that no output takes, the
// oldest bytes are given up beyond held_deleted, and counted.
func TestDeletedFilesOccupyNoMoreThanTheyMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits: {memory: 32MiB, held_deleted: 20MiB}\ninputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: json\n"+toStdout)
	tap := newTap(w)
	var logs []*rig.Log
	w.start()
	for i := range 6 {
		l := w.log(fmt.Sprintf("app%d.log", i))
		w.write(l, 10_000, 900) // 9.5 MB
		logs = append(logs, l)
	}
	w.check(rig.Poll(w.ctx, "the files to be noticed", func() error {
		if n := len(w.openLogs()); n < len(logs) {
			return fmt.Errorf("%d of %d are open", n, len(logs))
		}
		return nil
	}))
	for _, l := range logs {
		w.check(l.Close())
		w.check(os.Remove(l.Name))
	}
	w.check(rig.Poll(w.ctx, "deleted files to be given up", func() error {
		var held int64
		for name, size := range w.openLogs() {
			if strings.HasSuffix(name, " (deleted)") {
				held += size
			}
		}
		if held > 20<<20 {
			return fmt.Errorf("%d bytes of deleted files are held", held)
		}
		return nil
	}))
	close(tap.open)
	var written int64
	for _, l := range logs {
		written += l.Bytes
	}
	w.accounts(written)
	if m := w.metrics(); m.Sum("abandoned_bytes_total") == 0 || m.Sum("held_deleted_bytes") > 20<<20 {
		t.Errorf("abandoned %.0f bytes, held %.0f", m.Sum("abandoned_bytes_total"), m.Sum("held_deleted_bytes"))
	}
}

// TestShortLivedDirectories come with a pod and go with it a second later, their last
// line without an end.
func TestShortLivedDirectories(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  pods:\n    files: ['$DIR/logs/{project}/**/*.log']\n    format: json\n    line_timeout: 500ms\n"+fileOutput)
	w.start()
	var logs []*rig.Log
	const pods, life = 40, time.Second
	born := make([]time.Time, 0, pods)
	for i := range pods {
		l := w.log(fmt.Sprintf("pod-%d/deep/app.log", i))
		w.write(l, 19, 40)
		line := l.Append(nil, 1, 40)
		w.check(l.WriteString(string(line[:len(line)-1])))
		logs, born = append(logs, l), append(born, time.Now())
		w.pause(40 * time.Millisecond)
	}
	for i, l := range logs {
		w.pause(time.Until(born[i].Add(life)))
		w.check(l.Close())
		w.check(os.RemoveAll(w.path("logs", fmt.Sprintf("pod-%d", i))))
	}
	w.exact(logs...)
	for _, d := range w.documents(w.path("out.ndjson")) {
		if want := strings.Split(d["f"].(string), "/")[0]; d["project"] != want {
			t.Fatalf("project %v, want %s", d["project"], want)
		}
	}
}

// TestKubeletRotation: while the agent is down, the container's log is rotated and
// compressed three times, in kubelet's way.
func TestKubeletRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  pods:\n    files: ['$DIR/logs/*/*.log']\n    format: cri\n"+fileOutput)
	l := &criLog{Lines: &rig.Lines{ID: "c"}, name: w.path("logs", "app", "0.log")}
	w.check(os.Mkdir(w.path("logs", "app"), 0o755))
	w.check(l.write(2000))
	w.start()
	w.check(rig.Poll(w.ctx, "some lines", func() error {
		if w.count().Found("c") == 0 {
			return errors.New("none")
		}
		return nil
	}))
	w.agent.Kill()
	var last string
	for i := range 3 {
		w.check(l.write(2000))
		rotated := fmt.Sprintf("%s.20261123-20000%d", l.name, i)
		w.check(os.Rename(l.name, rotated))
		if last != "" {
			w.check(gzipFile(last, last+".tmp", last+".gz"))
		}
		last = rotated
	}
	w.check(l.write(2000))
	w.start()
	w.check(rig.Poll(w.ctx, "every line", func() error { return w.count().Clean(nil, l.Lines) }))
	w.check(w.count().Exact(nil, l.Lines))
}

// criLog is a container's log.
type criLog struct {
	*rig.Lines
	name string
}

func (l *criLog) write(count int) error {
	f, err := os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for range count {
		fmt.Fprintf(w, "%s stdout F %s", time.Now().UTC().Format(time.RFC3339Nano), l.Append(nil, 1, 30))
	}
	return w.Flush()
}

// gzipFile compresses from, through a temporary name, and removes it.
func gzipFile(from, through, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(through)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(f)
	_, err = zip.Write(data)
	if err := errors.Join(err, zip.Close(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(through, to), os.Remove(from))
}
