package fleet

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

var wireRules = []alert.RuleConfig{
	{Name: "errors", Per: []string{"project"}, When: "error >= 2 or avg(value) > 5", Scope: "fleet", For: 2 * time.Second},
	{Name: "slow", Per: []string{"project"}, When: "p90(value) > 1 or count() == 0", Scope: "fleet"},
}

func compileAll(t testing.TB, cfgs []alert.RuleConfig) (rules []*alert.Rule) {
	t.Helper()
	for _, c := range cfgs {
		r, err := alert.Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// reports are what a host of ours publishes.
func reports(t testing.TB, rules []*alert.Rule, now *time.Time) (records []Record) {
	t.Helper()
	e := alert.New(rules, func() time.Time { return *now }, func(alert.Event) {})
	e.Publish("web-1")
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "web-1", Input: "apps", File: "/log/a", Project: "pay"})
	tap := e.Tap("a", "apps", false, o)
	for i := range 20 {
		r := new(record.Record)
		r.Reset()
		r.Level = record.LevelError
		r.Put("value", []byte("7.5"), record.JSON)
		tap.Observe(r, now.UnixMilli()-int64(i*700), []byte("text"))
	}
	tap.Flush(record.Pos{}, true)
	rep := e.Report()
	for i := range rep.Partials {
		r, err := encodePartial("web-1", &rep.Partials[i])
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	marks, err := encodeMarks("web-1", rep.Marks)
	if err != nil {
		t.Fatal(err)
	}
	return append(records, marks)
}

// FuzzReport takes any bytes for a host's report: they must neither panic nor spoil what
// others have counted, and taking them again changes nothing.
func FuzzReport(f *testing.F) {
	start := time.Unix(1_700_000_000, 0)
	now := start
	rules := compileAll(f, wireRules)
	for _, r := range reports(f, rules, &now) {
		f.Add(r.Value)
	}
	f.Add([]byte(`{"n":"x","c":{"r":"` + rules[1].Identity() + `","g":["p"],"v":1,"b":[{"t":1699999995,"b":[[{"i":-2147483648,"n":4294967295},{"i":2147483647,"n":1}]]}]}}`))
	f.Add([]byte(`{"n":"x","c":{"r":"` + rules[0].Identity() + `","g":["p"],"v":1,"t":[{"id":"i","b":1699999995,"l":9,"n":-1,"c":-5}]}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		rep, err := decodeCounted(value)
		if err != nil {
			return
		}
		now = start
		e := alert.New(rules, func() time.Time { return now }, func(alert.Event) {})
		for range 3 {
			n := e.Node(rep.Node)
			if rep.Partial != nil {
				n.Merge(rep.Partial)
				if p := rep.Partial; n.Merge(p) {
					t.Errorf("it counts twice: %s", value)
				}
			}
			n.Mark(rep.Marks)
			e.Decide()
			e.Tick()
			now = now.Add(4 * time.Second)
		}
		heads, groups, err := e.Changes()
		if err != nil {
			t.Fatal(err)
		}
		next := alert.New(rules, func() time.Time { return now }, func(alert.Event) {})
		next.Replay()
		if err := next.Resume(heads, groups); err != nil {
			t.Errorf("what it has written it does not read: %v", err)
		}
	})
}

// FuzzStates takes any bytes for what another evaluator has written down.
func FuzzStates(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	rules := compileAll(f, wireRules)
	e := alert.New(rules, func() time.Time { return now }, func(alert.Event) {})
	n := e.Node("web-1")
	for _, r := range reports(f, rules, &now) {
		rep, err := decodeCounted(r.Value)
		if err != nil {
			f.Fatal(err)
		}
		if rep.Partial != nil {
			n.Merge(rep.Partial)
		}
		n.Mark(rep.Marks)
	}
	e.Decide()
	e.Tick()
	heads, groups, err := e.Changes()
	if err != nil || len(groups) == 0 {
		f.Fatal(err, len(groups))
	}
	state, err := json.Marshal(groupState{Carried: groups[0], Posts: []*post{{Event: alert.Event{Kind: alert.Opened}, Done: []string{"mail"}}}})
	if err != nil {
		f.Fatal(err)
	}
	pos, err := json.Marshal(position{Offset: 5, Heads: heads})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pos, state)
	f.Add([]byte(`{}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, pos, state []byte) {
		h := handedOn{groups: make(map[string]*groupState)}
		if h.take(&Record{Key: []byte(positionKey), Value: pos}) != nil || h.take(&Record{Key: []byte(groupPrefix), Value: state}) != nil || len(h.groups) == 0 {
			return
		}
		e := alert.New(rules, func() time.Time { return now }, func(alert.Event) {})
		e.Replay()
		if e.Resume(h.position.Heads, []alert.Carried{h.groups[groupPrefix].Carried}) != nil {
			return
		}
		e.Live(0, 0)
		e.Tick()
		if _, _, err := e.Changes(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBacklogKeepsTheNewestOfEachSecond(t *testing.T) {
	rules := compileAll(t, wireRules)
	now := time.Unix(1_700_000_000, 0)
	b := newBacklog(rules)
	id := rules[0].Identity()
	at := now.Unix()
	part := func(version uint64, seconds ...alert.Second) alert.Partial {
		return alert.Partial{Rule: id, Group: []string{"p"}, Version: version, Seconds: seconds}
	}
	b.add([]alert.Partial{part(1, alert.Second{At: at - 5000, Counts: []uint32{9}}, alert.Second{At: at, Counts: []uint32{1}})}, now)
	dropped := b.add([]alert.Partial{part(2, alert.Second{At: at, Counts: []uint32{2}}, alert.Second{At: at + 1, Counts: []uint32{3}})}, now)
	p := b.groups[string(groupKey(&alert.Partial{Rule: id, Group: []string{"p"}}))]
	want := []alert.Second{{At: at, Counts: []uint32{2}}, {At: at + 1, Counts: []uint32{3}}}
	if dropped != 1 || p.Version != 2 || !slices.EqualFunc(p.Seconds, want, func(a, b alert.Second) bool { return a.At == b.At && a.Counts[0] == b.Counts[0] }) {
		t.Errorf("dropped %d, %+v", dropped, p)
	}
	var many []alert.Second
	for i := range mostSeconds + 10 {
		many = append(many, alert.Second{At: at + int64(i), Counts: []uint32{1}})
	}
	if dropped := b.add([]alert.Partial{part(3, many...)}, now); dropped == 0 || b.seconds > mostSeconds {
		t.Errorf("dropped %d, %d are kept", dropped, b.seconds)
	}
}
