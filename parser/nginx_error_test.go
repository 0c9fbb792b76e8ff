package parser

import (
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func TestNginxErrorLines(t *testing.T) {
	const at = "2026-11-23T20:00:00.000Z error pid=1234 tid=5678 connection=90 "
	const head = "2026/11/23 20:00:00 [error] 1234#5678: *90 "
	for _, c := range []struct{ name, line, want string }{
		{"an upstream that refuses", head + `connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.7, server: shop.example.com, request: "GET /api/x?y=1 HTTP/1.1", upstream: "http://10.0.0.9:8080/api/x?y=1", host: "shop.example.com", referrer: "https://shop.example.com/"`,
			at + `message="connect() failed (111: Connection refused) while connecting to upstream" remote_addr="10.0.0.7" server="shop.example.com" method="GET" path="/api/x" query="y=1" http_version="1.1" upstream="http://10.0.0.9:8080/api/x?y=1" vhost="shop.example.com" referer="https://shop.example.com/"`},
		{"no connection", `2026/11/23 20:00:00 [notice] 1#1: using the "epoll" event method`, `2026-11-23T20:00:00.000Z info pid=1 tid=1 message="using the \"epoll\" event method"`},
		{"alert", `2026/11/23 20:00:00 [alert] 12#12: worker process 34 exited on signal 9`, `2026-11-23T20:00:00.000Z fatal pid=12 tid=12 message="worker process 34 exited on signal 9"`},
		{"before there is a log", `nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)`, `fatal message="bind() to 0.0.0.0:80 failed (98: Address already in use)"`},
		{"commas in the message", head + `limiting requests, excess: 0.5 by zone "one", client: 10.0.0.7, server: _, request: "GET / HTTP/1.1", host: "x"`,
			at + `message="limiting requests, excess: 0.5 by zone \"one\"" remote_addr="10.0.0.7" server="_" method="GET" path="/" http_version="1.1" vhost="x"`},
		{"a client in the path", head + `open() "/srv/a, client: b" failed (2: No such file or directory), client: 10.0.0.7, server: , request: "GET /a, client: b HTTP/1.1"`,
			at + `message="open() \"/srv/a, client: b\" failed (2: No such file or directory)" remote_addr="10.0.0.7" method="GET" path="/a, client: b" http_version="1.1"`},
		{"quotes in the request", head + `x, client: 10.0.0.7, server: a, request: "GET /"b", host: HTTP/1.1", host: "c"`,
			at + `message="x" remote_addr="10.0.0.7" server="a" method="GET" path="/\"b\", host:" http_version="1.1" vhost="c"`},
		{"cut at 2 KiB", head + `x, client: 10.0.0.7, server: a, request: "GET /bbbb`,
			at + `message="x" remote_addr="10.0.0.7" server="a" method="GET" path="/bbbb"`},
		{"a client alone", head + `client sent invalid method while reading client request line, client: 10.0.0.7, server: a, request: "\x16\x03"`,
			at + `message="client sent invalid method while reading client request line" remote_addr="10.0.0.7" server="a" request="\\x16\\x03"`},
		{"idle", head + `recv() failed (104: Connection reset by peer) while keepalive, client: 10.0.0.7`,
			at + `message="recv() failed (104: Connection reset by peer) while keepalive" remote_addr="10.0.0.7"`},
		{"stream", head + `upstream timed out, client: 10.0.0.7, server: 0.0.0.0:53, upstream: "10.0.0.1:53", bytes from/to client:10/0, bytes from/to upstream:0/10`,
			at + `message="upstream timed out" remote_addr="10.0.0.7" server="0.0.0.0:53" upstream="10.0.0.1:53" context="bytes from/to client:10/0, bytes from/to upstream:0/10"`},
		{"several lines", head + "FastCGI sent in stderr: \"PHP message: a\nStack trace:\n#0 b\" while reading response header from upstream, client: 10.0.0.7, server: a, request: \"POST /c HTTP/1.1\", upstream: \"fastcgi://unix:/run/php.sock:\", host: \"d\"",
			at + `message="FastCGI sent in stderr: \"PHP message: a\nStack trace:\n#0 b\" while reading response header from upstream" remote_addr="10.0.0.7" server="a" method="POST" path="/c" http_version="1.1" upstream="fastcgi://unix:/run/php.sock:" vhost="d"`},
		{"a level nobody knows", `2026/11/23 20:00:00 [shout] 1#1: x`, `message="2026/11/23 20:00:00 [shout] 1#1: x" parse_error="not of the nginx error log's format"`},
		{"cut in the head", `2026/11/23 20:00:00 [err`, `message="2026/11/23 20:00:00 [err" parse_error="not of the nginx error log's format"`},
		{"empty", ``, `message="" parse_error="not of the nginx error log's format"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fieldsOf(t, newNginxError(time.UTC), c.line); got != c.want {
				t.Errorf("line %s\n got %s\nwant %s", c.line, got, c.want)
			}
		})
	}
}

func TestNginxErrorTimesAreOfTheZone(t *testing.T) {
	got := fieldsOf(t, newNginxError(time.FixedZone("", 8*3600)), "2026/11/23 20:00:00 [warn] 1#1: x")
	if !strings.HasPrefix(got, "2026-11-23T12:00:00.000Z warn ") {
		t.Error(got)
	}
}

func TestNginxErrorDoesNotAllocate(t *testing.T) {
	p, r := newNginxError(time.UTC), new(record.Record)
	line := []byte(`2026/11/23 20:00:00 [error] 1#2: *3 x, client: 1.2.3.4, server: a, request: "GET /?x HTTP/1.1", host: "b"`)
	run := func() {
		r.Reset()
		p.Parse(line, r)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Fatalf("%v allocations per line", n)
	}
}

func FuzzNginxError(f *testing.F) {
	for _, line := range hostileLines {
		f.Add(line)
		f.Add("2026/11/23 20:00:00 [error] 1#2: *3 " + line + `, client: 1.2.3.4, server: ` + line + `, request: "` + line + `", host: "` + line)
	}
	f.Add("nginx: [emerg] x")
	f.Fuzz(func(t *testing.T, line string) {
		p, r := newNginxError(time.UTC), new(record.Record)
		text := []byte(line)
		r.Reset()
		p.Parse(text[:len(text):len(text)], r)
		checkRecord(t, r)
	})
}
