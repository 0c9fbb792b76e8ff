package parser

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// newTestApp is a parser on the evening of 2026-11-23, 8 hours east.
func newTestApp() *appParser {
	p := newApp(shanghai).(*appParser)
	p.times.now = newTestTimes().now
	return p
}

// The other forms stand in testdata/app. These need to know the day, or are traps.
func TestApplicationText(t *testing.T) {
	p := newTestApp()
	for _, c := range [][2]string{
		{"20:00:00.123 [main] INFO  c.e.Foo - started", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"info","thread":"main","logger":"c.e.Foo","message":"started"}`},
		{"E1123 20:00:00.123456    1234 file.go:12] it broke", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"error","caller":"file.go:12","pid":1234,"message":"it broke"}`},
		{"I1123 20:00:00.123456       1 leaderelection.go:260] acquired lease", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"info","caller":"leaderelection.go:260","pid":1,"message":"acquired lease"}`},
		{"Nov 23 20:00:00 web-1 sshd[123]: Failed password for root", `{"@timestamp":"2026-11-23T12:00:00Z","hostname":"web-1","app":"sshd","pid":123,"message":"Failed password for root"}`},
		{"Nov 23 20:00:00 web-1 app[123]: ERROR no disk", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","hostname":"web-1","app":"app","pid":123,"message":"no disk"}`},
		{"<134>Nov 23 20:00:00 web-1 app: hello", `{"@timestamp":"2026-11-23T12:00:00Z","level":"info","hostname":"web-1","app":"app","message":"hello"}`},
		{"<30>Nov 23 20:00:00 app[123]: ERROR x", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","app":"app","pid":123,"message":"x"}`},
		{"<11>1 - - - - - - bare", `{"level":"error","message":"bare"}`},
		{"[2026-11-23 20:00:00 blue /x] hi", `{"@timestamp":"2026-11-23T12:00:00Z","context":"blue /x","message":"hi"}`},
		{"[20:00:00 ERR] it broke", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"it broke"}`},
		{"INFO[0001] starting up", `{"level":"info","message":"starting up"}`},
		{"WARNING:root:careful", `{"level":"warn","logger":"root","message":"careful"}`},
		{"E/AndroidRuntime(123): FATAL EXCEPTION: main", `{"level":"error","logger":"AndroidRuntime","pid":123,"message":"FATAL EXCEPTION: main"}`},
		{"Nov 23, 2026 8:00:00 PM org.foo.Bar method", `{"@timestamp":"2026-11-23T12:00:00Z","message":"org.foo.Bar method"}`},
		{"SEVERE: it broke", `{"level":"error","message":"it broke"}`},
		{"ERROR something broke", `{"level":"error","message":"something broke"}`},
		{`{"level":"warn","msg":"m"}`, `{"level":"warn","message":"m"}`},
		{`{level: warn}`, `{"message":"{level: warn}"}`},
		{"level=error msg=x", `{"level":"error","message":"x"}`},
		{"2026-11-23 20:00:00 level=error cause=y", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"cause=y"}`},
		{"worker 7 level=error cause=y", `{"level":"error","message":"worker 7 level=error cause=y"}`},
		{"\x1b[36mINFO\x1b[0m[0000] colored", `{"level":"info","message":"colored"}`},
		{"\x1b[2m2026-11-23T20:00:00.123456Z\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mapp::x\x1b[0m: colored\n\x1b[1mmore", `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","logger":"app::x","message":"colored\nmore"}`},
		{"2026-11-23 20:00:00,123 ERROR java.lang.NullPointerException: x\n\tat a.B", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"error","message":"java.lang.NullPointerException: x\n\tat a.B"}`},
		{"java.lang.IllegalStateException: closed\n\tat a.B", `{"level":"error","message":"java.lang.IllegalStateException: closed\n\tat a.B"}`},

		{"[Nest] 123  - 11/23/2026, 8:00:00 PM     LOG [NestFactory] Starting Nest application...", `{"@timestamp":"2026-11-23T12:00:00Z","level":"info","context":"NestFactory","pid":123,"message":"Starting Nest application..."}`},
		{"[Nest] 123  - 11/23/2026, 8:00:00 PM   ERROR [ExceptionsHandler] no stock, request_id=7f3c\nError: no stock\n    at a (/app/b.js:1:2)", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","context":"ExceptionsHandler","pid":123,"request_id":"7f3c","message":"no stock, request_id=7f3c\nError: no stock\n    at a (/app/b.js:1:2)"}`},
		{"[Nest] 7  - 11/23/2026, 8:00:00\u202fPM    WARN slow +5ms", `{"@timestamp":"2026-11-23T12:00:00Z","level":"warn","pid":7,"message":"slow +5ms"}`},
		{"[Nest] 7  - 11/23/2026, 8:00:00 PM VERBOSE [X] [y] z", `{"@timestamp":"2026-11-23T12:00:00Z","level":"debug","context":"X","pid":7,"message":"[y] z"}`},
		{"[Nest] 7   - 2026-11-23 20:00:00   [X] of old, without a level", `{"@timestamp":"2026-11-23T12:00:00Z","context":"X","pid":7,"message":"of old, without a level"}`},
		{"\x1b[32m[Nest] 7  - \x1b[39m11/23/2026, 8:00:00 PM \x1b[31m  FATAL\x1b[39m \x1b[38;5;3m[X] \x1b[39m\x1b[31mgone\x1b[39m", `{"@timestamp":"2026-11-23T12:00:00Z","level":"fatal","context":"X","pid":7,"message":"gone"}`},
		{"[Nest] is not started", `{"message":"[Nest] is not started"}`},
		{"11/23/2026 08:00:00 PM ERROR [main] c.e.Foo - it broke", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","thread":"main","logger":"c.e.Foo","message":"it broke"}`},
		{`{"level":"log","pid":7,"timestamp":1795464000123,"context":"X","message":"m"}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","pid":7,"context":"X","message":"m"}`},

		{"1795464000 ERROR it broke", `{"@timestamp":"2026-11-23T20:00:00Z","level":"error","message":"it broke"}`},
		{"1795464000.123 [main] WARN  c.e.Foo - slow", `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"warn","thread":"main","logger":"c.e.Foo","message":"slow"}`},
		{"1795464000123 INFO paid", `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","message":"paid"}`},
		{"[1795464000] ERROR it broke", `{"@timestamp":"2026-11-23T20:00:00Z","level":"error","message":"it broke"}`},
		{"11-23 20:00:00.123 ERROR it broke", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"error","message":"it broke"}`},
		{"2026-11-23 20:00:00 E it broke", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"it broke"}`},
		{"2026-11-23 20:00:00.123  WARN 1 --- [shop] [exec-1] [5f4dcc3b5aa765d61d8327deb882cf99-5f4dcc3b5aa765d6] c.e.Foo : slow", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"warn","app":"shop","thread":"exec-1","logger":"c.e.Foo","context":"5f4dcc3b5aa765d61d8327deb882cf99-5f4dcc3b5aa765d6","pid":1,"request_id":"5f4dcc3b5aa765d61d8327deb882cf99","message":"slow"}`},

		{"2026-11-23 20:00:00 CST ERROR it broke", `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","message":"it broke"}`},
		{"2026-11-23 20:00:00,123 CET [main] WARN  c.e.Foo - slow", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"warn","thread":"main","logger":"c.e.Foo","message":"slow"}`},
		{"23.11.2026 20:00:00.123 *ERROR* [main] c.e.Foo it broke", `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"error","thread":"main","message":"c.e.Foo it broke"}`},
		{"2026-11-23 20:00:00 (WARN) slow", `{"@timestamp":"2026-11-23T12:00:00Z","level":"warn","message":"slow"}`},
		{`[2026-11-23 20:00:00] production.ERROR: no stock {"userId":7}`, `{"@timestamp":"2026-11-23T12:00:00Z","level":"error","logger":"production","message":"no stock {\"userId\":7}"}`},
		{`[GIN] 2026/11/23 - 20:00:00 | 500 |     1.2ms |  10.0.0.1 | GET      "/x"`, `{"@timestamp":"2026-11-23T12:00:00Z","context":"GIN","message":"| 500 |     1.2ms |  10.0.0.1 | GET      \"/x\""}`},

		// What is no level, and no name.
		{"2026-11-23 20:00:00 SQL is slow", `{"@timestamp":"2026-11-23T12:00:00Z","message":"SQL is slow"}`},
		{"2026-11-23 20:00:00 see a.ERROR: none", `{"@timestamp":"2026-11-23T12:00:00Z","message":"see a.ERROR: none"}`},
		{"2026-11-23 20:00:00 *info* about things", `{"@timestamp":"2026-11-23T12:00:00Z","message":"*info* about things"}`},
		{"1795464000 was dialled", `{"message":"1795464000 was dialled"}`},
		{"8613812345678 ERROR no such number", `{"message":"8613812345678 ERROR no such number"}`},
		{"2026/11/23 20:00:00 INFO no error found", `{"@timestamp":"2026-11-23T12:00:00Z","level":"info","message":"no error found"}`},
		{"2026/11/23 20:00:00 got ERROR from peer", `{"@timestamp":"2026-11-23T12:00:00Z","message":"got ERROR from peer"}`},
		{"2026/11/23 20:00:00 info about things", `{"@timestamp":"2026-11-23T12:00:00Z","message":"info about things"}`},
		{"2026/11/23 20:00:00 alert sent to the team", `{"@timestamp":"2026-11-23T12:00:00Z","message":"alert sent to the team"}`},
		{"2026/11/23 20:00:00 critical section entered", `{"@timestamp":"2026-11-23T12:00:00Z","message":"critical section entered"}`},
		{"2026/11/23 20:00:00 config loaded", `{"@timestamp":"2026-11-23T12:00:00Z","message":"config loaded"}`},
		{"2026/11/23 20:00:00 I think so", `{"@timestamp":"2026-11-23T12:00:00Z","message":"I think so"}`},
		{"2026/11/23 20:00:00 A request came", `{"@timestamp":"2026-11-23T12:00:00Z","message":"A request came"}`},
		{"2026-11-23 20:00:00 INFO timeout - retrying", `{"@timestamp":"2026-11-23T12:00:00Z","level":"info","message":"timeout - retrying"}`},
		{"2026-11-23 20:00:00 INFO [order-svc] paid", `{"@timestamp":"2026-11-23T12:00:00Z","level":"info","message":"[order-svc] paid"}`},
		{"2026-11-23 20:00:00 [x] [y] [z] hi", `{"@timestamp":"2026-11-23T12:00:00Z","message":"[x] [y] [z] hi"}`},
		{"NOTE this is nothing", `{"message":"NOTE this is nothing"}`},
		{"alert: nothing", `{"message":"alert: nothing"}`},
		{"log_level=info is a setting", `{"message":"log_level=info is a setting"}`},
		{"2026-11-23 20:00:00", `{"@timestamp":"2026-11-23T12:00:00Z","message":"2026-11-23 20:00:00"}`},
		{"ERROR", `{"level":"error","message":"ERROR"}`},
		{"  at a.B(C.java:1)", `{"message":"  at a.B(C.java:1)"}`},
		{"", `{"message":""}`},
	} {
		for range 2 {
			if got := show(p, c[0]); got != c[1] {
				t.Errorf("%q:\n got %s\nwant %s", c[0], got, c[1])
			}
		}
	}
}

func TestRequestIDsInText(t *testing.T) {
	p := newTestApp()
	for text, want := range map[string]string{
		"paid request_id=7f3c, user=7":                           "7f3c",
		"paid requestId: 7f3c":                                   "7f3c",
		`paid {"requestId": "7f3c-1"}`:                           "7f3c-1",
		`paid "X-Request-ID":"7f3c"`:                             "7f3c",
		"paid req_id='7f3c'":                                     "7f3c",
		"paid [requestId=7f3c] x":                                "7f3c",
		"paid dd.trace_id=123 x":                                 "123",
		"paid x-b3-traceid: 5b8e":                                "5b8e",
		"paid trace_id=5b8e request_id=7f3c":                     "7f3c",
		"paid traceId=5b8e and correlation-id=9":                 "9",
		"AWS said no; Request ID: 7f3c-12.":                      "7f3c-12",
		"GET /x?request_id=7f3c&a=b":                             "7f3c",
		"paid request_id=null":                                   "",
		"paid request_id= x":                                     "x",
		"paid id=7":                                              "",
		"paid user_id=7":                                         "",
		"paid grid: 7":                                           "",
		"paid request_id=" + strings.Repeat("x", 300):            "",
		strings.Repeat("x", searched) + " request_id=7f3c":       "",
		"2026-11-23 20:00:00 INFO [7f3c0a1be24d9f66] paid":       "7f3c0a1be24d9f66",
		"2026-11-23 20:00:00 INFO [1234567890123456] paid":       "",
		"2026-11-23 20:00:00 INFO [req_7f3c] paid":               "req_7f3c",
		"first\nsecond request_id=7f3c":                          "7f3c",
		"2026-11-23 20:00:00 ERROR x request_id:7f3c: it failed": "7f3c",
	} {
		doc := show(p, text)
		got := ""
		if _, after, ok := strings.Cut(doc, `"request_id":"`); ok {
			got, _, _ = strings.Cut(after, `"`)
		}
		if got != want {
			t.Errorf("%.60q: %q, want %q", text, got, want)
		}
	}
}

