package tail

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tailwater/tailwater/record"
)

const (
	// windowBytes is how far back a stream can be read without beginning anew: more
	// than a framer's longest event.
	windowBytes = 5 << 18
	// maxStreams bounds the memory for windows: as many .gz are read at a time, and
	// others wait or begin anew.
	maxStreams = 4
)

// gzStreams keeps the decompressors that are in use.
type gzStreams struct {
	mu  sync.Mutex
	all []*gzStream // the one used last at the end
}

// gzStream decompresses one file from its begin on, and keeps the last bytes.
type gzStream struct {
	owner  *File
	mu     sync.Mutex // held while it is read
	fd     *os.File
	disk   int64 // the file's length when the stream began
	zip    *gzip.Reader
	window []byte // the bytes that end at off
	off    int64
	err    error // what ended it
}

// take returns a stream of f from which off can be read, locked; a new one if need be.
func (all *gzStreams) take(f *File, fd *os.File, off int64) (*gzStream, error) {
	all.mu.Lock()
	for i, z := range all.all {
		if z.owner != f || z.fd != fd || !z.mu.TryLock() {
			continue
		}
		if off >= z.off-int64(len(z.window)) && !z.stale() {
			all.all = append(append(all.all[:i:i], all.all[i+1:]...), z)
			all.mu.Unlock()
			return z, nil
		}
		z.mu.Unlock()
	}
	z := &gzStream{owner: f, fd: fd}
	z.mu.Lock()
	for len(all.all) >= maxStreams {
		all.all = all.all[1:] // whoever reads it keeps it until done
	}
	all.all = append(all.all, z)
	all.mu.Unlock()
	if err := z.begin(); err != nil {
		z.mu.Unlock()
		all.remove(z)
		return nil, err
	}
	return z, nil
}

func (all *gzStreams) remove(gone *gzStream) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for i, z := range all.all {
		if z == gone {
			all.all = append(all.all[:i:i], all.all[i+1:]...)
			return
		}
	}
}

// drop forgets the streams of f.
func (all *gzStreams) drop(f *File) {
	all.mu.Lock()
	defer all.mu.Unlock()
	var kept []*gzStream
	for _, z := range all.all {
		if z.owner != f {
			kept = append(kept, z)
		}
	}
	all.all = kept
}

func (all *gzStreams) close() {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.all = nil
}

func (z *gzStream) begin() error {
	st, err := statOf(z.fd)
	if err != nil {
		return err
	}
	z.disk = st.size
	z.zip, z.err = gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(z.fd, 0, st.size), 64<<10))
	return nil
}

// stale reports whether the stream ended in a file that was not whole then and has
// changed since.
func (z *gzStream) stale() bool {
	if z.err == nil || z.err == io.EOF {
		return false
	}
	st, err := statOf(z.fd)
	return err == nil && st.size != z.disk
}

// more decompresses some bytes.
func (z *gzStream) more() {
	if z.err != nil {
		return
	}
	if z.window == nil {
		z.window = make([]byte, 0, windowBytes+256<<10)
	}
	if len(z.window) == cap(z.window) {
		n := copy(z.window, z.window[len(z.window)-windowBytes:])
		z.window = z.window[:n]
	}
	n, err := z.zip.Read(z.window[len(z.window):cap(z.window)])
	z.window = z.window[:len(z.window)+n]
	z.off += int64(n)
	if err == gzip.ErrHeader {
		err = io.EOF // behind a whole one stands what is none: padding, as gzip(1) takes it
	}
	z.err = err
}

// ReadAt reads like io.ReaderAt, forwards and a little backwards; where the stream
// has ended it returns its error with what it has read.
func (z *gzStream) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		start := z.off - int64(len(z.window))
		if off < start {
			return n, errBackwards
		}
		if off < z.off {
			m := copy(p[n:], z.window[off-start:])
			n += m
			off += int64(m)
			continue
		}
		if z.err != nil {
			return n, z.err
		}
		z.more()
	}
	return n, nil
}

var errBackwards = errors.New("further back than the stream keeps")

