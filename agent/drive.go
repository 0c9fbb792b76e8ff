package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/tailwater/tailwater/source/tail"
)

const (
	// pollEvery is how often growth is looked for when no event tells of it.
	pollEvery = 100 * time.Millisecond
	// pollSpacing gathers the events of a busy file into one look.
	pollSpacing = 10 * time.Millisecond
	// restAfter is how long a flow with nothing to do is kept.
	restAfter = 10 * time.Second
	// stalledAfter is how long a readable file may stay behind an idle chain.
	stalledAfter = 15 * time.Second
)

// drive looks for news of the files and wakes their flows, until ctx ends.
func (a *Agent) drive(ctx context.Context) {
	wake := make(chan struct{}, 1)
	if err := a.source.Watch(ctx, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}); err != nil {
		a.log.Warn("no file events on this system; files are polled", "error", err)
	}
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	var file changedFile
	file.look(a.path)
	configAt := time.Now()
	for {
		now := time.Now()
		if now.Sub(configAt) >= time.Second {
			configAt = now
			if file.look(a.path) {
				a.reload() // it logs
			}
		}
		a.look(now)
		timer.Reset(pollEvery)
		select {
		case <-ctx.Done():
			return
		case task := <-a.tasks:
			task()
			continue
		case <-timer.C:
			continue
		case <-wake:
		}
		timer.Reset(pollSpacing)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
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

// look takes one look at the files and at the clock.
func (a *Agent) look(now time.Time) {
	for _, file := range a.source.Poll(now) {
		if f := a.flowOf(file); f != nil {
			a.sched.wake(f)
		}
	}
	for _, f := range a.allFlows() {
		if due := f.due.Load(); due != 0 && now.UnixNano() >= due {
			a.sched.wake(f)
		}
		a.tend(f, now)
	}
}

// flowOf returns the file's flow, and nil for a file whose input is gone.
func (a *Agent) flowOf(file *tail.File) *flow {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.flows[file]; f != nil {
		f.quietAt = time.Time{}
		return f
	}
	in := a.inputs[file.Input()]
	if in == nil {
		return nil
	}
	f := newFlow(a, file, in)
	a.flows[file] = f
	return f
}

// tend lets a flow go that has nothing left to do, and wakes one that should have
// something and does not move: a watchdog, should an event or a wake be lost.
func (a *Agent) tend(f *flow, now time.Time) {
	if f.due.Load() != 0 || f.dirty.Load() || !f.delivered() {
		f.quietAt = time.Time{}
		f.watch(now)
		return
	}
	f.stalled.Store(false)
	if f.quietAt.IsZero() {
		f.quietAt = now
	}
	if now.Sub(f.quietAt) < restAfter || !a.sched.retire(f) {
		return
	}
	a.mu.Lock()
	delete(a.flows, f.file)
	a.mu.Unlock()
}

// watch wakes a flow that has bytes to read, whose outputs have room, and that has
// not moved for a while.
func (f *flow) watch(now time.Time) {
	read := f.readTo.Load()
	if f.watchedSince.IsZero() || read != f.watchedAt || read >= f.file.Size() {
		f.watchedAt, f.watchedSince = read, now
		f.stalled.Store(false)
		return
	}
	if now.Sub(f.watchedSince) < stalledAfter {
		return
	}
	if f.agent.sched.waits(f) {
		return // it has its place in the line, or waits for room
	}
	f.stalled.Store(true)
	f.agent.log.Warn("file has grown and was not read; its flow is woken", "file", f.file.CurrentPath(), "offset", read, "size", f.file.Size())
	f.watchedSince = now
	f.agent.sched.wake(f)
}
