package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// TestASnapshotSaysWhatItsTypesSay, though it is not they that write it: of a group with an
// open incident and one that is over, of files and lines of any bytes.
func TestASnapshotSaysWhatItsTypesSay(t *testing.T) {
	rule := mustCompile(t, RuleConfig{Name: `slow "ones"`, Per: []string{"path"}, When: "p90(request_time) > 1s or max(request_time) > 5s or error >= 2"})
	w := newWorld(t, rule)
	w.settled()
	file := "/log/\"a\"\\\x01\x7f<b>&é世\xff\xe2\x28.log"
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Input: "apps", File: file, Project: "p"})
	tap := w.engine.Tap("x", "apps", false, o)
	for i, sec := range []float64{12, 13, 13, 14, 200, 201} {
		tap.Observe(lineOf(record.LevelError, "path", "/\"\xff", "request_id", "id \xf0\"", "request_time", "=0.5"), milli(sec), []byte("line \xff \"<\x00"))
		if i == 3 {
			tap.Flush(record.Pos{Off: 70}, true)
			w.at(200.5)
		}
	}
	tap.Flush(record.Pos{Off: 80, Time: 5}, true)
	w.at(202)
	snap := w.snapshot()

	var s snapshot
	d := json.NewDecoder(bytes.NewReader(snap))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatalf("%v: %s", err, snap)
	}
	if len(s.Rules) != 1 || len(s.Rules[0].Groups) != 1 || s.Rules[0].Name != rule.Name() || s.Counted["x"].Off != 80 {
		t.Fatalf("%s", snap)
	}
	g := s.Rules[0].Groups[0]
	if g.Open == nil || len(g.Closed) != 1 || len(g.Samples) != MaxSamples || len(g.Tallies) == 0 || len(g.Seconds) == 0 || len(g.Dist) == 0 {
		t.Errorf("%s", snap)
	}
	if x := g.Samples[0]; string(x.Text) != "line \xff \"<\x00" || string(x.RequestID) != "id \xf0\"" || x.Evidence == 0 || x.Host != "h" {
		t.Errorf("%+v", x)
	}
	want, err := json.Marshal(file) // what is no text is shown as such
	if err != nil {
		t.Fatal(err)
	}
	var shown string
	if err := json.Unmarshal(want, &shown); err != nil || g.Tallies[0].File != shown || g.Samples[0].File != shown {
		t.Errorf("%q, %q, %v", g.Tallies[0].File, g.Samples[0].File, err)
	}

	w.start(snap)
	var again snapshot
	if err := json.Unmarshal(w.snapshot(), &again); err != nil {
		t.Fatal(err)
	}
	again.Boot = s.Boot
	one, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(again)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("%s\nbecame\n%s, %v", one, two, err)
	}
}

// BenchmarkSnapshot is that of 1,000 groups in a backlog, with percentiles and samples.
func BenchmarkSnapshot(b *testing.B) {
	e, tap, now := observing(b, "gateway")
	lines := gatewayLines(1000)
	for i, r := range lines {
		r.Fields[2].Val = fmt.Appendf(nil, "/path/%d", i)
		if i%7 == 0 {
			r.RequestTime = 1.5
		}
	}
	for range 600 {
		for _, r := range lines {
			tap.Observe(r, now.UnixMilli(), gatewayLine)
		}
		tap.Flush(record.Pos{}, false)
		e.Tick()
		*now = now.Add(time.Second)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Snapshot(); err != nil {
			b.Fatal(err)
		}
	}
}
