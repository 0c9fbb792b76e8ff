package alert

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// TestABacklogInOneGoIsDecidedLikeSecondBySecond: the same lines are decided one second
// after the other, and all at once after an outage.
func TestABacklogInOneGoIsDecidedLikeSecondBySecond(t *testing.T) {
	found := 0
	for seed := range uint64(400) {
		rule := refRules[seed%uint64(len(refRules))]
		if rule.quiet {
			continue // it waits for the end of the files
		}
		cfg := rule.cfg
		cfg.Lateness, cfg.StaleAfter = time.Hour, time.Hour
		r := mustCompile(t, cfg)
		rng := rand.New(rand.NewPCG(seed, 5))
		var lines []refLine
		for sec, rate := int64(100), 0; sec < 700; sec++ {
			if rng.IntN(20) == 0 {
				rate = []int{0, 1, 2, 12}[rng.IntN(4)]
			}
			for range rate * rng.IntN(3) / 2 {
				lines = append(lines, refLine{sec: noon.Unix() + sec, fail: rng.IntN(3) == 0, amount: float64(rng.IntN(10)) - float64(rng.IntN(3))})
			}
		}
		play := func(step int64) (resolved []string) {
			w := newWorld(t, r)
			w.now = noon.Add(700 * time.Second)
			tap := w.tap("p", "h")
			tap.Flush(record.Pos{}, false)
			next := noon.Unix() + 100 + step
			for _, l := range lines {
				for ; l.sec >= next; next += step {
					tap.Flush(record.Pos{}, false)
					w.engine.Tick()
				}
				tap.Observe(l.record(), l.sec*1000, nil)
			}
			tap.Flush(record.Pos{}, true)
			w.at(1000)
			for _, e := range w.events {
				if e.Kind == Resolved {
					resolved = append(resolved, short(e))
				}
			}
			return resolved
		}
		slow := play(1)
		found += len(slow)
		for _, step := range []int64{7, 1000} {
			if got := play(step); strings.Join(got, "\n") != strings.Join(slow, "\n") {
				t.Fatalf("seed %d, %s: in steps of %d s:\n%s\nsecond by second:\n%s", seed, cfg.When, step, strings.Join(got, "\n"), strings.Join(slow, "\n"))
			}
		}
	}
	if found < 400 {
		t.Errorf("only %d incidents: the test is void", found)
	}
}
