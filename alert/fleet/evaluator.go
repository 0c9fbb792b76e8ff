package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/internal/backoff"
)

// Notices brings what the evaluators decide to the channels. Its methods do not wait
// for a channel.
type Notices interface {
	// Post hands an event to the channels, but those that are done with it.
	Post(e *alert.Event, done []string)
	// Posted tells which channels are done with an event, and whether others are not.
	Posted(e *alert.Event) (done []string, waits bool)
	// Withdraw takes an event back from the channels that have not got it, as another
	// evaluator sends it from now on. It waits for answers that are under way until
	// ctx ends, and returns the channels that are done with it.
	Withdraw(ctx context.Context, e *alert.Event) (done []string)
}

// Notes brings what the reports have to tell to the channels; see Notices.
type Notes interface {
	PostNote(n *notify.Note, done []string)
	PostedNote(n *notify.Note) (done []string, waits bool)
	WithdrawNote(ctx context.Context, n *notify.Note) (done []string)
}

// EvaluatorConfig is what an Evaluator needs.
type EvaluatorConfig struct {
	// Name is the evaluator's, unlike that of any other.
	Name  string
	Log   Log
	Rules []*alert.Rule // those of scope fleet
	// Memory, in bytes, is what all that the nodes count may take; 0: any.
	Memory  int64
	Notices Notices
	Reports []*report.Report // those over the fleet
	Notes   Notes
	Logger  *slog.Logger
}

// Evaluator decides the rules of scope fleet for the partitions that it is given.
type Evaluator struct {
	cfg     EvaluatorConfig
	horizon time.Duration // how far back the counts are read at a takeover
	kick    chan struct{} // asks for a heartbeat at once

	mu         sync.Mutex // guards what follows
	partitions map[int]*partition
	daybooks   map[int]*daybook // those that have been taken over
	total      int
	trouble    error
}

const (
	// standstill is how long a member may stand still and still be sure that its
	// partitions are its own: less than the group waits for it.
	standstill = 4 * time.Second
	// lastWords is how long a member that loses its partitions may take to write down
	// how far it is.
	lastWords = 2 * time.Second
	// settleTime is how long after a takeover the nodes have to say how far they are.
	settleTime = 3 * time.Second
	// muteTime is how long after a time without evaluators the nodes have to say what
	// they have told by themselves.
	muteTime = 6 * time.Second
)

// NewEvaluator returns an Evaluator that Run starts.
func NewEvaluator(c EvaluatorConfig) *Evaluator {
	ev := &Evaluator{cfg: c, kick: make(chan struct{}, 1), partitions: make(map[int]*partition), daybooks: make(map[int]*daybook)}
	for _, r := range c.Rules {
		ev.horizon = max(ev.horizon, r.Horizon())
	}
	ev.horizon += time.Minute // clocks differ
	return ev
}

// Run takes part until ctx ends.
func (ev *Evaluator) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { ev.beats(ctx) })
	for failures := 0; ctx.Err() == nil; {
		err := ev.join(ctx)
		if ctx.Err() != nil {
			return
		}
		failures++
		if err == nil {
			failures = 0
		}
		ev.note(err)
		backoff.Sleep(ctx, backoff.Policy{First: 200 * time.Millisecond, Cap: 3 * time.Second}.Delay(failures))
	}
}

func (ev *Evaluator) join(ctx context.Context) error {
	n, err := ev.cfg.Log.Open(ctx)
	if err != nil {
		return err
	}
	ev.mu.Lock()
	ev.total = n
	ev.mu.Unlock()
	return ev.cfg.Log.Join(ctx, ev.decide)
}

// parts is the number of partitions.
func (ev *Evaluator) parts() int {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	return ev.total
}

// note keeps what is wrong, and logs it when it begins and ends.
func (ev *Evaluator) note(err error) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	switch {
	case err != nil && ev.trouble == nil:
		ev.cfg.Logger.Warn("not all of the fleet's alerts and reports can be decided here; it is tried again", "error", err)
	case err == nil && ev.trouble != nil:
		ev.cfg.Logger.Info("the fleet's alerts and reports are decided again")
	}
	ev.trouble = err
}

// decide decides partitions until ctx, which is the group's generation, ends.
func (ev *Evaluator) decide(ctx context.Context, mine []int) {
	ev.cfg.Logger.Info("deciding the fleet's alerts", "partitions", mine)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	for _, p := range mine {
		work.Go(func() {
			ev.insist(ctx, stop, p, func() error {
				d := newPartition(ev, p)
				d.engine.Limit(ev.cfg.Memory / int64(len(mine)))
				defer ev.release(d)
				return d.run(ctx)
			})
		})
		if len(ev.cfg.Reports) > 0 {
			work.Go(func() {
				ev.insist(ctx, stop, p, func() error {
					d := newDaybook(ev, p)
					defer ev.close(d)
					return d.run(ctx)
				})
			})
		}
	}
	work.Wait()
	if len(mine) == 0 {
		<-ctx.Done()
	}
}

