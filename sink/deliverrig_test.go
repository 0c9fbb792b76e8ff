package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
)

// lane is a queue of parcels that watches what becomes of them.
type lane struct {
	t       *testing.T
	parcels chan record.Parcel
	mu      sync.Mutex
	done    map[*record.Block]int
	freed   map[*record.Block]int
	// taken tells, when a parcel is done, whether all of its documents were
	// delivered or parked.
	taken func(*record.Block) bool
}

func newLane(t *testing.T) *lane {
	return &lane{t: t, parcels: make(chan record.Parcel, 1000), done: map[*record.Block]int{}, freed: map[*record.Block]int{}}
}

func (l *lane) put(project string, messages ...string) *record.Block {
	b := docs(project, messages...)
	owned := record.NewBlock(b.Data, nil, func(b *record.Block) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.freed[b]++
	})
	owned.Data, owned.Docs = b.Data, b.Docs
	l.parcels <- record.Parcel{Block: owned, Done: func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.done[owned]++
		if l.taken != nil && !l.taken(owned) {
			l.t.Error("a parcel was acknowledged before all of it was delivered or parked")
		}
	}}
	return owned
}

func (l *lane) Take(ctx context.Context, maxBytes int) ([]record.Parcel, bool) {
	var got []record.Parcel
	size := 0
	select {
	case p, ok := <-l.parcels:
		if !ok {
			return nil, false
		}
		got, size = append(got, p), len(p.Block.Data)
	case <-ctx.Done():
		return nil, false
	}
	for size < maxBytes {
		select {
		case p, ok := <-l.parcels:
			if !ok {
				return got, true
			}
			got, size = append(got, p), size+len(p.Block.Data)
			continue
		default:
		}
		break
	}
	return got, true
}

func (l *lane) isDone(b *record.Block) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done[b] == 1 && l.freed[b] == 1
}

func (l *lane) check(blocks ...*record.Block) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range blocks {
		if l.done[b] != 1 || l.freed[b] != 1 {
			l.t.Errorf("parcel %d of %d: done %d times, freed %d times", i, len(blocks), l.done[b], l.freed[b])
		}
	}
}

// moody is a sink whose answers the test makes up.
type moody struct {
	mu     sync.Mutex
	answer func(ctx context.Context, try int, b *Batch, done func(Result))
	tries  int
	at     []time.Duration
	start  time.Time
	got    []string
}

func (m *moody) Send(ctx context.Context, b *Batch, done func(Result)) {
	m.mu.Lock()
	m.tries++
	try := m.tries
	m.at = append(m.at, time.Since(m.start))
	m.mu.Unlock()
	m.answer(ctx, try, b, done)
}

func (m *moody) Close() error { return nil }

func (m *moody) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tries
}

// take notes the documents with these indexes as stored.
func (m *moody) take(b *Batch, except ...int) {
	m.mu.Lock()
	defer m.mu.Unlock()
next:
	for i, r := range b.Refs {
		for _, e := range except {
			if e == i {
				continue next
			}
		}
		m.got = append(m.got, message(r))
	}
}

func (m *moody) has(message string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.got {
		if g == message {
			return true
		}
	}
	return false
}

func message(r record.Ref) string {
	var doc struct{ Message string }
	if err := json.Unmarshal(r.JSON(), &doc); err != nil {
		return err.Error()
	}
	return doc.Message
}

// shelf is a Parker in memory.
type shelf struct {
	mu      sync.Mutex
	fail    int // so many times
	letters []string
}

func (s *shelf) Park(output string, refs []record.Ref, refused []Refusal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("no space left on device")
	}
	for _, r := range refused {
		s.letters = append(s.letters, message(refs[r.Index])+": "+r.Reason)
	}
	return nil
}

type tally struct{ delivered, failed, parked, bytes int }

func (m *tally) Delivered(lines, bytes int)      { m.delivered += lines; m.bytes += bytes }
func (m *tally) Failed(reason string, lines int) { m.failed += lines }
func (m *tally) Parked(reason string, lines int) { m.parked += lines }

type rig struct {
	*Deliverer
	lane  *lane
	sink  *moody
	shelf *shelf
	tally *tally
	log   *bytes.Buffer
	ended chan error
	stop  context.CancelCauseFunc
}

// longest makes every wait the longest that its back-off allows.
func longest(n int64) int64 { return n - 1 }

// start runs a Deliverer whose sink answers like that.
func start(t *testing.T, answer func(ctx context.Context, try int, b *Batch, done func(Result)), more ...func(*DeliverConfig)) *rig {
	r := newRig(t, answer, more...)
	r.run(t)
	return r
}

func newRig(t *testing.T, answer func(ctx context.Context, try int, b *Batch, done func(Result)), more ...func(*DeliverConfig)) *rig {
	r := &rig{lane: newLane(t), sink: &moody{answer: answer, start: time.Now()}, shelf: &shelf{}, tally: &tally{}, log: &bytes.Buffer{}, ended: make(chan error, 1)}
	c := DeliverConfig{Name: "es", Sink: r.sink, Queue: r.lane, Dead: r.shelf, Meter: r.tally,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Backoff: backoff.Policy{Rand: longest}}
	for _, change := range more {
		change(&c)
	}
	r.Deliverer = NewDeliverer(c)
	return r
}

func (r *rig) run(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx) }()
}

func (r *rig) drain(t *testing.T) {
	t.Helper()
	close(r.lane.parcels)
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// endless is a queue that hands out the same parcel for as long as there are turns.
type endless struct {
	parcel record.Parcel
	turns  int
}

func (e *endless) Take(context.Context, int) ([]record.Parcel, bool) {
	if e.turns == 0 {
		return nil, false
	}
	e.turns--
	e.parcel.Block.Retain(1)
	return []record.Parcel{e.parcel}, true
}

func BenchmarkDeliver(b *testing.B) {
	block := bigBlock("pay", 256<<10)
	b.SetBytes(int64(len(block.Data)))
	b.ReportAllocs()
	b.ReportMetric(float64(len(block.Docs)), "docs/op")
	d := NewDeliverer(DeliverConfig{Name: "nowhere", Sink: Discard{}, Queue: &endless{record.Parcel{Block: block, Done: func() {}}, b.N}})
	if err := d.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}
