package alert

import "slices"

// view gives the numbers of one window of one group.
type view struct {
	group  *group
	cursor *cursor
	quants quantiles
}

// value returns an atom's number for the window.
func (v *view) value(a *atom) (float64, bool) {
	g, c := v.group, v.cursor
	switch a.fn {
	case fnCount:
		return float64(c.sums[a.counter]), true
	case fnRate:
		return float64(c.sums[a.counter]) / float64(g.watch.rule.within), true
	case fnShare:
		if all := c.sums[a.all]; all > 0 {
			return float64(c.sums[a.counter]) / float64(all), true
		}
		return 0, true
	case fnQuantile:
		return v.percentile(a)
	}
	var all acc
	at := g.watch.rule.nums[a.num].acc
	for i := c.lo; i < c.hi; i++ {
		all.add(g.fieldsAt(i)[at])
	}
	switch {
	case all.n == 0:
		return 0, false
	case a.fn == fnMax:
		return all.max, true
	}
	return all.sum / float64(all.n), true
}

// percentile is taken over whole slots: those that have ended when the window ends.
// So it does not depend on how much of a slot had been read.
func (v *view) percentile(a *atom) (float64, bool) {
	known := v.quantile(a)
	if known.total > 0 && !known.valued {
		known.value, known.valued = v.quants.of(v.group.slotsUpTo(a, known.slot), known.total, a.percent), true
	}
	return known.value, known.total > 0
}

// over tells whether the percentile lies beyond a.edge, for which only the values there
// are counted; any, whether there are values.
func (v *view) over(a *atom) (over, any bool) {
	known := v.quantile(a)
	return known.over, known.total > 0
}

// quantile is what is known of a percentile of the window.
func (v *view) quantile(a *atom) *quantile {
	g := v.group
	r := g.watch.rule
	slot := floorDiv(v.cursor.at+1, r.slot) - 1
	known := &g.quant[a.index]
	if known.edition == g.edition && known.slot == slot {
		return known
	}
	*known = quantile{slot: slot, edition: g.edition}
	g.asked = max(g.asked, slot)
	beyond := uint64(0)
	slots := g.slotsUpTo(a, slot)
	for i := slots.first; i < slots.end; i++ {
		known.total += slots.slots[i].total
		beyond += slots.beyond(i, a.edge)
	}
	known.over = known.total-beyond < rankOf(a.percent, known.total)
	return known
}

// slotsUpTo are the slots of the atom's field in the window whose last one is slot.
func (g *group) slotsUpTo(a *atom, slot int64) slotRange {
	r := g.watch.rule
	return g.dist[r.nums[a.num].sketch].between(slot-r.slots+1, slot+1)
}

func sortSamples(s []Sample) {
	slices.SortStableFunc(s, func(a, b Sample) int { return b.Time.Compare(a.Time) })
}
