package tail

import (
	"io/fs"
	"os"
	"syscall"
)

// stat is what a look at a file's metadata tells.
type stat struct {
	dev, ino uint64
	// birth is the file's time of creation in Unix nanoseconds, which no later file of
	// that inode shares; 0 where the file system does not tell.
	birth int64
	mtime int64 // Unix nanoseconds
	ctime int64
	size  int64
	// padding are the NULs behind that size; of a file that nobody has looked into, 0.
	padding int64
	blocks  int64 // bytes on disk
	links   uint64
	mode    fs.FileMode // its type only
}

func (st *stat) regular() bool { return st.mode == 0 }

// sameInode reports whether both looks were at one file, whatever became of its
// content. The device may have another number after a re-mount; with a birth time,
// inode and birth are enough.
func (st *stat) sameInode(other *stat) bool {
	if st.ino != other.ino {
		return false
	}
	if st.birth != 0 && other.birth != 0 {
		return st.birth == other.birth
	}
	return st.dev == other.dev
}

func fileType(mode uint32) fs.FileMode {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return 0
	case syscall.S_IFDIR:
		return fs.ModeDir
	case syscall.S_IFLNK:
		return fs.ModeSymlink
	case syscall.S_IFIFO:
		return fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		return fs.ModeSocket
	case syscall.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	}
	return fs.ModeDevice
}

// openRegular opens a file for reading without ever waiting for it: a fifo that took
// the name since it was looked at must not block.
func openRegular(path string) (*os.File, stat, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, stat{}, err
	}
	st, err := statOf(f)
	if err == nil && !st.regular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}
