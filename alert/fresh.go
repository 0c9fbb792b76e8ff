package alert

// mostFresh is how many notes wait at each of the watch's groups until they are digested:
// one by one each of them would have the group's memory fetched, and in a backlog of many
// groups most lines are of another one than the line before.
func (w *watch) mostFresh() int { return min(max(32, 32<<10/max(len(w.groups), 1)), 256) }

// digest counts the notes that wait. Whoever looks at the group's windows calls it first.
func (g *group) digest() {
	if len(g.fresh.notes) == 0 {
		return
	}
	r := g.watch.rule
	for i := range g.fresh.notes {
		n := &g.fresh.notes[i]
		at := g.second(n.sec)
		have := g.counts(at)
		for j := range have {
			have[j] += n.lines & -uint32(n.mask>>j&1)
		}
		if n.sec <= g.base.at && n.sec > g.base.at-r.within {
			for j := range have {
				g.base.sums[j] += int64(n.lines) & -int64(n.mask>>j&1)
			}
		}
		for j := range r.accs {
			if v := g.fresh.accs[i*r.accs+j]; v == v {
				g.fieldsAt(at)[j].add(acc{v, v, 1})
			}
		}
		g.change(n.sec)
	}
	if r.sketches > 0 {
		g.digestValues()
	}
	g.fresh.notes, g.fresh.bins, g.fresh.accs = g.fresh.notes[:0], g.fresh.bins[:0], g.fresh.accs[:0]
}

// digestValues counts the values for percentiles, all of a slot together.
func (g *group) digestValues() {
	r, e := g.watch.rule, g.watch.engine
	notes := g.fresh.notes
	for from, to := 0, 0; from < len(notes); from = to {
		index := floorDiv(notes[from].sec, r.slot)
		first, end := index*r.slot, (index+1)*r.slot
		for to = from + 1; to < len(notes) && notes[to].sec >= first && notes[to].sec < end; to++ {
		}
		for j := range g.dist {
			e.values = e.values[:0]
			for i := from; i < to; i++ {
				if b := g.fresh.bins[i*r.sketches+j]; b != noBin {
					e.values = append(e.values, b)
				}
			}
			if len(e.values) > 0 {
				g.dist[j].at(index, &g.watch.spare).add(e.values, e)
			}
		}
		g.altersSlot(index)
	}
}
