package tail

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/tailwater/tailwater/record"
)

// ReadAt reads bytes from pos.Off on, where pos is what a Framer said, or the zero
// Pos. It returns io.EOF at the file's present end, which may move on. When the bytes
// before pos.Off are not those of pos.Tail the file was truncated, or is another: then
// nothing is read, and Poll finds out where the bytes are; the file will be among the
// news again when it has. A *GoneError says that they are nowhere. Other errors may
// pass.
func (f *File) ReadAt(p []byte, pos record.Pos) (n int, err error) {
	f.used.Store(f.source.clock.Load())
	if f.pastEnd(pos.Off) {
		return 0, io.EOF
	}
	for try := 0; ; try++ {
		fd, gzip, err := f.openNowOrAgain()
		if fd == nil {
			return 0, f.noBytes(pos.Off, err)
		}
		if gzip {
			n, err = f.readGzip(fd, p, pos)
		} else {
			n, err = f.readPlain(fd, p, pos)
		}
		switch {
		case err == nil, err == io.EOF:
			f.sawEnd(pos.Off + int64(n))
			return n, err
		case err == errMismatch:
			f.source.suspect(f, mark{pos.Off, pos.Tail})
			return 0, io.EOF
		case try == 0 && (errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.ESTALE) || errors.Is(err, syscall.EIO)):
			f.dropFd(fd) // and find it by its path
		default:
			if gone := (*GoneError)(nil); errors.As(err, &gone) {
				return 0, err
			}
			return n, fmt.Errorf("read %s: %w", f.CurrentPath(), err)
		}
	}
}

// pastEnd reports whether off is the end of what does not grow any more, or lies
// behind it, where the bytes were that a copy lacks.
func (f *File) pastEnd(off int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return off > 0 && f.ended && !f.sizeGuess && (f.copied || f.gzip) && off >= f.size
}

// errMismatch says that a file does not hold what a position remembers of it.
var errMismatch = errors.New("other bytes than before")

// noBytes is the answer while there is no descriptor to read from.
func (f *File) noBytes(off int64, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone != "" {
		if off < f.size {
			return &GoneError{off, f.size, f.gone}
		}
		return io.EOF
	}
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, errMismatch) || errors.Is(err, errNotRegular) || errors.Is(err, syscall.ESTALE) {
		f.source.suspect(f, mark{})
		return io.EOF
	}
	return err
}

// openNowOrAgain is openFile for readers, who may have as many files open as there are
// only by closing others.
func (f *File) openNowOrAgain() (fd *os.File, gzip bool, err error) {
	if f.openNow() == nil {
		f.source.makeRoom()
	}
	return f.openFile()
}

// openFile returns the open file, which may be closed by others at any time.
func (f *File) openFile() (fd *os.File, gzip bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd != nil {
		return f.fd, f.gzip, nil
	}
	if f.home == "" || f.gone != "" {
		return nil, f.gzip, nil
	}
	fd, st, err := openRegular(f.home)
	if err != nil {
		return nil, f.gzip, err
	}
	if !st.sameInode(&f.id) {
		fd.Close()
		return nil, f.gzip, errMismatch
	}
	f.setFd(fd)
	return fd, f.gzip, nil
}

// setFd makes fd the file's; mu is held.
func (f *File) setFd(fd *os.File) {
	f.fd = fd
	f.conn, _ = fd.SyscallConn() // there is one to every open file
	f.source.open.Add(1)
	f.source.descriptors.add(f)
}

// dropFd closes the descriptor if it is still fd. Without a name there is no way back
// to a deleted file: its descriptor stays.
func (f *File) dropFd(fd *os.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd == fd && f.home != "" {
		f.closeLocked()
	}
}

// connOf is the raw connection of fd, which is the file's or was a moment ago.
func (f *File) connOf(fd *os.File) (syscall.RawConn, error) {
	f.mu.Lock()
	conn, present := f.conn, f.fd == fd
	f.mu.Unlock()
	if present {
		return conn, nil
	}
	return fd.SyscallConn()
}

