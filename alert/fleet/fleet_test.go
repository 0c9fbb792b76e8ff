package fleet

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert"
)

var appErrors = alert.RuleConfig{Name: "errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1"}

// settled is how long a simulated fleet takes until an evaluator decides and every
// node has heard of it.
const settled = 15 * time.Second

// bubble runs a story of a fleet in fake time.
func bubble(t *testing.T, partitions int, story func(w *world), cfgs ...alert.RuleConfig) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, partitions, cfgs...)
		defer w.end()
		story(w)
	})
}

func (w *world) hosts(n int) {
	for i := range n {
		w.host(fmt.Sprint("web-", i))
	}
}

func TestTheTenthErrorOverFiveHostsIsToldOnce(t *testing.T) {
	bubble(t, 3, func(w *world) {
		w.hosts(5)
		w.evaluate("a")
		w.evaluate("b")
		w.after(settled)
		for i := range 9 {
			w.nodes[i%5].write(errorsNow(1, "pay")...)
			w.after(time.Second)
		}
		w.after(5 * time.Second)
		w.want()
		w.nodes[4].write(errorsNow(1, "pay")...)
		began := time.Now()
		w.after(2 * time.Second)
		w.want(alert.Opened)
		if took := w.channel.at[0].Sub(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		in := w.channel.events()[0].Incident
		if len(in.Hosts) != 5 || in.Hosts[0].Lines != 2 || len(in.Samples) < 3 || in.Samples[0].Host == "" || len(in.Files) != 1 || in.Files[0].Lines != 10 || in.Note != "" {
			t.Errorf("%+v", in)
		}
		w.after(3 * time.Minute)
		w.want(alert.Opened, alert.Resolved)
		w.replay()
		w.after(10 * time.Second)
		w.want(alert.Opened, alert.Resolved)
	}, appErrors)
}

// replay appends all counts once more, in another order.
func (w *world) replay() {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	for p := range w.broker.count {
		var again []Record
		for _, r := range w.broker.topics[topicPartition{Counts, p}] {
			again = append([]Record{r}, again...)
		}
		w.broker.appendLocked(Counts, p, again)
	}
}

func TestWhoTakesOverNeitherForgetsNorRepeats(t *testing.T) {
	bubble(t, 2, func(w *world) {
		w.hosts(3)
		a := w.evaluate("a")
		w.after(settled)
		w.nodes[0].write(errorsNow(10, "told")...)
		w.after(2 * time.Second)
		w.want(alert.Opened)
		w.nodes[0].write(errorsNow(5, "half")...)
		w.after(2 * time.Second)
		a.kill()
		w.evaluate("b")
		w.after(time.Second)
		w.nodes[1].write(errorsNow(5, "half")...)
		w.nodes[1].write(errorsNow(5, "told")...)
		w.after(14 * time.Second)
		w.want(alert.Opened, alert.Opened)
		w.after(3 * time.Minute)
		w.want(alert.Opened, alert.Opened, alert.Resolved, alert.Resolved)
		seen := make(map[string]int)
		for _, e := range w.channel.events() {
			seen[e.Incident.ID]++
			if e.Incident.Note != "" {
				t.Errorf("a host has decided: %s", e.Incident.Note)
			}
		}
		for id, n := range seen {
			if n != 2 {
				t.Errorf("incident %s was told %d times", id, n)
			}
		}
	}, appErrors)
}

// The channel is down, and the evaluator that has decided dies before it is back.
func TestNoticeThatNobodyHasGotIsSentBySuccessor(t *testing.T) {
	for _, how := range []string{"killed", "stopped", "another joins"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, 1, func(w *world) {
				w.hosts(2)
				a := w.evaluate("a")
				w.after(settled)
				w.channel.down = true
				w.nodes[0].write(errorsNow(10, "pay")...)
				w.after(5 * time.Second)
				switch how {
				case "killed":
					a.kill()
				case "stopped":
					a.stop()
				}
				w.evaluate("b")
				w.after(12 * time.Second)
				w.channel.mu.Lock()
				w.channel.down = false
				w.channel.mu.Unlock()
				w.after(5 * time.Second)
				w.want(alert.Opened)
				w.after(2 * time.Minute)
				w.want(alert.Opened, alert.Resolved)
			}, appErrors)
		})
	}
}

