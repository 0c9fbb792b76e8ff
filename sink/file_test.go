package sink

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// pad is a Notes in memory: what is in it survives a crash that the test plays.
type pad struct {
	entries map[string]json.RawMessage
	crash   func(stored bool) // may panic, as if the process were killed there
	fail    error
}

func (p *pad) Range(f func(key string, value []byte)) {
	for k, v := range p.entries {
		f(k, v)
	}
}

func (p *pad) Commit(entries map[string]json.RawMessage) error {
	if p.fail != nil {
		return p.fail
	}
	if p.crash != nil {
		p.crash(false)
	}
	if p.entries == nil {
		p.entries = make(map[string]json.RawMessage)
	}
	for k, v := range entries {
		if v == nil {
			delete(p.entries, k)
		} else {
			p.entries[k] = v
		}
	}
	if p.crash != nil {
		p.crash(true)
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newFile(t testing.TB, c FileConfig) *File {
	t.Helper()
	if c.Name == "" {
		c.Name = "local"
	}
	if c.Log == nil {
		c.Log = quiet()
	}
	s, err := NewFile(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func restored(t testing.TB, c FileConfig, state json.RawMessage) *File {
	t.Helper()
	s := newFile(t, c)
	if err := s.Restore(state); err != nil {
		t.Fatal(err)
	}
	return s
}

func trySend(s Sink, all ...record.Ref) (res Result) {
	b := &Batch{Refs: all}
	s.Send(context.Background(), b, func(r Result) { res = r })
	return res
}

func send(t testing.TB, s Sink, blocks ...*record.Block) {
	t.Helper()
	if r := trySend(s, refs(blocks...)...); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func commit(t testing.TB, s *File) json.RawMessage {
	t.Helper()
	state, err := s.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// messagesIn returns the messages of the documents in a file, and fails for a line
// that is not one.
func messagesIn(t testing.TB, path string) (all []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, gzipSuffix) {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var doc struct{ Message string }
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			t.Errorf("%s: %v in %q", path, err, lines.Text())
		}
		all = append(all, doc.Message)
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
	return all
}

func want(t testing.TB, path string, messages ...string) {
	t.Helper()
	if got := messagesIn(t, path); !slices.Equal(got, messages) {
		t.Errorf("%s holds %v, want %v", filepath.Base(path), got, messages)
	}
}

func TestDocumentsGoToTheirFilesInOrder(t *testing.T) {
	dir := t.TempDir()
	s := newFile(t, FileConfig{Path: filepath.Join(dir, "{project}", "{date}.ndjson")})
	s.now = func() time.Time { return noon.AddDate(0, 0, 1) }
	pay, shop := docs("pay", "a", "b", "c", "d"), docs("shop", "x", "y")
	all := slices.Concat(refs(pay)[:2], refs(shop), refs(pay)[3:], refs(pay)[2:3])
	if r := trySend(s, all...); r.Err != nil {
		t.Fatal(r.Err)
	}
	want(t, filepath.Join(dir, "pay", "2026.11.23.ndjson"), "a", "b", "d", "c")
	want(t, filepath.Join(dir, "shop", "2026.11.23.ndjson"), "x", "y")
}

func TestRestartCutsBackToTheCheckpoint(t *testing.T) {
	dir := t.TempDir()
	notes := &pad{}
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: notes}
	pay, shop, foreign := filepath.Join(dir, "pay.ndjson"), filepath.Join(dir, "shop.ndjson"), filepath.Join(dir, "other.ndjson")
	if err := os.WriteFile(foreign, []byte(`{"message":"theirs"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a", "b"))
	state := commit(t, s)
	s.Saved()
	send(t, s, docs("pay", "c"), docs("shop", "x"), docs("other", "ours"))
	for range 2 { // killed once, and again before the next checkpoint
		s = restored(t, c, state)
		want(t, pay, "a", "b")
		want(t, shop)
		want(t, foreign, "theirs")
		send(t, s, docs("pay", "c"), docs("shop", "x"), docs("other", "ours"))
	}
	want(t, pay, "a", "b", "c")
	state = commit(t, s)
	s.Saved()
	s = restored(t, c, state)
	want(t, pay, "a", "b", "c")
	want(t, shop, "x")
	want(t, foreign, "theirs", "ours")
	for range 3 {
		commit(t, s)
		s.Saved()
	}
	if len(notes.entries) != 0 {
		t.Errorf("%d notes stay for ever", len(notes.entries))
	}
}

func TestKilledBeforeTheVeryFirstCheckpoint(t *testing.T) {
	dir := t.TempDir()
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}}
	send(t, restored(t, c, nil), docs("pay", "a"))
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a", "b"))
	want(t, filepath.Join(dir, "pay.ndjson"), "a", "b")
}

func TestOlderCheckpointWhenTheNewestIsUnreadable(t *testing.T) {
	dir := t.TempDir()
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}}
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a"))
	older := commit(t, s)
	s.Saved()
	send(t, s, docs("pay", "b"), docs("shop", "x"))
	commit(t, s)
	s.Saved()
	send(t, s, docs("shop", "y"), docs("new", "z"))
	restored(t, c, older)
	want(t, filepath.Join(dir, "pay.ndjson"), "a")
	want(t, filepath.Join(dir, "shop.ndjson"))
	want(t, filepath.Join(dir, "new.ndjson"))
}

// ext4 gives the inode of a deleted file to the next one.
func TestFileDeletedAndBegunAnewWithTheSameInode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}}
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a"))
	before := commit(t, s)
	s.Saved()
	s.Close()
	s = restored(t, c, before)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(t, s, docs("pay", "b", "c", "d"))
	want(t, path, "b", "c", "d")
	after := commit(t, s)
	s.Close()
	restored(t, c, after)
	want(t, path, "b", "c", "d")
	restored(t, c, before)
	want(t, path)
}

func TestSomebodyElsesFileWithTheInodeOfOursIsNotCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}}
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a"))
	state := commit(t, s)
	s.Saved()
	s.Close()
	theirs := strings.Repeat(`{"message":"theirs"}`+"\n", 100)
	if err := os.WriteFile(path, []byte(theirs), 0o600); err != nil { // the same inode
		t.Fatal(err)
	}
	restored(t, c, state)
	if got, err := os.ReadFile(path); err != nil || string(got) != theirs {
		t.Errorf("their file was touched: %d bytes, %v", len(got), err)
	}
}

func TestDeletedWhileRunningLosesNothingSinceTheCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	path := filepath.Join(dir, "pay.ndjson")
	lost := 0
	s := newFile(t, FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Lost: func(n int, _ string) { lost += n }})
	send(t, s, docs("pay", "a"))
	commit(t, s)
	send(t, s, docs("pay", "b"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	send(t, s, docs("pay", "c"))
	want(t, path, "b", "c")
	if err := os.RemoveAll(dir); err != nil { // and the directory, found by the checkpoint
		t.Fatal(err)
	}
	commit(t, s)
	want(t, path, "b", "c")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	commit(t, s)
	if exists(path) {
		t.Error("a file without anything new was begun again")
	}
	if lost != 0 {
		t.Errorf("%d lines counted as lost", lost)
	}
}

func TestDeletedWhileClosedCountsItsLines(t *testing.T) {
	dir := t.TempDir()
	lost := 0
	s := newFile(t, FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), MaxOpen: 4, Lost: func(n int, _ string) { lost += n }})
	send(t, s, docs("p0", "a", "b"))
	for i := range 8 {
		send(t, s, docs(fmt.Sprintf("q%d", i), "x"))
	}
	if err := os.Remove(filepath.Join(dir, "p0.ndjson")); err != nil {
		t.Fatal(err)
	}
	send(t, s, docs("p0", "c"))
	want(t, filepath.Join(dir, "p0.ndjson"), "c")
	if lost != 2 {
		t.Errorf("%d lines counted as lost, want 2", lost)
	}
}

func TestRenamedBySomebodyElseIsCutUnderItsNewName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	c := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}}
	s := restored(t, c, nil)
	clock := time.Now()
	s.now = func() time.Time { clock = clock.Add(2 * time.Second); return clock }
	send(t, s, docs("pay", "a"))
	state := commit(t, s)
	s.Saved()
	send(t, s, docs("pay", "b"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	send(t, s, docs("pay", "c"))
	want(t, path, "c")
	want(t, path+".1", "a", "b")
	restored(t, c, state)
	want(t, path)
	want(t, path+".1", "a")
}

func TestCopiedAndTruncatedBySomebodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pay.ndjson")
	s := newFile(t, FileConfig{Path: path})
	send(t, s, docs("pay", "a", "b"))
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	send(t, s, docs("pay", "c"))
	want(t, path, "c") // and no hole before it
}

func TestTornLineOfSomebodyElseIsNotContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pay.ndjson")
	if err := os.WriteFile(path, []byte(`{"message":"to`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newFile(t, FileConfig{Path: path})
	send(t, s, docs("pay", "a"))
	send(t, s, docs("pay", "b"))
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(got), "\n")
	if len(lines) != 4 || lines[0] != `{"message":"to` || !strings.HasPrefix(lines[1], "{") || !strings.HasPrefix(lines[2], "{") {
		t.Errorf("%q", lines)
	}
}

func TestRotationBySizeAndAge(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	s := newFile(t, FileConfig{Path: path, Rotate: int64(len(docs("pay", "a").Data)) * 2, RotateEvery: time.Hour})
	clock := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return clock }
	for _, m := range []string{"a", "b", "c", "d", "e"} {
		send(t, s, docs("pay", m))
	}
	want(t, path+".20261123T200000", "a", "b")
	want(t, path+".20261123T200000-1", "c", "d")
	want(t, path, "e")
	clock = clock.Add(time.Hour)
	commit(t, s) // also when nothing is written
	want(t, path+".20261123T210000", "e")
	if exists(path) {
		t.Error("an empty file was begun")
	}
	send(t, s, docs("pay", "f"))
	want(t, path, "f")
}

func TestFullDiskLeavesNoPartOfABatch(t *testing.T) {
	dir := tinyDisk(t, 256<<10)
	s := newFile(t, FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: &pad{}})
	send(t, s, docs("pay", "a"), docs("shop", "x"))
	big := docs("shop", strings.Repeat("y", 1<<20))
	r := trySend(s, refs(docs("pay", "b"), big)...)
	if r.Err == nil || r.Reason != "disk_full" || !errors.Is(r.Err, syscall.ENOSPC) || strings.Contains(r.Err.Error(), "\n") {
		t.Errorf("%v (%s)", r.Err, r.Reason)
	}
	want(t, filepath.Join(dir, "pay.ndjson"), "a")
	want(t, filepath.Join(dir, "shop.ndjson"), "x")
	send(t, s, docs("pay", "b"))
	want(t, filepath.Join(dir, "pay.ndjson"), "a", "b")
}

// tinyDisk mounts a file system of that size, which takes root.
func tinyDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mounting a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestBatchToABadPathWritesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop"), nil, 0o600); err != nil { // where a directory must be
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.ndjson"), 0o600); err != nil {
		t.Fatal(err)
	}
	notes := &pad{}
	s := restored(t, FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: notes}, nil)
	bad := restored(t, FileConfig{Name: "bad", Path: filepath.Join(dir, "{project}", "x.ndjson"), Notes: notes}, nil)
	if r := trySend(s, refs(docs("pay", "a"), docs("fifo", "b"))...); r.Err == nil || r.Reason != "io" {
		t.Errorf("a named pipe was taken for a file: %+v", r)
	}
	if r := trySend(bad, refs(docs("shop", "a"))...); r.Err == nil {
		t.Error("wrote below a file")
	}
	notes.fail = errors.New("state: no space left on device")
	if r := trySend(s, refs(docs("pay", "a"))...); r.Err == nil {
		t.Error("wrote without a note")
	}
	want(t, filepath.Join(dir, "pay.ndjson"))
	notes.fail = nil
	send(t, s, docs("pay", "a"))
	want(t, filepath.Join(dir, "pay.ndjson"), "a")
	restored(t, s.FileConfig, nil) // the note was written after all
	want(t, filepath.Join(dir, "pay.ndjson"))
}

func TestManyFilesWithFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	s := newFile(t, FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), MaxOpen: 8, Notes: &pad{}})
	var blocks []*record.Block
	for i := range 50 {
		blocks = append(blocks, docs(fmt.Sprintf("p%d", i), "a"))
	}
	for range 3 {
		send(t, s, blocks...)
		s.mu.Lock()
		open := 0
		for _, o := range s.files {
			if o.f != nil {
				open++
			}
		}
		if open > 8 || open != s.open {
			t.Errorf("%d files are open, %d counted", open, s.open)
		}
		s.mu.Unlock()
		commit(t, s)
	}
	for i := range 50 {
		want(t, filepath.Join(dir, fmt.Sprintf("p%d.ndjson", i)), "a", "a", "a")
	}
}

