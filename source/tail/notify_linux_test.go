package tail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// heard is a notifier with what it has told.
type heard struct {
	*testing.T
	*notifier
	grown, changed, gone map[string]int
}

func newHeard(t *testing.T) *heard {
	t.Helper()
	n, err := newNotifier()
	if err != nil {
		t.Fatal(err)
	}
	return &heard{T: t, notifier: n}
}

// listen takes what is told at once, and fails when there is nothing for a long time.
func (h *heard) listen() (lost bool) {
	h.Helper()
	h.grown, h.changed, h.gone = make(map[string]int), make(map[string]int), make(map[string]int)
	timer := time.AfterFunc(30*time.Second, h.stop)
	h.must(h.wait())
	lost, err := h.next(func(path string, more bool) {
		if more {
			h.changed[path]++
		} else {
			h.grown[path]++
		}
	}, func(path string) { h.gone[path]++ })
	if err != nil || !timer.Stop() {
		h.Fatalf("nothing was told: %v", err)
	}
	return lost
}

func (h *heard) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// TestWhatWaitsInTheKernelIsToldAtOnce: of files that grow and of what is more than that,
// with one call; what is known of a path is not made anew.
func TestWhatWaitsInTheKernelIsToldAtOnce(t *testing.T) {
	h := newHeard(t)
	defer h.stop()
	dir := t.TempDir()
	h.must(h.add(dir))
	var names []string
	for i := range 50 {
		names = append(names, filepath.Join(dir, fmt.Sprint(i, ".log")))
		h.must(appendTo(names[i], "x"))
	}
	h.listen()
	for _, name := range names {
		if h.changed[name] == 0 || h.grown[name] == 0 {
			t.Fatalf("of %s: %d changes, %d times grown", name, h.changed[name], h.grown[name])
		}
	}
	var files []*os.File
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		h.must(err)
		defer f.Close()
		files = append(files, f)
	}
	line, told := []byte("x\n"), 0
	changed := func(_ string, more bool) {
		if told++; more {
			t.Error("growth is told as more")
		}
	}
	ended := func(string) {}
	allocated := testing.AllocsPerRun(20, func() {
		told = 0
		for _, f := range files {
			f.Write(line)
		}
		if _, err := h.next(changed, ended); err != nil || told != len(files) {
			t.Errorf("%d files have grown, %d are told: %v", len(files), told, err)
		}
	})
	if allocated > 0 {
		t.Errorf("%v allocations for %d events", allocated, len(files))
	}
	h.remove(dir)
	h.listen()
	if len(h.grown)+len(h.changed) > 0 || len(h.dirs)+len(h.wds) > 0 {
		t.Errorf("after the end of it: %v %v, %v", h.grown, h.changed, h.wds)
	}
}

// TestADirectoryMadeAnewIsHeardAgain: it is told that the first is gone, though the second
// has its name, and may have its inode.
func TestADirectoryMadeAnewIsHeardAgain(t *testing.T) {
	h := newHeard(t)
	defer h.stop()
	dir := filepath.Join(t.TempDir(), "d")
	for range 3 {
		h.must(os.Mkdir(dir, 0o755))
		h.must(h.add(dir))
		h.must(appendTo(filepath.Join(dir, "a.log"), "x"))
		h.listen()
		if h.changed[filepath.Join(dir, "a.log")] == 0 {
			t.Fatalf("its file is not told: %v", h.changed)
		}
		h.must(os.RemoveAll(dir))
		h.listen()
		for h.gone[dir] == 0 {
			h.listen()
		}
	}
	// The second is there before the end of the first was heard.
	h.must(os.Mkdir(dir, 0o755))
	h.must(h.add(dir))
	h.must(os.Remove(dir))
	h.must(os.Mkdir(dir, 0o755))
	h.must(h.add(dir))
	h.listen()
	if h.gone[dir] > 0 {
		t.Error("the second is told to be gone")
	}
	h.must(appendTo(filepath.Join(dir, "a.log"), "x"))
	h.listen()
	if h.changed[filepath.Join(dir, "a.log")] == 0 {
		t.Errorf("the second's file is not told: %v", h.changed)
	}
}

// TestADirectoryOfTwoNames is told under both, and under one when the other is let go.
func TestADirectoryOfTwoNames(t *testing.T) {
	h := newHeard(t)
	defer h.stop()
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	h.must(os.Symlink(dir, link))
	h.must(h.add(dir))
	h.must(h.add(link))
	h.must(appendTo(filepath.Join(dir, "a.log"), "x"))
	h.listen()
	for _, d := range []string{dir, link} {
		if h.grown[filepath.Join(d, "a.log")] == 0 {
			t.Errorf("not told under %s: %v", d, h.grown)
		}
	}
	h.remove(dir)
	h.must(appendTo(filepath.Join(dir, "a.log"), "x"))
	h.listen()
	if len(h.grown) != 1 || h.grown[filepath.Join(link, "a.log")] == 0 {
		t.Errorf("with one name left: %v", h.grown)
	}
}

