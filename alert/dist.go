package alert

import "slices"

// slotOf is one slot of a percentile's window.
type slotOf struct {
	index int64  // second / width
	total uint64 // values in bins
	bins  sketch
}

// distribution are the slots of one field, in rising order; only those with values.
type distribution []slotOf

// find returns where the first slot at or after index is: nearly always one of the last.
func (d distribution) find(index int64) int {
	i := len(d)
	for i > 0 && d[i-1].index >= index {
		i--
	}
	return i
}

// at returns the slot of that index, which it makes when it is new.
func (d *distribution) at(index int64, spare *sketches) *slotOf {
	i := d.find(index)
	if i == len(*d) || (*d)[i].index != index {
		*d = slices.Insert(*d, i, slotOf{index: index, bins: spare.take()})
	}
	return &(*d)[i]
}

// prune lets go of the slots before oldest.
func (d *distribution) prune(oldest int64, w *watch) {
	k := 0
	for ; k < len(*d) && (*d)[k].index < oldest; k++ {
		w.spare.give((*d)[k].bins, len(w.groups))
	}
	*d = slices.Delete(*d, 0, k)
}

// add counts values, which it may sort.
func (s *slotOf) add(values []int32, e *Engine) {
	if s.total += uint64(len(values)); e.tight {
		s.bins.addFew(values)
	} else {
		s.bins.addValues(values, &e.counting)
	}
}

// merge adds the bins of a slot, which rise.
func (s *slotOf) merge(bins []Bin) {
	s.bins.merge(bins)
	for _, b := range bins {
		s.total += uint64(b.N)
	}
}

// subtract takes bins away that were added before.
func (s *slotOf) subtract(bins []Bin) {
	s.bins.subtract(bins)
	s.total = 0
	for _, b := range s.bins {
		s.total += uint64(b.N)
	}
}

// beyond is the number of values in the bins after one.
func (s *slotOf) beyond(bin int64) (n uint64) {
	for i := len(s.bins) - 1; i >= 0 && int64(s.bins[i].Index) > bin; i-- {
		n += uint64(s.bins[i].N)
	}
	return n
}

// sketches are the empty ones of slots that are over, whose memory the next slots use.
type sketches []sketch

func (s *sketches) take() sketch {
	if n := len(*s); n > 0 {
		last := (*s)[n-1]
		*s = (*s)[:n-1]
		return last
	}
	return nil
}

// give keeps a sketch, if there are not too many for so many groups. Of a backlog many
// slots are over at a time.
func (s *sketches) give(b sketch, groups int) {
	if cap(b) > 0 && len(*s) < 64*(groups+16) {
		*s = append(*s, b[:0])
	}
}
