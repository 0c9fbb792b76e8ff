package alert

import (
	"github.com/tailwater/tailwater/record"
)

// Tap is where one chain's lines enter the engine. One goroutine at a time uses it.
type Tap struct {
	engine  *Engine
	name    string
	binding *binding
	from    placeOf
	many    bool // from is not that of all lines
	source  source

	// The rest is of the turn under way.
	ledger *ledger
	newest int64
	// latest is the newest second that moves the windows: a line from the future does
	// not.
	latest int64
}

// Tap returns the entrance for a chain. name is the file generation's name, under
// which Flush keeps the position; input is the chain's input, kafka says whether it is
// of that kind. Until the first Flush with caughtUp the chain counts as behind.
func (e *Engine) Tap(name, input string, kafka bool, o *record.Origin) *Tap {
	return e.tap(name, way{input: input, kafka: kafka}, o)
}

// TapPassing is Tap for the documents of a kafka input that another tailwater has read
// by its input before. What of their origins is not the same for all is in the records.
func (e *Engine) TapPassing(name, input, before string, o *record.Origin) *Tap {
	return e.tap(name, way{input, true, before}, o)
}

func (e *Engine) tap(name string, by way, o *record.Origin) *Tap {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	t := &Tap{engine: e, name: name, binding: e.binding.take(by, o)}
	t.from.host, _ = o.Value("host")
	t.from.file, _ = o.Value("file")
	t.source = source{feeds: t.binding.feeds, fixed: t.binding.fixed, reached: -never}
	t.source.behind = true
	e.list(&t.source)
	return t
}

// begin starts a turn.
func (t *Tap) begin() *ledger {
	t.ledger = t.engine.lend()
	t.newest = -never
	t.latest = t.engine.clock().Unix() + 1
	for i := range t.ledger.groupings {
		t.ledger.groupings[i].known = t.engine.shown[i].Load()
	}
	return t.ledger
}

// Observe counts a line with the rules. unixMilli is its @timestamp, text the line as
// it was written; r and text are not kept. It takes no lock, and allocates nothing for
// groups that are known.
func (t *Tap) Observe(r *record.Record, unixMilli int64, text []byte) {
	l := t.ledger
	if l == nil {
		l = t.begin()
	}
	sec := floorDiv(unixMilli, 1000)
	if sec > t.newest && sec <= t.latest {
		t.newest = sec
	}
	b := t.binding
	for _, i := range b.varying {
		l.groupings[i].current = 0
	}
	for _, p := range b.plans[r.Level] {
		if p.where != nil && !p.where.match(l.hints, r, &l.scratch) {
			continue
		}
		var mask uint64
		switch {
		case p.byLevel != nil:
			mask = p.byLevel[r.Level]
		case r.Status > 0 && int(r.Status) < len(p.byStatus):
			mask = p.byStatus[r.Status]
		default:
			mask = p.counters.of(l.hints, r, &l.scratch)
		}
		if len(p.nums) > 0 {
			t.observeNumbers(l, p, r, mask, sec, unixMilli, text)
			continue
		}
		if mask == 0 && !p.quiet {
			continue
		}
		group := l.groupings[p.grouping].current
		if group == 0 || group == leftOut {
			if group = t.group(l, p, r); group == leftOut {
				continue
			}
		}
		if mask&p.evidence != 0 {
			mask |= t.pick(l, p, group, mask&p.evidence, r, unixMilli, text)
		}
		l.logs[p.watch].add(&note{mask: mask | anyLine, sec: sec, group: group, lines: 1})
	}
}

// observeNumbers is the rest of Observe for a rule that watches numeric fields.
func (t *Tap) observeNumbers(l *ledger, p *plan, r *record.Record, mask uint64, sec, unixMilli int64, text []byte) {
	log := &l.logs[p.watch]
	values := len(log.values)
	have, evident := false, mask&p.evidence != 0
	for j := range p.nums {
		v := p.nums[j].field.value(l.hints, r)
		log.values = append(log.values, v)
		have = have || v == v
		evident = evident || p.nums[j].evidence.has(v)
	}
	group := uint32(leftOut)
	if mask != 0 || have || p.quiet {
		group = t.group(l, p, r)
	}
	if group == leftOut {
		log.values = log.values[:values]
		return
	}
	if evident {
		mask |= t.pick(l, p, group, mask&p.evidence, r, unixMilli, text)
	}
	log.notes = append(log.notes, note{mask: mask | anyLine, sec: sec, group: group, lines: 1})
}

