package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// open opens a spool in dir that ends with the test.
func open(t *testing.T, dir string, change ...func(*Options)) *Log {
	t.Helper()
	o := Options{Dir: dir, Limit: 64 << 20}
	for _, c := range change {
		c(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func frame(text string, key string) *Frame {
	var k Key
	copy(k[:], key)
	f := Begin(nil, JSONLines, "shop", k, time.Now().UnixMilli())
	f.Buf = append(f.Buf, text...)
	return f
}

func put(t *testing.T, l *Log, texts ...string) {
	t.Helper()
	for i, text := range texts {
		if err := l.Append(frame(text, ""), i == len(texts)-1); err != nil {
			t.Fatal(err)
		}
	}
}

// contents reads all frames from an offset on, and how many bytes were damaged.
func contents(t *testing.T, l *Log, from int64) (texts []string, damaged int) {
	t.Helper()
	first, end := l.Bounds()
	from = max(from, first)
	data := make([]byte, end-from)
	if n, err := l.ReadAt(data, from); err != io.EOF || n != len(data) {
		t.Fatalf("read %d of %d: %v", n, len(data), err)
	}
	for len(data) > 0 {
		v, _, err := Parse(data)
		if err != nil || v.Size == 0 {
			n := Resync(data)
			damaged += n
			data = data[n:]
			continue
		}
		if !v.IsSegment() {
			texts = append(texts, string(v.Payload))
		}
		data = data[v.Size:]
	}
	return texts, damaged
}

func numbered(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf("line %d %s", i, strings.Repeat("x", i%90)))
	}
	return texts
}

func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments: %v, %v", names, err)
	}
	slices.Sort(names)
	return names
}

func TestTornEndIsCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	put(t, l, "one", "two")
	_, whole := l.Bounds()
	if err := l.Append(frame("three, which is torn", "key"), true); err != nil {
		t.Fatal(err)
	}
	l.Close()
	name := segments(t, dir)[0]
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := int(whole); cut < len(data); cut++ {
		// Of what was not synced a power cut may leave anything.
		torn := slices.Clone(data)
		if cut%2 == 0 {
			torn = torn[:cut]
		} else {
			clear(torn[cut:])
		}
		if err := os.WriteFile(name, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir)
		if texts, damaged := contents(t, l, 0); !slices.Equal(texts, []string{"one", "two"}) || damaged > 0 {
			t.Fatalf("cut at %d: %q, %d bytes damaged", cut, texts, damaged)
		}
		if _, end := l.Bounds(); end != whole {
			t.Fatalf("cut at %d: the end is %d, want %d", cut, end, whole)
		}
		// Its sender had no answer, and sends it again.
		if err := l.Append(frame("three, which is torn", "key"), true); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		l.Close()
	}
}

func TestDamageIsPassedOverAndTheRestIsRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 24 {
		dir := t.TempDir()
		l := open(t, dir, func(o *Options) { o.Limit = 1 << 20 })
		texts := numbered(2000)
		put(t, l, texts...)
		generation := l.Generation()
		l.Close()
		names := segments(t, dir)
		name := names[rng.IntN(len(names))]
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := rng.IntN(len(data) - 200)
		switch round % 3 {
		case 0:
			data[at] ^= 1 << rng.IntN(8)
		case 1:
			clear(data[at : at+100])
		case 2:
			for i := range 100 {
				data[at+i] = byte(rng.Uint32())
			}
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, func(o *Options) { o.Limit = 1 << 20 })
		got, damaged := contents(t, l, 0)
		if len(got) < len(texts)-8 || len(got) == len(texts) && damaged == 0 && round%3 != 1 {
			t.Fatalf("round %d: %d of %d frames, %d bytes damaged", round, len(got), len(texts), damaged)
		}
		next := 0
		for _, text := range got { // in order, each what was written
			i := slices.Index(texts[next:], text)
			if i < 0 {
				t.Fatalf("round %d: %q was never written there", round, text)
			}
			next += i + 1
		}
		if len(names) > 1 && l.Generation() != generation {
			t.Fatalf("round %d: the generation is %s, was %s", round, l.Generation(), generation)
		}
		put(t, l, "goes on")
		l.Close()
	}
}

