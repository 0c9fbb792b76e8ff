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
	sum   record.Sum // of what lies before safe

	end   int64      // where the last step ends
	next  record.Sum // what is known already of the next step
	count int
	bytes int64
}

// step is a range of the file that ends at to.
type step struct {
	to    record.Pos
	sum   record.Sum
	bytes int64
	done  bool
}

// New returns a Tracker of a file that is safe up to start, where sum is what lies
// before that. A sum that ends elsewhere is not of this file's present journal: what
// it cannot explain counts as before the output's beginning.
func New(start record.Pos, sum record.Sum) *Tracker {
	sum.From += start.Off - sum.End()
	return &Tracker{safe: start, sum: sum, end: start.Off}
}

// Pass says that the range which comes next has so many bytes that were lost, and so
// many that were passed over.
func (t *Tracker) Pass(lost, passed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.Lost += lost
	t.next.Passed += passed
}

// Exclude says that so many bytes of the range which comes next are not wanted.
func (t *Tracker) Exclude(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.Excluded += bytes
}

// takeNext is the sum of the range from the last one's end to off; mu is held.
func (t *Tracker) takeNext(off int64) record.Sum {
	s := t.next
	s.Bytes = off - t.end - s.Lost - s.Passed - s.Excluded
	t.next, t.end = record.Sum{}, off
	return s
}

// Delivery is a range of the file whose documents are under way.
type Delivery struct {
	tracker *Tracker
	number  uint64
}

// Done says that all its documents are delivered or parked. It may be called from any
// goroutine; calls after the first do nothing.
func (d Delivery) Done() { d.tracker.done(d.number) }

// Refused says that one of its documents has become a dead letter. It is called before
// Done, from any goroutine.
func (d Delivery) Refused() {
	t := d.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.number >= t.first {
		t.steps[t.head+int(d.number-t.first)].sum.Refused++
	}
}

// Begin says that the documents of the next range of the file, which ends at to, are
// under way: so many, of that size together for InFlight. The range is safe when the
// delivery is done and all ranges before it are safe.
func (t *Tracker) Begin(to record.Pos, docs int, bytes int64) Delivery {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.first + uint64(len(t.steps)-t.head)
	sum := t.takeNext(to.Off)
	sum.Docs = int64(docs)
	t.push(step{to: to, sum: sum, bytes: bytes})
	t.count++
	t.bytes += bytes
	return Delivery{t, n}
}

// Advance says that the next range of the file, which ends at to, has no documents
// for the output.
func (t *Tracker) Advance(to record.Pos) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.takeNext(to.Off)
	switch last := len(t.steps) - 1; {
	case last < t.head:
		t.safe = to
		t.sum.Add(sum)
	case t.steps[last].done:
		t.steps[last].to = to
		t.steps[last].sum.Add(sum)
	default:
		t.push(step{to: to, sum: sum, done: true})
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
		t.sum.Add(t.steps[t.head].sum)
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

// Sum returns that position with what lies before it.
func (t *Tracker) Sum() (record.Pos, record.Sum) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safe, t.sum
}

// InFlight returns how many ranges with documents are under way, and their size.
func (t *Tracker) InFlight() (count int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.bytes
}
