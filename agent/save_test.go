package agent

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatComesNowAndThenIsSavedAtOnce: an agent that is killed a moment after it has
// delivered the few lines of a log, which is deleted before the next start, has them for good.
func TestWhatComesNowAndThenIsSavedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var mu sync.Mutex
		var at []time.Duration // guarded by mu
		s := newSaver()
		go s.loop(ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
		})
		until := func(d time.Duration) {
			time.Sleep(d - time.Since(began))
			synctest.Wait()
		}
		want := func(what string, times ...time.Duration) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(at, times) {
				t.Errorf("%s: saved at %v, want %v", what, at, times)
			}
			at = nil
		}
		const ms = time.Millisecond
		until(3600 * ms)
		want("idle", 100*ms, 300*ms, 700*ms, 1500*ms, 2500*ms, 3500*ms)
		for range 5 {
			s.delivered()
		}
		until(4000 * ms)
		want("after a pause", 3620*ms)
		for d := 4000 * ms; d < 7*time.Second; d += 10 * ms {
			until(d)
			s.delivered()
		}
		until(7 * time.Second)
		want("under load", 4620*ms, 5620*ms, 6620*ms)
		until(9 * time.Second)
		want("once more", 7620*ms, 8620*ms)
	})
}
