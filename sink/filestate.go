package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

// fileState is what a checkpoint holds for a file output.
type fileState struct {
	Version int    `json:"v"`
	Period  uint64 `json:"period"` // everything up to it is in here
	// Files are those that are open or have changed since the checkpoint before.
	Files []fileEntry `json:"files"`
	// Compress are rotated files that are final and not compressed yet.
	Compress []string `json:"compress,omitempty"`
}

type fileEntry struct {
	Path  string `json:"path"`
	Ino   uint64 `json:"ino"`
	Len   int64  `json:"len"`
	Tail  uint32 `json:"tail"`  // record.TailSum of what ends at Len
	Since int64  `json:"since"` // Unix seconds
	// Renamed files are not appended to again; Rotated ones were renamed by us.
	Renamed bool `json:"renamed,omitempty"`
	Rotated bool `json:"rotated,omitempty"`
}

const fileStateVersion = 1

// note is a file of which no checkpoint tells yet: Path is Ino, and has held Len
// bytes before us. It is durable before the first byte is written to the file.
type note struct {
	Period  uint64 `json:"period"`
	Path    string `json:"path"`
	Ino     uint64 `json:"ino"`
	Len     int64  `json:"len,omitempty"`
	Tail    uint32 `json:"tail,omitempty"` // record.TailSum of what ends at Len
	Created bool   `json:"created,omitempty"`
}

func (s *File) notePrefix() string { return "output/" + s.Name + "/" }

// note stores notes durably.
func (s *File) note(notes ...note) error {
	if s.Notes == nil || len(notes) == 0 {
		return nil
	}
	entries := make(map[string]json.RawMessage, len(notes))
	for _, n := range notes {
		n.Period = s.period
		value, err := json.Marshal(n)
		if err != nil {
			return err
		}
		s.noteSeq++
		entries[fmt.Sprintf("%s%016x", s.notePrefix(), s.noteSeq)] = value
	}
	if err := s.Notes.Commit(entries); err != nil {
		return fmt.Errorf("note the files to be written: %w", err)
	}
	for key := range entries {
		s.notes[key] = s.period
	}
	return nil
}

// readNotes returns the stored notes in their order.
func (s *File) readNotes() (notes []note) {
	if s.Notes == nil {
		return nil
	}
	byKey := make(map[string]note)
	s.Notes.Range(func(key string, value []byte) {
		seq, ok := strings.CutPrefix(key, s.notePrefix())
		var n note
		if !ok || json.Unmarshal(value, &n) != nil {
			return
		}
		byKey[key] = n
		s.notes[key] = n.Period
		var at uint64
		if _, err := fmt.Sscanf(seq, "%x", &at); err == nil {
			s.noteSeq = max(s.noteSeq, at)
		}
	})
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		notes = append(notes, byKey[key])
	}
	return notes
}

// Restore implements Committer: it cuts each file back to the length it had when
// state was made. A file that is neither in the state nor in the notes is not ours,
// or has not changed since, and is left as it is.
func (s *File) Restore(state json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st fileState
	if len(state) > 0 {
		if err := json.Unmarshal(state, &st); err != nil {
			return fmt.Errorf("output %s: its saved state is unreadable: %w", s.Name, err)
		}
		if st.Version != fileStateVersion {
			return fmt.Errorf("output %s: its saved state has version %d and this tailwater reads %d; install the version that wrote it", s.Name, st.Version, fileStateVersion)
		}
	}
	s.period, s.saved = st.Period+1, st.Period
	notes := s.readNotes()
	for _, n := range notes {
		s.period = max(s.period, n.Period+1)
	}
	for _, e := range wanted(st, notes) {
		if err := s.restore(e); err != nil {
			return fmt.Errorf("output %s: cut %s back to the %d bytes of the last checkpoint: %w", s.Name, e.Path, e.Len, err)
		}
	}
	s.pending = st.Compress
	s.compressLocked()
	return nil
}

// wanted plays the notes that are newer than the state on top of it: the files as
// they must become.
func wanted(st fileState, notes []note) []fileEntry {
	all := st.Files
	for _, n := range notes {
		if n.Period <= st.Period {
			continue
		}
		at := slices.IndexFunc(all, func(e fileEntry) bool { return e.Ino == n.Ino && e.Path == n.Path })
		if at >= 0 && !n.Created {
			if n.Len < all[at].Len {
				all[at].Len, all[at].Tail = n.Len, n.Tail
			}
			continue
		}
		// A file that we created has none of the inode's earlier content: the file
		// system gives a deleted file's inode to the next one.
		all = slices.DeleteFunc(all, func(e fileEntry) bool { return n.Created && e.Ino == n.Ino })
		all = append(all, fileEntry{Path: n.Path, Ino: n.Ino, Len: n.Len, Tail: n.Tail})
	}
	return all
}

