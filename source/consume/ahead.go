package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// A watcher goes with the reading for the output, for which each record is looked at
// once. When the output has had no room for a while the two part: from there on the
// partition is read ahead, for the watcher alone, and what was read ahead is not shown
// again when it is read for the output. They are together again where that comes to the
// place that the reading ahead has reached.

const (
	// partAfter is how long the output may have no room before the watchers go on without
	// it. Shorter stalls are cheaper to wait for than to read twice.
	partAfter = time.Second
	// nearby is how many records before the watcher's place the reading ahead waits for
	// the other, which goes on, to come by.
	nearby = 1000
)

var errNoRoom = errors.New("the output has no room")

// watch is the part that a partition's watcher has in it.
type watch struct {
	by Watcher // nil where nobody watches

	show   sync.Mutex // held while it counts, and while it changes hands; taken before partition.mu
	closed bool       // nothing counts any more: what does is known to others; guarded by show
	behind int64      // the reading for the output is before the watcher's place at least until there; owned by its fetcher

	// The rest is guarded by partition.mu.
	apart   bool  // it is with the reading ahead
	counted int64 // everything before it was shown and counts, here or at another member
	stored  int64 // the same, as is committed
}

// watchFrom opens the watcher of a partition whose commit is from.
func (p *partition) watchFrom(from mark) {
	p.watch.counted, p.watch.stored = max(from.offset, from.watched), from.watched
	if s := p.source; s.Watch != nil {
		p.watch.by = s.Watch(p.id.topic, p.id.index, p.watch.counted)
		p.docs.watcher = p.watch.by
		p.ahead = &ahead{partition: p}
	}
}

// flush has what the watcher was shown count, before the place is passed.
func (p *partition) flush() {
	if p.watch.by == nil || p.next < 0 {
		return
	}
	if p.rejoin(p.next); p.docs.watcher == nil {
		return
	}
	p.mu.Lock()
	atEnd := p.next >= p.last
	p.mu.Unlock()
	p.watch.show.Lock()
	defer p.watch.show.Unlock()
	p.count(p.next, atEnd)
}

// count has what was shown before next count; watch.show is held.
func (p *partition) count(next int64, atEnd bool) {
	if p.watch.closed {
		return
	}
	p.watch.by.Flush(next, atEnd)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch.counted = max(p.watch.counted, next)
}

// stopCounting lets nothing more count: what does is about to be told to the group.
func (p *partition) stopCounting() {
	p.watch.show.Lock()
	defer p.watch.show.Unlock()
	p.watch.closed = true
}

// unwatch ends the watching, after the last of the reading.
func (p *partition) unwatch() {
	if p.watch.by != nil {
		p.watch.by.Close()
	}
}

// inUse tells whether a fetcher reads the partition; source.mu is held.
func (p *partition) inUse() bool { return p.lent != nil || p.ahead != nil && p.ahead.lent != nil }

// part lets the watcher go on ahead. Whoever reads the partition calls it, or holds
// source.mu while nobody does.
func (p *partition) part() {
	if p.docs.watcher == nil {
		return
	}
	p.flush()
	p.watch.show.Lock()
	defer p.watch.show.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.docs.watcher, p.watch.apart, p.watch.behind = nil, true, p.next
	a := p.ahead
	a.next, a.missed, a.begun, a.another, a.tries = p.next, unknownOffset, false, false, tries{}
	if p.next >= 0 {
		a.next = max(p.next, p.watch.counted)
	}
}

func (p *partition) apart() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watch.apart
}

// rejoin takes the watcher back when the place is one that it has not seen.
func (p *partition) rejoin(at int64) {
	if w := &p.watch; w.by == nil || p.docs.watcher != nil || at < w.behind {
		return
	}
	p.watch.show.Lock()
	defer p.watch.show.Unlock()
	if next := p.ahead.next; next > at || next == unknownOffset {
		p.watch.behind = max(next, at+1)
		return
	}
	p.takeBack()
}

// beginWatching tells the watcher that the partition is read from its beginning, and
// where it ends. What it has seen of it then, it knows itself.
func (p *partition) beginWatching(end int64) {
	if p.watch.by == nil {
		return
	}
	p.watch.show.Lock()
	defer p.watch.show.Unlock()
	p.takeBack()
	p.watch.by.Begin(end)
}

// takeBack ends the reading ahead; watch.show is held.
func (p *partition) takeBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.docs.watcher, p.watch.apart = p.watch.by, false
}

// patiently does what may wait for the output. When that takes long, the watchers of all
// that this fetcher reads go on without it.
func (f *fetcher) patiently(ctx context.Context, do func(context.Context) error) error {
	if f.source.Watch == nil || f.ahead {
		return do(ctx)
	}
	limited, cancel := context.WithTimeoutCause(ctx, partAfter, errNoRoom)
	err := do(limited)
	cancel()
	if !errors.Is(err, errNoRoom) || ctx.Err() != nil {
		return err
	}
	for _, r := range f.parts {
		r.of().part()
	}
	f.setStuck(true)
	defer f.setStuck(false)
	return do(ctx)
}

