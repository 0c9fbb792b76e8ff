package alert

import (
	"math"
	"slices"
)

// distribution are the slots of one field, in rising order, only those with values, and
// the bins of all of them one after the other: a group has a hundred slots with a few
// bins each while an input is behind.
type distribution struct {
	slots []slotOf
	bins  []Bin
}

// slotOf is one slot of a percentile's window.
type slotOf struct {
	index int64  // second / width
	total uint64 // values
	from  int32  // where its bins begin
	top   int32  // the largest bin
}

// find returns where the first slot at or after index is: nearly always one of the last.
func (d *distribution) find(index int64) int {
	i := len(d.slots)
	for i > 0 && d.slots[i-1].index >= index {
		i--
	}
	return i
}

// at returns where the slot of that index is, made when it is new.
func (d *distribution) at(index int64) int {
	i := d.find(index)
	if i == len(d.slots) || d.slots[i].index != index {
		from := d.begin(i)
		d.slots = insertZeros(d.slots, i, 1)
		d.slots[i] = slotOf{index: index, from: int32(from), top: math.MinInt32}
	}
	return i
}

// begin is where the bins of the i-th slot begin, or the last ones end.
func (d *distribution) begin(i int) int {
	if i < len(d.slots) {
		return int(d.slots[i].from)
	}
	return len(d.bins)
}

// of are the bins of the i-th slot. They are the distribution's.
func (d *distribution) of(i int) sketch { return d.bins[d.begin(i):d.begin(i+1)] }

// beyond is the number of values of the i-th slot in the bins after one.
func (d *distribution) beyond(i int, bin int64) uint64 {
	if int64(d.slots[i].top) <= bin {
		return 0
	}
	return d.of(i).beyond(bin)
}

// prune lets go of the slots before oldest, and of memory that is not needed for the rest.
func (d *distribution) prune(oldest int64, tight bool) {
	k := 0
	for k < len(d.slots) && d.slots[k].index < oldest {
		k++
	}
	if k == 0 {
		return
	}
	d.cut(0, k)
	d.slots, d.bins = fitting(d.slots, tight), fitting(d.bins, tight)
}

// cut removes the slots [i, k).
func (d *distribution) cut(i, k int) {
	from, to := d.begin(i), d.begin(k)
	d.bins = slices.Delete(d.bins, from, to)
	d.slots = slices.Delete(d.slots, i, k)
	d.shift(i, from-to)
}

// shift moves the places of the slots from i on.
func (d *distribution) shift(i, by int) {
	for ; by != 0 && i < len(d.slots); i++ {
		d.slots[i].from += int32(by)
	}
}

// fitting returns s, in less memory if it fills less than half of what it has; where memory
// is tight, four fifths.
func fitting[T any](s []T, tight bool) []T {
	if n := len(s); cap(s) > 2*n+16 || tight && cap(s) > n+n/4+16 {
		return slices.Clone(s)
	}
	return s
}

// add counts values, which it may sort, in the i-th slot.
func (d *distribution) add(i int, values []int32, e *Engine) {
	d.slots[i].total += uint64(len(values))
	if e.tight {
		s := d.edit(i, min(len(values), fewBins), e)
		s.addFew(values)
		d.put(i, s, e)
		return
	}
	s := d.edit(i, len(values), e)
	s.addValues(values, &e.counting)
	d.put(i, s, e)
}

// merge adds bins, which rise, to the i-th slot.
func (d *distribution) merge(i int, bins []Bin, e *Engine) {
	s := d.edit(i, len(bins), e)
	s.merge(bins)
	d.put(i, s, e)
	d.slots[i].total = s.total()
}

// subtract takes bins away that were added before.
func (d *distribution) subtract(i int, bins []Bin, e *Engine) {
	s := d.edit(i, 0, e)
	s.subtract(bins)
	d.put(i, s, e)
	d.slots[i].total = s.total()
}

// edit returns the bins of the i-th slot, to be changed by at most so many more, and put
// back: those of the last slot in their place, others in a copy.
func (d *distribution) edit(i, more int, e *Engine) sketch {
	if i == len(d.slots)-1 {
		d.bins = slices.Grow(d.bins, more)
		return d.bins[d.begin(i):]
	}
	return append(e.editing[:0], d.of(i)...)
}

func (d *distribution) put(i int, s sketch, e *Engine) {
	if d.slots[i].top = math.MinInt32; len(s) > 0 {
		d.slots[i].top = s[len(s)-1].Index
	}
	if i == len(d.slots)-1 {
		d.bins = d.bins[:d.begin(i)+len(s)]
		return
	}
	from, to := d.begin(i), d.begin(i+1)
	if e.editing = s; len(s) == to-from { // mostly, where there are many
		copy(d.bins[from:to], s)
		return
	}
	d.bins = slices.Replace(d.bins, from, to, s...)
	d.shift(i+1, from+len(s)-to)
}

// slotRange are the slots [first, end) of a distribution.
type slotRange struct {
	*distribution
	first, end int
}

// between returns the slots from one index on and before another.
func (d *distribution) between(from, before int64) slotRange {
	return slotRange{d, d.find(from), d.find(before)}
}

// all are the bins, slot by slot.
func (r slotRange) all() sketch { return r.bins[r.begin(r.first):r.begin(r.end)] }
