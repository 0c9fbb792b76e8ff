package consume

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/record"
)

// counter is a watcher as the agent's is: what lies before passed does not count again.
type counter struct {
	passed int64
	shown  []int64 // and not flushed
	counts map[int64]int
	ends   int // how often it was told that there is no more
}

func (c *counter) Document(offset int64, _ []byte, _ int, _ int64) { c.see(offset) }
func (c *counter) Record(offset int64, _ *record.Record, _ int64, _ []byte) {
	c.see(offset)
}

func (c *counter) see(offset int64) {
	if offset >= c.passed {
		c.shown = append(c.shown, offset)
	}
}

func (c *counter) Flush(next int64, atEnd bool) {
	for _, offset := range c.shown {
		c.counts[offset]++
	}
	c.shown, c.passed = c.shown[:0], max(c.passed, next)
	if atEnd {
		c.ends++
	}
}

func (c *counter) Begin(end int64) {
	if end < c.passed {
		c.passed = 0
	}
}

func (c *counter) Close() { c.shown = nil }

// upTo checks that everything before an offset was counted once, and nothing else.
func (c *counter) upTo(t *testing.T, next int64) {
	t.Helper()
	for offset := range next {
		if c.counts[offset] != 1 {
			t.Fatalf("record %d of %d is counted %d times", offset, next, c.counts[offset])
		}
	}
	if len(c.counts) != int(next) {
		t.Fatalf("%d of %d records are counted", len(c.counts), next)
	}
}

// aheadWorld is a member that reads two partitions over one connection, for an output
// that takes nothing.
type aheadWorld struct {
	*Source
	room     chan struct{} // closed: there is room
	watchers map[string]*counter
	f        *fetcher
	a, b     *partition
}

func newAheadWorld(t *testing.T, from mark) *aheadWorld {
	w := &aheadWorld{room: make(chan struct{}), watchers: make(map[string]*counter)}
	w.Source = testSource(t, func(ctx context.Context, p record.Parcel) error {
		select {
		case <-w.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p.Block.Release()
		p.Done()
		return nil
	})
	w.Watch = func(topic string, _ int, counted int64) Watcher {
		c := w.watchers[topic]
		if c == nil {
			c = &counter{counts: make(map[int64]int)}
			w.watchers[topic] = c
		}
		c.passed = max(c.passed, counted)
		return c
	}
	w.there = layout{"a": {-1}, "b": {-1}} // no leader: nobody asks a broker by itself
	w.a, w.b = newPartition(w.Source, partitionID{"a", 0}, from), newPartition(w.Source, partitionID{"b", 0}, from)
	w.partitions[w.a.id], w.partitions[w.b.id] = w.a, w.b
	w.f = &fetcher{source: w.Source, memory: w.memory, parts: []reader{w.a, w.b}}
	w.a.lent, w.b.lent = w.f, w.f
	return w
}

// holds is the answer to a question after the records from an offset up to another.
func holds(t *testing.T, from, to int64) *partAnswer {
	var values []string
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprint("no stock ", i))
	}
	a := &partAnswer{last: to}
	if len(values) > 0 {
		a.records = encoded(t, 2, 0, from, values...)
	}
	return a
}

