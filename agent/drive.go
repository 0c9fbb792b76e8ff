package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tailwater/tailwater/source/tail"
)

const (
	// pollEvery is how often growth is looked for when no event tells of it.
	pollEvery = 100 * time.Millisecond
	// pollSpacing gathers the events of one change into one look.
	pollSpacing = 10 * time.Millisecond
	// growthSpacing lies between two looks at what has grown: a wake costs more than what
	// a few lines do. Of many busy files more are gathered, so that they do not cost more
	// than some thousand looks a second; what is new or gone does not wait for that.
	growthSpacing  = 50 * time.Millisecond
	spacingPerFile = time.Millisecond
	maxSpacing     = 250 * time.Millisecond
	// restAfter is how long a flow with nothing to do is kept.
	restAfter = 10 * time.Second
	// maxResting is the number of flows above which none is kept: each has some ten
	// kilobytes, and a start may find tens of thousands of files.
	maxResting = 500
	// stalledAfter is how long a readable file may stay behind an idle chain.
	stalledAfter = 15 * time.Second
)

// drive looks for news of the files and wakes their flows, until ctx ends.
func (a *Agent) drive(ctx context.Context) {
	bells := newBells()
	if err := a.source.Watch(ctx, bells.ring); err != nil {
		a.log.Warn("no file events on this system; files are polled", "error", err)
	}
	a.files.look(a.followed())
	configAt := time.Now()
	for {
		now := time.Now()
		if now.Sub(configAt) >= time.Second {
			configAt = now
			if a.files.look(a.followed()) {
				a.reload() // it logs
			}
		}
		task := bells.wait(ctx, a.tasks, a.look(now))
		if ctx.Err() != nil {
			return
		}
		if task != nil {
			task()
		}
	}
}

// bells are rung when there is something to look at.
type bells struct {
	grown   chan struct{} // files have grown
	changed chan struct{} // more has happened
	timer   *time.Timer
}

func newBells() *bells {
	return &bells{grown: make(chan struct{}, 1), changed: make(chan struct{}, 1), timer: time.NewTimer(0)}
}

func (b *bells) ring(urgent bool) {
	bell := b.grown
	if urgent {
		bell = b.changed
	}
	select {
	case bell <- struct{}{}:
	default:
	}
}

// wait waits until the next look, after one that has found news of so many files: for a
// task, which it returns, for a bell, or for pollEvery. It ends with ctx.
func (b *bells) wait(ctx context.Context, tasks <-chan func(), news int) (task func()) {
	looked := time.Now()
	b.timer.Reset(pollEvery)
	select {
	case <-ctx.Done():
		return nil
	case task := <-tasks:
		return task
	case <-b.timer.C:
		return nil
	case <-b.changed:
	case <-b.grown:
		spacing := min(max(growthSpacing, time.Duration(news)*spacingPerFile), maxSpacing)
		b.timer.Reset(max(spacing-time.Since(looked), pollSpacing))
		select {
		case <-ctx.Done():
			return nil
		case task := <-tasks:
			return task
		case <-b.timer.C:
			return nil
		case <-b.changed:
		}
	}
	b.timer.Reset(pollSpacing)
	select {
	case <-ctx.Done():
	case <-b.timer.C:
	}
	return nil
}

