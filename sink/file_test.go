package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/record"
)

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

func TestNotesInAJournal(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	path := filepath.Join(out, "pay.ndjson")
	var state json.RawMessage
	for range 3 {
		j, err := journal.Open(dir, "state", quiet())
		if err != nil {
			t.Fatal(err)
		}
		s := restored(t, FileConfig{Path: path, Notes: j}, state)
		send(t, s, docs("pay", "a"))
		if state == nil {
			state = commit(t, s)
			s.Saved()
		}
		send(t, s, docs("pay", "lost"))
		s.Close()
		if err := os.Rename(path, path+".moved"); err != nil { // so that only a note tells of the next
			t.Fatal(err)
		}
		s = restored(t, FileConfig{Path: path, Notes: j}, state)
		send(t, s, docs("pay", "new"))
		s.Close()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if j, err = journal.Open(dir, "state", quiet()); err != nil {
			t.Fatal(err)
		}
		restored(t, FileConfig{Path: path, Notes: j}, state)
		want(t, path)
		want(t, path+".moved", "a")
		if err := errors.Join(j.Close(), os.Remove(path), os.Rename(path+".moved", path)); err != nil {
			t.Fatal(err)
		}
		restored(t, FileConfig{Path: path}, state)
		want(t, path, "a")
	}
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
	s.Prepare()
	if o.suspect || !o.dirty {
		t.Error("Prepare took the place of Commit")
	}
	s.suspect(o.ino) // as a failed fsync leaves it
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

// TestACompressedFileWithTheInodeOfAFormerOneIsLeftAlone: the plain file is deleted when it
// is compressed, and the file system gives its inode to the next .gz.
func TestACompressedFileWithTheInodeOfAFormerOneIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pay.ndjson")
	rotated := path + ".20261123T120000"
	content := []byte("\x1f\x8b and what follows")
	for _, name := range []string{rotated + "-1.gz", rotated + "-2.gz.tmp", rotated + ".zst"} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		entries := []fileEntry{{Path: rotated, Ino: inodeOf(info), Renamed: true, Rotated: true}}
		if !strings.HasSuffix(name, ".zst") { // which somebody else may have given to our own file
			entries = append(entries, fileEntry{Path: path, Ino: inodeOf(info)})
		}
		for _, e := range entries {
			state, err := json.Marshal(fileState{Version: fileStateVersion, Period: 3, Files: []fileEntry{e}})
			if err != nil {
				t.Fatal(err)
			}
			s := restored(t, FileConfig{Path: path, Gzip: true, Notes: &pad{}}, state)
			commit(t, s)
			s.Saved()
			s.Close()
			if got, err := os.ReadFile(name); err != nil || string(got) != string(content) {
				t.Errorf("%s holds %q, %v for %+v", filepath.Base(name), got, err, e)
			}
		}
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
