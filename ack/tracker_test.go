package ack

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/tailwater/tailwater/record"
)

func pos(off int64) record.Pos { return record.Pos{Off: off} }

func TestDeliveriesThatEndOutOfOrder(t *testing.T) {
	tr := New(pos(10), record.Sum{})
	a := tr.Begin(pos(20), 1, 5).Done
	tr.Advance(pos(25))
	tr.Advance(pos(30))
	b := tr.Begin(pos(40), 1, 7).Done
	want := func(off int64, count int, bytes int64) {
		t.Helper()
		c, n := tr.InFlight()
		if got := tr.Safe().Off; got != off || c != count || n != bytes {
			t.Fatalf("safe %d, in flight %d (%d bytes); want %d, %d (%d bytes)", got, c, n, off, count, bytes)
		}
	}
	want(10, 2, 12)
	b()
	want(10, 1, 5)
	tr.Advance(pos(50))
	want(10, 1, 5)
	a()
	a()
	b()
	want(50, 0, 0)
	tr.Advance(pos(60))
	want(60, 0, 0)
}

// naive is a Tracker that anybody can check by eye.
type naive struct {
	start int64
	ends  []int64
	open  []bool
}

func (n *naive) safe() int64 {
	safe := n.start
	for i, end := range n.ends {
		if n.open[i] {
			break
		}
		safe = end
	}
	return safe
}

func TestSafeIsWhatANaiveTrackerSays(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		tr, model := New(pos(0), record.Sum{}), naive{}
		type ticket struct {
			i    int
			done func()
		}
		var open []ticket
		off := int64(0)
		for range 300 {
			switch k := rnd.IntN(3 + int(seed%3)); {
			case k == 0:
				off += rnd.Int64N(100)
				tr.Advance(pos(off))
				model.ends, model.open = append(model.ends, off), append(model.open, false)
			case k == 1:
				off += rnd.Int64N(100)
				open = append(open, ticket{len(model.ends), tr.Begin(pos(off), 1, 1).Done})
				model.ends, model.open = append(model.ends, off), append(model.open, true)
			case len(open) > 0:
				j := rnd.IntN(len(open))
				open[j].done()
				model.open[open[j].i] = false
				open = append(open[:j], open[j+1:]...)
			}
			if safe, sum := tr.Sum(); sum.End() != safe.Off {
				t.Fatalf("seed %d: %+v does not end at %d", seed, sum, safe.Off)
			}
			count, bytes := tr.InFlight()
			if tr.Safe().Off != model.safe() || count != len(open) || bytes != int64(len(open)) {
				t.Fatalf("seed %d: safe %d, %d in flight; want %d, %d", seed, tr.Safe().Off, count, model.safe(), len(open))
			}
		}
	}
}

// A sum holds what lies before the safe position, and nothing of what is under way.
func TestSumsGoWithTheSafePosition(t *testing.T) {
	tr := New(pos(10), record.Sum{From: 4, Bytes: 6, Docs: 2})
	want := func(w record.Sum) {
		t.Helper()
		if _, got := tr.Sum(); got != w {
			t.Fatalf("%+v, want %+v", got, w)
		}
	}
	a := tr.Begin(pos(20), 3, 1)
	tr.Pass(5, 2)
	tr.Advance(pos(30))
	tr.Pass(0, 1)
	b := tr.Begin(pos(40), 4, 1)
	b.Refused()
	b.Done()
	want(record.Sum{From: 4, Bytes: 6, Docs: 2})
	a.Refused()
	a.Done()
	want(record.Sum{From: 4, Bytes: 6 + 10 + 3 + 9, Lost: 5, Passed: 3, Docs: 9, Refused: 2})
	b.Refused() // too late: it is counted
	want(record.Sum{From: 4, Bytes: 28, Lost: 5, Passed: 3, Docs: 9, Refused: 2})
	// What a state does not explain lies before the beginning.
	if _, got := New(pos(50), record.Sum{From: 4, Bytes: 6}).Sum(); got.End() != 50 || got.From != 44 {
		t.Errorf("%+v", got)
	}
}

func TestManyGoroutinesAreDoneAtOnce(t *testing.T) {
	tr := New(pos(0), record.Sum{})
	var wg sync.WaitGroup
	last := int64(0)
	for i := range int64(2000) {
		done := tr.Begin(pos(i+1), 1, 1).Done
		wg.Go(func() {
			done()
			tr.Safe()
		})
		if now := tr.Safe().Off; now < last {
			t.Fatalf("safe went back from %d to %d", last, now)
		} else {
			last = now
		}
	}
	wg.Wait()
	if got := tr.Safe().Off; got != 2000 {
		t.Fatalf("safe %d, want 2000", got)
	}
}

func TestARangeDoesNotAllocate(t *testing.T) {
	tr := New(pos(0), record.Sum{})
	off := int64(0)
	if a := testing.AllocsPerRun(1000, func() {
		off++
		d := tr.Begin(pos(off), 1, 1)
		tr.Advance(pos(off))
		d.Done()
	}); a > 0 {
		t.Fatalf("%v allocations per range", a)
	}
}

func BenchmarkTracker(b *testing.B) {
	b.ReportAllocs()
	tr := New(pos(0), record.Sum{})
	var open [16]Delivery
	i := 0
	for b.Loop() {
		if i >= 16 {
			open[i%16].Done()
		}
		open[i%16] = tr.Begin(pos(int64(i)), 1, 1)
		i++
	}
}
