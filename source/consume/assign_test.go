package consume

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// crowd plays the members of a group: what they are given, they have.
type crowd struct {
	t     *testing.T
	there layout
	all   []*claim
}

// settle shares out, and again as members give up what others get, and checks that
// nothing is ever another's before it is given up.
func (c *crowd) settle() (rounds, moved int) {
	c.t.Helper()
	for {
		rounds++
		if rounds > 3 {
			c.t.Fatal("it does not come to an end")
		}
		again := false
		result := assign(c.all, c.there)
		owners := make(map[partitionID]string)
		for _, m := range c.all {
			for _, id := range m.owned {
				owners[id] = m.member
			}
		}
		for _, m := range c.all {
			for _, id := range result[m.member] {
				if o, owned := owners[id]; owned && o != m.member {
					c.t.Fatalf("%v goes to %s while %s has it", id, m.member, o)
				}
			}
			for _, id := range m.owned {
				if !slices.Contains(result[m.member], id) {
					again = true
					moved++
				}
			}
		}
		for _, m := range c.all {
			m.owned = result[m.member]
			m.generation++
		}
		if !again {
			return rounds, moved
		}
	}
}

// check that each partition is read once, and that the loads are about the same.
func (c *crowd) check() {
	c.t.Helper()
	seen := make(map[partitionID]int)
	least, most := 1<<30, 0
	for _, m := range c.all {
		for _, id := range m.owned {
			seen[id]++
		}
		least, most = min(least, len(m.owned)), max(most, len(m.owned))
	}
	for topic, leaders := range c.there {
		for i := range leaders {
			if n := seen[partitionID{topic, i}]; n != 1 {
				c.t.Fatalf("%s/%d is read %d times", topic, i, n)
			}
		}
	}
	if most-least > 1 {
		c.t.Errorf("one reads %d, another %d", least, most)
	}
}

func TestMembersComeAndGo(t *testing.T) {
	globs := []string{"logs-*"}
	c := &crowd{t: t, there: layout{"logs-a": make([]int32, 12), "logs-b": make([]int32, 1)}}
	c.all = []*claim{{member: "m0", globs: globs}}
	c.settle()
	c.check()
	for i := range 200 {
		switch rand.IntN(4) {
		case 0:
			c.all = append(c.all, &claim{member: fmt.Sprint("m", i+1), globs: globs})
		case 1:
			if len(c.all) > 1 {
				c.all = slices.Delete(c.all, 0, 1)
			}
		case 2:
			c.there["logs-"+string(rune('a'+rand.IntN(5)))] = make([]int32, 1+rand.IntN(9))
		case 3:
			delete(c.there, "logs-c")
		}
		c.settle()
		c.check()
	}
}

func TestAFourthMemberMovesNoMoreThanItsShare(t *testing.T) {
	c := &crowd{t: t, there: layout{"logs-a": make([]int32, 12)}}
	for i := range 3 {
		c.all = append(c.all, &claim{member: fmt.Sprint("m", i), globs: []string{"logs-*"}})
	}
	c.settle()
	c.all = append(c.all, &claim{member: "m3", globs: []string{"logs-*"}})
	if rounds, moved := c.settle(); rounds != 2 || moved != 3 {
		t.Errorf("%d partitions moved in %d rounds, not 3 in 2", moved, rounds)
	}
	c.check()
}

func TestAMemberThatWasTakenForDeadOwnsNothingOfOthers(t *testing.T) {
	id := partitionID{"logs-a", 0}
	late := &claim{member: "a", globs: []string{"logs-*"}, owned: []partitionID{id}, generation: 3}
	now := &claim{member: "b", globs: []string{"logs-*"}, owned: []partitionID{id}, generation: 5}
	got := assign([]*claim{late, now}, layout{"logs-a": {1}})
	if len(got["a"]) != 0 || len(got["b"]) != 1 {
		t.Error(got)
	}
}

func TestTopicsGoToThoseThatReadThem(t *testing.T) {
	got := assign([]*claim{{member: "a", globs: []string{"x"}}, {member: "b", globs: []string{"y"}}}, layout{"x": {1, 1, 1}, "y": {1}, "z": {1}})
	if len(got["a"]) != 3 || len(got["b"]) != 1 {
		t.Error(got)
	}
}

func TestClaimsComeBackAsTheyWere(t *testing.T) {
	c := &claim{"m", []string{"logs-*"}, []partitionID{{"a", 0}, {"a", 2}, {"b", 1}}, 7}
	data, err := c.encode([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeClaim("m", data)
	if err != nil || !slices.Equal(got.owned, c.owned) || got.generation != 7 || !slices.Equal(got.globs, c.globs) {
		t.Errorf("%+v, %v", got, err)
	}
	share, err := encodeShare(c.owned)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := decodeShare(share); err != nil || !slices.Equal(ids, c.owned) {
		t.Error(ids, err)
	}
}
