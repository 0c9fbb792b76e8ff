//go:build unix && !linux

package tail

import (
	"os"
	"syscall"
)

func fromInfo(fi os.FileInfo, err error) (stat, error) {
	if err != nil {
		return stat{}, err
	}
	s := fi.Sys().(*syscall.Stat_t)
	return stat{
		dev: uint64(s.Dev), ino: uint64(s.Ino), links: uint64(s.Nlink), mtime: fi.ModTime().UnixNano(), ctime: fi.ModTime().UnixNano(),
		size: s.Size, blocks: s.Blocks * 512, mode: fileType(uint32(s.Mode)),
	}, nil
}

// statPath looks at what a path leads to, through symbolic links.
func statPath(path string) (stat, error) { return fromInfo(os.Stat(path)) }

// lstatPath looks at what the path itself is.
func lstatPath(path string) (stat, error) { return fromInfo(os.Lstat(path)) }

func statOf(f *os.File) (stat, error) { return fromInfo(f.Stat()) }

// nameOf would be the present path of an open file; this system does not tell.
func nameOf(*os.File) string { return "" }

// openForWriting would say whether any process can write to a file; nobody tells here.
func openForWriting(*os.File) (open, known bool) { return false, false }

// isShared would say whether other machines may change what is in a directory.
func isShared(string) bool { return false }
