package alert

import (
	"encoding/binary"
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
	dirty     []dirtyCell
	free      [][]*cell // by watch
	samples   []ledgerSample
	used      int           // of samples
	places    []ledgerPlace // of a chain whose lines come from many
	leftOut   []uint64      // lines of groups that are not admitted, by watch
}

// ledgerPlace is how many picked lines in a row of one group and second came from a place.
type ledgerPlace struct {
	watch int
	entry *entry
	slot  int
	sec   int64
	from  placeOf
	n     int64
}

// ledgerSample is a picked line, until the flush.
type ledgerSample struct {
	sampleLine
	watch int
	entry *entry
	slot  int
}

// ledgerGrouping finds the entry for the values of `per`; rules with the same `per`
// share one.
type ledgerGrouping struct {
	entries map[string]*entry
	// current is the entry of the line under way, or of all lines of the turn.
	current *entry
	known   *keys // see showKeys
	// recent finds most entries by the one part of the key that differs from line to
	// line, without making the key.
	recent [recentEntries]recentEntry
}

const (
	recentBits    = 12
	recentEntries = 1 << recentBits
)

type recentEntry struct {
	bound *boundGrouping
	part  string
	entry *entry
}

// partHash is a hash of a part's length, its last eight bytes and its middle, where the
// paths of one server differ. Its upper bits are the good ones.
func partHash(part []byte) uint64 {
	n := len(part)
	if n < 8 {
		return 0
	}
	h := binary.LittleEndian.Uint64(part[n-8:]) ^ uint64(n)
	h = h*0x9e3779b97f4a7c15 ^ binary.LittleEndian.Uint64(part[(n-8)/2:])
	return h * 0x9e3779b97f4a7c15
}

// entry is one group as a ledger knows it, for each rule of the grouping.
type entry struct {
	key  string
	each []entryRule
}

type entryRule struct {
	group   *group // nil: to be asked for
	cells   [cellRing]*cell
	samples int
}

// cellRing is how many seconds of a group are at hand at a time; lines of one file
// seldom lie further apart than that.
const cellRing = 4

// cell counts the lines of one group in one second.
type cell struct {
	sec    int64
	lines  uint32
	picked uint32 // lines that are evidence
	n      []uint32
	accs   []acc
	bins   [][]int32 // by sketch: the bin of each value
}

// dirtyCell is a cell with lines in it.
type dirtyCell struct {
	watch int
	entry *entry
	slot  int // of the rule in the entry
	cell  *cell
}

// ledgerEntries bounds what a ledger remembers of groups, beyond max_groups.
const ledgerEntries = 4096

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
	l := &ledger{free: make([][]*cell, len(e.watches)), leftOut: make([]uint64, len(e.watches)), groupings: make([]ledgerGrouping, len(e.binding.groupings)), hints: make(hints, len(e.binding.hints))}
	for i := range l.groupings {
		l.groupings[i].entries = make(map[string]*entry)
	}
	return l
}

// giveBack takes a ledger whose cells have been counted.
func (e *Engine) giveBack(l *ledger) {
	for i := range l.groupings {
		g := &l.groupings[i]
		g.current = nil
		if len(g.entries) > ledgerEntries+e.binding.groupings[i].most {
			clear(g.entries)
			clear(g.recent[:])
		}
	}
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	e.idle.free = append(e.idle.free, l)
}

// entry returns the grouping's entry for the key, made when it is new.
func (g *ledgerGrouping) entry(key []byte, rules int) *entry {
	if e := g.entries[string(key)]; e != nil {
		return e
	}
	e := &entry{key: string(key), each: make([]entryRule, rules)}
	g.entries[e.key] = e
	return e
}

// cell returns the cell of that second for the rule p of the entry.
func (l *ledger) cell(e *entry, p *plan, sec int64) *cell {
	at := &e.each[p.slot].cells[sec&(cellRing-1)]
	if c := *at; c != nil && c.sec == sec {
		return c
	}
	// A cell of another second stays in dirty and is counted from there.
	c := l.newCell(p)
	c.sec = sec
	*at = c
	l.dirty = append(l.dirty, dirtyCell{watch: p.watch, entry: e, slot: p.slot, cell: c})
	return c
}

func (l *ledger) newCell(p *plan) *cell {
	free := l.free[p.watch]
	if n := len(free); n > 0 {
		l.free[p.watch] = free[:n-1]
		return free[n-1]
	}
	return &cell{n: make([]uint32, len(p.counters)), accs: make([]acc, p.accs), bins: make([][]int32, p.sketches)}
}

