package sink

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
)

// Queue is where a Deliverer gets its documents: the waiting room of its output.
type Queue interface {
	// Take waits for parcels and returns some of about maxBytes together, at least
	// one. It returns false when there will be no more, or ctx has ended.
	Take(ctx context.Context, maxBytes int) ([]record.Parcel, bool)
}

// Parker keeps what an output refused. DeadLetters is one.
type Parker interface {
	// Park stores the refused of refs (Refusal.Index counts in refs) durably before
	// it returns. After an error all of them are parked again later.
	Park(output string, refs []record.Ref, refused []Refusal) error
}

// Meter counts what a Deliverer does. Its methods are called by one goroutine.
type Meter interface {
	// Delivered counts documents that the output has taken, and their bytes.
	Delivered(lines, bytes int)
	// Failed counts a try after which so many documents are to be tried again.
	Failed(reason string, lines int)
	// Parked counts documents that the output refused and that are parked now.
	Parked(reason string, lines int)
}

// The defaults of a DeliverConfig.
const (
	DefaultBatchBytes      = 4 << 20
	DefaultInFlight        = 4
	DefaultInFlightBytes   = 16 << 20
	hurriedCap             = 500 * time.Millisecond // the longest back-off while hurrying
	stopGrace              = time.Second            // for answers that are under way when the deadline passes
	repeatLog              = time.Minute
	reasonOfUnlabelledTry  = "failed"
	reasonOfUnlabelledItem = "refused"
)

// DeliverConfig says what a Deliverer connects. Zero numbers are the defaults.
type DeliverConfig struct {
	Name  string // the output's
	Sink  Sink
	Queue Queue
	Dead  Parker
	Meter Meter // may be nil
	Log   *slog.Logger

	// MaxBatchBytes is about the size of a batch, in bytes of JSON.
	MaxBatchBytes int
	// MaxInFlight and MaxInFlightBytes bound the batches that are under way or wait
	// to be tried again. Only the bytes count of those of which the sink has put off
	// single documents. For a Committer it is always one batch.
	MaxInFlight      int
	MaxInFlightBytes int
	// Linger is how long a batch that is not full waits for more while others are under
	// way; 0 is not at all.
	Linger  time.Duration
	Backoff backoff.Policy
}

// Deliverer feeds one sink from its queue. What the sink refuses it parks; what is
// to be tried again it tries again after a back-off, those documents alone and for
// ever, while other batches go on.
//
// One goroutine, Run, owns all batches. It has two that work for it, because both
// may block for as long as the destination likes: one takes parcels, one calls Send.
type Deliverer struct {
	DeliverConfig
	committer bool

	// turn is held during each try of a Committer, until its answer is settled, and
	// by Hold: a checkpoint sees either all or nothing of a batch.
	turn chan struct{}

	fetched chan []record.Parcel // closed when the queue is drained
	tries   chan *shipment       // to the goroutine that calls Send
	answers chan answer          // holds all that can be under way: answering never blocks
	nudge   chan struct{}        // the hurry has changed
	trouble chan struct{}        // a Troubled sink has said something

	// Owned by Run.
	ready    []*shipment // to be sent now, in the order of the queue
	trying   []*shipment // with the sink
	waiting  []*shipment // in back-off
	spare    []*shipment
	gathered gathering
	inFlight int
	bytes    int
	lines    int
	sequence uint64
	drained  bool // the queue is closed and empty
	stopping bool // ctx has ended: errors are its, and nothing is tried any more
	circuit  circuit
	taken    time.Time // when the output last took something

	mu    sync.Mutex // guards what follows
	told  []error    // by a Troubled sink, not noted yet
	hurry bool
	ended bool // Run has returned
	state State
}

// answer is what a sink said about one try.
type answer struct {
	s      *shipment
	result Result
}

