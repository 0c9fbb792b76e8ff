package tail

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataAfter is where the first data at or after off begins, 0 where there is none or the
// file system does not tell.
func dataAfter(fd *os.File, off int64) (at int64) {
	conn, err := fd.SyscallConn()
	if err != nil {
		return 0
	}
	if conn.Control(func(raw uintptr) {
		if at, err = unix.Seek(int(raw), off, unix.SEEK_DATA); err != nil {
			at = 0
		}
	}) != nil {
		return 0
	}
	return at
}

// readv fills a and then b with what is at off; n is less than both hold only at the
// file's end.
func readv(fd *os.File, a, b []byte, off int64) (n int, err error) {
	conn, err := fd.SyscallConn()
	if err != nil {
		return 0, err
	}
	// One call; where it returns less than asked for, the rest is read as usual.
	ctlErr := conn.Control(func(raw uintptr) {
		for {
			if len(a) == 0 {
				n, err = unix.Pread(int(raw), b, off)
			} else {
				n, err = unix.Preadv(int(raw), [][]byte{a, b}, off)
			}
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
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
