package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
		if s := r.State(); s.Up || s.Failures != 1 || s.LastError != "connection refused" || s.NextTry.Sub(time.Now()) != 200*time.Millisecond || s.Lines != 2 {
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
