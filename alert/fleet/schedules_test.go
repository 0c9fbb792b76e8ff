package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// kind is a rule with a plain statement of its condition.
type kind struct {
	cfg alert.RuleConfig
	// holds looks at the lines of the window that ends at a second.
	holds func(lines []line, end int64, all []line) bool
	// rising conditions can only become true by more lines: they are exact whatever is
	// late. Others are when every host has reported within two seconds.
	rising bool
}

func errorsIn(lines []line) (n int) {
	for _, l := range lines {
		if l.level == record.LevelError {
			n++
		}
	}
	return n
}

var kinds = []kind{
	{rising: true, cfg: alert.RuleConfig{When: "error >= 3", Within: 5 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool { return errorsIn(in) >= 3 }},
	{rising: true, cfg: alert.RuleConfig{When: "max(value) > 19 or error >= 4", Within: 8 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool {
			return errorsIn(in) >= 4 || slices.ContainsFunc(in, func(l line) bool { return l.value > 19 })
		}},
	{rising: true, cfg: alert.RuleConfig{When: "rate(level == error) > 0.2", Within: 6 * time.Second, For: 4 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool { return float64(errorsIn(in))/6 > 0.2 }},
	{cfg: alert.RuleConfig{When: "share(level == error) > 70% and count() >= 3", Within: 6 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool {
			return len(in) >= 3 && float64(errorsIn(in)) > 0.7*float64(len(in))
		}},
	{cfg: alert.RuleConfig{When: "avg(value) > 12 and count() >= 2", Within: 4 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool {
			sum := 0.0
			for _, l := range in {
				sum += l.value
			}
			return len(in) >= 2 && sum > 12*float64(len(in))
		}},
	{cfg: alert.RuleConfig{When: "p90(value) > 15.5", Within: 24 * time.Second},
		holds: func(_ []line, end int64, all []line) bool {
			last := (end + 1) / 2 * 2 // slots of two seconds, those that have ended
			var v []float64
			for _, l := range all {
				if s := l.at.Unix(); s < last && s >= last-24 {
					v = append(v, l.value)
				}
			}
			slices.Sort(v)
			return len(v) > 0 && v[(90*len(v)+99)/100-1] > 15.5
		}},
	{cfg: alert.RuleConfig{When: "count() == 0", Within: 4 * time.Second},
		holds: func(in []line, _ int64, _ []line) bool { return len(in) == 0 }},
}

// reference finds the incidents of a group in the whole input: spans of seconds, apart
// by more than a window.
func (k *kind) reference(all []line, until int64) (spans [][2]int64) {
	within, hold := int64(k.cfg.Within/time.Second), int64(k.cfg.For/time.Second)
	first := int64(math.MaxInt64)
	for _, l := range all {
		first = min(first, l.at.Unix())
	}
	held := int64(0) // for how many seconds it has held
	for end := first; end <= until; end++ {
		var in []line
		for _, l := range all {
			if s := l.at.Unix(); s <= end && s > end-within {
				in = append(in, l)
			}
		}
		if !k.holds(in, end, all) {
			held = 0
			continue
		}
		held++
		if n := len(spans); n > 0 && end <= spans[n-1][1]+within {
			spans[n-1][1] = end // it goes on, though it has not held for long again
		} else if held > hold {
			spans = append(spans, [2]int64{end, end})
		}
	}
	return spans
}

// TestRandomSchedulesOfAFleetGiveTheReferencesIncidents plays random schedules of hosts
// that log, die and read again, of records that come twice and late, and of evaluators
// that die: what is told is what a plain look at the whole input finds.
func TestRandomSchedulesOfAFleetGiveTheReferencesIncidents(t *testing.T) {
	schedules := 250
	switch {
	case os.Getenv("TAILWATER_TORTURE") != "":
		schedules = 2000
	case slow:
		schedules = 15
	}
	told := 0
	for seed := range schedules {
		synctest.Test(t, func(t *testing.T) { told += schedule(t, uint64(seed)) })
	}
	t.Logf("%d schedules, %d incidents", schedules, told)
	if told < schedules {
		t.Error("the schedules are too quiet to tell anything")
	}
}

func schedule(t *testing.T, seed uint64) (told int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	k := kinds[seed%uint64(len(kinds))]
	cfg := k.cfg
	cfg.Name, cfg.Per = "r", []string{"project"}
	w := newWorld(t, 1+rng.IntN(3), cfg)
	defer w.end()
	for i := range 2 + rng.IntN(4) {
		w.host(fmt.Sprint("web-", i))
	}
	alive := []*process{w.evaluate("e0")}
	if rng.IntN(2) == 0 {
		alive = append(alive, w.evaluate("e1"))
	}
	w.after(settled)
	input := make(map[string][]line)
	write := func(h *host, late time.Duration) {
		l := line{at: time.Now().Add(-late), wrote: time.Now(), project: fmt.Sprint("p", rng.IntN(3)), level: record.LevelInfo, value: float64(1 + rng.IntN(20))}
		if rng.IntN(2) == 0 {
			l.level = record.LevelError
		}
		input[l.project] = append(input[l.project], l)
		h.write(l)
	}
	busy := 1 + rng.IntN(4)
	for range 160 { // 40 s
		for _, h := range w.nodes {
			if rng.IntN(14) < busy && rng.IntN(2) == 0 {
				late := time.Duration(0)
				if k.rising {
					late = randomly(rng, time.Second)
					if rng.IntN(5) == 0 {
						late = randomly(rng, 20*time.Second)
					}
				}
				write(h, late)
			}
			if rng.IntN(10) == 0 {
				h.save()
			}
		}
		w.disturb(rng, k.rising, &alive)
		w.after(250 * time.Millisecond)
	}
	for _, h := range w.nodes {
		h.behind = false
	}
	w.after(75 * time.Second)
	return w.compare(seed, &k, input)
}

// disturb does what happens to a fleet, now and then.
func (w *world) disturb(rng *rand.Rand, hosts bool, alive *[]*process) {
	if rng.IntN(12) == 0 { // records come again
		w.broker.mu.Lock()
		p := rng.IntN(w.broker.count)
		all := w.broker.topics[topicPartition{Counts, p}]
		if n := len(all); n > 0 {
			from := rng.IntN(n)
			w.broker.appendLocked(Counts, p, slices.Clone(all[from:min(n, from+20)]))
		}
		w.broker.mu.Unlock()
	}
	calm := time.Now().Before(w.calmUntil) // or there would be nobody who decides for 15 s
	if rng.IntN(40) == 0 && !calm {
		w.calmUntil = time.Now().Add(12 * time.Second)
		i := rng.IntN(len(*alive))
		if p := (*alive)[i]; rng.IntN(2) == 0 {
			p.kill()
		} else {
			p.stop()
		}
		(*alive)[i] = w.evaluate(fmt.Sprint("e", len(w.evals)))
	}
	if !hosts {
		return
	}
	h := w.nodes[rng.IntN(len(w.nodes))]
	switch rng.IntN(60) {
	case 0:
		h.kill()
		w.after(randomly(rng, 4*time.Second))
		h.start()
	case 1:
		h.behind = true
	case 2:
		h.behind = false
	case 3:
		if calm {
			return
		}
		w.calmUntil = time.Now().Add(12 * time.Second)
		w.down(true)
		w.after(randomly(rng, 4*time.Second))
		w.down(false)
	}
}

// compare holds what was told against the reference, and returns the number of
// incidents.
func (w *world) compare(seed uint64, k *kind, input map[string][]line) (told int) {
	t := w.t
	events := w.channel.events()
	seen := make(map[string]bool)
	for _, e := range events {
		if key := eventKey(&e); seen[key] && !w.killed() {
			t.Errorf("seed %d: told twice: %s", seed, key)
		} else {
			seen[key] = true
		}
		if e.Incident.Note != "" {
			t.Errorf("seed %d: a host has decided: %s", seed, e.Incident.Note)
		}
	}
	for project, all := range input {
		spans := k.reference(all, time.Now().Unix()-5)
		of := make([]int, len(spans))
		resolved := true
		ids := make(map[string]bool)
		for _, e := range events {
			if e.Incident.Group[0].Value != project {
				continue
			}
			if e.Kind != alert.Opened {
				resolved = true
				continue
			}
			if ids[e.Incident.ID] {
				continue // sent again after a kill; it is the same
			}
			ids[e.Incident.ID] = true
			told++
			if !resolved {
				t.Errorf("seed %d: %s was told while it was open", seed, project)
			}
			resolved = false
			at := e.Incident.Began.Unix()
			i := slices.IndexFunc(spans, func(s [2]int64) bool { return s[0] <= at && at <= s[1] })
			if i < 0 {
				t.Errorf("seed %d, %s: %s was told at %d, where nothing was: %v", seed, k.cfg.When, project, at, spans)
				continue
			}
			if of[i]++; of[i] > 1 && !k.rising {
				t.Errorf("seed %d, %s: %s: %v was told %d times", seed, k.cfg.When, project, spans[i], of[i])
			}
		}
		for i, n := range of {
			if n == 0 && !w.overtaken(project, spans[i], k, all) {
				t.Errorf("seed %d, %s: nobody was told of %s %v", seed, k.cfg.When, project, spans[i])
			}
		}
	}
	return told
}

// overtaken tells whether an incident was found so late that the group had been told
// of a younger one, which was not over.
func (w *world) overtaken(project string, span [2]int64, k *kind, all []line) bool {
	var last time.Time // when the last line of the incident was written
	for _, l := range all {
		if s := l.at.Unix(); s <= span[1] && s > span[0]-int64((k.cfg.Within+k.cfg.For)/time.Second) && l.wrote.After(last) {
			last = l.wrote
		}
	}
	for i, e := range w.channel.events() {
		if e.Kind == alert.Resolved && e.Incident.Group[0].Value == project && e.Incident.Began.Unix() > span[1] && w.channel.at[i].After(last) {
			return k.rising
		}
	}
	return false
}

// killed tells whether an evaluator was killed, or ended while the broker was down:
// what it had sent and not written down may be sent again.
func (w *world) killed() bool {
	return w.wasDown || slices.ContainsFunc(w.evals, func(p *process) bool { return p.port.dead })
}

// randomly is a part of d.
func randomly(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(d)))
}