// Elasticsearch is down for long: the rules see what comes, of all partitions that are
// read over the connection, and see nothing again when it is delivered.
func TestRulesReadOnWhileTheOutputIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAheadWorld(t, mark0)
		ctx, d := t.Context(), new(decoder)
		taken := make(chan struct{})
		began := time.Now()
		go func() {
			w.a.answered(ctx, d, holds(t, 0, 10))
			close(taken)
		}()
		synctest.Wait()
		if w.a.apart() {
			t.Error("a moment without room parts them")
		}
		time.Sleep(partAfter)
		synctest.Wait()
		if !w.a.apart() || !w.b.apart() || time.Since(began) > partAfter {
			t.Fatal("the rules wait for the output")
		}
		w.watchers["a"].upTo(t, 10)
		reading := new(decoder)
		w.a.ahead.answered(ctx, reading, holds(t, 5, 3000)) // a batch may begin before what was asked for
		w.b.ahead.answered(ctx, reading, holds(t, 0, 20))
		w.watchers["a"].upTo(t, 3000)
		w.watchers["b"].upTo(t, 20)
		if now := time.Now(); !w.a.ahead.ready(now, false) || w.b.ahead.ready(now, false) || !w.b.ahead.ready(now, true) {
			t.Error("it is read ahead where the output will be there in a moment, or not where it will not")
		}
		if at, moved := w.a.toCommit(); !moved || at.offset != 0 || at.watched != 3000 || at.sum.End() != 0 {
			t.Errorf("%+v, %v is to be committed", at, moved)
		} else {
			w.a.committed(at)
		}
		if at, moved := w.a.toCommit(); moved {
			t.Errorf("%+v is to be committed again", at)
		}

		close(w.room)
		<-taken
		late := holds(t, 3000, 3010) // asked for, and there when the watcher is with the other again
		w.a.answered(ctx, d, holds(t, 10, 3005))
		if w.a.apart() {
			t.Fatal("they stay apart")
		}
		w.a.ahead.answered(ctx, reading, late)
		w.watchers["a"].upTo(t, 3005)
		w.a.answered(ctx, d, holds(t, 3005, 3020))
		w.watchers["a"].upTo(t, 3020)
		w.b.answered(ctx, d, holds(t, 0, 20))
		w.b.answered(ctx, d, holds(t, 20, 20))
		w.watchers["b"].upTo(t, 20)
		if w.b.apart() || w.watchers["b"].ends < 2 {
			t.Errorf("there was nothing more, and it was not told so")
		}
		for _, p := range []*partition{w.a, w.b} {
			if at, moved := p.toCommit(); !moved || at.offset != p.next || at.watched != p.next || at.sum.Records != p.next {
				t.Errorf("%+v, %v is to be committed", at, moved)
			}
		}
	})
}

// A partition comes to a member whose connection waits for an output that is down.
func TestWhatANewPartitionHoldsIsCountedWhileTheOutputIsDown(t *testing.T) {
	w := newAheadWorld(t, mark0)
	w.there = layout{"a": {7}, "c": {7}}
	w.f.fetcherID = fetcherID{broker: 7, lane: 0}
	w.fetchers[w.f.fetcherID] = w.f
	w.fetchers[fetcherID{7, 0, true}] = &fetcher{} // somebody reads ahead already
	c := newPartition(w.Source, partitionID{"c", 0}, readMark(40, mark{40, Sum{From: 40}, 45}.text()))
	w.partitions[c.id] = c
	w.f.setStuck(true)
	if !c.apart() || c.ahead.place() != 45 || c.next != 40 {
		t.Fatalf("read ahead %v, from %d", c.apart(), c.ahead.place())
	}
	unknown := newPartition(w.Source, partitionID{"c", 0}, readMark(unknownOffset, ""))
	w.partitions[c.id] = unknown
	w.f.setStuck(true)
	if unknown.ahead.place() != unknownOffset {
		t.Error("it has a beginning that nobody knows")
	}
	unknown.ahead.begins(3)
	unknown.ahead.answered(t.Context(), new(decoder), holds(t, 3, 9))
	if at, moved := unknown.toCommit(); moved || at.watched != 9 {
		t.Errorf("%+v is to be committed: nobody knows what is delivered", at)
	}
}

// The topic is deleted and made anew, or retention deletes what nobody has read, while
// the output is down.
func TestWhatIsReadAheadMayBeGone(t *testing.T) {
	w := newAheadWorld(t, mark0)
	d := new(decoder)
	w.a.part()
	w.a.ahead.answered(t.Context(), d, holds(t, 0, 10))
	w.a.ahead.failed(1) // the offset is out of range
	w.a.ahead.begins(30)
	w.a.ahead.answered(t.Context(), d, holds(t, 30, 40))
	if c := w.watchers["a"]; c.counts[9] != 1 || c.counts[39] != 1 || len(c.counts) != 20 {
		t.Errorf("counted %v", c.counts)
	}
	clear(w.watchers["a"].counts)
	w.a.ahead.failed(1)
	w.a.ahead.begins(0) // it is another topic
	w.a.ahead.answered(t.Context(), d, holds(t, 0, 5))
	w.watchers["a"].upTo(t, 5)
	if at, moved := w.a.toCommit(); moved {
		t.Errorf("%+v of the topic that is gone is to be committed", at)
	}
	close(w.room)
	w.a.failed(1) // now the reading for the output is there
	w.a.begins(0)
	w.a.answered(t.Context(), d, holds(t, 0, 5))
	if w.a.apart() {
		t.Error("they stay apart")
	}
	w.watchers["a"].upTo(t, 5)
}

