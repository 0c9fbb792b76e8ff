package alert

import (
	"bytes"
	"slices"
	"time"

	"github.com/tailwater/tailwater/record"
)

// group is what a rule keeps for one combination of the values of `per`: the counters
// of the last seconds, how far they have been decided, and the incident that is open.
//
// Seconds are decided in rising order: base is the window that ends at the last second
// that is final. Seconds after it are looked at in every pass, as lines may still come;
// a late line has the seconds that it touches looked at once more.
type group struct {
	watch *watch
	key   string
	parts []string

	seconds
	dist  []distribution // by sketch
	quant []quantile     // by atom, of rules with percentiles
	// edition is raised when a distribution changes.
	edition  uint64
	base     cursor
	lastSeen int64

	open *open
	// closed are the resolved incidents that a late line could still touch, each with
	// a window on either side; runs, of rules with `for`, are the spans in which the
	// condition held.
	closed, runs []span

	samples []sampleLine
	tallies []tally

	// touched is set while the group waits for its pass, from touchedFrom on.
	touched     bool
	touchedFrom int64
	listed      bool // among the watch's touched
	rises       bool
	passedEnd   int64 // where the window ended at the last pass
	// dead is set when the group was forgotten: who still points to it asks again.
	dead bool

	// Of a node of a fleet: changed is what Report has not returned yet, nil where the
	// rule is not published; told are the incidents that the host told by itself.
	changed map[int64]changes
	told    []Told
	newTold bool

	// Of an evaluator: shares are what each node has reported; altered is set when
	// Changes has not told of the incidents as they are, carried when it has told of
	// the group at all.
	shares  shares
	altered bool
	carried bool
}

// quantile remembers a percentile of the window whose last slot is slot.
type quantile struct {
	slot    int64
	edition uint64
	value   float64
	none    bool
}

func newGroup(w *watch, key string, sec int64) *group {
	r := w.rule
	g := &group{watch: w, key: key, parts: splitKey(key, len(r.per)), lastSeen: sec}
	g.counters, g.fields = len(r.counters), r.accs
	if r.sketches > 0 {
		g.dist = make([]distribution, r.sketches)
		g.quant = make([]quantile, len(r.atoms))
		g.edition = 1
	}
	g.base = cursor{at: sec - 1, sums: make([]int64, len(r.counters))}
	return g
}

// second returns the index of a second's counters, made when they are new.
func (g *group) second(sec int64) int {
	i, inserted := g.at(sec)
	if inserted {
		if sec <= g.base.at {
			g.base.hi++
		}
		if sec <= g.base.at-g.watch.rule.within {
			g.base.lo++
		}
	}
	return i
}

// count adds n to a second's counters, the i-th, less what old was of it before; old
// may be nil.
func (g *group) count(sec int64, i int, n, old []uint32) {
	have := g.counts(i)
	inBase := sec <= g.base.at && sec > g.base.at-g.watch.rule.within
	for j := range n {
		was := uint32(0)
		if old != nil {
			was = old[j]
		}
		have[j] += n[j] - was
		if inBase {
			g.base.sums[j] += int64(n[j]) - int64(was)
		}
	}
}

// touch has the group passed over again from sec on; rises says that the condition may
// have become true there though the second is not over.
func (g *group) touch(sec int64, rises bool) {
	g.rises = g.rises || rises
	if !g.touched {
		g.touched, g.touchedFrom = true, sec
	}
	if !g.listed {
		g.listed = true
		g.watch.touched = append(g.watch.touched, g)
	}
	g.touchedFrom = min(g.touchedFrom, sec)
	g.lastSeen = max(g.lastSeen, sec)
}

// tally counts n picked lines of one second by their place.
func (g *group) tally(sec int64, from placeOf, n int64) {
	slot := floorDiv(sec, g.watch.rule.slot)
	for i := len(g.tallies) - 1; i >= 0; i-- {
		if t := &g.tallies[i]; t.slot == slot && t.from == from {
			t.n += n
			return
		}
	}
	if g.watch.engine.tight && len(g.tallies) >= fewTallies {
		g.tallies = slices.Clone(g.tallies[len(g.tallies)-fewTallies*3/4:])
	} else if len(g.tallies) >= maxTallies {
		g.tallies = append(g.tallies[:0], g.tallies[len(g.tallies)/4:]...)
	}
	g.tallies = append(g.tallies, tally{slot, from, n})
}

