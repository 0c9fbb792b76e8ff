package journal

import (
	"os"
	"syscall"
)

const keepSize = 0x01 // FALLOC_FL_KEEP_SIZE

// allocate claims disk blocks for the first n bytes of f without changing its length.
func allocate(f *os.File, n int64) error {
	return syscall.Fallocate(int(f.Fd()), keepSize, 0, n)
}
