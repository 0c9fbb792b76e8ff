package config

import (
	"strings"
	"testing"
)

// TestRulesThatNeedMoreMemoryThanThereIs are allowed, and warned of with what to write
// instead, which is then right.
func TestRulesThatNeedMoreMemoryThanThereIs(t *testing.T) {
	const head = "limits: {memory: MEMORY}\ninputs: {a: {files: /a.log}}\noutputs: {o: {discard: {}}}\nalerts:\n"
	const slow = "  slow:\n    per: project, path\n    when: p99(request_time) > 1s\n    max_groups: GROUPS\n"
	const all = "  all: {when: error >= 1}\n"
	load := func(memory, groups, rules string) (*Config, string) {
		t.Helper()
		text := strings.NewReplacer("MEMORY", memory, "GROUPS", groups).Replace(head + rules)
		c, problems := Parse("tw.yml", []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		var told []string
		for _, w := range c.Warnings {
			told = append(told, w.String())
		}
		return c, strings.Join(told, "\n")
	}
	if c, told := load("256MiB", "1000", all+slow); told != "" || c.AlertMemory() != 64<<20 {
		t.Errorf("the default gets the warning %s", told)
	}
	_, told := load("256MiB", "20000", all+slow)
	if !strings.HasPrefix(told, "tw.yml:6: alerts.slow: with max_groups: 20000 this rule may need ") || strings.Contains(told, "\n") {
		t.Fatalf("%s", told)
	}
	_, remedy, _ := strings.Cut(told, "; write max_groups: ")
	groups, memory, _ := strings.Cut(remedy, " here, or limits.memory: ")
	if _, told := load("256MiB", groups, all+slow); told != "" {
		t.Errorf("with max_groups: %s: %s", groups, told)
	}
	if _, told := load(memory, "20000", all+slow); told != "" {
		t.Errorf("with limits.memory: %s: %s", memory, told)
	}
	if _, told := load("16MiB", "1", "  day: {when: avg(size) > 1KiB, within: 1d, lateness: 1d}\n"+all); !strings.Contains(told, "tw.yml:5: alerts.day: ") || strings.Contains(told, "write max_groups") {
		t.Errorf("%s", told)
	}
}