// readGzip is readPlain for compressed files.
func (f *File) readGzip(fd *os.File, p []byte, pos record.Pos) (n int, err error) {
	var room [record.TailBytes]byte
	before := room[:min(pos.Off, record.TailBytes)]
	z, err := f.source.streams.take(f, fd, pos.Off-int64(len(before)))
	if err != nil {
		return 0, err
	}
	defer z.mu.Unlock()
	got, err := z.ReadAt(before, pos.Off-int64(len(before)))
	if got == len(before) {
		if pos.Tail != 0 && record.TailSum(before) != pos.Tail {
			return 0, errMismatch
		}
		if n, err = z.ReadAt(p, pos.Off); pos.Off == 0 && n > 0 && !f.headHolds(p[:n]) {
			return 0, errMismatch
		}
	} else if err == io.EOF {
		f.sawGzip(pos.Off, z, err)
		if err := f.beyondCopy(pos.Off); err != nil {
			return 0, err
		}
		return 0, errMismatch // shorter than what was read of it
	}
	if errors.Is(err, os.ErrClosed) || errors.Is(err, errBackwards) {
		return 0, os.ErrClosed
	}
	f.sawGzip(pos.Off+int64(n), z, err)
	switch {
	case err == io.EOF:
		gone := f.beyondCopy(pos.Off + int64(n))
		if n > 0 && gone != nil && gone != io.EOF {
			return n, nil // the next read meets it
		}
		return n, cmp.Or(gone, io.EOF)
	case err == nil:
		return n, nil
	case isUnfinished(err) && !f.abandonedGzip(), n > 0 && f.pastEnd(pos.Off+int64(n)):
		return n, io.EOF // it is being written, or the damage has been met
	case n > 0:
		return n, nil // the next read meets the damage
	}
	return 0, f.corrupt(pos.Off, err)
}

// isUnfinished reports whether an error is what the end of a .gz that is still being
// written looks like.
func isUnfinished(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// sawGzip notes how far the content goes: exactly once the end has been met, else
// further than what was read.
func (f *File) sawGzip(off int64, z *gzStream, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case z.err == io.EOF:
		f.size, f.sizeGuess, f.ended = max(z.off, f.known), false, true
		f.mark = mark{z.off, record.TailSum(z.window)}
	case err == nil && f.sizeGuess && f.size <= off:
		f.size = off + 1
	}
}

// abandonedGzip reports whether a .gz without an end will not get one: nobody has
// written to it for a while.
func (f *File) abandonedGzip() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id.mtime != 0 && f.source.since(f.id.ctime) > gzipGrace
}

// corrupt ends the file where its compressed data does. The error is for the first
// reader to meet it; who has read less meets it at the same place.
func (f *File) corrupt(off int64, err error) error {
	f.mu.Lock()
	first := !f.told
	f.told = true
	to := off
	if !f.sizeGuess && f.size > to {
		to = f.size // it was longer when it was seen uncompressed
	}
	f.size, f.sizeGuess, f.ended = to, false, true
	home := f.home
	f.mu.Unlock()
	if first {
		f.source.log.Error("the .gz is damaged; what came before the damage is delivered, the rest is lost", "file", home, "offset", off, "error", err)
	}
	if off < to {
		return &GoneError{off, to, reasonCorrupt}
	}
	return io.EOF
}

// gzipSize is the decompressed length that a .gz gives in its last bytes: right for a
// file of one member and less than 4 GiB.
func gzipSize(fd *os.File, disk int64) (int64, bool) {
	var end [4]byte
	if disk < 18 {
		return 0, false
	}
	if _, err := fd.ReadAt(end[:], disk-4); err != nil {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint32(end[:])), true
}

// gzipEnd is the last bytes of a .gz as it is on disk: its checksum and, in the upper
// half, its length when it is whole. One that is being written grows behind them.
func gzipEnd(fd *os.File, disk int64) uint64 {
	var end [8]byte
	if disk < int64(len(end)) {
		return 0
	}
	if _, err := fd.ReadAt(end[:], disk-int64(len(end))); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(end[:])
}

// gzipGrace is how long a .gz without an end is waited for.
const gzipGrace = time.Minute

// inflate is a one-off decompression of a .gz, for comparing it with others.
type inflate struct{ z gzStream }

func newInflate(fd *os.File) (*inflate, error) {
	i := &inflate{gzStream{fd: fd}}
	return i, i.z.begin()
}

// head returns the first bytes, and whether more may come once the file is whole.
func (i *inflate) head() (head []byte, unfinished bool, err error) {
	if i.z.err != nil {
		return nil, isUnfinished(i.z.err), i.z.err
	}
	head = make([]byte, headBytes)
	n, err := i.z.ReadAt(head, 0)
	if err == io.EOF || err == nil {
		return head[:n], false, nil
	}
	return head[:n], isUnfinished(err), err
}

// holds reports whether the content has the mark; end is where it ends when that was
// met on the way.
func (i *inflate) holds(m mark) (ok bool, err error) {
	before := make([]byte, min(m.Off, record.TailBytes))
	at := m.Off - int64(len(before))
	for i.z.off < at && i.z.err == nil {
		i.z.more()
	}
	n, err := i.z.ReadAt(before, at)
	if n < len(before) {
		if err == io.EOF || errors.Is(err, errBackwards) {
			err = nil
		}
		return false, err
	}
	return record.TailSum(before) == m.Sum, nil
}

// end decompresses all of it and returns the length with the mark there.
func (i *inflate) end() (mark, error) {
	for i.z.err == nil {
		i.z.more()
	}
	if i.z.err != io.EOF {
		return mark{}, i.z.err
	}
	tail := i.z.window[max(0, len(i.z.window)-record.TailBytes):]
	return mark{i.z.off, record.TailSum(tail)}, nil
}
