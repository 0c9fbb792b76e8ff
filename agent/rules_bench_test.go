package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

// gatewayTraffic returns whole lines of a gateway with about so many paths.
func gatewayTraffic(tb testing.TB, paths int, size string) []byte {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "access.log")
	out, err := exec.Command("go", "run", "../bench/loggen", "-kind", "nginx", "-o", name, "-size", size, "-numbers", fmt.Sprint(paths/8)).CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// laterParser gives lines that are read again and again times that go on, so many of
// them a second.
type laterParser struct {
	parser.Parser
	rate, lines int64
}

func (p *laterParser) Parse(line []byte, r *record.Record) {
	p.Parser.Parse(line, r)
	p.lines++
	r.Time = backlogBegins + p.lines*1000/p.rate
}

var backlogBegins = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC).UnixMilli()

// backlog returns a function that takes a chain over data as over the next part of a
// long file: look by look, each counted and encoded, and shown to the rules.
func backlog(tb testing.TB, data []byte, rate int, rules ...*alert.Rule) func() {
	tb.Helper()
	_, c := consumer(tb, benchFormats["nginx"], data[:1000])
	f := c.flow
	f.agent.alerts = new(alerts)
	c.parser = &laterParser{Parser: c.parser, rate: int64(rate)}
	began := time.Now()
	now := func() time.Time { return time.Date(2026, 12, 23, 20, 0, 0, 0, time.UTC).Add(time.Since(began)) }
	engine := alert.New(rules, now, func(alert.Event) {})
	if len(rules) > 0 {
		f.tap = &tap{taps: taps{rules: engine.Tap("gen", "gateway", false, c.origin)}}
	}
	w := newWorker(f.agent)
	w.block.Renew(nil)
	c.framer.Reset(record.Pos{}, nil)
	base, ticked := int64(0), began
	return func() {
		for end := base + int64(len(data)); base < end; base = c.pos.Off {
			part := data[int64(len(data))-(end-base):]
			n := copy(w.data(), part[:min(len(part), 100<<10)]) // the documents nearly fill a block
			c.consume(w, &parser.Look{Data: w.data()[:n], Base: base, Now: time.Now()})
			if c.pos.Off == base {
				tb.Fatal("no line ends in the look")
			}
			f.observed(c, false)
			w.block.Renew(nil)
			if time.Since(ticked) > tickEvery {
				engine.Tick()
				ticked = time.Now()
			}
		}
	}
}

// ruleSets are rules over a gateway's lines.
var ruleSets = []struct {
	name  string
	rules []alert.RuleConfig
}{
	{"project", []alert.RuleConfig{
		{Name: "5xx", Per: []string{"project"}, When: "share(status_code >= 500) > 5% and count() >= 50"},
		{Name: "errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1"}}},
	{"path", []alert.RuleConfig{
		{Name: "5xx", When: "share(status_code >= 500) > 5% and count() >= 50"},
		{Name: "slow", Per: []string{"project", "path"}, When: "p99(request_time) > 1s and count() >= 20 or count(upstream_time > 3s) >= 10"}}},
}

// BenchmarkRulesOverABacklog is what a line of a gateway costs on its way to the queue
// without rules, and what more with rules by project, and by path with a percentile; of a
// gateway that wrote 1,400 lines a second, and of one that wrote 50,000. Both are measured
// in turns, in CPU time, as the machine may be slower in the next second.
func BenchmarkRulesOverABacklog(b *testing.B) {
	for _, paths := range []int{64, 900} {
		data := gatewayTraffic(b, paths, "8MiB")
		for _, rate := range []int{1400, 50_000} {
			for _, set := range ruleSets {
				b.Run(fmt.Sprintf("paths=%d/rate=%d/%s", paths, rate, set.name), func(b *testing.B) {
					var rules []*alert.Rule
					for _, cfg := range set.rules {
						r, err := alert.Compile(cfg)
						if err != nil {
							b.Fatal(err)
						}
						rules = append(rules, r)
					}
					benchmarkRules(b, data, backlog(b, data, rate), backlog(b, data, rate, rules...))
				})
			}
		}
	}
}

func benchmarkRules(b *testing.B, data []byte, plain, watched func()) {
	var without, with time.Duration
	watched() // the groups are known
	plain()
	n := 0
	for b.Loop() {
		began := cpuTime(b)
		plain()
		between := cpuTime(b)
		watched()
		without += between - began
		with += cpuTime(b) - between
		n++
	}
	lines := float64(n * bytes.Count(data, []byte("\n")))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(without)/lines, "ns/line")
	b.ReportMetric(float64(with-without)/lines, "more-ns/line")
	b.ReportMetric(100*float64(with-without)/float64(without), "%")
}

// cpuTime is what the process has taken so far, the collector's part included.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