// recycle empties a cell and keeps it for later, unless a burst made it large.
func (l *ledger) recycle(watch int, c *cell) {
	const large = 64 << 10
	for i := range c.bins {
		if cap(c.bins[i]) > large {
			c.bins[i] = nil
		}
		c.bins[i] = c.bins[i][:0]
	}
	clear(c.n)
	clear(c.accs)
	c.lines, c.picked = 0, 0
	l.free[watch] = append(l.free[watch], c)
}

// place counts a picked line for the place that it came from.
func (l *ledger) place(e *entry, p *plan, sec int64, from placeOf) {
	if n := len(l.places); n > 0 {
		if x := &l.places[n-1]; x.entry == e && x.slot == p.slot && x.sec == sec && x.from == from {
			x.n++
			return
		}
	}
	l.places = append(l.places, ledgerPlace{p.watch, e, p.slot, sec, from, 1})
}

// sample keeps the line until the flush.
func (l *ledger) sample(e *entry, p *plan, milli int64, r *record.Record, text []byte, requestID *field) *ledgerSample {
	if l.used == len(l.samples) {
		l.samples = append(l.samples, ledgerSample{})
	}
	s := &l.samples[l.used]
	l.used++
	e.each[p.slot].samples++
	s.watch, s.entry, s.slot = p.watch, e, p.slot
	s.milli, s.text, s.requestID = milli, append(s.text[:0], text[:min(len(text), MaxSampleBytes)]...), s.requestID[:0]
	if id, ok := requestID.text(l.hints, r, &l.scratch); ok {
		s.requestID = append(s.requestID, id[:min(len(id), 128)]...)
	}
	return s
}

// settle hands the cells and samples over to the watches, which must be locked, and
// empties the ledger. Without watches it only empties it.
func (l *ledger) settle(watches []*watch, from placeOf) {
	for i := range l.dirty {
		d := &l.dirty[i]
		r := &d.entry.each[d.slot]
		if watches != nil {
			watches[d.watch].take(d.entry.key, &r.group, d.cell, from)
		}
		r.cells[d.cell.sec&(cellRing-1)] = nil
		l.recycle(d.watch, d.cell)
	}
	l.dirty = l.dirty[:0]
	for i, w := range watches {
		w.stats.Overflow += l.leftOut[i]
	}
	clear(l.leftOut)
	for i := range l.places {
		x := &l.places[i]
		if g := x.entry.each[x.slot].group; watches != nil && g != nil && !g.dead && watches[x.watch].inTime(x.sec) {
			g.tally(x.sec, x.from, x.n)
		}
	}
	clear(l.places) // they keep entries alive
	l.places = l.places[:0]
	for i := range l.samples[:l.used] {
		s := &l.samples[i]
		r := &s.entry.each[s.slot]
		if g := r.group; watches != nil && g != nil && !g.dead && watches[s.watch].inTime(floorDiv(s.milli, 1000)) {
			g.sample(&s.sampleLine)
		}
		s.entry, r.samples = nil, 0
	}
	l.used = 0
}

// rises tells whether the cell's lines may make the condition true before their second
// is over.
func (r *Rule) rises(c *cell) bool {
	for _, i := range r.rising {
		if a := &r.atoms[i]; a.fn == fnMax || c.n[a.counter] > 0 {
			return true
		}
	}
	return false
}

// take counts a cell. known is where the ledger remembers the group.
func (w *watch) take(key string, known **group, c *cell, from placeOf) {
	if !w.accepts(c.sec, c.lines) {
		return
	}
	g := *known
	if g == nil || g.dead {
		g = w.admit(key, c.sec, c.lines)
		if *known = g; g == nil {
			return
		}
	}
	i := g.second(c.sec)
	g.count(c.sec, i, c.n, nil)
	for j, a := range g.fieldsAt(i) {
		a.add(c.accs[j])
		g.fieldsAt(i)[j] = a
	}
	slot := floorDiv(c.sec, w.rule.slot)
	for j, values := range c.bins {
		if len(values) == 0 {
			continue
		}
		if b := &g.dist[j].slot(slot, &w.spare).bins; w.engine.tight {
			b.addFew(values)
		} else {
			b.addValues(values, &w.engine.counting)
		}
		g.edition++
	}
	if c.picked > 0 {
		g.tally(c.sec, from, int64(c.picked))
	}
	g.touch(c.sec, w.rule.rises(c))
	g.change(c.sec)
}
