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
