package alert

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// referenceRules are those of the configuration's example.
func referenceRules(t testing.TB) []*Rule {
	return []*Rule{
		mustCompile(t, RuleConfig{Name: "app-errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1"}),
		mustCompile(t, RuleConfig{Name: "gateway-5xx", Inputs: []string{"gateway"}, Per: []string{"project"}, When: "share(status_code >= 500) > 5% and count() >= 50"}),
		mustCompile(t, RuleConfig{Name: "slow", Per: []string{"project", "path"}, When: "p99(request_time) > 1s or count(upstream_time > 3s) >= 10"}),
	}
}

// gatewayLines are records as the nginx parser makes them.
func gatewayLines(n int) []*record.Record {
	var out []*record.Record
	for i := range n {
		r := lineOf(record.LevelNone,
			"remote_addr", "10.1.2.3", "method", "GET", "path", fmt.Sprintf("/api/v1/orders/%d/items", i%64), "query", "page=2", "http_version", "1.1",
			"status_code", []string{"=200", "=200", "=404", "=502"}[i%100/33], "bytes_sent", "=5123", "referer", "https://shop.example/cart", "user_agent", "Mozilla/5.0",
			"request_time", fmt.Sprintf("=0.%03d", i%700+20), "upstream_time", fmt.Sprintf("=0.%03d", i%600+10), "request_id", "4f5a1c0e9b7d4f5a1c0e9b7d4f5a1c0e")
		out = append(out, r)
	}
	return out
}

// gatewayLine stands for the text; only its length is of interest.
var gatewayLine = make([]byte, 279)

func observing(t testing.TB, input string) (*Engine, *Tap, *time.Time) {
	now := noon
	e := New(referenceRules(t), func() time.Time { return now }, func(Event) {})
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Input: input, File: "/var/log/nginx/access.log", Project: "gateway"})
	return e, e.Tap("g", input, false, o), &now
}

func TestObservingKnownGroupsDoesNotAllocate(t *testing.T) {
	e, tap, now := observing(t, "gateway")
	lines := gatewayLines(1000)
	lines = append(lines, anError, aFatal, anInfo)
	ms := noon.UnixMilli()
	turn := func() {
		for i, r := range lines {
			tap.Observe(r, ms-int64(i%3000), gatewayLine)
		}
		tap.Flush(record.Pos{}, true)
		ms += 50
		*now = time.UnixMilli(ms)
		e.Tick()
	}
	for range 4000 { // the windows are full, the memory is what it will be
		turn()
	}
	if a := testing.AllocsPerRun(100, turn); a != 0 {
		t.Errorf("%v allocations in a turn of 1003 lines, its flush and a tick", a)
	}
}

// TestStatusesOfEverySize are counted as the predicates say, which are answered in
// advance for those that HTTP has.
func TestStatusesOfEverySize(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "failed", When: "count(status_code >= 500 and status_code != 503 or not status_code >= 100) >= 4 and count() >= 8"}))
	w.settled()
	tap := w.tap("pay", "a")
	for _, status := range []int32{200, 503, 499} {
		w.lines(tap, 1, 11, &record.Record{Status: status})
	}
	for _, status := range []int32{0, 500, 599} {
		w.lines(tap, 1, 11, &record.Record{Status: status})
	}
	w.lines(tap, 1, 11, &record.Record{Status: 302})
	tap.Flush(record.Pos{}, true)
	w.want()
	w.lines(tap, 1, 11, &record.Record{Status: 999})
	tap.Flush(record.Pos{}, true)
	w.want("opened failed [] 11-11")
}

