package tail

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// TestInodeIsReusedAHundredTimes removes and makes files that get the same inode, with
// bigger, equal and smaller content, while the agent runs and while it does not.
func TestInodeIsReusedAHundredTimes(t *testing.T) {
	for _, birthless := range []bool{false, true} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("running=%v,birthless=%v", running, birthless), func(t *testing.T) {
				noStatx.Store(birthless)
				defer noStatx.Store(false)
				p := newPlayer(t, "*.log")
				p.start()
				reused := 0
				seen := make(map[uint64]bool)
				for i := range 100 {
					p.play(strings.Fields("rm a.log"))
					p.play(strings.Fields("rm b.log"))
					name := []string{"a.log", "b.log"}[i%2]
					text := strings.Repeat(fmt.Sprintf("%03d", i), 1+i%3)
					p.append(p.path(name), text+"\n")
					st, err := statPath(p.path(name))
					p.must(err)
					if seen[st.ino] {
						reused++
					}
					seen[st.ino] = true
					p.want(text)
					if !running {
						p.play([]string{"restart"})
					} else if i%2 == 0 { // else its descriptor keeps the inode
						p.play([]string{"wait", "7s"})
					}
				}
				p.wantNone()
				t.Logf("the inode was reused %d times", reused)
			})
		}
	}
}

// TestRemountedUnderAnotherDeviceNumber stands for a re-attached disk or a rebooted
// NFS client: only the device numbers that the state remembers are others.
func TestRemountedUnderAnotherDeviceNumber(t *testing.T) {
	for _, birthless := range []bool{false, true} {
		noStatx.Store(birthless)
		defer noStatx.Store(false)
		p := newPlayer(t, "*.log")
		p.append(p.path("a.log"), "a\n")
		p.append(p.path("b.log"), "b\n")
		p.want("a")
		p.want("b")
		p.must(p.src.Save(nil))
		p.changeState(func(e map[string]any) { e["dev"] = 12345 })
		p.append(p.path("b.log"), "bb\n")
		p.want("bb")
		p.wantNone()
	}
}

// changeState stops the source and edits each file's entry.
func (p *player) changeState(edit func(map[string]any)) {
	p.t.Helper()
	batch := make(map[string]json.RawMessage)
	p.opt.Store.Range(func(key string, value []byte) {
		if !strings.HasPrefix(key, filePrefix) {
			return
		}
		var e map[string]any
		dec := json.NewDecoder(strings.NewReader(string(value)))
		dec.UseNumber() // inodes and times are longer than a float's digits
		p.must(dec.Decode(&e))
		edit(e)
		raw, err := json.Marshal(e)
		p.must(err)
		batch[key] = raw
	})
	p.must(p.opt.Store.Commit(batch))
	p.stop()
}

func TestUnreadableEntryIsAFileLikeAnyOther(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.append(p.path("a.log"), "a\n")
	p.want("a")
	p.must(p.opt.Store.Commit(map[string]json.RawMessage{"file/zzz": json.RawMessage(`{"path":3}`), "file/yyy": json.RawMessage(`[]`)}))
	p.play([]string{"restart"})
	p.append(p.path("a.log"), "b\n")
	p.want("b")
	p.play([]string{"restart"})
	if _, there := p.opt.Store.Get("file/zzz"); there {
		t.Error("it is still there")
	}
}

// TestNewFilesWaitForTheState closes the journal's file under it: what is new cannot be
// noted, what is known goes on.
func TestNewFilesWaitForTheState(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.append(p.path("a.log"), "a\n")
	p.want("a")
	room := noRoom(t)
	p.append(p.path("b.log"), "b\n")
	p.append(p.path("a.log"), "aa\n")
	room(0)
	for range 20 {
		p.poll()
	}
	err := p.src.Save(nil)
	room(1)
	if err == nil {
		t.Fatal("the journal could be written to")
	}
	if len(p.lines) != 1 || p.lines[0].text != "aa" {
		t.Fatalf("got %v", p.lines)
	}
	p.lines = nil
	p.want("b")
	p.wantNone()
	p.play([]string{"restart"})
	p.wantNone()
}

