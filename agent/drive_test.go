package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestLooksAreSpacedByHowMuchIsGoingOn: growth of many files is gathered; what is new or
// gone, and a task, do not wait for that.
func TestLooksAreSpacedByHowMuchIsGoingOn(t *testing.T) {
	for _, c := range []struct {
		what      string
		news      int
		grown     bool
		grownAt   time.Duration
		changedAt time.Duration // 0: never
		taskAt    time.Duration
		want      time.Duration
	}{
		{what: "silence", news: 500, want: pollEvery},
		{what: "one busy file", news: 1, grown: true, want: growthSpacing},
		{what: "a line after a while", news: 1, grownAt: 80 * time.Millisecond, want: 90 * time.Millisecond},
		{what: "a few", news: 40, grown: true, want: growthSpacing},
		{what: "many", news: 5000, grown: true, want: maxSpacing},
		{what: "some hundred", news: 150, grown: true, want: 150 * time.Millisecond},
		{what: "a new file beside many", news: 5000, grown: true, changedAt: 30 * time.Millisecond, want: pollSpacing + 30*time.Millisecond},
		{what: "a new file", news: 5000, changedAt: time.Millisecond, want: pollSpacing + time.Millisecond},
		{what: "a task beside many", news: 5000, grown: true, taskAt: 20 * time.Millisecond, want: 20 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBells()
			tasks := make(chan func())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.grown {
				b.ring(false)
			}
			if c.grownAt > 0 {
				time.AfterFunc(c.grownAt, func() { b.ring(false) })
			}
			if c.changedAt > 0 {
				time.AfterFunc(c.changedAt, func() { b.ring(true) })
			}
			if c.taskAt > 0 {
				time.AfterFunc(c.taskAt, func() { tasks <- func() {} })
			}
			began := time.Now()
			task := b.wait(ctx, tasks, c.news)
			if waited := time.Since(began); waited != c.want || (task != nil) != (c.taskAt > 0) {
				t.Errorf("%s: the next look comes after %v, want %v; a task: %v", c.what, waited, c.want, task != nil)
			}
		})
	}
}
