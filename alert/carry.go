package alert

import (
	"encoding/json"
	"fmt"
)

// Carried is what an evaluator hands on of a group: its incidents. The windows are
// counted anew from the nodes' Partials.
type Carried struct {
	// Rule is the rule's identity, Key the group's key: bytes.
	Rule string `json:"r"`
	Key  []byte `json:"k"`
	// State is nil when the group is forgotten.
	State json.RawMessage `json:"s,omitempty"`
}

// head is how far a rule has been decided.
type head struct {
	Rule    string `json:"r"`
	Newest  int64  `json:"n"`
	End     int64  `json:"e"`
	Decided int64  `json:"d"`
	// Final is the last second that all groups have been passed up to.
	Final int64 `json:"f"`
}

// Changes returns how far the rules have been decided, and the groups whose incidents
// have changed since the last call. Together with what has been merged before it, that
// is all that another engine needs to go on in the place of this one.
func (e *Engine) Changes() (heads json.RawMessage, groups []Carried, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []head
	for _, w := range e.watches {
		id := w.rule.Identity()
		all = append(all, head{id, w.newest, w.end, min(w.decided, w.sweptDecided), w.sweptFinal})
		for _, key := range w.gone {
			if w.groups[key] == nil {
				groups = append(groups, Carried{Rule: id, Key: []byte(key)})
			}
		}
		w.gone = w.gone[:0]
		for key, g := range w.groups {
			if !g.altered {
				continue
			}
			g.altered = false
			c := Carried{Rule: id, Key: []byte(key)}
			if g.open != nil || len(g.closed)+len(g.runs) > 0 || w.rule.quiet {
				s := groupState{Base: g.base.at, LastSeen: g.lastSeen, Open: g.open, Closed: g.closed, Runs: g.runs}
				if c.State, err = json.Marshal(s); err != nil {
					return nil, nil, err
				}
			} else if !g.carried {
				continue
			}
			g.carried = c.State != nil
			groups = append(groups, c)
		}
	}
	heads, err = json.Marshal(all)
	return heads, groups, err
}

// Resume has a new engine go on where another one's Changes ended: heads are the last
// ones, groups the last of each group.
func (e *Engine) Resume(heads json.RawMessage, groups []Carried) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	var all []head
	if err := json.Unmarshal(heads, &all); err != nil {
		return fmt.Errorf("state of the fleet's alerts: %w", err)
	}
	for _, h := range all {
		if w := e.watchOf(h.Rule); w != nil && plausible(h.Newest, h.End, h.Decided, h.Final) {
			w.newest, w.end, w.decided, w.complete = h.Newest, h.End, h.Decided, h.Final
			w.sweptDecided, w.sweptFinal = h.Decided, h.Final
		}
	}
	for _, c := range groups {
		w := e.watchOf(c.Rule)
		if w == nil || len(c.State) == 0 {
			continue
		}
		var s groupState
		if err := json.Unmarshal(c.State, &s); err != nil || !s.plausible() {
			return fmt.Errorf("state of the fleet's alerts: rule %s: %w", w.rule.cfg.Name, errDamaged)
		}
		s.Key = c.Key
		s.Base = max(s.Base, w.sweptFinal)
		made, err := w.restore(watchState{Newest: w.newest, End: w.end, Decided: w.decided, Groups: []groupState{s}})
		if err != nil {
			return fmt.Errorf("state of the fleet's alerts: rule %s: %w", w.rule.cfg.Name, err)
		}
		for key, g := range made {
			g.carried = true
			w.groups[key] = g
		}
	}
	return nil
}
