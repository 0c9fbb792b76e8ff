package alert

import (
	"maps"
	"slices"
)

// Partial is what one node has counted for one group of a rule, in one second (Counts
// and Accs) or in one slot of a percentile's window (Bins, Lines, Samples). It holds
// the whole sum, not a difference: of two Partials for the same node, rule, group and
// second, that with the higher Version replaces the other, so that they can be sent
// twice and arrive in any order.
//
// After a restart a node should publish only when it has read up to where it was: what
// it counts while it reads again is less than what it had published.
type Partial struct {
	Rule        string   `json:"r"`
	Fingerprint string   `json:"p"`
	Group       []string `json:"g"`
	// Second is the second, or the first one of the slot. Slot tells which.
	Second  int64  `json:"s"`
	Slot    bool   `json:"w,omitempty"`
	Version uint64 `json:"v"`

	Counts  []uint32 `json:"c,omitempty"`
	Accs    []Acc    `json:"a,omitempty"`
	Bins    [][]Bin  `json:"b,omitempty"`
	Lines   []Lines  `json:"l,omitempty"`
	Samples []Sample `json:"x,omitempty"`
}

// Acc is what a maximum and an average need of one field.
type Acc struct {
	Max float64 `json:"m"`
	Sum float64 `json:"s"`
	N   int64   `json:"n"`
}

// Lines is a number of picked lines by where they came from.
type Lines struct {
	Host string `json:"h,omitempty"`
	File string `json:"f,omitempty"`
	N    int64  `json:"n"`
}

// changes are the parts of a second that are still to be published.
type changes uint8

const (
	changedSecond changes = 1 << iota
	changedSlot
)

// change notes that lines of a second were counted.
func (g *group) change(sec int64) {
	if g.changed == nil {
		return
	}
	g.changed[sec] |= changedSecond
	slot := g.watch.rule.slot
	g.changed[floorDiv(sec, slot)*slot] |= changedSlot
}

// Publish has the engine keep what Partials returns, for the rules of scope fleet.
// What it holds already, after Restore, is published again.
func (e *Engine) Publish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.publish = true
	for _, w := range e.watches {
		for _, g := range w.groups {
			if w.rule.cfg.Scope == "fleet" && g.changed == nil {
				g.changed = make(map[int64]changes)
				for _, sec := range g.secs {
					g.change(sec)
				}
			}
		}
	}
}

// Partials returns what has changed since the last call.
func (e *Engine) Partials() []Partial {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.edition++
	version := e.boot<<32 | e.edition
	var out []Partial
	for _, w := range e.watches {
		for _, g := range w.groups {
			for _, sec := range slices.Sorted(maps.Keys(g.changed)) {
				head := Partial{Rule: w.rule.cfg.Name, Fingerprint: w.rule.fingerprint, Group: g.parts, Second: sec, Version: version}
				if g.changed[sec]&changedSecond != 0 {
					out = g.partialSecond(out, head)
				}
				if g.changed[sec]&changedSlot != 0 {
					out = append(out, g.partialSlot(head))
				}
			}
			clear(g.changed)
		}
	}
	return out
}

func (g *group) partialSecond(out []Partial, p Partial) []Partial {
	i := g.find(p.Second)
	if i == len(g.secs) || g.secs[i] != p.Second {
		return out // no longer kept
	}
	p.Counts = slices.Clone(g.counts(i))
	for _, a := range g.fieldsAt(i) {
		p.Accs = append(p.Accs, Acc{a.max, a.sum, a.n})
	}
	return append(out, p)
}

func (g *group) partialSlot(p Partial) Partial {
	p.Slot = true
	width := g.watch.rule.slot
	index := floorDiv(p.Second, width)
	for _, d := range g.dist {
		var bins []Bin
		for _, s := range d {
			if s.index == index {
				bins = slices.Clone(s.bins)
			}
		}
		p.Bins = append(p.Bins, bins)
	}
	for _, t := range g.tallies {
		if t.slot == index {
			p.Lines = append(p.Lines, Lines{t.from.host, t.from.file, t.n})
		}
	}
	for i := range g.samples {
		if s := &g.samples[i]; floorDiv(s.milli, 1000*width) == index {
			p.Samples = append(p.Samples, s.sample())
		}
	}
	return p
}

// Node is a node of the fleet, for the engine that decides over all of them.
type Node struct {
	engine *Engine
	name   string
	source source
}

// Node returns the entrance for a node's Partials. Until the first Flush with caughtUp
// the node counts as behind.
func (e *Engine) Node(name string) *Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	n := &Node{engine: e, name: name}
	n.source = source{feeds: make([]bool, len(e.watches)), fixed: make([]string, len(e.watches)), reached: -never, behind: true}
	for i := range n.source.feeds {
		n.source.feeds[i] = true
	}
	e.list(&n.source)
	return n
}

