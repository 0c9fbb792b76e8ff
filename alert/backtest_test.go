package alert

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

func TestBacktestFiresAsTheAgentWouldHave(t *testing.T) {
	rules := append(referenceRules(t),
		mustCompile(t, RuleConfig{Name: "quiet", Per: []string{"project"}, When: "count() == 0", Within: 300e9, Inputs: []string{"apps"}}))
	var got []string
	b := NewBacktest(rules, func(e Event) { got = append(got, short(e)) })
	if got := b.Stats(); len(got) != 4 {
		t.Error(got)
	}
	pay, gw := b.Tap("apps", false, originOf("pay", "h")), b.Tap("gateway", false, originOf("gw", "h"))
	line := func(tap *Tap, sec float64, r *record.Record) {
		b.To(milli(sec))
		tap.Observe(r, milli(sec), []byte("text"))
	}
	for i := range 12 { // twelve errors in twelve seconds
		line(pay, float64(i), anError)
	}
	for i := range 100 {
		line(gw, 20+float64(i)/100, lineOf(0, "status_code", "=200", "path", "/a", "request_time", "=0.1"))
		if i%10 == 0 {
			line(gw, 20+float64(i)/100, lineOf(0, "status_code", "=503", "path", "/b", "request_time", "=4", "upstream_time", "=4"))
		}
	}
	line(pay, 600, anInfo)
	line(pay, 599, anInfo) // a little out of order
	year := 365 * 86400.0
	line(pay, year, aFatal)
	b.Finish()
	want := []string{
		"opened app-errors [pay] 9-9",
		"opened slow [gw /b] 20-20",
		"opened gateway-5xx [gw] 20-20",
		"resolved app-errors [pay] 9-61",
		"resolved gateway-5xx [gw] 20-79",
		"resolved slow [gw /b] 20-83", // percentiles leave by slots of 5 s
		"opened quiet [pay] 311-311",
		"resolved quiet [pay] 311-598",
		"opened quiet [pay] 900-900",
	}
	if strings.Join(got[:min(len(got), len(want))], "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last := got[len(got)-1]; last != "opened app-errors [pay] 31536000-31536000" {
		t.Errorf("the last: %s", last)
	}
}

// TestBacktestSaysTheSameEachTime: two runs can be compared, though fifty groups fire and
// end in the same second.
func TestBacktestSaysTheSameEachTime(t *testing.T) {
	run := func() string {
		var got []string
		b := NewBacktest(referenceRules(t), func(e Event) { got = append(got, short(e)) })
		gw := b.Tap("gateway", false, originOf("gw", "h"))
		for sec := range 200 {
			b.To(milli(float64(sec)))
			for i := range 50 {
				if sec < 20 {
					gw.Observe(lineOf(0, "status_code", "=200", "path", fmt.Sprint("/", i), "request_time", "=7", "upstream_time", "=0.1"), milli(float64(sec)), nil)
				}
			}
		}
		b.Finish()
		return strings.Join(got, "\n")
	}
	first := run()
	if strings.Count(first, "opened slow") != 50 || strings.Count(first, "resolved slow") != 50 {
		t.Fatalf("the test is void:\n%s", first)
	}
	for range 3 {
		if again := run(); again != first {
			t.Fatalf("first\n%s\nthen\n%s", first, again)
		}
	}
}

func BenchmarkBacktest(b *testing.B) {
	bt := NewBacktest(referenceRules(b), func(Event) {})
	tap := bt.Tap("gateway", false, originOf("gw", "h"))
	lines := gatewayLines(256)
	b.SetBytes(int64(len(gatewayLine)))
	b.ReportAllocs()
	ms := noon.UnixMilli()
	for i := 0; b.Loop(); i++ {
		if i%16 == 0 {
			ms++ // 16,000 lines a second
		}
		bt.To(ms)
		tap.Observe(lines[i&255], ms, gatewayLine)
	}
}
