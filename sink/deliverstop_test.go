package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Pain 17: a sink in a long back-off heals 5 s after the stop began.
func TestStopTriesAtOnceWhatWaitsInBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			if time.Since(begin) < 25*time.Minute+5*time.Second {
				done(Result{Err: errors.New("connection refused")})
				return
			}
			done(Result{})
		}, func(c *DeliverConfig) { c.MaxBatchBytes, c.MaxInFlight = 1, 2 })
		var all []*record.Block
		for i := range 6 {
			all = append(all, r.lane.put("p", fmt.Sprint(i)))
		}
		time.Sleep(time.Until(begin.Add(25 * time.Minute)))
		synctest.Wait()
		tries := r.sink.count()
		r.Hurry(true) // the queue is full, so its closing is not seen yet
		synctest.Wait()
		if r.sink.count() != tries+2 {
			t.Errorf("%d tries at once, want 2", r.sink.count()-tries)
		}
		close(r.lane.parcels)
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		r.lane.check(all...)
		if took := time.Since(begin) - 25*time.Minute; took > 5*time.Second+hurriedCap {
			t.Errorf("took %v after the stop", took)
		}
	})
}

func TestDeadlineCountsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(ctx context.Context, try int, b *Batch, done func(Result)) {
			switch message(b.Refs[0]) {
			case "never":
			case "late": // stored although the deadline has passed
				go func() {
					<-ctx.Done()
					time.Sleep(100 * time.Millisecond)
					done(Result{})
				}()
			default:
				done(Result{Err: errors.New("connection refused")})
			}
		}, func(c *DeliverConfig) { c.MaxBatchBytes = 1 })
		never, late, waits := r.lane.put("p", "never", "n2"), r.lane.put("p", "late"), r.lane.put("p", "w1", "w2", "w3")
		time.Sleep(10 * time.Second)
		r.stop(errors.New("drain deadline of 5s passed"))
		at := time.Now()
		err := <-r.ended
		if err == nil || err.Error() != "output es: drain deadline of 5s passed; 5 lines in 2 batches are undelivered and will be sent after the next start" {
			t.Error(err)
		}
		if took := time.Since(at); took > stopGrace {
			t.Errorf("took %v", took)
		}
		r.lane.check(late)
		if r.lane.done[never] != 0 || r.lane.done[waits] != 0 || r.lane.freed[never] != 0 || r.lane.freed[waits] != 1 {
			t.Errorf("done %v, freed %v", r.lane.done, r.lane.freed)
		}
	})
}

func TestSinkThatBlocksInSendDoesNotBlockTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			<-free // a write to a dead NFS server
			done(Result{})
		})
		b := r.lane.put("p", "a")
		synctest.Wait()
		r.stop(errors.New("deadline"))
		if err := <-r.ended; err == nil {
			t.Error("no error although a line is undelivered")
		}
		close(free)
		synctest.Wait()
		if r.lane.done[b] != 0 || r.lane.freed[b] != 1 {
			t.Errorf("done %d times, freed %d times; want 0 and 1", r.lane.done[b], r.lane.freed[b])
		}
	})
}

// committing is a moody sink that must be sent one batch at a time.
type committing struct{ *moody }

func (committing) Restore(json.RawMessage) error    { return nil }
func (committing) Prepare()                         {}
func (committing) Commit() (json.RawMessage, error) { return nil, nil }
func (committing) Saved()                           {}

func TestHoldSeesAllOrNothingOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := 0
		r := start(t, func(_ context.Context, try int, b *Batch, done func(Result)) {
			if try%3 == 0 {
				done(Result{Err: errors.New("disk full"), Reason: "disk_full"})
				return
			}
			stored += len(b.Refs)
			go func() {
				time.Sleep(300 * time.Millisecond)
				done(Result{})
			}()
		}, func(c *DeliverConfig) {
			c.Sink = committing{c.Sink.(*moody)}
			c.MaxBatchBytes = 1
		})
		go func() {
			for i := range 30 {
				r.lane.put("p", fmt.Sprint(i), "x")
				time.Sleep(100 * time.Millisecond)
			}
			close(r.lane.parcels)
		}()
		for range 100 {
			time.Sleep(77 * time.Millisecond)
			if err := r.Hold(t.Context(), func() {
				acknowledged := 0
				r.lane.mu.Lock()
				for b := range r.lane.done {
					acknowledged += len(b.Docs)
				}
				r.lane.mu.Unlock()
				if acknowledged != stored {
					t.Errorf("%d stored, %d acknowledged", stored, acknowledged)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		if stored != 60 {
			t.Errorf("stored %d documents, want 60", stored)
		}
	})
}

func TestHoldGivesUpOnASinkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(context.Context, int, *Batch, func(Result)) {}, func(c *DeliverConfig) { c.Sink = committing{c.Sink.(*moody)} })
		r.lane.put("p", "a")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Hold(ctx, func() { t.Error("held in the middle of a try") }); err == nil {
			t.Error("no error")
		}
		r.stop(errors.New("deadline"))
		<-r.ended
	})
}

// Whatever a sink answers, each document is stored or parked exactly once more than
// it was asked for again, and each parcel is acknowledged exactly once.
func TestRandomMoods(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			r := newRig(t, nil, func(c *DeliverConfig) { c.MaxBatchBytes = 2000 })
			r.sink.answer = func(_ context.Context, _ int, b *Batch, done func(Result)) {
				mu.Lock()
				mood, late := rng.IntN(4), rng.IntN(2) == 0
				var res Result
				var not []int
				switch mood {
				case 0:
					res = Result{Err: errors.New("no"), Reason: "unreachable"}
				default:
					for i := range b.Refs {
						switch rng.IntN(6) {
						case 0:
							res.Retry, not = append(res.Retry, i), append(not, i)
						case 1:
							res.Refused, not = append(res.Refused, Refusal{Index: i, Reason: "r"}), append(not, i)
						}
					}
					r.sink.take(b, not...)
				}
				delay := time.Duration(rng.IntN(3000)) * time.Millisecond
				mu.Unlock()
				if !late {
					done(res)
					return
				}
				go func() {
					time.Sleep(delay)
					done(res)
				}()
			}
			var all []*record.Block
			n := 0
			for range 40 {
				var messages []string
				for range 1 + n%7 {
					n++
					messages = append(messages, fmt.Sprintf("m%d", n))
				}
				all = append(all, r.lane.put("p", messages...))
			}
			r.shelf.fail = 3
			r.run(t)
			r.drain(t)
			r.lane.check(all...)
			once := map[string]int{}
			for _, g := range r.sink.got {
				once[g]++
			}
			for _, l := range r.shelf.letters {
				once[strings.TrimSuffix(l, ": r")]++
			}
			for i := range n {
				if m := fmt.Sprintf("m%d", i+1); once[m] != 1 {
					t.Errorf("seed %d: %s was stored or parked %d times", seed, m, once[m])
				}
			}
			if r.tally.delivered+r.tally.parked != n || r.State().Lines != 0 {
				t.Errorf("seed %d: %+v of %d; %+v", seed, *r.tally, n, r.State())
			}
		})
	}
}
