package agent

import (
	"sync"
	"time"
)

// scheduler lets flows take turns: first come, first served, each for one turn. A few short
// turns are one worker's: to wake another costs more than they do.
type scheduler struct {
	mu      sync.Mutex
	work    sync.Cond // for a worker: there is something to run
	still   sync.Cond // for a pause: nothing runs
	ready   []*flow   // a queue; head is its first element
	head    int
	running int
	since   time.Time // there has been something to do
	waiting int       // workers that wait for work
	called  bool      // one of them was called, and has not come yet
	paused  bool
	closed  bool
}

// callAfter is how long one worker runs alone while flows are waiting.
const callAfter = 200 * time.Microsecond

// A flow's place in the scheduler.
const (
	resting = iota // nobody wants it to run
	queued
	running
	rerun   // running, and wanted again
	retired // let go of
)

func newScheduler() *scheduler {
	s := new(scheduler)
	s.work.L, s.still.L = &s.mu, &s.mu
	return s
}

// wake asks for a turn of f. It may be called from anywhere, any number of times.
func (s *scheduler) wake(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f.place {
	case resting:
		if s.running == 0 && s.head == len(s.ready) {
			s.since = time.Now()
		}
		s.enqueue(f)
		if s.running == 0 {
			s.call()
		}
	case running:
		f.place = rerun
	}
}

func (s *scheduler) enqueue(f *flow) {
	f.place = queued
	if s.head > 64 && s.head*2 > len(s.ready) {
		n := copy(s.ready, s.ready[s.head:])
		clear(s.ready[n:])
		s.ready, s.head = s.ready[:n], 0
	}
	s.ready = append(s.ready, f)
}

// call has one more worker come for what is queued. mu is held.
func (s *scheduler) call() {
	if s.waiting > 0 && !s.called && s.head < len(s.ready) {
		s.called = true
		s.work.Signal()
	}
}

// urge calls a worker when flows are waiting: who runs may be held up by a slow disk.
func (s *scheduler) urge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call()
}

// next blocks until a flow is to run, and returns nil once the scheduler is closed.
func (s *scheduler) next() *flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && (s.paused || s.head == len(s.ready)) {
		s.waiting++
		s.work.Wait()
		s.waiting--
		s.called = false
	}
	if s.closed {
		return nil
	}
	f := s.ready[s.head]
	s.ready[s.head] = nil
	s.head++
	f.place = running
	s.running++
	if s.head < len(s.ready) && time.Since(s.since) >= callAfter {
		s.call()
	}
	return f
}

// ran ends f's turn; again puts it at the end of the line. The worker asks for the next.
func (s *scheduler) ran(f *flow, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if again || f.place == rerun {
		s.enqueue(f)
	} else {
		f.place = resting
	}
	if s.running == 0 {
		s.still.Broadcast()
	}
}

// pause lets the turns that are under way end, and begins no more until resume.
func (s *scheduler) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
	for s.running > 0 {
		s.still.Wait()
	}
}

func (s *scheduler) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.work.Broadcast()
}

// close makes next return nil to every worker.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.work.Broadcast()
}

// retire takes a flow that rests out of use for good: wake has no effect on it.
func (s *scheduler) retire(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.place != resting {
		return false
	}
	f.place = retired
	return true
}

// waits reports whether f has its turn or its place in the line.
func (s *scheduler) waits(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.place != resting
}
