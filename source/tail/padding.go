package tail

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
)

// A file's text ends where its trailing NULs begin. Programs that write to their log
// through memory, or ask for its room ahead, have NULs there for what they have not written
// yet, and so has a network file system for what has not arrived; after a crash there may
// be some for ever. They become holes, to be leapt over, when text follows them.

// maxPadding is how many NULs are read in search of text. A file that has more, and not
// as a hole in the file system, is taken as long as it is.
const maxPadding = 64 << 20

// padBlocks are for reading them.
var padBlocks = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// trim moves the trailing NULs of a file from st's size to its padding. Text is known to
// go to from, and nothing but NULs to be between there and scanned, save at from, where
// the program would have gone on.
func (st *stat) trim(fd io.ReaderAt, from, scanned int64) error {
	if st.size == 0 || !endsInNULs(fd, st.size) {
		return nil
	}
	block := padBlocks.Get().(*[64 << 10]byte)
	defer padBlocks.Put(block)
	end, budget := from, maxPadding
	for at := from; at < st.size; {
		n, err := fd.ReadAt(block[:min(int64(len(block)), st.size-at)], at)
		if n == 0 {
			return err
		}
		at += int64(n)
		if text := textLen(block[:n]); text > 0 {
			end = at - int64(n-text)
			continue
		}
		if budget -= n; budget < 0 {
			return nil
		}
		at = afterHole(fd, max(at, scanned), st.size)
	}
	st.padding, st.size = st.size-end, end
	return nil
}

// trim is stat.trim with what is known of the file.
func (f *File) trim(fd io.ReaderAt, st *stat) error {
	text := f.Size()
	return st.trim(fd, text, max(text, f.id.disk()))
}

// disk is the size that the file system tells.
func (st *stat) disk() int64 { return st.size + st.padding }

// lone is a NUL that may be text: the second half of a newline in UTF-16.
const lone = 1

// endsInNULs reports whether there are NULs at the end of a file that are no text.
func endsInNULs(fd io.ReaderAt, size int64) bool {
	var buf [3]byte
	last := buf[:min(size, int64(len(buf)))]
	if n, _ := fd.ReadAt(last, size-int64(len(last))); n < len(last) {
		return false
	}
	return len(last)-textLen(last) > lone
}

// textLen is the length of data without its trailing NULs.
func textLen(data []byte) int {
	n := len(data)
	for n >= 8 && binary.LittleEndian.Uint64(data[n-8:]) == 0 {
		n -= 8
	}
	for n > 0 && data[n-1] == 0 {
		n--
	}
	return n
}

// afterHole is where the next data begins at or after off, and size when there is none.
func afterHole(r io.ReaderAt, off, size int64) int64 {
	fd, ok := r.(*os.File)
	if !ok || off >= size {
		return off
	}
	at, none := seekData(fd, off)
	if none {
		return size
	}
	return max(at, off)
}

// withoutPadding returns how much of what was read at off is before the file's trailing
// NULs. atEnd says that nothing follows it.
func (f *File) withoutPadding(fd *os.File, data []byte, off int64, atEnd bool) int {
	text := textLen(data)
	if len(data)-text <= lone {
		return len(data)
	}
	end := off + int64(len(data))
	f.mu.Lock()
	size, padded, solid := f.size, f.id.padding > 0, f.solid
	f.mu.Unlock()
	switch {
	case end <= solid:
		return len(data)
	case atEnd:
		return text
	case padded && size <= off+int64(text):
		return text // what has come since, the next look will see
	}
	st, err := statOf(fd)
	if err != nil {
		return text
	}
	disk := st.size
	if st.trim(fd, off+int64(text), off+int64(text)) != nil || st.size <= end && st.size < disk {
		return text
	}
	f.mu.Lock()
	f.solid = max(f.solid, st.size)
	f.mu.Unlock()
	return len(data)
}