// restore finds the file, under its name or the one that a rotation since then gave
// it, cuts it, and knows it from then on.
func (s *File) restore(t fileEntry) error {
	path := t.Path
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || inodeOf(info) != t.Ino {
		sibling, ok := findInode(path, t.Ino)
		if t.Renamed && exists(path+gzipSuffix) {
			return nil
		}
		if !ok || t.Renamed {
			s.Log.Info("an output's file of the last checkpoint is gone; it was deleted, moved away or compressed", "output", s.Name, "file", path)
			return nil
		}
		path = sibling
	}
	f, err := os.OpenFile(path, appendOnly, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	o := &outFile{path: path, ino: t.Ino, size: t.Len, committed: t.Len, tail: t.Tail, since: time.Unix(t.Since, 0), period: s.period, rotated: t.Rotated}
	if t.Since == 0 {
		o.since = info.ModTime()
	}
	switch size := info.Size(); {
	case size >= t.Len && tailOf(f, t.Len) != t.Tail, size > t.Len && t.Renamed: // which was final
		s.Log.Error("a file has the inode of an output's file and another content; it is taken for somebody else's and left as it is", "output", s.Name, "file", path)
		return nil
	case size > t.Len:
		if err := f.Truncate(t.Len); err != nil {
			return err
		}
		o.dirty = true
		s.Log.Info("an output's file was cut back to the last checkpoint; those lines are sent again", "output", s.Name, "file", path, "bytes", size-t.Len)
	case size < t.Len:
		s.Log.Error("an output's file holds less than the last checkpoint counted; somebody cut it, or it was not on the disk", "output", s.Name, "file", path, "bytes", size, "expected", t.Len)
		o.size, o.committed, o.dirty = size, size, true
	}
	o.needsNewline = !endsLine(f, o.size)
	if t.Renamed || path != t.Path {
		o.rotated = o.rotated || isRotatedName(t.Path, path)
		s.left = append(s.left, o)
	} else {
		s.files[path] = o
	}
	return nil
}

// Prepare implements Committer: it forces out what is written so far, so that the
// Commit that follows has little left to wait for.
func (s *File) Prepare() {
	if s.Fsync == FsyncNever {
		return
	}
	type openFile struct {
		f   *os.File
		ino uint64
	}
	var dirty []openFile
	s.mu.Lock()
	for _, o := range s.files {
		if o.dirty && !o.suspect && o.f != nil {
			dirty = append(dirty, openFile{o.f, o.ino})
		}
	}
	s.mu.Unlock()
	for _, d := range dirty {
		// A file that was closed in the meantime is Commit's.
		if err := d.f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			s.suspect(d.ino)
		}
	}
}

// suspect notes that the kernel has told of a failed fsync, which it does once:
// Commit must not believe its own.
func (s *File) suspect(ino uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.files {
		o.suspect = o.suspect || o.ino == ino
	}
	for _, o := range s.left {
		o.suspect = o.suspect || o.ino == ino
	}
}

// Commit implements Committer. It fsyncs what has changed, unless told not to.
func (s *File) Commit() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if err := s.settleAll(now); err != nil {
		return nil, fmt.Errorf("output %s: %w; its positions stay at the checkpoint before", s.Name, err)
	}
	st := fileState{Version: fileStateVersion, Period: s.period, Files: []fileEntry{}}
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		o := s.files[path]
		if o.f == nil && o.period <= s.saved {
			delete(s.files, path) // its next write is preceded by a note
			continue
		}
		st.Files = append(st.Files, o.entry(false))
		o.committedNow()
	}
	for _, o := range s.left {
		st.Files = append(st.Files, o.entry(true))
		o.committedNow()
	}
	st.Compress = s.pending
	state, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	s.period++
	return state, nil
}

func (o *outFile) entry(renamed bool) fileEntry {
	return fileEntry{Path: o.path, Ino: o.ino, Len: o.size, Tail: o.tail, Since: o.since.Unix(), Renamed: renamed, Rotated: o.rotated}
}

