package alert

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// crowd is a fleet whose nodes all count lines of all groups, and the engine that adds
// them up.
type crowd struct {
	*world
	nodes   []*Node
	groups  int
	version uint64
}

func newCrowd(t *testing.T, nodes, groups int, limit int64) *crowd {
	rule := mustCompile(t, RuleConfig{Name: "slow", Per: []string{"path"}, Scope: "fleet", When: "p99(request_time) > 5s or count(status_code >= 500) >= 5000", Lateness: 30 * time.Second, StaleAfter: time.Minute})
	c := &crowd{world: newWorld(t, rule), groups: groups}
	c.engine.Limit(limit)
	for i := range nodes {
		c.nodes = append(c.nodes, c.engine.Node(fmt.Sprint("web-", i)))
	}
	return c
}

// report has a node say what it has counted of a second, and of the slot that ends there.
func (c *crowd) report(node, group int, sec int64, lines uint32, seconds float64) {
	c.version++
	r := c.rules[0]
	p := Partial{Rule: r.Identity(), Group: []string{fmt.Sprint("/", group)}, Version: c.version, Seconds: []Second{{At: noon.Unix() + sec, Counts: []uint32{lines}}}}
	if at := noon.Unix() + sec; (at+1)%r.slot == 0 {
		var bins []Bin
		for i := range int32(20) {
			bins = append(bins, Bin{binOf(seconds) + i, 5})
		}
		p.Slots = []Slot{{At: at + 1 - r.slot, Bins: [][]Bin{bins}}}
	}
	c.nodes[node].Merge(&p)
}

// pass lets seconds pass in each of which each node counts lines of each group.
func (c *crowd) pass(from, til int64, lines func(group int) uint32, seconds float64) {
	for sec := from; sec < til; sec++ {
		c.now = noon.Add(time.Duration(sec)*time.Second + time.Second)
		for node := range c.nodes {
			for group := range c.groups {
				c.report(node, group, sec, lines(group), seconds)
			}
			c.nodes[node].Mark([]Mark{{Rule: c.rules[0].Identity(), Newest: noon.Unix() + sec, Reached: noon.Unix() + sec + 1}})
		}
		c.engine.Decide()
		c.engine.Tick()
	}
}

func few(int) uint32 { return 1 }

// TestAFleetsCountsKeepToTheirMemory: many nodes count many groups, and who has counted
// what of each second is more than there is memory for. What has been counted stays
// exact, and fires; what a node corrects when it is too late for that is counted as such.
func TestAFleetsCountsKeepToTheirMemory(t *testing.T) {
	nodes, groups := 40, 60
	before := heap()
	c := newCrowd(t, nodes, groups, 6<<20)
	c.pass(0, 120, few, 0.1)
	s := c.engine.Stats()[0]
	t.Logf("%d groups, %d MiB weighed, %d MiB on the heap", s.Groups, s.Bytes>>20, (heap()-before)>>20)
	if have := heap() - before; have > 8<<20 || s.Bytes < have/2 {
		t.Errorf("%d KiB were weighed, the heap has %d KiB more", s.Bytes>>10, have>>10)
	}
	if s.Groups != groups || s.Overflow != 0 || s.Frozen != 0 || s.Late != 0 {
		t.Fatalf("%+v", s)
	}
	c.want()
	c.report(3, 7, 60, 500, 0.1) // once there was memory for it
	if s := c.engine.Stats()[0]; s.Frozen != 500 {
		t.Errorf("what came too late: %+v", s)
	}
	c.report(3, 7, 118, 20, 0.1) // a correction that is in time
	c.pass(120, 121, few, 0.1)
	for key, g := range c.engine.watches[0].groups {
		sum, want := int64(0), int64(nodes*60)
		for i := range g.secs {
			if g.secs[i] > g.secs[len(g.secs)-1]-60 {
				sum += int64(g.counts(i)[0])
			}
		}
		if key == joinKey([]string{"/7"}) {
			want += 19
		}
		if sum != want {
			t.Errorf("%q: %d lines of a minute were counted, there were %d", key, sum, want)
		}
	}
	c.report(0, 5, 121, 3000, 0.1)
	c.pass(121, 122, few, 0.1)
	c.want()
	c.report(0, 5, 121, 3000, 0.1)
	c.engine.Decide()
	c.want("opened slow [/5] 121-122")
	runtime.KeepAlive(c)
}

// TestAFleetThatDoesNotFitIsLeftOutByName: with far too little memory groups are shed,
// and the log can say which; those that fire stay, and nobody hears that they are over;
// and those that are left are counted to the line.
func TestAFleetThatDoesNotFitIsLeftOutByName(t *testing.T) {
	c := newCrowd(t, 40, 60, 1<<20)
	loud := func(group int) uint32 {
		if group == 59 {
			return 30
		}
		return 1
	}
	c.pass(0, 6, loud, 0.1)
	c.want("opened slow [/59] 4-4")
	c.pass(6, 90, loud, 0.1)
	c.want()
	s := c.engine.Stats()[0]
	if s.Groups == 0 || s.Groups > 40 || s.Overflow < 1000 || len(s.Overflowed) == 0 || !s.Tight || s.Firing != 1 || s.Bytes > 1<<20 {
		t.Errorf("%+v", s)
	}
	for key, g := range c.engine.watches[0].groups {
		for i := range g.secs[1:] { // some were admitted again in the middle of a second
			if n := g.counts(i + 1)[0]; n != 40 && n != 40*30 {
				t.Errorf("%q: %d lines were counted of second %d", key, n, g.secs[i+1]-noon.Unix())
			}
		}
	}
	c.groups = 0
	for sec := int64(90); sec < 400; sec += 10 {
		c.pass(sec, sec+1, few, 0.1)
	}
	c.want("resolved slow [/59] 4-144")
	c.groups = 3
	c.pass(400, 402, few, 0.1)
	if s := c.engine.Stats()[0]; s.Groups != 3 || s.Tight {
		t.Errorf("they are not admitted again: %+v", s)
	}
}