func TestKeysOutliveTheirFrames(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	clock := func(o *Options) { o.Now = func() time.Time { return now }; o.Limit = 1 << 20 }
	l := open(t, dir, clock)
	if err := l.Append(frame("a", "first"), true); err != nil {
		t.Fatal(err)
	}
	wants := func(why string, text, key string, want error) {
		t.Helper()
		if err := l.Append(frame(text, key), true); !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", why, err, want)
		}
	}
	wants("at once", "a", "first", ErrKnown)
	wants("with other bytes", "b", "first", ErrOther)
	l.Close()
	l = open(t, dir, clock)
	wants("after a restart", "a", "first", ErrKnown)
	wants("with other bytes", "b", "first", ErrOther)
	for range 20 { // several segments
		put(t, l, strings.Repeat("x", 40<<10))
	}
	_, end := l.Bounds()
	if err := l.Trim(end); err != nil {
		t.Fatal(err)
	}
	if first, _ := l.Bounds(); first == 0 {
		t.Fatal("nothing was deleted")
	}
	wants("when its frame is deleted", "a", "first", ErrKnown)
	l.Close()
	l = open(t, dir, clock)
	wants("when its frame is deleted, after a restart", "a", "first", ErrKnown)
	wants("with other bytes", "b", "first", ErrOther)
	now = now.Add(KeysFor + 2*time.Second)
	wants("when it is too old", "a", "first", nil)
}

func TestFullSpoolTakesNothingUntilItIsTrimmed(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.Limit = 1 << 20 })
	text := strings.Repeat("x", 10<<10)
	n := 0
	for {
		err := l.Append(frame(text, ""), true)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil || n > 200 {
			t.Fatal(n, err)
		}
		n++
	}
	if size := l.Size(); size > 1<<20 {
		t.Errorf("it has %d bytes", size)
	}
	texts, _ := contents(t, l, 0)
	if len(texts) != n {
		t.Fatalf("%d frames of %d", len(texts), n)
	}
	_, end := l.Bounds()
	if err := l.Trim(end / 2); err != nil {
		t.Fatal(err)
	}
	put(t, l, text)
	first, _ := l.Bounds()
	if first == 0 || first > end/2 {
		t.Errorf("it begins at %d, of %d only the first half was given up", first, end)
	}
	var gone *GoneError
	if _, err := l.ReadAt(make([]byte, 10), 0); !errors.As(err, &gone) || gone.To != first {
		t.Errorf("what is deleted reads as %v", err)
	}
}

func TestMissingSegmentIsGoneAndOffsetsGoOn(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) { o.Limit = 1 << 20 }
	l := open(t, dir, small)
	for i := range 20 {
		put(t, l, fmt.Sprint(i, strings.Repeat("x", 30<<10)))
	}
	_, end := l.Bounds()
	l.Close()
	names := segments(t, dir)
	if err := os.Remove(names[1]); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, small)
	at, read := int64(0), 0
	buf := make([]byte, 100<<10)
	lost := int64(0)
	for {
		n, err := l.ReadAt(buf, at)
		var gone *GoneError
		if errors.As(err, &gone) {
			lost += gone.To - at
			at = gone.To
			continue
		}
		read += n
		at += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if at != end || lost == 0 || int64(read)+lost != end {
		t.Errorf("read %d, lost %d, at %d of %d", read, lost, at, end)
	}
	l.Close()
	// All gone, but an output has got to the end: no offset is used twice.
	for _, name := range segments(t, dir) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, dir, small, func(o *Options) { o.NotBefore = func(string) int64 { return end } })
	if first, _ := l.Bounds(); first != end {
		t.Errorf("a new spool begins at %d, want %d", first, end)
	}
}

func TestSyncThatFailsTakesBackWhatWasNotDurable(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	put(t, l, "durable")
	broken := errors.New("input/output error")
	l.mu.Lock()
	l.sync = func(*os.File) error { return broken }
	l.mu.Unlock()
	if err := l.Append(frame("lost", "key"), true); !errors.Is(err, broken) {
		t.Fatalf("the answer is %v", err)
	}
	l.mu.Lock()
	l.sync = syncData
	l.mu.Unlock()
	if err := l.Append(frame("lost", "key"), true); err != nil {
		t.Fatalf("sent again: %v", err)
	}
	l.Close()
	l = open(t, dir)
	if texts, damaged := contents(t, l, 0); !slices.Equal(texts, []string{"durable", "lost"}) || damaged > 0 {
		t.Errorf("%q, %d bytes damaged", texts, damaged)
	}
}

