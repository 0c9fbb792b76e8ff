package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// rename moves a file of the rig's directory.
func (r *rig) rename(from, to string) {
	r.t.Helper()
	if err := os.Rename(filepath.Join(r.dir, from), filepath.Join(r.dir, to)); err != nil {
		r.t.Fatal(err)
	}
}

// accounts wants every byte that was written to be read or abandoned.
func (r *rig) accounts(input string, written int) {
	r.t.Helper()
	m := r.agent.metrics.input(input)
	sum := func() (read, abandoned int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, n := range m.abandoned {
			abandoned += n
		}
		return m.bytes.Load(), abandoned
	}
	r.eventually("every byte to be accounted for", func() bool {
		read, abandoned := sum()
		return read+abandoned == int64(written)
	})
}

// seen waits until the only file has been seen up to off.
func (r *rig) seen(off int64) {
	r.t.Helper()
	r.eventually("all to be seen", func() bool {
		flows := r.agent.allFlows()
		return len(flows) == 1 && flows[0].seen.Load() == off
	})
}

// texts wants a basin to hold these messages, in this order.
func (r *rig) texts(b *basin, want ...string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d documents", len(want)), func() bool { return b.count() >= len(want) })
	if got := b.messages(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		r.t.Fatalf("got %q, want %q", got, want)
	}
}

const traces = `
inputs: {app: {files: [$DIR/*.log], format: plain, line_timeout: 300ms}}
outputs: {out: {discard: {}}}
`

func TestACutIsOnDiskBeforeItsLineLeaves(t *testing.T) {
	r := newRig(t)
	r.configure(traces)
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\ntwo\n")
	r.texts(b, "one", "two")
	r.eventually("the positions to be saved", func() bool { return !r.agent.allFlows()[0].dirty.Load() })
	saved := make(chan bool, 1)
	b.mu.Lock()
	b.putsOff = func(record.Ref) bool {
		for _, f := range r.agent.allFlows() {
			raw, _ := r.agent.journal.Get("file/" + f.file.Gen())
			saved <- strings.Contains(string(raw), `"mid":true`)
		}
		return false
	}
	b.mu.Unlock()
	r.append("a.log", "half a li")
	if !<-saved {
		t.Error("a line left before its cut was saved: after a crash it would be read as another")
	}
}

func TestTruncatedInTheMiddleOfALine(t *testing.T) {
	r := newRig(t)
	r.configure(strings.Replace(traces, "300ms", "60s", 1))
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\ntwo\nhalf a li")
	r.seen(17)
	if err := os.Truncate(filepath.Join(r.dir, "a.log"), 0); err != nil {
		t.Fatal(err)
	}
	r.append("a.log", "new\nlast\n")
	r.texts(b, "one", "two", "half a li", "new", "last")
	r.accounts("app", 17+9)
}

func TestATraceCutByARotationIsOneEvent(t *testing.T) {
	r := newRig(t)
	r.configure(traces)
	b := r.basin("out")
	r.start()
	r.append("a.log", "first\nboom\n  at one\n")
	r.texts(b, "first")
	r.rename("a.log", "a.log.1")
	r.append("a.log", "  at two\n  at three\nnext\n")
	r.texts(b, "first", "boom\n  at one\n  at two\n  at three", "next")
	r.accounts("app", 20+25)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.append("a.log", "more\n")
	r.texts(b, "first", "boom\n  at one\n  at two\n  at three", "next", "more")
}

func TestALineThatIsFinishedAfterTheRename(t *testing.T) {
	r := newRig(t)
	r.configure(strings.Replace(traces, "300ms", "60s", 1))
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\nhalf a li")
	r.seen(13)
	r.rename("a.log", "a.log.1")
	r.append("a.log", "new\n")
	r.eventually("the new file to be known", func() bool { return r.agent.source.Stats().Watched["app"] == 2 })
	r.append("a.log.1", "ne\n")
	r.texts(b, "one", "half a line", "new")
}

