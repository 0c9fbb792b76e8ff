package fleet

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
)

func TestReportOverTheFleetIsOneAndItsSumsAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 3, 3)
		o.evaluate("e1")
		o.after(10 * time.Second)
		now := time.Now()
		for i, c := range o.hosts {
			for n := range 15 {
				c.log = append(c.log, warning(now, "pay", n), warning(now.Add(-24*time.Hour), "pay", n))
			}
			c.log = append(c.log, warning(now, fmt.Sprint("only-", i), i), dayLine{at: now, project: "pay", message: "all is well"})
		}
		o.after(10 * time.Second)
		if fleet, hosts := o.over(); fleet[o.day(0)+" pay"] != 1 || fleet[o.day(-1)+" pay"] != 1 || len(fleet) != 2 || len(hosts) != 0 {
			t.Errorf("over the limit: %v, %v", fleet, hosts)
		}
		if in := o.got[0].Item.Incident; len(in.Hosts) != 3 || in.Hosts[0].Lines != 15 || in.Hosts[0].Name != "web-0" {
			t.Errorf("%+v", in)
		}
		o.after(untilMidnight + 4*time.Minute)
		if n := len(o.letters()); n != 0 {
			t.Errorf("%d reports before their time", n)
		}
		o.after(time.Minute)
		o.check(o.day(0), o.day(-1))
		o.end()
	})
}

// One host is behind, one dies and comes back, and both are waited for; one that died an
// hour ago is not, and is named.
func TestReportWaitsForHostsThatMayBringMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 2, 4)
		o.evaluate("e1")
		o.after(10 * time.Second)
		for i, c := range o.hosts {
			c.log = append(c.log, warning(time.Now(), "pay", i))
		}
		o.after(70 * time.Second)
		for _, c := range o.hosts {
			c.save()
		}
		slow, dying, gone, ended := o.hosts[0], o.hosts[1], o.hosts[2], o.hosts[3]
		slow.behind = true
		for i := range 5 {
			slow.log = append(slow.log, warning(time.Now(), "pay", i))
			dying.log = append(dying.log, warning(time.Now(), "pay", i))
		}
		dying.kill()
		ended.end() // as it should: everything is read
		o.after(untilMidnight + 10*time.Minute)
		if n := len(o.letters()); n != 0 {
			t.Fatal("the report does not wait")
		}
		dying.start()
		o.after(5 * time.Minute)
		if n := len(o.letters()); n != 0 {
			t.Fatal("the report does not wait for the one that is behind")
		}
		slow.behind = false
		o.after(time.Minute)
		o.check(o.day(0), o.day(-1))
		gone.kill()
		// The next one is due in 24 hours; until then nobody needs the evaluators.
		o.evals[0].stop()
		<-o.evals[0].ended
		for _, c := range []*clerk{slow, dying} {
			c.end()
		}
		time.Sleep(24*time.Hour - 6*time.Minute)
		for _, c := range []*clerk{slow, dying} {
			c.start()
			c.log = append(c.log, warning(time.Now(), "pay", 1))
		}
		o.evaluate("e2")
		o.after(5 * time.Minute)
		next := o.letters()[o.day(1)]
		if len(next) != 1 || next[0].Total != 0 && next[0].Total != 2 || len(next[0].Remarks) != 1 || !strings.Contains(next[0].Remarks[0], "web-2") || next[0].Before != 14 {
			t.Fatalf("%+v", next)
		}
		gone.start()
		ended.start()
		o.end()
	})
}

// Without evaluators each host reports itself, and says so.
func TestHostsReportThemselvesWithoutEvaluators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 1, 2)
		for i, c := range o.hosts {
			for range 30 * (i + 1) {
				c.log = append(c.log, warning(time.Now(), "pay", i))
			}
		}
		o.after(untilMidnight + 30*time.Minute)
		if fleet, hosts := o.over(); len(fleet) != 0 || hosts[o.day(0)+" pay"] != 1 {
			t.Errorf("over the limit: %v, %v", fleet, hosts)
		}
		if n := len(o.letters()); n != 0 {
			t.Error("they do not wait for evaluators")
		}
		o.after(45 * time.Minute)
		all := o.letters()[o.day(0)]
		slices.SortFunc(all, func(a, b notify.Report) int { return strings.Compare(a.Host, b.Host) })
		if len(all) != 2 || all[0].Host != "web-0" || all[0].Total != 30 || all[1].Total != 60 || !strings.Contains(strings.Join(all[0].Remarks, "\n"), "alone") {
			t.Errorf("%+v", all)
		}
		o.end()
	})
}