// NewDeliverer returns a Deliverer that Run starts.
func NewDeliverer(c DeliverConfig) *Deliverer {
	if c.MaxBatchBytes <= 0 {
		c.MaxBatchBytes = DefaultBatchBytes
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = DefaultInFlight
	}
	if c.MaxInFlightBytes <= 0 {
		c.MaxInFlightBytes = DefaultInFlightBytes
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Meter == nil {
		c.Meter = noMeter{}
	}
	_, committer := c.Sink.(Committer)
	if committer {
		c.MaxInFlight = 1
	}
	up := State{Up: true, Since: time.Now()}
	d := &Deliverer{
		DeliverConfig: c,
		committer:     committer,
		turn:          make(chan struct{}, 1),
		fetched:       make(chan []record.Parcel),
		tries:         make(chan *shipment),
		answers:       make(chan answer, c.MaxInFlight),
		nudge:         make(chan struct{}, 1),
		trouble:       make(chan struct{}, 1),
		circuit:       circuit{name: c.Name, log: c.Log, state: up},
		state:         up,
	}
	if t, ok := c.Sink.(Troubled); ok {
		t.OnTrouble(d.tell)
	}
	return d
}

// tell takes what a Troubled sink says, for the loop to note.
func (d *Deliverer) tell(err error) {
	d.mu.Lock()
	if len(d.told) < maxTold || err == nil {
		d.told = append(d.told, err)
	}
	d.mu.Unlock()
	select {
	case d.trouble <- struct{}{}:
	default:
	}
}

// maxTold is how many errors of a Troubled sink are kept until they are noted.
const maxTold = 64

// noteTrouble notes what a Troubled sink has said. While the output takes documents
// beside those in trouble, it is up.
func (d *Deliverer) noteTrouble() {
	d.mu.Lock()
	told := d.told
	d.told = nil
	d.mu.Unlock()
	for _, err := range told {
		switch {
		case err == nil:
			d.succeeded()
		case time.Since(d.taken) < partlyUp:
			d.Meter.Failed("unreachable", 0)
			d.circuit.troubled(err)
		default:
			d.Meter.Failed("unreachable", 0)
			d.circuit.failed(err, "unreachable")
		}
	}
}

// partlyUp is how long after its last delivery an output in trouble counts as up.
const partlyUp = 5 * time.Second

type noMeter struct{}

func (noMeter) Delivered(int, int) {}
func (noMeter) Failed(string, int) {}
func (noMeter) Parked(string, int) {}

// Run delivers until the queue is closed and everything from it is delivered or
// parked: then it returns nil. When ctx ends first, it returns an error with ctx's
// cause and the number of lines that stay undelivered. It is called once.
func (d *Deliverer) Run(ctx context.Context) error {
	workCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var workers sync.WaitGroup
	workers.Go(func() { d.fetch(workCtx) })
	workers.Go(func() { d.send(workCtx) })

	err := d.loop(ctx)
	stop(context.Cause(ctx))
	if err == nil {
		workers.Wait()
		d.end()
		return nil
	}
	d.stopping = true
	d.lastAnswers(&workers)
	d.end()
	if d.lines == 0 && d.drained {
		return nil
	}
	return fmt.Errorf("output %s: %w; %d lines in %d batches are undelivered and will be sent after the next start", d.Name, err, d.lines, d.inFlight)
}

// loop is the stage: it returns nil when all is done, or ctx's cause.
func (d *Deliverer) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for !d.drained || d.inFlight > 0 || len(d.gathered.parcels) > 0 {
		if d.untilRipe() == 0 {
			d.shipGathered()
		}
		d.publish()
		var fetched <-chan []record.Parcel
		if !d.drained && len(d.ready) == 0 && d.mayBegin() {
			fetched = d.fetched
		}
		var tries chan<- *shipment
		var next *shipment
		if len(d.ready) > 0 && len(d.trying) < d.MaxInFlight {
			tries, next = d.tries, d.ready[0]
		}
		timer.Reset(min(d.untilDue(), d.untilRipe()))
		select {
		case parcels, ok := <-fetched:
			if !ok {
				d.drained = true
				d.wake()
				continue
			}
			d.gather(parcels)
		case tries <- next:
			d.ready = slices.Delete(d.ready, 0, 1)
			next.tryBegan = time.Now()
			d.trying = append(d.trying, next)
		case a := <-d.answers:
			d.settle(a)
		case <-timer.C:
			d.due(time.Now())
		case <-d.trouble:
			d.noteTrouble()
		case <-d.nudge:
			d.wake()
		case <-ctx.Done():
			d.shipGathered() // which counts it among what is left
			return context.Cause(ctx)
		}
	}
	return nil
}

// mayBegin reports whether another batch may be begun. Documents that were put off one
// by one and wait hold memory but nobody up: a partition or an index that takes nothing
// must not stop the others. A Committer has one batch at all times.
func (d *Deliverer) mayBegin() bool {
	busy := d.inFlight
	for _, s := range d.waiting {
		if s.putOff && !d.committer {
			busy--
		}
	}
	return busy < d.MaxInFlight && d.bytes < d.MaxInFlightBytes
}

