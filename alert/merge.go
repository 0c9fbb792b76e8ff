package alert

import (
	"slices"
	"time"
)

// Node is a node of the fleet, for the engine that decides over all of them.
type Node struct {
	engine  *Engine
	number  uint32
	sources []source // by watch
}

// Node returns the entrance for a node's Reports. It is not waited for before its
// first Mark.
func (e *Engine) Node(name string) *Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	number, known := e.nodes[name]
	if !known {
		number = uint32(len(e.nodes))
		e.nodes[name] = number
	}
	n := &Node{engine: e, number: number, sources: make([]source, len(e.watches))}
	for i := range n.sources {
		s := &n.sources[i]
		*s = source{feeds: make([]bool, len(e.watches)), fixed: make([]string, len(e.watches)), reached: -never, behind: true}
		s.feeds[i] = true
	}
	return n
}

// Mark takes the node's sign of life. Decide has the engine act on it.
func (n *Node) Mark(marks []Mark) {
	e := n.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	if e.replaying {
		return // who lives now says so again
	}
	for _, m := range marks {
		w := e.watchOf(m.Rule)
		if w == nil {
			continue
		}
		s := &n.sources[w.index]
		e.list(s)
		s.behind = m.Behind
		if m.Reached != 0 {
			s.reached = max(s.reached, min(m.Reached, e.wall))
		}
		if m.Newest != 0 {
			w.newest = max(w.newest, min(m.Newest, e.wall))
		}
	}
}

// Decide decides what can be decided after Merge and Mark.
func (e *Engine) Decide() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	for _, w := range e.watches {
		w.passTouched()
	}
}

func (e *Engine) watchOf(identity string) *watch {
	for _, w := range e.watches {
		if w.rule.Identity() == identity {
			return w
		}
	}
	return nil
}

// Merge counts a node's Partial in place of what it says again. False when it changes
// nothing: newer ones are known, no rule wants it, or it is too late.
func (n *Node) Merge(p *Partial) bool {
	e := n.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	w := e.watchOf(p.Rule)
	if w == nil || !w.fits(p) {
		return false
	}
	if !e.replaying {
		e.list(&n.sources[w.index])
	}
	w.setHorizon()
	m := merger{w: w, node: n.number, p: p, key: joinKey(p.Group)}
	if p.Key != nil {
		m.key = string(p.Key)
	}
	before := int64(0)
	if g := w.groups[m.key]; g != nil {
		before = groupBase + g.shares.bytes
	}
	for _, t := range p.Told {
		m.told(t)
	}
	for i := range p.Seconds {
		m.second(&p.Seconds[i])
	}
	for i := range p.Slots {
		m.slot(&p.Slots[i])
	}
	m.places()
	if m.g != nil {
		for i := range p.Samples {
			m.g.shown(&p.Samples[i])
		}
	}
	if m.g != nil {
		e.grew(groupBase + m.g.shares.bytes - before)
	}
	return m.changed
}

// fits tells whether a Partial has the shape of the rule's counters.
func (w *watch) fits(p *Partial) bool {
	r := w.rule
	ok := len(p.Group) == len(r.per) && len(p.Key) <= len(r.per)*(maxPart+2)
	for i := range p.Seconds {
		s := &p.Seconds[i]
		ok = ok && len(s.Counts) == len(r.counters) && len(s.Accs) == r.accs && plausible(s.At)
	}
	for i := range p.Slots {
		s := &p.Slots[i]
		ok = ok && len(s.Bins) == r.sketches && floorDiv(s.At, r.slot)*r.slot == s.At && plausible(s.At)
	}
	for i := range p.Places {
		ok = ok && plausible(p.Places[i].At)
	}
	for _, t := range p.Told {
		ok = ok && plausible(t.Began, t.Last)
	}
	return ok
}

// merger brings one Partial to its group.
type merger struct {
	w       *watch
	node    uint32
	p       *Partial
	key     string
	g       *group
	changed bool
}

// group finds the group for what happened at a second; nil when that is not counted.
func (m *merger) group(sec int64, lines uint32) *group {
	w := m.w
	w.merged = max(w.merged, min(sec, w.engine.wall))
	if w.engine.replaying {
		// What was decided is counted once more, as far as a window that is still to be
		// decided can reach.
		if w.end != -never && sec < w.end-max(w.rule.lateness, w.rule.stale)-w.rule.within {
			return nil
		}
	} else if !w.accepts(sec, lines) {
		return nil
	}
	if m.g == nil {
		m.g = w.admit(m.key, sec, lines)
	}
	return m.g
}

// touch has the group decided again from sec on, unless it was decided by others.
func (m *merger) touch(sec int64) {
	m.changed = true
	if m.w.engine.replaying {
		m.g.lastSeen = max(m.g.lastSeen, sec)
		return
	}
	m.g.slack = 0 // the lines are not counted here
	m.g.touch(sec, 1)
}