// TestPowerCutsKeepWhatWasAnswered lets senders append while the disk keeps only what
// was synced: at random moments the machine "loses power", and what is on disk then has
// every frame that was answered, and a sender that repeats the others has each once.
func TestPowerCutsKeepWhatWasAnswered(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 9))
	answered := make(map[string]bool)
	for round := range 12 {
		var mu sync.Mutex
		synced := make(map[string]int64)
		l := open(t, dir, func(o *Options) { o.Limit = 4 << 20 })
		for _, s := range l.segments {
			synced[s.path] = s.end - s.base
		}
		l.mu.Lock()
		l.sync = func(f *os.File) error {
			info, err := f.Stat() // at least so much is synced
			if err == nil {
				err = syncData(f)
			}
			mu.Lock()
			defer mu.Unlock()
			synced[f.Name()] = info.Size()
			return err
		}
		l.mu.Unlock()
		var senders sync.WaitGroup
		stop := make(chan struct{})
		for sender := range 8 {
			senders.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprintf("r%d s%d i%d", round, sender, i)
					if err := l.Append(frame(name+strings.Repeat(" x", 500), name), true); err != nil {
						return
					}
					mu.Lock()
					answered[name] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(2+rng.IntN(20)) * time.Millisecond) // the random moment
		// The cut: what the files have now, and of what is not synced only a part.
		mu.Lock()
		sure := maps.Clone(answered)
		lengths := maps.Clone(synced)
		copies := make(map[string][]byte)
		for _, name := range segments(t, dir) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			n, known := lengths[name]
			if !known {
				continue // its name was not synced either, or nothing of it
			}
			for i := int(n); i < len(data); i += 512 {
				if rng.IntN(2) == 0 {
					clear(data[i:min(i+512, len(data))])
				}
			}
			copies[name] = data
		}
		mu.Unlock()
		close(stop)
		senders.Wait()
		l.Close()
		for _, name := range segments(t, dir) {
			if data, ok := copies[name]; ok {
				if err := os.WriteFile(name, data, 0o600); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		answered = sure
		after := open(t, dir, func(o *Options) { o.Limit = 64 << 20 })
		for name := range sure { // some repeat: the answer may have been lost on its way
			if rng.IntN(3) > 0 {
				continue
			}
			if err := after.Append(frame(name+strings.Repeat(" x", 500), name), true); !errors.Is(err, ErrKnown) {
				t.Fatalf("round %d: %s is repeated and not known: %v", round, name, err)
			}
		}
		texts, _ := contents(t, after, 0)
		found := make(map[string]int)
		for _, text := range texts {
			name, _, _ := strings.Cut(text, " x")
			found[name]++
		}
		for name := range sure {
			if found[name] != 1 {
				t.Fatalf("round %d: %s was answered and is there %d times", round, name, found[name])
			}
		}
		for name, n := range found {
			if n > 1 {
				t.Fatalf("round %d: %s is there %d times", round, name, n)
			}
		}
		after.Close()
	}
	if len(answered) < 100 {
		t.Errorf("only %d frames were answered", len(answered))
	}
}

// TestSyncWaitsForWhatNobodyWaitedFor: what was appended without wait is seen after Sync, and
// a disk that fails is told.
func TestSyncWaitsForWhatNobodyWaitedFor(t *testing.T) {
	l := open(t, t.TempDir())
	broken := errors.New("input/output error")
	fail, disk := false, make(chan struct{})
	l.mu.Lock()
	l.sync = func(f *os.File) error {
		<-disk
		if fail {
			return broken
		}
		return syncData(f)
	}
	l.mu.Unlock()
	for _, text := range []string{"a", "b", "c"} {
		if err := l.Append(frame(text, ""), false); err != nil {
			t.Fatal(err)
		}
	}
	if texts, _ := contents(t, l, 0); len(texts) > 0 {
		t.Errorf("%q are seen before they are on disk", texts)
	}
	synced := make(chan error)
	go func() { synced <- l.Sync() }()
	disk <- struct{}{} // of what the first sync found
	select {
	case disk <- struct{}{}: // and of what came after
		if err := <-synced; err != nil {
			t.Fatal(err)
		}
	case err := <-synced:
		if err != nil {
			t.Fatal(err)
		}
	}
	if texts, _ := contents(t, l, 0); !slices.Equal(texts, []string{"a", "b", "c"}) {
		t.Errorf("%q are on disk", texts)
	}
	if err := l.Sync(); err != nil {
		t.Errorf("with nothing to do: %v", err)
	}
	fail = true
	close(disk)
	l.Append(frame("d", ""), false)
	if err := l.Sync(); err != nil && !errors.Is(err, broken) {
		t.Errorf("a disk that fails is told as %v", err)
	}
}

