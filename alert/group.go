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

	// touched is set while the group waits for its pass, from touchedFrom on.
	touched, listed, pressed, rises bool   // listed, pressed: among the watch's
	number                          uint32 // in the watch
	touchedFrom                     int64
	// risesFrom is the first second with lines by which the condition may have become true
	// since lookedTo was the windows' end.
	risesFrom, lookedTo int64
	// slack is how many such lines may still come, from slackFrom on, before it is worth
	// looking.
	slack, slackFrom int64
	lastSeen         int64
	base             cursor
	seconds
	dist []distribution // by sketch
	// edition is raised when one of the slots up to asked changes, of which quant knows.
	edition uint64
	asked   int64
	quant   []quantile // by atom, of rules with percentiles
	// Of a node of a fleet: changed is what Report has not returned yet, nil where the
	// rule is not published; lastChanged is the second that was put there last.
	changed     map[int64]changes
	lastChanged int64

	key   string
	parts []string

	open *open
	// closed are the resolved incidents that a late line could still touch, each with
	// a window on either side; runs, of rules with `for`, are the spans in which the
	// condition held.
	closed, runs []span

	samples []sampleLine
	tallies []tally

	passedEnd int64 // where the window ended at the last pass

	// told are the incidents that the host, a node of a fleet, told by itself.
	told    []Told
	newTold bool

	// Of an evaluator: shares are what each node has reported; altered is set when
	// Changes has not told of the incidents as they are, carried when it has told of
	// the group at all.
	shares  shares
	altered bool
	carried bool
}

// quantile remembers a percentile of the window whose last slot is slot: how many
// values there are, whether it is above the atom's limit, and itself, once it was asked
// for.
type quantile struct {
	slot    int64
	edition uint64
	total   uint64
	over    bool
	valued  bool
	value   float64
}

func newGroup(w *watch, key string, sec int64) *group {
	r := w.rule
	g := &group{watch: w, key: key, parts: splitKey(key, len(r.per)), lastSeen: sec, risesFrom: never, lookedTo: -never, lastChanged: -never}
	g.counters, g.fields = len(r.counters), r.accs
	if r.sketches > 0 {
		g.dist = make([]distribution, r.sketches)
		g.quant = make([]quantile, len(r.atoms))
		g.edition, g.asked = 1, -never
	}
	g.base = cursor{at: sec - 1, sums: make([]int64, len(r.counters))}
	w.based = max(w.based, g.base.at)
	w.number(g)
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

// touch has the group passed over again from sec on; rising are the lines by which the
// condition may have become true there though the second is not over.
func (g *group) touch(sec int64, rising uint32) {
	rises := false
	if rising > 0 {
		g.slack -= int64(rising)
		rises = g.slack <= 0 || sec < g.slackFrom
		g.rises, g.risesFrom = g.rises || rises, min(g.risesFrom, sec)
	}
	if rises || sec <= g.base.at {
		if !g.pressed {
			g.pressed = true
			g.watch.pressed = append(g.watch.pressed, g)
		}
	}
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

// tally counts n picked lines of one slot by their place.
func (g *group) tally(slot int64, from placeOf, n int64) {
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

// sample keeps a line to be shown, in place of the oldest when there are enough: the oldest
// of those that are no evidence of anything that the others are not.
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
	once, twice := s.evidence, uint64(0)
	for i := range g.samples {
		e := g.samples[i].evidence
		once, twice = once|e, twice|once&e
	}
	oldest := -1
	for i := range g.samples {
		o := &g.samples[i]
		if alone := o.evidence&^twice != 0 && o.milli > s.milli-g.watch.rule.within*1000; !alone && (oldest < 0 || o.milli < g.samples[oldest].milli) {
			oldest = i
		}
	}
	if oldest >= 0 && (g.samples[oldest].milli <= s.milli || s.evidence&^twice != 0) {
		g.samples[oldest].set(s)
	}
}

// altersSlot notes that values were added to a slot.
func (g *group) altersSlot(index int64) {
	if index <= g.asked {
		g.edition++
	}
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
			g.lasts(in, until)
		}
		from = until + 1
	}
}

// lasts has the incident last until a second, at least.
func (g *group) lasts(in *open, until int64) {
	in.Last, in.Rising = max(until, in.Last), true
	g.altered = true
	g.takeNumbers(in)
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

// notify sends what is due of the open incident. That it goes on is told while its condition
// holds, not while it waits for its end.
func (g *group) notify() {
	w, in := g.watch, g.open
	if in == nil || in.Last+w.rule.stale < w.engine.wall || g.theirs(in) || w.engine.now.Before(w.engine.mutedUntil) {
		return
	}
	now := w.engine.now.UnixMilli()
	switch {
	case in.Notices == 0:
		w.emit(Opened, g, in, 0)
	case in.Rising && in.Last >= g.base.at && (in.remind || now-in.Notified >= w.rule.cfg.Repeat.Milliseconds()):
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
	g.digest()
	gone := min(floor, g.base.at) - r.within
	if k := g.find(gone + 1); k > 0 && (k >= 16 || k >= len(g.secs)/4) {
		g.cut(0, k)
		g.base.lo, g.base.hi = g.base.lo-k, g.base.hi-k
	}
	oldest := floorDiv(min(floor, g.base.at)+1, r.slot) - r.slots
	for i := range g.dist {
		g.dist[i].prune(oldest, g.watch.engine.tight)
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
	for i := range g.dist {
		if len(g.dist[i].slots) > 0 {
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
	g.digest()
	g.altered = true
	g.closed, g.runs = back(g.closed), back(g.runs)
	if in := g.open; in != nil {
		in.Last, in.Began = min(in.Last, wall), min(in.Began, wall)
	}
	g.lastSeen, g.lookedTo, g.slack = min(g.lastSeen, wall), -never, 0
	if dropFuture {
		g.cut(g.find(wall+1), len(g.secs))
		for i := range g.dist {
			d := &g.dist[i]
			d.cut(d.find(floorDiv(wall, g.watch.rule.slot)+1), len(d.slots))
		}
		g.edition++
	}
	g.base.place(&g.seconds, min(g.base.at, wall-1), g.watch.rule.within)
}
