package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

// Options say where a spool is and how large it may become.
type Options struct {
	Dir string
	// Limit is the disk, in bytes, that the spool may occupy.
	Limit int64
	// NotBefore is the offset before which nothing may be written: what outputs have
	// got to. It matters where the directory was put back from an older copy.
	NotBefore func(generation string) int64
	// Synced, when not nil, is called when more can be read.
	Synced func()
	Log    *slog.Logger
	// Now is the clock, for the age of keys; nil is time.Now.
	Now func() time.Time
}

var (
	// ErrFull is returned by Append when the outputs are so far behind that the spool
	// has reached its limit.
	ErrFull = errors.New("the spool is full: the outputs are too far behind")
	// ErrKnown is returned by Append for a frame whose key is that of an earlier one
	// with the same payload: it is safe already.
	ErrKnown = errors.New("this was received before")
	// ErrOther is returned by Append for a frame whose key is that of an earlier one with
	// another payload.
	ErrOther = errors.New("this key was used for something else")

	// ErrLarge is returned by Append for a frame of more than MaxFrame.
	ErrLarge = errors.New("this is too much for one frame of the spool")

	errClosed = errors.New("the spool is closed")
)

// maxUnsynced bounds what may have been written and not been synced, in bytes.
const maxUnsynced = 32 << 20

// GoneError says that the bytes before To are not there any more.
type GoneError struct{ To int64 }

func (e *GoneError) Error() string {
	return fmt.Sprintf("the spool's bytes before %d are gone", e.To)
}

// Log is an open spool. Its methods may be called from any goroutine.
type Log struct {
	opt        Options
	generation string
	segBytes   int64

	sync func(*os.File) error // syncData; another in tests

	work   sync.Cond // on mu: there is something to sync, or the end
	synced chan struct{}

	mu       sync.Mutex // guards what follows; the segments' descriptors are closed under reading too
	segments []*segment
	written  int64 // where the next frame begins
	durable  int64 // before it all is on disk
	waiters  []waiter
	newNames bool // the directory is to be synced
	closed   bool
	keys     keys

	reading sync.RWMutex // held while a descriptor is read from, and to close one
}

type waiter struct {
	end  int64
	done chan error
}

// segment is one file: the frames from base on.
type segment struct {
	base  int64
	end   int64
	file  *os.File
	path  string
	dirty bool // written to since it was last synced
	keys  []kept
}

// Generation is the spool's name, drawn when it was made.
func (l *Log) Generation() string { return l.generation }

// Dir is the spool's directory.
func (l *Log) Dir() string { return l.opt.Dir }

// Bounds are the offsets of the first byte that is there and of the end of what can
// be read.
func (l *Log) Bounds() (first, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].base, l.durable
}

// Size is the disk that the spool occupies, in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written - l.segments[0].base
}

// Limit is the disk, in bytes, that the spool may occupy.
func (l *Log) Limit() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opt.Limit
}

// SetLimit changes the limit.
func (l *Log) SetLimit(limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opt.Limit = limit
	l.segBytes = segmentBytes(limit)
}

// segmentBytes is the length at which a segment ends: what is delivered is deleted by
// segments.
func segmentBytes(limit int64) int64 { return min(max(limit/16, 64<<10), 16<<20) }

// Full tells whether the spool has no room for a frame of n bytes.
func (l *Log) Full(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fullLocked(n)
}

func (l *Log) fullLocked(n int) bool {
	return l.written-l.segments[0].base+int64(n) > l.opt.Limit
}

// Append writes the frame and, if wait, returns when it is on disk. Without wait it
// returns when the system has it: it survives the end of the process. The frame's
// memory is the caller's again.
func (l *Log) Append(f *Frame, wait bool) error {
	if len(f.Buf) > MaxFrame {
		return ErrLarge
	}
	f.seal(0)
	now := l.opt.Now()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	if f.key != (Key{}) {
		if known, ok := l.keys.get(f.key, now); ok {
			return l.known(known, f) // it unlocks
		}
	}
	if l.fullLocked(len(f.Buf)) {
		l.mu.Unlock()
		return ErrFull
	}
	if err := l.write(f, now); err != nil {
		l.mu.Unlock()
		return err
	}
	wait = wait || l.written-l.durable > maxUnsynced
	return l.await(l.written, wait)
}

