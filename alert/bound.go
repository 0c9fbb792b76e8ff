package alert

// bound is what the windows of a group can have at most while their end goes from the
// cursor's second on to another: where the condition fails with that, none of them is to
// be looked at. Of a backlog most seconds are decided so.
type bound struct {
	group  *group
	cursor *cursor
	to     int64
	sums   []int64 // of the counters, over all those windows together
}

// excludes tells whether the condition fails in all windows that end from the cursor's
// second to to.
func (b *bound) excludes(g *group, c *cursor, to int64, m mode) bool {
	b.group, b.cursor, b.to = g, c, to
	b.sums = append(b.sums[:0], c.sums...)
	for i := c.hi; i < len(g.secs) && g.secs[i] <= to; i++ {
		for j, n := range g.counts(i) {
			b.sums[j] += int64(n)
		}
	}
	return !b.may(&g.watch.rule.when, m)
}

// may tells whether the condition can hold in one of the windows.
func (b *bound) may(c *cond, m mode) bool {
	switch c.kind {
	case nodeLeaf:
		return b.mayAtom(&b.group.watch.rule.atoms[c.atom], m)
	case nodeAnd:
		for i := range c.kids {
			if !b.may(&c.kids[i], m) {
				return false
			}
		}
		return true
	default:
		for i := range c.kids {
			if b.may(&c.kids[i], m) {
				return true
			}
		}
		return false
	}
}

func (b *bound) mayAtom(a *atom, m mode) bool {
	switch {
	case m == modeOpen && !a.rising, m == modeDecided && a.quiet:
		return false
	case a.rising && a.fn == fnCount:
		return compare(float64(b.sums[a.counter]), a.op, a.limit)
	case a.rising && a.fn == fnRate:
		return compare(float64(b.sums[a.counter])/float64(b.group.watch.rule.within), a.op, a.limit)
	case a.fn == fnQuantile && (a.op == opGt || a.op == opGe) && !a.negated:
		return b.mayBeOver(a)
	}
	return true
}

// mayBeOver compares all values beyond the edge that one of the windows has with the
// others that each of them has.
func (b *bound) mayBeOver(a *atom) bool {
	r := b.group.watch.rule
	first, last := floorDiv(b.cursor.at+1, r.slot)-1, floorDiv(b.to+1, r.slot)-1
	var beyond, others uint64
	all := b.group.dist[r.nums[a.num].sketch].between(first-r.slots+1, last+1)
	for i := all.first; i < all.end; i++ {
		s, n := &all.slots[i], all.beyond(i, a.edge)
		beyond += n
		if s.index > last-r.slots && s.index <= first {
			others += s.total - n
		}
	}
	return beyond > 0 && others < rankOf(a.percent, others+beyond)
}
