package agent

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/record"
)

// relayWorld is the indexer's part that counts what comes from Kafka, with a clock of
// the test's own.
type relayWorld struct {
	t      testing.TB
	now    time.Time
	alerts *alerts
	in     *input
	told   []alert.Event
	days   map[string][]byte
}

func newRelayWorld(t testing.TB) *relayWorld {
	w := &relayWorld{t: t, now: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC), days: make(map[string][]byte)}
	w.in = &input{name: "relay", cfg: &config.Input{Name: "relay"}}
	w.start(nil)
	return w
}

// start is a new process that knows only what the last one has written.
func (w *relayWorld) start(snapshot []byte) {
	w.t.Helper()
	var rules []*alert.Rule
	for _, c := range []alert.RuleConfig{
		{Name: "all", Per: []string{"project"}, When: "error >= 10"},
		{Name: "relayed", Inputs: []string{"relay"}, Per: []string{"project", "host"}, When: "error >= 10"},
		{Name: "both", Inputs: []string{"apps", "relay"}, Per: []string{"project"}, When: "error >= 10"},
	} {
		r, err := alert.Compile(c)
		if err != nil {
			w.t.Fatal(err)
		}
		rules = append(rules, r)
	}
	clock := func() time.Time { return w.now }
	w.alerts = &alerts{agent: &Agent{host: "ix"}, counted: make(map[string]struct{}), rules: rules, book: report.NewBook(clock)}
	w.alerts.engine = alert.New(rules, clock, func(e alert.Event) { w.told = append(w.told, e) })
	if snapshot != nil {
		if err := w.alerts.engine.Restore(snapshot); err != nil {
			w.t.Fatal(err)
		}
	}
	daily, err := report.New(report.Config{Name: "daily", Inputs: []string{"relay"}, Count: "error", Zone: time.UTC, Per: []string{"project"}, Over: 19, MaxGroups: 10})
	if err != nil {
		w.t.Fatal(err)
	}
	w.alerts.book.Configure([]*report.Report{daily})
	w.alerts.book.Load(func(each func(string, []byte)) {
		for key, value := range w.days {
			each(key, value)
		}
	}, slog.Default())
	w.tick()
}

func (w *relayWorld) tick() {
	w.now = w.now.Add(4 * time.Second)
	w.alerts.engine.Tick()
}

// checkpoint is what would be on disk.
func (w *relayWorld) checkpoint() []byte {
	w.t.Helper()
	days, err := w.alerts.book.Changes(true)
	for key, value := range days {
		w.days[key] = value
	}
	snapshot, err2 := w.alerts.engine.Snapshot()
	if err != nil || err2 != nil {
		w.t.Fatal(err, err2)
	}
	return snapshot
}

// doc is an error line as another tailwater has shipped it.
func (w *relayWorld) doc(input, host string) (doc []byte, idLen int) {
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: host, Input: input, File: "/log/a.log", Project: "shop"})
	r := new(record.Record)
	r.Reset()
	r.Level = record.LevelError
	r.Put("message", []byte("no \"stock\""), record.Text)
	r.Put("request_id", []byte("r-1"), record.Text)
	doc, idLen = o.AppendDoc(nil, r, w.now.UnixMilli(), 7)
	return doc[:len(doc)-1], idLen
}

// want compares the incidents that were told since the last call.
func (w *relayWorld) want(want ...string) []alert.Event {
	w.t.Helper()
	told := w.told
	w.told = nil
	var got []string
	for _, e := range told {
		line := e.Incident.Rule
		for _, g := range e.Incident.Group {
			line += " " + g.Value
		}
		got = append(got, line)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Fatalf("told %q, want %q", got, want)
	}
	return told
}

