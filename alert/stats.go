package alert

import (
	"slices"
	"strings"
	"time"
)

// maxOverflowed is how many of the groups beyond max_groups are named.
const maxOverflowed = 10

// RuleStats tell how a rule fares, for metrics and the status page. The counters go
// from the start of the engine.
type RuleStats struct {
	Rule string `json:"rule"`
	// Groups are watched now, and Firing of them have an open incident.
	Groups int `json:"groups"`
	Firing int `json:"firing"`
	// Evaluated is the wall clock of the last Tick, End the second at which the
	// windows ended then.
	Evaluated time.Time `json:"evaluated"`
	End       time.Time `json:"end"`
	// Late and Future are lines that were too old or too new to be counted, Frozen those,
	// at most, that nodes of a fleet reported too late for the memory there is. Overflow
	// are lines of groups beyond max_groups, or beyond the memory, of which Overflowed
	// names the first.
	Late       uint64   `json:"late"`
	Future     uint64   `json:"future"`
	Frozen     uint64   `json:"frozen,omitempty"`
	Overflow   uint64   `json:"overflow"`
	Overflowed []string `json:"overflowed,omitempty"`
	// Bytes is about the memory of the rule's windows. Tight is set while all rules together
	// have more than they may: new groups are left out as if max_groups were reached.
	Bytes int64 `json:"bytes"`
	Tight bool  `json:"tight,omitempty"`
	// Stale are incidents that were over when they were found, and not notified.
	Stale uint64 `json:"stale"`
	// Events were emitted.
	Events uint64 `json:"events"`

	overflowed []string // the keys of Overflowed
}

// Add puts the numbers of the same rule, in another engine, to s.
func (s *RuleStats) Add(o RuleStats) {
	s.Rule = o.Rule
	s.Groups, s.Firing = s.Groups+o.Groups, s.Firing+o.Firing
	s.Late, s.Future, s.Frozen, s.Overflow = s.Late+o.Late, s.Future+o.Future, s.Frozen+o.Frozen, s.Overflow+o.Overflow
	s.Bytes, s.Tight = s.Bytes+o.Bytes, s.Tight || o.Tight
	s.Stale, s.Events = s.Stale+o.Stale, s.Events+o.Events
	s.Overflowed = append(s.Overflowed, o.Overflowed...)
	s.Overflowed = s.Overflowed[:min(len(s.Overflowed), maxOverflowed)]
	if o.Evaluated.After(s.Evaluated) {
		s.Evaluated = o.Evaluated
	}
	if o.End.After(s.End) {
		s.End = o.End
	}
}

// Stats returns the rules' numbers, in the order of the rules.
func (e *Engine) Stats() []RuleStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]RuleStats, 0, len(e.watches))
	for _, w := range e.watches {
		s := w.stats
		s.Rule, s.Groups = w.rule.cfg.Name, len(w.groups)
		s.Tight = e.closed()
		s.Overflowed, s.overflowed = slices.Clone(s.Overflowed), nil
		if w.end != -never {
			s.End = time.Unix(w.end, 0).UTC()
		}
		for _, g := range w.groups {
			if g.open != nil && !g.theirs(g.open) {
				s.Firing++
			}
		}
		out = append(out, s)
	}
	return out
}

// Firing returns the incidents that are open and were notified, the oldest first.
func (e *Engine) Firing() []Incident {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Incident
	for _, w := range e.watches {
		for _, g := range w.groups {
			if g.open != nil && g.open.Notices > 0 && !g.theirs(g.open) && !g.open.Elsewhere {
				out = append(out, g.incident(g.open, 0))
			}
		}
	}
	slices.SortFunc(out, func(a, b Incident) int {
		if c := a.Began.Compare(b.Began); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Remind has incidents told again as soon as their conditions hold, and not only when
// `repeat` has passed: what kept their last notices from people is over. Ids that are not
// open here are passed over.
func (e *Engine) Remind(ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.watches {
		for _, g := range w.groups {
			if g.open != nil && slices.Contains(ids, g.open.ID) {
				g.open.remind = true
			}
		}
	}
}

// Adopt tells the engine of an incident whose notice was sent after the snapshot that
// it was restored from: it is open, under that name, and is not notified again before
// `repeat`. False when no rule or group takes it.
func (e *Engine) Adopt(in Incident, notified time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	for _, w := range e.watches {
		if w.rule.cfg.Name != in.Rule || len(in.Group) != len(w.rule.per) {
			continue
		}
		parts := make([]string, len(in.Group))
		for i := range in.Group {
			parts[i] = in.Group[i].Value
		}
		g := w.admit(joinKey(parts), in.Last.Unix(), 0)
		if g == nil || g.open != nil && g.open.Began > in.Last.Unix() {
			return false
		}
		o := &open{ID: in.ID, Began: in.Began.Unix(), Last: in.Last.Unix(), Notified: notified.UnixMilli(), Notices: max(in.Notices, 1)}
		if g.open != nil {
			o.Began, o.Last = min(o.Began, g.open.Began), max(o.Last, g.open.Last)
		}
		g.open = o
		return true
	}
	return false
}
