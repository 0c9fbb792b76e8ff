package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// watchedBy is consumer with the reference rules watching.
func watchedBy(tb testing.TB, kind string, data []byte) func() {
	tb.Helper()
	var rules []*alert.Rule
	for _, c := range []alert.RuleConfig{
		{Name: "app-errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1"},
		{Name: "gateway-5xx", Per: []string{"project"}, When: "share(status_code >= 500) > 5% and count() >= 50"},
		{Name: "slow", Per: []string{"project", "path"}, When: "p99(request_time) > 1s or count(upstream_time > 3s) >= 10"},
	} {
		r, err := alert.Compile(c)
		if err != nil {
			tb.Fatal(err)
		}
		rules = append(rules, r)
	}
	engine := alert.New(rules, time.Now, func(alert.Event) {})
	run, c := consumer(tb, benchFormats[kind], data)
	f := c.flow
	f.agent.alerts = new(alerts)
	f.tap = &tap{taps: taps{rules: engine.Tap("gen", "gateway", false, c.origin)}}
	return func() {
		f.tap.passed = passed{}
		run()
		f.observed(c, true)
	}
}

func BenchmarkWatchedChain(b *testing.B) {
	for _, kind := range []string{"nginx", "json", "app"} {
		b.Run(kind, func(b *testing.B) {
			data := traffic(b, kind)
			run := watchedBy(b, kind, data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				run()
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/float64(bytes.Count(data, []byte("\n"))), "ns/line")
		})
	}
}