func TestWhatComesFromKafkaCountsOnceForRulesThatNameTheInput(t *testing.T) {
	w := newRelayWorld(t)
	v := w.alerts.watch(w.in, "logs", 3, 0)
	show := func(from, n int64, input, host string) {
		doc, idLen := w.doc(input, host)
		for i := range n {
			v.Document(from+i, doc, idLen, w.now.UnixMilli())
		}
	}
	show(0, 6, "apps", "web-1")
	show(6, 4, "apps", "web-2") // a rule that names apps, too, has had them there
	show(10, 9, "other", "web-1")
	v.Flush(19, true)
	w.want("relayed shop web-1")
	show(19, 1, "other", "web-1")
	v.Flush(20, true)
	w.want("both shop")
	foreign := new(record.Record)
	foreign.Reset()
	foreign.Level = record.LevelError
	for i := range int64(10) {
		v.Record(20+i, foreign, w.now.UnixMilli(), []byte("as it came"))
	}
	v.Flush(30, true)
	told := w.want("relayed relay ix", "both relay")
	in := told[0].Incident
	if len(in.Files) != 1 || in.Files[0].Name != "kafka:logs/3" || in.Samples[0].Text != "as it came" {
		t.Errorf("%+v", in)
	}
	show(30, 6, "apps", "web-2")
	v.Flush(36, true)
	in = w.want("relayed shop web-2")[0].Incident
	if len(in.Hosts) != 1 || in.Hosts[0].Name != "web-2" || in.Files[0].Name != "/log/a.log" || in.Samples[0].Text != `no "stock"` || in.Samples[0].RequestID != "r-1" {
		t.Errorf("%+v", in)
	}
	v.Close()
}

// A crash: what was read again after the last commit counts once, whether it was on
// disk or not; what was shown and not handed on does not count before it is.
func TestRecordsThatAreReadAgainCountOnce(t *testing.T) {
	w := newRelayWorld(t)
	v := w.alerts.watch(w.in, "logs", 0, 0)
	doc, idLen := w.doc("apps", "web-1")
	at := w.now.UnixMilli()
	for i := range int64(9) {
		v.Document(i, doc, idLen, at)
		if i%3 == 2 {
			v.Flush(i+1, false)
		}
	}
	v.Document(9, doc, idLen, at) // and never flushed
	v.Document(10, doc, idLen, at)
	w.want()
	w.start(w.checkpoint())
	v = w.alerts.watch(w.in, "logs", 0, 0)
	for i := int64(4); i < 9; i++ {
		v.Document(i, doc, idLen, at)
	}
	v.Flush(9, true)
	w.tick()
	w.want()
	v.Document(9, doc, idLen, at)
	v.Flush(10, true)
	w.want("relayed shop web-1")
	for i := int64(10); i < 20; i++ {
		if due := w.alerts.book.Due("ix"); len(due) != 0 {
			t.Fatalf("over its limit after %d lines", i)
		}
		v.Document(i, doc, idLen, at)
		v.Flush(i+1, true)
	}
	if due := w.alerts.book.Due("ix"); len(due) != 1 || due[0].Item.Incident.Hosts[0].Lines != 20 {
		t.Fatalf("%+v", due)
	}
}

// A topic that was deleted and made anew counts from its beginning; one that is read
// once more does not.
func TestATopicOfTheSameNameIsAnother(t *testing.T) {
	w := newRelayWorld(t)
	doc, idLen := w.doc("apps", "web-1")
	at := w.now.UnixMilli()
	v := w.alerts.watch(w.in, "logs", 0, 0)
	read := func(n int64) {
		v.Begin(n)
		for i := range n {
			v.Document(i, doc, idLen, at)
		}
		v.Flush(n, true)
	}
	read(9)
	read(9)
	w.want()
	read(1)
	w.want("relayed shop web-1")
	v.Close()
}

func TestWatchingDocumentsDoesNotAllocate(t *testing.T) {
	w := newRelayWorld(t)
	v := w.alerts.watch(w.in, "logs", 0, 0)
	one, oneLen := w.doc("apps", "web-1")
	two, twoLen := w.doc("other", "web-2")
	next := int64(0)
	run := func() {
		for range 100 {
			v.Document(next, one, oneLen, w.now.UnixMilli())
			v.Document(next+1, two, twoLen, w.now.UnixMilli())
			next += 2
		}
		v.Flush(next, true)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 2 { // maps grow, and samples are kept
		t.Errorf("%v allocations for 200 documents", n)
	}
}

func BenchmarkWatchedDocument(b *testing.B) {
	w := newRelayWorld(b)
	v := w.alerts.watch(w.in, "logs", 0, 0)
	doc, idLen := w.doc("apps", "web-1")
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	next := int64(0)
	for b.Loop() {
		v.Document(next, doc, idLen, w.now.UnixMilli())
		if next++; next%1000 == 0 {
			v.Flush(next, true)
		}
	}
}
