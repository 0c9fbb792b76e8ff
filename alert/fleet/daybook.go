package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/alert/report"
)

// daybook writes the reports of one partition: it adds up what the nodes say, and tells
// what is due. Its loop is one goroutine.
type daybook struct {
	ev      *Evaluator
	index   int
	offset  int64 // of the next record of Days
	letters map[string]*letter
	fresh   []*notePost // what the channels get once it is written down
	dueAt   time.Time   // when was asked last what is due
	read    uint64      // records that made no sense

	aliveAt atomic.Int64 // Unix ns
}

// letter is a report with what of it is not sent yet.
type letter struct {
	identity string
	sums     *report.Sums
	posts    []*notePost
	unsaved  bool
}

// askEvery is how often it is asked what is due.
const askEvery = time.Second

func newDaybook(ev *Evaluator, index int) *daybook {
	return &daybook{ev: ev, index: index, letters: make(map[string]*letter)}
}

// run takes the reports over and writes them until ctx ends.
func (d *daybook) run(ctx context.Context) error {
	if err := d.takeOver(ctx); err != nil {
		return fmt.Errorf("taking the reports over: %w", err)
	}
	if len(d.letters) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	d.aliveAt.Store(time.Now().UnixNano())
	d.ev.opened(d)
	err := d.loop(ctx)
	d.leave(ctx, err != errStoodStill)
	return err
}

// takeOver reads all that there is: the last evaluator's state first, as by it is known
// which days still matter.
func (d *daybook) takeOver(ctx context.Context) error {
	now := time.Now()
	for _, r := range d.ev.cfg.Reports {
		if reportPartition(r.Identity(), d.ev.parts()) == d.index {
			d.letters[r.Identity()] = &letter{identity: r.Identity(), sums: report.NewSums(r, now), unsaved: true}
		}
	}
	if len(d.letters) == 0 {
		return nil
	}
	if _, err := d.ev.cfg.Log.OpenDays(ctx); err != nil {
		return err
	}
	records, err := d.readAll(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.said.State == nil {
			continue
		}
		l := d.letters[r.said.report()]
		if err := l.sums.Restore(r.said.State.Sums); err != nil {
			return err
		}
		l.posts, l.unsaved = r.said.State.Posts, false
	}
	for _, r := range records {
		if r.at.After(now) {
			r.at = now
		}
		d.take(r.said, r.at)
	}
	for _, l := range d.letters {
		for _, p := range l.posts {
			d.ev.cfg.Notes.PostNote(&p.Note, p.Done)
		}
	}
	d.ev.cfg.Logger.Info("the fleet's reports taken over", "partition", d.index, "reports", len(d.letters), "records", len(records),
		"offset", d.offset, "took", time.Since(now).Round(time.Millisecond))
	return nil
}

// heardSaid is a record as it was read.
type heardSaid struct {
	said *said
	at   time.Time
}

// readAll returns the last record of each key, in the order of the keys.
func (d *daybook) readAll(ctx context.Context) (out []heardSaid, err error) {
	if d.offset, err = d.ev.cfg.Log.Since(ctx, Days, d.index, time.Time{}); err != nil {
		return nil, err
	}
	last := make(map[string]heardSaid)
	for {
		records, end, err := d.ev.cfg.Log.Read(ctx, Days, d.index, d.offset, 0)
		if err != nil {
			return nil, err
		}
		for i := range records {
			if s := d.decode(&records[i]); s != nil {
				key := string(records[i].Key)
				if known, ok := last[key]; !ok || !known.said.after(s) {
					last[key] = heardSaid{s, records[i].Time}
				}
			}
		}
		if d.offset >= end || len(records) == 0 {
			break
		}
	}
	for _, key := range slices.Sorted(maps.Keys(last)) {
		out = append(out, last[key])
	}
	return out, ctx.Err()
}

// after tells whether what is known must not be replaced by what comes again.
func (s *said) after(o *said) bool {
	switch {
	case s.Share != nil && o.Share != nil:
		return s.Share.Version > o.Share.Version
	case s.Top != nil && o.Top != nil:
		return s.Top.Version > o.Top.Version
	case s.Mark != nil && o.Mark != nil:
		return s.Mark.Version > o.Mark.Version
	}
	return false
}

