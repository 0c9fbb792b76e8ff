package agent

import (
	"time"

	"github.com/tailwater/tailwater/alert"
)

// overflowEvery is how often groups beyond max_groups are looked for.
const overflowEvery = 10 * time.Second

// overflows knows of which rules it has been told that lines do not count: their groups
// are beyond max_groups, or memory is used up.
type overflows struct {
	at    time.Time
	known map[string]uint64 // lines, by rule
}

// note returns the rules of which more lines did not count than at the last look.
func (o *overflows) note(now time.Time, stats func() []alert.RuleStats) (grown []alert.RuleStats) {
	if now.Sub(o.at) < overflowEvery {
		return nil
	}
	o.at = now
	was := o.known
	o.known = make(map[string]uint64)
	for _, s := range stats() {
		lines := s.Overflow + s.Frozen
		o.known[s.Rule] = lines
		if lines > was[s.Rule] {
			grown = append(grown, s)
		}
	}
	return grown
}

// tellOverflows says which rules do not count all lines, and groups that are left out.
func (al *alerts) tellOverflows(now time.Time) {
	for _, s := range al.overflows.note(now, al.stats) {
		why := "a rule has more groups than max_groups, and the lines of the others do not count; raise max_groups, or group by less"
		switch {
		case s.Tight:
			why = "the rules have used up their memory, and the lines of new groups do not count; raise limits.memory, or group by less"
		case s.Frozen > 0 && s.Overflow == 0:
			why = "what the fleet counts has used up its memory, and lines that hosts report late do not count; raise limits.memory, or group by less"
		}
		al.agent.log.Warn(why, "rule", s.Rule, "lines", s.Overflow+s.Frozen, "such_as", s.Overflowed)
	}
}
