package alert

// fresh are the notes that a watch has taken and not counted yet, those of each group side
// by side. Counted one by one each would have the memory of its group fetched, and in a
// backlog of many groups most lines are of another one than the line before.
type fresh struct {
	noteLog         // each notes of every group, by its number
	each    int     // notes that a group has room for
	have    []int32 // how many notes wait, by group
	groups  []uint32
}

// A group has room for between fewestFresh and mostFresh notes: where there are many, for
// fewer, so that all of them together stay near the processor.
const (
	fewestFresh = 16
	mostFresh   = 256
	allFresh    = 32 << 10
)

// makeRoom makes room for the notes of all groups.
func (w *watch) makeRoom() {
	w.digest()
	f, r := &w.fresh, w.rule
	groups := max(len(w.numbered), 2*len(f.have))
	f.each = min(max(allFresh/groups, fewestFresh), mostFresh)
	n := groups * f.each
	f.have = make([]int32, groups)
	f.notes, f.values = make([]note, n), make([]float64, n*len(r.nums))
}

// put adds a note of a group, and tells whether there is room for another.
func (f *fresh) put(group uint32, n *note, values []float64) bool {
	have := int(f.have[group])
	if have == 0 {
		f.groups = append(f.groups, group)
	}
	i := int(group)*f.each + have
	f.notes[i] = *n
	for j, v := range values {
		f.values[i*len(values)+j] = v
	}
	f.have[group]++
	return have+1 < f.each
}

func (f *fresh) size() int64 {
	return sizeOf(f.notes) + sizeOf(f.values) + sizeOf(f.have) + sizeOf(f.groups)
}

// digest counts all notes that wait.
func (w *watch) digest() {
	for _, number := range w.fresh.groups {
		if g := w.numbered[number]; g != nil {
			g.digest()
		}
	}
	w.fresh.groups = w.fresh.groups[:0]
}

// digest counts the group's notes that wait. Whoever looks at its windows calls it first.
func (g *group) digest() {
	f, r := &g.watch.fresh, g.watch.rule
	if int(g.number) >= len(f.have) || f.have[g.number] == 0 {
		return
	}
	from := int(g.number) * f.each
	notes := f.notes[from : from+int(f.have[g.number])]
	f.have[g.number] = 0
	values := f.values[from*len(r.nums):]
	first, last := int64(never), int64(-never)
	at, have, inBase := 0, []uint32(nil), false // of the second of the notes before
	for i := range notes {
		n := &notes[i]
		if i == 0 || n.sec != notes[i-1].sec {
			first, last = min(first, n.sec), max(last, n.sec)
			at = g.second(n.sec)
			have, inBase = g.counts(at), n.sec <= g.base.at && n.sec > g.base.at-r.within
			g.change(n.sec)
		}
		for j := range have {
			have[j] += n.lines & -uint32(n.mask>>j&1)
		}
		if inBase {
			for j := range have {
				g.base.sums[j] += int64(n.lines) & -int64(n.mask>>j&1)
			}
		}
		if r.accs > 0 {
			g.accumulate(at, values[i*len(r.nums):])
		}
	}
	if r.sketches > 0 {
		g.digestValues(notes, values)
	}
	g.touch(first, 0)
	g.lastSeen = max(g.lastSeen, last)
}

// accumulate counts a line's values for maxima and averages.
func (g *group) accumulate(at int, values []float64) {
	for j := range g.watch.rule.nums {
		if k, v := g.watch.rule.nums[j].acc, values[j]; k >= 0 && v == v {
			g.fieldsAt(at)[k].add(acc{v, v, 1})
		}
	}
}

// digestValues counts the notes' values for percentiles, all of a slot together.
func (g *group) digestValues(notes []note, values []float64) {
	r, e := g.watch.rule, g.watch.engine
	for from, to := 0, 0; from < len(notes); from = to {
		index := floorDiv(notes[from].sec, r.slot)
		first, end := index*r.slot, (index+1)*r.slot
		for to = from + 1; to < len(notes) && notes[to].sec >= first && notes[to].sec < end; to++ {
		}
		for j := range r.nums {
			if r.nums[j].sketch < 0 {
				continue
			}
			e.bins = e.bins[:0]
			for i := from; i < to; i++ {
				if v := values[i*len(r.nums)+j]; v == v {
					e.bins = append(e.bins, binOf(v))
				}
			}
			if d := &g.dist[r.nums[j].sketch]; len(e.bins) > 0 {
				d.add(d.at(index), e.bins, e)
			}
		}
		g.altersSlot(index)
	}
}
