package parser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

var testOrigin = record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", File: "access.log"})

// checkRecord fails unless r encodes to one valid JSON object in UTF-8 in which no key
// stands twice, and returns the document.
func checkRecord(t *testing.T, r *record.Record) []byte {
	t.Helper()
	out, _ := testOrigin.AppendDoc(nil, r, r.Time, 0)
	if !json.Valid(out) || !utf8.Valid(out) {
		t.Fatalf("not JSON in UTF-8: %q", out)
	}
	seen := make(map[string]bool)
	for _, f := range r.Fields {
		if seen[f.Key] {
			t.Fatalf("key %q twice in %s", f.Key, out)
		}
		seen[f.Key] = true
	}
	return out
}

// fieldsOf parses a line and returns its fields as one line of JSON, without
// tailwater's own; the time stands first, as it was read.
func fieldsOf(t *testing.T, p Parser, line string) string {
	t.Helper()
	r := new(record.Record)
	r.Reset()
	p.Parse([]byte(line), r)
	checkRecord(t, r)
	var b bytes.Buffer
	if r.HasTime {
		b.WriteString(time.UnixMilli(r.Time).UTC().Format("2006-01-02T15:04:05.000Z "))
	}
	if r.Level != record.LevelNone {
		fmt.Fprintf(&b, "%s ", r.Level)
	}
	for i, f := range r.Fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		var val []byte
		switch f.Kind {
		case record.JSON:
			val = f.Val
		case record.Escaped:
			val = append(append([]byte{'"'}, f.Val...), '"')
		default:
			val = append(record.AppendEscaped([]byte{'"'}, f.Val), '"')
		}
		fmt.Fprintf(&b, "%s=%s", f.Key, val)
	}
	if r.ParseError != "" {
		fmt.Fprintf(&b, " parse_error=%q", r.ParseError)
	}
	return b.String()
}

func nginxParser(t *testing.T, format, escape string) Parser {
	t.Helper()
	f, err := Compile(Config{Kind: "nginx", Nginx: format, Escape: escape})
	if err != nil {
		t.Fatal(err)
	}
	return f.NewParser()
}

