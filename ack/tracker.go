package ack

import (
	"sync"

	"github.com/tailwater/tailwater/record"
)

// Tracker follows what one file has under way to one output. All its methods may be
// called from any goroutine; Begin and Advance are called in the order of the file.
type Tracker struct {
	mu sync.Mutex
	// steps[head:] are the ranges that are not safe yet, in the order of the file; the
	// first of them has the number first. Guarded by mu, as all that follows.
	steps []step
	head  int
	first uint64
	safe  record.Pos

	count int
	bytes int64
}

// step is a range of the file that ends at to.
type step struct {
	to    record.Pos
	bytes int64
	done  bool
}

// New returns a Tracker of a file that is safe up to start.
func New(start record.Pos) *Tracker { return &Tracker{safe: start} }

// Begin says that the documents of the next range of the file, which ends at to, are
// under way; bytes is their size, for InFlight. The range is safe when done has been
// called and all ranges before it are safe. done may be called from any goroutine;
// calls after the first do nothing.
func (t *Tracker) Begin(to record.Pos, bytes int64) (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.first + uint64(len(t.steps)-t.head)
	t.push(step{to: to, bytes: bytes})
	t.count++
	t.bytes += bytes
	return func() { t.done(n) }
}

// Advance says that the next range of the file, which ends at to, has no documents
// for the output.
func (t *Tracker) Advance(to record.Pos) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch last := len(t.steps) - 1; {
	case last < t.head:
		t.safe = to
	case t.steps[last].done:
		t.steps[last].to = to
	default:
		t.push(step{to: to, done: true})
	}
}

// push appends s, in the memory of what has become safe when that is the larger part.
func (t *Tracker) push(s step) {
	if t.head > len(t.steps)/2 {
		t.steps = t.steps[:copy(t.steps, t.steps[t.head:])]
		t.head = 0
	}
	t.steps = append(t.steps, s)
}

func (t *Tracker) done(n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < t.first {
		return
	}
	s := &t.steps[t.head+int(n-t.first)]
	if s.done {
		return
	}
	s.done = true
	t.count--
	t.bytes -= s.bytes
	for t.head < len(t.steps) && t.steps[t.head].done {
		t.safe = t.steps[t.head].to
		t.head++
		t.first++
	}
	if t.head == len(t.steps) {
		t.steps, t.head = t.steps[:0], 0
	}
}

// Safe returns the position up to which all is delivered or parked.
func (t *Tracker) Safe() record.Pos {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safe
}

// InFlight returns how many ranges with documents are under way, and their size.
func (t *Tracker) InFlight() (count int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.bytes
}
