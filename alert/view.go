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
	g := v.group
	r := g.watch.rule
	slot := floorDiv(v.cursor.at+1, r.slot) - 1
	known := g.quantOf(a)
	if known.edition != g.edition || known.slot != slot {
		v.quants.reset()
		for _, s := range g.dist[r.nums[a.num].sketch] {
			if s.index > slot-r.slots && s.index <= slot {
				v.quants.add(s.bins)
			}
		}
		*known = quantile{slot: slot, edition: g.edition, none: v.quants.total == 0}
		if !known.none {
			known.value = v.quants.at(a.percent)
		}
	}
	return known.value, !known.none
}

// quantOf is where the group remembers the atom's percentile.
func (g *group) quantOf(a *atom) *quantile { return &g.quant[a.index] }

func sortSamples(s []Sample) {
	slices.SortStableFunc(s, func(a, b Sample) int { return b.Time.Compare(a.Time) })
}
