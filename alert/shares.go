package alert

import "slices"

// shares are what each node has counted, by second and, of sketches and places, by
// slot.
type shares struct {
	seconds map[int64]*secondShares
	slots   map[int64]*slotShares
	bytes   int64 // about what all that takes in memory
}

// secondShares are the nodes' counters of one second, side by side: there are many.
type secondShares struct {
	nodes    []uint32
	versions []uint64
	counts   []uint32
	accs     []acc
}

// slotShares are the nodes' sketches and places of one slot.
type slotShares struct {
	nodes  []uint32
	bins   []binShare
	places []placeShare
}

type binShare struct {
	version uint64
	bins    [][]Bin
}

type placeShare struct {
	version uint64
	places  []Place
}

// shareBase is what a second or a slot takes besides its slices, with its place in a map.
const shareBase = 160

func (s *secondShares) size() int64 {
	return shareBase + sizeOf(s.nodes) + sizeOf(s.versions) + sizeOf(s.counts) + sizeOf(s.accs)
}

func (s *slotShares) size() int64 {
	return shareBase + sizeOf(s.nodes) + sizeOf(s.bins) + sizeOf(s.places)
}

func sizeOfBins(bins [][]Bin) int64 {
	n := sizeOf(bins)
	for _, b := range bins {
		n += sizeOf(b)
	}
	return n
}

func sizeOfPlaces(places []Place) int64 {
	n := sizeOf(places)
	for i := range places {
		n += int64(len(places[i].Host) + len(places[i].File))
	}
	return n
}

// second returns the shares of a second, made when they are new.
func (s *shares) second(at int64) *secondShares {
	all := s.seconds[at]
	if all == nil {
		if s.seconds == nil {
			s.seconds = make(map[int64]*secondShares)
		}
		all = new(secondShares)
		s.seconds[at] = all
		s.bytes += all.size()
	}
	return all
}

// join makes room for a node among the shares of a second, and returns its index.
func (s *shares) join(all *secondShares, node uint32, counters, fields int) int {
	before := all.size()
	all.nodes, all.versions = append(all.nodes, node), append(all.versions, 0)
	all.counts = append(all.counts, make([]uint32, counters)...)
	all.accs = append(all.accs, make([]acc, fields)...)
	s.bytes += all.size() - before
	return len(all.nodes) - 1
}

// slot returns a node's shares of a slot, made when they are new. Who changes what they
// hold changes bytes, too.
func (s *shares) slot(index int64, node uint32) (*binShare, *placeShare) {
	at := s.slots[index]
	if at == nil {
		if s.slots == nil {
			s.slots = make(map[int64]*slotShares)
		}
		at = new(slotShares)
		s.slots[index] = at
		s.bytes += at.size()
	}
	i := slices.Index(at.nodes, node)
	if i < 0 {
		before := at.size()
		i = len(at.nodes)
		at.nodes = append(at.nodes, node)
		at.bins, at.places = append(at.bins, binShare{}), append(at.places, placeShare{})
		s.bytes += at.size() - before
	}
	return &at.bins[i], &at.places[i]
}

// prune lets go of seconds up to that one, and of the slots before oldest.
func (s *shares) prune(second, oldest int64) {
	for at, all := range s.seconds {
		if at <= second {
			s.bytes -= all.size()
			delete(s.seconds, at)
		}
	}
	for index, all := range s.slots {
		if index < oldest {
			s.bytes -= all.size()
			for i := range all.nodes {
				s.bytes -= sizeOfBins(all.bins[i].bins) + sizeOfPlaces(all.places[i].places)
			}
			delete(s.slots, index)
		}
	}
}

// Where an evaluator's memory is tight, it lets go of who has counted what in seconds that
// the nodes have long reported: what they say of these again does not count.

// frozenAfter is how far before the newest second that a node has counted such a second
// lies, at least.
const frozenAfter = 10

// freeze lets go of the shares of the seconds that are not counted any more.
func (w *watch) freeze() {
	if w.merged == -never || w.merged-frozenAfter <= w.frozen {
		return
	}
	w.frozen = w.merged - frozenAfter
	for _, g := range w.groups {
		g.shares.prune(w.frozen, floorDiv(w.frozen+1, w.rule.slot))
	}
}

// shed leaves groups out of an evaluator that have been counted so far, the largest first,
// until the others have enough memory. What is firing stays: nobody is told that it is
// over when it is not.
func (e *Engine) shed(enough int64) {
	type candidate struct {
		g    *group
		size int64
	}
	var all []candidate
	for _, w := range e.watches {
		for _, g := range w.groups {
			if g.open == nil || g.open.Notices == 0 {
				all = append(all, candidate{g, g.size()})
			}
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return int(b.size - a.size) })
	for _, c := range all {
		if e.bytes <= enough {
			break
		}
		w := c.g.watch
		e.bytes, w.stats.Bytes = e.bytes-c.size, w.stats.Bytes-c.size
		w.overflow(c.g.key, c.g.lines())
		w.forget(c.g)
		e.closedUntil = e.now.Add(reopenAfter)
	}
}

// lines is the number of lines that the group's windows hold, at most.
func (g *group) lines() (n uint64) {
	for i := range g.secs {
		if g.counters > 0 {
			n += uint64(slices.Max(g.counts(i)))
		}
	}
	return n
}
