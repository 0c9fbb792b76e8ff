package alert

import (
	"slices"
	"time"
	"unsafe"
)

// Limit has the engine keep to about that many bytes for its groups; 0, as at first, is
// no limit. Where they have become more, no new groups are admitted, new slots of
// percentiles are kept with fewBins bins, and lines beyond lateness are late also while
// an input is behind, until they are less. What that can still add is bounded by Need.
//
// Of an engine that adds up what nodes count the limit is kept: what they correct of
// seconds that are some time over does not count then, and where that does not suffice,
// the largest groups are left out, but those that fire.
func (e *Engine) Limit(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.limit = bytes
}

const (
	// weighEvery is how often the groups are weighed.
	weighEvery = time.Second
	// fewBins and fewTallies are what a group may have of them while memory is tight.
	fewBins    = 8
	fewTallies = 32
	// reopenAfter is how long no new groups are admitted after some have been shed: they
	// would come back at once.
	reopenAfter = time.Minute
)

// weigh adds up the memory of all groups, and decides whether it is tight.
func (e *Engine) weigh() {
	if since := e.now.Sub(e.weighed); since >= 0 && since < weighEvery {
		return
	}
	e.weighNow()
}

func (e *Engine) weighNow() {
	e.weighed, e.grown = e.now, 0
	for _, w := range e.watches {
		w.digest() // a group that is shed has been counted
	}
	e.weighGroups()
	if e.tight = e.limit > 0 && e.bytes > e.limit; !e.tight {
		return
	}
	for _, w := range e.watches {
		w.freeze()
	}
	if len(e.nodes) == 0 {
		return
	}
	if e.weighGroups(); e.bytes > e.limit {
		e.shed(e.limit / 8 * 7)
	}
}

func (e *Engine) weighGroups() {
	e.bytes = 0
	for _, w := range e.watches {
		w.stats.Bytes = w.fresh.size() + sizeOf(w.numbered)
		for _, g := range w.groups {
			w.stats.Bytes += g.size()
		}
		e.bytes += w.stats.Bytes
	}
}

// grew weighs when much has come since that was done last: a backlog of the nodes does not
// wait for a Tick.
func (e *Engine) grew(n int64) {
	if e.grown += n; e.limit > 0 && e.grown > e.limit/16 {
		e.weighNow()
	}
}

// closed tells whether memory admits no new groups.
func (e *Engine) closed() bool { return e.tight || e.now.Before(e.closedUntil) }

// sizeOf is what a slice's array takes.
func sizeOf[T any](s []T) int64 {
	var one T
	return int64(cap(s)) * int64(unsafe.Sizeof(one))
}

// groupBase is what a group takes besides its slices: itself, its key and its values,
// its places in maps, and what a ledger remembers of it.
const groupBase = 1536

// size is about what the group takes in memory.
func (g *group) size() int64 {
	n := groupBase + g.shares.bytes + sizeOf(g.secs) + sizeOf(g.cnt) + sizeOf(g.accs) + sizeOf(g.quant) + sizeOf(g.tallies) +
		sizeOf(g.samples) + sizeOf(g.closed) + sizeOf(g.runs) + sizeOf(g.base.sums)
	for i := range g.dist {
		n += sizeOf(g.dist[i].slots) + sizeOf(g.dist[i].bins)
	}
	for i := range g.samples {
		n += sizeOf(g.samples[i].text) + sizeOf(g.samples[i].requestID)
	}
	return n
}

// Need is the memory, in bytes, that the rule's groups may take where it is tight: as
// many as max_groups, each with lines in every second that counts.
func (r *Rule) Need() int64 {
	seconds := grown(r.within+2*r.lateness+16) * int64(8+4*len(r.counters)+int(unsafe.Sizeof(acc{}))*r.accs)
	perSlot := int64(unsafe.Sizeof(slotOf{})) + fewBins*int64(unsafe.Sizeof(Bin{}))
	slots := grown((r.within+2*r.lateness)/r.slot+2) * perSlot * int64(r.sketches)
	samples := MaxSamples * (int64(unsafe.Sizeof(sampleLine{})) + MaxSampleBytes + 128)
	tallies := fewTallies * int64(unsafe.Sizeof(tally{}))
	groups := int64(r.cfg.MaxGroups)
	if len(r.per) == 0 {
		groups = 1
	}
	return groups * (groupBase + seconds + slots + samples + tallies)
}

// grown is the capacity of a slice that append has brought to n elements.
func grown(n int64) int64 {
	c := int64(1)
	for c < n {
		if c < 256 {
			c *= 2
		} else {
			c += (c + 3*256) / 4
		}
	}
	return c
}

// addFew adds one value to each of the given bins, which it sorts, and makes no more
// than fewBins bins of them: what has none counts in the next larger one, and where it is
// the largest, the two least become one. So the large values, which rules ask for, stay
// as they are.
func (s *sketch) addFew(bin []int32) {
	slices.Sort(bin)
	for _, b := range bin {
		i, known := slices.BinarySearchFunc(*s, b, func(x Bin, b int32) int { return int(x.Index) - int(b) })
		switch {
		case known, len(*s) >= fewBins && i < len(*s):
			(*s)[i].N++
		case len(*s) < fewBins:
			*s = slices.Insert(*s, i, Bin{b, 1})
		default:
			(*s)[1].N += (*s)[0].N
			*s = append(slices.Delete(*s, 0, 1), Bin{b, 1})
		}
	}
}
