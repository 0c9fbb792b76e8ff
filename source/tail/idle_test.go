package tail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// idleFiles makes n files, 100 in a directory, which have not changed for a day.
func (p *player) idleFiles(n int) {
	p.t.Helper()
	old := time.Now().Add(-24 * time.Hour)
	for i := range n {
		dir := p.path(fmt.Sprint("app", i/100))
		if i%100 == 0 {
			p.must(os.Mkdir(dir, 0o755))
		}
		path := filepath.Join(dir, fmt.Sprint(i%100, ".log"))
		p.must(os.WriteFile(path, fmt.Appendf(nil, "line of file %d\n", i), 0o644))
		p.must(os.Chtimes(path, old, old))
		if i%100 == 99 {
			p.must(os.Chtimes(dir, old, old))
		}
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestTwentyThousandIdleFiles takes a minute of the source's time with very many files
// and looks at what that cost.
func TestTwentyThousandIdleFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 files")
	}
	const files = 20_000
	made := newPlayer(t)
	made.dir = memoryDir(t) // making them on a disk takes longer than the test
	made.opt.Inputs[0].Files = []string{made.path("*/*.log")}
	made.idleFiles(files)
	for _, events := range []bool{true, false} {
		p := newPlayer(t)
		p.dir, p.opt.Inputs, p.asDue = made.dir, made.opt.Inputs, true
		before := heap()
		p.start()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if events {
			p.must(p.src.Watch(ctx, func(bool) {}))
		}
		p.poll()
		if len(p.lines) < files {
			t.Fatalf("%d lines came", len(p.lines))
		}
		if n := p.src.Stats().OpenFiles; n > 200 {
			t.Errorf("%d descriptors at the start", n)
		}
		p.lines, p.ids, p.reading = nil, make(map[string]string), make(map[string]*reading)
		p.must(p.src.Save(nil))
		for range 150 { // until they count as idle
			p.poll()
		}
		if n := p.src.Stats().OpenFiles; n > 200 {
			t.Errorf("%d descriptors for idle files", n)
		}
		t.Logf("events %v: %d bytes a file", events, (heap()-before)/files)
		const minute = 600
		began := cpuTime()
		for range minute {
			p.now = p.now.Add(100 * time.Millisecond)
			p.src.Poll(p.now)
		}
		share := float64(cpuTime()-began) / float64(time.Minute) * 100
		t.Logf("events %v: %.2f %% of a core", events, share)
		if limit := map[bool]float64{true: 2, false: 15}[events]; share > limit && !raceEnabled {
			t.Errorf("%.2f %% of a core for idle files", share)
		}
		name := "app77/42.log"
		p.append(p.path(name), "seen\n")
		wrote := p.now
		p.want("seen")
		if d := p.now.Sub(wrote); !events && d > blindSweep+200*time.Millisecond {
			t.Errorf("seen after %v", d)
		}
		p.stop()
	}
}

func TestStartsQuicklyWithAThousandKnownFiles(t *testing.T) {
	p := newPlayer(t, "*/*.log")
	p.idleFiles(1000)
	p.poll()
	p.lines = nil
	p.play([]string{"stop"})
	best := time.Hour
	for range 3 {
		began := cpuTime() // others may use the machine
		p.start()
		news := p.src.Poll(time.Now())
		best = min(best, cpuTime()-began)
		if len(news) > 0 {
			t.Errorf("%d files are news", len(news))
		}
		p.play([]string{"stop"})
	}
	t.Logf("%v", best)
	if best > 50*time.Millisecond && !raceEnabled {
		t.Errorf("took %v", best)
	}
}

func BenchmarkReadAt(b *testing.B) {
	p := newPlayer(b, "a.log")
	p.append(p.path("a.log"), filling(8<<20, "a line of some length, as they are"))
	p.held = true
	p.poll()
	var f *File
	for _, r := range p.reading {
		f = r.file
	}
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		at := f.Start()
		at.Off = off
		if off = off + int64(len(buf)); off > 7<<20 {
			off = 0
		}
		if _, err := f.ReadAt(buf, at); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPlayer(t, "a.log")
	p.append(p.path("a.log"), filling(1<<20, "a line of some length, as they are"))
	p.held = true
	p.poll()
	var f *File
	for _, r := range p.reading {
		f = r.file
	}
	buf := make([]byte, 64<<10)
	first, err := f.ReadAt(buf, f.Start())
	p.must(err)
	at := record.Pos{Off: int64(first), Tail: record.TailSum(buf[:first])}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := f.ReadAt(buf, at); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}