// sample keeps a line to be shown, in place of the oldest when there are enough.
func (g *group) sample(s *sampleLine) {
	for i := range g.samples {
		if o := &g.samples[i]; o.milli == s.milli && o.from == s.from && bytes.Equal(o.text, s.text) {
			return
		}
	}
	if len(g.samples) < MaxSamples {
		g.samples = append(g.samples, sampleLine{})
		g.samples[len(g.samples)-1].set(s)
		return
	}
	oldest := 0
	for i := range g.samples {
		if g.samples[i].milli < g.samples[oldest].milli {
			oldest = i
		}
	}
	if g.samples[oldest].milli <= s.milli {
		g.samples[oldest].set(s)
	}
}

// mayWait tells whether a pass at the end of a flush would decide nothing, so that the
// next Tick suffices: of many groups hardly one has anything to decide before.
func (g *group) mayWait() bool {
	w := g.watch
	return !g.rises && g.open == nil && w.rule.hold == 0 && g.passedEnd == w.end && g.base.at >= w.decided && g.touchedFrom > g.base.at
}

// pass decides what can be decided: late seconds again, new ones for the first time,
// and those that are open as far as rising terms go.
func (g *group) pass() {
	w := g.watch
	g.rises, g.passedEnd = false, w.end
	if w.end == -never {
		g.touched = false
		return // only lines of the seconds to come so far
	}
	complete := w.decided
	if w.rule.quiet {
		complete = w.completeFor(g)
	}
	if g.touched && g.touchedFrom <= g.base.at {
		m := modeComplete
		if w.rule.quiet {
			m = modeDecided // a line never makes silence
		}
		g.scratch().place(&g.seconds, g.touchedFrom, w.rule.within)
		g.passOver(&w.engine.cursor, g.base.at, m)
	}
	g.touched = false
	if stale := w.end - max(w.rule.lateness, w.rule.stale); w.rule.quiet && g.base.at < stale {
		g.base.moveTo(&g.seconds, stale, w.rule.within) // an input has been behind for long
	}
	if g.base.at < complete {
		g.base.moveTo(&g.seconds, g.base.at+1, w.rule.within)
		g.passOver(&g.base, complete, modeComplete)
	}
	if g.base.at < w.end {
		c := g.scratch()
		c.at, c.lo, c.hi = g.base.at, g.base.lo, g.base.hi
		copy(c.sums, g.base.sums)
		c.moveTo(&g.seconds, c.at+1, w.rule.within)
		if c.at <= w.decided {
			g.passOver(c, w.decided, modeDecided)
			c.moveTo(&g.seconds, c.at+1, w.rule.within)
		}
		g.passOver(c, w.end, modeOpen)
	}
	if g.open != nil && g.base.at-g.open.Last >= w.rule.within && !g.undecided() {
		g.resolve(g.open.Last + w.rule.within)
	}
	g.notify()
}

// scratch returns the engine's cursor, for a walk that is not kept.
func (g *group) scratch() *cursor {
	c := &g.watch.engine.cursor
	for len(c.sums) < g.counters {
		c.sums = append(c.sums, 0)
	}
	c.sums = c.sums[:g.counters]
	return c
}

// passOver decides the seconds from c.at to to, and leaves c at to. Between two
// changes of the window the answer is the same.
func (g *group) passOver(c *cursor, to int64, m mode) {
	r := g.watch.rule
	v := &g.watch.engine.view
	v.group, v.cursor = g, c
	for c.at <= to {
		until := min(g.nextChange(c)-1, to)
		if r.when.holds(r.atoms, v, m) {
			g.held(c.at, until)
		}
		if until == to {
			c.moveTo(&g.seconds, to, r.within)
			return
		}
		c.moveTo(&g.seconds, until+1, r.within)
	}
}