func TestNginxAccessLines(t *testing.T) {
	const at = "2026-11-23T20:00:00.000Z "
	for _, c := range []struct{ name, format, escape, line, want string }{
		{"combined", "combined", "",
			`203.0.113.7 - bob [23/Nov/2026:20:00:00 +0000] "GET /a/b?x=1&y=2 HTTP/1.1" 200 5316 "https://e.com/" "curl/8.0"`,
			at + `remote_addr="203.0.113.7" remote_user="bob" method="GET" path="/a/b" query="x=1&y=2" http_version="1.1" status_code=200 bytes_sent=5316 referer="https://e.com/" user_agent="curl/8.0"`},
		{"what is absent", "main", "",
			`2001:db8::1 - - [23/Nov/2026:20:00:00 +0000] "-" 400 0 "-" "-" "-"`,
			at + `remote_addr="2001:db8::1" status_code=400 bytes_sent=0`},
		{"an empty request", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "" 400 0 "-" "-"`,
			at + `remote_addr="1.2.3.4" status_code=400 bytes_sent=0`},
		{"a TLS handshake at the plain port", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "\x16\x03\x01\x00\xEE\x01\x00" 400 150 "-" "-"`,
			at + `remote_addr="1.2.3.4" request="\\x16\\x03\\x01\\x00\\xEE\\x01\\x00" status_code=400 bytes_sent=150`},
		{"a handshake with a blank in it", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "\x16\x03 /x HTTP/1.1" 400 150 "-" "-"`,
			at + `remote_addr="1.2.3.4" request="\\x16\\x03 /x HTTP/1.1" status_code=400 bytes_sent=150`},
		{"one word", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "quit" 400 150 "-" "-"`,
			at + `remote_addr="1.2.3.4" request="quit" status_code=400 bytes_sent=150`},
		{"two words that are no request", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "HELO mail" 400 150 "-" "-"`,
			at + `remote_addr="1.2.3.4" request="HELO mail" status_code=400 bytes_sent=150`},
		{"HTTP/0.9", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET /x" 200 150 "-" "-"`,
			at + `remote_addr="1.2.3.4" method="GET" path="/x" status_code=200 bytes_sent=150`},
		{"HTTP/2 and 3", "$request", "", `GET /x HTTP/2.0`, `method="GET" path="/x" http_version="2.0"`},
		{"a short version", "$request", "", `GET /x HTTP/3`, `method="GET" path="/x" http_version="3"`},
		{"blanks in the target", "$request", "", `GET /a b c?d e HTTP/1.1`, `method="GET" path="/a b c" query="d e" http_version="1.1"`},
		{"a proxy's request", "$request", "", `GET http://e.com:80/p?q=http://x/ HTTP/1.1`, `method="GET" path="/p" query="q=http://x/" http_version="1.1"`},
		{"CONNECT", "$request", "", `CONNECT e.com:443 HTTP/1.1`, `method="CONNECT" path="e.com:443" http_version="1.1"`},
		{"OPTIONS", "$request", "", `OPTIONS * HTTP/1.1`, `method="OPTIONS" path="*" http_version="1.1"`},
		{"an empty query", "$request", "", `GET /x? HTTP/1.1`, `method="GET" path="/x" http_version="1.1"`},
		{"a quote in the agent", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET /\x22a\x22?\x5C HTTP/1.1" 200 1 "-" "a \x22b\x22 \xD0\xB6 \xE4"`,
			at + `remote_addr="1.2.3.4" method="GET" path="/\"a\"" query="\\" http_version="1.1" status_code=200 bytes_sent=1 user_agent="a \\x22b\\x22 \\xD0\\xB6 \\xE4"`},
		{"a quote in the agent, in UTF-8", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "a \x22b\x22 \xD0\xB6\x09"`,
			at + `remote_addr="1.2.3.4" method="GET" path="/" http_version="1.1" status_code=200 bytes_sent=1 user_agent="a \"b\" ж\t"`},
		{"another server's quote", "combined", "",
			`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "a \"b\" \\c"`,
			at + `remote_addr="1.2.3.4" method="GET" path="/" http_version="1.1" status_code=200 bytes_sent=1 user_agent="a \"b\" \\c"`},
		{"a backslash at the end", "$http_a", "", `x\`, `http_a="x\\"`},
		{"not quite an escape", "$http_a", "", `\x4 \xG1 \x4`, `http_a="\\x4 \\xG1 \\x4"`},
		{"zeros before numbers", "$status $body_bytes_sent $request_time $request_length", "", `000 007 00.500 0`,
			`status_code=0 bytes_sent=7 request_time=0.500 request_length=0`},
		{"nine", "$status", "", `009`, `status_code=9`},
		{"the final time of several", "$upstream_response_time $status", "", `0.100, 0.200 : 0.300 200`, `upstream_time=0.600 upstream_times="0.100, 0.200 : 0.300" status_code=200`},
		{"a server that did not answer", "$upstream_response_time $status", "", `0.100, - 502`, `upstream_time=0.100 upstream_times="0.100, -" status_code=502`},
		{"none that answered", "$upstream_response_time $status", "", `-, - : - 502`, `upstream_times="-, - : -" status_code=502`},
		{"lists side by side", "$upstream_addr $upstream_status $upstream_response_time $upstream_connect_time $upstream_response_length $host", "",
			`10.0.0.1:80, unix:/run/a.sock : [::1]:8080 502, 504 : 200 0.001, 0.002 : 1.5 0.000, - : 0.001 0, 0 : 17 e.com`,
			`upstream_addr="10.0.0.1:80, unix:/run/a.sock : [::1]:8080" upstream_status=200 upstream_statuses="502, 504 : 200" upstream_time=1.503 upstream_times="0.001, 0.002 : 1.5" upstream_connect_time=0.001 upstream_connect_times="0.000, - : 0.001" upstream_response_length=17 upstream_response_lengths="0, 0 : 17" vhost="e.com"`},
		{"lists between commas", "$status,$upstream_response_time,$upstream_status,$host", "", `200,0.1, 0.2,502, 200,e.com`,
			`status_code=200 upstream_time=0.3 upstream_times="0.1, 0.2" upstream_status=200 upstream_statuses="502, 200" vhost="e.com"`},
		{"lists between colons", "$upstream_response_time : $status", "", `0.1, 0.2 : 0.3 : 200`, `upstream_time=0.6 upstream_times="0.1, 0.2 : 0.3" status_code=200`},
		{"forwarded through two", "$http_x_forwarded_for $status", "", `1.1.1.1, 2.2.2.2 200`, `http_x_forwarded_for="1.1.1.1, 2.2.2.2" status_code=200`},
		{"an agent without quotes", "$remote_addr $http_user_agent $request_time $status", "", `1.2.3.4 Mozilla/5.0 (X11; 5.0 300) Q 0.123 200`,
			`remote_addr="1.2.3.4" user_agent="Mozilla/5.0 (X11; 5.0 300) Q" request_time=0.123 status_code=200`},
		{"a request without quotes", "$remote_addr $request $status $request_id", "", `1.2.3.4 GET /a b HTTP/1.1 200 abc`,
			`remote_addr="1.2.3.4" method="GET" path="/a b" http_version="1.1" status_code=200 request_id="abc"`},
		{"a user with a blank and a bracket", "combined", "",
			`1.2.3.4 - a [b [23/Nov/2026:20:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"`,
			at + `remote_addr="1.2.3.4" remote_user="a [b" method="GET" path="/" http_version="1.1" status_code=200 bytes_sent=1`},
		{"bare times", "$time_local $msec $time_iso8601 $status", "", `23/Nov/2026:20:00:00 +0000 1795464000.789 2026-11-23T20:00:00+00:00 200`,
			"2026-11-23T20:00:00.789Z status_code=200"},
		{"a zone in the east", "$time_iso8601|$status", "", `2026-11-24T01:30:00+05:30|200`, at + "status_code=200"},
		{"a zone in the west", "[$time_local] $status", "", `[23/Nov/2026:12:00:00 -0800] 200`, at + "status_code=200"},
		{"a leap day", "$time_iso8601", "", `2028-02-29T00:00:00+00:00`, "2028-02-29T00:00:00.000Z "},
		{"side by side", "$scheme://$host$request_uri $status", "", `https://e.com/a?b=/c 200`, `scheme="https" vhost="e.com" path="/a" query="b=/c" status_code=200`},
		{"side by side without a path", "$scheme://$host$request_uri $status", "", `http://e.com- 400`, `scheme="http" vhost="e.com" status_code=400`},
		{"nothing between scheme and host", "$scheme$host$uri$is_args$args", "", `httpse.com/a?b`, `scheme="https" vhost="e.com" path="/a" query="b"`},
		{"path and args", "$request_method $uri$is_args$args $server_protocol", "", `GET /a-?b=c HTTP/1.1`, `method="GET" path="/a-" query="b=c" http_version="1.1"`},
		{"path without args", "$request_method $uri$is_args$args $server_protocol", "", `GET /a- HTTP/1.1`, `method="GET" path="/a" http_version="1.1"`},
		{"pipelined", "$connection$pipe $request_time$pipe", "", `17p 0.001.`, `connection=17 pipe="p" request_time=0.001`},
		{"nothing to tell them apart", "$http_a$http_b $status", "", `xy z 200`, `http_a_http_b="xy z" status_code=200`},
		{"braces", "${status}x${request_time}s", "", `200x0.1s`, `status_code=200 request_time=0.1`},
		{"twice", "$status $status", "", `200 200`, `status_code=200`},
		{"more than one request", `"$request" $request_uri $uri $args $request_method`, "", `"GET /a?b HTTP/1.1" /a?b /index.html b GET`,
			`method="GET" path="/a" query="b" http_version="1.1" request_uri="/a?b" uri="/index.html" args="b" request_method="GET"`},
		{"of two ids the first", "$http_x_request_id $request_id", "", `abc 123`, `http_x_request_id="abc" request_id="123"`},
		{"of two ids the one that is there", "$http_x_request_id $req_id", "", `abc -`, `http_x_request_id="abc" request_id="abc"`},
		{"tailwater's own names", "$level $id $file $path $request", "", `a b c d GET /x HTTP/1.1`,
			`orig_level="a" orig_id="b" orig_file="c" orig_path="d" method="GET" path="/x" http_version="1.1"`},
		{"what a client may claim", "$content_length $status", "", `12a 400`, `content_length_text="12a" status_code=400`},
		{"what it claims honestly", "$content_length $status", "", `12 200`, `content_length=12 status_code=200`},
		{"ingress-nginx", "upstreaminfo", "",
			`10.42.0.1 - - [23/Nov/2026:20:00:00 +0000] "POST /v1/pay HTTP/2.0" 201 17 "-" "Go-http-client/2.0" 512 0.034 [shop-pay-8080] [] 10.42.1.9:8080, 10.42.1.7:8080 0, 17 0.001, 0.032 502, 201 4b0e3d9f1ad64b9e9d4d1f2c0a7b5566`,
			at + `remote_addr="10.42.0.1" method="POST" path="/v1/pay" http_version="2.0" status_code=201 bytes_sent=17 user_agent="Go-http-client/2.0" request_length=512 request_time=0.034 proxy_upstream_name="shop-pay-8080" upstream_addr="10.42.1.9:8080, 10.42.1.7:8080" upstream_response_length=17 upstream_response_lengths="0, 17" upstream_time=0.033 upstream_times="0.001, 0.032" upstream_status=201 upstream_statuses="502, 201" request_id="4b0e3d9f1ad64b9e9d4d1f2c0a7b5566"`},
		{"escape=json", `$remote_addr "$http_user_agent" "$http_referer" $status`, "json", `1.2.3.4 "a \"b\" \\" "\u0001ж" 200`,
			`remote_addr="1.2.3.4" user_agent="a \"b\" \\" referer="\u0001ж" status_code=200`},
		{"escape=json without values", `$remote_user "$http_user_agent" $upstream_response_time $status`, "json", ` ""  200`, `status_code=200`},
		{"escape=none", `"$http_user_agent" "$http_referer" $status`, "none", `"a "b" \x22" "c" 200`, `user_agent="a \"b\" \\x22" referer="c" status_code=200`},
		{"not of the format", "combined", "", `GET / HTTP/1.1`, `message="GET / HTTP/1.1" parse_error="not of the nginx log_format"`},
		{"something behind it", "$status $request_time", "", `200 0.1 x`, `message="200 0.1 x" parse_error="not of the nginx log_format"`},
		{"not a number", "$request_time", "", `1e5`, `message="1e5" parse_error="not of the nginx log_format"`},
		{"not a day", "[$time_local]", "", `[31/Nov/2026:20:00:00 +0000]`, `message="[31/Nov/2026:20:00:00 +0000]" parse_error="not of the nginx log_format"`},
		{"cut short", "combined", "", `1.2.3.4 - - [23/Nov/2026:20:0`, `message="1.2.3.4 - - [23/Nov/2026:20:0" parse_error="not of the nginx log_format"`},
		{"an empty line", "combined", "", ``, `message="" parse_error="not of the nginx log_format"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fieldsOf(t, nginxParser(t, c.format, c.escape), c.line); got != c.want {
				t.Errorf("format %s\nline %s\n got %s\nwant %s", c.format, c.line, got, c.want)
			}
		})
	}
}

func TestNginxFillsWhatAlertsRead(t *testing.T) {
	p, r := nginxParser(t, "$status $request_time $upstream_response_time", ""), new(record.Record)
	for _, c := range []struct {
		line         string
		status       int32
		request, ups float64
	}{
		{"200 0.123 0.1, 0.02", 200, 0.123, 0.12},
		{"499 12.000 -", 499, 12, -1},
		{"000 - -, -", 0, -1, -1},
		{"garbage", 0, -1, -1},
	} {
		r.Reset()
		p.Parse([]byte(c.line), r)
		if r.Status != c.status || r.RequestTime != c.request || r.UpstreamTime != c.ups {
			t.Errorf("%s: %d %v %v", c.line, r.Status, r.RequestTime, r.UpstreamTime)
		}
	}
}

// In a log_format that writes JSON the keys are the user's own: what is behind them is
// known by the variables.
func TestNginxJSONWithKeysOfAnyName(t *testing.T) {
	const format = `{"t":"$time_iso8601","st":$status,"cost":$request_time,"up":{"cost":"$upstream_response_time","at":"$upstream_addr"},` +
		`"req":"$request","rid":"$request_id","ua":"$http_user_agent","host":"edge-1","who":"$remote_addr:$remote_port","app":"$app_name","msg":"$body_bytes_sent"}`
	p := nginxParser(t, format, "json")
	for _, c := range [][2]string{
		{`{"t":"2026-11-23T20:00:00+00:00","st":502,"cost":0.300,"up":{"cost":"0.1, 0.2","at":"10.0.0.1:80, 10.0.0.2:80"},"req":"GET /a?b=c HTTP/1.1","rid":"7f3c","ua":"curl \"8\"","host":"edge-1","who":"1.2.3.4:5","app":"shop","msg":"12"}`,
			`{"@timestamp":"2026-11-23T20:00:00Z","status_code":502,"request_time":0.300,"upstream_time":0.3,"upstream_times":"0.1, 0.2","upstream_addr":"10.0.0.1:80, 10.0.0.2:80",` +
				`"method":"GET","path":"/a","query":"b=c","http_version":"1.1","request_id":"7f3c","user_agent":"curl \"8\"","orig_host":"edge-1","who":"1.2.3.4:5","app":"shop","bytes_sent":12}`},
		{`{"t":"2026-11-23T20:00:00+00:00","st":400,"cost":0.000,"up":{"cost":"","at":""},"req":"","rid":"7f3c","ua":"","host":"edge-1","who":"1.2.3.4:5","app":"","msg":"0"}`,
			`{"@timestamp":"2026-11-23T20:00:00Z","status_code":400,"request_time":0.000,"request_id":"7f3c","orig_host":"edge-1","who":"1.2.3.4:5","app":"","bytes_sent":0}`},
	} {
		for range 2 {
			if got := show(p, c[0]); got != c[1] {
				t.Errorf("%s:\n got %s\nwant %s", c[0], got, c[1])
			}
		}
	}
}

func TestNginxKeysThatTheConfigurationHasTaken(t *testing.T) {
	p, r := nginxParser(t, "$remote_addr $request_time $scheme$host", ""), new(record.Record)
	for _, keys := range []*record.Keys{record.NewKeys("vhost", "request_time"), record.NewKeys()} {
		r.Reserve(keys)
		r.Reset()
		p.Parse([]byte("1.2.3.4 0.5 httpe.com"), r)
		for _, key := range []string{"vhost", "request_time"} {
			if keys.Has(key) {
				key = "orig_" + key
			}
			if _, ok := r.Get(key); !ok {
				t.Errorf("no %s among %v", key, r.Fields)
			}
		}
	}
}

func TestNginxTimesAreReadOnceASecondAndRightEachTime(t *testing.T) {
	p, r := nginxParser(t, "[$time_local] $status", ""), new(record.Record)
	zones := []*time.Location{time.UTC, time.FixedZone("", 5*3600+1800), time.FixedZone("", -9*3600)}
	at := time.Date(1999, 12, 31, 23, 58, 57, 0, time.UTC)
	for i := range 5000 {
		at = at.Add(time.Duration(i%5) * time.Second)
		if i%100 == 0 {
			at = at.Add(time.Duration(i) * time.Hour)
		}
		r.Reset()
		p.Parse([]byte(at.In(zones[i/7%3]).Format("[02/Jan/2006:15:04:05 -0700]")+" 200"), r)
		if !r.HasTime || r.Time != at.UnixMilli() {
			t.Fatalf("%v became %v", at, time.UnixMilli(r.Time).UTC())
		}
	}
}

func TestNginxFormatsThatCannotBe(t *testing.T) {
	for _, c := range []struct{ format, escape, want string }{
		{" ", "", `nginx format: no variable in " "; write the log_format as it stands in nginx.conf, or one of the names combined, main, upstreaminfo`},
		{"combined2", "", `nginx format: no variable in "combined2"; write`},
		{"$remote_addr $ x", "", `nginx format: variable "$" without a name at column 14`},
		{"é $", "", `nginx format: variable "$" without a name at column 3`},
		{"${a", "", `nginx format: variable "${a" at column 1 lacks its closing brace`},
		{"$a", "xml", `nginx format: unknown escape "xml"; nginx knows default, json and none`},
	} {
		_, err := Compile(Config{Kind: "nginx", Nginx: c.format, Escape: c.escape})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v", c.format, err)
		}
	}
}

func TestNginxAccessDoesNotAllocate(t *testing.T) {
	p, r := nginxParser(t, gatewayFormat, ""), new(record.Record)
	lines := gatewayLines(300)
	lines = append(lines, []byte(`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET /\x22 HTTP/1.1" 200 1 "-" "\x22" 0.1 0.1, 0.2 abc`), []byte(`garbage`),
		[]byte(`1.2.3.4 - a [b [23/Nov/2026:20:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-" 0.1 0.1 -`))
	run := func() {
		for _, line := range lines {
			r.Reset()
			p.Parse(line, r)
		}
	}
	run()
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Fatalf("%v allocations per run", n)
	}
}
