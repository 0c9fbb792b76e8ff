package kafka

import (
	"context"
	"errors"
	"time"
)

// maxFlights is how many batches of one partition are under way at once: a broker knows
// the last five of a producer, and says of those that it has them already.
const maxFlights = 5

// flight is a batch under way beside others of its partition. Each has its sequence, so
// that none can be stored before the one in front of it: when that fails, so do those
// that follow, and all are sent again in their order.
type flight struct {
	*batch
	runs     []run
	producer producer
	sequence int32
	answer   chan error // gets the one answer; holds it
}

// window is how many batches may be under way. Without sequences a broker would store
// what follows a batch that fails; and so it does with them as long as it has nothing of
// the producer, of which it takes any sequence for the first. The first batch therefore
// goes alone: on a topic that is just coming into being it may find no leader when the
// second finds one.
func (l *lane) window() int {
	if l.cfg.Acks != AcksAll || !l.known || l.heard != l.producer {
		return 1
	}
	return maxFlights
}

// launch sends what waits, up to one batch, without waiting for the answer.
func (l *lane) launch(ctx context.Context) {
	runs := l.take(nil)
	f := &flight{batch: l.batch(), runs: runs, answer: make(chan error, 1)}
	err := l.ensureProducer(ctx)
	if err == nil {
		err = l.seal(f.batch, runs)
	}
	if err != nil { // it takes more than one try, or more than one batch
		l.putBack(f.batch)
		if l.clear(ctx) {
			l.store(ctx, runs)
		} else {
			giveBack(runs)
		}
		return
	}
	f.producer, f.sequence = l.producer, l.sequence
	stamp(f.out, l.producer, f.sequence)
	l.sequence = nextSequence(l.sequence, f.count)
	wait := l.try(ctx, f.out)
	l.flights = append(l.flights, f)
	go func() { f.answer <- wait() }()
}

// land takes the answer to the first flight. When it is not stored, none after it is
// either, as far as can be known: all are waited for, and stored one by one.
func (l *lane) land(ctx context.Context, err error) {
	f := l.flights[0]
	if !isStored(err) {
		if errors.Is(err, errSilent) {
			l.report(l.explain(err))
		}
		f.answer <- err
		l.clear(ctx)
		return
	}
	l.report(nil)
	l.heard = f.producer
	delivered(f.runs)
	l.pop()
}

// clear waits for all that is under way, and stores what of it is not, in order. It
// returns false when ctx has ended.
func (l *lane) clear(ctx context.Context) bool {
	if len(l.flights) == 0 {
		return ctx.Err() == nil
	}
	errs := make([]error, len(l.flights))
	for i, f := range l.flights {
		errs[i] = <-f.answer
	}
	l.sequence = l.flights[0].sequence
	for _, err := range errs {
		f := l.flights[0]
		switch {
		case isStored(err):
			if f.producer == l.producer { // not so after one before it has lost it
				l.sequence = nextSequence(f.sequence, f.count)
			}
			delivered(f.runs)
		case ctx.Err() != nil:
			giveBack(f.runs)
		default:
			l.finish(ctx, f.batch, true, f.runs)
		}
		l.pop()
	}
	return ctx.Err() == nil
}

// pop ends with the first flight.
func (l *lane) pop() {
	l.putBack(l.flights[0].batch)
	l.flights = append(l.flights[:0], l.flights[1:]...)
	l.stored = time.Now()
}

// stop answers for all that the lane has, when ctx has ended.
func (l *lane) stop(ctx context.Context) {
	l.clear(ctx)
	for runs := l.take(nil); len(runs) > 0; runs = l.take(nil) {
		giveBack(runs)
	}
}
