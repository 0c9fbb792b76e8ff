package alert

import (
	"math"
	"slices"
	"sort"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
)

// RelativeError is how far a percentile may lie from the true one, as a part of it.
const RelativeError = 0.01

// The values that percentiles tell apart: smaller ones count as 0, larger ones as the
// largest. They bound the bins of a sketch to about 2,800.
const (
	leastValue   = 1e-9
	largestValue = 1e15
)

// bins maps values to the bins of a DDSketch. The bins themselves are kept here as
// sorted counts: they are whole numbers, which can be taken back when a node corrects
// itself, and a slot with few values costs few bytes.
var bins = func() *mapping.CubicallyInterpolatedMapping {
	m, err := mapping.NewCubicallyInterpolatedMapping(RelativeError)
	if err != nil {
		panic(err) // only for an error outside of (0, 1)
	}
	return m
}()

// zeroBin holds the values below leastValue, and the negative ones.
const zeroBin = math.MinInt32

// perBin is the number of bins for each doubling of a value.
var perBin = 1 / math.Log2(math.Pow((1+RelativeError)/(1-RelativeError), 10*math.Ln2/7))

// binOf returns the bin of a value: what bins.Index does, in line.
func binOf(v float64) int32 {
	if !(v >= leastValue) {
		return zeroBin
	}
	x := math.Float64bits(min(v, largestValue))
	s := math.Float64frombits(x&(1<<52-1)|1023<<52) - 1
	log := ((mapping.A*s+mapping.B)*s+mapping.C)*s + float64(int(x>>52)-1023)
	return int32(log*perBin+binsBelow) - binsBelow
}

// binsBelow makes the index of every bin positive, for which rounding is cheaper.
const binsBelow = 1 << 16

// binValue is the value that stands for a bin.
func binValue(bin int32) float64 {
	if bin == zeroBin {
		return 0
	}
	return bins.Value(int(bin))
}

var lowestBin, highestBin = binOf(leastValue), binOf(largestValue)

// Bin is one bin of a percentile's sketch: N values in the DDSketch bin Index.
type Bin struct {
	Index int32  `json:"i"`
	N     uint32 `json:"n"`
}

// sketch is the distribution of the values of one slot, sorted by bin.
type sketch []Bin

// counting is scratch of addValues: a count for each bin, all 0 between its uses.
type counting []uint32

// addValues adds one value to each of the given bins, which it may sort. Many values
// that lie near each other, as those of one second mostly do, are cheaper to count.
func (s *sketch) addValues(bin []int32, scratch *counting) {
	least, most := int32(math.MaxInt32), int32(math.MinInt32)
	for _, b := range bin {
		least, most = min(least, b), max(most, b)
	}
	if len(bin) < 16 || least == zeroBin || int(most-least) > 8*len(bin) {
		slices.Sort(bin)
		s.addSorted(bin)
		return
	}
	for len(*scratch) <= int(most-least) {
		*scratch = append(*scratch, 0)
	}
	counts := (*scratch)[:most-least+1]
	for _, b := range bin {
		counts[b-least]++
	}
	at := 0
	for i, n := range counts {
		if n > 0 {
			at = s.addAt(at, Bin{least + int32(i), n})
		}
	}
	clear(counts)
}

func (s *sketch) addSorted(bin []int32) {
	at := 0
	for i := 0; i < len(bin); {
		n := i + 1
		for n < len(bin) && bin[n] == bin[i] {
			n++
		}
		at = s.addAt(at, Bin{bin[i], uint32(n - i)})
		i = n
	}
}

// addAt adds b to the bins from s[at] on and returns where it stands.
func (s *sketch) addAt(at int, b Bin) int {
	for at < len(*s) && (*s)[at].Index < b.Index {
		at++
	}
	switch {
	case at == len(*s): // most slots are filled in one go
		*s = append(*s, b)
	case (*s)[at].Index == b.Index:
		(*s)[at].N += b.N
	default:
		*s = slices.Insert(*s, at, b)
	}
	return at
}

// merge adds the bins of other.
func (s *sketch) merge(other []Bin) {
	at := 0
	for _, b := range other {
		at = s.addAt(at, b)
	}
}

