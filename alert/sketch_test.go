package alert

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

func TestPercentilesAreWithinTheStatedError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, draw := range map[string]func() float64{
		"latencies": func() float64 { return math.Exp(rng.NormFloat64()) / 10 },
		"bytes":     func() float64 { return math.Exp(rng.Float64() * 30) },
		"constant":  func() float64 { return 0.2 },
		"zeros":     func() float64 { return float64(rng.IntN(2)) },
		"extremes":  func() float64 { return []float64{0, -5, 1e-12, 1e20, 1, math.NaN()}[rng.IntN(6)] },
	} {
		for _, n := range []int{1, 2, 10, 100, 5000} {
			var s, other sketch
			var scratch counting
			var values []float64
			var first, second []int32
			for i := range n {
				v := draw()
				if i%2 == 0 {
					first = append(first, binOf(v))
				} else {
					second = append(second, binOf(v))
				}
				if !(v >= leastValue) {
					v = 0
				}
				values = append(values, min(v, largestValue))
			}
			s.addValues(first, &scratch)
			other.addValues(second, &scratch)
			s.merge(other)
			slices.Sort(values)
			var q quantiles
			q.reset()
			q.add(s)
			for _, p := range []int{50, 90, 95, 99} {
				want := values[(p*n+99)/100-1]
				if got := q.at(p); math.Abs(got-want) > want*RelativeError*1.0001 {
					t.Errorf("%s, %d values: p%d is %g, want %g", name, n, p, got, want)
				}
			}
			s.subtract(other)
			if alone := (sketch{}); !slices.Equal(s, func() sketch { alone.addValues(first, &scratch); return alone }()) {
				t.Errorf("%s: what was merged cannot be taken away again", name)
			}
		}
	}
}

// TestBinsAreWhereTheLibraryHasThem for values of all sizes; a value between two bins may be
// in either, by rounding.
func TestBinsAreWhereTheLibraryHasThem(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for range 300_000 {
		v := leastValue * math.Exp(rng.Float64()*math.Log(largestValue/leastValue))
		if rng.IntN(2) == 0 {
			v = math.Round(v*1000) / 1000
		}
		ours, theirs := int(binOf(v)), bins.Index(max(v, leastValue))
		edge := math.Abs(v/bins.LowerBound(max(ours, theirs))-1) < 1e-9
		if v >= leastValue && ours != theirs && !edge {
			t.Fatalf("%v is in bin %d, by the library in %d", v, ours, theirs)
		}
	}
}

// The bins are those of the library's sketch: either could be read as the other.
func TestBinsAreTheLibrarys(t *testing.T) {
	theirs := ddsketch.NewDDSketch(bins, store.NewSparseStore(), store.NewSparseStore())
	var ours sketch
	for i := range 1000 {
		v := math.Exp(float64(i%37) - 15)
		if err := theirs.Add(v); err != nil {
			t.Fatal(err)
		}
		ours.addValues([]int32{binOf(v)}, nil)
	}
	theirs.GetPositiveValueStore().ForEach(func(index int, count float64) bool {
		i, ok := slices.BinarySearchFunc(ours, int32(index), func(b Bin, i int32) int { return int(b.Index - i) })
		if !ok || float64(ours[i].N) != count {
			t.Errorf("bin %d: %v, theirs has %v", index, ours, count)
		}
		return false
	})
}

// TestCountingBeyondTheEdgeComparesThePercentile: whether a percentile is above a limit is
// the same, asked of the percentile and of how many values lie beyond the limit's bin.
func TestCountingBeyondTheEdgeComparesThePercentile(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 7))
	limits := []float64{-1, 0, 1e-12, leastValue, 0.3, 1, 17, 1e6, largestValue, 1e30}
	above := 0
	for range 3000 {
		var s sketch
		var values []int32
		for range 1 + rng.IntN(40) {
			v := limits[rng.IntN(len(limits))] * (1 + 0.05*rng.NormFloat64())
			values = append(values, binOf(v))
		}
		s.addValues(values, new(counting))
		var q quantiles
		q.reset()
		q.add(s)
		percent, limit := []int{50, 90, 95, 99}[rng.IntN(4)], limits[rng.IntN(len(limits))]
		if rng.IntN(2) == 0 {
			limit = binValue(values[0]) // exactly
		}
		for _, op := range []op{opGt, opGe} {
			want := compare(q.at(percent), op, limit)
			if got := s.total()-s.beyond(edgeOf(limit, op == opGe)) < rankOf(percent, s.total()); got != want {
				t.Fatalf("p%d of %v is %g: %s %g is %v, by the edge %v", percent, s, q.at(percent), op, limit, want, got)
			}
			if want {
				above++
			}
		}
	}
	if above < 1000 || above > 5500 {
		t.Errorf("%d of 6000 are above", above)
	}
}