func (f *fetcher) setStuck(stuck bool) {
	s := f.source
	s.mu.Lock()
	defer s.mu.Unlock()
	f.stuck = stuck
	s.dispatchLocked()
}

// ahead is the reading of a partition for its watcher alone.
type ahead struct {
	partition *partition
	lent      *fetcher // guarded by source.mu
	tries     tries    // guarded by partition.mu

	// Owned by the fetcher.
	docs    *documents // nil until it is needed
	damaged int

	// Guarded by watch.show: when the two part again, the place is another.
	next    int64
	missed  int64 // where it was to be read on, when that is gone; else unknownOffset
	begun   bool  // next is the beginning, and nothing was read there yet
	another bool  // the topic was made anew, which the reading for the output does not know yet
}

func (a *ahead) of() *partition { return a.partition }

func (a *ahead) place() int64 {
	defer a.lock()()
	return a.next
}

func (a *ahead) lock() (unlock func()) {
	a.partition.watch.show.Lock()
	return a.partition.watch.show.Unlock
}

// ready tells whether the partition is to be read ahead now: not while the reading for
// the output will be there in a moment.
func (a *ahead) ready(now time.Time, stuck bool) bool {
	p := a.partition
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.watch.apart && !p.left && a.tries.due(now) && (stuck || p.watch.counted-p.reached > nearby)
}

// begins goes on after what retention has deleted, which is counted when it is missed
// for the output, or at the beginning of a topic that was made anew.
func (a *ahead) begins(offset int64) {
	p := a.partition
	defer a.lock()()
	a.another = a.another || a.missed != unknownOffset && offset <= a.missed
	a.next, a.missed, a.begun = offset, unknownOffset, true
	if a.another {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.vanished, p.watch.counted = true, offset // nothing is committed until the output is there, too
	}
}

func (a *ahead) failed(code kafka.Error) {
	p := a.partition
	if code == kafka.OffsetOutOfRange {
		defer a.lock()()
		a.missed, a.next = a.next, unknownOffset
		return
	}
	p.source.lookSoon()
	if a.fail() > 3 {
		p.source.trouble(a, fmt.Errorf("topic %s partition %d, for the rules: %w", p.id.topic, p.id.index, code))
	}
}

func (a *ahead) fail() int {
	a.partition.mu.Lock()
	defer a.partition.mu.Unlock()
	return a.tries.fail()
}

// answered shows the watcher what a fetch answer holds, unless it has been taken back.
func (a *ahead) answered(ctx context.Context, d *decoder, answer *partAnswer) {
	p := a.partition
	p.hear(answer.last)
	if p.mayBeAnother() && !a.stillThere(ctx) {
		return
	}
	err := a.show(d, answer)
	if err != nil {
		a.fail()
		err = fmt.Errorf("topic %s partition %d, for the rules: %w", p.id.topic, p.id.index, err)
	}
	p.source.trouble(a, err)
}

// stillThere is Source.stillThere for this place.
func (a *ahead) stillThere(ctx context.Context) bool {
	unlock := a.lock()
	known := a.another
	unlock()
	if known {
		return true
	}
	same, err := a.partition.source.theSame(ctx, a.partition)
	switch {
	case err != nil:
		a.fail()
	case !same:
		defer a.lock()()
		a.another, a.missed, a.next = true, unknownOffset, unknownOffset
	}
	return same
}

// show shows what the answer holds.
func (a *ahead) show(d *decoder, answer *partAnswer) error {
	p := a.partition
	defer a.lock()()
	p.mu.Lock()
	mine := p.watch.apart && !p.left
	a.tries = tries{}
	p.mu.Unlock()
	if !mine || a.next == unknownOffset { // it was taken back while the broker answered
		return nil
	}
	if a.begun {
		p.watch.by.Begin(answer.last)
		a.begun = false
	}
	d.expect(answer.aborted)
	err := a.take(d, answer.records)
	p.count(a.next, a.next >= answer.last)
	return err
}

// take shows records. What is damaged is left out when it stays so; who reads for the
// output counts it.
func (a *ahead) take(d *decoder, data []byte) error {
	if a.docs == nil {
		docs := newDocuments(&a.partition.source.Config, a.partition.id)
		a.docs = &docs
		a.docs.watcher = a.partition.watch.by
	}
	err := d.records(data, a.next, func(m *message) error {
		a.docs.show(m)
		a.next = m.offset + 1
		return nil
	}, func(next int64) { a.next, a.damaged = max(a.next, next), 0 })
	if damage := (*damagedError)(nil); errors.As(err, &damage) {
		if a.damaged++; a.damaged >= triesOfDamage {
			a.next, a.damaged = max(a.next+1, damage.to), 0
			return nil
		}
	}
	return err
}
