package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// TestWhatAHostPublishes measures the bytes a second of a busy gateway with the
// reference rules, as they go over the wire: by project, and by 900 paths.
func TestWhatAHostPublishes(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  alert.RuleConfig
		paths int
		most  int // bytes a second
	}{
		{"by project", alert.RuleConfig{When: "share(status_code >= 500) > 5% and count() >= 50", Per: []string{"project"}}, 1, 1 << 10},
		{"by path", alert.RuleConfig{When: "p99(request_time) > 1s or count(upstream_time > 3s) >= 10", Per: []string{"project", "path"}}, 900, 32 << 10},
	} {
		c.rule.Name, c.rule.Scope = "r", "fleet"
		rules := compileAll(t, []alert.RuleConfig{c.rule})
		now := time.Unix(1_700_000_000, 0)
		e := alert.New(rules, func() time.Time { return now }, func(alert.Event) {})
		e.Publish("web-1")
		o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "web-1", Input: "gateway", File: "/var/log/nginx/access.log", Project: "gateway"})
		tap := e.Tap("a", "gateway", false, o)
		b := newBacklog(rules)
		const seconds = 20
		raw, packed := 0, 0
		for s := range seconds {
			for i := range 5000 {
				r := new(record.Record)
				r.Reset()
				n := i % c.paths
				r.Status, r.RequestTime = 200, float64(i%97+3)/1000
				r.Put("path", fmt.Appendf(nil, "/api/v1/orders/%d/items", n), record.Text)
				r.Put("status_code", []byte("200"), record.JSON)
				r.Put("request_time", fmt.Append(nil, r.RequestTime), record.JSON)
				tap.Observe(r, now.UnixMilli(), []byte("line"))
			}
			now = now.Add(time.Second)
			tap.Flush(record.Pos{Off: int64(s)}, true)
			rep := e.Report()
			b.add(rep.Partials, now)
			batches, err := b.batches("kx4p2m7q", partitions)
			if err != nil {
				t.Fatal(err)
			}
			b.clear()
			mark, err := encodeMarks("kx4p2m7q", rep.Marks)
			if err != nil {
				t.Fatal(err)
			}
			for _, batch := range batches {
				var all []byte
				for _, r := range append(batch, mark) {
					all = append(append(append(all, 0, 0, 0, 0, 0, 0, 0), r.Key...), r.Value...)
				}
				raw += len(all)
				packed += len(snappy.Encode(nil, all))
			}
		}
		t.Logf("%s: %d bytes/s, %d before compression", c.name, packed/seconds, raw/seconds)
		if packed/seconds > c.most {
			t.Errorf("%s: %d bytes/s, at most %d", c.name, packed/seconds, c.most)
		}
	}
}
