package sink

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
	"github.com/tailwater/tailwater/record"
)

// outFile is one file of a File. It is known by its inode: the path may come to name
// another one.
type outFile struct {
	path string
	f    *os.File // nil while closed
	ino  uint64   // 0 while it has not been opened yet

	size      int64 // of the whole batches in it
	committed int64 // what the last Commit counted
	lines     int   // in [committed, size)
	sum       uint32
	inFile    int64 // size, and what is written of the batch under way
	inSum     uint32

	tail    uint32    // record.TailSum of what ends at committed
	since   time.Time // begun
	looked  time.Time // the path was last compared with the inode
	written time.Time
	used    uint64
	period  uint64 // in which it last changed

	created      bool // by us, empty
	needsNewline bool // what somebody else wrote into it ends inside a line
	torn         bool // it may hold more than size
	dirty        bool // it may hold more than the disk
	suspect      bool // an fsync failed: what the disk holds of [committed, size) is unknown
	rotated      bool // renamed by us

	// Of the batch under way:
	runs     [][]byte
	runLines int
	inBatch  bool
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errElsewhere = errors.New("the path names another file now")

func (o *outFile) begun() note {
	return note{Path: o.path, Ino: o.ino, Len: o.size, Tail: o.tail, Created: o.created}
}

func (o *outFile) runBytes() (n int64) {
	for _, run := range o.runs {
		n += int64(len(run))
	}
	return n
}

func (o *outFile) rewind() { o.inFile, o.inSum = o.size, o.sum }

func (o *outFile) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := o.f.Write(b)
	o.inFile += int64(n)
	o.inSum = crc32.Update(o.inSum, castagnoli, b[:n])
	return err
}

// grow makes the batch under way part of the file.
func (o *outFile) grow(period uint64, now time.Time) {
	o.size, o.sum = o.inFile, o.inSum
	o.lines += o.runLines
	o.needsNewline, o.dirty = false, true
	o.period, o.written = period, now
}

// detach gives what is known of the file to a new outFile, under the path that it
// has now, and makes o blank but for its path and its batch.
func (o *outFile) detach(path string) *outFile {
	gone := *o
	gone.path, gone.runs, gone.runLines, gone.inBatch = path, nil, 0, false
	*o = outFile{path: o.path, runs: o.runs, runLines: o.runLines, inBatch: o.inBatch}
	return &gone
}