// Sync returns when all that was appended is on disk, also without wait: until then it is
// outside of Bounds.
func (l *Log) Sync() error {
	l.mu.Lock()
	return l.await(l.written, !l.closed)
}

// known answers for a key that was there before: when its frame is on disk.
func (l *Log) known(k known, f *Frame) error {
	if k.sum != f.sum && k.sum != anySum {
		l.mu.Unlock()
		return ErrOther
	}
	if err := l.await(k.end, true); err != nil {
		return err
	}
	return ErrKnown
}

// await waits for the sync of what ends there. mu is held, and given up.
func (l *Log) await(end int64, wait bool) error {
	if end <= l.durable {
		l.mu.Unlock()
		return nil
	}
	l.work.Signal()
	if !wait {
		l.mu.Unlock()
		return nil
	}
	done := make(chan error, 1)
	l.waiters = append(l.waiters, waiter{end, done})
	l.mu.Unlock()
	return <-done
}

// write puts the frame behind what is there. mu is held.
func (l *Log) write(f *Frame, now time.Time) error {
	s := l.segments[len(l.segments)-1]
	if s.end-s.base+int64(len(f.Buf)) > l.segBytes && s.end-s.base > 4096 {
		next, err := l.newSegment(l.written)
		if err != nil {
			return fmt.Errorf("spool %s: %w", l.opt.Dir, err)
		}
		s = next
	}
	if _, err := s.file.WriteAt(f.Buf, s.end-s.base); err != nil {
		if cut := s.file.Truncate(s.end - s.base); cut != nil {
			err = errors.Join(err, cut) // what is left there is overwritten by the next frame
		}
		return fmt.Errorf("spool %s: %w", l.opt.Dir, err)
	}
	s.end += int64(len(f.Buf))
	s.dirty = true
	l.written = s.end
	if f.key != (Key{}) {
		l.keys.put(f.key, known{at: now.Unix(), sum: f.sum, end: s.end})
		s.keys = append(s.keys, kept{f.key, now.Unix(), f.sum})
	}
	return nil
}

// newSegment makes the file for what begins at base. mu is held, or nobody else has
// the log yet.
func (l *Log) newSegment(base int64) (*segment, error) {
	path := filepath.Join(l.opt.Dir, segmentName(base))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	head := Begin(nil, kindSegment, l.generation, Key{}, l.opt.Now().UnixMilli())
	head.seal(base)
	if _, err := file.WriteAt(head.Buf, 0); err != nil {
		file.Close()
		os.Remove(path)
		return nil, err
	}
	s := &segment{base: base, end: base + int64(len(head.Buf)), file: file, path: path, dirty: true}
	l.segments = append(l.segments, s)
	l.written = s.end
	l.newNames = true
	return s, nil
}

func segmentName(base int64) string { return fmt.Sprintf("%020d.spool", base) }

// newGeneration draws a name.
func newGeneration() string { return strings.ToLower(rand.Text()[:20]) }

// syncer makes durable what was written, all that there is at once, until Close.
func (l *Log) syncer() {
	defer close(l.synced)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.durable == l.written && !l.closed {
			l.work.Wait()
		}
		if l.durable == l.written {
			return
		}
		target := l.written
		var dirty []*segment
		for _, s := range l.segments {
			if s.dirty {
				dirty = append(dirty, s)
				s.dirty = false
			}
		}
		names := l.newNames
		l.newNames = false
		l.mu.Unlock()
		err := l.syncFiles(dirty, names)
		l.mu.Lock()
		if err != nil {
			l.lose(fmt.Errorf("spool %s: %w", l.opt.Dir, err))
			continue
		}
		l.durable = target
		waiting := l.waiters[:0]
		for _, w := range l.waiters {
			if w.end <= target {
				w.done <- nil
			} else {
				waiting = append(waiting, w)
			}
		}
		l.waiters = waiting
		if l.opt.Synced != nil {
			l.opt.Synced()
		}
	}
}

