package agent

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// spooled returns what a spool has on disk of these frames.
func spooled(tb testing.TB, frames ...*spool.Frame) []byte {
	tb.Helper()
	l, err := spool.Open(spool.Options{Dir: tb.TempDir(), Limit: 1 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	for i, f := range frames {
		if err := l.Append(f, i == len(frames)-1); err != nil {
			tb.Fatal(err)
		}
	}
	_, end := l.Bounds()
	data := make([]byte, end)
	if _, err := l.ReadAt(data, 0); err != io.EOF {
		tb.Fatal(err)
	}
	return data
}

func jsonLines(project, text string) *spool.Frame {
	f := spool.Begin(nil, spool.JSONLines, project, spool.Key{}, 1795464000000)
	f.Buf = append(f.Buf, text...)
	return f
}

func records(project string, all ...spool.Record) *spool.Frame {
	f := spool.Begin(nil, spool.Records, project, spool.Key{}, 1795464000000)
	for i := range all {
		f.Buf = spool.AppendRecord(f.Buf, &all[i])
	}
	return f
}

// listening is an http input of that format.
func listening(tb testing.TB, format string) *input {
	tb.Helper()
	cfg, problems := config.Parse("t", fmt.Appendf(nil, "inputs: {in: {http: {listen: ':0'}, format: %s, zone: UTC, max_line: 150}}\noutputs: {out: {discard: {}}}\n", format))
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	a := &Agent{metrics: newMetrics()}
	in, err := a.newInput(cfg.Inputs[0], map[string]*output{"out": {}})
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// TestSpoolIsReadTheSameFromAnyPosition: whoever takes it up behind any event, also in
// the middle of a frame, sees the events that follow, each at its place.
func TestSpoolIsReadTheSameFromAnyPosition(t *testing.T) {
	data := spooled(t,
		jsonLines("shop", "{\"n\":1}\n\n {\"n\":2}\r\n{\"n\":3}"),
		records("pay", spool.Record{Text: []byte("a\nb")}, spool.Record{Text: []byte("c"), Project: []byte("other")}, spool.Record{}),
		jsonLines("shop", "\n"),
		jsonLines("shop", "{\"n\":4}\n"),
	)
	in := listening(t, "auto")
	read := func(u *unspooler, limit int) (events []string) {
		base := u.Pos().Off
		look := parser.Look{Data: data[base:], Base: base, AtEnd: true}
		for limit != len(events) {
			ev, ok := u.Next(&look)
			if !ok {
				break
			}
			events = append(events, fmt.Sprintf("%d %s %q", ev.Off, u.project, ev.Text))
		}
		return events
	}
	u := newUnspooler(in)
	u.Reset(record.Pos{}, nil)
	all := read(u, -1)
	if len(all) != 7 || u.Pos().Off != int64(len(data)) {
		t.Fatalf("%d events, to %d of %d: %q", len(all), u.Pos().Off, len(data), all)
	}
	for n := range all {
		first := newUnspooler(in)
		first.Reset(record.Pos{}, nil)
		before := read(first, n)
		second := newUnspooler(in)
		second.Reset(first.Pos(), nil)
		if got := append(before, read(second, -1)...); strings.Join(got, "\n") != strings.Join(all, "\n") {
			t.Fatalf("stopped after %d: %q, want %q", n, got, all)
		}
		// And with no more in sight than is needed.
		third := newUnspooler(in)
		third.Reset(first.Pos(), nil)
		var got []string
		for size := 1; third.Pos().Off < int64(len(data)); size++ {
			base := third.Pos().Off
			end := min(base+int64(size), int64(len(data)))
			look := parser.Look{Data: data[base:end], Base: base, AtEnd: end == int64(len(data)) && size >= len(data)}
			for ev, ok := third.Next(&look); ok; ev, ok = third.Next(&look) {
				got = append(got, fmt.Sprintf("%d %s %q", ev.Off, third.project, ev.Text))
			}
			if third.Pos().Off > base {
				size = 0
			}
			if size > third.Window() {
				t.Fatalf("%d bytes do not suffice to go on at %d", size, base)
			}
		}
		if strings.Join(append(before, got...), "\n") != strings.Join(all, "\n") {
			t.Fatalf("in pieces after %d: %q", n, got)
		}
	}
}

// document is what becomes of the first event of a frame: level, time and fields.
func document(t *testing.T, in *input, f *spool.Frame) string {
	t.Helper()
	u := newUnspooler(in)
	u.Reset(record.Pos{}, nil)
	look := parser.Look{Data: spooled(t, f), AtEnd: true}
	ev, ok := u.Next(&look)
	if !ok {
		t.Fatal("there is no event")
	}
	var r record.Record
	r.Reset()
	u.Parse(ev.Text, &r)
	var s strings.Builder
	s.WriteString(r.Level.String())
	if r.HasTime {
		fmt.Fprintf(&s, " %s", time.UnixMilli(r.Time).UTC().Format("15:04:05"))
	}
	if r.ParseError != "" {
		fmt.Fprintf(&s, " (%s)", r.ParseError)
	}
	for _, f := range r.Fields {
		fmt.Fprintf(&s, " %s=%s", f.Key, f.AppendText(nil))
	}
	return s.String()
}

func TestWhatBecomesOfWhatIsReceived(t *testing.T) {
	at := int64(1795464000000) // 20:00:00
	syslog := func(text string) spool.Record {
		return spool.Record{Flags: spool.Syslog, Time: at, Level: record.LevelWarn, Text: []byte(text),
			Fields: spool.AppendField(spool.AppendField(nil, "app", []byte("su"), record.Text), "host.name", []byte("x"), record.Text)}
	}
	header := " app=su orig_host.name=x"
	access := `10.0.0.1 - - [25/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 502 12 "-" "curl"`
	for name, c := range map[string]struct {
		format string
		frame  *spool.Frame
		want   string
	}{
		"JSON":                        {"auto", jsonLines("p", `{"level":"error","msg":"m","host":"h"}`), "error message=m orig_host=h"},
		"JSON that is none":           {"auto", jsonLines("p", `ERROR x`), " (not a JSON object) message=ERROR x"},
		"JSON with keys of its own":   {"{json: {message: what}}", jsonLines("p", `{"what":"m","msg":"n"}`), " message=m msg=n"},
		"JSON beside another format":  {"{nginx: combined}", jsonLines("p", `{"msg":"m"}`), " message=m"},
		"an overlong line":            {"auto", jsonLines("p", `{"a":"`+strings.Repeat("x", 200)+`"}`), ""},
		"text":                        {"auto", records("p", spool.Record{Text: []byte("2026-11-25 10:00:00 ERROR x")}), "error 10:00:00 message=x"},
		"text of a format":            {"{nginx: combined}", records("p", spool.Record{Text: []byte(access)}), ""},
		"text that stays":             {"plain", records("p", spool.Record{Text: []byte("ERROR x")}), " message=ERROR x"},
		"syslog text stays whole":     {"auto", records("p", syslog("10:11:12 ERROR app[3]: it failed, request_id=r1")), "warn 20:00:00 message=10:11:12 ERROR app[3]: it failed, request_id=r1 request_id=r1" + header},
		"syslog's JSON":               {"auto", records("p", syslog(`{"level":"error","msg":"m","time":"2026-11-25T10:00:00Z","app":"x"}`)), "error 10:00:00 message=m app=x orig_app=su orig_host.name=x"},
		"syslog's JSON without level": {"json", records("p", syslog(`{"msg":"m"}`)), "warn 20:00:00 message=m" + header},
		"syslog that looks like JSON": {"auto", records("p", syslog(`{not JSON}`)), "warn 20:00:00 message={not JSON}" + header},
		"syslog of plain text":        {"plain", records("p", syslog(`{"a":1}`)), ""},
		"syslog of another format":    {"logfmt", records("p", syslog(`level=error msg=m`)), "error 20:00:00 message=m" + header},
		"a forward record":            {"auto", records("p", spool.Record{Flags: spool.IsJSON | spool.TimeIsFallback, Time: at, Text: []byte(`{"log":"m","level":"info"}`), Fields: spool.AppendField(nil, "tag", []byte("t"), record.Text)}), "info message=m tag=t"},
		"a forward record's accesses": {"{nginx: combined}", records("p", spool.Record{Flags: spool.IsJSON | spool.TimeIsFallback, Time: at, Text: []byte(`{"log":"` + strings.ReplaceAll(access, `"`, `\"`) + `","container":"c"}`)}), ""},
		"a log record of OTLP":        {"auto", records("p", spool.Record{Flags: spool.IsJSON, Time: at, Level: record.LevelError, Text: []byte(`{"level":"info","trace_id":"ab","message":"m"}`), Fields: spool.AppendField(nil, "trace_id", []byte("ab"), record.Text)}), "error 20:00:00 request_id=ab message=m trace_id=ab"},
	} {
		t.Run(name, func(t *testing.T) {
			got := document(t, listening(t, c.format), c.frame)
			switch name {
			case "an overlong line":
				if !strings.HasPrefix(got, " (") || !strings.Contains(got, `message={"a":"xxx`) {
					t.Errorf("got %s", got)
				}
			case "syslog of plain text":
				if !strings.HasPrefix(got, "warn 20:00:00 ") {
					t.Errorf("got %s", got)
				}
			case "text of a format", "a forward record's accesses":
				if !strings.Contains(got, "status_code=502") || !strings.Contains(got, "path=/a") || strings.Contains(got, "message=") {
					t.Errorf("got %s", got)
				}
				if strings.Contains(name, "forward") && !strings.Contains(got, "container=c") {
					t.Errorf("got %s", got)
				}
			default:
				if got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

// receivedConsumer is consumer for a spool.
func receivedConsumer(tb testing.TB) (run func(), lines int, size int) {
	text := traffic(tb, "json")
	data := spooled(tb, jsonLines("shop", string(text)))
	_, c := consumer(tb, benchFormats["json"], text)
	in := listening(tb, "auto")
	in.cfg.MaxLine = 1 << 20
	u := newUnspooler(in)
	c.unspool, c.framer, c.parser, c.project = u, u, u, "shop"
	w := newWorker(c.flow.agent)
	w.block.Data = make([]byte, 0, 1<<20)
	copy(w.data(), data)
	now := time.Now()
	return func() {
		c.pos = record.Pos{}
		clear(c.flow.counted[:])
		u.Reset(c.pos, nil)
		w.block.Renew(nil)
		w.remember(nil)
		c.consume(w, &parser.Look{Data: w.data()[:len(data)], Now: now, AtEnd: true})
	}, bytes.Count(text, []byte("\n")), len(text)
}

func TestAReceivedLineIsShippedWithoutAnAllocation(t *testing.T) {
	run, _, _ := receivedConsumer(t)
	run()
	if n := testing.AllocsPerRun(20, run); n > 1 { // the look itself
		t.Errorf("%v allocations for a look of some hundred lines", n)
	}
}

func BenchmarkReceivedChain(b *testing.B) {
	run, lines, size := receivedConsumer(b)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		run()
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/float64(lines), "ns/line")
}