// noRoom returns what forbids the process to make any file longer, and allows it again.
func noRoom(t *testing.T) func(int) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was) })
	return func(allowed int) {
		limit := was
		if allowed == 0 {
			limit.Cur = 1
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Skip(err)
		}
	}
}

// TestEventsMakePollLookSooner has no time pass that would make a look due.
func TestEventsMakePollLookSooner(t *testing.T) {
	p := newPlayer(t, "logs/*/*.log")
	p.must(os.MkdirAll(p.path("logs/x"), 0o755))
	p.append(p.path("logs/x/a.log"), "a\n")
	p.asDue = true
	p.start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	woken := make(chan struct{}, 1)
	p.must(p.src.Watch(ctx, func(bool) {
		select {
		case woken <- struct{}{}:
		default:
		}
	}))
	p.want("a")
	for i := range 3 {
		p.now = p.now.Add(time.Minute) // long idle
		p.poll()
	drain:
		for {
			select {
			case <-woken:
			default:
				break drain
			}
		}
		want := fmt.Sprint("b", i)
		p.append(p.path("logs/x/a.log"), want+"\n")
		for len(p.lines) == 0 {
			select {
			case <-woken:
			case <-time.After(10 * time.Second):
				t.Fatal("no event came")
			}
			p.at(p.now) // no time has passed
		}
		p.want(want)
	}
	p.must(os.MkdirAll(p.path("logs/y"), 0o755))
	p.append(p.path("logs/y/new.log"), "new\n")
	for len(p.lines) == 0 {
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatal("no event came")
		}
		p.at(p.now)
	}
	p.want("new")
}

// TestLostEventsAreRepaired drops all events: the sweep finds what has changed.
func TestLostEventsAreRepaired(t *testing.T) {
	p := newPlayer(t, "*.log")
	p.append(p.path("a.log"), "a\n")
	old := time.Now().Add(-time.Hour)
	p.must(os.Chtimes(p.path("a.log"), old, old))
	p.must(os.Chtimes(p.dir, old, old))
	p.asDue = true
	p.start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.must(p.src.Watch(ctx, func(bool) {}))
	p.want("a")
	p.src.events.mu.Lock()
	p.src.events.drop = true
	p.src.events.paths = nil
	p.src.events.mu.Unlock()
	for range 200 { // long enough to be idle
		p.poll()
	}
	began := p.now
	p.append(p.path("a.log"), "b\n")
	for len(p.lines) == 0 && p.now.Sub(began) < 20*time.Second {
		p.poll()
	}
	p.want("b")
	if d := p.now.Sub(began); d > sweepEvery+time.Second {
		t.Errorf("found after %v", d)
	}
	if n := p.src.Stats().Repaired; n != 1 {
		t.Errorf("%d files are counted as repaired, after %v\n%s", n, p.now.Sub(began), p.describe())
	}
	// Where one event was lost, others may be: of very many files too.
	p.src.files = append(p.src.files, make([]*File, 20_000-len(p.src.files))...)
	defer func() { p.src.files = p.src.files[:1] }()
	if doubting := p.src.sweepPeriod(p.now); doubting != 20_000*doubtPace {
		t.Errorf("20,000 files are swept in %v", doubting)
	}
	if again := p.src.sweepPeriod(p.now.Add(doubtFor)); again != 20_000*sweepPace {
		t.Errorf("20,000 files are swept in %v when nothing was lost for long", again)
	}
}