// onDriver has the driver run task between two looks, where nobody else makes or
// ends flows, and waits for it.
func (a *Agent) onDriver(ctx context.Context, task func()) error {
	done := make(chan struct{})
	select {
	case a.tasks <- func() { task(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the agent is busy or stopping: %w", ctx.Err())
	}
}

// look takes one look at the files and at the clock, and says how many files have news.
func (a *Agent) look(now time.Time) (news int) {
	if !a.known() {
		return 0
	}
	files := a.source.Poll(now)
	a.arrivals.add(files)
	for _, file := range a.arrivals.take(now, a.hasFlow) {
		if f := a.flowOf(file); f != nil {
			a.sched.wake(f)
		}
	}
	a.beginReceived()
	a.tendReceivers(now)
	a.alerts.begun.Store(true)
	flows := a.allFlows()
	rest := restAfter
	crowded := len(flows) > maxResting
	if crowded {
		rest = 0
	}
	if was := a.crowded.Swap(crowded); crowded && !was {
		debug.SetGCPercent(gcCrowded)
	} else if was && !crowded {
		debug.SetGCPercent(gcPercent)
		debug.FreeOSMemory() // what the crowd needed is not needed again soon
	}
	a.sched.urge()
	for _, f := range flows {
		if due := f.due.Load(); due != 0 && now.UnixNano() >= due {
			a.sched.wake(f)
		}
		a.tend(f, now, rest)
	}
	return len(files)
}

func (a *Agent) hasFlow(file *tail.File) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.flows[file] != nil
}

// flowOf returns the file's flow, and nil for a file whose input is gone.
func (a *Agent) flowOf(file *tail.File) *flow {
	a.mu.Lock()
	f, in := a.flows[file], a.inputs[file.Input()]
	if f == nil && in != nil {
		f = newFlow(a, file, in)
		a.flows[file] = f
	}
	a.mu.Unlock()
	if f == nil || in == nil {
		return f
	}
	f.quietAt = time.Time{}
	if f.in.name != in.name { // the input was renamed by a reload
		a.sched.pause()
		f.change(in)
		a.sched.resume()
	}
	return f
}

// tend lets a flow go that has had nothing left to do for so long, and wakes one that should have
// something and does not move: a watchdog, should an event or a wake be lost.
func (a *Agent) tend(f *flow, now time.Time, rest time.Duration) {
	f.noteGrowth(now)
	if f.received() {
		f.watch(now) // it rests and is not let go: its receiver wakes it
		return
	}
	switch {
	case f.left.Load():
		if f.dirty.Load() || f.underWay() {
			return
		}
		f.quietAt = now.Add(-rest)
	case f.due.Load() != 0 || f.dirty.Load() || !f.delivered():
		f.quietAt = time.Time{}
		f.watch(now)
		return
	}
	f.stalled.Store(false)
	if f.quietAt.IsZero() {
		f.quietAt = now
	}
	if now.Sub(f.quietAt) < rest || !a.sched.retire(f) {
		return
	}
	a.mu.Lock()
	delete(a.flows, f.file)
	a.mu.Unlock()
	f.closeTap()
	f.wakeHeir()
}

// noteGrowth remembers the file's size for the age of what is undelivered.
func (f *flow) noteGrowth(now time.Time) {
	size, safe := f.file.Size(), f.leastSafe()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.growth.note(size, safe, now)
}

// underWay reports whether an output that is still in use has something of the flow.
func (f *flow) underWay() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		if n, _ := t.InFlight(); (n > 0 || t.saved() != t.Safe()) && f.agent.uses(t.out) {
			return true
		}
	}
	return false
}

// watch wakes a flow that has bytes to read, whose outputs have room, and that has
// not moved for a while.
func (f *flow) watch(now time.Time) {
	read := max(f.seen.Load(), f.readTo.Load())
	if f.watchedSince.IsZero() || read != f.watchedAt || read >= f.file.Size() {
		f.watchedAt, f.watchedSince = read, now
		f.stalled.Store(false)
		return
	}
	if now.Sub(f.watchedSince) < stalledAfter {
		return
	}
	if f.agent.sched.waits(f) || f.heldUp() {
		return // it has its place in the line, or waits for room
	}
	f.stalled.Store(true)
	f.agent.log.Warn("file has grown and was not read; its flow is woken", "file", f.file.CurrentPath(), "offset", read, "size", f.file.Size())
	f.watchedSince = now
	f.agent.sched.wake(f)
}

// heldUp reports whether those outputs that have got furthest with the flow take no more of
// it now: they have enough of it that is not delivered, or wait for the generation before.
func (f *flow) heldUp() bool {
	f.mu.Lock()
	tracks := slices.Clone(f.tracks)
	f.mu.Unlock()
	furthest := int64(0)
	for _, t := range tracks {
		furthest = max(furthest, t.at.Load())
	}
	return slices.ContainsFunc(tracks, func(t *track) bool {
		return t.at.Load() == furthest && (t.crowds() || !f.turnHasCome(t.out))
	})
}
