package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/config"
)

// watchedBy is consumer with the rules of examples/alerts.yaml watching, those of its
// gateway for nginx, else those of its applications.
func watchedBy(tb testing.TB, kind string, data []byte) func() {
	tb.Helper()
	cfg, problems := config.Load("../examples/alerts.yaml")
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	rules, err := compileRules(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	input := "apps"
	if kind == "nginx" {
		input = "gateway"
	}
	newest := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC) // the lines' time, where the clock stands
	engine := alert.New(rules, func() time.Time { return newest }, func(alert.Event) {})
	run, c := consumer(tb, benchFormats[kind], data)
	f := c.flow
	f.agent.alerts = new(alerts)
	f.tap = &tap{taps: taps{rules: engine.Tap("gen", input, false, c.origin)}}
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
