package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/internal/backoff"
)

const (
	// tellEvery is how often a node says what it has counted for reports, topsEvery how
	// often what the most frequent messages are, and resayEvery how often all of it.
	tellEvery  = 2 * time.Second
	topsEvery  = time.Minute
	resayEvery = 10 * time.Minute
	// daysMarkEvery is how often a node says how far it is with the days.
	daysMarkEvery = 10 * time.Second
)

// teller says what a host has counted for the reports over the fleet. Its records
// replace each other, and the topic keeps the last ones: what is waiting to be written is
// bounded by the groups and the days.
type teller struct {
	node       *Node
	partitions int
	waiting    map[string]saidRecord // by the records' keys
	marks      []saidRecord
	marked     time.Time
	topped     time.Time
	resaid     time.Time
	failures   int
}

func newTeller(n *Node) *teller {
	return &teller{node: n, waiting: make(map[string]saidRecord), resaid: time.Now()}
}

// run tells until ctx ends, and then once more.
func (t *teller) run(ctx context.Context) {
	// Not all nodes at once.
	for wait := rand.N(tellEvery); backoff.Sleep(ctx, wait) == nil; {
		wait = tellEvery
		if err := t.tell(ctx, false); err != nil {
			t.failures++
			wait = backoff.Policy{First: tellEvery, Cap: 10 * time.Second}.Delay(t.failures)
			if t.failures == 3 && ctx.Err() == nil {
				t.node.cfg.Logger.Warn("what this host counts for reports does not reach the fleet; it is kept and tried again", "error", err)
			}
			continue
		}
		if t.failures >= 3 {
			t.node.cfg.Logger.Info("the fleet has what this host counts for reports again")
		}
		t.failures = 0
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	t.tell(last, true) // else it is said after the next start
}

// tell writes what is new. What Kafka does not take stays for the next time.
func (t *teller) tell(ctx context.Context, last bool) error {
	now := time.Now()
	if !t.node.cfg.Ready() {
		return nil
	}
	if now.Sub(t.resaid) >= resayEvery { // whatever the topic may have lost
		t.node.cfg.Book.Resay()
		t.resaid = now
	}
	tops := last || now.Sub(t.topped) >= topsEvery
	words := t.node.cfg.Book.Words(t.node.cfg.Host, tops, last)
	if tops && words.Marks != nil {
		t.topped = now
	}
	if err := t.take(&words); err != nil {
		return err
	}
	marks := last || now.Sub(t.marked) >= daysMarkEvery
	if len(t.waiting) == 0 && !marks || len(t.marks) == 0 {
		return nil
	}
	if err := t.send(ctx); err != nil {
		t.partitions = 0 // they may be others by now
		return err
	}
	t.marked = now
	return nil
}

// take encodes what the book says, in place of what has not been written of it yet.
func (t *teller) take(w *report.Words) error {
	add := func(s said) error {
		s.Node = t.node.cfg.Name
		r, err := s.record()
		if err == nil && s.Mark != nil {
			t.marks = append(t.marks, r)
		} else if err == nil {
			t.waiting[string(r.Key)] = r
		}
		return err
	}
	var errs []error
	if len(w.Marks) > 0 {
		t.marks = t.marks[:0]
	}
	for i := range w.Shares {
		errs = append(errs, add(said{Share: &w.Shares[i]}))
	}
	for i := range w.Tops {
		errs = append(errs, add(said{Top: &w.Tops[i]}))
	}
	for i := range w.Marks {
		errs = append(errs, add(said{Mark: &w.Marks[i]}))
	}
	return errors.Join(errs...)
}

// send writes what waits, and the marks behind it: who reads a mark has what it speaks of.
func (t *teller) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, appendTimeout, fmt.Errorf("no answer within %v", appendTimeout))
	defer cancel()
	l := t.node.cfg.Log
	if t.partitions == 0 {
		n, err := l.OpenDays(ctx)
		if err != nil {
			return err
		}
		t.partitions = n
	}
	batches := make(map[int][]Record)
	for _, key := range slices.Sorted(maps.Keys(t.waiting)) {
		r := t.waiting[key]
		p := reportPartition(r.report, t.partitions)
		batches[p] = append(batches[p], r.Record)
	}
	for _, r := range t.marks {
		p := reportPartition(r.report, t.partitions)
		batches[p] = append(batches[p], r.Record)
	}
	for p, records := range batches {
		if err := appendAll(ctx, l, Days, p, records); err != nil {
			return err
		}
	}
	clear(t.waiting)
	return nil
}
