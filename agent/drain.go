package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/tailwater/tailwater/source/consume"
)

// Undelivered is a file that a drain could not bring out in time, or a partition that a
// kafka input reads.
type Undelivered struct {
	Path    string `json:"path"` // kafka:TOPIC/PARTITION
	Bytes   int64  `json:"bytes"`
	Records int64  `json:"records,omitempty"` // of a partition
	Why     string `json:"why,omitempty"`     // where not even that is known
}

// Left is how much it is, for people.
func (u Undelivered) Left() string {
	switch {
	case u.Why != "":
		return u.Why
	case u.Records > 0:
		return fmt.Sprint(u.Records, " records")
	}
	return fmt.Sprint(u.Bytes, " bytes")
}

// Drain ships everything up to the end that each file has now, an unfinished last
// line too, and each partition that is read here, and then lets the agent stop. When ctx
// ends first the agent goes on, and what is left is returned.
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
	a.stopReceiving() // senders go elsewhere; what they have sent is in the spools
	a.syncSpools()
	a.log.Info("draining: everything up to the files' present ends is delivered, then the agent stops")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	seen := a.onDriver(ctx, func() {
		a.source.LookAtAll()
		a.look(time.Now())
	})
	ends := make(map[string]int64) // by generation; set when first seen
	relays := make(map[*relay]map[consume.Place]int64)
	grown := time.Now()
	for {
		if quiet > 0 && a.moveEnds(ends) {
			grown = time.Now()
		}
		left := append(a.undrained(ends), a.unrelayed(ctx, relays)...)
		if len(left) == 0 && seen == nil && time.Since(grown) >= quiet {
			// A generation that has waited for one of these may be handed out only now.
			seen = a.onDriver(ctx, func() { a.look(time.Now()) })
			if left = append(a.undrained(ends), a.unrelayed(ctx, relays)...); len(left) == 0 && seen == nil {
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
			a.log.Warn("not drained in time; the agent goes on", "left", len(left))
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
		left = append(left, Undelivered{Path: f.CurrentPath(), Bytes: f.Undelivered()})
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
			left = append(left, Undelivered{Path: f.file.CurrentPath(), Bytes: n})
			if !f.flush.Swap(true) || f.due.Load() != 0 {
				a.sched.wake(f)
			}
		}
	}
	return left
}

// unrelayed are the partitions of kafka inputs that are not delivered up to the ends
// that are noted, or noted now.
func (a *Agent) unrelayed(ctx context.Context, ends map[*relay]map[consume.Place]int64) (left []Undelivered) {
	for _, r := range a.allConsumers() {
		if ends[r] == nil {
			var err error
			if ends[r], err = r.source.Ends(ctx); err != nil {
				left = append(left, Undelivered{Path: "kafka: input " + r.in.name, Why: err.Error()})
				continue
			}
		}
		for _, l := range r.source.Left(ends[r]) {
			left = append(left, Undelivered{Path: fmt.Sprintf("kafka:%s/%d", l.Topic, l.Partition), Records: l.Records})
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
