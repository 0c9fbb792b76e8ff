package alert

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// TestManyNodesDecideAsOne feeds the same lines to one engine, and to the engines of
// many nodes whose Partials arrive in any order, more than once and after restarts, at
// a third that decides: both find the same incidents.
func TestManyNodesDecideAsOne(t *testing.T) {
	for seed := range uint64(60) {
		one, fleet := fleetRun(t, seed)
		if strings.Join(one, "\n") != strings.Join(fleet, "\n") {
			t.Fatalf("seed %d:\none engine\n%s\nfleet\n%s", seed, strings.Join(one, "\n"), strings.Join(fleet, "\n"))
		}
	}
}

func fleetRule(t testing.TB, cfg RuleConfig) *Rule {
	cfg.Name, cfg.Per, cfg.Scope = "r", []string{"project"}, "fleet"
	cfg.Lateness, cfg.StaleAfter = 30*time.Second, 30*time.Second
	return mustCompile(t, cfg)
}

func fleetRun(t *testing.T, seed uint64) (one, fleet []string) {
	rng := rand.New(rand.NewPCG(seed, 4))
	rule := fleetRule(t, refRules[seed%6].cfg)
	w := newWorld(t, rule)
	var events []Event
	decider := New([]*Rule{rule}, func() time.Time { return w.now }, func(e Event) { events = append(events, e) })
	quiet := func(Event) {}
	clock := func() time.Time { return w.now }

	type node struct {
		engine *Engine
		tap    *Tap
		up     *Node
	}
	nodes := make([]node, 12)
	single := make([]*Tap, len(nodes))
	for i := range nodes {
		host := fmt.Sprint("h", i)
		n := node{engine: New([]*Rule{rule}, clock, quiet), up: decider.Node(host)}
		n.engine.Publish(host)
		n.tap = n.engine.Tap("f", "apps", false, originOf("p", host))
		nodes[i], single[i] = n, w.tap("p", host)
	}
	type post struct {
		node int
		part Partial
	}
	var wire []post
	marks := make([][]Mark, len(nodes))
	for range 120 {
		w.now = w.now.Add(500 * time.Millisecond)
		for i := range nodes {
			n := &nodes[i]
			if rng.IntN(40) == 0 { // a new process with the state of the old one
				snap, err := n.engine.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				n.engine = New([]*Rule{rule}, clock, quiet)
				if err := n.engine.Restore(snap); err != nil {
					t.Fatal(err)
				}
				n.engine.Publish(fmt.Sprint("h", i))
				n.tap = n.engine.Tap("f", "apps", false, originOf("p", fmt.Sprint("h", i)))
			}
			if rng.IntN(10) == 0 {
				for _, l := range randomLines(rng, w.now) {
					l.sec = w.now.Unix() // what is late may come after the decision
					if !waits(rule) {
						l.sec -= rng.Int64N(3)
					}
					n.tap.Observe(l.record(), l.sec*1000, []byte("x"))
					single[i].Observe(l.record(), l.sec*1000, []byte("x"))
				}
			}
			n.tap.Flush(record.Pos{}, true)
			single[i].Flush(record.Pos{}, true)
			n.engine.Tick()
			report := n.engine.Report()
			marks[i] = report.Marks
			for _, p := range report.Partials {
				wire = append(wire, post{i, p})
				if rng.IntN(4) == 0 {
					wire = append(wire, post{i, p}) // sent twice
				}
			}
		}
		rng.Shuffle(len(wire), func(i, j int) { wire[i], wire[j] = wire[j], wire[i] })
		for _, p := range wire {
			nodes[p.node].up.Merge(overTheWire(t, p.part))
		}
		wire = wire[:min(len(wire), rng.IntN(5))] // some come again later
		for i := range nodes {
			nodes[i].up.Mark(marks[i])
		}
		decider.Decide()
		w.engine.Tick()
		decider.Tick()
	}
	for range 120 { // until all is over
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
		decider.Tick()
	}
	return incidents(w.events), incidents(events)
}

// waits tells whether some term of the rule is only decided when a second is over.
func waits(r *Rule) bool {
	return slices.ContainsFunc(r.atoms, func(a atom) bool { return !a.rising })
}

