package alert

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Backtest runs rules over old lines by event time: its clock is that of the lines, so
// nothing is stale and every incident is emitted when it would have been then. The
// caller reads its files merged by time, and for each line calls To with the line's
// time and then Observe. It is used from one goroutine.
type Backtest struct {
	engine *Engine
	now    time.Time
	taps   []*Tap
	emit   func(Event)
	events []Event // of the moment, not emitted yet
}

// After so long without lines every incident is over, and every group forgotten.
const longSilence = 3 * forgetAfter

// NewBacktest returns a backtest that calls emit for every event.
func NewBacktest(rules []*Rule, emit func(Event)) *Backtest {
	b := &Backtest{emit: emit}
	b.engine = New(rules, func() time.Time { return b.now }, func(e Event) { b.events = append(b.events, e) })
	b.engine.settled = time.Time{} // every input is known from the start
	return b
}

// Tap returns the entrance for the lines of one file. Backtest flushes it.
func (b *Backtest) Tap(input string, kafka bool, o *record.Origin) *Tap {
	t := b.engine.Tap("", input, kafka, o)
	b.taps = append(b.taps, t)
	return t
}

// To moves the clock on to a line's time. Earlier times, of lines that are out of
// order, leave it where it is.
func (b *Backtest) To(unixMilli int64) {
	at := time.UnixMilli(unixMilli)
	if b.now.IsZero() {
		b.now = at
		b.flush()
		return
	}
	if !at.After(b.now) {
		return
	}
	if at.Unix() > b.now.Unix() {
		b.flush()
		b.pass(at.Unix())
	}
	b.now = at
}

// pass lets the seconds up to sec pass.
func (b *Backtest) pass(sec int64) {
	for s := b.now.Unix() + 1; s <= sec; s++ {
		if s == b.now.Unix()+longSilence {
			s = max(s, sec-1)
		}
		b.tick(time.Unix(s, 0))
	}
	b.now = time.Unix(sec, 0)
}

func (b *Backtest) tick(at time.Time) {
	was := b.now
	b.now = at
	b.engine.ticked = at // the clock does not stand still, it skips
	b.engine.Tick()
	b.now = was
	b.tell()
}

func (b *Backtest) flush() {
	for _, t := range b.taps {
		t.Flush(record.Pos{}, true)
	}
	b.tell()
}

// tell emits the events of the moment by rule and group, so that each run says the same.
func (b *Backtest) tell() {
	slices.SortStableFunc(b.events, func(x, y Event) int {
		return cmp.Or(strings.Compare(x.Incident.Rule, y.Incident.Rule), bytes.Compare(x.Key, y.Key))
	})
	for _, e := range b.events {
		b.emit(e)
	}
	b.events = b.events[:0]
}

// Finish decides what still waits after the last line.
func (b *Backtest) Finish() {
	if b.now.IsZero() {
		return
	}
	b.flush()
	b.pass(b.now.Unix() + 1 + int64(waitForInputs/time.Second))
}

// Stats returns the rules' numbers.
func (b *Backtest) Stats() []RuleStats { return b.engine.Stats() }
