package elastic

import (
	"context"
	"sync"
	"time"

	"github.com/tailwater/tailwater/sink"
)

// gate bounds the requests under way. The bound follows what the server can do:
// halved by each refusal for load, one more after as many good answers as are under
// way (additive increase, multiplicative decrease, as in TCP).
type gate struct {
	mu     sync.Mutex
	freed  sync.Cond
	most   int
	limit  float64
	inside int
	// halved is when the limit was last halved: the answers to requests that were
	// under way then tell nothing new.
	halved time.Time
}

func newGate(most int) *gate {
	g := &gate{most: most, limit: float64(most)}
	g.freed.L = &g.mu
	return g
}

// enter waits for a place, or for ctx to end: then it returns the cause.
func (g *gate) enter(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.freed.Broadcast()
	})
	defer stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.inside >= max(1, int(g.limit)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.freed.Wait()
	}
	g.inside++
	return nil
}

// leave frees the place of a request that took so long.
func (g *gate) leave(r sink.Result, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	switch {
	case r.Reason == "overloaded" || r.Reason == "timeout":
		if now := time.Now(); now.Add(-took).After(g.halved) {
			g.halved = now
			g.limit = max(1, g.limit/2)
		}
	case r.Err == nil:
		g.limit = min(float64(g.most), g.limit+1/g.limit)
	}
	g.freed.Broadcast()
}
