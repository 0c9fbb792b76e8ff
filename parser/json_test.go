package parser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// show parses a line and returns its document without tailwater's constant part, with
// the time when the line has one.
func show(p Parser, line string) string {
	var r record.Record
	r.Reset()
	p.Parse([]byte(line), &r)
	return showRecord(&r)
}

var noOrigin = record.NewOrigin(record.OriginFields{})

func showRecord(r *record.Record) string {
	doc, _ := noOrigin.AppendDoc(nil, r, r.Time, 0)
	_, rest, _ := strings.Cut(string(doc[:len(doc)-1]), `"offset":0`)
	rest = "{" + strings.TrimPrefix(rest, ",")
	if r.HasTime {
		rest = strings.Replace(rest, "{", `{"@timestamp":"`+time.UnixMilli(r.Time).UTC().Format(time.RFC3339Nano)+`",`, 1)
	}
	return strings.Replace(rest, ",}", "}", 1)
}

func TestJSONOfAllLoggers(t *testing.T) {
	for name, c := range map[string][2]string{
		"zap": {`{"level":"info","ts":1795464000.1230001,"logger":"http","caller":"a/b.go:7","msg":"served","status":200,"took":0.25,"requestId":"a-1"}`,
			`{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","logger":"http","caller":"a/b.go:7","message":"served","status":200,"took":0.25,"request_id":"a-1"}`},
		"logrus": {`{"level":"warning","msg":"slow","time":"2026-11-23T20:00:00+08:00"}`, `{"@timestamp":"2026-11-23T12:00:00Z","level":"warn","message":"slow"}`},
		"pino": {`{"level":30,"time":1795464000123,"pid":7,"hostname":"n1","req":{"id":"q1","method":"GET","headers":{"x-request-id":"q1"}},"msg":"done"}`,
			`{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","pid":7,"hostname":"n1","request_id":"q1","req.method":"GET","req.headers.x-request-id":"q1","message":"done"}`},
		"bunyan": {`{"name":"a","hostname":"n1","pid":7,"level":50,"msg":"no","time":"2026-11-23T20:00:00.123Z","v":0}`,
			`{"@timestamp":"2026-11-23T20:00:00.123Z","level":"error","name":"a","hostname":"n1","pid":7,"message":"no","v":0}`},
		"logstash-encoder": {`{"@timestamp":"2026-11-23T20:00:00.123+08:00","@version":"1","message":"x","logger_name":"c.e.Foo","thread_name":"main","level":"ERROR","level_value":40000,"stack_trace":"a\n\tat b"}`,
			`{"@timestamp":"2026-11-23T12:00:00.123Z","level":"error","@version":"1","message":"x","logger_name":"c.e.Foo","thread_name":"main","level_value":40000,"stack_trace":"a\n\tat b"}`},
		"ecs": {`{"@timestamp":"2026-11-23T20:00:00Z","log":{"level":"WARN","logger":"l"},"message":"m","event":{"dataset":"d"},"trace":{"id":"t1"},"host":{"name":"h"}}`,
			`{"@timestamp":"2026-11-23T20:00:00Z","level":"warn","log.logger":"l","message":"m","event.dataset":"d","request_id":"t1","orig_host.name":"h"}`},
		"slog":               {`{"time":"2026-11-23T20:00:00.123456789Z","level":"INFO+2","msg":"m","g":{"a":1,"b":{"c":true}}}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","message":"m","g.a":1,"g.b.c":true}`},
		"zerolog":            {`{"level":"panic","time":1795464000,"message":"m"}`, `{"@timestamp":"2026-11-23T20:00:00Z","level":"fatal","message":"m"}`},
		"python-json-logger": {`{"asctime": "2026-11-23 20:00:00,123", "levelname": "CRITICAL", "levelno": 50, "name": "n", "message": "m"}`, `{"@timestamp":"2026-11-23T12:00:00.123Z","level":"fatal","levelno":50,"name":"n","message":"m"}`},
		"structlog":          {`{"event": "it happened", "level": "info", "timestamp": "2026-11-23T20:00:00Z"}`, `{"@timestamp":"2026-11-23T20:00:00Z","level":"info","message":"it happened"}`},
		"serilog":            {`{"@t":"2026-11-23T20:00:00.1234567Z","@mt":"hello {n}","@m":"hello 1","n":1}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"info","message":"hello 1","@mt":"hello {n}","n":1}`},
		"serilog warning":    {`{"@t":"2026-11-23T20:00:00Z","@mt":"x","@l":"Warning"}`, `{"@timestamp":"2026-11-23T20:00:00Z","level":"warn","message":"x"}`},
		"log4j2": {`{"instant":{"epochSecond":1795464000,"nanoOfSecond":123000000},"thread":"main","level":"FATAL","loggerName":"x","message":"m"}`,
			`{"@timestamp":"2026-11-23T20:00:00.123Z","level":"fatal","thread":"main","loggerName":"x","message":"m"}`},
		"gelf":    {`{"version":"1.1","host":"h","short_message":"m","timestamp":1795464000.123,"level":3,"_user":7}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"error","version":"1.1","orig_host":"h","message":"m","_user":7}`},
		"otel":    {`{"timeUnixNano":"1795464000123456789","severityNumber":17,"body":"m","traceId":"5b8e"}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"error","message":"m","request_id":"5b8e"}`},
		"journal": {`{"__REALTIME_TIMESTAMP":"1795464000123456","PRIORITY":"4","MESSAGE":"m"}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"warn","message":"m"}`},
		"monolog": {`{"message":"m","level":400,"level_name":"ERROR","datetime":"2026-11-23T20:00:00.123456+00:00"}`, `{"@timestamp":"2026-11-23T20:00:00.123Z","level":"error","message":"m","level_name":"ERROR"}`},
		"nginx": {`{"time":"2026-11-23T20:00:00+00:00","remote_addr":"10.0.0.7","request":"GET /a?b=c HTTP/1.1","status":"502","body_bytes_sent":"157","request_time":"1.250","upstream_response_time":"0.250, 1.000","http_referer":"-","http_user_agent":"curl/8","host":"shop","request_id":"r7"}`,
			`{"@timestamp":"2026-11-23T20:00:00Z","remote_addr":"10.0.0.7","method":"GET","path":"/a","query":"b=c","http_version":"1.1","status_code":502,"bytes_sent":157,"request_time":1.250,"upstream_time":1.250,"upstream_times":"0.250, 1.000","user_agent":"curl/8","vhost":"shop","request_id":"r7"}`},
		"nginx, numbers": {`{"time_iso8601":"2026-11-23T20:00:00+00:00","status":200,"request_time":0.001,"upstream_response_time":"-","request_method":"GET","request_uri":"/x?y","server_protocol":"HTTP/2.0","body_bytes_sent":0}`,
			`{"@timestamp":"2026-11-23T20:00:00Z","status_code":200,"request_time":0.001,"method":"GET","path":"/x","query":"y","http_version":"2.0","bytes_sent":0}`},
		"nginx, as passed on": {`{"@timestamp":"2026-11-23T20:00:00+08:00","host":"10.0.0.1","clientip":"10.0.0.7","size":5,"responsetime":0.040,"upstreamtime":"0.040","upstreamhost":"10.0.0.9:80","http_host":"shop","url":"/x","status":"404"}`,
			`{"@timestamp":"2026-11-23T12:00:00Z","vhost":"10.0.0.1","remote_addr":"10.0.0.7","bytes_sent":5,"request_time":0.040,"upstream_time":0.040,"upstream_addr":"10.0.0.9:80","http_host":"shop","url":"/x","status_code":404}`},
		"no nginx":         {`{"status":"200","host":"x","request":"y"}`, `{"status":"200","orig_host":"x","request":"y"}`},
		"tailwater's own":  {`{"@timestamp":"2026-11-23T20:00:00.000Z","id":"m-g-7","offset":7,"host":"h","input":"i","file":"/f","project":"p","level":"error","message":"m","status_code":502}`, `{"@timestamp":"2026-11-23T20:00:00Z","level":"error","orig_id":"m-g-7","orig_offset":7,"orig_host":"h","orig_input":"i","orig_file":"/f","orig_project":"p","message":"m","status_code":502}`},
		"exported":         {`{"_index":"logs","_id":"507f","_source":{"message":"m","_id":7},"_score":1}`, `{"orig__index":"logs","orig__id":"507f","orig__source.message":"m","orig__source._id":7,"_score":1}`},
		"numbers as words": {`{"status_code":"502","request_time":"0.5","upstream_time":"-","bytes_sent":"12kB"}`, `{"status_code":502,"request_time":0.5,"bytes_sent_text":"12kB"}`},
		"two of a kind":    {`{"msg":"weak","message":"strong","trace_id":"t","request_id":"r","date":"2020-01-01","ts":1,"time":"2026-11-23T20:00:00Z"}`, `{"@timestamp":"2026-11-23T20:00:00Z","message":"strong","msg":"weak","request_id":"r","trace_id":"t","date":"2020-01-01","ts":1}`},
		"unknown level":    {`{"level":"loud","msg":"m"}`, `{"orig_level":"loud","message":"m"}`},
		"priority":         {`{"priority":3,"msg":"an order"}`, `{"priority":3,"message":"an order"}`},
		"twice":            {`{"a":1,"b":2,"a":"x","msg":"1","msg":"2","level":"info","level":"error"}`, `{"level":"error","a":"x","b":2,"message":"2"}`},
		"twice, disguised": {`{"a.b":1,"a":{"b":2},"\u0061.b":3}`, `{"a.b":3}`},
		"message object":   {`{"message":{"a":[1, 2]},"n":null,"e":{},"f":[]}`, `{"message":"{\"a\":[1, 2]}","f":[]}`},
		"message number":   {`{"msg":42}`, `{"message":"42"}`},
		"empty names":      {`{"":1,"a":{"":2},".b":3,"c..d":4}`, `{"_":1,"a._":2,"_.b":3,"c._.d":4}`},
		"white space":      {" {\t\"a\" : [ 1 ,\n { \"b\" : 2 } ] , \"c\" : \"d\" }\r\n", `{"a":[1,{"b":2}],"c":"d"}`},
		"keys in arrays":   {`{"a":[{"b":1,"b":2}],"c":[{"b":1},{"b":2}]}`, `{"a":"[{\"b\":1,\"b\":2}]","c":[{"b":1},{"b":2}]}`},
		"broken strings":   {"{\"a\":\"tab\there\",\"b\":\"\\x22q\\x22\",\"c\":\"\\ud800\",\"d\":\"\xff\",\"e\":[\"\xff\"],\"k\xff\":1,\"f\":\"C:\\dir\"}", `{"a":"tab\there","b":"\"q\"","c":"�","d":"�","e":["�"],"k�":1,"f":"C:\\dir"}`},
		"id in the text":   {`{"msg":"paid {\"request_id\": \"7f3c\"}"}`, `{"message":"paid {\"request_id\": \"7f3c\"}","request_id":"7f3c"}`},
		"renamed before":   {`{"orig_level":"error","level":"loud"}`, `{"orig_level":"loud"}`},
		"numeric id":       {`{"req_id":12345}`, `{"request_id":"12345"}`},
		"empty":            {`{}`, `{}`},
	} {
		p := newJSON(JSONKeys{}, shanghai)
		for i := range 3 { // learning, then knowing, and with something else between
			if got := show(p, c[0]); got != c[1] {
				t.Errorf("%s, pass %d:\n got %s\nwant %s", name, i, got, c[1])
			}
			if i == 1 {
				show(p, `{"level":"info","other":{"a":1},"msg":"x"}`)
			}
		}
	}
}

