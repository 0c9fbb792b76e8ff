package ack

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/tailwater/tailwater/record"
)

func pos(off int64) record.Pos { return record.Pos{Off: off} }

func TestDeliveriesThatEndOutOfOrder(t *testing.T) {
	tr := New(pos(10))
	a := tr.Begin(pos(20), 5)
	tr.Advance(pos(25))
	tr.Advance(pos(30))
	b := tr.Begin(pos(40), 7)
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
		tr, model := New(pos(0)), naive{}
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
				open = append(open, ticket{len(model.ends), tr.Begin(pos(off), 1)})
				model.ends, model.open = append(model.ends, off), append(model.open, true)
			case len(open) > 0:
				j := rnd.IntN(len(open))
				open[j].done()
				model.open[open[j].i] = false
				open = append(open[:j], open[j+1:]...)
			}
			count, bytes := tr.InFlight()
			if tr.Safe().Off != model.safe() || count != len(open) || bytes != int64(len(open)) {
				t.Fatalf("seed %d: safe %d, %d in flight; want %d, %d", seed, tr.Safe().Off, count, model.safe(), len(open))
			}
		}
	}
}

func TestManyGoroutinesAreDoneAtOnce(t *testing.T) {
	tr := New(pos(0))
	var wg sync.WaitGroup
	last := int64(0)
	for i := range int64(2000) {
		done := tr.Begin(pos(i+1), 1)
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

func TestOneAllocationPerRange(t *testing.T) {
	tr := New(pos(0))
	off := int64(0)
	if a := testing.AllocsPerRun(1000, func() {
		off++
		done := tr.Begin(pos(off), 1)
		tr.Advance(pos(off))
		done()
	}); a > 1 {
		t.Fatalf("%v allocations per range", a)
	}
}

func BenchmarkTracker(b *testing.B) {
	b.ReportAllocs()
	tr := New(pos(0))
	var open [16]func()
	i := 0
	for b.Loop() {
		if done := open[i%16]; done != nil {
			done()
		}
		open[i%16] = tr.Begin(pos(int64(i)), 1)
		i++
	}
}
