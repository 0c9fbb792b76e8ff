package tail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier hears from inotify of changes in directories. It is read from in one go: what
// a thousand files write while nobody reads costs a few calls, not a wake for each line.
// So it waits in a thread of its own: Go's poller would be woken each time.
type notifier struct {
	fd  int
	end [2]int // a pipe, closed to end a wait
	buf []byte // next's

	mu   sync.Mutex // guards what follows
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
	if err := unix.Pipe2(n.end[:], unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("pipe2", err)
	}
	return n, nil
}

// stop ends a wait in next, and listening. It is called once.
func (n *notifier) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = false
	unix.Close(n.end[1])
}

// free is called once, after stop, by who has called next.
func (n *notifier) free() {
	unix.Close(n.fd)
	unix.Close(n.end[0])
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

// next waits for changes and tells of those that are there: of each path, and whether it
// has done more than grow; ended says that a directory is not listened to any more. lost
// is set when there were too many. The error is os.ErrClosed after stop.
func (n *notifier) next(changed func(path string, more bool), ended func(path string)) (lost bool, err error) {
	size, err := n.read()
	if err != nil {
		return false, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
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

func (n *notifier) read() (size int, err error) {
	for {
		ready := []unix.PollFd{{Fd: int32(n.end[0])}, {Fd: int32(n.fd), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, -1)
		if err == nil && ready[0].Revents != 0 {
			return 0, os.ErrClosed
		}
		if err == nil {
			size, err = unix.Read(n.fd, n.buf)
		}
		if err != unix.EINTR && err != unix.EAGAIN {
			return size, err
		}
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
