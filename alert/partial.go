package alert

import (
	"maps"
	"slices"
	"time"
)

// Partial is what one node has counted for one group of a rule. Of each second and of
// each slot of a percentile's window it holds the whole sum, not a difference: of what
// two Partials say of the same node, rule, group and second, that with the higher
// Version replaces the other. So they can be sent twice and arrive in any order.
type Partial struct {
	// Rule is the identity of what is counted; see Rule.Identity.
	Rule  string   `json:"r"`
	Group []string `json:"g"`
	// Key is the group's key where Group cannot say it, as it is not valid UTF-8.
	Key     []byte `json:"k,omitempty"`
	Version uint64 `json:"v"`

	Seconds []Second `json:"s,omitempty"`
	Slots   []Slot   `json:"b,omitempty"`
	Places  []Place  `json:"p,omitempty"`
	Samples []Shown  `json:"x,omitempty"`
	// Told are the incidents that the node has told by itself while it heard of no
	// evaluator.
	Told []Told `json:"t,omitempty"`
}

// Second are the counters of one second.
type Second struct {
	At     int64    `json:"t"`
	Counts []uint32 `json:"c"`
	Accs   []Acc    `json:"a,omitempty"`
}

// Acc is what a maximum and an average need of one field.
type Acc struct {
	Max float64 `json:"m"`
	Sum float64 `json:"s"`
	N   int64   `json:"n"`
}

// Slot are the sketches of one slot, by field; At is its first second.
type Slot struct {
	At   int64   `json:"t"`
	Bins [][]Bin `json:"b"`
}

// Place is how many picked lines of a slot came from one file; At is the slot's first
// second.
type Place struct {
	At   int64  `json:"t"`
	Host string `json:"h,omitempty"`
	File string `json:"f,omitempty"`
	N    int64  `json:"n"`
}

// Shown is a sample with the counters that picked it, as bits; 0: not known.
type Shown struct {
	Sample
	Evidence uint64 `json:"w,omitempty"`
}

// Report is what a node publishes. Its Partials hold all that its Marks say has been
// read.
type Report struct {
	Partials []Partial
	Marks    []Mark
}

// Mark says how far a node is with a rule.
type Mark struct {
	Rule string `json:"r"`
	// Newest is the second of the newest line, every line before Reached has been read.
	// 0: none, or not known.
	Newest  int64 `json:"n,omitempty"`
	Reached int64 `json:"d,omitempty"`
	// Behind says that there are lines of the past to be read still.
	Behind bool `json:"b,omitempty"`
}

// maxReportSamples bounds, in bytes, the sample lines of one Report; others follow in
// the next.
const maxReportSamples = 16 << 10

// changes are the parts of a second that are still to be published.
type changes uint8

const (
	changedSecond changes = 1 << iota
	changedSlot           // its sketches
	changedPlaces         // where its lines came from
)

// change notes that lines of a second were counted.
func (g *group) change(sec int64) {
	if g.changed == nil || g.lastChanged == sec {
		return
	}
	g.lastChanged = sec
	g.changed[sec] |= changedSecond
	slot := floorDiv(sec, g.watch.rule.slot) * g.watch.rule.slot
	if len(g.dist) > 0 {
		g.changed[slot] |= changedSlot
	}
	g.changed[slot] |= changedPlaces
}

// Publish makes this the engine of a node of a fleet, under that name: it keeps what
// Report returns for the rules of scope fleet, and leaves their incidents to the
// evaluators as long as SetLead says so. What it holds already, after Restore, is
// published again. ledUpTo is until when evaluators may have decided before.
func (e *Engine) Publish(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.node = node
	for _, w := range e.watches {
		if w.rule.cfg.Scope != "fleet" || w.lead.node {
			continue
		}
		w.lead.node, w.lead.led = true, true
		for _, g := range w.groups {
			g.digest()
			g.changed = make(map[int64]changes)
			for _, sec := range g.secs {
				g.change(sec)
			}
			for _, d := range g.dist {
				for _, s := range d.slots {
					g.changed[s.index*w.rule.slot] |= changedSlot
				}
			}
			g.newTold = len(g.told) > 0
		}
	}
}