func TestWithKafkaDownEachHostDecidesAndSaysSo(t *testing.T) {
	bubble(t, 2, func(w *world) {
		w.hosts(3)
		w.evaluate("a")
		w.after(settled)
		w.nodes[2].write(errorsNow(10, "before")...)
		w.after(5 * time.Second)
		w.want(alert.Opened)
		w.down(true)
		w.after(5 * time.Second)
		w.nodes[0].write(errorsNow(10, "pay")...) // while it is not known yet
		w.nodes[1].write(errorsNow(6, "sum")...)
		w.nodes[2].write(errorsNow(6, "sum")...)
		w.after(5 * time.Second)
		w.want(alert.Opened)
		w.after(20 * time.Second)
		w.want(alert.Opened, alert.Opened)
		in := w.channel.events()[1].Incident
		if !strings.Contains(in.Note, "web-0 alone") || !strings.Contains(in.Note, "Kafka") || in.Hosts[0].Lines != 10 {
			t.Errorf("%+v", in)
		}
		w.nodes[2].write(errorsNow(5, "before")...) // it was told by the evaluator
		w.after(5 * time.Second)
		w.want(alert.Opened, alert.Opened)
		w.down(false)
		// What no host could see alone is told now, the rest is known.
		w.after(20 * time.Second)
		w.want(alert.Opened, alert.Opened, alert.Opened)
		if in := w.channel.events()[2].Incident; in.Group[0].Value != "sum" || in.Note != "" {
			t.Errorf("%+v", in)
		}
		w.after(3 * time.Minute)
		w.want(alert.Opened, alert.Opened, alert.Opened, alert.Resolved, alert.Resolved, alert.Resolved)
	}, appErrors)
}

func TestNoEvaluatorsHeartbeat(t *testing.T) {
	bubble(t, 1, func(w *world) {
		w.hosts(2)
		w.after(5 * time.Second)
		w.nodes[0].write(errorsNow(10, "pay")...)
		w.after(5 * time.Second)
		w.want()
		w.after(10 * time.Second)
		w.want(alert.Opened)
		if in := w.channel.events()[0].Incident; !strings.Contains(in.Note, "heartbeat") {
			t.Errorf("%+v", in)
		}
		w.nodes[1].write(errorsNow(10, "pay")...) // each for itself
		w.after(time.Second)
		w.want(alert.Opened, alert.Opened)
		w.evaluate("a") // it knows of both
		w.after(20 * time.Second)
		w.want(alert.Opened, alert.Opened)
		w.nodes[1].write(errorsNow(10, "pay")...)
		w.after(20 * time.Second)
		w.want(alert.Opened, alert.Opened)
		w.after(3 * time.Minute)
		w.want(alert.Opened, alert.Opened, alert.Resolved)
	}, appErrors)
}

// A node dies and comes back without what it has counted since its last checkpoint.
func TestNodeThatReadsAgainCountsNothingTwice(t *testing.T) {
	bubble(t, 1, func(w *world) {
		w.hosts(2)
		w.evaluate("a")
		w.after(settled)
		h := w.nodes[0]
		h.write(errorsNow(4, "pay")...)
		h.save()
		h.write(errorsNow(4, "pay")...)
		w.after(2 * time.Second)
		h.kill()
		w.after(4 * time.Second)
		h.start()
		w.after(5 * time.Second)
		h.kill()
		h.start()
		h.write(errorsNow(1, "pay")...)
		w.after(10 * time.Second)
		w.want()
		w.nodes[1].write(errorsNow(1, "pay")...)
		w.after(3 * time.Second)
		w.want(alert.Opened)
	}, appErrors)
}