// fetch takes parcels from the queue, one lot ahead of the loop.
func (d *Deliverer) fetch(ctx context.Context) {
	for {
		parcels, ok := d.Queue.Take(ctx, d.MaxBatchBytes)
		if !ok {
			if ctx.Err() == nil {
				close(d.fetched)
			}
			return
		}
		select {
		case d.fetched <- parcels:
		case <-ctx.Done():
			for _, p := range parcels {
				p.Block.Release()
			}
			return
		}
	}
}

// send calls Send for one shipment after the other.
func (d *Deliverer) send(ctx context.Context) {
	for {
		select {
		case s := <-d.tries:
			if d.committer {
				select {
				case d.turn <- struct{}{}:
					s.holdsTurn = true
				case <-ctx.Done():
					d.answers <- answer{s, Result{Err: context.Cause(ctx)}}
					return
				}
			}
			d.try(ctx, s)
		case <-ctx.Done():
			return
		}
	}
}

// try sends s once. The sink answers exactly once; a second answer would settle
// another try of the same documents, so it is turned away.
func (d *Deliverer) try(ctx context.Context, s *shipment) {
	var answered atomic.Bool
	d.Sink.Send(ctx, &s.batch, func(r Result) {
		if answered.Swap(true) {
			d.Log.Error("a sink answered twice for one batch; the second answer is ignored, please report it", "output", d.Name)
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.ended { // too late to count: the lines will be sent again
			s.release()
			return
		}
		d.answers <- answer{s, r}
	})
}

// lastAnswers gives tries that are under way when the deadline passes a moment to
// end, now that their context has.
func (d *Deliverer) lastAnswers(workers *sync.WaitGroup) {
	idle := make(chan struct{})
	go func() {
		workers.Wait()
		close(idle)
	}()
	timeout := time.NewTimer(stopGrace)
	defer timeout.Stop()
	for wait := idle; len(d.trying) > 0 || wait != nil; {
		select {
		case a := <-d.answers:
			d.settle(a)
		case <-wait:
			wait = nil
		case <-timeout.C:
			d.Log.Error("an output does not answer; its last try is given up", "output", d.Name)
			return
		}
	}
}

// end gives back the blocks of what no sink holds any more.
func (d *Deliverer) end() {
	d.publish()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	for {
		select {
		case a := <-d.answers: // came in just now
			a.s.release()
			continue
		default:
		}
		break
	}
	for _, s := range slices.Concat(d.ready, d.waiting) {
		s.release()
	}
}

// Hurry(true) tries at once what waits in back-off and keeps the waits short from
// then on, for a stop that has a deadline; Hurry(false) takes that back. A closed
// queue hurries too.
func (d *Deliverer) Hurry(on bool) {
	d.mu.Lock()
	d.hurry = on
	d.mu.Unlock()
	select {
	case d.nudge <- struct{}{}:
	default:
	}
}

func (d *Deliverer) hurried() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hurry || d.drained
}

// Hold calls f while no try of a Committer is under way or unsettled, so that what
// the sink holds is exactly what has been acknowledged. It waits for the try that
// is; when ctx ends first, f is not called and the cause is returned. Other sinks
// are not held up.
func (d *Deliverer) Hold(ctx context.Context, f func()) error {
	if d.committer {
		select {
		case d.turn <- struct{}{}:
			defer func() { <-d.turn }()
		case <-ctx.Done():
			return fmt.Errorf("output %s: waiting for its last answer: %w", d.Name, context.Cause(ctx))
		}
	}
	f()
	return nil
}

// State tells how the output is doing. Any goroutine may call it.
func (d *Deliverer) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// publish makes the loop's state visible to State.
func (d *Deliverer) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = d.circuit.state
	d.state.Batches, d.state.Lines, d.state.Bytes = d.inFlight, d.lines, d.bytes
	for _, s := range d.trying {
		if d.state.OldestTry.IsZero() || s.tryBegan.Before(d.state.OldestTry) {
			d.state.OldestTry = s.tryBegan
		}
	}
	for _, s := range d.waiting {
		if d.state.NextTry.IsZero() || s.due.Before(d.state.NextTry) {
			d.state.NextTry = s.due
		}
	}
}