// nextChange is the first second after c.at at which the answer can change.
func (g *group) nextChange(c *cursor) int64 {
	r := g.watch.rule
	next := c.nextChange(&g.seconds, r.within)
	ended := floorDiv(c.at+1, r.slot) // slots before this one have
	for _, d := range g.dist {
		if i := d.find(ended); i < len(d) { // it enters the window when it ends
			next = min(next, (d[i].index+1)*r.slot-1)
		}
		if i := d.find(ended - r.slots); i < len(d) {
			next = min(next, (d[i].index+r.slots+1)*r.slot-1)
		}
	}
	return next
}

// held is called for seconds at which the condition holds.
func (g *group) held(from, to int64) {
	if hold := g.watch.rule.hold; hold > 0 {
		var run span
		g.runs, run = insertSpan(g.runs, span{from, to})
		g.altered = true
		from, to = max(from, run.From+hold), run.To
	}
	g.fire(from, to)
}

// fire is called for seconds that belong to an incident; some of them may be known.
func (g *group) fire(from, to int64) {
	within := g.watch.rule.within
	for from <= to {
		until, known := g.ofClosed(from, to)
		if known {
			from = until + 1
			continue
		}
		in := g.open
		if in != nil && from > in.Last+within {
			g.resolve(in.Last + within)
			continue
		}
		if in == nil {
			in = &open{ID: incidentID(g.watch.named(), g.key, from), Began: from, Last: from}
			g.open, g.altered = in, true
		}
		if from < in.Began-within {
			// An incident of its own, found late, while this one is open: the group has
			// been notified already.
			g.closed = append(g.closed, span{from - within, from + within})
			g.altered = true
			g.watch.stats.Stale++
			continue
		}
		in.Began = min(in.Began, from)
		if until > in.Last || in.Numbers == nil {
			in.Last, in.Rising = max(until, in.Last), true
			g.altered = true
			g.takeNumbers(in)
		}
		from = until + 1
	}
}

// ofClosed tells whether a second belongs to an incident that was resolved: a late
// line that only makes it longer opens no other. until is the last second, at most
// to, for which the answer is the same.
func (g *group) ofClosed(sec, to int64) (until int64, known bool) {
	for _, s := range g.closed {
		switch {
		case s.From <= sec && sec <= s.To:
			return min(s.To, to), true
		case s.From > sec:
			to = min(to, s.From-1)
		}
	}
	return to, false
}

// resolve ends the open incident at a second. One that nobody was told of, because it
// was over when it was found, is only counted.
func (g *group) resolve(at int64) {
	g.notify()
	in := g.open
	g.open, g.altered = nil, true
	within := g.watch.rule.within
	g.closed = append(g.closed, span{in.Began - within, in.Last + within})
	switch {
	case in.Elsewhere, in.Notices == 0 && g.theirs(in):
		return // the evaluators tell it
	case in.Notices == 0:
		g.watch.stats.Stale++
		return
	}
	g.watch.emit(Resolved, g, in, at)
}

// notify sends what is due of the open incident.
func (g *group) notify() {
	w, in := g.watch, g.open
	if in == nil || in.Last+w.rule.stale < w.engine.wall || g.theirs(in) || w.engine.now.Before(w.engine.mutedUntil) {
		return
	}
	now := w.engine.now.UnixMilli()
	switch {
	case in.Notices == 0:
		w.emit(Opened, g, in, 0)
	case in.Rising && now-in.Notified >= w.rule.cfg.Repeat.Milliseconds():
		w.emit(Repeated, g, in, 0)
	}
}

// takeNumbers keeps the atoms' values of the window that is being decided.
func (g *group) takeNumbers(in *open) {
	r := g.watch.rule
	if in.Numbers == nil {
		in.Numbers = make([]value, len(r.atoms))
	}
	for i := range r.atoms {
		v, ok := g.watch.engine.view.value(&r.atoms[i])
		in.Numbers[i] = value{v, !ok}
	}
}