func (o *outFile) committedNow() { o.committed, o.sum, o.lines = o.size, 0, 0 }

// settleAll makes all files what they are recorded as, on the disk.
func (s *File) settleAll(now time.Time) error {
	for path, o := range s.files {
		if err := s.rotateIfAged(o, now); err != nil {
			return err
		}
		if o.ino == 0 {
			delete(s.files, path)
		}
	}
	for path, o := range s.files {
		if !o.dirty && !o.torn && o.f == nil {
			continue
		}
		o.looked = time.Time{}
		here, err := s.look(o, now)
		if err != nil {
			return err
		}
		if !here {
			delete(s.files, path)
			continue
		}
		if err := s.sync(o); err != nil {
			return err
		}
	}
	if err := s.settleLeft(); err != nil {
		return err
	}
	for dir := range s.dirs {
		if s.Fsync != FsyncNever {
			if err := atomicfile.SyncDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		delete(s.dirs, dir)
	}
	return nil
}

// settleLeft makes the renamed files final. They need no descriptor afterwards.
func (s *File) settleLeft() error {
	for _, o := range s.left {
		if !o.dirty && !o.torn {
			continue
		}
		err := s.reopen(o)
		if errors.Is(err, errElsewhere) {
			if o.lines > 0 {
				s.lost(o, "deleted")
			}
			o.dirty, o.torn = false, false
			continue
		}
		if err == nil {
			err = s.mend(o)
		}
		if err == nil {
			err = s.sync(o)
		}
		if err == nil {
			err = s.closeFile(o)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.path, err)
		}
	}
	return nil
}

// sync forces the file to the disk. When the kernel says that it could not, it also
// forgets that it did not: the pages count as clean then. So they are written once
// more, if they still are what we wrote, before the next try is believed.
func (s *File) sync(o *outFile) error {
	if !o.dirty {
		return nil
	}
	if s.Fsync != FsyncNever {
		if o.suspect {
			if err := o.rewrite(); err != nil {
				return err
			}
		}
		if err := o.f.Sync(); err != nil {
			o.suspect = true
			return err
		}
	}
	o.suspect, o.dirty, o.tail = false, false, tailOf(o.f, o.size)
	return nil
}

// rewrite writes the file's uncommitted bytes over themselves.
func (o *outFile) rewrite() error {
	f, err := os.OpenFile(o.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || inodeOf(info) != o.ino {
		return errors.Join(fmt.Errorf("%s: %w", o.path, errElsewhere), err)
	}
	sum, buf := uint32(0), make([]byte, 256<<10)
	for at := o.committed; at < o.size; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), o.size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) || n == 0 {
			return fmt.Errorf("read %s again after a failed fsync: %w", o.path, errors.Join(err, io.ErrUnexpectedEOF))
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	if sum != o.sum {
		return fmt.Errorf("%s: the disk lost what was written to it; restart tailwater: it cuts the file back to the last checkpoint and sends the lines again", o.path)
	}
	return nil
}

// Saved implements Committer: what had to be kept to get back behind the last
// Commit goes. One generation more is kept, for a checkpoint that turns out to be
// unreadable.
func (s *File) Saved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.saved
	s.saved = s.period - 1
	s.pruneNotes(before)
	now := s.now()
	for path, o := range s.files {
		if o.f != nil && o.period <= s.saved && now.Sub(o.written) > closeIdleAfter {
			if err := s.closeFile(o); err != nil {
				s.Log.Debug("closing an idle file", "file", path, "error", err)
			}
		}
	}
	s.left = slices.DeleteFunc(s.left, func(o *outFile) bool {
		if o.period > s.saved {
			return false
		}
		if o.rotated && s.Gzip && !strings.HasSuffix(o.path, gzipSuffix) {
			s.pending = append(s.pending, o.path)
		}
		return true
	})
	s.compressLocked()
}

func (s *File) pruneNotes(upTo uint64) {
	old := make(map[string]json.RawMessage)
	for key, period := range s.notes {
		if period <= upTo {
			old[key] = nil
		}
	}
	if len(old) == 0 {
		return
	}
	if err := s.Notes.Commit(old); err != nil {
		s.Log.Warn("old notes of an output stay in the state directory for now", "output", s.Name, "error", err)
		return
	}
	for key := range old {
		delete(s.notes, key)
	}
}