func TestWhatIsPassedOverIsCounted(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none, max_line: 1KiB}}
outputs: {out: {discard: {}}}
`)
	r.start()
	text := "one\n\n\n" + strings.Repeat("x", 5000) + "\n" + strings.Repeat("\x00", 300) + "two\n \nthree\n"
	r.append("a.log", text)
	r.eventually("four documents", func() bool { return r.basin("out").count() == 4 })
	r.accounts("app", len(text))
	m := r.agent.metrics.input("app")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dropped["blank"] != 3 || m.nulBytes.Load() != 300 || m.abandoned["overlong"] != 5000-1024 {
		t.Errorf("dropped %v, abandoned %v", m.dropped, m.abandoned)
	}
}

func TestLinesAreCountedOnceThoughReadTwice(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, dead: {discard: {}}}
`)
	r.basin("dead").broke(errors.New("connection refused"))
	r.start()
	const n = 12_000
	name := strings.Repeat("long", 250)
	r.append("a.log", lines(name, 0, n))
	r.exact(r.basin("well"), name, n)
	r.basin("dead").broke(nil)
	r.basin("well").broke(errors.New("connection refused"))
	r.append("a.log", lines(name, n, 3*n))
	r.exact(r.basin("dead"), name, 3*n)
	r.basin("well").broke(nil)
	r.exact(r.basin("well"), name, 3*n)
	m := r.agent.metrics.input("app")
	r.eventually("the lines to be counted", func() bool { return m.lines.Load() >= 3*n })
	if got := m.lines.Load(); got != 3*n {
		t.Errorf("%d lines counted, %d written", got, 3*n)
	}
	r.accounts("app", len(lines(name, 0, 3*n)))
}

func TestAnInputThatIsTakenAwayAndComesBack(t *testing.T) {
	r := newRig(t)
	two := `
inputs:
  app: {files: [$DIR/*.log], format: plain, multiline: none}
  other: {files: [$DIR/*.txt], format: plain, multiline: none}
outputs: {out: {discard: {}}}
`
	r.configure(two)
	b := r.basin("out")
	b.broke(errors.New("connection refused"))
	r.start()
	r.append("a.log", lines("a", 0, 100))
	r.eventually("the lines to be read", func() bool { return r.agent.metrics.input("app").lines.Load() == 100 })
	r.configure(strings.Replace(two, "  app: {files: [$DIR/*.log], format: plain, multiline: none}\n", "", 1))
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.append("a.log", lines("a", 100, 200))
	b.broke(nil) // what was under way arrives only now
	r.exact(b, "a", 100)
	r.eventually("the flow to be let go", func() bool { return len(r.agent.allFlows()) == 0 })
	r.configure(two)
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.exact(b, "a", 200)
}

func TestDrainBringsOutGenerationsThatWaitForOlderOnes(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	b := r.basin("out")
	r.append("a.log", lines("a", 0, 10))
	r.start()
	r.exact(b, "a", 10)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	n := 10
	for i := 5; i > 0; i-- {
		r.append("a.log", lines("a", n, n+20_000))
		n += 20_000
		r.rename("a.log", fmt.Sprintf("a.log.%d", i))
		r.write("a.log", "")
	}
	r.append("a.log", lines("a", n, n+10))
	n += 10
	r.start()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if left := r.agent.Drain(ctx); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	r.cancel = nil
	if got := b.count(); got != n {
		t.Errorf("%d lines at the end of the drain, want %d", got, n)
	}
}

func TestAfterADrainThatFailedLinesWaitForTheirEnds(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	b := r.basin("out")
	b.broke(errors.New("connection refused"))
	r.start()
	r.append("a.log", lines("a", 0, 10))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if left := r.agent.Drain(ctx); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	b.broke(nil)
	r.append("a.log", "a line 10\na li")
	r.exact(b, "a", 11)
	r.seen(int64(len(lines("a", 0, 11)) + 4))
	r.append("a.log", "ne 11\n")
	r.exact(b, "a", 12)
}