func FuzzApp(f *testing.F) {
	for _, s := range appBenchLines {
		f.Add([]byte(s))
	}
	for _, s := range []string{"<11>1 - h a 1 m [x@1 a=\"\\\"]\"] y", "E1123 20:00:00.123456 1 a.go:1] x", "E, [2026-11-23T20:00:00 #1] ERROR -- a: b", "fail: A.B[0]\n  x",
		"1:M 23 Nov 2026 20:00:00.1 * x", "\x1b[31mERROR\x1b[0m[0001] x", "[a] [b] {c} (d.go:1) <Error> e", "WARNING:a:b", "I/a(1): b", "2026-11-23 20:00:00 UTC [1] a@b LOG:  x",
		"level=info msg=x id=1", `{"level":"info"}`, "Nov 23 20:00:00 h a[1]: x request_id=\xff"} {
		f.Add([]byte(s))
	}
	p := newTestApp()
	f.Fuzz(func(t *testing.T, text []byte) {
		doc := mustBeDocument(t, p, text)
		if fresh := mustBeDocument(t, newTestApp(), text); !bytes.Equal(doc, fresh) {
			t.Fatalf("what was read before changes %q:\n%s\n%s", text, doc, fresh)
		}
	})
}

var appBenchLines = []string{
	"2026-11-23 20:00:00,123 [http-nio-8080-exec-1] INFO  com.example.shop.OrderService - order 8841 of customer 77120 was placed with 3 items, total 129.95 EUR, request_id=7f3c0a1be24d9f6688aa01c3f5e7d9b2",
	"2026-11-23 20:00:00,123 - shop.orders - WARNING - the payment of order 8841 took longer than it should: 2.3 s at the gateway, and the customer was told to wait (attempt 2 of 5)",
	"2026/11/23 20:00:00 http: TLS handshake error from 10.0.0.1:4711: read tcp 10.0.0.2:443->10.0.0.1:4711: read: connection reset by peer, and more text to make the line as long as others",
}

func BenchmarkApp(b *testing.B) {
	for i, name := range []string{"logback", "python", "go"} {
		benchmarkParser(b, name, newApp(time.UTC), appBenchLines[i])
	}
}

func TestAppDoesNotAllocate(t *testing.T) {
	doesNotAllocate(t, newApp(shanghai), append(appBenchLines, "\x1b[31mERROR\x1b[0m[0001] x", "<11>1 - h a 1 m - y", "fail: A.B[0]\n  x", "20:00:00 x", "level=info msg=x", `{"level":"info"}`, "t=no")...)
}