// subtract takes the bins of other away, all of which were added before.
func (s *sketch) subtract(other []Bin) {
	for _, b := range other {
		if i, ok := slices.BinarySearchFunc(*s, b.Index, func(x Bin, i int32) int { return int(x.Index) - int(i) }); ok {
			if (*s)[i].N -= min((*s)[i].N, b.N); (*s)[i].N == 0 {
				*s = slices.Delete(*s, i, i+1)
			}
		}
	}
}

// total is the number of values.
func (s sketch) total() (n uint64) {
	for _, b := range s {
		n += uint64(b.N)
	}
	return n
}

// beyond is the number of values in the bins after one.
func (s sketch) beyond(bin int64) (n uint64) {
	for i := len(s) - 1; i >= 0 && int64(s[i].Index) > bin; i-- {
		n += uint64(s[i].N)
	}
	return n
}

// quantiles adds sketches up, to ask for their quantiles. The memory is used again.
type quantiles struct {
	dense []uint32 // by bin, from lowestBin on; all 0 but those from least to most
	least int
	most  int
	zero  uint64
	total uint64
	tops  []int // by slot: where the bins end that are still to be looked at
}

func (q *quantiles) reset() {
	if q.dense == nil {
		q.dense = make([]uint32, highestBin-lowestBin+1)
	} else if q.least <= q.most {
		clear(q.dense[q.least : q.most+1])
	}
	q.least, q.most, q.zero, q.total = len(q.dense), -1, 0, 0
}

func (q *quantiles) add(s sketch) {
	for _, b := range s {
		q.total += uint64(b.N)
		if b.Index == zeroBin {
			q.zero += uint64(b.N)
			continue
		}
		i := int(min(max(b.Index, lowestBin), highestBin) - lowestBin)
		q.dense[i] += b.N
		q.least, q.most = min(q.least, i), max(q.most, i)
	}
}

// rankOf says which of so many values, in rising order and from 1 on, is the percentile.
func rankOf(percent int, total uint64) uint64 { return (uint64(percent)*total + 99) / 100 }

// edgeOf returns the last bin whose value is not above a limit or, where it may be
// reached, below it.
func edgeOf(limit float64, reached bool) int64 {
	beyond := func(bin int32) bool { return binValue(bin) > limit || reached && binValue(bin) == limit }
	if beyond(zeroBin) {
		return zeroBin - 1
	}
	n := sort.Search(int(highestBin-lowestBin)+1, func(i int) bool { return beyond(lowestBin + int32(i)) })
	return int64(lowestBin) + int64(n) - 1
}

// fewBeyond is the number of values above a percentile for which they are looked for one
// after the other, the largest first.
const fewBeyond = 32

// of returns the percentile of all values of the slots; there are total.
func (q *quantiles) of(r slotRange, total uint64, percent int) float64 {
	if left := total - rankOf(percent, total); left <= fewBeyond {
		return q.fromTop(r, left)
	}
	q.reset()
	q.add(r.all())
	return q.at(percent)
}

// fromTop returns the value that as many as skip are before, the largest first.
func (q *quantiles) fromTop(r slotRange, skip uint64) float64 {
	q.tops = q.tops[:0]
	for i := r.first; i < r.end; i++ {
		q.tops = append(q.tops, r.begin(i+1))
	}
	for {
		top, n := int32(zeroBin), uint64(0)
		for i, k := range q.tops {
			if k > r.begin(r.first+i) {
				top = max(top, r.bins[k-1].Index)
			}
		}
		for i, k := range q.tops {
			if k > r.begin(r.first+i) && r.bins[k-1].Index == top {
				n += uint64(r.bins[k-1].N)
				q.tops[i]--
			}
		}
		if n > skip || n == 0 {
			return binValue(top)
		}
		skip -= n
	}
}

// at returns the smallest value that at least percent of the values do not exceed.
// There must be values.
func (q *quantiles) at(percent int) float64 {
	rank := rankOf(percent, q.total)
	if rank <= q.zero {
		return 0
	}
	seen := q.zero
	for i := q.least; i < q.most; i++ {
		if seen += uint64(q.dense[i]); rank <= seen {
			return binValue(int32(i) + lowestBin)
		}
	}
	return binValue(int32(q.most) + lowestBin)
}
