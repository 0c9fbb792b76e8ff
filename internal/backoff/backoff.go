// Package backoff decides how long to wait before something that failed is tried
// again: longer each time, up to a cap, and scattered, so that a fleet that lost one
// server does not return to it in step.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// The defaults of a Policy.
const (
	DefaultFirst = 100 * time.Millisecond
	DefaultCap   = 30 * time.Second
)

// Policy is capped exponential back-off with full jitter: the wait after the n-th
// failure in a row is uniform between First and min(Cap, First·2ⁿ). It never is
// shorter than First, so that a server which answers fast "too busy" is not asked in
// a tight loop. The zero value waits from 100 ms to 30 s. Policies hold no state.
type Policy struct {
	First time.Duration // 0: DefaultFirst
	Cap   time.Duration // 0: DefaultCap
	// Rand returns a number in [0, n); nil is math/rand/v2. Tests set it.
	Rand func(n int64) int64
}

// Delay returns the wait after that many failures in a row (1 after the first).
func (p Policy) Delay(failures int) time.Duration {
	first, limit := p.First, p.Cap
	if first <= 0 {
		first = DefaultFirst
	}
	if limit <= 0 {
		limit = DefaultCap
	}
	if limit <= first {
		return limit
	}
	most := first
	for range failures {
		if most >= limit-most { // doubling would pass the cap, or overflow
			most = limit
			break
		}
		most *= 2
	}
	random := p.Rand
	if random == nil {
		random = rand.Int64N
	}
	return first + time.Duration(random(int64(most-first)+1))
}

// Sleep waits for d, or until ctx ends: then it returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