// Evaluators that may not make the topic of days do not speak of reports: hosts report
// themselves. When it is there they report over all.
func TestReportsWithoutTheirTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 2, 2)
		o.broker.mu.Lock()
		o.broker.noDays = true
		o.broker.mu.Unlock()
		o.evaluate("e1")
		for _, c := range o.hosts {
			c.log = append(c.log, warning(time.Now(), "pay", 1))
		}
		o.after(untilMidnight + 90*time.Minute)
		if all := o.letters()[o.day(0)]; len(all) != 2 || all[0].Host == "" || all[0].Total != 1 {
			t.Errorf("%+v", all)
		}
		o.broker.mu.Lock()
		o.broker.noDays = false
		o.broker.mu.Unlock()
		for _, c := range o.hosts {
			for range 21 {
				c.log = append(c.log, warning(time.Now(), "shop", 1))
			}
		}
		o.after(time.Minute)
		if fleet, hosts := o.over(); fleet[o.day(1)+" shop"] != 1 || len(hosts) != 0 {
			t.Errorf("over the limit: %v, %v", fleet, hosts)
		}
		o.end()
	})
}

// TestRandomSchedulesOfReports: whatever dies, comes again, twice or late, there is one
// report a day, and its sums are those of the logs.
func TestRandomSchedulesOfReports(t *testing.T) {
	seeds := 24
	if testing.Short() || slow {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomReports(t, rand.New(rand.NewPCG(uint64(seed), 7)), seed%2 == 0) })
		})
	}
}

func randomReports(t *testing.T, rnd *rand.Rand, kills bool) {
	o := newOffice(t, 1+rnd.IntN(3), 2+rnd.IntN(4))
	o.evaluate("e0")
	down := make(map[*clerk]bool)
	quietFrom := untilMidnight + 5*time.Minute
	for time.Since(o.began) < quietFrom {
		elapsed := time.Since(o.began)
		for _, c := range o.hosts {
			if rnd.IntN(3) > 0 {
				continue
			}
			for n := range rnd.IntN(6) {
				at := time.Now()
				if elapsed < untilMidnight-time.Second {
					at = at.Add(-time.Duration(rnd.IntN(3)) * 12 * time.Hour)
				}
				l := warning(at, fmt.Sprint("p", rnd.IntN(4)), n)
				l.warn = rnd.IntN(4) > 0
				c.log = append(c.log, l)
			}
			if !down[c] {
				c.turn()
			}
		}
		o.misfortune(rnd, down, kills)
		time.Sleep(time.Duration(1+rnd.IntN(8)) * time.Second)
		for _, c := range o.hosts {
			if !down[c] {
				c.turn()
			}
		}
	}
	o.broker.mu.Lock()
	o.broker.down = false
	o.broker.mu.Unlock()
	o.setOff(false)
	for _, c := range o.hosts {
		c.behind = false
		if down[c] {
			c.start()
		}
	}
	o.after(5 * time.Minute)
	o.check(o.day(0), o.day(-1))
	fleet, hosts := o.over()
	for _, day := range []string{o.day(0), o.day(1)} {
		for project, n := range o.reference(day) {
			key := day + " " + project
			if got := fleet[key]; got > 1 && !o.killed || (got > 0 || hosts[key] > 0) != (n > 40) {
				t.Errorf("%s has %d lines, and was told of %d times, and by hosts %d times", key, n, got, hosts[key])
			}
		}
	}
	o.end()
}

// misfortune has something happen, now and then.
func (o *office) misfortune(rnd *rand.Rand, down map[*clerk]bool, kills bool) {
	c := o.hosts[rnd.IntN(len(o.hosts))]
	switch rnd.IntN(14) {
	case 0:
		if !down[c] {
			c.kill()
			down[c] = true
		}
	case 1:
		if down[c] {
			c.start()
			down[c] = false
		}
	case 2, 3, 4:
		if !down[c] {
			c.save()
		}
	case 5:
		c.behind = !c.behind
	case 6:
		last := o.evals[len(o.evals)-1]
		if kills && rnd.IntN(2) == 0 {
			last.kill()
			o.killed = true
		} else {
			last.stop()
		}
		<-last.ended
		o.evaluate(fmt.Sprint("e", len(o.evals)))
	case 7:
		o.broker.mu.Lock()
		o.broker.down = !o.broker.down && rnd.IntN(3) == 0
		o.broker.mu.Unlock()
	case 8:
		o.again(rnd)
	case 9:
		o.setOff(rnd.IntN(2) == 0)
	}
}

// again appends records of nodes that are there once more.
func (o *office) again(rnd *rand.Rand) {
	o.broker.mu.Lock()
	defer o.broker.mu.Unlock()
	for p := range o.broker.count {
		all := slices.Clone(o.broker.topics[topicPartition{Days, p}])
		for range min(len(all), 20) {
			r := all[rnd.IntN(len(all))]
			var s said
			if json.Unmarshal(r.Value, &s) == nil && s.State == nil {
				o.broker.appendLocked(Days, p, []Record{r})
			}
		}
	}
}