// decode reads a record; nil when it is of no report that is written here.
func (d *daybook) decode(r *Record) *said {
	d.offset = r.Offset + 1
	if len(r.Value) == 0 {
		return nil
	}
	s, err := decodeSaid(r.Value)
	if err != nil {
		if d.read++; d.read == 1 {
			d.ev.cfg.Logger.Warn("a record in the topic of days makes no sense; it is left out", "partition", d.index, "offset", r.Offset, "error", err)
		}
		return nil
	}
	if d.letters[s.report()] == nil {
		return nil
	}
	return s
}

// take adds up what a node says.
func (d *daybook) take(s *said, at time.Time) {
	sums := d.letters[s.report()].sums
	switch {
	case s.Share != nil:
		sums.Take(s.Node, s.Share, time.Now())
	case s.Top != nil:
		sums.TakeTop(s.Node, s.Top, time.Now())
	case s.Mark != nil:
		sums.Hear(s.Node, s.Mark, at)
	}
}

// loop reads and tells until ctx ends.
func (d *daybook) loop(ctx context.Context) error {
	for {
		began := time.Now()
		records, _, err := d.ev.cfg.Log.Read(ctx, Days, d.index, d.offset, readWait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		for i := range records {
			if s := d.decode(&records[i]); s != nil {
				d.take(s, time.Now()) // the nodes' clocks may be wrong
			}
		}
		if time.Since(d.dueAt) >= askEvery {
			d.dueAt = time.Now()
			d.ask(d.dueAt)
		}
		d.delivered()
		if err := d.save(ctx); err != nil {
			return err
		}
		if time.Since(began) > standstill {
			return errStoodStill
		}
		d.aliveAt.Store(time.Now().UnixNano())
		for _, p := range d.fresh {
			d.ev.cfg.Notes.PostNote(&p.Note, nil)
		}
		d.fresh = d.fresh[:0]
	}
}

// alive tells whether the reports were looked after not long ago.
func (d *daybook) alive() bool { return time.Since(time.Unix(0, d.aliveAt.Load())) < standstill }

// ask gathers what is due.
func (d *daybook) ask(now time.Time) {
	for _, l := range d.letters {
		for _, n := range l.sums.Due(now) {
			p := &notePost{Note: n}
			l.posts, l.unsaved = append(l.posts, p), true
			d.fresh = append(d.fresh, p)
		}
	}
}

// delivered notes which channels have answered.
func (d *daybook) delivered() {
	for _, l := range d.letters {
		l.posts = slices.DeleteFunc(l.posts, func(p *notePost) bool {
			if slices.Contains(d.fresh, p) {
				return false
			}
			done, waits := d.ev.cfg.Notes.PostedNote(&p.Note)
			l.unsaved = p.add(done) || l.unsaved || !waits
			return !waits
		})
	}
}

// add notes channels that are done with it, beside those that were with others, and
// tells whether there are new ones.
func (p *notePost) add(done []string) (more bool) {
	for _, name := range done {
		if !slices.Contains(p.Done, name) {
			p.Done = append(p.Done, name)
			more = true
		}
	}
	return more
}

// save writes down what has changed.
func (d *daybook) save(ctx context.Context) error {
	var records []Record
	for _, identity := range slices.Sorted(maps.Keys(d.letters)) {
		if l := d.letters[identity]; l.unsaved {
			r, err := (&said{State: &daybookState{Report: identity, Sums: l.sums.State(), Posts: l.posts}}).record()
			if err != nil {
				return err
			}
			records = append(records, r.Record)
		}
	}
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := appendAll(ctx, d.ev.cfg.Log, Days, d.index, records); err != nil {
		return fmt.Errorf("state of the reports: %w", err)
	}
	for _, l := range d.letters {
		l.unsaved = false
	}
	return nil
}

// leave takes back what no channel has taken, and writes it down for the next member,
// unless there may be one by now.
func (d *daybook) leave(ctx context.Context, mine bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for _, l := range d.letters {
		for _, p := range l.posts {
			l.unsaved = p.add(d.ev.cfg.Notes.WithdrawNote(ctx, &p.Note)) || l.unsaved
		}
	}
	if !mine {
		return
	}
	if err := d.save(ctx); err != nil {
		d.ev.cfg.Logger.Warn("what of the fleet's reports was sent is not written down; the last one may be sent again", "partition", d.index, "error", err)
	}
}
