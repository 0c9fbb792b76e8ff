package sink

import (
	"fmt"
	"log/slog"
	"time"
)

// State is how an output is doing, for readiness and status.
type State struct {
	// Up is false from the first try that failed as a whole until one succeeds.
	Up    bool
	Since time.Time // when it became what it is
	// Failures counts the failed tries since then; 0 while up.
	Failures int
	// LastError is what the last failed try said, also when all is well again.
	LastError   string
	LastErrorAt time.Time
	// NextTry is when the first of the waiting batches is due; zero when none is.
	NextTry time.Time
	// OldestTry is when the oldest try without an answer began; zero when none is
	// under way. One that is minutes old is an output that hangs.
	OldestTry time.Time
	// Batches, Lines and Bytes are what is under way or waits to be tried again.
	Batches, Lines, Bytes int
}

// circuit follows an output through its outages, and logs each once: when it
// begins, every minute while it lasts, and when it is over. That a warning which
// repeats is counted and not repeated is the business of its log.
type circuit struct {
	name  string
	log   *slog.Logger
	state State

	logged  bool      // this outage has been logged
	lastLog time.Time // of an outage, also of one before: an output may flap
}

// errAllAgain is a try of which the destination took nothing.
type errAllAgain struct {
	lines  int
	reason string
	why    string
}

func (e errAllAgain) Error() string {
	if e.why != "" {
		return e.why
	}
	return fmt.Sprintf("none of %d documents was taken (%s)", e.lines, e.reason)
}

func (c *circuit) failed(err error, reason string) {
	now := time.Now()
	if c.state.Up {
		c.state.Up, c.state.Since, c.state.Failures = false, now, 0
		c.logged = false
	}
	c.state.Failures++
	c.state.LastError, c.state.LastErrorAt = err.Error(), now
	if !c.lastLog.IsZero() && now.Sub(c.lastLog) < repeatLog {
		return
	}
	c.lastLog = now
	if !c.logged {
		c.logged = true
		c.log.Error("output does not take documents; they are kept and tried again until it does", "output", c.name, "reason", reason, "error", err)
		return
	}
	c.log.Error("output still does not take documents", "output", c.name, "for", now.Sub(c.state.Since).Round(time.Second), "failures", c.state.Failures, "reason", reason, "error", err)
}

// troubled notes an error beside which the output goes on.
func (c *circuit) troubled(err error) {
	c.state.LastError, c.state.LastErrorAt = err.Error(), time.Now()
	if !c.lastLog.IsZero() && time.Since(c.lastLog) < repeatLog {
		return
	}
	c.lastLog = time.Now()
	c.log.Error("a part of an output does not take documents; they are kept and tried again until it does", "output", c.name, "error", err)
}

// succeeded reports whether this ends an outage.
func (c *circuit) succeeded() bool {
	if c.state.Up {
		return false
	}
	now := time.Now()
	if c.logged {
		c.log.Info("output takes documents again", "output", c.name, "after", now.Sub(c.state.Since).Round(time.Millisecond), "failures", c.state.Failures)
	}
	c.state.Up, c.state.Since, c.state.Failures = true, now, 0
	return true
}

// partly notes a try of which some documents are to be tried again.
func (c *circuit) partly(again, total int, reason, why string) {
	c.state.LastError, c.state.LastErrorAt = fmt.Sprintf("%d of %d documents are tried again (%s)", again, total, reason), time.Now()
	c.log.Warn("output took a part of a batch; the rest is tried again", "output", c.name, "again", again, "documents", total, "reason", reason, "why", why)
}

// parked notes refused documents.
func (c *circuit) parked(refused []Refusal) {
	first := refused[0]
	c.log.Error("output refused documents; they are parked as dead letters (tailwater dead list)", "output", c.name, "refused", len(refused), "reason", first.Reason, "detail", first.Detail)
}
