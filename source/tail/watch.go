package tail

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// events gathers what the system tells of changes, until the next Poll. All of it may
// get lost without harm: Poll looks by itself, only later.
type events struct {
	mu       sync.Mutex
	watcher  *fsnotify.Watcher
	paths    map[string]struct{}
	overflow bool
	missing  int  // directories that could not be watched
	told     bool // that the system's limit has been met
	drop     bool // a test's: events are lost
	suspects []suspicion
}

// suspicion is a file that does not hold what a reader knew of it, and where.
type suspicion struct {
	file *File
	at   mark
}

// maxEvents bounds the paths that are kept between two Polls; beyond it everything is
// looked at.
const maxEvents = 10000

// Watch lets the system tell of changes until ctx ends, and calls wake, from any
// goroutine, when a Poll would find something. Without it, or where it does not work,
// everything is found by looking alone. It returns at once.
func (s *Source) Watch(ctx context.Context, wake func()) error {
	s.wake.Store(&wake)
	watcher, err := fsnotify.NewBufferedWatcher(1024)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.mu.Lock()
	s.events.watcher, s.events.missing = watcher, 0
	s.events.mu.Unlock()
	for _, d := range s.dirs {
		s.watchDir(d)
		d.dirty = true // what happened before the watch
	}
	go s.gather(ctx, watcher)
	return nil
}

func (s *Source) gather(ctx context.Context, watcher *fsnotify.Watcher) {
	defer func() {
		s.events.mu.Lock()
		s.events.watcher = nil
		s.events.mu.Unlock()
		watcher.Close()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-watcher.Events:
			if !ok {
				return
			}
			if s.events.add(e.Name) {
				s.wakeUp()
			}
		case err, ok := <-watcher.Errors:
			if !ok {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				s.events.overflowNow()
				s.wakeUp()
			} else {
				s.log.Warn("file events are incomplete; files are polled as well", "error", err)
			}
		}
	}
}

func (s *Source) wakeUp() {
	if wake := s.wake.Load(); wake != nil {
		(*wake)()
	}
}

// suspect has the next Poll look at a file.
func (s *Source) suspect(f *File, at mark) {
	s.events.mu.Lock()
	known := false
	for _, q := range s.events.suspects {
		known = known || q.file == f
	}
	if !known {
		s.events.suspects = append(s.events.suspects, suspicion{f, at})
	}
	s.events.mu.Unlock()
	s.wakeUp()
}

func (ev *events) takeSuspects() []suspicion {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	all := ev.suspects
	ev.suspects = nil
	return all
}

// add notes a path and reports whether it is news.
func (ev *events) add(path string) bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.drop {
		return false
	}
	if _, known := ev.paths[path]; known {
		return false
	}
	if len(ev.paths) >= maxEvents {
		ev.overflow = true
		return true
	}
	if ev.paths == nil {
		ev.paths = make(map[string]struct{})
	}
	ev.paths[path] = struct{}{}
	return true
}

func (ev *events) overflowNow() {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.overflow = true
}

func (ev *events) take() map[string]struct{} {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	all := ev.paths
	ev.paths = nil
	return all
}

func (ev *events) overflowed() bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	was := ev.overflow
	ev.overflow = false
	return was
}

// complete reports whether all directories are watched.
func (ev *events) complete() bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	return ev.watcher != nil && ev.missing == 0
}

func (ev *events) remove(path string) {
	ev.mu.Lock()
	watcher := ev.watcher
	ev.mu.Unlock()
	if watcher != nil {
		watcher.Remove(path) // it is gone already, most of the time
	}
}

// watchDir has the system tell of changes in a directory. s.mu is held.
func (s *Source) watchDir(d *dir) {
	s.events.mu.Lock()
	watcher := s.events.watcher
	s.events.mu.Unlock()
	if watcher == nil || d.watched {
		return
	}
	err := watcher.Add(filepath.Clean(d.path))
	if err == nil {
		d.watched = true
		return
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EMFILE) {
		return // it is not there, or may not be listed: the scan will tell
	}
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	s.events.missing++
	if !s.events.told {
		s.events.told = true
		s.log.Warn("the system watches no more directories; the others are polled each second. Raise fs.inotify.max_user_watches", "file", d.path, "error", err)
	}
}
