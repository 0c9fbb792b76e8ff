package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// TestLatencyOverTwoHundredHosts measures, in fake time, how long it takes from the
// write of the tenth error line to the notice, with 200 hosts that log all the time: the
// waits that the fleet is made of. (What work they are is measured by the benchmarks.)
func TestLatencyOverTwoHundredHosts(t *testing.T) {
	hosts, incidents := 200, 40
	if slow {
		hosts, incidents = 40, 15
	}
	bubble(t, 3, func(w *world) {
		w.hosts(hosts)
		w.evaluate("a")
		w.evaluate("b")
		w.after(settled)
		rng := rand.New(rand.NewPCG(1, 2))
		began := make(map[string]time.Time)
		for i := range incidents {
			project := fmt.Sprint("p", i)
			for k := range 10 {
				if k == 9 {
					began[project] = time.Now()
				}
				// What is read at its end is found by a look each 100 ms.
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				w.nodes[rng.IntN(hosts)].write(errorsNow(1, project)...)
			}
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		}
		w.after(5 * time.Second)
		var took []time.Duration
		for i, e := range w.channel.events() {
			if e.Kind == alert.Opened {
				took = append(took, w.channel.at[i].Sub(began[e.Incident.Group[0].Value]))
			}
		}
		if len(took) != incidents {
			t.Fatalf("%d of %d incidents were told", len(took), incidents)
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("p50 %v, p99 %v", took[len(took)/2], p99)
		if p99 >= 3*time.Second {
			t.Errorf("p99 is %v", p99)
		}
		bytes := 0
		w.broker.mu.Lock()
		defer w.broker.mu.Unlock()
		for p := range w.broker.count {
			for _, r := range w.broker.topics[topicPartition{Counts, p}] {
				bytes += len(r.Key) + len(r.Value)
			}
		}
		t.Logf("%d bytes/s a host, before compression", bytes/hosts/int(w.elapsed().Seconds()))
	}, appErrors)
}

// BenchmarkDecide is the work of an evaluator: one second of 200 hosts, each of which
// reports 50 groups.
func BenchmarkDecide(b *testing.B) {
	cfg := appErrors
	cfg.Scope = "fleet"
	rule, err := alert.Compile(cfg)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	engine := alert.New([]*alert.Rule{rule}, func() time.Time { return now }, func(alert.Event) {})
	const hosts, groups = 200, 50
	var values [][]byte
	for g := range groups {
		p := alert.Partial{Rule: rule.Identity(), Group: []string{fmt.Sprint("project-", g)}, Version: 1,
			Seconds: []alert.Second{{At: now.Unix(), Counts: []uint32{1, 0}}}, Places: []alert.Place{{At: now.Unix() / 5 * 5, Host: "web-1", File: "/log/a.log", N: 1}}}
		r, err := encodePartial("web-1", &p)
		if err != nil {
			b.Fatal(err)
		}
		values = append(values, r.Value)
	}
	nodes := make([]*alert.Node, hosts)
	for i := range nodes {
		nodes[i] = engine.Node(fmt.Sprint("web-", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		for _, n := range nodes {
			for _, v := range values {
				r, err := decodeCounted(v)
				if err != nil {
					b.Fatal(err)
				}
				r.Partial.Seconds[0].At, r.Partial.Places[0].At = now.Unix(), now.Unix()/5*5
				r.Partial.Version = uint64(now.Unix())
				n.Merge(r.Partial)
			}
		}
		engine.Decide()
		engine.Tick()
	}
}