// TestTooManyEventsAreTold: then everything has to be looked at.
func TestTooManyEventsAreTold(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	limit := 0
	if _, scan := fmt.Sscan(string(raw), &limit); err != nil || scan != nil || limit > 100_000 {
		t.Skip("the system's limit is not known, or is very high")
	}
	h := newHeard(t)
	defer h.stop()
	dir := t.TempDir()
	h.must(h.add(dir))
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		h.must(err)
		defer f.Close()
		files[i] = f
	}
	for i := range limit + 10 {
		_, err := files[i%2].WriteString("x") // the kernel makes one of two that are the same
		h.must(err)
	}
	for !h.listen() {
	}
}

func TestAStopEndsTheWait(t *testing.T) {
	n, err := newNotifier()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := n.add(dir); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- n.wait() }()
	n.stop()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the wait ends with %v", err)
	}
	if err := n.add(dir); !errors.Is(err, os.ErrClosed) {
		t.Errorf("added after the end: %v", err)
	}
	n.remove(dir)
}

// BenchmarkNotifier is what a line costs that one of 250 files has grown by.
func BenchmarkNotifier(b *testing.B) {
	n, err := newNotifier()
	if err != nil {
		b.Fatal(err)
	}
	defer n.stop()
	var files []*os.File
	for i := range 250 {
		dir := b.TempDir()
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i, ".log")))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
		if err := n.add(dir); err != nil {
			b.Fatal(err)
		}
	}
	told := 0
	changed, ended := func(string, bool) { told++ }, func(string) {}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, f := range files {
			f.WriteString("x")
		}
		b.StartTimer()
		if _, err := n.next(changed, ended); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(told), "ns/event")
}

// TestOneWakeForManyLines: between a wait and the next, a file may grow as often as it likes,
// and what it has grown by is told with the next.
func TestOneWakeForManyLines(t *testing.T) {
	h := newHeard(t)
	defer h.stop()
	dir := t.TempDir()
	name := filepath.Join(dir, "a.log")
	h.must(appendTo(name, "x"))
	h.must(h.add(dir))
	for range 3 {
		h.must(appendTo(name, "x"))
		if h.listen(); h.grown[name] != 1 {
			t.Fatalf("told %d times", h.grown[name])
		}
		woken := make(chan error, 1)
		go func() { woken <- h.wait() }()
		select {
		case err := <-woken:
			t.Fatalf("woken for nothing: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		h.must(appendTo(name, "x"))
		h.must(<-woken)
		h.must(appendTo(name, "y")) // nobody waits: it is told with what has ended the wait
		if _, err := h.next(func(string, bool) {}, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestADeletionIsUrgentThoughTheFileHasJustGrown: that it has grown is known, and may wait
// to be looked at for a while.
func TestADeletionIsUrgentThoughTheFileHasJustGrown(t *testing.T) {
	p := newPlayer(t, "*.log")
	name := p.path("a.log")
	p.must(appendTo(name, "one\n"))
	p.start()
	bell := make(chan bool, 1000)
	p.must(p.src.Watch(t.Context(), func(urgent bool) { bell <- urgent }))
	hear := func(want bool) {
		t.Helper()
		select {
		case urgent := <-bell:
			if urgent != want {
				t.Fatalf("urgent: %v", urgent)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("nobody is woken")
		}
	}
	p.must(appendTo(name, "two\n"))
	hear(false)
	p.must(os.Remove(name))
	hear(true)
}

// TestAFreshFileIsLookedAtTwiceASecond where events tell of it: of twenty thousand that are
// found at once, ten times a second were most of a core.
func TestAFreshFileIsLookedAtTwiceASecond(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.asDue = true
	p.must(appendTo(p.path("a.log"), "a\n"))
	p.start()
	p.must(p.src.Watch(t.Context(), func(bool) {}))
	p.want("a")
	f, looks := p.src.files[0], 0
	for range 50 {
		was := f.lookedAt
		p.now = p.now.Add(100 * time.Millisecond)
		p.src.Poll(p.now)
		if f.lookedAt != was {
			looks++
		}
	}
	if looks < 8 || looks > 12 {
		t.Errorf("%d looks in five seconds", looks)
	}
}
