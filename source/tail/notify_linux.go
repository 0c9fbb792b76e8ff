package tail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// notifier hears from inotify of changes in directories. It is read from in one go: what
// a thousand files write while nobody reads costs a few calls, not a wake for each line.
// Go's poller, were inotify given to it, would be woken each time; and a thread that waits
// in poll(2) has Go's monitor look at it some fifty times for each wait. So inotify is in
// an epoll of its own, armed for one wake at a time, and Go's poller waits for that one.
type notifier struct {
	fd    int
	armed *os.File        // the epoll
	ready syscall.RawConn // its

	mu   sync.Mutex // guards what follows
	buf  []byte     // next's
	open bool
	dirs map[int32][]*heardDir
	wds  map[string]int32 // by path
}

// heardDir is a directory under one of its paths.
type heardDir struct {
	path  string
	names map[string]string // the full paths of what is in it
}

// maxNames bounds the paths that are kept of one directory.
const maxNames = 100

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	n := &notifier{fd: fd, open: true, buf: make([]byte, 64<<10), dirs: make(map[int32][]*heardDir), wds: make(map[string]int32)}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	err = unix.SetNonblock(epoll, true) // what os.NewFile leaves to Go's poller
	n.armed = os.NewFile(uintptr(epoll), "inotify")
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: armedFor})
	}
	if err == nil {
		n.ready, err = n.armed.SyscallConn()
	}
	if err != nil {
		unix.Close(fd)
		n.armed.Close()
		return nil, os.NewSyscallError("epoll", err)
	}
	return n, nil
}

// armedFor is told once, until it is armed again.
const armedFor = unix.EPOLLIN | unix.EPOLLONESHOT

// wait waits until there is something for next. One goroutine at a time calls it. The
// error is os.ErrClosed after stop.
func (n *notifier) wait() error {
	var failed error
	rearmed := false
	err := n.ready.Read(func(epoll uintptr) (done bool) {
		if !rearmed {
			rearmed = true
			failed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, n.fd, &unix.EpollEvent{Events: armedFor})
		}
		var told [1]unix.EpollEvent
		count, err := unix.EpollWait(int(epoll), told[:], 0)
		if err != nil && err != unix.EINTR {
			failed = err
		}
		return count > 0 || failed != nil
	})
	if err != nil {
		return os.ErrClosed // it fails for no other reason
	}
	return os.NewSyscallError("epoll", failed)
}

// stop ends a wait, and listening. It is called once.
func (n *notifier) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = false
	n.armed.Close()
	unix.Close(n.fd)
}

const (
	growth  = unix.IN_MODIFY | unix.IN_ATTRIB
	changes = growth | unix.IN_CREATE | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF
)

// add begins to listen to a directory.
func (n *notifier) add(path string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open {
		return os.ErrClosed
	}
	wd, err := unix.InotifyAddWatch(n.fd, path, changes)
	if err != nil {
		return &os.PathError{Op: "inotify_add_watch", Path: path, Err: err}
	}
	id := int32(wd)
	if was, known := n.wds[path]; known && was != id {
		n.drop(was, path) // another directory had that path
	}
	if n.wds[path] != id {
		n.wds[path] = id
		n.dirs[id] = append(n.dirs[id], &heardDir{path: path, names: make(map[string]string)})
	}
	return nil
}

// remove ends that.
func (n *notifier) remove(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, known := n.wds[path]; known && n.open {
		n.drop(id, path)
	}
}

// drop forgets a path, and the watch when it was its last. mu is held.
func (n *notifier) drop(id int32, path string) {
	delete(n.wds, path)
	n.dirs[id] = slices.DeleteFunc(n.dirs[id], func(d *heardDir) bool { return d.path == path })
	if len(n.dirs[id]) == 0 {
		delete(n.dirs, id)
		unix.InotifyRmWatch(n.fd, uint32(id)) // it is gone already, most of the time
	}
}

// next tells of the changes that are there, and does not wait: of each path, and whether
// it has done more than grow; ended says that a directory is not listened to any more. lost
// is set when there were too many. The error is os.ErrClosed after stop.
func (n *notifier) next(changed func(path string, more bool), ended func(path string)) (lost bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open {
		return false, os.ErrClosed
	}
	size, err := n.read()
	if err != nil {
		return false, err
	}
	for data := n.buf[:size]; len(data) >= unix.SizeofInotifyEvent; {
		id, mask := int32(binary.NativeEndian.Uint32(data)), binary.NativeEndian.Uint32(data[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(data[12:]))
		if end > len(data) {
			return lost, errors.New("inotify: half an event")
		}
		name := bytes.TrimRight(data[unix.SizeofInotifyEvent:end], "\x00")
		data = data[end:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			lost = true
		}
		if mask&unix.IN_IGNORED != 0 {
			for _, d := range n.dirs[id] {
				delete(n.wds, d.path)
				ended(d.path)
			}
			delete(n.dirs, id)
			continue
		}
		for _, d := range n.dirs[id] {
			changed(d.full(name), mask&changes&^growth != 0)
		}
	}
	return lost, nil
}

// read reads what fits in the buffer; what does not comes with the next wait.
func (n *notifier) read() (size int, err error) {
	for {
		size, err = unix.Read(n.fd, n.buf)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return max(size, 0), os.NewSyscallError("read of inotify", err)
	}
}

// full is the path of a name in the directory.
func (d *heardDir) full(name []byte) string {
	if len(name) == 0 {
		return d.path
	}
	if path, known := d.names[string(name)]; known {
		return path
	}
	if len(d.names) >= maxNames {
		clear(d.names)
	}
	path := filepath.Join(d.path, string(name))
	d.names[string(name)] = path
	return path
}
