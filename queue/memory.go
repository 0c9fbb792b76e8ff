package queue

import (
	"context"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
)

const (
	// minBytes is what a queue holds at least.
	minBytes = 1 << 20
	// waitFor is how long a parcel is meant to wait at most while the output takes
	// what it is given.
	waitFor = time.Second
)

// Memory is the waiting room of one output, in memory. Any goroutine may put; one
// takes.
type Memory struct {
	max    int64
	onRoom func()
	wake   chan struct{}

	mu       sync.Mutex
	parcels  []parcel // parcels[head:] wait; guarded by mu, as all that follows
	head     int
	waiting  int64
	inFlight int64
	lines    int
	limit    int64
	changed  time.Time // when limit last became another
	refused  bool      // Room has said no, and onRoom is to be called
	closed   bool
}

type parcel struct {
	record.Parcel
	size   int64
	before int64 // what the queue held when it came, itself included
	put    time.Time
}

// New returns a queue that holds up to maxBytes, and a block more for each goroutine
// that puts. onRoom, when not nil, is called without any lock, from any goroutine,
// when there is room again after Room has said that there is none.
func New(maxBytes int64, onRoom func()) *Memory {
	if onRoom == nil {
		onRoom = func() {}
	}
	maxBytes = max(maxBytes, minBytes)
	return &Memory{max: maxBytes, limit: min(maxBytes, 8*minBytes), onRoom: onRoom, wake: make(chan struct{}, 1)}
}

// Put adds a parcel and never blocks. Its bytes count until Done has been called on
// what Take returns for it. Put says false, and leaves the parcel with the caller,
// when the queue has been closed.
func (q *Memory) Put(p record.Parcel) bool {
	size, lines, done := int64(p.Block.Size()), len(p.Block.Docs), p.Done
	p.Done = func() {
		done()
		q.done(size, lines)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.waiting += size
	q.parcels = append(q.parcels, parcel{p, size, q.waiting + q.inFlight, time.Now()})
	q.lines += lines
	q.mu.Unlock()
	q.signal()
	return true
}

func (q *Memory) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Room says whether a parcel may be put.
func (q *Memory) Room() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting+q.inFlight < q.limit {
		return true
	}
	q.refused = true
	return false
}

// Take waits for parcels and returns the first ones, at least one, whose documents
// have up to about maxBytes together. It returns false when the queue is closed and
// empty, or ctx has ended.
func (q *Memory) Take(ctx context.Context, maxBytes int) ([]record.Parcel, bool) {
	for {
		if ctx.Err() != nil {
			return nil, false
		}
		q.mu.Lock()
		taken := q.takeLocked(maxBytes)
		closed := q.closed
		room := q.roomAgainLocked()
		q.mu.Unlock()
		if room {
			q.onRoom()
		}
		if taken != nil || closed {
			return taken, taken != nil
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

func (q *Memory) takeLocked(maxBytes int) []record.Parcel {
	n, bytes := 0, 0
	for _, p := range q.parcels[q.head:] {
		bytes += len(p.Block.Data)
		if n > 0 && bytes > maxBytes {
			break
		}
		n++
	}
	if n == 0 {
		return nil
	}
	q.adaptLocked(time.Now(), &q.parcels[q.head])
	taken := make([]record.Parcel, n)
	for i := range taken {
		p := &q.parcels[q.head]
		taken[i] = p.Parcel
		q.waiting -= p.size
		q.inFlight += p.size
		*p = parcel{}
		q.head++
	}
	if q.head == len(q.parcels) {
		q.parcels, q.head = q.parcels[:0], 0
	} else if q.head > len(q.parcels)/2 {
		n := copy(q.parcels, q.parcels[q.head:])
		clear(q.parcels[n:])
		q.parcels, q.head = q.parcels[:n], 0
	}
	return taken
}

// adaptLocked sets the size of the room by how long the parcel that leaves it now has
// waited. Too long: what lay before it says how much the output takes in a second.
// The parcels after an outage have waited for the outage, which says nothing of the
// rate, so the room is at most halved in a second. Not half as long, although the room
// was nearly full when it came: the output could take more.
func (q *Memory) adaptLocked(now time.Time, p *parcel) {
	limit := q.limit
	switch waited := now.Sub(p.put); {
	case waited > waitFor && now.Sub(q.changed) >= waitFor:
		limit = min(limit, max(minBytes, limit/2, int64(float64(p.before)*float64(waitFor)/float64(waited))))
	case waited < waitFor/2 && q.refused && p.before > limit/2 && !p.put.Before(q.changed):
		limit = min(q.max, limit*2)
	}
	if limit != q.limit {
		q.limit, q.changed = limit, now
	}
}

// roomAgainLocked says whether onRoom is to be called.
func (q *Memory) roomAgainLocked() bool {
	if !q.refused || q.waiting+q.inFlight >= q.limit {
		return false
	}
	q.refused = false
	return true
}

func (q *Memory) done(size int64, lines int) {
	q.mu.Lock()
	q.inFlight -= size
	q.lines -= lines
	room := q.roomAgainLocked()
	q.mu.Unlock()
	if room {
		q.onRoom()
	}
}

// Close ends the queue: Take returns what waits, then false.
func (q *Memory) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// Bytes returns the memory of what waits and of what has been taken and is not done.
func (q *Memory) Bytes() (waiting, inFlight int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.inFlight
}

// Lines returns the number of documents that wait, or have been taken and are not
// done.
func (q *Memory) Lines() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines
}

// Limit returns how many bytes the queue holds at present.
func (q *Memory) Limit() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit
}