// One rule's condition was changed on the evaluator, another's predicate: only the
// latter counts something else.
func TestOtherConfigurationsDoNotMix(t *testing.T) {
	bubble(t, 1, func(w *world) {
		w.hosts(2)
		other := []alert.RuleConfig{appErrors, {Name: "slow", Per: []string{"project"}, When: "count(value > 5) >= 2"}}
		other[0].When = "error >= 5 or fatal >= 1"
		w.rules = nil
		for i := range other {
			other[i].Scope = "fleet"
			r, err := alert.Compile(other[i])
			if err != nil {
				t.Fatal(err)
			}
			w.rules = append(w.rules, r)
		}
		w.evaluate("a") // the hosts have begun with the old ones
		w.after(settled)
		w.nodes[0].write(errorsNow(5, "pay")...)
		for _, h := range w.nodes {
			h.write(line{at: time.Now(), project: "pay", value: 10})
		}
		w.after(3 * time.Second)
		w.want(alert.Opened)
		// Nobody decides the hosts' own version of the second rule: they do it.
		w.after(15 * time.Second)
		w.nodes[0].write(line{at: time.Now(), project: "pay", value: 10}, line{at: time.Now(), project: "pay", value: 10})
		w.after(3 * time.Second)
		w.want(alert.Opened, alert.Opened)
		if in := w.channel.events()[1].Incident; in.Rule != "slow" || !strings.Contains(in.Note, "this rule") {
			t.Errorf("%+v", in)
		}
	}, appErrors, alert.RuleConfig{Name: "slow", Per: []string{"project"}, When: "count(value > 3) >= 2"})
}

func TestSharesPercentilesAndSilenceOverTheFleet(t *testing.T) {
	bubble(t, 2, func(w *world) {
		w.hosts(3)
		w.evaluate("a")
		w.after(settled)
		for range 30 {
			for i, h := range w.nodes {
				h.write(line{at: time.Now(), project: "pay", value: 1 + 3*float64(i/2), level: 1})
			}
			w.after(time.Second)
		}
		got := make(map[string]alert.Incident)
		for _, e := range w.channel.events() {
			got[e.Incident.Rule] = e.Incident
		}
		if len(got) != 2 || got["avg"].Numbers[0].Value != 2 || got["p90"].Numbers[0].Value < 3.96 || got["p90"].Numbers[0].Value > 4.04 {
			t.Fatalf("%+v", got)
		}
		w.after(25 * time.Second)
		for _, e := range w.channel.events() {
			got[e.Incident.Rule] = e.Incident
		}
		if in, ok := got["silent"]; !ok || len(got) != 3 {
			t.Errorf("%+v", in)
		}
	}, alert.RuleConfig{Name: "avg", Per: []string{"project"}, When: "avg(value) >= 2 and count() >= 30"},
		alert.RuleConfig{Name: "p90", Per: []string{"project"}, When: "p90(value) > 3 and share(value > 3) < 40% and count() > 10"},
		alert.RuleConfig{Name: "silent", Per: []string{"project"}, When: "count() == 0", Within: 20 * time.Second})
}

// Every group fires at the same moment: what is written down of that is more than a
// broker takes at once.
func TestStormOverTheFleet(t *testing.T) {
	bubble(t, 1, func(w *world) {
		w.broker.most = mostBytes + mostBytes/8
		w.hosts(3)
		w.evaluate("a")
		w.after(settled)
		const groups = 700
		for i := range groups {
			for _, h := range w.nodes {
				h.log = append(h.log, errorsNow(4, fmt.Sprint("p", i))...)
			}
		}
		w.after(5 * time.Second)
		if n := w.channel.opened(); n != groups {
			t.Fatalf("%d of %d groups were told", n, groups)
		}
		w.evals[0].kill()
		w.evaluate("b")
		w.after(12 * time.Second)
		if n := len(w.channel.events()); n != groups {
			t.Errorf("%d notices of %d groups", n, groups)
		}
	}, appErrors)
}