func inodeOf(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
func linksOf(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

// ready makes o the open file of its path, whatever others have done to it since
// the last look. isNew tells that it is one that no note speaks of yet.
func (s *File) ready(o *outFile, now time.Time) (isNew bool, err error) {
	if o.ino != 0 {
		here, err := s.look(o, now)
		if err != nil || here {
			return false, err
		}
	}
	return true, s.begin(o, now)
}

// look finds out what others did to the file. It returns false when o is blank now,
// because its file has moved on.
func (s *File) look(o *outFile, now time.Time) (here bool, err error) {
	if err := s.reopen(o); err != nil {
		if !errors.Is(err, errElsewhere) {
			return false, err
		}
		s.abandonClosed(o)
		return false, nil
	}
	info, err := o.f.Stat()
	if err != nil {
		return false, err
	}
	if linksOf(info) == 0 && o.size > o.committed {
		return s.revive(o, now)
	}
	if linksOf(info) == 0 { // somebody cleans up: nothing of it is missing
		s.forget(o)
		return false, nil
	}
	if now.Sub(o.looked) >= lookAgainAfter || now.Before(o.looked) {
		at, err := os.Stat(o.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if err != nil || inodeOf(at) != o.ino {
			s.leave(o)
			return false, nil
		}
		o.looked = now
	}
	if err := s.mend(o); err != nil {
		return false, err
	}
	if size := info.Size(); size != o.size && !o.torn {
		s.adopt(o)
	}
	return true, nil
}

// adopt takes the length that somebody else gave the file.
func (s *File) adopt(o *outFile) {
	info, err := o.f.Stat()
	if err != nil || info.Size() == o.size {
		return
	}
	size := info.Size()
	s.Log.Warn("somebody else writes to or cuts an output's file; a restart after a crash may lose or double lines in it", "output", s.Name, "file", o.path, "bytes", size, "expected", o.size)
	if size < o.size && o.lines > 0 {
		s.lost(o, "truncated")
	}
	// Nothing can be said about what is there: it is taken as it is.
	o.size, o.committed, o.sum = size, size, 0
	o.period, o.dirty = s.period, true
	o.needsNewline = !endsLine(o.f, size)
}

func (s *File) lost(o *outFile, reason string) {
	s.Log.Error("lines that no checkpoint had yet are gone with their file", "output", s.Name, "file", o.path, "lines", o.lines, "reason", reason)
	s.Lost(o.lines, reason)
	o.lines = 0
}

// leave lets go of a file that somebody renamed: its lines are where it is now.
func (s *File) leave(o *outFile) {
	path := o.path
	if sibling, ok := findInode(o.path, o.ino); ok {
		path = sibling
	}
	s.Log.Warn("an output's file was renamed by somebody else; a new one is begun", "output", s.Name, "file", o.path, "now", path)
	s.left = append(s.left, o.detach(path))
	s.dirs[filepath.Dir(path)] = true
}

// abandonClosed is leave for a file that is not open: it may have been deleted.
func (s *File) abandonClosed(o *outFile) {
	if _, ok := findInode(o.path, o.ino); ok {
		s.leave(o)
		return
	}
	if o.lines > 0 {
		s.lost(o, "deleted")
	}
	o.detach(o.path)
}

// revive begins a deleted file anew with what no checkpoint has of it: it can still
// be read through the open descriptor.
func (s *File) revive(o *outFile, now time.Time) (here bool, err error) {
	next := &outFile{path: o.path}
	if err := s.begin(next, now); err != nil {
		return false, err
	}
	if err := s.note(next.begun()); err != nil {
		s.forget(next)
		return false, err
	}
	next.rewind()
	if next.needsNewline {
		err = next.write([]byte{'\n'})
	}
	if err == nil {
		err = next.copyFrom(io.NewSectionReader(o.f, o.committed, o.size-o.committed))
	}
	if err != nil {
		err = errors.Join(err, next.f.Truncate(next.size))
		s.forget(next)
		return false, fmt.Errorf("begin the deleted %s anew: %w", o.path, err)
	}
	s.Log.Warn("an output's file was deleted; a new one is begun with the lines that no checkpoint had", "output", s.Name, "file", o.path, "lines", o.lines)
	next.runLines = o.lines
	next.grow(s.period, now)
	next.runs, next.runLines, next.inBatch = o.runs, o.runLines, o.inBatch
	if err := s.closeFile(o); err != nil {
		s.Log.Debug("closing a deleted file", "file", o.path, "error", err)
	}
	*o = *next
	return true, nil
}

func (o *outFile) copyFrom(r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if werr := o.write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// begin opens o's path for the first time: a file that is there is appended to.
func (s *File) begin(o *outFile, now time.Time) error {
	s.makeRoom()
	f, created, err := openOrCreate(o.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", o.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.open++
	o.f, o.ino, o.created = f, inodeOf(info), created
	o.size, o.committed = info.Size(), info.Size()
	o.since, o.looked, o.written = now, now, now
	o.needsNewline, o.tail = !endsLine(f, o.size), tailOf(f, o.size)
	if created {
		s.dirs[filepath.Dir(o.path)] = true
	} else if o.size > 0 {
		o.since = info.ModTime()
	}
	s.touch(o)
	return nil
}

// appendOnly: O_APPEND, so that a file which somebody cuts gets no hole; O_NONBLOCK,
// so that a named pipe does not hold up the output.
const appendOnly = os.O_RDWR | os.O_APPEND | syscall.O_NONBLOCK

func openOrCreate(path string) (f *os.File, created bool, err error) {
	f, err = os.OpenFile(path, appendOnly, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(path, appendOnly|os.O_CREATE|os.O_EXCL, fileMode)
	return f, err == nil, err
}

// endsLine reports whether the file's content of that length is whole lines.
func endsLine(f *os.File, size int64) bool {
	var last [1]byte
	if size == 0 {
		return true
	}
	_, err := f.ReadAt(last[:], size-1)
	return err != nil || last[0] == '\n'
}

// tailOf returns the TailSum of what ends at size, by which a file is told from
// another one that was given its inode.
func tailOf(f *os.File, size int64) uint32 {
	tail := make([]byte, min(size, record.TailBytes))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0
	}
	return record.TailSum(tail)
}

// reopen opens a file that was closed to save descriptors. errElsewhere tells that
// it does not have its path any more.
func (s *File) reopen(o *outFile) error {
	s.touch(o)
	if o.f != nil {
		return nil
	}
	s.makeRoom()
	f, err := os.OpenFile(o.path, appendOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", o.path, errElsewhere)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || inodeOf(info) != o.ino {
		return errors.Join(fmt.Errorf("%s: %w", o.path, errElsewhere), err, f.Close())
	}
	s.open++
	o.f = f
	return nil
}

// mend cuts off what a failed batch left in the file.
func (s *File) mend(o *outFile) error {
	if !o.torn {
		return nil
	}
	if err := s.reopen(o); err != nil {
		return err
	}
	if err := o.f.Truncate(o.size); err != nil {
		return err
	}
	o.torn = false
	return nil
}

func (s *File) touch(o *outFile) {
	s.clock++
	o.used = s.clock
}

// makeRoom closes the file that was not used for longest, when there are too many.
func (s *File) makeRoom() {
	if s.open < s.MaxOpen {
		return
	}
	var oldest *outFile
	for _, o := range s.left { // they are needed once more at most
		if o.f != nil {
			oldest = o
		}
	}
	for _, o := range s.files {
		if o.f != nil && (oldest == nil || o.used < oldest.used) {
			oldest = o
		}
	}
	if oldest == nil {
		return
	}
	if err := s.closeFile(oldest); err != nil {
		// A file system that reports a failed write only here; Commit's fsync will
		// report it again.
		s.Log.Error("closing an output's file", "output", s.Name, "file", oldest.path, "error", err)
	}
}

func (s *File) closeFile(o *outFile) error {
	if o.f == nil {
		return nil
	}
	err := o.f.Close()
	o.f = nil
	s.open--
	return err
}

// forget makes o blank again: nothing was written to its file.
func (s *File) forget(o *outFile) {
	if err := s.closeFile(o); err != nil {
		s.Log.Debug("closing an output's file", "file", o.path, "error", err)
	}
	o.detach(o.path)
}

// findInode looks for a file beside path whose name begins with path's and that is
// the inode: where rotation leaves it. What is compressed is none of it, but may have
// the inode of a file that was deleted after it had been compressed.
func findInode(path string, ino uint64) (string, bool) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), base) || strings.HasSuffix(strings.TrimSuffix(e.Name(), atomicfile.TempSuffix), gzipSuffix) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && inodeOf(info) == ino {
			return filepath.Join(dir, e.Name()), true
		}
	}
	return "", false
}