func TestFailedFsyncIsNotBelievedTheSecondTime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	s := newFile(t, FileConfig{Path: path})
	send(t, s, docs("pay", "a"))
	commit(t, s)
	send(t, s, docs("pay", "b", "c"))
	o := s.files[path]
	o.suspect = true // as a failed fsync leaves it
	commit(t, s)
	if o.suspect || o.dirty {
		t.Error("the file is still suspect")
	}
	want(t, path, "a", "b", "c")

	send(t, s, docs("pay", "d"))
	o.suspect = true
	if err := os.WriteFile(path, make([]byte, o.size), 0o600); err != nil { // what the disk gives back instead
		t.Fatal(err)
	}
	if _, err := s.Commit(); err == nil || !strings.Contains(err.Error(), "restart tailwater") {
		t.Errorf("lost pages were committed: %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRotatedFilesAreCompressedWhenACheckpointHasThem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	c := FileConfig{Path: path, Rotate: 1, Gzip: true, Notes: &pad{}}
	s := restored(t, c, nil)
	s.now = func() time.Time { return noon }
	send(t, s, docs("pay", "a"))
	send(t, s, docs("pay", "b"))
	old := path + ".20261123T120000"
	state := commit(t, s)
	if exists(old + gzipSuffix) {
		t.Error("compressed before the checkpoint was saved")
	}
	// Killed between the save and the word of it, and in the middle of compressing.
	s.Close()
	if err := os.WriteFile(old+".gz.tmp", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = restored(t, c, state)
	commit(t, s)
	s.Saved()
	waitFor(t, "the rotated file is compressed", func() bool { return !exists(old) })
	want(t, old+gzipSuffix, "a")
	want(t, path, "b")
	info, err := os.Stat(old + gzipSuffix)
	if err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestCompressingGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	c := FileConfig{Path: path, Rotate: 1, Gzip: true, Notes: &pad{}}
	s := restored(t, c, nil)
	send(t, s, docs("pay", "a"))
	send(t, s, docs("pay", "b"))
	commit(t, s)
	s.zipStop() // too slow
	s.Saved()
	state := commit(t, s)
	s.Saved()
	s.Close()
	restored(t, c, state)
	waitFor(t, "the rotated file is compressed", func() bool {
		found, err := filepath.Glob(path + ".*.gz")
		return err == nil && len(found) == 1
	})
}

// crashed is what the test panics with where the process is killed.
type crashed struct{}

// Whatever happens, and wherever the process is killed: after the last restart each
// line is in the files exactly once.
func TestRandomCrashesDoubleNothingAndLoseNothing(t *testing.T) {
	for seed := range uint64(150) {
		playCrashes(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func playCrashes(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	notes := &pad{}
	config := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: notes, Rotate: 2000, Gzip: seed%2 == 0, MaxOpen: 4, Fsync: FsyncNever}
	clock := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	projects := []string{"a", "b", "c", "d", "e", "f", "g"}[:1+rng.IntN(7)]

	var saved json.RawMessage // the checkpoint: the sink's state and the position
	savedAt := 0
	at := 0 // the next line
	var s *File
	begin := func() {
		s = restored(t, config, saved)
		s.now = func() time.Time { return clock }
		at = savedAt
	}
	write := func() {
		var blocks []*record.Block
		n := at
		for range 1 + rng.IntN(4) {
			b := docs(projects[rng.IntN(len(projects))], fmt.Sprint(n), fmt.Sprint(n+1))
			blocks, n = append(blocks, b), n+2
		}
		send(t, s, blocks...)
		at = n
	}
	step := func() (killed bool) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(crashed); !ok {
					panic(r)
				}
				killed = true
			}
		}()
		clock = clock.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
		switch rng.IntN(10) {
		default:
			write()
		case 0, 1:
			state, atCommit := commit(t, s), at
			for range rng.IntN(3) { // deliveries go on while the checkpoint is saved
				write()
			}
			switch rng.IntN(4) {
			case 0: // the save fails
			case 1: // killed right after it
				saved, savedAt = state, atCommit
				return true
			default:
				saved, savedAt = state, atCommit
				s.Saved()
			}
		case 2:
			path := filepath.Join(dir, projects[rng.IntN(len(projects))]+".ndjson")
			if err := os.Rename(path, fmt.Sprintf("%s.old%d", path, rng.IntN(1000000))); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			clock = clock.Add(time.Second) // so that it is noticed
		case 3:
			return rng.IntN(3) == 0
		}
		return false
	}
	notes.crash = func(bool) {
		if rng.IntN(20) == 0 {
			panic(crashed{})
		}
	}
	begin()
	for range 60 {
		if step() {
			s.Close()
			begin()
		}
	}
	notes.crash = nil
	for range 2 {
		saved, savedAt = commit(t, s), at
		s.Saved()
	}
	s.zipping.Wait()
	s.Close()
	begin()
	s.Close()
	checkOnce(t, dir, at)
}

func checkOnce(t *testing.T, dir string, lines int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, e := range entries {
		for _, m := range messagesIn(t, filepath.Join(dir, e.Name())) {
			count[m]++
		}
	}
	for i := range lines {
		if n := count[fmt.Sprint(i)]; n != 1 {
			t.Errorf("line %d of %d is there %d times", i, lines, n)
		}
		delete(count, fmt.Sprint(i))
	}
	for _, m := range slices.Sorted(maps.Keys(count)) {
		t.Errorf("line %s is there although it was never acknowledged", m)
	}
}

func bigBlock(project string, bytes int) *record.Block {
	b := docs(project)
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Project: project})
	var r record.Record
	message := []byte(strings.Repeat("GET /api/v1/orders 200 0.012 ", 5))
	for len(b.Data) < bytes {
		r.Reset()
		r.Put("message", message, record.Text)
		b.Append(o, &r, time.Now().UnixMilli(), true, int64(len(b.Data)))
	}
	return b
}