func overTheWire(t *testing.T, p Partial) *Partial {
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var out Partial
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// incidents returns when each incident began, as far as is known in the end, and
// whether it is over.
func incidents(events []Event) []string {
	ends := make(map[string]string)
	for _, e := range events {
		ends[e.Incident.ID] = fmt.Sprint(e.Incident.Began.Unix()-noon.Unix(), " ", e.Kind)
	}
	var out []string
	for _, end := range ends {
		out = append(out, end)
	}
	slices.Sort(out)
	return out
}

func TestTenErrorsOverFiveNodes(t *testing.T) {
	rule := fleetRule(t, RuleConfig{When: "error >= 10"})
	w := newWorld(t, rule)
	w.settled()
	var samples int
	for i := range 5 {
		host := fmt.Sprint("host-", i)
		n := New([]*Rule{rule}, func() time.Time { return w.now }, func(Event) { t.Error("a node decided") })
		n.Publish(host)
		tap := n.Tap("f", "apps", false, originOf("pay", host))
		w.lines(tap, 2, 11, anError)
		tap.Flush(record.Pos{}, true)
		up := w.engine.Node(host)
		parts := n.Report().Partials
		for i := range parts {
			samples += len(parts[i].Samples)
			if !up.Merge(&parts[i]) || up.Merge(&parts[i]) {
				t.Error("a partial must count once")
			}
		}
		if again := n.Report().Partials; len(again) != 0 {
			t.Errorf("published twice: %v", again)
		}
		if i < 4 {
			w.want()
		}
		w.engine.Decide()
	}
	w.want("opened r [pay] 11-11")
	in := w.events[0].Incident
	if len(in.Hosts) != 5 || in.Hosts[0].Lines != 2 || len(in.Samples) != MaxSamples || in.Samples[0].Host == "" {
		t.Errorf("%+v", in)
	}
	if samples == 0 {
		t.Error("no samples were published")
	}
}

// TestTheFatalLineOfOneNodeIsShown among newer errors of all others.
func TestTheFatalLineOfOneNodeIsShown(t *testing.T) {
	rule := fleetRule(t, RuleConfig{When: "error >= 10 or fatal >= 1"})
	w := newWorld(t, rule)
	w.settled()
	for i := range 5 {
		host := fmt.Sprint("host-", i)
		n := New([]*Rule{rule}, func() time.Time { return w.now }, func(Event) { t.Error("a node decided") })
		n.Publish(host)
		tap := n.Tap("f", "apps", false, originOf("pay", host))
		if i == 0 {
			tap.Observe(aFatal, milli(11), []byte("the fatal one"))
		}
		w.lines(tap, 20, 11.1+float64(i)/10, anError)
		tap.Flush(record.Pos{}, true)
		up := w.engine.Node(host)
		for _, p := range n.Report().Partials {
			up.Merge(overTheWire(t, p))
		}
	}
	w.engine.Decide()
	w.want("opened r [pay] 11-11")
	in := w.events[0].Incident
	if !slices.ContainsFunc(in.Samples, func(s Sample) bool { return s.Text == "the fatal one" && s.Host == "host-0" }) || len(in.Samples) != MaxSamples {
		t.Errorf("%+v", in.Samples)
	}
}

func TestPartialsOfAnotherShapeAreRefused(t *testing.T) {
	rule := fleetRule(t, RuleConfig{When: "error >= 10 or p99(x) > 1"})
	w := newWorld(t, rule)
	up := w.engine.Node("h")
	good := func() *Partial {
		return &Partial{Rule: rule.Identity(), Group: []string{"p"}, Version: 1, Seconds: []Second{{At: noon.Unix(), Counts: []uint32{3}}}}
	}
	w.engine.Node("x").Mark([]Mark{{Rule: rule.Identity(), Newest: noon.Unix(), Reached: noon.Unix()}})
	w.engine.Decide()
	for name, change := range map[string]func(*Partial){
		"rule":        func(p *Partial) { p.Rule = "other" },
		"fingerprint": func(p *Partial) { p.Rule = "r:old" },
		"group":       func(p *Partial) { p.Group = nil },
		"counts":      func(p *Partial) { p.Seconds[0].Counts = nil },
		"accs":        func(p *Partial) { p.Seconds[0].Accs = make([]Acc, 3) },
		"bins":        func(p *Partial) { p.Slots = []Slot{{At: noon.Unix()}} },
		"slot":        func(p *Partial) { p.Slots = []Slot{{At: noon.Unix() + 1, Bins: make([][]Bin, 1)}} },
		"past":        func(p *Partial) { p.Seconds[0].At -= 86400 },
		"future":      func(p *Partial) { p.Seconds[0].At += 86400 },
		"absurd":      func(p *Partial) { p.Places = []Place{{At: math.MaxInt64}} },
	} {
		p := good()
		change(p)
		if up.Merge(p) {
			t.Errorf("%s: counted", name)
		}
	}
	if !up.Merge(good()) {
		t.Error("the good one was refused")
	}
	less := good()
	less.Version, less.Seconds[0].Counts[0] = 2, 1
	if !up.Merge(less) || w.engine.watches[0].groups[joinKey([]string{"p"})].cnt[0] != 1 {
		t.Error("a newer version replaces")
	}
}