// Flush says that the node's newest line is of that second, and whether the node's
// inputs are caught up, and has decided what can be decided at once. Call it after
// each batch of Partials and for the node's sign of life.
func (n *Node) Flush(newest int64, caughtUp bool) {
	e := n.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	newest = min(newest, e.wall)
	e.heardOf(&n.source, newest, caughtUp)
	for _, w := range e.watches {
		w.newest = max(w.newest, newest)
		w.passTouched()
	}
}

// Close ends the node's part; what it has counted stays.
func (n *Node) Close() {
	n.engine.mu.Lock()
	defer n.engine.mu.Unlock()
	n.engine.drop(&n.source)
}

// shares are what each node has counted, by second and by slot.
type shares map[shareAt][]share

type shareAt struct {
	second int64
	slot   bool
}

type share struct {
	node string
	part Partial
}

func (s shares) prune(second, slot int64) {
	for at := range s {
		if at.second < slot || at.second <= second && !at.slot {
			delete(s, at)
		}
	}
}

// Merge counts a node's Partial in place of the one before. False when it changes
// nothing: a newer one is known, no rule wants it, or it is too late.
func (n *Node) Merge(p *Partial) bool {
	e := n.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	i := slices.IndexFunc(e.watches, func(w *watch) bool {
		return w.rule.cfg.Name == p.Rule && w.rule.fingerprint == p.Fingerprint
	})
	if i < 0 || !e.watches[i].fits(p) {
		return false
	}
	w := e.watches[i]
	last, lines := p.Second, uint32(0)
	if p.Slot {
		last += w.rule.slot - 1
	}
	if len(p.Counts) > 0 {
		lines = slices.Max(p.Counts)
	}
	e.list(&n.source)
	w.setHorizon()
	if !w.accepts(min(last, max(p.Second, e.wall)), lines) {
		return false
	}
	g := w.admit(joinKey(p.Group), p.Second, lines)
	return g != nil && g.merge(n.name, p)
}

// fits tells whether a Partial has the shape of the rule's counters.
func (w *watch) fits(p *Partial) bool {
	r := w.rule
	if len(p.Group) != len(r.per) {
		return false
	}
	if p.Slot {
		return len(p.Bins) == r.sketches && floorDiv(p.Second, r.slot)*r.slot == p.Second
	}
	return len(p.Counts) == len(r.counters) && len(p.Accs) == r.accs
}

func (g *group) merge(node string, p *Partial) bool {
	if g.shares == nil {
		g.shares = make(shares)
	}
	at := shareAt{p.Second, p.Slot}
	all := g.shares[at]
	i := slices.IndexFunc(all, func(s share) bool { return s.node == node })
	if i < 0 {
		i = len(all)
		all = append(all, share{node: node})
	} else if all[i].part.Version >= p.Version {
		return false
	}
	old := all[i].part
	all[i].part = *p
	all[i].part.Samples = nil // they are the group's
	g.shares[at] = all
	if p.Slot {
		g.mergeSlot(&old, p)
	} else {
		g.mergeSecond(&old, p, all)
	}
	g.touch(p.Second)
	return true
}

func (g *group) mergeSecond(old, p *Partial, all []share) {
	i := g.second(p.Second)
	g.count(p.Second, i, p.Counts, old.Counts)
	accs := g.fieldsAt(i)
	clear(accs)
	for _, s := range all {
		for j, a := range s.part.Accs {
			accs[j].add(acc{a.Max, a.Sum, a.N})
		}
	}
}

func (g *group) mergeSlot(old, p *Partial) {
	index := floorDiv(p.Second, g.watch.rule.slot)
	for j := range g.dist {
		s := g.dist[j].slot(index, &g.watch.spare)
		if old.Bins != nil {
			s.bins.subtract(old.Bins[j])
		}
		s.bins.merge(sorted(p.Bins[j]))
	}
	g.edition++
	for _, l := range old.Lines {
		g.tally(p.Second, placeOf{l.Host, l.File}, -l.N)
	}
	for _, l := range p.Lines {
		g.tally(p.Second, placeOf{l.Host, l.File}, l.N)
	}
	for _, x := range p.Samples {
		g.sample(&sampleLine{milli: x.Time.UnixMilli(), text: []byte(x.Text), requestID: []byte(x.RequestID), from: placeOf{x.Host, x.File}})
	}
}

// sorted returns bins in rising order, as they should have come.
func sorted(bins []Bin) []Bin {
	byIndex := func(a, b Bin) int { return int(a.Index) - int(b.Index) }
	if slices.IsSortedFunc(bins, byIndex) {
		return bins
	}
	bins = slices.Clone(bins)
	slices.SortFunc(bins, byIndex)
	return bins
}
