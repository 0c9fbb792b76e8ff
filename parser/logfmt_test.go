package parser

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func TestLogfmtLines(t *testing.T) {
	for line, want := range map[string]string{
		`time=2026-11-23T20:00:00.123Z level=INFO msg="it \"works\"" status_code=502 request_time=0.25 trace_id=7f3c user=7 path="/a b"`: `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","message":"it \"works\"","status_code":502,"request_time":0.25,"request_id":"7f3c","user":"7","path":"/a b"}`,
		`time="2026-11-23T20:00:00Z" level=warning msg="slow" error="a\nb\\" u=http://x/?a=b`:                                            `{"@timestamp":"2026-11-23T20:00:00Z","level":"warn","message":"slow","error":"a\nb\\","u":"http://x/?a=b"}`,
		`t=2026-11-23T20:00:00+0800 lvl=eror msg=x debug a= b="" logger=l`:                                                               `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"x","debug":"true","logger":"l"}`,
		`ts=1795464000.123 caller=m.go:1 level=crit id=7 host=h a=1 a=2`:                                                                 `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"fatal","caller":"m.go:1","orig_id":"7","orig_host":"h","a":"2"}`,
		`level=E msg=x`: `{"level":"error","message":"x"}`,
	} {
		p := newLogfmt(time.UTC)
		for i := range 3 {
			if got := show(p, line); got != want {
				t.Errorf("pass %d:\n got %s\nwant %s", i, got, want)
			}
			if i == 1 {
				show(p, "level=info other=1 msg=y")
			}
		}
	}
}

func TestLinesThatAreNoLogfmt(t *testing.T) {
	for line, reason := range map[string]string{
		"":                               notLogfmt,
		"it works":                       notLogfmt,
		"the sum a=1 is right":           notLogfmt,
		`=x`:                             notLogfmt,
		`a=1 "b"`:                        notLogfmt,
		`a"=1`:                           notLogfmt,
		`a=1 b="x`:                       logfmtOpen,
		`a="x\"`:                         logfmtOpen,
		`a="x"y`:                         logfmtNoBorder,
		strings.Repeat("k", 2000) + "=1": logfmtLongKey,
	} {
		var r record.Record
		r.Reset()
		newLogfmt(time.UTC).Parse([]byte(line), &r)
		if r.ParseError != reason || len(r.Fields) != 1 || string(r.Fields[0].Val) != line {
			t.Errorf("%q: %s", line, showRecord(&r))
		}
	}
}

func FuzzLogfmt(f *testing.F) {
	for _, s := range []string{`time=2026-11-23T20:00:00Z level=info msg="a \"b\"" c d=1`, `a="\\" b=`, "a=\xff \xff=1", `a.b=1 a="\x22"`, "a=1\nb=2"} {
		f.Add([]byte(s))
	}
	used := newLogfmt(time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		doc := mustBeDocument(t, used, line)
		if fresh := mustBeDocument(t, newLogfmt(time.UTC), line); !bytes.Equal(doc, fresh) {
			t.Fatalf("what was learned changes %q:\n%s\n%s", line, doc, fresh)
		}
	})
}

const logfmtBenchLine = `time=2026-11-23T20:00:00.123456+08:00 level=INFO source=server/handler.go:142 msg="request completed" method=POST path=/api/v1/orders/8841/items status=200 duration=23.481ms bytes=5316 remote=203.0.113.7:52814 request_id=7f3c0a1be24d9f6688aa01c3f5e7d9b2`

func BenchmarkLogfmt(b *testing.B) {
	benchmarkParser(b, "slog", newLogfmt(time.UTC), logfmtBenchLine)
}

func TestLogfmtDoesNotAllocate(t *testing.T) {
	doesNotAllocate(t, newLogfmt(time.UTC), logfmtBenchLine, `a="x\"y" b`, `a=1 b="`, "no logfmt at all")
}