// insist has a partition's work done until ctx ends, however often it fails.
func (ev *Evaluator) insist(ctx context.Context, stop context.CancelFunc, partition int, work func() error) {
	for failures := 0; ctx.Err() == nil; {
		err := work()
		if errors.Is(err, errStoodStill) {
			stop() // and join the group anew
		}
		if ctx.Err() != nil {
			return
		}
		failures++
		ev.note(fmt.Errorf("partition %d: %w", partition, err))
		backoff.Sleep(ctx, backoff.Policy{First: 200 * time.Millisecond, Cap: 2 * time.Second}.Delay(failures))
	}
}

// live notes that a partition has been taken over.
func (ev *Evaluator) live(d *partition) {
	ev.note(nil)
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.partitions[d.index] = d
	ev.beatSoon()
}

func (ev *Evaluator) release(d *partition) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.partitions[d.index] == d {
		delete(ev.partitions, d.index)
	}
}

// opened notes that the reports of a partition have been taken over.
func (ev *Evaluator) opened(d *daybook) {
	ev.note(nil)
	ev.mu.Lock()
	defer ev.mu.Unlock()
	ev.daybooks[d.index] = d
	ev.beatSoon()
}

func (ev *Evaluator) close(d *daybook) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.daybooks[d.index] == d {
		delete(ev.daybooks, d.index)
	}
}

// writes tells whether nothing here keeps a report from being written: it is another
// evaluator's, or its daybook is well; ev.mu is held.
func (ev *Evaluator) writes(identity string) bool {
	p := reportPartition(identity, max(ev.total, 1))
	if ev.partitions[p] == nil {
		return true
	}
	d := ev.daybooks[p]
	return d != nil && d.alive()
}

func (ev *Evaluator) beatSoon() {
	select {
	case ev.kick <- struct{}{}:
	default:
	}
}

// beats writes heartbeats until ctx ends: while something is decided, and at once when
// something was told.
func (ev *Evaluator) beats(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-ev.kick:
		}
		b := ev.beat()
		if len(b.Decides) == 0 {
			continue
		}
		value, err := json.Marshal(b)
		if err == nil {
			within, cancel := context.WithTimeout(ctx, beatEvery)
			err = ev.cfg.Log.Append(within, Beats, 0, []Record{{Key: []byte(ev.cfg.Name), Value: value}})
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			ev.cfg.Logger.Debug("heartbeat not written", "error", err)
		}
	}
}

func (ev *Evaluator) beat() beat {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	b := beat{Evaluator: ev.cfg.Name, Partitions: ev.total}
	for _, r := range ev.cfg.Rules {
		b.Rules = append(b.Rules, r.Identity())
	}
	for _, r := range ev.cfg.Reports {
		if ev.writes(r.Identity()) {
			b.Rules = append(b.Rules, r.Identity())
		}
	}
	for _, d := range ev.partitions {
		open, alive := d.open()
		if !alive {
			continue
		}
		b.Decides = append(b.Decides, d.index)
		b.Open = append(b.Open, open...)
	}
	slices.Sort(b.Decides)
	slices.SortFunc(b.Open, func(x, y openIncident) int { return int(y.Notified - x.Notified) })
	b.Open = b.Open[:min(len(b.Open), mostOpen)]
	return b
}

// Firing returns the incidents that go on, of the partitions that are decided here.
func (ev *Evaluator) Firing() (all []alert.Incident) {
	for _, d := range ev.decided() {
		all = append(all, d.engine.Firing()...)
	}
	return all
}

// Remind is the Engine's, for what is decided here.
func (ev *Evaluator) Remind(ids []string) {
	for _, d := range ev.decided() {
		d.engine.Remind(ids)
	}
}

func (ev *Evaluator) decided() (all []*partition) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, d := range ev.partitions {
		all = append(all, d)
	}
	return all
}

// Stats returns the rules' numbers over the partitions that are decided here, in the
// order of the rules.
func (ev *Evaluator) Stats() []alert.RuleStats {
	out := make([]alert.RuleStats, len(ev.cfg.Rules))
	for i, r := range ev.cfg.Rules {
		out[i].Rule = r.Name()
	}
	for _, d := range ev.decided() {
		for i, s := range d.engine.Stats() {
			out[i].Add(s)
		}
	}
	return out
}

// EvaluatorStatus is how an evaluator fares.
type EvaluatorStatus struct {
	// Partitions are those of the topic of counts that are decided here, of that many.
	Partitions []int  `json:"partitions"`
	Of         int    `json:"of"`
	Error      string `json:"error,omitempty"`
}

// Status takes stock.
func (ev *Evaluator) Status() EvaluatorStatus {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	s := EvaluatorStatus{Partitions: []int{}, Of: ev.total}
	for p := range ev.partitions {
		s.Partitions = append(s.Partitions, p)
	}
	slices.Sort(s.Partitions)
	if ev.trouble != nil {
		s.Error = ev.trouble.Error()
	}
	return s
}
