package agent

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

const gatewayFormat = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time $upstream_response_time $request_id`

// traffic returns about 100 KiB of whole events as bench/loggen makes them.
func traffic(tb testing.TB, kind string) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), kind)
	out, err := exec.Command("go", "run", "../bench/loggen", "-kind", kind, "-o", path, "-size", "100KiB").CombinedOutput()
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// consumer returns a function that takes a chain over data once: framing, parsing,
// counting and encoding, all that is done for a line on its way to the queue. The chain
// is for those who want to add to it.
func consumer(tb testing.TB, format parser.Config, data []byte) (func(), *chain) {
	tb.Helper()
	compiled, err := parser.Compile(format)
	if err != nil {
		tb.Fatal(err)
	}
	compiled, _ = compiled.Detect(data)
	framer, err := compiled.NewFramer()
	if err != nil {
		tb.Fatal(err)
	}
	a := &Agent{metrics: newMetrics()}
	a.blocks = newBlocks(func() []string { return nil })
	in := &input{name: "bench", cfg: &config.Input{}, agent: a, metrics: a.metrics.input("bench")}
	for l := range in.keep {
		in.keep[l] = true
	}
	f := &flow{agent: a, in: in, view: &view{keep: in.keep}, blocked: make(map[*output]time.Time)}
	c := &chain{flow: f, members: []*track{{}}, framer: framer, parser: compiled.NewParser()}
	c.origin = record.NewOrigin(record.OriginFields{Machine: "k3v9x2ma", Generation: "8f3kq09zt5mw", Host: "gw-1", Input: "gateway", File: "/var/log/nginx/access.log", Project: "gateway"})
	f.lead = c
	w := newWorker(a)
	w.block.Data = make([]byte, 0, 1<<20)
	copy(w.data(), data)
	now := time.Now()
	return func() {
		c.pos = record.Pos{}
		clear(f.counted[:])
		framer.Reset(c.pos, nil)
		w.block.Renew(nil)
		w.remember(nil)
		w.timed = false
		c.consume(w, &parser.Look{Data: w.data()[:len(data)], Now: now})
	}, c
}

var benchFormats = map[string]parser.Config{
	"nginx": {Kind: "nginx", Nginx: gatewayFormat},
	"json":  {Kind: "auto"},
	"app":   {Kind: "auto"},
}

func BenchmarkChain(b *testing.B) {
	for _, kind := range []string{"nginx", "json", "app"} {
		b.Run(kind, func(b *testing.B) {
			data := traffic(b, kind)
			run, _ := consumer(b, benchFormats[kind], data)
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

func TestALineIsShippedWithoutAnAllocation(t *testing.T) {
	for kind, format := range benchFormats {
		run, _ := consumer(t, format, traffic(t, kind))
		run()
		if n := testing.AllocsPerRun(20, run); n > 1 { // the look itself
			t.Errorf("%s: %v allocations for a look of some hundred lines", kind, n)
		}
	}
}
