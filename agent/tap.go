package agent

import (
	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

// tap is where a flow's lines enter the alert engine and the reports, each once:
// whichever chain comes by first brings it.
type tap struct {
	taps
	passed passed // by the rules
	listed passed // by the reports

	// What was received is of several projects, each with entrances of its own, as rules
	// and reports group by them; the current ones are those of project. of is nil for a
	// file.
	of      map[string]*taps
	project string
}

// taps are one origin's entrances.
type taps struct {
	rules *alert.Tap // nil where no rule watches the input
	days  *report.Tap
	// shown and noted are set when something was observed since the last flush.
	shown, noted bool
}

func (t *taps) close() {
	if t.rules != nil {
		t.rules.Close()
	}
	if t.days != nil {
		t.days.Close()
	}
}

// maxTaps bounds the projects that have entrances of their own; the others share some.
const maxTaps = maxProjects

// enter makes the project's entrances the current ones.
func (t *tap) enter(f *flow, project string) {
	if project != t.project {
		p := t.of[project]
		if p == nil && len(t.of) >= maxTaps {
			project = "other"
			p = t.of[project]
		}
		if p == nil {
			p = t.forProject(f, project)
			t.of[project] = p
		}
		t.of[t.project].shown, t.of[t.project].noted = t.shown, t.noted
		t.taps, t.project = *p, project
	}
	t.shown, t.noted = true, true
}

// forProject opens the entrances of another project.
func (t *tap) forProject(f *flow, project string) *taps {
	p, al, name := new(taps), f.agent.alerts, f.file.Gen()
	if t.rules != nil {
		p.rules = al.current().Tap(name, f.in.name, false, f.originOf(project))
	}
	if t.days != nil {
		p.days = al.book.Tap(name, f.in.name, false, f.originOf(project))
	}
	return p
}

// flushRules hands what was observed to the engine; atEnd says that there is no more now.
func (t *tap) flushRules(al *alerts, atEnd bool) {
	if t.of == nil {
		t.rules.Flush(record.Pos(t.passed), atEnd)
		return
	}
	due := []*alert.Tap{t.rules}
	t.shown = false
	for project, p := range t.of {
		if project != t.project && (p.shown || atEnd) {
			due, p.shown = append(due, p.rules), false
		}
	}
	al.current().FlushAll(due, record.Pos(t.passed), atEnd)
}

// flushDays hands what was observed to the reports.
func (t *tap) flushDays(al *alerts, atEnd bool) {
	if t.of == nil {
		t.days.Flush(record.Pos(t.listed), atEnd)
		return
	}
	due := []*report.Tap{t.days}
	t.noted = false
	for project, p := range t.of {
		if project != t.project && (p.noted || atEnd) {
			due, p.noted = append(due, p.days), false
		}
	}
	al.book.FlushAll(due, record.Pos(t.listed), atEnd)
}

// passed is the position before which the lines have been observed, in this life or an
// earlier one.
type passed record.Pos

// has tells whether the event was observed before.
func (p *passed) has(ev *parser.Event) bool {
	return ev.Off < p.Off || ev.Stream == p.AheadStream && ev.Off < p.Ahead
}

// moveTo takes over where a chain has come, and tells whether that is further.
func (p *passed) moveTo(at record.Pos) bool {
	further := at.Off > p.Off || at.Off == p.Off && at.Ahead > p.Ahead
	if further {
		*p = passed(at)
	}
	return further
}

// openTap gives the flow its entrance to the engine in force and to the reports, if a
// rule or a report watches its input.
func (f *flow) openTap() {
	f.closeTap()
	if !f.in.observed {
		return
	}
	t := &tap{passed: passed(f.lead.pos), listed: passed(f.lead.pos), project: f.view.project}
	f.openRules(t)
	book, name := f.agent.alerts.book, f.file.Gen()
	if t.days = book.Tap(name, f.in.name, f.in.cfg.Kind() == "kafka", f.origin()); t.days != nil {
		if pos, known := book.Counted(name); known {
			t.listed = passed(pos)
		}
	}
	if f.received() {
		t.of = map[string]*taps{t.project: {rules: t.rules, days: t.days}}
	}
	f.tap = t
}

// openRules opens the tap's part in the engine, if a rule watches the input.
func (f *flow) openRules(t *tap) {
	al := f.agent.alerts
	name := f.file.Gen()
	al.mu.Lock()
	if !al.watches(f.in.name, f.in.cfg.Kind() == "kafka") {
		al.mu.Unlock()
		return
	}
	engine := al.engine
	al.counted[name] = struct{}{}
	al.mu.Unlock()
	t.rules = engine.Tap(name, f.in.name, f.in.cfg.Kind() == "kafka", f.origin())
	if pos, known := engine.Counted(name); known {
		t.passed = passed(pos)
	}
}

// closeTap ends the flow's part in the engine; what has been counted stays.
func (f *flow) closeTap() {
	if f.tap == nil {
		return
	}
	f.tap.taps.close()
	for project, p := range f.tap.of {
		if project != f.tap.project {
			p.close()
		}
	}
	f.tap = nil
}

// observe shows an event to the rules and the reports, unless they have seen it.
func (f *flow) observe(c *chain, ev *parser.Event, r *record.Record, unixMilli int64) {
	t := f.tap
	if t == nil {
		return
	}
	if t.of != nil {
		t.enter(f, c.project)
	}
	if t.rules != nil && !t.passed.has(ev) {
		t.rules.Observe(r, unixMilli, ev.Text)
	}
	if t.days != nil && !t.listed.has(ev) {
		t.days.Observe(r, unixMilli, ev.Text)
	}
}

// observed hands what the chain has shown to the engine and the reports, before an
// output gets it: what is delivered is never uncounted. atEnd says that the file ends
// there.
func (f *flow) observed(c *chain, atEnd bool) {
	t := f.tap
	if t == nil {
		return
	}
	if t.days != nil {
		if further := t.listed.moveTo(c.pos); further || atEnd {
			t.flushDays(f.agent.alerts, atEnd)
		}
	}
	if t.rules == nil {
		return
	}
	further := t.passed.moveTo(c.pos)
	if !further && !atEnd {
		return
	}
	t.flushRules(f.agent.alerts, atEnd)
	if further {
		f.agent.alerts.changed.Store(true) // only now: a snapshot taken before may lack it
	}
}