// Report returns what has changed since the last call, and how far the node is.
//
// After a restart it holds back what was counted until the inputs have been read up to
// where they were: before that the sums are less than what was published.
func (e *Engine) Report() Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	var r Report
	behind := false
	for _, w := range e.watches {
		if w.lead.node {
			m := w.mark()
			behind = behind || m.Behind
			r.Marks = append(r.Marks, m)
		}
	}
	if e.restored && behind && e.now.Before(e.settled) {
		return r
	}
	e.restored = false
	e.edition++
	samples := maxReportSamples
	for _, w := range e.watches {
		if !w.lead.node {
			continue
		}
		for _, g := range w.groups {
			if p, any := g.partial(&samples); any {
				p.Version = e.boot<<32 | e.edition
				r.Partials = append(r.Partials, p)
			}
		}
	}
	return r
}

func (w *watch) mark() Mark {
	e := w.engine
	m := Mark{Rule: w.rule.Identity(), Behind: e.now.Before(e.unsettled)}
	reached := int64(never)
	for _, s := range e.sources {
		if !s.feeds[w.index] || !e.live(s) && !e.lagging(s) {
			continue
		}
		m.Behind = m.Behind || e.lagging(s)
		reached = min(reached, s.reached)
	}
	if reached == never {
		reached = e.wall - 1 // nothing is being read
	}
	if reached != -never {
		m.Reached = reached
	}
	if w.newest != -never {
		m.Newest = w.newest
	}
	return m
}

// partial takes what has changed of a group. samples is how many bytes of them there
// is room for.
func (g *group) partial(samples *int) (p Partial, any bool) {
	if g.digest(); len(g.changed) == 0 && !g.newTold {
		return p, false
	}
	r := g.watch.rule
	g.lastChanged = -never
	p = Partial{Rule: r.Identity(), Group: g.parts}
	if joinKey(g.parts) != g.key {
		p.Key = []byte(g.key)
	}
	for _, sec := range slices.Sorted(maps.Keys(g.changed)) {
		what := g.changed[sec]
		if what&changedSecond != 0 {
			g.partialSecond(&p, sec)
		}
		if what&changedPlaces != 0 {
			g.partialPlaces(&p, sec)
		}
		if what&changedSlot != 0 {
			if sec+r.slot > g.watch.engine.wall { // only what has ended is looked at
				g.changed[sec] = changedSlot
				continue
			}
			g.partialSlot(&p, sec)
		}
		delete(g.changed, sec)
	}
	g.partialSamples(&p, samples)
	if g.newTold {
		p.Told, g.newTold = slices.Clone(g.told), false
	}
	return p, len(p.Seconds)+len(p.Slots)+len(p.Places)+len(p.Samples)+len(p.Told) > 0
}

func (g *group) partialSecond(p *Partial, sec int64) {
	i := g.find(sec)
	if i == len(g.secs) || g.secs[i] != sec {
		return // no longer kept
	}
	s := Second{At: sec, Counts: slices.Clone(g.counts(i))}
	for _, a := range g.fieldsAt(i) {
		s.Accs = append(s.Accs, Acc{a.max, a.sum, a.n})
	}
	p.Seconds = append(p.Seconds, s)
}

func (g *group) partialSlot(p *Partial, at int64) {
	index := floorDiv(at, g.watch.rule.slot)
	s := Slot{At: at}
	for j := range g.dist {
		d, bins := &g.dist[j], []Bin{}
		if i := d.find(index); i < len(d.slots) && d.slots[i].index == index {
			bins = append(bins, d.of(i)...)
		}
		s.Bins = append(s.Bins, bins)
	}
	p.Slots = append(p.Slots, s)
}

func (g *group) partialPlaces(p *Partial, at int64) {
	index := floorDiv(at, g.watch.rule.slot)
	for _, t := range g.tallies {
		if t.slot == index {
			p.Places = append(p.Places, Place{at, t.from.host, t.from.file, t.n})
		}
	}
}

func (g *group) partialSamples(p *Partial, room *int) {
	for i := range g.samples {
		s := &g.samples[i]
		if size := len(s.text) + len(s.requestID); !s.published && size <= *room {
			*room -= size
			s.published = true
			p.Samples = append(p.Samples, Shown{s.sample(), s.evidence})
		}
	}
}

// Identity names what the rule counts, for all whose configurations count the same:
// its name and its Fingerprint.
func (r *Rule) Identity() string { return r.cfg.Name + ":" + r.fingerprint }

// Horizon is how far back the lines lie that can still matter to the rule.
func (r *Rule) Horizon() time.Duration {
	return time.Duration(r.within+r.hold+max(r.lateness, r.stale)) * time.Second
}
