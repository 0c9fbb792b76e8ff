package tail

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const statMask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_NLINK | unix.STATX_MTIME | unix.STATX_CTIME |
	unix.STATX_SIZE | unix.STATX_BLOCKS | unix.STATX_BTIME

// noStatx is set once the kernel, or a sandbox around it, has refused the call.
var noStatx atomic.Bool

func statx(fd int, path string, flags int) (stat, error) {
	var x unix.Statx_t
	for !noStatx.Load() {
		err := unix.Statx(fd, path, flags|unix.AT_STATX_SYNC_AS_STAT, statMask, &x)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			noStatx.Store(true)
			break
		}
		if err != nil {
			return stat{}, err
		}
		st := stat{
			dev: unix.Mkdev(x.Dev_major, x.Dev_minor), ino: x.Ino, links: uint64(x.Nlink),
			mtime: x.Mtime.Sec*1e9 + int64(x.Mtime.Nsec), ctime: x.Ctime.Sec*1e9 + int64(x.Ctime.Nsec),
			size: int64(x.Size), blocks: int64(x.Blocks) * 512, mode: fileType(uint32(x.Mode)),
		}
		if x.Mask&unix.STATX_BTIME != 0 {
			st.birth = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
		}
		return st, nil
	}
	var s unix.Stat_t
	for {
		err := unix.Fstatat(fd, path, &s, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return stat{}, err
		}
		return stat{
			dev: s.Dev, ino: s.Ino, links: uint64(s.Nlink), mtime: s.Mtim.Nano(), ctime: s.Ctim.Nano(),
			size: s.Size, blocks: s.Blocks * 512, mode: fileType(s.Mode),
		}, nil
	}
}

// statPath looks at what a path leads to, through symbolic links.
func statPath(path string) (stat, error) { return statx(unix.AT_FDCWD, path, 0) }

// lstatPath looks at what the path itself is.
func lstatPath(path string) (stat, error) {
	return statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
}

func statOf(f *os.File) (stat, error) {
	return statx(int(f.Fd()), "", unix.AT_EMPTY_PATH)
}

// nameOf asks the kernel for the present path of an open file, "" when it has none.
func nameOf(f *os.File) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil || path == "" || path[0] != '/' {
		return ""
	}
	return path
}

// sharedTypes are the numbers (statfs(2)) of file systems whose files other machines may
// write to, of which inotify tells nothing here.
var sharedTypes = map[uint32]bool{
	0x6969:     true, // NFS
	0x517b:     true, // SMB
	0xff534d42: true, // CIFS
	0xfe534d42: true, // SMB 2
	0x65735546: true, // FUSE, and virtiofs
	0x01021997: true, // 9P
	0x00c36400: true, // Ceph
	0x0bd00bd0: true, // Lustre
	0x5346414f: true, // AFS
	0x6b414653: true, // AFS of the kernel
	0x7461636f: true, // OCFS2
	0x01161970: true, // GFS2
	0x47504653: true, // GPFS
	0x786f4256: true, // shared folders of VirtualBox
	0xbacbacbc: true, // of VMware
}

// openForWriting reports whether any process can write to a file that is open for reading
// here. It is known of one's own files, and with the capability to lease others': nobody
// is given a read lease (fcntl(2)) beside a writer.
func openForWriting(fd *os.File) (open, known bool) {
	conn, err := fd.SyscallConn()
	if err != nil {
		return false, false
	}
	var st unix.Statfs_t
	if controlled := conn.Control(func(raw uintptr) {
		if err = unix.Fstatfs(int(raw), &st); err != nil {
			return
		}
		if _, err = unix.FcntlInt(raw, unix.F_SETLEASE, unix.F_RDLCK); err == nil {
			_, _ = unix.FcntlInt(raw, unix.F_SETLEASE, unix.F_UNLCK)
		}
	}); controlled != nil || sharedTypes[uint32(st.Type)] {
		return false, false
	}
	return err == unix.EAGAIN, err == nil || err == unix.EAGAIN
}

// isShared reports whether other machines may change what is in a directory.
func isShared(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && sharedTypes[uint32(st.Type)]
}