func TestWritingADocumentDoesNotAllocate(t *testing.T) {
	s := newFile(t, FileConfig{Path: filepath.Join(t.TempDir(), "{project}.ndjson")})
	all := refs(bigBlock("pay", 64<<10), bigBlock("shop", 64<<10))
	batch := &Batch{Refs: all}
	done := func(r Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	perBatch := testing.AllocsPerRun(50, func() { s.Send(context.Background(), batch, done) })
	if perDoc := perBatch / float64(len(all)); perDoc > 0.02 {
		t.Errorf("%v allocations per batch of %d documents", perBatch, len(all))
	}
}

func BenchmarkFileSend(b *testing.B) {
	for _, kind := range []struct {
		name  string
		batch []record.Ref
	}{
		{"one", refs(bigBlock("pay", 256<<10), bigBlock("pay", 256<<10))},
		{"alternating", alternate(refs(bigBlock("pay", 256<<10)), refs(bigBlock("shop", 256<<10)))},
	} {
		b.Run(kind.name, func(b *testing.B) {
			dir := b.TempDir()
			s := newFile(b, FileConfig{Path: filepath.Join(dir, "{project}.ndjson")})
			batch := &Batch{Refs: kind.batch}
			for _, r := range batch.Refs {
				batch.Bytes += len(r.JSON()) + 1
			}
			b.SetBytes(int64(batch.Bytes))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s.Send(context.Background(), batch, func(r Result) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				})
				if n++; n%500 == 0 { // so that the disk is not filled
					for _, p := range []string{"pay", "shop"} {
						_ = os.Truncate(filepath.Join(dir, p+".ndjson"), 0)
					}
				}
			}
		})
	}
}

func alternate(a, b []record.Ref) (all []record.Ref) {
	for i := range min(len(a), len(b)) {
		all = append(all, a[i], b[i])
	}
	return all
}
