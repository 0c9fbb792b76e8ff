package consume

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
)

// blockBytes is how much a block holds when it is handed on.
const blockBytes = 256 << 10

// unknownOffset is a place in a partition that is not known yet: its beginning.
const unknownOffset = -1

// partition is one that this member reads, from the assignment that brings it to the
// one that takes it away.
type partition struct {
	source *Source
	id     partitionID
	lane   int             // which of a broker's fetchers reads it
	ctx    context.Context // ends when the partition is another's, or reading ends
	end    context.CancelFunc
	lent   *fetcher // who reads it for the output, nil: nobody at the moment; guarded by source.mu
	ended  bool     // it is another member's; guarded by source.mu
	watch  watch
	ahead  *ahead

	// Owned by the fetcher.
	docs    documents
	next    int64 // the offset to be read, or unknownOffset
	missed  int64 // where it was to be read on, when that is gone; else unknownOffset
	begun   bool  // next is the beginning, and nothing was read there yet
	tally   Sum   // of what was read since the last step
	damaged int   // failures to read the batch at next

	mu       sync.Mutex // guards what follows
	left     bool       // it is another's now: nothing more is begun
	vanished bool       // its topic was not there for a moment: it may be another of the same name
	tries    tries
	steps    []*step // under way, in the order of the offsets
	safe     int64   // everything before it is delivered; unknownOffset: nothing is known
	sum      Sum     // of what lies before safe
	reached  int64   // where the reading for the output is
	stored   int64   // what is committed
	last     int64   // the offset after the newest record, as was heard last; -1: nothing was
	heard    time.Time
}

// step is a block under way.
type step struct {
	to   int64 // the offset after its last record
	sum  Sum   // of what lies between the step before and to
	done bool
}

// newPartition returns one that is read from where its commit says, or from its
// beginning when nothing was committed.
func newPartition(s *Source, id partitionID, from mark) *partition {
	p := &partition{source: s, id: id, next: from.offset, missed: unknownOffset, safe: from.offset, sum: from.sum, reached: from.offset, stored: from.offset, last: -1}
	p.ctx, p.end = context.WithCancel(s.reading)
	p.docs = newDocuments(&s.Config, id)
	p.watchFrom(from)
	p.lane = int(crc32.ChecksumIEEE([]byte(id.topic))%uint32(s.Workers)+uint32(id.index)) % s.Workers
	return p
}

// begins is told the offset of the oldest record and starts there: after what retention
// has deleted, or anew, whatever was read and committed before.
func (p *partition) begins(offset int64) {
	missed, log := p.missed, p.source.Log.With("input", p.source.Name, "topic", p.id.topic, "partition", p.id.index, "from", offset)
	if missed != unknownOffset && offset > missed {
		log.Error("retention was faster than the reading; going on with the oldest record that there is. Keep the topic for longer, or make its output faster", "lost", offset-missed)
		p.source.Lost("retention", offset-missed)
		p.tally.lose(missed, offset, "retention")
		p.next, p.missed, p.begun = offset, unknownOffset, true
		p.flush()
		p.pass(offset)
		return
	}
	if missed != unknownOffset {
		log.Warn("the offset to read on from lies beyond the end: the topic was deleted and made anew, or has lost records, or somebody has moved the group's offset. It is read from its beginning", "offset", missed)
	}
	p.next, p.missed, p.begun, p.tally = offset, unknownOffset, true, Sum{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.safe, p.stored, p.sum, p.vanished = offset, unknownOffset, Sum{From: offset}, false
	p.watch.counted, p.watch.stored, p.reached = offset, unknownOffset, offset
	p.steps = nil // what is under way no longer says anything about this place
}

// begin notes a block of so many documents under way, made of what was read before the
// offset to. It returns what notes that one of them was refused, and that it is
// delivered; nil when the partition is another's.
func (p *partition) begin(to int64, docs int) (refused func(int, string, string), done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return nil, nil
	}
	st := &step{to: to, sum: p.tallied()}
	st.sum.Docs = int64(docs)
	p.steps, p.reached = append(p.steps, st), to
	refused = func(int, string, string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		st.sum.Refused++
	}
	return refused, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		st.done = true
		n := 0
		for n < len(p.steps) && p.steps[n].done {
			p.safe = p.steps[n].to
			p.sum.add(p.steps[n].sum)
			n++
		}
		p.steps = append(p.steps[:0], p.steps[n:]...)
	}
}

// tallied is what was read since the last step, whose counting begins.
func (p *partition) tallied() Sum {
	s := p.tally
	p.tally = Sum{}
	return s
}

// forget takes back the newest begin: its block stays undelivered.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		p.steps = p.steps[:n-1]
	}
}

// pass notes that there was nothing to deliver before to.
func (p *partition) pass(to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.steps)
	p.reached = to
	switch {
	case n == 0:
		p.safe = to
		p.sum.add(p.tallied())
	case p.steps[n-1].to < to:
		p.steps = append(p.steps, &step{to: to, sum: p.tallied(), done: true})
	}
}

// leave has nothing more begun.
func (p *partition) leave() {
	p.mu.Lock()
	p.left = true
	p.mu.Unlock()
	p.end()
}

func (p *partition) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.steps) > 0
}

// vanish notes that the topic is not there. Until it is clear whether it is the same
// when it is there again, nothing is committed, which would make it look so.
func (p *partition) vanish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vanished = true
}