// BenchmarkObserve is the three reference rules on one line of a gateway: all rules
// apply, one of them by path. As in a chain, one record is filled for each line. The
// flush of a turn of 4,000 lines is part of it.
func BenchmarkObserve(b *testing.B) {
	for _, paths := range []int{64, 900, 1 << 20} { // the last has ids in them, and groups are left out
		b.Run(fmt.Sprintf("gateway/paths=%d", paths), func(b *testing.B) {
			e, tap, now := observing(b, "gateway")
			r := gatewayLines(1)[0]
			names := make([][]byte, max(1024, min(paths, 1<<16)))
			for i := range names { // a few are frequent, as in life
				n := rand.N(paths)
				names[i] = fmt.Appendf(nil, "/api/v1/orders/%d/items", n*n/paths)
			}
			benchmarkTurns(b, e, tap, now, func(i int) *record.Record {
				r.Fields[2].Val = names[i&(len(names)-1)]
				r.Status = 200
				if i&31 == 0 {
					r.Status = 502
				}
				r.RequestTime = float64(i&511+20) / 1000
				r.UpstreamTime = r.RequestTime - 0.01
				return r
			})
		})
	}
	b.Run("app", func(b *testing.B) {
		e, tap, now := observing(b, "apps")
		benchmarkTurns(b, e, tap, now, func(i int) *record.Record {
			if i&127 == 0 {
				return anError
			}
			return anInfo
		})
	})
}

func benchmarkTurns(b *testing.B, e *Engine, tap *Tap, now *time.Time, line func(i int) *record.Record) {
	ms := noon.UnixMilli()
	b.SetBytes(int64(len(gatewayLine)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tap.Observe(line(i), ms, gatewayLine)
		if i++; i&4095 == 0 {
			tap.Flush(record.Pos{}, true)
			ms += 10 // 300,000 lines a second
			*now = time.UnixMilli(ms)
		}
		if i&1023 == 0 {
			ms++
		}
	}
	e.Tick()
}

// BenchmarkObserveFilesOfSeveralTimes is a backlog of ten files of one project, each a minute
// behind the one before, and a rule with a percentile: most lines are of slots in the middle.
func BenchmarkObserveFilesOfSeveralTimes(b *testing.B) {
	now := noon.Add(time.Hour)
	rule := mustCompile(b, RuleConfig{Name: "slow", Per: []string{"project"}, When: "p99(request_time) > 5s"})
	e := New([]*Rule{rule}, func() time.Time { return now }, func(Event) {})
	var taps []*Tap
	for i := range 10 {
		taps = append(taps, e.Tap(fmt.Sprint(i), "gateway", false, originOf("shop", "h")))
	}
	r := gatewayLines(1)[0]
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		t := i >> 9 % len(taps)
		r.RequestTime = 0.001 + rng.ExpFloat64()*0.2
		taps[t].Observe(r, noon.UnixMilli()+int64(i/50)-int64(t)*60_000, gatewayLine) // 5,000 lines a second and file
		if i++; i&511 == 0 {
			taps[t].Flush(record.Pos{}, false)
			now = now.Add(500 * time.Microsecond)
		}
		if i&(1<<18-1) == 0 {
			e.Tick()
		}
	}
}

// BenchmarkTick is a second of 1,000 groups with full windows and percentiles.
func BenchmarkTick(b *testing.B) {
	e, tap, now := observing(b, "gateway")
	lines := gatewayLines(1000)
	for i, r := range lines {
		r.Fields[2].Val = fmt.Appendf(nil, "/path/%d", i)
	}
	for range 200 {
		for _, r := range lines {
			tap.Observe(r, now.UnixMilli(), gatewayLine)
		}
		tap.Flush(record.Pos{}, true)
		e.Tick()
		*now = now.Add(time.Second)
	}
	b.ReportAllocs()
	for b.Loop() {
		*now = now.Add(time.Second)
		b.StopTimer()
		for _, r := range lines {
			tap.Observe(r, now.UnixMilli(), gatewayLine)
		}
		tap.Flush(record.Pos{}, true)
		b.StartTimer()
		e.Tick()
	}
	s, err := e.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(s)), "snapshot-bytes")
}