// second counts one second in place of what the node has said of it before.
func (m *merger) second(s *Second) {
	lines := uint32(0)
	if len(s.Counts) > 0 {
		lines = slices.Max(s.Counts)
	}
	if s.At <= m.w.frozen {
		m.w.stats.Frozen += uint64(lines)
		return
	}
	g := m.group(s.At, lines)
	if g == nil {
		return
	}
	nc, na := g.counters, g.fields
	all := g.shares.second(s.At)
	i := slices.Index(all.nodes, m.node)
	if i < 0 {
		i = g.shares.join(all, m.node, nc, na)
	} else if all.versions[i] >= m.p.Version {
		return
	}
	all.versions[i] = m.p.Version
	if w := m.w; !w.engine.replaying && s.At <= w.engine.wall+1 { // a line from the future moves nothing
		w.newest = max(w.newest, min(s.At, w.engine.wall))
	}
	at := g.second(s.At)
	mine := all.counts[i*nc : (i+1)*nc]
	g.count(s.At, at, s.Counts, mine)
	copy(mine, s.Counts)
	for j, a := range s.Accs {
		all.accs[i*na+j] = acc{a.Max, a.Sum, a.N}
	}
	sums := g.fieldsAt(at)
	clear(sums)
	for k, a := range all.accs {
		sums[k%na].add(a)
	}
	m.touch(s.At)
}

func (m *merger) slot(s *Slot) {
	w := m.w
	if s.At+w.rule.slot-1 <= w.frozen {
		return // its lines count as late by their seconds
	}
	g := m.group(min(s.At+w.rule.slot-1, max(s.At, w.engine.wall)), 0)
	if g == nil {
		return
	}
	index := floorDiv(s.At, w.rule.slot)
	old, _ := g.shares.slot(index, m.node)
	if old.version >= m.p.Version {
		return
	}
	g.shares.bytes += sizeOfBins(s.Bins) - sizeOfBins(old.bins)
	for j := range g.dist {
		d := &g.dist[j]
		at := d.at(index)
		if old.bins != nil {
			d.subtract(at, old.bins[j], w.engine)
		}
		d.merge(at, sorted(s.Bins[j]), w.engine)
	}
	old.version, old.bins = m.p.Version, s.Bins
	g.altersSlot(index)
	m.touch(s.At)
}

// places counts where the lines of each slot came from, in place of what the node has
// said before.
func (m *merger) places() {
	p := m.p
	for from := 0; from < len(p.Places); {
		to := from + 1
		for to < len(p.Places) && p.Places[to].At == p.Places[from].At {
			to++
		}
		m.placesOf(p.Places[from:to])
		from = to
	}
}

func (m *merger) placesOf(places []Place) {
	at := places[0].At
	if m.g == nil {
		m.g = m.w.groups[m.key] // lines without a group do not matter
	}
	if m.g == nil || at+m.w.rule.slot-1 <= m.w.frozen {
		return
	}
	slot := floorDiv(at, m.w.rule.slot)
	_, old := m.g.shares.slot(slot, m.node)
	if old.version >= m.p.Version {
		return
	}
	m.g.shares.bytes += sizeOfPlaces(places) - sizeOfPlaces(old.places)
	for _, l := range old.places {
		m.g.tally(slot, placeOf{l.Host, l.File}, -l.N)
	}
	for _, l := range places {
		m.g.tally(slot, placeOf{l.Host, l.File}, l.N)
	}
	old.version, old.places = m.p.Version, slices.Clone(places)
}

// shown keeps a node's sample.
func (g *group) shown(x *Shown) {
	text, id := x.Text[:min(len(x.Text), MaxSampleBytes)], x.RequestID[:min(len(x.RequestID), 128)]
	g.sample(&sampleLine{milli: x.Time.UnixMilli(), text: []byte(text), requestID: []byte(id), from: placeOf{x.Host, x.File}, evidence: x.Evidence})
}

// told notes that a node has told an incident by itself, while it heard of no
// evaluator: it is not told again.
func (m *merger) told(t Told) {
	w := m.w
	if m.g == nil {
		m.g = w.groups[m.key]
	}
	if t.Last+w.rule.stale < w.engine.wall && t.Over {
		return
	}
	if m.g == nil {
		if m.g = w.admit(m.key, t.Began, 0); m.g == nil {
			return
		}
	}
	g := m.g
	within := w.rule.within
	switch in := g.open; {
	case in != nil && in.Began <= t.Last+within && t.Began <= in.Last+within:
		if in.Notices == 0 {
			in.ID = t.ID
		}
		in.Notices, in.Notified = max(in.Notices, t.Notices), max(in.Notified, t.Notified)
	case in == nil && !t.Over && t.Last >= g.base.at-within:
		g.open = &open{ID: t.ID, Began: t.Began, Last: t.Last, Notified: t.Notified, Notices: t.Notices}
	default:
		_, known := g.ofClosed(t.Last, t.Last)
		if known {
			return
		}
		g.closed = append(g.closed, span{t.Began - within, t.Last + within})
	}
	g.altered = true
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

// Replay begins the time in which Merge counts what another engine has decided: it is
// not decided again. Live ends it: the nodes have settle to say how far they are, and
// what begins is told after mute only, as nodes may have told it by themselves.
func (e *Engine) Replay() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replaying = true
}

// Live ends what Replay has begun.
func (e *Engine) Live(settle, mute time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	e.replaying = false
	e.settled, e.ticked = e.now.Add(settle), e.now
	e.hearUntil = e.settled
	e.mutedUntil = e.now.Add(mute)
}