// mayBeAnother tells whether the topic may be another of the same name.
func (p *partition) mayBeAnother() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vanished
}

// known tells whether the group knows an offset of the partition.
func (p *partition) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored != unknownOffset
}

// theSame is the answer to that.
func (p *partition) theSame() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vanished = false
}

// toCommit is the offset before which all is delivered, and whether the group does not
// know that yet, or how far the watcher is beyond it.
func (p *partition) toCommit() (at mark, moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at = mark{p.safe, p.sum, max(p.safe, p.watch.counted)}
	counted := p.watch.by == nil || p.watch.counted >= p.safe // else in a moment: then the sum is right again
	further := p.safe > p.stored || p.safe >= 0 && at.watched > max(p.safe, p.watch.stored)
	return at, further && counted && !p.vanished
}

func (p *partition) committed(at mark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.safe >= at.offset { // it was not begun anew in between
		p.stored, p.watch.stored = at.offset, at.watched
	}
}

func (p *partition) of() *partition { return p }

func (p *partition) place() int64 { return p.next }

// hear notes the partition's end. One that has moved back is another topic's, or that of
// a leader which does not know better yet.
func (p *partition) hear(last int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vanished = p.vanished || last < p.last && p.stored != unknownOffset
	p.last, p.heard = last, time.Now()
}

// unheard tells whether what is known of the end is old.
func (p *partition) unheard() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.heard) > unheard
}

// lag is how many records the output does not have.
func (p *partition) lag() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last < 0 || p.safe < 0 {
		return 0
	}
	return max(0, p.last-p.safe)
}

// newest is the offset after the newest record, as was heard last.
func (p *partition) newest() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// before is how many records before an offset the output does not have.
func (p *partition) before(offset int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return offset - max(p.safe, 0)
}

// ready tells whether the partition may be read now: it is ours, and no failure has
// put it off.
func (p *partition) ready(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.left && p.tries.due(now)
}

// fail puts the next try off, and says how many have failed in a row.
func (p *partition) fail() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tries.fail()
}

func (p *partition) succeed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = tries{}
}

// tries puts the next one off after those that have failed.
type tries struct {
	failures int // in a row
	next     time.Time
}

func (t *tries) due(now time.Time) bool { return !t.next.After(now) }

// fail says how many have failed in a row.
func (t *tries) fail() int {
	t.failures++
	t.next = time.Now().Add(fetchBackoff.Delay(t.failures))
	return t.failures
}

// take reads the records of a fetch answer and hands them on; it waits while the
// output has no room. An error is a damagedError, or the end of ctx.
func (p *partition) take(d *decoder, data []byte) error {
	err := d.records(data, p.next, p.add, func(next int64) {
		p.leap(next)
		p.damaged = 0
	})
	if damage := (*damagedError)(nil); errors.As(err, &damage) {
		// The answer may have been bad; if the batch is, it will be the same again.
		if p.damaged++; p.damaged < triesOfDamage {
			return errors.Join(err, p.handOn())
		}
		p.leap(damage.from)
		to := max(p.next+1, damage.to)
		p.source.Lost("damaged", to-p.next)
		p.tally.lose(p.next, to, "damaged")
		p.source.Log.Error("records are damaged and left out", "input", p.source.Name, "topic", p.id.topic, "partition", p.id.index, "error", damage)
		p.next, p.damaged = to, 0
		err = nil
	}
	if err != nil {
		return err
	}
	return p.handOn()
}

// triesOfDamage is how often a damaged batch is fetched before it is left out.
const triesOfDamage = 3

// leap goes on at an offset before which nothing is left to be read.
func (p *partition) leap(to int64) {
	if to > p.next {
		p.tally.Void += to - p.next
		p.next = to
	}
}

// add takes one record.
func (p *partition) add(m *message) error {
	p.leap(m.offset)
	p.rejoin(m.offset)
	p.docs.add(m)
	p.tally.Records++
	p.next = m.offset + 1
	if p.docs.block != nil && len(p.docs.block.Data) >= blockBytes {
		return p.handOn()
	}
	return nil
}

// handOn delivers the block at hand. After an error the partition is read again from
// what was committed, by whoever has it then.
func (p *partition) handOn() error {
	b := p.docs.block
	p.docs.block = nil
	p.docs.tell()
	if b == nil || len(b.Docs) == 0 {
		if b != nil {
			b.Release()
		}
		if p.next >= 0 {
			p.flush()
			p.pass(p.next)
		}
		return nil
	}
	refused, done := p.begin(p.next, len(b.Docs))
	if done == nil {
		b.Release()
		return errLeft
	}
	if err := p.deliver(record.Parcel{Block: b, Done: done, Refused: refused}); err != nil {
		p.forget()
		b.Release()
		return fmt.Errorf("%w: %w", errLeft, err)
	}
	p.flush()
	return nil
}

// deliver waits while the output has no room, and lets the watcher go on meanwhile.
func (p *partition) deliver(parcel record.Parcel) error {
	give := func(ctx context.Context) error { return p.source.Deliver(ctx, parcel) }
	if p.lent == nil { // by nobody who reads others as well
		return give(p.ctx)
	}
	return p.lent.patiently(p.ctx, give)
}

// errLeft: the partition is another's, or the agent stops.
var errLeft = errors.New("the partition is not read here any more")
