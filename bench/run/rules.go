package main

import (
	"fmt"
)

// ruleSets are rules over a gateway, with what a line may cost more for each.
var ruleSets = []struct{ name, alerts string }{
	{"by project", `
  gateway-5xx: {per: project, when: 'share(status_code >= 500) > 5% and count() >= 50'}
  app-errors: {per: project, when: 'error >= 10 or fatal >= 1'}
`},
	{"by path, with a percentile", `
  gateway-5xx: {when: 'share(status_code >= 500) > 5% and count() >= 50'}
  slow: {per: 'project, path', when: 'p99(request_time) > 1s and count() >= 20 or count(upstream_time > 3s) >= 10'}
`},
}

// rules measures what a line costs the agent more while rules watch it. The share is
// that of rounds in each of which the agent runs with the rules right after it has run
// without: the machine may be slower in the next minute.
func (b *bench) rules() error {
	b.report.section("Rules", "nginx lines of a gateway whose paths hold 7 or 112 different numbers, discard, one core; CPU time of the agent, medians",
		"what", "ns a line without rules", "ns a line with them", "more", "wanted at most")
	for _, numbers := range []int{7, 112} {
		name, err := b.gateway(numbers)
		if err != nil {
			return err
		}
		n, err := countLines([]string{name})
		if err != nil {
			return err
		}
		for _, set := range ruleSets {
			type costs struct{ without, with float64 }
			var rounds []costs
			for range b.rounds {
				without, err := b.shipWatched(formats[0].format, []string{name}, 1, "discard: {}", "")
				if err != nil {
					return err
				}
				with, err := b.shipWatched(formats[0].format, []string{name}, 1, "discard: {}", "alerts:"+set.alerts)
				if err != nil {
					return err
				}
				rounds = append(rounds, costs{float64(without.cpu) / float64(n), float64(with.cpu) / float64(n)})
			}
			b.report.row(fmt.Sprintf("%s, %d paths", set.name, 8*numbers+4), fmt.Sprintf("%.0f", median(rounds, func(c costs) float64 { return c.without })),
				fmt.Sprintf("%.0f", median(rounds, func(c costs) float64 { return c.with })),
				fmt.Sprintf("%.1f %%", 100*median(rounds, func(c costs) float64 { return c.with/c.without - 1 })), "10 %")
		}
	}
	return nil
}