func TestAStuckFileLeavesRoomForTheOthers(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	b := r.basin("out")
	b.putsOff = func(ref record.Ref) bool {
		return strings.HasSuffix(ref.Value("file"), "stuck.log")
	}
	r.start()
	r.append("stuck.log", strings.Repeat(strings.Repeat("x", 1000)+"\n", 30_000))
	r.eventually("the stuck file to have what it may have", func() bool {
		flows := r.agent.allFlows()
		return len(flows) == 1 && flows[0].tracks[0].waits.Load()
	})
	stuck := r.agent.allFlows()[0]
	r.append("b.log", lines("b", 0, 100))
	r.exact(b, "b", 100)
	if err := r.agent.onDriver(t.Context(), func() {
		for i := range 10 {
			stuck.watch(time.Now().Add(time.Duration(i) * time.Minute))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if stuck.stalled.Load() {
		t.Error("a file that its output takes no more of counts as stalled: nobody could do anything about it")
	}
	r.cancel()
	<-r.ended
	r.cancel = nil
}

func TestABlankTailIsNoStall(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	r.append("a.log", "one\n   ")
	r.texts(r.basin("out"), "one")
	r.seen(7)
	f := r.agent.allFlows()[0]
	if err := r.agent.onDriver(t.Context(), func() {
		for i := range 10 {
			f.watch(time.Now().Add(time.Duration(i) * time.Minute))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if f.stalled.Load() {
		t.Error("a file of which everything was seen counts as stalled")
	}
}

func TestAHoleIsLeapt(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {out: {discard: {}}}
`)
	b := r.basin("out")
	r.start()
	r.append("a.log", "one\n")
	r.texts(b, "one")
	// What a program writes that does not append, after its log was truncated.
	const hole = 8 << 30
	f, err := os.OpenFile(filepath.Join(r.dir, "a.log"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("two\n"), hole); err != nil {
		t.Skipf("no file of %d bytes can be made here: %v", int64(hole), err)
	}
	if _, err := f.WriteAt([]byte("three\n"), hole+4); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.texts(b, "one", "two", "three")
	r.accounts("app", hole+10)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a hole of %d bytes took %v", int64(hole), took)
	}
	if n := r.agent.metrics.input("app").nulBytes.Load(); n != hole-4 {
		t.Errorf("%d bytes of holes, want %d", n, int64(hole-4))
	}
}

// A pattern names all that is below a directory, the agent's own state too: were that
// read, each checkpoint would bring about the next.
func TestAPatternThatNamesTheStateDirectory(t *testing.T) {
	r := newRig(t)
	r.configure("inputs: {app: {files: ['$DIR/**/*'], exclude: ['*.yml'], format: plain}}\noutputs: {out: {discard: {}}}\n")
	r.start()
	r.append("a.log", "one\n")
	b := r.basin("out")
	r.texts(b, "one")
	r.eventually("the positions to be saved", func() bool { return !r.agent.allFlows()[0].dirty.Load() })
	r.append("a.log", "two\n")
	r.texts(b, "one", "two")
	if n := r.agent.source.Stats().Watched["app"]; n != 1 {
		t.Errorf("%d files are watched, want 1", n)
	}
}

// A .gz that was damaged at its end, or has something behind it, is read up to there, its
// last line too, and nothing waits for more of it.
func TestCompressedFilesWithBadEnds(t *testing.T) {
	var z bytes.Buffer
	zip := gzip.NewWriter(&z)
	zip.Write([]byte("one\ntwo\n"))
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	whole := z.String()
	for what, content := range map[string]string{
		"padding":        whole + strings.Repeat("\x00", 512),
		"rubbish":        whole + "something that is no .gz",
		"wrong checksum": whole[:len(whole)-8] + "????" + whole[len(whole)-4:],
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.configure("inputs: {app: {files: [$DIR/*.gz], format: plain}}\noutputs: {out: {discard: {}}}\n")
			r.write("a.gz", content)
			r.start()
			r.texts(r.basin("out"), "one", "two")
			r.accounts("app", len("one\ntwo\n"))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if left := r.agent.Drain(ctx); len(left) > 0 {
				t.Errorf("a drain leaves %v", left)
			}
		})
	}
}

// TestWhatOnlyOneOutputLoses: bytes that one output has got and another has lost are
// counted as read, and beside that for the one that lost them.
func TestWhatOnlyOneOutputLoses(t *testing.T) {
	r := newRig(t)
	r.configure(`
limits: {held_deleted: 64KiB}
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, dead: {discard: {}}}
`)
	r.basin("dead").broke(errors.New("connection refused"))
	r.start()
	const n = 12_000
	text := strings.Repeat("long", 250) + "\n"
	r.append("a.log", strings.Repeat(text, n))
	r.eventually("all in the output that is well", func() bool { return r.basin("well").count() == n })
	r.accounts("app", n*len(text))
	if err := os.Remove(filepath.Join(r.dir, "a.log")); err != nil {
		t.Fatal(err)
	}
	lost := func(name string) int64 {
		out := r.agent.outputs[name]
		out.meter.mu.Lock()
		defer out.meter.mu.Unlock()
		return out.meter.lost[loss{"app", "held_deleted"}]
	}
	r.eventually("the deleted file to be given up", func() bool { return r.agent.source.Stats().HeldDeletedBytes == 0 })
	r.basin("dead").broke(nil)
	r.eventually("the loss to be counted", func() bool { return lost("dead") > 0 })
	r.accounts("app", n*len(text))
	if lost("well") != 0 {
		t.Errorf("the output that is well has lost %d bytes", lost("well"))
	}
	r.eventually("the other to have got what it has not lost", func() bool {
		over := int64(r.basin("dead").count()*len(text)) + lost("dead") - int64(n*len(text))
		return over >= 0 && over < int64(len(text)) // a part of a line was all that was left of it
	})
}
