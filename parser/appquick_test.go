package parser

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// quickLines are heads as loggers write them, and words that make them doubtful.
var quickLines = []string{
	"2026-11-23 20:00:00.123 [http-nio-8080-exec-12] INFO  c.e.shop.OrderRepository [request_id=abe8002d7e46ad19870087fc7e7b609d] - took 27 ms",
	"2026-11-23 20:00:00,123 [main] ERROR c.e.Foo - java.lang.NullPointerException: x\n\tat a.B",
	"2026-11-23T20:00:00.123+08:00  INFO 1234 --- [nio-8080-exec-1] c.e.Foo  : [7f3c9a1b2c3d4e5f] done, request_id=8",
	"2026-11-23T20:00:00.123+08:00  WARN 1234 --- [orders] [           main] o.s.Boot : slow",
	"2026-11-23 20:00:00,123 - shop.cart - WARNING - slow",
	"2026-11-23 20:00:00,123 - root - INFO - [req-7f3c] trace.id=8",
	"2026/11/23 20:00:00 ERROR no disk: X-Request-ID: 7",
	"20261123T200000.5Z INFO web-1 app[12]: hi",
	"2026-11-23T20:00:00Z INFO web-1 app[12]: hi",
	"2026-11-23 20:00:00 INFO [main] [7f3c9a1b2c3d4e5f] [a.b] - x",
	"2026-11-23 20:00:00 CRITICAL shop::cart: x",
	"2026-11-23 20:00:00.123 [a.b.C] DEBUG [x=1] [main] - x",
}

var quickWords = strings.Fields(`INFO WARN ERROR DEBUG1 INFO+2 info-2 INFO-2 error E W LOG: UTC CET [main] [info-2] [informational-12] [INFO] [a:error] [System] [pool-2-thread-1]
	[a50e8400-e29b-41d4-a716-446655440000] [7f3c9a1b2c3d4e5f] [app,7f3c9a1b2c3d4e5f,8] [req-7] [12] [pid [x [] a.b.C a.b.C: a.b.MyException x.go:12 x.go:12: [a.b] [e.g.] -
	-- --- : | (x.go:12) {x.py:1} {7f3c9a1b2c3d4e5f} <Error> a=b request_id=7 1234 12345678901 PHP PHPx Notice: é a a.b- ]: x]: [ ] web-1 app[12]: [request_id=7]`)

// sayTheSame checks that the short way, when it takes a line, says what the long one does.
func sayTheSame(t *testing.T, p *appParser, text []byte) (quick bool) {
	t.Helper()
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if len(line) == 0 || !isDigit(line[0]) {
		return false
	}
	var short, long record.Record
	short.Reset()
	long.Reset()
	kind := record.Text
	if standsForItself(text) && bytes.IndexByte(text, '"') < 0 {
		kind = record.Escaped
	}
	if !p.quick(text, line, &short, kind) {
		return false
	}
	p.long(text, line, &long, record.Text)
	got, _ := testOrigin.AppendDoc(nil, &short, short.Time, 7)
	want, _ := testOrigin.AppendDoc(nil, &long, long.Time, 7)
	if !bytes.Equal(got, want) || short.HasTime != long.HasTime {
		t.Fatalf("%q:\nshort %s\nlong  %s", text, got, want)
	}
	return true
}

func TestTheShortWayOverAHeadSaysWhatTheLongOneDoes(t *testing.T) {
	p := newTestApp()
	rnd := rand.New(rand.NewPCG(1, 2))
	blanks := []string{" ", " ", " ", " ", "  ", "\t", "", strings.Repeat(" ", 120), strings.Repeat(" ", 300)}
	quick := 0
	for n := range 300_000 {
		words := strings.SplitAfter(quickLines[n%len(quickLines)], " ")
		for range rnd.IntN(4) {
			at := 1 + rnd.IntN(min(len(words)-1, 8))
			word := quickWords[rnd.IntN(len(quickWords))] + blanks[rnd.IntN(len(blanks))]
			switch rnd.IntN(3) {
			case 0:
				words[at] = word
			case 1:
				words = append(words[:at], append([]string{word}, words[at:]...)...)
			default:
				if len(words) > 3 {
					words = append(words[:at], words[at+1:]...)
				}
			}
		}
		if sayTheSame(t, p, []byte(strings.Join(words, ""))) {
			quick++
		}
	}
	if quick < 50_000 {
		t.Errorf("the short way took %d lines only", quick)
	}
}

func TestTheShortWayTakesWhatLoggersWrite(t *testing.T) {
	p := newTestApp()
	for i, line := range quickLines {
		if took, want := sayTheSame(t, p, []byte(line)), i < 7 || i == 9 || i == 10; took != want {
			t.Errorf("%q: short way %v, want %v", line, took, want)
		}
	}
	var r record.Record
	r.Reset()
	r.Reserve(record.NewKeys("thread"))
	p.Parse([]byte(quickLines[0]), &r)
	if _, renamed := r.Get("orig_thread"); !renamed {
		t.Error("a reserved key was not renamed")
	}
}

func FuzzAppHead(f *testing.F) {
	for _, line := range quickLines {
		f.Add([]byte(line))
	}
	for _, word := range quickWords {
		f.Add([]byte("2026-11-23 20:00:00 " + word + " INFO " + word + " - x"))
	}
	f.Fuzz(func(t *testing.T, text []byte) { sayTheSame(t, newTestApp(), text) })
}

func BenchmarkAppParser(b *testing.B) {
	for i, line := range quickLines[:7] {
		b.Run(fmt.Sprint(i), func(b *testing.B) {
			p := newTestApp()
			var r record.Record
			text := []byte(line)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset()
				p.Parse(text, &r)
			}
		})
	}
}
