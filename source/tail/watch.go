package tail

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// events gathers what the system tells of changes, until the next Poll. All of it may
// get lost without harm: Poll looks by itself, only later.
type events struct {
	mu       sync.Mutex
	notifier *notifier
	paths    map[string]struct{}
	taken    map[string]struct{} // what take has returned last, to be used again
	ended    []string            // directories that are not listened to any more
	overflow bool
	missing  int  // directories that could not be watched, or not wholly
	told     bool // that the system's limit has been met
	drop     bool // a test's: events are lost
	suspects []suspicion
	heard    chan struct{} // Poll has heard all that was there
}

// suspicion is a file that does not hold what a reader knew of it, and where.
type suspicion struct {
	file *File
	at   mark
}

// maxEvents bounds the paths that are kept between two Polls; beyond it everything is
// looked at.
const maxEvents = 10000

// gatherFor is how long what the system tells waits in the kernel, which costs nothing,
// when there is no Poll to hear it: what has come or gone must not wait for longer.
const gatherFor = 50 * time.Millisecond

// Watch lets the system tell of changes until ctx ends, and calls wake, from any
// goroutine, when a Poll would find something; urgent says that it is not only growth.
// Without it, or where it does not work, everything is found by looking alone. It returns
// at once.
func (s *Source) Watch(ctx context.Context, wake func(urgent bool)) error {
	s.wake.Store(&wake)
	n, err := newNotifier()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.mu.Lock()
	s.events.notifier, s.events.missing, s.events.heard = n, 0, make(chan struct{}, 1)
	s.events.mu.Unlock()
	for _, d := range s.dirs {
		s.watchDir(d)
		d.dirty = true // what happened before the watch
	}
	context.AfterFunc(ctx, func() {
		s.events.mu.Lock()
		s.events.notifier = nil
		s.events.mu.Unlock()
		n.stop()
	})
	go s.gather(ctx, n)
	return nil
}

// gather waits for what the system tells, hears it, and has a Poll take place. What comes
// until then, Poll hears by itself.
func (s *Source) gather(ctx context.Context, n *notifier) {
	pause := time.NewTimer(gatherFor)
	defer pause.Stop()
	for {
		err := n.wait()
		if ctx.Err() != nil {
			return
		}
		select {
		case <-s.events.heard: // before this wait
		default:
		}
		if news, urgent := s.hear(n); news {
			s.wakeUp(urgent)
		}
		pause.Reset(gatherFor)
		if err != nil {
			s.log.Warn("file events cannot be waited for; files are polled as well", "error", err)
			pause.Reset(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.events.heard:
		case <-pause.C:
		}
	}
}

// hear notes what the system has told since it was last asked, and reports whether there
// is anything to look at, and whether that is more than growth.
func (s *Source) hear(n *notifier) (news, urgent bool) {
	lost, err := n.next(func(path string, more bool) {
		news = s.events.add(path) || news
		urgent = urgent || more
	}, s.events.unheard)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		s.log.Warn("file events are incomplete; files are polled as well", "error", err)
	}
	if lost {
		s.events.overflowNow()
		urgent = true
	}
	return news || urgent, urgent // what has grown and waits to be looked at may be gone by now
}

// hearAll hears all that is there, for a Poll.
func (s *Source) hearAll() {
	s.events.mu.Lock()
	n := s.events.notifier
	s.events.mu.Unlock()
	if n == nil {
		return
	}
	s.hear(n)
	select {
	case s.events.heard <- struct{}{}:
	default:
	}
}

func (s *Source) wakeUp(urgent bool) {
	if wake := s.wake.Load(); wake != nil {
		(*wake)(urgent)
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
	s.wakeUp(true)
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

// unheard notes a directory that the system tells nothing of any more: it is gone.
func (ev *events) unheard(path string) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.ended = append(ev.ended, path)
}

func (ev *events) takeEnded() []string {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	all := ev.ended
	ev.ended = nil
	return all
}

func (ev *events) overflowNow() {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.overflow = true
}

// take returns the paths, until the next take.
func (ev *events) take() map[string]struct{} {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	all := ev.paths
	ev.paths, ev.taken = ev.taken, all
	clear(ev.paths)
	if len(all) > maxEvents/10 {
		ev.taken = nil // there are not so many all the time
	}
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
	return ev.notifier != nil && ev.missing == 0
}

func (ev *events) remove(path string) {
	ev.mu.Lock()
	n := ev.notifier
	ev.mu.Unlock()
	if n != nil {
		n.remove(path)
	}
}

// watchDir has the system tell of changes in a directory. s.mu is held.
func (s *Source) watchDir(d *dir) {
	s.events.mu.Lock()
	n := s.events.notifier
	s.events.mu.Unlock()
	if n == nil || d.watched {
		return
	}
	err := n.add(filepath.Clean(d.path))
	if err == nil {
		d.watched, d.shared = true, isShared(d.path)
		if d.shared {
			s.events.mu.Lock()
			s.events.missing++
			s.events.mu.Unlock()
		}
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
