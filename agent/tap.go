package agent

import (
	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

// tap is where a flow's lines enter the alert engine, each once: whichever chain comes
// by first brings it.
type tap struct {
	*alert.Tap
	// passed is the position before which the lines have been observed, in this life
	// or an earlier one.
	passed record.Pos
}

// openTap gives the flow its entrance to the engine in force, if a rule watches its
// input.
func (f *flow) openTap() {
	f.closeTap()
	if !f.in.observed {
		return
	}
	al := f.agent.alerts
	name := f.file.Gen()
	al.mu.Lock()
	engine := al.engine
	al.counted[name] = struct{}{}
	al.mu.Unlock()
	t := &tap{Tap: engine.Tap(name, f.in.name, f.in.cfg.Kind() == "kafka", f.origin()), passed: f.lead.pos}
	if pos, known := engine.Counted(name); known {
		t.passed = pos
	}
	f.tap = t
}

// closeTap ends the flow's part in the engine; what has been counted stays.
func (f *flow) closeTap() {
	if f.tap != nil {
		f.tap.Close()
		f.tap = nil
	}
}

// observe shows an event to the rules, unless they have seen it.
func (f *flow) observe(ev *parser.Event, r *record.Record, unixMilli int64) {
	t := f.tap
	if t == nil || ev.Off < t.passed.Off || ev.Stream == t.passed.AheadStream && ev.Off < t.passed.Ahead {
		return
	}
	t.Observe(r, unixMilli, ev.Text)
}

// observed hands what the chain has shown to the engine, before an output gets it:
// what is delivered is never uncounted. atEnd says that the file ends there.
func (f *flow) observed(c *chain, atEnd bool) {
	t := f.tap
	if t == nil {
		return
	}
	further := c.pos.Off > t.passed.Off || c.pos.Off == t.passed.Off && c.pos.Ahead > t.passed.Ahead
	if !further && !atEnd {
		return
	}
	if further {
		t.passed = c.pos
	}
	t.Flush(t.passed, atEnd)
	if further {
		f.agent.alerts.changed.Store(true) // only now: a snapshot taken before may lack it
	}
}
