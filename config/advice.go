package config

import (
	"fmt"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/internal/units"
)

// AlertMemory is the part of limits.memory that the windows of the rules may take and,
// where this process decides over a fleet, as much again what the fleet counts.
func (c *Config) AlertMemory() units.Bytes { return c.Limits.Memory / 4 }

// Advise warns of rules whose groups may need more memory than there is for them.
func (c *Config) Advise(warning func(key, text string)) {
	var need, most int64
	var largest *Alert
	for _, a := range c.Alerts {
		r, err := alert.Compile(a.Rule())
		if err != nil {
			return
		}
		n := r.Need()
		if need += n; n > most {
			most, largest = n, a
		}
	}
	have := int64(c.AlertMemory())
	if need <= have {
		return
	}
	remedy := fmt.Sprintf("limits.memory: %s", wholeMiB(need*4))
	if left := have - (need - most); left > 0 && len(largest.Per) > 0 {
		if groups := int64(largest.MaxGroups) * left / most; groups > 0 {
			remedy = fmt.Sprintf("max_groups: %d here, or %s", groups, remedy)
		}
	}
	warning("alerts."+largest.Name, fmt.Sprintf(
		"with max_groups: %d this rule may need %s of memory, all rules together %s, and a quarter of limits.memory, %s, is theirs; "+
			"when that is used up percentiles become coarse and new groups are left out; write %s",
		largest.MaxGroups, wholeMiB(most), wholeMiB(need), c.AlertMemory(), remedy))
}

// wholeMiB rounds up, to be read.
func wholeMiB(n int64) units.Bytes {
	return units.Bytes((n+int64(units.MiB)-1)/int64(units.MiB)) * units.MiB
}
