//go:build unix && !linux

package tail

import (
	"os"
	"syscall"
)

// readv fills a and then b with what is at off; n is less than both hold only at the
// file's end.
func readv(fd *os.File, _ syscall.RawConn, a, b []byte, off int64) (n int, err error) {
	// The bytes before are read last: were the file truncated in between, they differ.
	n, err = fd.ReadAt(b, off+int64(len(a)))
	if ignoreEOF(err) != nil {
		return 0, err
	}
	m, err := fd.ReadAt(a, off)
	if m < len(a) {
		return m, ignoreEOF(err)
	}
	return m + n, nil
}

// seekData would be where the first data at or after off begins: nobody tells here.
func seekData(*os.File, int64) (at int64, none bool) { return 0, false }
