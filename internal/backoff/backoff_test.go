package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLongestWaitsDoubleUpToTheCap(t *testing.T) {
	p := Policy{Rand: func(n int64) int64 { return n - 1 }}
	want := []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}
	for i, w := range want {
		if got := p.Delay(i + 1); got != w*time.Millisecond {
			t.Errorf("after %d failures: %v, want %v", i+1, got, w*time.Millisecond)
		}
	}
}

func TestNoWaitIsShorterThanFirstOrLongerThanCap(t *testing.T) {
	for _, p := range []Policy{{}, {First: 1, Cap: 1}, {First: time.Hour, Cap: time.Second}, {First: time.Second, Cap: 1<<63 - 1}} {
		first, limit := p.First, p.Cap
		if first == 0 {
			first, limit = DefaultFirst, DefaultCap
		}
		for _, failures := range []int{-1, 0, 1, 2, 10, 100, 1 << 20} {
			got := p.Delay(failures)
			if got < min(first, limit) || got > limit {
				t.Errorf("%+v after %d failures: %v", p, failures, got)
			}
		}
	}
}

func TestWaitsAreScattered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[Policy{}.Delay(8)] = true
	}
	if len(seen) < 90 {
		t.Errorf("100 waits took %d values", len(seen))
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := errors.New("deadline of 5s passed")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, over)
		defer cancel()
		start := time.Now()
		if err := Sleep(ctx, 3*time.Second); err != nil {
			t.Errorf("a wait inside the limit: %v", err)
		}
		if err := Sleep(ctx, time.Hour); !errors.Is(err, over) {
			t.Errorf("got %v, want %v", err, over)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v, want 5s", took)
		}
	})
}