func TestManySendersShareOneSync(t *testing.T) {
	l := open(t, t.TempDir())
	var mu sync.Mutex
	syncs := 0
	l.mu.Lock()
	l.sync = func(f *os.File) error {
		mu.Lock()
		syncs++
		mu.Unlock()
		return syncData(f)
	}
	l.mu.Unlock()
	var senders sync.WaitGroup
	for i := range 64 {
		senders.Go(func() {
			for j := range 20 {
				if err := l.Append(frame(fmt.Sprint(i, " ", j), ""), true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	texts, _ := contents(t, l, 0)
	slices.Sort(texts)
	if len(slices.Compact(texts)) != 64*20 {
		t.Errorf("%d of %d frames are there", len(texts), 64*20)
	}
	if syncs > 64*20/2 {
		t.Errorf("%d syncs for %d frames", syncs, 64*20)
	}
}

// FuzzSpool: no bytes make reading fail otherwise than by saying so, and each step goes
// on.
func FuzzSpool(f *testing.F) {
	good := frame("hello", "key")
	good.seal(0)
	f.Add(good.Buf)
	two := append(slices.Clone(good.Buf), good.Buf...)
	two[70] ^= 4
	f.Add(two)
	f.Add(AppendRecord(nil, &Record{Time: 5, Fields: AppendField(nil, "k", []byte("v"), 0), Text: []byte("t")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for rest := data; len(rest) > 0; {
			v, _, err := Parse(rest)
			n := v.Size
			if err != nil || n == 0 {
				n = Resync(rest)
			}
			if n <= 0 || n > len(rest) {
				t.Fatalf("a step of %d bytes in %d", n, len(rest))
			}
			rest = rest[n:]
		}
		var r Record
		for rest := data; len(rest) > 0; {
			n, err := ParseRecord(rest, &r)
			if err != nil {
				break
			}
			if again := AppendRecord(nil, &r); !bytes.Equal(again, rest[:n]) && len(again) > n {
				t.Fatalf("%q is written as %q", rest[:n], again)
			}
			for fields := r.Fields; ; {
				var ok bool
				if _, _, _, fields, ok = ParseField(fields); !ok {
					break
				}
			}
			rest = rest[n:]
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir(), Limit: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	f := frame(strings.Repeat("x", 256<<10), "")
	b.SetBytes(int64(len(f.Buf)))
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(f, false); err != nil {
			b.Fatal(err)
		}
		if l.Size() > 256<<20 {
			_, end := l.Bounds()
			if err := l.Trim(end); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestAFrameThatCouldNotBeReadAgainIsNotTaken: whoever is answered for it would have lost it.
func TestAFrameThatCouldNotBeReadAgainIsNotTaken(t *testing.T) {
	l, err := Open(Options{Dir: t.TempDir(), Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := Begin(nil, Records, "p", Key{1}, 0)
	f.Buf = append(f.Buf, make([]byte, MaxFrame)...)
	if err := l.Append(f, true); !errors.Is(err, ErrLarge) {
		t.Errorf("a frame of %d bytes: %v", len(f.Buf), err)
	}
	f = Begin(nil, Records, "p", Key{1}, 0)
	f.Buf = append(f.Buf, "what fits"...)
	if err := l.Append(f, true); err != nil {
		t.Errorf("the next one under its key: %v", err)
	}
	if _, n, err := Left(l.Dir(), 0); err != nil || n != int64(len(f.Buf)) {
		t.Errorf("%d bytes are left, %v, want %d", n, err, len(f.Buf))
	}
	if _, n, err := Left(l.Dir(), l.Size()); err != nil || n != 0 {
		t.Errorf("%d bytes are left behind the end, %v", n, err)
	}
}
