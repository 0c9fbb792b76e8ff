package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/record"
)

func TestThreeOutagesCostExactlyTheirBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ context.Context, try int, b *Batch, done func(Result)) {
			if b.Try != try-1 {
				t.Errorf("try %d says it is %d", try, b.Try)
			}
			if try <= 3 {
				done(Result{Err: errors.New("connection refused"), Reason: "unreachable"})
				return
			}
			done(Result{})
		})
		b := r.lane.put("p", "a", "b")
		synctest.Wait()
		if s := r.State(); s.Up || s.Failures != 1 || s.LastError != "connection refused" || time.Until(s.NextTry) != 200*time.Millisecond || s.Lines != 2 {
			t.Errorf("in the outage: %+v", s)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.lane.check(b)
		if s := r.State(); !s.Up || s.Failures != 0 || s.Lines != 0 || !s.NextTry.IsZero() || s.LastError == "" {
			t.Errorf("after it: %+v", s)
		}
		r.drain(t)
		if want := "[0s 200ms 600ms 1.4s]"; fmt.Sprint(r.sink.at) != want {
			t.Errorf("tries at %v, want %s", r.sink.at, want)
		}
		if *r.tally != (tally{delivered: 2, failed: 6, bytes: len(b.Data)}) {
			t.Errorf("%+v", *r.tally)
		}
	})
}

func TestOnlyTheRefusedAndTheOverloadedOnesAreHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.sink.answer = func(_ context.Context, try int, b *Batch, done func(Result)) {
			switch try {
			case 1:
				r.sink.take(b, 1, 2, 3)
				done(Result{Retry: []int{1, 3}, Refused: []Refusal{{Index: 2, Reason: "mapping", Detail: "no"}}, Reason: "overloaded"})
			case 2:
				if len(b.Refs) != 2 || message(b.Refs[0]) != "b" || message(b.Refs[1]) != "d" {
					t.Errorf("second try of %d documents", len(b.Refs))
				}
				if want := len(b.Refs[0].JSON()) + len(b.Refs[1].JSON()) + 2; b.Bytes != want {
					t.Errorf("%d bytes, want %d", b.Bytes, want)
				}
				r.sink.take(b, 1)
				done(Result{Retry: []int{1}, Reason: "overloaded"})
			default:
				r.sink.take(b)
				done(Result{})
			}
		}
		x, y := r.lane.put("p", "a", "b"), r.lane.put("p", "c", "d", "e")
		r.lane.taken = func(b *record.Block) bool {
			if b == x {
				return r.sink.has("a") && r.sink.has("b")
			}
			return r.sink.has("d") && r.sink.has("e") && len(r.shelf.letters) == 1
		}
		r.run(t)
		r.drain(t)
		r.lane.check(x, y)
		if got := strings.Join(r.shelf.letters, ","); got != "c: mapping" {
			t.Errorf("parked %q", got)
		}
		if len(r.sink.got) != 4 {
			t.Errorf("stored %v", r.sink.got)
		}
		if r.tally.delivered != 4 || r.tally.parked != 1 || r.tally.failed != 3 {
			t.Errorf("%+v", *r.tally)
		}
	})
}

func TestAStuckBatchDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			if message(b.Refs[0]) == "bad" {
				done(Result{Err: errors.New("no leader"), Reason: "unreachable"})
				return
			}
			done(Result{})
		}, func(c *DeliverConfig) { c.MaxBatchBytes = 1 })
		bad := r.lane.put("p", "bad")
		var good []*record.Block
		for i := range 50 {
			good = append(good, r.lane.put("p", fmt.Sprint(i)))
		}
		synctest.Wait() // no time passes
		r.lane.check(good...)
		if r.lane.isDone(bad) {
			t.Error("the stuck one is done")
		}
		if s := r.State(); s.Batches != 1 {
			t.Errorf("%+v", s)
		}
		r.stop(errors.New("end of the test"))
		<-r.ended
	})
}

func TestNoMoreBatchesAreUnderWayThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []func(Result)
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) { held = append(held, done) },
			func(c *DeliverConfig) { c.MaxBatchBytes, c.MaxInFlight = 1, 3 })
		var all []*record.Block
		for i := range 10 {
			all = append(all, r.lane.put("p", fmt.Sprint(i)))
		}
		synctest.Wait()
		if len(held) != 3 {
			t.Errorf("%d batches under way, want 3", len(held))
		}
		time.Sleep(time.Hour)
		if s := r.State(); time.Since(s.OldestTry) != time.Hour {
			t.Errorf("an output that hangs: %+v", s)
		}
		for len(held) > 0 { // the last first
			n := len(held) - 1
			answer := held[n]
			held = held[:n]
			answer(Result{})
			synctest.Wait()
		}
		r.lane.check(all...)
		r.drain(t)
	})
}

func TestSecondAnswerIsTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			done(Result{})
			done(Result{Err: errors.New("again")})
			done(Result{})
		})
		b := r.lane.put("p", "a")
		r.drain(t)
		r.lane.check(b)
		if r.sink.count() != 1 || !strings.Contains(r.log.String(), "answered twice") {
			t.Errorf("%d tries; %s", r.sink.count(), r.log)
		}
	})
}

func TestIndexesOutsideTheBatchAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ context.Context, try int, b *Batch, done func(Result)) {
			done(Result{Retry: []int{-1, 7}, Refused: []Refusal{{Index: 9}, {Index: 0, Reason: "x"}, {Index: 0, Reason: "y"}}})
		})
		b := r.lane.put("p", "a", "b")
		r.drain(t)
		r.lane.check(b)
		if got := strings.Join(r.shelf.letters, ","); got != "a: x" {
			t.Errorf("parked %q", got)
		}
	})
}

func TestFullDiskForDeadLettersHoldsBackTheAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(_ context.Context, try int, b *Batch, done func(Result)) {
			done(Result{Refused: []Refusal{{Index: 0, Reason: "mapping"}}})
		})
		r.shelf.fail = 3
		r.run(t)
		b := r.lane.put("p", "bad", "good")
		synctest.Wait()
		if r.lane.isDone(b) {
			t.Error("acknowledged before it was parked")
		}
		if s := r.State(); s.Up || s.Lines != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.lane.check(b)
		if r.sink.count() != 1 || len(r.shelf.letters) != 1 || !r.State().Up {
			t.Errorf("%d tries, parked %v, %+v", r.sink.count(), r.shelf.letters, r.State())
		}
		r.drain(t)
	})
}

func TestRecoveryWakesAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		r := start(t, func(_ context.Context, _ int, b *Batch, done func(Result)) {
			if !up.Load() {
				done(Result{Err: errors.New("connection refused")})
				return
			}
			done(Result{})
		}, func(c *DeliverConfig) { c.MaxBatchBytes = 1 })
		var all []*record.Block
		for i := range 4 {
			all = append(all, r.lane.put("p", fmt.Sprint(i)))
			time.Sleep(7 * time.Second) // their back-offs are not in step
		}
		time.Sleep(10 * time.Minute)
		up.Store(true)
		next := r.State().NextTry
		time.Sleep(time.Until(next))
		synctest.Wait()
		r.lane.check(all...)
		if n := strings.Count(r.log.String(), "does not take documents;"); n != 1 {
			t.Errorf("the outage was logged %d times", n)
		}
		if n := strings.Count(r.log.String(), "still does not"); n < 9 || n > 11 {
			t.Errorf("ten minutes of it were logged %d times", n)
		}
		if n := strings.Count(r.log.String(), "takes documents again"); n != 1 {
			t.Errorf("the recovery was logged %d times", n)
		}
		r.drain(t)
	})
}

func TestFlappingOutputDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ context.Context, try int, b *Batch, done func(Result)) {
			if try%2 == 1 {
				done(Result{Err: errors.New("timeout")})
				return
			}
			done(Result{})
		})
		for range 120 {
			r.lane.put("p", "x")
			time.Sleep(time.Second)
		}
		r.drain(t)
		if n := strings.Count(r.log.String(), "\n"); n > 6 {
			t.Errorf("%d lines in two minutes:\n%s", n, r.log)
		}
	})
}