// takeFd takes the descriptor away from the file without closing it.
func (f *File) takeFd() *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	fd := f.fd
	f.fd, f.conn = nil, nil
	f.source.open.Add(-1)
	f.source.descriptors.remove(f)
	return fd
}

func (f *File) closeFile() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closeLocked()
}

func (f *File) closeLocked() {
	if f.fd == nil {
		return
	}
	f.fd.Close() // reads under way end first
	f.fd, f.conn = nil, nil
	f.source.open.Add(-1)
	f.source.descriptors.remove(f)
	f.source.streams.drop(f)
}

// HoleEnd is where the next data begins when a hole in the file surrounds off, and off
// itself where there is none, or nothing behind it yet.
func (f *File) HoleEnd(off int64) int64 {
	fd, gzip, err := f.openFile()
	if fd == nil || gzip || err != nil {
		return off
	}
	at, _ := seekData(fd, off)
	return max(off, at)
}

// sawEnd notes how far the file goes at least.
func (f *File) sawEnd(off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size, f.known = max(f.size, off), max(f.known, off)
}

// rooms are for the bytes before those that are read.
var rooms = sync.Pool{New: func() any { return new([record.TailBytes]byte) }}

// readPlain reads p and, with the same call, the bytes before it: were they read
// apart, the file could be truncated in between.
func (f *File) readPlain(fd *os.File, p []byte, pos record.Pos) (n int, err error) {
	room := rooms.Get().(*[record.TailBytes]byte)
	defer rooms.Put(room)
	before := room[:min(pos.Off, record.TailBytes)]
	conn, err := f.connOf(fd)
	if err != nil {
		return 0, err
	}
	got, err := readv(fd, conn, before, p, pos.Off-int64(len(before)))
	if err != nil {
		return 0, err
	}
	if got < len(before) {
		if err := f.beyondCopy(pos.Off); err != nil {
			return 0, err
		}
		return 0, errMismatch // shorter than what was read of it
	}
	n = got - len(before)
	if n > 0 && p[n-1] == 0 {
		n = f.withoutPadding(fd, p[:n], pos.Off, n < len(p))
	}
	if pos.Tail != 0 && record.TailSum(before) != pos.Tail {
		return 0, errMismatch
	}
	if pos.Tail == 0 && n > 0 {
		// Nothing is known of what comes before: what Poll has seen of the file decides,
		// and it is looked at after the bytes were read.
		if ok, err := f.holds(fd, p[:n], pos.Off); err != nil || !ok {
			return 0, cmp.Or(err, errMismatch)
		}
	}
	if n < len(p) {
		err := f.beyondCopy(pos.Off + int64(n))
		if n > 0 && err != nil && err != io.EOF {
			return n, nil // the next read meets it
		}
		return n, cmp.Or(err, io.EOF)
	}
	return n, nil
}

// beyondCopy is what comes at the end of a copy: nothing, or bytes that were written
// between copy and truncation, were seen, and are in neither file. It returns nil for
// a file that is no copy, or where nothing was seen.
func (f *File) beyondCopy(off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.copied && !f.gzip || off > f.known:
		return nil
	case off < f.known:
		return &GoneError{off, f.known, reasonTruncated}
	}
	return io.EOF
}

// holds compares a file that is read from its begin, or from where nothing is known,
// with its fingerprint and its mark.
func (f *File) holds(fd *os.File, data []byte, off int64) (bool, error) {
	if off == 0 && !f.headHolds(data) {
		return false, nil
	}
	return f.markNow().holds(fd)
}

// headHolds compares what was read at the file's begin with its fingerprint.
func (f *File) headHolds(data []byte) bool {
	f.mu.Lock()
	head := f.head
	f.mu.Unlock()
	return int64(len(data)) < head.N || head.matches(data)
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
