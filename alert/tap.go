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
	for i := range b.groupings {
		if !b.groupings[i].fixed {
			l.groupings[i].current = nil
		}
	}
	for i := range b.plans {
		p := &b.plans[i]
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
			mask = p.fulfilled(l.hints, r, &l.scratch)
		}
		if len(p.nums) > 0 {
			t.observeNumbers(l, p, r, mask, sec, unixMilli, text)
			continue
		}
		if mask != 0 || p.quiet {
			c, e := t.count(l, p, r, mask, sec)
			if c != nil && mask&p.evidence != 0 {
				t.pick(l, p, c, e, r, unixMilli, text)
			}
		}
	}
}

// observeNumbers is the rest of Observe for a rule that watches numeric fields.
func (t *Tap) observeNumbers(l *ledger, p *plan, r *record.Record, mask uint64, sec, unixMilli int64, text []byte) {
	var values [maxNums]float64
	have, picked := uint(0), mask&p.evidence != 0
	for j := range p.nums {
		n := &p.nums[j]
		if v, ok := n.field.number(l.hints, r); ok {
			values[j] = v
			have |= 1 << j
			picked = picked || n.evidence && compare(v, n.op, n.limit)
		}
	}
	if mask == 0 && have == 0 && !p.quiet {
		return
	}
	c, e := t.count(l, p, r, mask, sec)
	if c == nil {
		return
	}
	for j := range p.nums {
		if have&(1<<j) == 0 {
			continue
		}
		n, v := &p.nums[j], values[j]
		if n.acc >= 0 {
			c.accs[n.acc].add(acc{v, v, 1})
		}
		if n.sketch >= 0 {
			c.bins[n.sketch] = append(c.bins[n.sketch], binOf(v))
		}
	}
	if picked {
		t.pick(l, p, c, e, r, unixMilli, text)
	}
}

// count adds the line to its group's counters; nil where the group is left out.
func (t *Tap) count(l *ledger, p *plan, r *record.Record, mask uint64, sec int64) (*cell, *entry) {
	e := l.groupings[p.grouping].current
	if e == nil {
		e = t.entry(l, p, r)
	}
	if e == leftOut {
		l.leftOut[p.watch]++
		return nil, nil
	}
	c := l.cell(e, p, sec)
	c.lines++
	for j := range c.n {
		c.n[j] += uint32(mask >> j & 1)
	}
	return c, e
}

// entry finds the line's group.
func (t *Tap) entry(l *ledger, p *plan, r *record.Record) *entry {
	bound, g := &t.binding.groupings[p.grouping], &l.groupings[p.grouping]
	switch len(bound.parts) {
	case 0:
		g.current = g.entry(bound.key, bound.rules)
	case 1:
		part, _ := bound.parts[0].text(l.hints, r, &l.scratch)
		hash := partHash(part)
		if g.known != nil && g.known.lack(hash) && len(part) <= maxPart {
			g.current = leftOut
			break
		}
		at := &g.recent[hash>>(64-recentBits)]
		if at.bound != bound || at.part != string(part) {
			l.key = appendPart(append(l.key[:0], bound.key...), part)
			e := g.find(l.key, bound.rules)
			if len(part) <= maxPart && e != leftOut { // else it is not the whole of it that the key holds
				*at = recentEntry{bound, e.key[len(e.key)-len(part):], e}
			}
			g.current = e
			break
		}
		g.current = at.entry
	default:
		l.key = append(l.key[:0], bound.key...)
		for i := range bound.parts {
			part, _ := bound.parts[i].text(l.hints, r, &l.scratch)
			l.key = appendPart(l.key, part)
		}
		g.current = g.find(l.key, bound.rules)
	}
	return g.current
}

// pick keeps the line as a sample, if there are not enough yet.
func (t *Tap) pick(l *ledger, p *plan, c *cell, e *entry, r *record.Record, unixMilli int64, text []byte) {
	if t.many {
		l.place(e, p, c.sec, t.from)
	} else {
		c.picked++
	}
	if e.each[p.slot].samples < MaxSamples {
		l.sample(e, p, unixMilli, r, text, &t.engine.binding.requestID).from = t.from
	}
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
		l.settle(e.watches, t.from)
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
		t.ledger.settle(nil, placeOf{})
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