func TestDamageThatIsReadAheadIsLeftOut(t *testing.T) {
	w := newAheadWorld(t, mark0)
	lost := int64(0)
	w.Lost = func(_ string, n int64) { lost += n }
	w.a.part()
	bad := holds(t, 0, 4)
	bad.records[len(bad.records)-3] ^= 1
	for range triesOfDamage {
		w.a.ahead.answered(t.Context(), new(decoder), bad)
	}
	if w.a.ahead.place() != 4 || lost != 0 {
		t.Errorf("read on at %d, %d counted as lost by who does not deliver", w.a.ahead.place(), lost)
	}
}

// Whoever reads, stops, dies or takes over, and whatever answers come too late: each
// record counts once, and never less than what is committed.
func TestRandomTurnsCountEachRecordOnce(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		w := newAheadWorld(t, mark0)
		close(w.room)
		c, p := w.watchers["a"], w.a
		end, on := int64(0), mark0
		secured, passed := map[int64]int{}, int64(0)
		var asked int64 // by the reading ahead, whose answer is under way
		d, reading := new(decoder), new(decoder)
		answer := func(from int64) *partAnswer {
			to := from + min(end-from, rnd.Int64N(7))
			a := holds(t, max(0, from-rnd.Int64N(3)), to)
			a.last = end
			return a
		}
		for range 60 {
			end += rnd.Int64N(4)
			switch rnd.IntN(8) {
			case 0:
				p.part()
				asked = p.ahead.place()
			case 1, 2:
				p.answered(t.Context(), d, answer(p.next))
			case 3, 4:
				if p.watch.apart || asked > 0 {
					p.ahead.answered(t.Context(), reading, answer(asked))
				}
				asked = p.ahead.place()
			case 5: // it commits
				secured, passed = make(map[int64]int), c.passed
				for offset := range c.counts {
					secured[offset] = c.counts[offset]
				}
				if at, moved := p.toCommit(); moved {
					on = readMark(at.offset, at.text())
					p.committed(at)
				}
			case 6: // it dies, and is there again
				c.counts, c.passed, c.shown = secured, passed, nil
				secured = make(map[int64]int)
				for offset := range c.counts {
					secured[offset] = c.counts[offset]
				}
				p, asked = newPartition(w.Source, p.id, on), 0
			case 7: // it goes to another member, which has counted nothing yet
				p.leave()
				p.stopCounting()
				if at, moved := p.toCommit(); moved {
					on = readMark(at.offset, at.text())
				}
				p.answered(t.Context(), d, answer(p.next))
				p.ahead.answered(t.Context(), reading, answer(max(0, p.ahead.place())))
				p.unwatch()
				c.passed = 0
				secured, passed = make(map[int64]int), 0
				for offset := range c.counts {
					secured[offset] = c.counts[offset]
				}
				p, asked = newPartition(w.Source, p.id, on), 0
			}
			if on.watched > c.passed {
				t.Fatalf("seed %d: committed as counted up to %d, counted to %d", seed, on.watched, c.passed)
			}
		}
		for p.next < end || p.apart() {
			a := holds(t, p.next, end)
			p.answered(t.Context(), d, a)
		}
		if t.Failed() {
			return
		}
		c.upTo(t, end)
		if slices.Max([]int64{p.safe, on.watched}) != p.safe || p.safe != end {
			t.Fatalf("seed %d: delivered up to %d, counted up to %d of %d", seed, p.safe, on.watched, end)
		}
	}
}

// The leader of a partition is another while it is read ahead: it is never read by two.
func TestTheReadingAheadFollowsTheLeader(t *testing.T) {
	w := newAheadWorld(t, mark0)
	w.a.part()
	w.f.stuck = true // and has a and b
	old := &fetcher{source: w.Source, fetcherID: fetcherID{1, w.a.lane, true}}
	next := &fetcher{source: w.Source, fetcherID: fetcherID{2, w.a.lane, true}}
	w.there = layout{"a": {1}, "b": {1}}
	due, _, _ := w.borrow(old)
	if len(due) != 1 || due[0] != reader(w.a.ahead) {
		t.Fatalf("%d are read ahead, of which one has no watcher there", len(due))
	}
	w.there = layout{"a": {2}, "b": {1}}
	if again, _, any := w.borrow(next); len(again) != 0 || !any {
		t.Error("it is read by two")
	}
	w.giveBack(due)
	if !w.retire(old) {
		t.Error("who reads nothing ahead goes on")
	}
	if again, _, _ := w.borrow(next); len(again) != 1 {
		t.Error("nobody reads it")
	}
	w.a.takeBack()
	if !w.retire(next) {
		t.Error("the watcher is with the other again, and somebody reads ahead")
	}
}
