package alert

import (
	"math"

	"github.com/tailwater/tailwater/record"
)

// counters are a rule's predicates, bound, each with its counter's bit.
type counters struct {
	every  uint64 // of all lines
	ranges []inRange
	others []counted
}

// inRange is a comparison of a number that a record has without its being looked for.
type inRange struct {
	slot slot
	interval
	bit uint64
}

type counted struct {
	pred *pred
	bit  uint64
}

func (c *counters) add(bit uint64, p *pred) {
	switch {
	case p == nil:
		c.every |= bit
	case p.kind == predNumber && p.field.slot.numeric() && p.op != opNe:
		c.ranges = append(c.ranges, inRange{p.field.slot, intervalOf(p.op, p.num), bit})
	default:
		c.others = append(c.others, counted{p, bit})
	}
}

// of are the counters whose predicates the line fulfils.
func (c *counters) of(h hints, r *record.Record, scratch *[]byte) uint64 {
	mask := c.every
	for i := range c.ranges {
		if x := &c.ranges[i]; x.has(x.slot.number(r)) {
			mask |= x.bit
		}
	}
	for i := range c.others {
		if x := &c.others[i]; x.pred.match(h, r, scratch) {
			mask |= x.bit
		}
	}
	return mask
}

// countersByLevel answers a rule's predicates for each level, if it has no others.
func countersByLevel(c *counters) *[record.Levels]uint64 {
	if len(c.ranges) > 0 {
		return nil
	}
	for _, x := range c.others {
		if x.pred.kind != predLevel {
			return nil
		}
	}
	var out [record.Levels]uint64
	for l := range out {
		out[l] = c.of(nil, &record.Record{Level: record.Level(l)}, nil)
	}
	return &out
}

// countersByStatus answers a rule's predicates for each status code, if they look at
// nothing else.
func countersByStatus(c *counters) []uint64 {
	only := true
	for _, x := range c.ranges {
		only = only && x.slot == slotStatus
	}
	for _, x := range c.others {
		x.pred.eachField(func(f field) { only = only && f.slot == slotStatus })
	}
	if !only {
		return nil
	}
	out := make([]uint64, 600)
	for status := 1; status < len(out); status++ {
		out[status] = c.of(nil, &record.Record{Status: int32(status)}, nil)
	}
	return out
}

// numeric tells whether a record has the field as a number.
func (s slot) numeric() bool { return s == slotStatus || s == slotRequestTime || s == slotUpstreamTime }

// number is the number of a numeric slot; NaN where the line has none.
func (s slot) number(r *record.Record) float64 {
	seconds := r.RequestTime
	switch s {
	case slotStatus:
		if r.Status != 0 {
			return float64(r.Status)
		}
		return none
	case slotUpstreamTime:
		seconds = r.UpstreamTime
	}
	if seconds >= 0 {
		return seconds
	}
	return none
}

var none = math.NaN()

// interval are the numbers that fulfil a comparison; NaN fulfils none.
type interval struct{ least, most float64 }

func (i interval) has(v float64) bool { return v >= i.least && v <= i.most }

// intervalOf returns the numbers that compare so with a limit, where these lie side by
// side.
func intervalOf(o op, limit float64) interval {
	switch least, most := math.Inf(-1), math.Inf(1); o {
	case opEq:
		return interval{limit, limit}
	case opLt:
		return interval{least, math.Nextafter(limit, least)}
	case opLe:
		return interval{least, limit}
	case opGt:
		return interval{math.Nextafter(limit, most), most}
	case opGe:
		return interval{limit, most}
	}
	return interval{math.NaN(), math.NaN()}
}