// syncFiles syncs segments, and the directory when it has new names. A segment may be
// closed meanwhile: then all of it was durable before.
func (l *Log) syncFiles(dirty []*segment, names bool) error {
	for _, s := range dirty {
		if err := l.sync(s.file); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	if !names {
		return nil
	}
	return atomicfile.SyncDir(l.opt.Dir)
}

// lose takes back all that was not synced, as the system may have dropped it: whoever
// waits for it is told, and sends it again. mu is held.
func (l *Log) lose(err error) {
	l.opt.Log.Error("what was received cannot be made durable; it is not acknowledged, and senders are to send it again. Mend the disk or make room", "error", err)
	for len(l.segments) > 1 && l.segments[len(l.segments)-1].base >= l.durable {
		s := l.segments[len(l.segments)-1]
		l.segments = l.segments[:len(l.segments)-1]
		l.keys.forget(s.keys)
		l.closeSegment(s)
		os.Remove(s.path)
	}
	s := l.segments[len(l.segments)-1]
	s.file.Truncate(l.durable - s.base) // what fails here is overwritten, or cut at the next start
	s.end, l.written = l.durable, l.durable
	s.dirty = true
	// The keys of what was taken back must not answer for it. Those of this segment that
	// are durable are found by their ends.
	l.keys.forgetAfter(l.durable)
	s.keys = l.keys.still(s.keys)
	for _, w := range l.waiters {
		w.done <- err
	}
	l.waiters = nil
}

// closeSegment closes a descriptor when nobody reads from it.
func (l *Log) closeSegment(s *segment) {
	l.reading.Lock()
	s.file.Close()
	l.reading.Unlock()
}

// ReadAt reads from an offset on, into all of buf if there is as much. It returns io.EOF
// with what there was when the end of what is durable is reached, and a GoneError when
// the offset's bytes are not there any more.
func (l *Log) ReadAt(buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		l.reading.RLock()
		file, at, room, err := l.find(off + int64(n))
		if err != nil {
			l.reading.RUnlock()
			if gone := (*GoneError)(nil); errors.As(err, &gone) && n > 0 {
				return n, nil // first what is there
			}
			return n, err
		}
		want := min(int64(len(buf)-n), room)
		got, err := file.ReadAt(buf[n:n+int(want)], at)
		l.reading.RUnlock()
		n += got
		if err != nil && int64(got) < want {
			if err == io.EOF { // somebody has cut the file: the rest reads as damage
				clear(buf[n : n+int(want)-got])
				n += int(want) - got
				continue
			}
			return n, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if off+int64(n) >= l.durable {
		return n, io.EOF
	}
	return n, nil
}

// find returns the file that has the offset, the place in it, and how much of it can be
// read there. The caller holds reading.
func (l *Log) find(off int64) (file *os.File, at, room int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off >= l.durable {
		return nil, 0, 0, io.EOF
	}
	for i, s := range l.segments {
		if off < s.base {
			return nil, 0, 0, &GoneError{To: s.base}
		}
		end := min(s.end, l.durable)
		if off < end {
			return s.file, off - s.base, end - off, nil
		}
		if i+1 < len(l.segments) && off < l.segments[i+1].base {
			return nil, 0, 0, &GoneError{To: l.segments[i+1].base}
		}
	}
	return nil, 0, 0, io.EOF
}

// Trim deletes the segments of which nothing at or after off is left.
func (l *Log) Trim(off int64) error {
	for {
		l.mu.Lock()
		if len(l.segments) < 2 || l.segments[1].base > off || l.segments[0].end > l.durable || l.closed {
			l.mu.Unlock()
			return nil
		}
		s := l.segments[0]
		l.mu.Unlock()
		// Only one goroutine trims; the first segment is written to no more.
		if err := l.keys.save(l.opt.Dir, s.keys, l.opt.Now()); err != nil {
			return fmt.Errorf("spool %s: %w", l.opt.Dir, err)
		}
		l.mu.Lock()
		l.segments = l.segments[1:]
		l.mu.Unlock()
		l.closeSegment(s)
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("spool: %w", err)
		}
	}
}

// Close syncs what was written and closes the files. Appending and reading have ended.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.work.Signal()
	l.mu.Unlock()
	<-l.synced
	for _, s := range l.segments {
		l.closeSegment(s)
	}
	return l.keys.close()
}

// Remove closes the spool and deletes it.
func (l *Log) Remove() error {
	return errors.Join(l.Close(), os.RemoveAll(l.opt.Dir))
}