// incident shows the group's open or just resolved incident.
func (g *group) incident(in *open, resolved int64) Incident {
	r := g.watch.rule
	out := Incident{
		ID: in.ID, Rule: r.cfg.Name, Within: r.cfg.Within, Notices: in.Notices,
		Began: time.Unix(in.Began, 0).UTC(), Last: time.Unix(in.Last, 0).UTC(),
	}
	if in.Notified != 0 {
		out.Told = time.UnixMilli(in.Notified).UTC()
	}
	if resolved != 0 {
		out.Resolved = time.Unix(resolved, 0).UTC()
	}
	for i, part := range g.parts {
		out.Group = append(out.Group, record.KeyValue{Key: r.per[i].name, Value: part})
	}
	for i, n := range in.Numbers {
		a := &r.atoms[i]
		out.Numbers = append(out.Numbers, Number{Term: a.term, Value: n.V, None: n.None, Op: a.op.String(), Limit: a.limit, unit: a.unit})
	}
	out.Samples = g.shownSamples(in)
	hosts, files := make(map[string]int64), make(map[string]int64)
	first := floorDiv(in.Last-r.within+1, r.slot)
	for _, t := range g.tallies {
		if t.slot >= first {
			hosts[t.from.host] += t.n
			files[t.from.file] += t.n
		}
	}
	out.Hosts, out.Files = tallies(hosts), tallies(files)
	out.Note = g.watch.note()
	return out
}

// shownSamples returns the samples of the incident's last window, or else all there
// are, the newest first.
func (g *group) shownSamples(in *open) []Sample {
	var out []Sample
	for all := false; len(out) == 0; all = true {
		for i := range g.samples {
			if s := &g.samples[i]; all || s.milli >= (in.Last-g.watch.rule.within+1)*1000 {
				out = append(out, s.sample())
			}
		}
		if all {
			break
		}
	}
	sortSamples(out)
	return out
}

// prune lets go of what no window needs any more; floor is the oldest second that a
// late line may have.
func (g *group) prune(floor int64) {
	r := g.watch.rule
	gone := min(floor, g.base.at) - r.within
	if k := g.find(gone + 1); k > 0 && (k >= 16 || k >= len(g.secs)/4) {
		g.cut(0, k)
		g.base.lo, g.base.hi = g.base.lo-k, g.base.hi-k
	}
	oldest := floorDiv(min(floor, g.base.at)+1, r.slot) - r.slots
	for i := range g.dist {
		g.dist[i].prune(oldest, &g.watch.spare)
	}
	g.tallies = keep(g.tallies, func(t tally) bool { return t.slot >= oldest })
	spans := len(g.runs) + len(g.closed)
	g.runs = keep(g.runs, func(s span) bool { return s.To >= floor-r.hold })
	g.closed = keep(g.closed, func(s span) bool { return s.To >= floor-r.hold-r.within })
	g.altered = g.altered || spans != len(g.runs)+len(g.closed)
	g.shares.prune(gone, oldest)
	g.pruneTold()
}

// keep removes what f refuses, in place.
func keep[T any](s []T, f func(T) bool) []T {
	n := 0
	for n < len(s) && f(s[n]) {
		n++
	}
	for _, x := range s[n:] {
		if f(x) {
			s[n] = x
			n++
		}
	}
	clear(s[n:])
	return s[:n]
}

// idle tells whether forgetting the group changes nothing.
func (g *group) idle() bool {
	if len(g.secs) > 0 || g.open != nil || len(g.runs)+len(g.closed)+len(g.changed)+len(g.told) > 0 {
		return false
	}
	for _, d := range g.dist {
		if len(d) > 0 {
			return false
		}
	}
	return true
}

// rewind takes the group back to a wall clock that has jumped back.
func (g *group) rewind(wall int64, dropFuture bool) {
	back := func(s []span) []span {
		for i := range s {
			s[i].To = min(s[i].To, wall)
		}
		return keep(s, func(s span) bool { return s.From <= s.To })
	}
	g.altered = true
	g.closed, g.runs = back(g.closed), back(g.runs)
	if in := g.open; in != nil {
		in.Last, in.Began = min(in.Last, wall), min(in.Began, wall)
	}
	g.lastSeen = min(g.lastSeen, wall)
	if dropFuture {
		g.cut(g.find(wall+1), len(g.secs))
		for i := range g.dist {
			g.dist[i] = keep(g.dist[i], func(s slotOf) bool { return s.index*g.watch.rule.slot <= wall })
		}
		g.edition++
	}
	g.base.place(&g.seconds, min(g.base.at, wall-1), g.watch.rule.within)
}