// TestReadersRotationsAndPollsAtOnce is for the race detector: several readers of each
// file, one of them always late, while a writer rotates.
func TestReadersRotationsAndPollsAtOnce(t *testing.T) {
	p := newPlayer(t, "app.log")
	p.start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.must(p.src.Watch(ctx, func(bool) {}))
	const lines = 3000
	var written, done sync.WaitGroup
	written.Add(1)
	go func() {
		defer written.Done()
		for i := range lines {
			f, err := os.OpenFile(p.path("app.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(f, "%d\n", i)
			f.Close()
			if i%400 == 399 {
				for k := 6; k > 0; k-- {
					os.Rename(p.path(fmt.Sprint("app.log.", k)), p.path(fmt.Sprint("app.log.", k+1)))
				}
				os.Rename(p.path("app.log"), p.path("app.log.1"))
			}
		}
	}()
	var mu sync.Mutex
	seen := make(map[string]int)
	var total atomic.Int64
	begun := make(map[*File]bool)
	stop := make(chan struct{})
	follow := func(f *File, slow bool) {
		defer done.Done()
		pos := f.Start()
		buf := make([]byte, 512)
		for {
			n, err := f.ReadAt(buf, pos)
			if err != nil && err != io.EOF {
				t.Error(err)
				return
			}
			cut := strings.LastIndexByte(string(buf[:n]), '\n') + 1
			if cut > 0 {
				tail := make([]byte, min(pos.Off+int64(cut), record.TailBytes))
				f.ReadAt(tail, record.Pos{Off: pos.Off + int64(cut) - int64(len(tail))})
				pos = record.Pos{Off: pos.Off + int64(cut), Tail: record.TailSum(tail)}
			}
			if !slow {
				mu.Lock()
				for _, l := range strings.Fields(string(buf[:cut])) {
					seen[l]++
					total.Add(1)
				}
				mu.Unlock()
				f.Reached(pos.Off)
				f.SetProgress(Progress{Pos: map[string]record.Pos{"out": pos}})
			}
			if n == 0 {
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}
	deadline := time.Now().Add(40 * time.Second)
	for total.Load() < lines && time.Now().Before(deadline) {
		for _, f := range p.src.Poll(time.Now()) {
			if !begun[f] {
				begun[f] = true
				done.Add(2)
				go follow(f, false)
				go follow(f, true)
			}
		}
		if err := p.src.Save(nil); err != nil {
			t.Fatal(err)
		}
		p.src.Stats()
	}
	close(stop)
	written.Wait()
	done.Wait()
	for i := range lines {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("line %d came %d times; %d lines came\n%s", i, n, total.Load(), p.describe())
		}
	}
}

// TestShortLivedFilesLeaveLittleBehind makes and removes very many files.
func TestShortLivedFilesLeaveLittleBehind(t *testing.T) {
	p := newPlayer(t, "*/*.log")
	p.start()
	const files, batch = 6000, 300
	for i := 0; i < files; i += batch {
		for k := range batch {
			dir := p.path(fmt.Sprint("pod", i+k))
			p.must(os.Mkdir(dir, 0o755))
			p.must(os.WriteFile(filepath.Join(dir, "0.log"), fmt.Appendf(nil, "%d\n", i+k), 0o644))
		}
		p.poll()
		for range 3 {
			p.poll()
		}
		for k := range batch {
			p.must(os.RemoveAll(p.path(fmt.Sprint("pod", i+k))))
		}
		p.must(p.src.Save(nil))
	}
	p.play([]string{"wait", "12s"}) // they might only have been moved
	p.must(p.src.Save(nil))
	if len(p.lines) != files {
		t.Errorf("%d lines came", len(p.lines))
	}
	left := 0
	p.opt.Store.Range(func(key string, _ []byte) {
		if strings.HasPrefix(key, filePrefix) {
			left++
		}
	})
	st := p.src.Stats()
	if left > 10 || st.Dirs > 2 || st.OpenFiles > 0 || len(p.src.families)+len(p.src.byIno)+len(p.src.kin) > 10 {
		t.Errorf("%d entries, %+v, %d families", left, st, len(p.src.families))
	}
	journals, _ := filepath.Glob(filepath.Join(p.state, "*"))
	for _, j := range journals {
		if fi, err := os.Stat(j); err == nil && fi.Size() > 2<<20 {
			t.Errorf("%s has %d bytes", j, fi.Size())
		}
	}
}

// at polls at that time, and reads.
func (p *player) at(now time.Time) {
	p.now = now.Add(-110 * time.Millisecond)
	p.poll()
}
