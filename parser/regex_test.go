package parser

import (
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func TestRegexCaptures(t *testing.T) {
	for _, c := range []struct{ expr, line, want string }{
		{`^(?P<time>\S+ \S+) \[(?P<level>\w+)\] (?P<thread>\S+) (?P<message>.*)$`, "2026-11-23 20:00:00,123 [WARN] main it is slow",
			`{"@timestamp":"2026-11-23T12:00:00.123Z","level":"warn","thread":"main","message":"it is slow"}`},
		{`^(?P<time>\S+ \S+) (?P<level>\w+) (?P<msg>.*)$`, "2026-11-23 20:00:00 ERROR it broke\njava.lang.X: y\n\tat a.B", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"it broke\njava.lang.X: y\n\tat a.B"}`},
		{`(?P<level>\w+) (?P<message>\w+)`, "E x, y\nz", `{"level":"error","message":"x\nz"}`},
		{`(?P<level>\w+)`, "fatal x\nz", `{"level":"fatal","message":"fatal x\nz"}`},
		{`(?s)(?P<level>\w+) (?P<message>.*)`, "info x\nz", `{"level":"info","message":"x\nz"}`},
		{`a\n(?P<b>\w+)`, "a\nx", `{"b":"x"}`},
		{`(?P<status_code>\d+) (?P<request_time>\S+) (?P<user>\S+) (?P<id>\S*) (?P<none>x)?(?P<request_id>\w+)`, "0502 0.25 - 7 q1", `{"status_code":502,"request_time":0.25,"orig_id":"7","request_id":"q1"}`},
		{`(?P<timestamp>\S+) (?P<x>.*)`, "20:00:00.5 y", `{"@timestamp":"T","x":"y"}`},
		{`(?P<level>\S+) (?P<time>.*)`, "loud soon", `{"orig_level":"loud","time":"soon"}`},
		{`^(?P<x>\d+)$`, "no", `{"message":"no","parse_error":"does not match the regex"}`},
		{`^(?P<x>\d+)$`, "no\n7", `{"message":"no\n7","parse_error":"does not match the regex"}`},
	} {
		p, err := newRegex(c.expr, shanghai)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got := show(p, c.line)
			if strings.Contains(c.want, `"T"`) {
				got = got[:15] + "T" + got[strings.Index(got, `",`):]
			}
			if got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.expr, got, c.want)
			}
		}
	}
}

func TestRegexThatCannotBeUsed(t *testing.T) {
	for expr, want := range map[string]string{
		`(a`:        "regex \"(a\": missing closing ): `(a`",
		`(?=a)`:     "regex \"(?=a)\": invalid or unsupported Perl syntax: `(?=`",
		`\d+ (\w+)`: `regex "\\d+ (\\w+)" has no named capture; write what is to become a field as (?P<name>...)`,
	} {
		if _, err := newRegex(expr, time.UTC); err == nil || err.Error() != want {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func FuzzRegexLine(f *testing.F) {
	p, err := newRegex(`^(?P<time>\S+ \S+) ?\[?(?P<level>\w*)\]? (?P<id>\S*) (?P<status_code>\S*) (?P<message>.*)$`, time.UTC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("2026-11-23 20:00:00 [info] 7 200 message\nand more"))
	f.Add([]byte("a b [x] \xff 007 \x00"))
	f.Fuzz(func(t *testing.T, line []byte) { mustBeDocument(t, p, line) })
}

const regexBenchLine = "2026-11-23 20:00:00,123 [WARN] main the payment of order 8841 took longer than it should, and the customer was told to wait"

func BenchmarkRegex(b *testing.B) {
	p, _ := newRegex(`^(?P<time>\S+ \S+) \[(?P<level>\w+)\] (?P<thread>\S+) (?P<message>.*)$`, time.UTC)
	benchmarkParser(b, "text", p, regexBenchLine)
}

func TestRegexAllocatesOnce(t *testing.T) {
	p, _ := newRegex(`^(?P<time>\S+ \S+) \[(?P<level>\w+)\] (?P<thread>\S+) (?P<message>.*)$`, time.UTC)
	var r record.Record
	text := []byte(regexBenchLine)
	if a := testing.AllocsPerRun(100, func() { r.Reset(); p.Parse(text, &r) }); a > 1 {
		t.Errorf("%v allocations", a)
	}
}
