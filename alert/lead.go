package alert

import "slices"

// lead is who decides a rule on a node of a fleet.
type lead struct {
	node bool // this is a node's engine, and the rule is of scope fleet
	led  bool // evaluators decide; else this host does, on its own counts
	// upTo is the second up to which evaluators were known to decide. What ended before
	// it was theirs to tell.
	upTo int64
	why  string
}

// Told is an incident that a node told by itself.
type Told struct {
	ID       string `json:"id"`
	Began    int64  `json:"b"`
	Last     int64  `json:"l"`
	Notified int64  `json:"n"` // Unix milliseconds
	Notices  int    `json:"c"`
	Over     bool   `json:"o,omitempty"`
}

// Lead says who decides the rules of scope fleet.
type Lead struct {
	// Led says that evaluators decide, Heard that they have been heard of. Where it is not set this host does, on what it
	// has counted itself, and Why says why in its notices.
	Led, Heard bool
	Why        string
	// UpTo is the second up to which evaluators are known to have decided.
	UpTo int64
	// Open are the incidents that they have told and that go on.
	Open []Incident
	// Notified is when the last notice of each was sent, Unix milliseconds.
	Notified []int64
}

// SetLead tells a node's engine who decides a rule from now on. When evaluators do so
// again, the incidents that the host told meanwhile are theirs: the ids of those that
// were open are returned.
func (e *Engine) SetLead(identity string, l Lead) (handedOver []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	for _, w := range e.watches {
		if !w.lead.node || w.rule.Identity() != identity {
			continue
		}
		was := w.lead.led
		w.lead.led, w.lead.why = l.Led, l.Why
		w.lead.upTo = max(w.lead.upTo, l.UpTo)
		switch {
		case l.Led && l.Heard:
			for _, g := range w.groups {
				if id := g.handOver(); id != "" {
					handedOver = append(handedOver, id)
				}
			}
		case was && !l.Led:
			for i := range l.Open {
				w.knowOf(&l.Open[i], l.Notified[i])
			}
		}
	}
	return handedOver
}

// knowOf notes an incident that the evaluators have told, so that the host does not
// tell of it before it is time to repeat.
func (w *watch) knowOf(in *Incident, notified int64) {
	if in.Rule != w.rule.cfg.Name || len(in.Group) != len(w.rule.per) {
		return
	}
	parts := make([]string, len(in.Group))
	for i := range in.Group {
		parts[i] = in.Group[i].Value
	}
	g := w.groups[joinKey(parts)]
	if g == nil {
		return // this host has none of it
	}
	if g.open == nil {
		g.open = &open{Began: in.Began.Unix(), Last: in.Last.Unix()}
	}
	g.open.ID, g.open.Elsewhere = in.ID, true
	g.open.Notices, g.open.Notified = max(1, in.Notices), notified
}

// handOver leaves the open incident to the evaluators. The id is that of one that the
// host has told.
func (g *group) handOver() (id string) {
	in := g.open
	if in == nil || in.Notices == 0 {
		return ""
	}
	if !in.Elsewhere {
		g.noteTold(in, false)
		id = in.ID
	}
	in.Notices, in.Notified, in.Elsewhere = 0, 0, false
	return id
}

// theirs tells whether the evaluators are to tell an incident of this node's engine.
func (g *group) theirs(in *open) bool {
	l := &g.watch.lead
	return l.node && (l.led || in.Notices == 0 && in.Last < l.upTo)
}

// undecided tells whether an incident that nobody was told of must not end, as it is
// not known yet who tells it.
func (g *group) undecided() bool {
	w, in := g.watch, g.open
	if in.Notices > 0 {
		return false
	}
	return w.lead.node && w.lead.led && in.Last >= w.lead.upTo || w.engine.now.Before(w.engine.mutedUntil)
}

// note is what the notices of a host that decides alone say.
func (w *watch) note() string {
	if w.lead.node && !w.lead.led {
		return "counted on host " + w.engine.node + " alone: " + w.lead.why
	}
	return ""
}

// named is the rule's name in the ids of incidents: two hosts that decide alone give
// each their own.
func (w *watch) named() string {
	if w.lead.node {
		return w.rule.cfg.Name + "@" + w.engine.node
	}
	return w.rule.cfg.Name
}

// noteTold keeps an incident that the host told, for the evaluators to know.
func (g *group) noteTold(in *open, over bool) {
	t := Told{in.ID, in.Began, in.Last, in.Notified, in.Notices, over}
	i := slices.IndexFunc(g.told, func(t Told) bool { return t.ID == in.ID })
	if i < 0 {
		g.told = append(g.told, t)
	} else {
		g.told[i] = t
	}
	g.newTold = true
}

// pruneTold forgets what evaluators would not tell any more.
func (g *group) pruneTold() {
	if len(g.told) > 0 {
		r := g.watch.rule
		g.told = keep(g.told, func(t Told) bool {
			return t.Last >= g.watch.engine.wall-r.stale-r.within-r.lateness || !t.Over && g.open != nil && g.open.ID == t.ID
		})
	}
}
