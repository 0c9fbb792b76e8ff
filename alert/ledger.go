package alert

import (
	"sync"

	"github.com/tailwater/tailwater/record"
)

// ledger holds what one chain has counted since its last Flush. Ledgers are lent to
// chains for a turn, as there are many chains and few turns at a time; what they have
// learnt of the groups stays for the next chain.
type ledger struct {
	hints   hints
	scratch []byte // for unescaped text
	key     []byte

	groupings []ledgerGrouping
	logs      []noteLog // by watch
	samples   []ledgerSample
	used      int           // of samples
	places    []ledgerPlace // of a chain whose lines come from many
	leftOut   []uint64      // lines of groups that are not admitted, by watch
}

// note says that lines of one second count alike for a rule and a group. A line's way
// ends with a note behind the last one, where the memory is at hand; what belongs to
// the groups is looked for at the flush, for all lines one after the other.
type note struct {
	mask  uint64 // the counters, and picked
	sec   int64
	group uint32 // its number in the ledger's grouping
	lines uint32
}

// Beside the counters, anyLine is set in each note's mask, and picked where the lines
// are evidence.
const (
	anyLine = 1 << 62
	picked  = 1 << 63
)

// noteLog are the notes of one rule in the order of the lines, and of each note the
// numbers that its line has in the fields that the rule watches: NaN where it has none.
type noteLog struct {
	notes  []note
	values []float64
}

// ledgerPlace is how many picked lines in a row of one group and second came from a place.
type ledgerPlace struct {
	watch int
	group uint32
	sec   int64
	from  placeOf
	n     int64
}

// ledgerSample is a picked line, until the flush.
type ledgerSample struct {
	sampleLine
	watch int
	group uint32
}

// ledgerGrouping knows the groups for the values of `per`; rules with the same `per`
// share one.
type ledgerGrouping struct {
	numbers
	// current is the number of the line's group, or of that of all lines of the turn;
	// 0: not looked for yet.
	current uint32
	known   *keys // see showKeys
	rules   int
	// Of each group and rule: its number in the watch plus 1, if that is known, and which
	// samples there were last. forgotten is, by rule, how many groups the watch had
	// forgotten when the numbers were those of its groups.
	groups    []uint32
	samples   []sampled
	forgotten []uint64
}

// sampled says of how many lines the text was kept lately, from a second on, and which
// counters these were evidence of: of a group with many lines a few are enough.
type sampled struct {
	sec  int64
	n    int
	mask uint64
}

// wants tells whether a line of that second is to be kept, and notes it. It is if it is
// evidence of something else than those before it: the fatal line among many errors.
func (s *sampled) wants(sec, every int64, evidence uint64) bool {
	if sec < s.sec || sec >= s.sec+every {
		*s = sampled{sec: sec}
	}
	news := evidence&^s.mask != 0
	s.n, s.mask = s.n+1, s.mask|evidence
	return news || s.n <= MaxSamples
}

// ledgerGroups bounds what a ledger remembers of groups, beyond max_groups.
const ledgerGroups = 4096

// ledgers are those that are not lent.
type ledgers struct {
	mu   sync.Mutex
	free []*ledger
}

// lend gives a ledger to a chain.
func (e *Engine) lend() *ledger {
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	if n := len(e.idle.free); n > 0 {
		l := e.idle.free[n-1]
		e.idle.free = e.idle.free[:n-1]
		return l
	}
	l := &ledger{logs: make([]noteLog, len(e.watches)), leftOut: make([]uint64, len(e.watches)), groupings: make([]ledgerGrouping, len(e.binding.groupings)), hints: make(hints, len(e.binding.hints))}
	for i := range l.groupings {
		l.groupings[i].watchedBy(e.binding.groupings[i].rules)
	}
	return l
}

// giveBack takes a ledger whose notes have been counted.
func (e *Engine) giveBack(l *ledger) {
	for i := range l.groupings {
		g := &l.groupings[i]
		g.current = 0
		if len(g.keys) > ledgerGroups+e.binding.groupings[i].most {
			rules := g.rules
			*g = ledgerGrouping{}
			g.watchedBy(rules)
		}
	}
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	e.idle.free = append(e.idle.free, l)
}

// number returns the number of a group, given to it when it has none; leftOut for a
// group that no rule admits. part is what of its key, l.key, is looked for; see numbers.
func (g *ledgerGrouping) number(bound uint32, hash uint64, part, key []byte) uint32 {
	if g.known != nil {
		if _, ok := g.known.all[string(key)]; !ok {
			return leftOut
		}
	}
	for range g.rules {
		g.groups, g.samples = append(g.groups, 0), append(g.samples, sampled{})
	}
	return g.add(bound, hash, part, string(key))
}

func (g *ledgerGrouping) watchedBy(rules int) {
	g.rules, g.forgotten = rules, make([]uint64, rules)
}

// review drops the numbers of a rule's groups when some have been given to others.
func (g *ledgerGrouping) review(w *watch, slot int) {
	if g.forgotten[slot] == w.forgotten {
		return
	}
	g.forgotten[slot] = w.forgotten
	for i := slot; i < len(g.groups); i += g.rules {
		g.groups[i] = 0
	}
}