func TestJSONKeysOfTheConfiguration(t *testing.T) {
	p := newJSON(JSONKeys{Time: "when", Level: "how.bad", Message: "what", RequestID: "who"}, time.UTC)
	got := show(p, `{"time":"2020-01-01T00:00:00Z","message":"m","level":"info","when":"2026-11-23 20:00:00","how":{"bad":"err"},"what":"w","who":"1","request_id":"2"}`)
	want := `{"@timestamp":"2026-11-23T20:00:00Z","level":"error","message":"w","time":"2020-01-01T00:00:00Z","orig_message":"m","orig_level":"info","request_id":"1","orig_request_id":"2"}`
	if !sameJSON(got, want) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func sameJSON(a, b string) bool {
	var x, y map[string]any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

func TestLinesThatAreNoJSON(t *testing.T) {
	many := "{"
	for i := range maxFields + 1 {
		many += fmt.Sprintf(`"k%d":1,`, i)
	}
	for line, reason := range map[string]string{
		"":               notAnObject,
		"panic: no":      notAnObject,
		`[1]`:            notAnObject,
		`"a"`:            notAnObject,
		`{"a":1} x`:      invalidJSON,
		`{"a":1}{"a":2}`: invalidJSON,
		`{"a":01}`:       invalidJSON,
		`{"a":1.}`:       invalidJSON,
		`{"a":+1}`:       invalidJSON,
		`{"a":NaN}`:      invalidJSON,
		`{"a":tru}`:      invalidJSON,
		`{"a":1,}`:       invalidJSON,
		`{,"a":1}`:       invalidJSON,
		`{"a" 1}`:        invalidJSON,
		`{a:1}`:          invalidJSON,
		`{"a":[1,]}`:     invalidJSON,
		`{"a":[{"b"}]}`:  invalidJSON,
		`{"a":"x`:        jsonEndsEarly,
		`{"a":"x\`:       jsonEndsEarly,
		`{"a":`:          jsonEndsEarly,
		`{"a"`:           jsonEndsEarly,
		`{"a":tr`:        jsonEndsEarly,
		`{`:              jsonEndsEarly,
		`{"a":[1,{"b":"`: jsonEndsEarly,
		`{"a":{"b":1}`:   jsonEndsEarly,
		many + `"z":1}`:  jsonTooMany,
		`{"a":` + strings.Repeat("[", maxDepth+1):          jsonTooDeep,
		`{"` + strings.Repeat("k", maxKeyBytes+1) + `":1}`: jsonLongKey,
	} {
		p := newJSON(JSONKeys{}, time.UTC)
		for range 2 {
			var r record.Record
			r.Reset()
			r.Partial = true
			p.Parse([]byte(line), &r)
			if len(r.Fields) != 1 || r.Fields[0].Key != "message" || string(r.Fields[0].Val) != line || r.ParseError != reason || !r.Partial || r.HasTime || r.Level != 0 {
				t.Errorf("%.80q: %q, %s", line, r.ParseError, showRecord(&r))
			}
		}
	}
}

// A file whose keys are different in every line must not fill the memory, and its
// parser must go on reading right.
func TestKeysWithoutEnd(t *testing.T) {
	p := newJSON(JSONKeys{}, time.UTC).(*jsonParser)
	for i := range 10 * maxLearned {
		line := fmt.Sprintf(`{"level":"info","k%d":{"x%d":1,"x%d":2}}`, i, i, i)
		if got, want := show(p, line), fmt.Sprintf(`{"level":"info","k%d.x%d":2}`, i, i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if n := len(p.tables[0].keys); n > 2*maxLearned {
		t.Errorf("%d keys are remembered", n)
	}
}

// What a reader of the line without this package would see must stand in the document,
// and whatever the line is, the document is one valid line without a key twice.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"level":"info","ts":1795464000.123,"msg":"served","n":{"a":[1,{"b":"c"}],"d":null}}`, `{"a":"\u00e9\ud83d\ude00\n","b":-1.5e-7,"a":true}`,
		`{"status":"502","request":"GET / HTTP/1.1","request_time":"0.1","upstream_response_time":"0.1, -"}`, "{\"a\":\"\xff\x01\\x22\"}", `{"a":{"b":{"c":[[]]}},"a.b":1}`,
		`{"message":[1],"id":{"x":1},"level":{"y":2}}`, " {\"a\" :\n[ 1 ] } "} {
		f.Add([]byte(s))
	}
	used := newJSON(JSONKeys{}, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		doc := mustBeDocument(t, used, line)
		if fresh := mustBeDocument(t, newJSON(JSONKeys{}, time.UTC), line); !bytes.Equal(doc, fresh) {
			t.Fatalf("what was learned changes %q:\n%s\n%s", line, doc, fresh)
		}
		var r record.Record
		r.Reset()
		used.Parse(line, &r)
		var want map[string]any
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.UseNumber()
		if !json.Valid(line) || dec.Decode(&want) != nil {
			return
		}
		if r.ParseError != "" {
			if r.ParseError == invalidJSON || r.ParseError == notAnObject && want != nil || r.ParseError == jsonEndsEarly {
				t.Fatalf("%q is valid: %s", line, r.ParseError)
			}
			return
		}
		var got map[string]any
		dec = json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		flat := make(map[string]string)
		if !flatten(flat, "", want, 0) {
			return
		}
		for key, val := range flat {
			if known := pathRole(key); known || strings.Contains(string(line), "\\") {
				continue
			}
			if fmt.Sprint(got[key]) != val {
				t.Fatalf("%q: %s is %v, want %s\n%s", line, key, got[key], val, doc)
			}
		}
	})
}

// flatten is what the parser does to plain keys; false where keys are repeated, as then
// the two disagree on what is left.
func flatten(flat map[string]string, prefix string, obj map[string]any, depth int) bool {
	for _, key := range slices.Sorted(maps.Keys(obj)) {
		path := prefix + key
		if !utf8.ValidString(key) || key == "" || strings.ContainsAny(key, ". \ufffd") || strings.TrimSpace(key) == "" {
			return false
		}
		switch v := obj[key].(type) {
		case nil:
		case map[string]any:
			if depth > 5 || pathRole(path) || !flatten(flat, path+".", v, depth+1) {
				return false
			}
		case []any:
			return false
		case string:
			if strings.Contains(v, "\ufffd") {
				return false
			}
			flat[path] = v
		default:
			flat[path] = fmt.Sprint(v)
		}
	}
	return true
}

// pathRole tells whether the parser makes something else of a path than a field.
func pathRole(path string) bool {
	table := keyTable{nginx: true}
	table.begin((&record.Record{}).Reserved())
	n := table.pathName(path)
	return n.key != path || n.role != roleNone
}

// mustBeDocument parses a text and fails unless its document is one line of valid JSON
// in valid UTF-8 without a key twice.
func mustBeDocument(t *testing.T, p Parser, text []byte) []byte {
	t.Helper()
	before := bytes.Clone(text)
	var r record.Record
	r.Reset()
	p.Parse(text, &r)
	doc, _ := noOrigin.AppendDoc(nil, &r, r.Time, 0)
	if !bytes.Equal(before, text) {
		t.Fatalf("the text was changed: %q", before)
	}
	if !json.Valid(doc) || !utf8.Valid(doc) || bytes.Count(doc, []byte("\n")) != 1 || bytes.IndexByte(doc, '\r') >= 0 {
		t.Fatalf("%q becomes %q", text, doc)
	}
	if key, twice := keyTwice(json.NewDecoder(bytes.NewReader(doc))); twice {
		t.Fatalf("%q: key %q stands twice in %s", text, key, doc)
	}
	return doc
}

// keyTwice finds a key that stands twice in one object, at any depth.
func keyTwice(dec *json.Decoder) (string, bool) {
	var open []map[string]bool // nil for an array
	var wantKey []bool
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return "", false
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			open, wantKey = open[:len(open)-1], wantKey[:len(wantKey)-1]
		} else if key, ok := tok.(string); ok && len(open) > 0 && open[len(open)-1] != nil && wantKey[len(wantKey)-1] {
			if open[len(open)-1][key] {
				return key, true
			}
			open[len(open)-1][key] = true
			wantKey[len(wantKey)-1] = false
			continue
		} else if ok := tok == json.Delim('{'); ok {
			open, wantKey = append(open, map[string]bool{}), append(wantKey, true)
			continue
		} else if tok == json.Delim('[') {
			open, wantKey = append(open, nil), append(wantKey, false)
			continue
		}
		if len(wantKey) > 0 {
			wantKey[len(wantKey)-1] = true
		}
	}
}

var jsonBenchLines = []string{
	`{"level":"info","ts":1795464000.1234567,"logger":"http.server","caller":"server/handler.go:142","msg":"request completed","method":"POST","path":"/api/v1/orders/8841/items","status":200,"duration_ms":23.481,"bytes":5316,"remote_addr":"203.0.113.7:52814","user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15","request_id":"7f3c0a1be24d9f6688aa01c3f5e7d9b2","service":"orders","version":"v2.31.0"}`,
	`{"level":30,"time":1795464000123,"pid":4711,"hostname":"orders-6c9f7d5b8-x2x4k","name":"orders","requestId":"7f3c0a1be24d9f6688aa01c3f5e7d9b2","userId":"u-8841","orderId":"o-20261123-000017","cart":{"items":3,"total":129.95,"currency":"EUR"},"upstream":"http://payments.svc.cluster.local:8080/v2/authorize","attempt":1,"msg":"payment authorised \"fast lane\", continuing with the shipment of the parcel to the customer who ordered it"}`,
}

func BenchmarkJSON(b *testing.B) {
	for i, name := range []string{"zap", "pino"} {
		benchmarkParser(b, name, newJSON(JSONKeys{}, time.UTC), jsonBenchLines[i])
	}
	benchmarkParser(b, "nginx", newJSON(JSONKeys{}, time.UTC), `{"time":"2026-11-23T20:00:00+00:00","remote_addr":"10.0.0.7","request":"GET /api/v1/orders?page=2 HTTP/1.1","status":"200","body_bytes_sent":"157","request_time":"0.250","upstream_response_time":"0.250","http_referer":"https://shop.example.com/orders","http_user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)","host":"shop","request_id":"7f3c0a1be24d9f6688aa01c3f5e7d9b2"}`)
}

func benchmarkParser(b *testing.B, name string, p Parser, line string) {
	b.Run(name, func(b *testing.B) {
		text := []byte(line)
		var r record.Record
		b.SetBytes(int64(len(text)) + 1)
		b.ReportAllocs()
		for b.Loop() {
			r.Reset()
			p.Parse(text, &r)
		}
	})
	b.Run(name+"+encode", func(b *testing.B) {
		text := []byte(line)
		var r record.Record
		var doc []byte
		b.SetBytes(int64(len(text)) + 1)
		b.ReportAllocs()
		for b.Loop() {
			r.Reset()
			p.Parse(text, &r)
			doc, _ = noOrigin.AppendDoc(doc[:0], &r, r.Time, 0)
		}
	})
}

// doesNotAllocate fails when parsing one of the lines allocates once it is known.
func doesNotAllocate(t *testing.T, p Parser, lines ...string) {
	t.Helper()
	var r record.Record
	for _, line := range lines {
		text := []byte(line)
		r.Reset()
		p.Parse(text, &r)
		if a := testing.AllocsPerRun(100, func() { r.Reset(); p.Parse(text, &r) }); a != 0 {
			t.Errorf("%v allocations for %s", a, line)
		}
	}
}

func TestJSONDoesNotAllocate(t *testing.T) {
	doesNotAllocate(t, newJSON(JSONKeys{}, time.UTC), append(jsonBenchLines, `{"a":"\x22","b":[{"c":1,"d":[2]}],"message":{"x":1}}`, `{"a":`)...)
}
