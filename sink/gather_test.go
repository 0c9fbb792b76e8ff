package sink

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A destination that answers slowly, or one that is given a block at a time, gets few
// large batches in place of many small ones, and a line that comes alone does not wait.
func TestSmallBatchesGatherBesideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger = 25 * time.Millisecond
		var mu sync.Mutex
		var sent []int
		var held []func(Result)
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			mu.Lock()
			defer mu.Unlock()
			sent, held = append(sent, len(b.Refs)), append(held, done)
		}, func(c *DeliverConfig) { c.Linger, c.MaxBatchBytes = linger, 4000 })
		put := func(n int) {
			for range n {
				r.lane.put("p", "a line of a few words")
				synctest.Wait() // it is fetched alone
			}
		}
		answer := func() {
			mu.Lock()
			oldest := held[0]
			held = held[1:]
			mu.Unlock()
			oldest(Result{})
		}
		expect := func(what string, want ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(sent, want) {
				t.Fatalf("%s: batches of %v documents were sent, want %v", what, sent, want)
			}
		}
		put(1)
		expect("alone", 1)
		put(3)
		time.Sleep(linger - time.Nanosecond)
		expect("beside one that is under way", 1)
		time.Sleep(time.Nanosecond)
		expect("after a moment", 1, 3)
		put(2)
		answer()
		expect("beside the other", 1, 3)
		answer()
		expect("when nothing is under way any more", 1, 3, 2)
		put(200)
		answer()
		for range 20 {
			synctest.Wait()
			mu.Lock()
			left := len(held)
			mu.Unlock()
			if left > 0 {
				answer()
			}
		}
		r.drain(t)
		if n := len(sent); n < 5 || n > 3+200/10 || sent[3] < 10 {
			t.Errorf("batches of %v documents, though each has room for some 30", sent)
		}
	})
}

// What is gathered when the time to stop is over, is among what is told to be left.
func TestWhatIsGatheredIsLeftAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(context.Context, int, *Batch, func(Result)) {}, func(c *DeliverConfig) { c.Linger = time.Hour })
		first := r.lane.put("p", "under way")
		synctest.Wait()
		r.lane.put("p", "gathered", "too")
		synctest.Wait()
		r.stop(errors.New("deadline"))
		if err := <-r.ended; err == nil || r.State().Lines != 3 {
			t.Errorf("%v; %+v", err, r.State())
		}
		if r.lane.isDone(first) {
			t.Error("what was never answered is done")
		}
	})
}