// at is the index of what is known of a group for one of the grouping's rules.
func (g *ledgerGrouping) at(group uint32, slot int) int { return int(group-1)*g.rules + slot }

// add notes lines without values. Most count as those before them.
func (n *noteLog) add(x *note) {
	if k := len(n.notes); k > 0 {
		if last := &n.notes[k-1]; last.group == x.group && last.sec == x.sec && last.mask == x.mask {
			last.lines += x.lines
			return
		}
	}
	n.notes = append(n.notes, *x)
}

// empty makes room for the notes of the next turn, unless a burst made it large.
func (n *noteLog) empty() {
	const large = 64 << 10
	if cap(n.notes) > large {
		*n = noteLog{}
	}
	n.notes, n.values = n.notes[:0], n.values[:0]
}

// place counts a picked line for the place that it came from.
func (l *ledger) place(p *plan, group uint32, sec int64, from placeOf) {
	if n := len(l.places); n > 0 {
		if x := &l.places[n-1]; x.group == group && x.watch == p.watch && x.sec == sec && x.from == from {
			x.n++
			return
		}
	}
	l.places = append(l.places, ledgerPlace{p.watch, group, sec, from, 1})
}

// sample keeps the line until the flush.
func (l *ledger) sample(p *plan, group uint32, evidence uint64, milli int64, r *record.Record, text []byte, requestID *field) *ledgerSample {
	if l.used == len(l.samples) {
		l.samples = append(l.samples, ledgerSample{})
	}
	s := &l.samples[l.used]
	l.used++
	s.watch, s.group, s.evidence = p.watch, group, evidence
	s.milli, s.text, s.requestID = milli, append(s.text[:0], text[:min(len(text), MaxSampleBytes)]...), s.requestID[:0]
	if id, ok := requestID.text(l.hints, r, &l.scratch); ok {
		s.requestID = append(s.requestID, id[:min(len(id), 128)]...)
	}
	return s
}

// settle hands the notes and samples over to the engine, which must be locked, and
// empties the ledger.
func (e *Engine) settle(l *ledger, from placeOf) {
	for i, w := range e.watches {
		of, slot := &l.groupings[e.binding.of[i]], e.binding.slot[i]
		of.review(w, slot)
		w.take(&l.logs[i], of, slot, from)
		w.stats.Overflow += l.leftOut[i]
	}
	for i := range l.places {
		x := &l.places[i]
		if g := e.groupOf(l, x.watch, x.group); g != nil && g.watch.inTime(x.sec) {
			g.tally(floorDiv(x.sec, g.watch.rule.slot), x.from, x.n)
		}
	}
	for i := range l.samples[:l.used] {
		s := &l.samples[i]
		if g := e.groupOf(l, s.watch, s.group); g != nil && g.watch.inTime(floorDiv(s.milli, 1000)) {
			g.sample(&s.sampleLine)
		}
	}
	e.discard(l)
}

// groupOf is the group that the ledger's notes of it were counted in; nil when it was not
// admitted.
func (e *Engine) groupOf(l *ledger, watch int, group uint32) *group {
	lg := &l.groupings[e.binding.of[watch]]
	if number := lg.groups[lg.at(group, e.binding.slot[watch])]; number > 0 {
		return e.watches[watch].numbered[number-1]
	}
	return nil
}

// discard empties the ledger.
func (e *Engine) discard(l *ledger) {
	for i := range l.logs {
		l.logs[i].empty()
	}
	l.used, l.places = 0, l.places[:0]
	clear(l.leftOut)
}

// take hands the notes over to their groups. of knows these, those of this rule at slot.
func (w *watch) take(log *noteLog, of *ledgerGrouping, slot int, from placeOf) {
	oldest, newest := w.timely()
	nums := len(w.rule.nums)
	for i := range log.notes {
		n := &log.notes[i]
		if n.sec < oldest || n.sec > newest {
			w.untimely(n.sec, n.lines)
			continue
		}
		known := &of.groups[of.at(n.group, slot)]
		if *known == 0 {
			g := w.admit(of.keys[n.group-1], n.sec, n.lines)
			if g == nil {
				continue
			}
			*known = g.number + 1
		}
		if int(*known) > len(w.fresh.have) {
			w.makeRoom()
		}
		if !w.fresh.put(*known-1, n, log.values[i*nums:(i+1)*nums]) {
			w.numbered[*known-1].digest()
		}
		if rises := n.mask&w.rule.risingMask != 0; rises || n.sec <= w.based || n.mask&picked != 0 {
			w.numbered[*known-1].see(n, rises, from)
		}
	}
}

// see looks at a note that may be a reason to look at the group at once, or is one of
// picked lines.
func (g *group) see(n *note, rises bool, from placeOf) {
	switch {
	case rises:
		g.touch(n.sec, n.lines)
	case n.sec <= g.base.at:
		g.touch(n.sec, 0)
	}
	if n.mask&picked != 0 {
		g.tally(floorDiv(n.sec, g.watch.rule.slot), from, int64(n.lines))
	}
}
