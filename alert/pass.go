package alert

// mayWait tells whether the pass at the end of a flush may be left to the next Tick, as
// there is nothing in it that fires at once: nothing at all, or, of lines of the past,
// nothing that nobody has been told of yet.
func (g *group) mayWait() bool {
	w := g.watch
	switch {
	case g.touchedFrom <= g.base.at:
		return false
	case w.behind:
		return !g.rises || g.open != nil && g.open.Notices > 0 || !g.holdsOpen()
	}
	return !g.rises && g.open == nil && w.rule.hold == 0 && g.passedEnd == w.end && g.base.at >= w.decided
}

// holdsOpen tells whether the condition holds at a second that is not decided yet and was
// not looked at before with the lines there are.
func (g *group) holdsOpen() bool {
	g.digest()
	e, r := g.watch.engine, g.watch.rule
	from := max(g.base.at+1, min(g.risesFrom, g.lookedTo+1))
	g.looked()
	if g.slack, g.slackFrom = g.lacking(from), from; g.slack > 0 {
		return false
	}
	c := g.scratch()
	c.place(&g.seconds, from, r.within)
	e.view.group, e.view.cursor = g, c
	for ; c.at <= g.watch.end; c.moveTo(&g.seconds, g.nextChange(c), r.within) {
		if r.when.holds(r.atoms, &e.view, modeOpen) {
			return true
		}
	}
	return false
}

// lacking is how many lines more there must be, at least, for the condition to hold before
// a second is over in a window that ends at from or later, had all lines that these windows
// have one window.
func (g *group) lacking(from int64) int64 {
	r, b := g.watch.rule, &g.watch.engine.bound
	b.sums = append(b.sums[:0], g.base.sums...)
	clear(b.sums)
	for i := g.find(from - r.within + 1); i < len(g.secs); i++ {
		for j, n := range g.counts(i) {
			b.sums[j] += int64(n)
		}
	}
	least := int64(never)
	for _, i := range r.rising {
		a := &r.atoms[i]
		if a.fn == fnMax {
			return 0
		}
		least = min(least, a.least(r.within)-b.sums[a.counter])
	}
	return max(least, 0)
}

// looked notes that what may be true before its second is over has been looked for.
func (g *group) looked() { g.rises, g.risesFrom, g.lookedTo = false, never, g.watch.end }

// pass decides what can be decided: late seconds again, new ones for the first time,
// and those that are open as far as rising terms go.
func (g *group) pass() {
	w := g.watch
	g.digest()
	g.looked()
	g.passedEnd = w.end
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
	w.based = max(w.based, g.base.at)
	if g.base.at < w.end {
		c := g.scratch()
		g.base.copyTo(c)
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
// changes of the window the answer is the same; and where the condition cannot hold for
// half a window, it is not asked for each of its seconds.
func (g *group) passOver(c *cursor, to int64, m mode) {
	r := g.watch.rule
	v := &g.watch.engine.view
	v.group, v.cursor = g, c
	stride, near := max(r.within/2, 1), c.at-1 // it may hold up to near
	if b := &g.watch.engine.bound; to-c.at > stride && b.excludes(g, c, to, m) {
		c.moveTo(&g.seconds, to, r.within)
		return
	}
	for c.at <= to {
		until, may := min(g.nextChange(c)-1, to), true
		if far := min(c.at+stride, to); c.at > near && until < far {
			near = far
			if b := &g.watch.engine.bound; b.excludes(g, c, far, m) {
				until, may = far, false
			}
		}
		if may && r.when.holds(r.atoms, v, m) {
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
	for i := range g.dist {
		d := &g.dist[i]
		if i := d.find(ended); i < len(d.slots) { // it enters the window when it ends
			next = min(next, (d.slots[i].index+1)*r.slot-1)
		}
		if i := d.find(ended - r.slots); i < len(d.slots) {
			next = min(next, (d.slots[i].index+r.slots+1)*r.slot-1)
		}
	}
	return next
}

// held is called for seconds at which the condition holds.
func (g *group) held(from, to int64) {
	hold := g.watch.rule.hold
	if hold == 0 {
		g.fire(from, to)
		return
	}
	var run span
	g.runs, run = insertSpan(g.runs, span{from, to})
	g.altered = true
	g.prolong()
	g.fire(max(from, run.From+hold), run.To)
	g.prolong()
}

// prolong has the open incident go on while the condition holds, also where it does not
// hold for as long as it must to open one: it ends when the condition has been false for a
// whole window, not when it has once been interrupted.
func (g *group) prolong() {
	for _, run := range g.runs {
		if in := g.open; in != nil && run.From <= in.Last+g.watch.rule.within && run.To > in.Last {
			g.lasts(in, run.To)
		}
	}
}
