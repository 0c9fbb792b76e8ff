package agent

import (
	"context"
	"time"
)

// Undelivered is a file that a drain could not bring out in time.
type Undelivered struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// Drain ships everything up to the end that each file has now, an unfinished last
// line too, and then lets the agent stop. When ctx ends first the agent goes on, and
// what is left is returned.
func (a *Agent) Drain(ctx context.Context) []Undelivered { return a.drain(ctx, 0) }

// lastWords drains before a stop, with time to spare for it, and reports whether
// everything is delivered. Outputs that wait to be tried again are tried at once.
func (a *Agent) lastWords(stopBy time.Time) (drained bool) {
	spare := min(2*time.Second, time.Until(stopBy)/10)
	ctx, cancel := context.WithDeadline(context.Background(), stopBy.Add(-spare))
	defer cancel()
	for _, out := range a.allOutputs() {
		out.deliverer.Hurry(true)
	}
	return len(a.drain(ctx, a.opts.Quiet)) == 0
}

// drain is Drain up to the ends at which no file has grown for that long.
func (a *Agent) drain(ctx context.Context, quiet time.Duration) []Undelivered {
	if a.draining.Swap(true) {
		a.log.Info("a drain is under way already; this one waits with it")
	}
	a.stopReceiving() // senders go elsewhere; what they have an answer for is in the spools
	a.log.Info("draining: everything up to the files' present ends is delivered, then the agent stops")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	seen := a.onDriver(ctx, func() {
		a.source.LookAtAll()
		a.look(time.Now())
	})
	ends := make(map[string]int64) // by generation; set when first seen
	grown := time.Now()
	for {
		if quiet > 0 && a.moveEnds(ends) {
			grown = time.Now()
		}
		left := a.undrained(ends)
		if len(left) == 0 && seen == nil && time.Since(grown) >= quiet {
			// A generation that has waited for one of these may be handed out only now.
			seen = a.onDriver(ctx, func() { a.look(time.Now()) })
			if left = a.undrained(ends); len(left) == 0 && seen == nil {
				a.stopOne.Do(func() { close(a.stopNow) })
				return nil
			}
		}
		select {
		case <-ctx.Done():
			a.draining.Store(false)
			for _, f := range a.allFlows() {
				f.flush.Store(false) // an unfinished line may wait again
			}
			a.log.Warn("not drained in time; the agent goes on", "files", len(left))
			return left
		case <-tick.C:
		}
	}
}

// moveEnds notes the present ends of the files, and reports whether any has moved.
func (a *Agent) moveEnds(ends map[string]int64) (moved bool) {
	for _, f := range a.allFlows() {
		size := f.file.Size()
		if end, known := ends[f.file.Gen()]; !known || size > end {
			ends[f.file.Gen()] = size
			moved = true
		}
	}
	return moved
}

// undrained are the files of which an output has not got everything up to the end
// that is noted, or noted now.
func (a *Agent) undrained(ends map[string]int64) []Undelivered {
	left := []Undelivered{}
	for _, f := range a.withoutFlow() {
		left = append(left, Undelivered{f.CurrentPath(), f.Undelivered()})
	}
	for _, f := range a.allFlows() {
		if f.left.Load() {
			continue
		}
		end, known := ends[f.file.Gen()]
		if !known {
			end = f.file.Size()
			ends[f.file.Gen()] = end
		}
		if n := end - f.leastSafe(); n > 0 {
			left = append(left, Undelivered{f.file.CurrentPath(), n})
			if !f.flush.Swap(true) || f.due.Load() != 0 {
				a.sched.wake(f)
			}
		}
	}
	return left
}

// leastSafe is the offset before which every output has everything.
func (f *flow) leastSafe() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	least := int64(-1)
	for _, t := range f.tracks {
		if off := t.Safe().Off; least < 0 || off < least {
			least = off
		}
	}
	return least
}
