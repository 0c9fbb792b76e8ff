package alert

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFullGroupsKeepToTheirMemory fills each of max_groups groups by project and path
// with values of all sizes in every second, for longer than its windows reach back. The
// heap stays within what is allowed and what the rule needs at least; what is slow is
// found all the same.
func TestFullGroupsKeepToTheirMemory(t *testing.T) {
	groups, seconds, lines := 1000, 200, 12
	if slow {
		groups = 100
	}
	for _, mib := range []int64{64, 24, 0} { // 64 are a quarter of what limits.memory is by default
		t.Run(fmt.Sprint(mib, "MiB"), func(t *testing.T) {
			limit := max(1, mib<<20*int64(groups)/1000)
			rule := mustCompile(t, RuleConfig{Name: "slow", Per: []string{"project", "path"}, MaxGroups: groups, When: "p99(request_time) > 100s or count(upstream_time > 3s) >= 100000"})
			before := heap()
			w := newWorld(t, rule)
			w.engine.Limit(limit)
			tap := w.tap("shop", "a")
			r := lineOf(record.LevelNone, "path", "/")
			rng := rand.New(rand.NewPCG(1, 2))
			feed := func(sec int, most float64) {
				for i := range groups {
					r.Fields[0].Val = fmt.Appendf(r.Fields[0].Val[:0], "/api/v1/path-%d", i)
					for range lines {
						r.RequestTime, r.UpstreamTime = most*math.Exp(-20*rng.Float64()), 3.5
						tap.Observe(r, milli(float64(sec)), nil)
					}
				}
				tap.Flush(record.Pos{}, true)
				w.at(float64(sec) + 0.9)
			}
			tight := false
			for sec := range seconds {
				feed(sec, 50)
				tight = tight || w.engine.Stats()[0].Tight
			}
			s := w.engine.Stats()[0]
			if s.Groups != groups || tight != (mib < 64) {
				t.Fatalf("the test is void: %+v", s)
			}
			have := heap() - before
			t.Logf("%d MiB on the heap, %d MiB weighed; %d MiB needed at least", have>>20, s.Bytes>>20, rule.Need()>>20)
			if most := max(limit, rule.Need())*11/10 + 1<<20; have > most {
				t.Errorf("the heap has %d MiB more; allowed are %d", have>>20, most>>20)
			}
			if s.Bytes < have*2/3 || s.Bytes > have*4/3 {
				t.Errorf("%d MiB were weighed, the heap has %d more", s.Bytes>>20, have>>20)
			}
			w.want()
			for sec := range 15 {
				feed(seconds+sec, 5000)
			}
			if s := w.engine.Stats()[0]; s.Firing < groups*9/10 {
				t.Errorf("%d of %d groups are slow, says the rule", s.Firing, groups)
			}
			runtime.KeepAlive(tap)
		})
	}
}

// TestNoNewGroupsWhileMemoryIsTight, and again when it is not: the lines of the others are
// counted as such.
func TestNoNewGroupsWhileMemoryIsTight(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "errors", Per: []string{"path"}, When: "error >= 1", Repeat: time.Hour}))
	w.settled()
	tap := w.tap("shop", "a")
	fail := func(path string, sec float64) {
		w.lines(tap, 1, sec, lineOf(record.LevelError, "path", path))
		tap.Flush(record.Pos{}, true)
	}
	fail("/a", 11)
	w.want("opened errors [/a] 11-11")
	w.engine.Limit(1)
	w.at(13)
	fail("/b", 13)
	w.want()
	if s := w.engine.Stats()[0]; s.Overflow != 1 || !s.Tight || len(s.Overflowed) != 1 || s.Overflowed[0] != "path=/b" {
		t.Errorf("%+v", s)
	}
	w.engine.Limit(1 << 20)
	w.at(15)
	fail("/b", 15)
	w.want("opened errors [/b] 15-15")
}

// TestFewBinsKeepTheLargeValues: with so few bins a percentile near the top is hardly off,
// and never too small.
func TestFewBinsKeepTheLargeValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var all, few sketch
		var most int32
		for range 1 + rng.IntN(300) {
			var values, again []int32
			for range 1 + rng.IntN(5) {
				b := int32(rng.NormFloat64() * 50)
				most = max(most, b)
				values, again = append(values, b), append(again, b)
			}
			all.addValues(values, new(counting))
			few.addFew(again)
		}
		var a, f quantiles
		a.reset()
		a.add(all)
		f.reset()
		f.add(few)
		if len(few) > fewBins || a.total != f.total {
			t.Fatalf("%d bins with %d values of %d", len(few), f.total, a.total)
		}
		for _, p := range []int{50, 90, 99} {
			if f.at(p) < a.at(p) {
				t.Fatalf("p%d is %g with few bins, %g with all", p, f.at(p), a.at(p))
			}
		}
		if f.at(100) != a.at(100) {
			t.Fatalf("the largest is %g with few bins, %g with all", f.at(100), a.at(100))
		}
	}
}
