package tail

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// seekData is where the first data at or after off begins; none says that there is none.
func seekData(fd *os.File, off int64) (at int64, none bool) {
	conn, err := fd.SyscallConn()
	if err != nil {
		return 0, false
	}
	if conn.Control(func(raw uintptr) { at, err = unix.Seek(int(raw), off, unix.SEEK_DATA) }) != nil || err != nil {
		return 0, err == unix.ENXIO
	}
	return at, false
}

// vector is one call of preadv with what it needs, kept for the next: a read is made for
// each turn of each file.
type vector struct {
	parts [][]byte
	off   int64
	n     int
	err   error
	call  func(fd uintptr) // v.read, made once
}

var vectors = sync.Pool{New: func() any {
	v := &vector{parts: make([][]byte, 0, 2)}
	v.call = v.read
	return v
}}

func (v *vector) read(fd uintptr) {
	for {
		v.n, v.err = unix.Preadv(int(fd), v.parts, v.off)
		if v.err != unix.EINTR {
			return
		}
	}
}

// readv fills a and then b with what is at off; n is less than both hold only at the
// file's end.
func readv(fd *os.File, conn syscall.RawConn, a, b []byte, off int64) (n int, err error) {
	v := vectors.Get().(*vector)
	if v.parts = v.parts[:0]; len(a) > 0 {
		v.parts = append(v.parts, a)
	}
	v.parts, v.off = append(v.parts, b), off
	ctlErr := conn.Control(v.call)
	n, err = v.n, v.err
	clear(v.parts)
	vectors.Put(v)
	// One call; where it returns less than asked for, the rest is read as usual.
	if ctlErr != nil {
		return 0, os.ErrClosed
	}
	if err != nil {
		return 0, err
	}
	if n < len(a) || n == len(a)+len(b) {
		return n, nil
	}
	more, err := fd.ReadAt(b[n-len(a):], off+int64(n))
	if more > 0 || err == nil {
		return n + more, nil
	}
	return n, ignoreEOF(err)
}