// group returns the number of the line's group; leftOut, counted as such, where the rule
// does not admit it.
func (t *Tap) group(l *ledger, p *plan, r *record.Record) uint32 {
	g := &l.groupings[p.grouping]
	if g.current == 0 {
		g.current = t.find(l, g, &t.binding.groupings[p.grouping], r)
	}
	if g.current == leftOut {
		l.leftOut[p.watch]++
	}
	return g.current
}

// find looks for the line's group.
func (t *Tap) find(l *ledger, g *ledgerGrouping, bound *boundGrouping, r *record.Record) uint32 {
	if len(bound.parts) == 1 {
		part, _ := bound.parts[0].text(l.hints, r, &l.scratch)
		if len(part) <= maxPart { // else it is not the whole of it that the key holds
			hash := partHash(part)
			if g.known != nil && g.known.lack(hash) {
				return leftOut
			}
			group := g.find(bound.number, hash, part)
			if group == 0 {
				l.key = appendPart(append(l.key[:0], bound.key...), part)
				group = g.number(bound.number, hash, l.key[len(l.key)-len(part):], l.key)
			}
			return group
		}
	}
	l.key = append(l.key[:0], bound.key...)
	for i := range bound.parts {
		part, _ := bound.parts[i].text(l.hints, r, &l.scratch)
		l.key = appendPart(l.key, part)
	}
	hash := partHash(l.key)
	if group := g.find(0, hash, l.key); group != 0 {
		return group
	}
	return g.number(0, hash, l.key, l.key)
}

// pick keeps the line as a sample, if there are not enough of its time, and says what is to be
// added to its note's mask.
func (t *Tap) pick(l *ledger, p *plan, group uint32, evidence uint64, r *record.Record, unixMilli int64, text []byte) uint64 {
	lg := &l.groupings[p.grouping]
	if lg.samples[lg.at(group, p.slot)].wants(floorDiv(unixMilli, 1000), p.sampleEvery, evidence) {
		l.sample(p, group, evidence, unixMilli, r, text, &t.engine.binding.requestID).from = t.from
	}
	if t.many {
		l.place(p, group, floorDiv(unixMilli, 1000), t.from)
		return 0
	}
	return picked
}

// From says where the lines that follow were written, for a chain that brings those of
// many hosts and files.
func (t *Tap) From(host, file string) { t.from, t.many = placeOf{host, file}, true }

// Flush hands what was observed to the engine, and has it decide what can be decided
// at once. at is the position up to which the lines have been observed: Snapshot
// keeps it. caughtUp says that this was the end of the file. Call it at the end of
// every turn.
func (t *Tap) Flush(at record.Pos, caughtUp bool) {
	e := t.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	t.flush(caughtUp)
	e.counted[t.name] = at
}

// FlushAll is Flush for taps of one name, all at one moment: no Snapshot has the position
// and lacks what one of them has observed.
func (e *Engine) FlushAll(taps []*Tap, at record.Pos, caughtUp bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	for _, t := range taps {
		t.flush(caughtUp)
		e.counted[t.name] = at
	}
}

func (t *Tap) flush(caughtUp bool) {
	e := t.engine
	// What was read while the chain was behind is judged as such, though it has caught
	// up with it.
	e.list(&t.source)
	newest := int64(-never)
	if l := t.ledger; l != nil {
		newest = min(t.newest, e.wall)
		for i, w := range e.watches {
			if t.binding.feeds[i] {
				w.setHorizon()
				w.newest = max(w.newest, newest)
			}
		}
		e.settle(l, t.from)
		e.giveBack(l)
		t.ledger = nil
		e.showKeys()
	}
	e.heardOf(&t.source, newest, caughtUp)
	for i, w := range e.watches {
		if t.binding.feeds[i] {
			w.passTouched()
		}
	}
}

// Close ends the chain's part in the engine. What was not flushed is not counted; the
// position stays until Forget.
func (t *Tap) Close() {
	e := t.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.ledger != nil {
		e.discard(t.ledger)
		e.giveBack(t.ledger)
		t.ledger = nil
	}
	e.drop(&t.source)
	e.binding.release(t.binding)
}

// Counted returns the position up to which the lines of a file generation are
// counted; false when none are. The caller does not observe earlier lines again.
func (e *Engine) Counted(name string) (record.Pos, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.counted[name]
	return at, ok
}

// Forget removes the position of a file generation that is gone for good.
func (e *Engine) Forget(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.counted, name)
}
