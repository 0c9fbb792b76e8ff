package listen

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	collogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tailwater/tailwater/source/listen/spool"
)

const otlpExample = `{"resourceLogs":[
 {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"checkout"}},{"key":"host.name","value":{"stringValue":"h9"}}]},
  "scopeLogs":[{"scope":{"name":"lib","version":"1.2","attributes":[{"key":"s","value":{"boolValue":true}}]},"logRecords":[
   {"timeUnixNano":"1795464000123456789","observedTimeUnixNano":1795464001000000000,"severityNumber":17,"severityText":"ERROR","body":{"stringValue":"not paid"},
    "attributes":[{"key":"n","value":{"intValue":"5"}},{"key":"f","value":{"doubleValue":1.5}},{"key":"a","value":{"arrayValue":{"values":[{"stringValue":"x"},{"intValue":2}]}}},
     {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"AQI="}}]}}},{"key":"message","value":{"stringValue":"an attribute"}}],
    "traceId":"5b8efff798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174","flags":1,"unknownField":{"x":1}},
   {"observedTimeUnixNano":"1795464001000000000","severityNumber":"SEVERITY_NUMBER_INFO2","body":{"kvlistValue":{"values":[{"key":"message","value":{"stringValue":"a map"}},{"key":"user","value":{"stringValue":"u1"}}]}},"eventName":"paid"},
   {"body":{"intValue":"7"}},{"body":{"bytesValue":"AQI="}},{"body":{"doubleValue":"NaN"}}]}]},
 {"scopeLogs":[{"logRecords":[{"severityNumber":1},{}]}]}
]}`

var otlpWant = []string{
	`checkout: error 2026-11-23T20:00:00.123Z {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"n":5,"f":1.5,"a":["x",2],"m":{"k":"AQI="},"attributes.message":"an attribute","severity_text":"ERROR","span_id":"eee19b7ec3c1b174","trace_id":"5b8efff798038103d269b633813fc60c","message":"not paid"} trace_id=5b8efff798038103d269b633813fc60c`,
	`checkout: info 2026-11-23T20:00:01.000Z {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"event_name":"paid","message":"a map","user":"u1"}`,
	`checkout: {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"message":"7"}`,
	`checkout: {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"message":"AQI="}`,
	`checkout: {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"message":"NaN"}`,
	`in: debug {}`,
	`in: {}`,
}

// otlpBinary is the example in protobuf, as the library writes it.
func otlpBinary(t testing.TB) []byte {
	t.Helper()
	var request collogs.ExportLogsServiceRequest
	add := func(kvs ...*common.KeyValue) []*common.KeyValue { return kvs }
	kv := func(key string, v *common.AnyValue) *common.KeyValue { return &common.KeyValue{Key: key, Value: v} }
	str := func(s string) *common.AnyValue {
		return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
	}
	whole := func(n int64) *common.AnyValue {
		return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
	}
	traceID, _ := hex.DecodeString("5b8efff798038103d269b633813fc60c")
	spanID, _ := hex.DecodeString("eee19b7ec3c1b174")
	request.ResourceLogs = []*logs.ResourceLogs{
		{
			Resource: &resource.Resource{Attributes: add(kv("service.name", str("checkout")), kv("host.name", str("h9")))},
			ScopeLogs: []*logs.ScopeLogs{{
				Scope: &common.InstrumentationScope{Name: "lib", Version: "1.2", Attributes: add(kv("s", &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: true}}))},
				LogRecords: []*logs.LogRecord{
					{
						TimeUnixNano: 1795464000123456789, ObservedTimeUnixNano: 1795464001000000000, SeverityNumber: 17, SeverityText: "ERROR", Body: str("not paid"),
						Attributes: add(kv("n", whole(5)), kv("f", &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: 1.5}}),
							kv("a", &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: []*common.AnyValue{str("x"), whole(2)}}}}),
							kv("m", &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: add(kv("k", &common.AnyValue{Value: &common.AnyValue_BytesValue{BytesValue: []byte{1, 2}}}))}}}),
							kv("message", str("an attribute"))),
						TraceId: traceID, SpanId: spanID, Flags: 1,
					},
					{
						ObservedTimeUnixNano: 1795464001000000000, SeverityNumber: 10, EventName: "paid", TraceId: make([]byte, 16),
						Body: &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: add(kv("message", str("a map")), kv("user", str("u1")))}}},
					},
					{Body: whole(7)},
					{Body: &common.AnyValue{Value: &common.AnyValue_BytesValue{BytesValue: []byte{1, 2}}}},
					{Body: &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: math.NaN()}}},
				},
			}},
		},
		{ScopeLogs: []*logs.ScopeLogs{{LogRecords: []*logs.LogRecord{{SeverityNumber: 1}, {}}}}},
	}
	data, err := proto.Marshal(&request)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOTLPInBothEncodings(t *testing.T) {
	binary := otlpBinary(t)
	for _, c := range []struct {
		kind string
		body []byte
	}{{"application/json", []byte(otlpExample)}, {"application/x-protobuf", binary}} {
		b := newBench(t)
		addr := b.serve(OTLP(b.cfg, "127.0.0.1:0"))
		for _, encoding := range []string{"identity", "gzip"} {
			body := c.body
			if encoding == "gzip" {
				body = zip(body)
			}
			status, answer, header := post(t, "http://"+addr+"/v1/logs", body, "Content-Type", c.kind, "Content-Encoding", encoding)
			if status != 200 || header.Get("Content-Type") != c.kind {
				t.Fatalf("%s %s: %d %q as %s", c.kind, encoding, status, answer, header.Get("Content-Type"))
			}
			if want := map[string]string{"application/json": "{}", "application/x-protobuf": ""}[c.kind]; answer != want {
				t.Errorf("%s is answered with %q", c.kind, answer)
			}
		}
		got := b.lines()
		if len(got) != 2*len(otlpWant) {
			t.Fatalf("%s: %d records: %q", c.kind, len(got), got)
		}
		for i := range got {
			if got[i] != otlpWant[i%len(otlpWant)] {
				t.Errorf("%s\n  is %s\nwant %s", c.kind, got[i], otlpWant[i%len(otlpWant)])
			}
			text := got[i][strings.IndexByte(got[i], '{') : strings.LastIndexByte(got[i], '}')+1]
			if !json.Valid([]byte(text)) {
				t.Errorf("%s is no JSON", text)
			}
		}
	}
}

func TestOTLPRefusals(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Tokens = []string{"sesame"}; c.MaxBody = 20_000; c.MaxLine = 1000 })
	addr := b.serve(OTLP(b.cfg, "127.0.0.1:0"))
	url := "http://" + addr + "/v1/logs"
	if status, answer, _ := post(t, url, nil, "Content-Type", "application/x-protobuf"); status != 401 {
		t.Errorf("without a token: %d %q", status, answer)
	} else if n, typ, k := protowire.ConsumeTag([]byte(answer)); n != 1 || typ != protowire.VarintType || k < 0 {
		t.Errorf("the answer is no google.rpc.Status: %q", answer)
	}
	auth := []string{"Authorization", "Bearer sesame"}
	for name, c := range map[string]struct {
		kind, body string
		status     int
	}{
		"no protobuf":   {"application/x-protobuf", "\xff\xff\xff", 400},
		"no JSON":       {"application/json", `{"resourceLogs":`, 400},
		"a bad id":      {"application/json", `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"zz"}]}]}]}`, 400},
		"a bad number":  {"application/json", `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"x"}]}]}]}`, 400},
		"too large":     {"application/json", strings.Repeat(" ", 30_000), 413},
		"another type":  {"text/plain", "x", 415},
		"nothing in it": {"application/json", `{}`, 200},
	} {
		status, answer, _ := post(t, url, []byte(c.body), append(auth, "Content-Type", c.kind)...)
		if status != c.status {
			t.Errorf("%s: %d %q, want %d", name, status, answer, c.status)
		}
		if c.status == 400 && c.kind == "application/json" && !json.Valid([]byte(answer)) {
			t.Errorf("%s: the answer is no JSON: %q", name, answer)
		}
	}
	body := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"` + strings.Repeat("x", 2000) + `"}},{"body":{"stringValue":"small"}}]}]}]}`
	status, answer, _ := post(t, url, []byte(body), append(auth, "Content-Type", "application/json")...)
	if status != 200 || !strings.Contains(answer, `"rejectedLogRecords":"1"`) || !strings.Contains(answer, "max_line") {
		t.Errorf("a partial success is %d %q", status, answer)
	}
	if n := b.lost("too_large"); n != 1 {
		t.Errorf("%d records are counted as too large", n)
	}
	b.wants(`in: {"message":"small"}`)
	b.cfg.Spool.SetLimit(1)
	if status, _, header := post(t, url, []byte(body), append(auth, "Content-Type", "application/json")...); status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("with a full spool: %d", status)
	}
}

// TestOTLPRequestsThatUnfoldToMuch: small bodies of very many records, of which each would
// carry a large resource, and of very many empty messages. They are refused, or taken,
// without the memory that decoding them would need.
func TestOTLPRequestsThatUnfoldToMuch(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxBody, c.MaxLine = 8<<20, 1<<20 })
	b.cfg.Spool.SetLimit(1 << 30)
	addr := b.serve(OTLP(b.cfg, "127.0.0.1:0"))
	field := func(num protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(parts, nil))
	}
	kv := field(1, field(1, []byte("k")), field(2, field(1, bytes.Repeat([]byte("v"), 100_000))))
	const many = 200_000
	empty := bytes.Repeat([]byte{0x12, 0}, many) // LogRecords
	for name, c := range map[string]struct {
		kind   string
		body   []byte
		status int
		lines  int
	}{
		"a large resource in each record":  {protobufType, field(1, field(1, kv), field(2, empty)), 413, 0},
		"a large resource, behind them":    {protobufType, field(1, field(2, empty), field(1, kv)), 413, 0},
		"a large resource in JSON":         {jsonType, fmt.Appendf(nil, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}%s]}],"resource":{"attributes":[{"key":"k","value":{"stringValue":"%s"}}]}}]}`, strings.Repeat(",{}", many), strings.Repeat("v", 100_000)), 413, 0},
		"empty attributes":                 {protobufType, field(1, field(2, field(2, bytes.Repeat([]byte{0x32, 0}, 4<<20-100)))), 200, 0},
		"empty attributes in JSON":         {jsonType, fmt.Appendf(nil, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[{}%s]}]}]}]}`, strings.Repeat(",{}", 2<<20)), 200, 0},
		"empty resources":                  {protobufType, bytes.Repeat([]byte{0x0a, 0}, 4<<20), 200, 0},
		"empty scopes":                     {protobufType, field(1, field(1, kv), bytes.Repeat([]byte{0x12, 0}, 2<<20)), 200, 0},
		"empty records":                    {protobufType, field(1, field(2, empty)), 200, many},
		"what is no object, in an array":   {jsonType, []byte(`{"resourceLogs":[` + strings.Repeat("1,", 2<<20) + `1]}`), 400, 0},
		"arrays in arrays in arrays":       {protobufType, nested(100_000), 200, 1},
		"what begins again and never ends": {protobufType, bytes.Repeat([]byte{0x0b}, 4<<20), 400, 0},
	} {
		before := len(b.lines())
		var was, is runtime.MemStats
		runtime.ReadMemStats(&was)
		status, answer, _ := post(t, "http://"+addr+"/v1/logs", c.body, "Content-Type", c.kind)
		runtime.ReadMemStats(&is)
		if status != c.status {
			t.Errorf("%s: %d %q, want %d", name, status, answer, c.status)
		}
		if n := len(b.lines()) - before; n != c.lines {
			t.Errorf("%s: %d records, want %d", name, n, c.lines)
		}
		if free := b.cfg.Memory.free.Load(); free != 64<<20 {
			t.Errorf("%s: %d bytes of the senders' memory are not given back", name, 64<<20-free)
		}
		if mib := (is.TotalAlloc - was.TotalAlloc) >> 20; mib > 400 {
			t.Errorf("%s: %d bytes cost %d MiB", name, len(c.body), mib)
		}
	}
}

// nested is a record with a body of arrays in arrays.
func nested(depth int) []byte {
	var heads [][]byte // from the innermost on
	for size := 0; depth > 0; depth-- {
		for _, num := range []protowire.Number{1, anyArray} { // ArrayValue.values in AnyValue.array_value
			head := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(size))
			heads, size = append(heads, head), size+len(head)
		}
	}
	size := 0
	for _, h := range heads {
		size += len(h)
	}
	for _, num := range []protowire.Number{5, 2, 2, 1} { // LogRecord.body and what is around it
		head := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(size))
		heads, size = append(heads, head), size+len(head)
	}
	slices.Reverse(heads)
	return bytes.Join(heads, nil)
}

// TestOneTextThatIsNoUTF8: others send what they have read, and one record that is not as
// the protocol wants it must not cost the batch.
func TestOneTextThatIsNoUTF8(t *testing.T) {
	b := newBench(t)
	addr := b.serve(OTLP(b.cfg, "127.0.0.1:0"))
	body := bytes.ReplaceAll(otlpBinary(t), []byte("not paid"), []byte("n\xe4t p\xffid"))
	if status, answer, _ := post(t, "http://"+addr+"/v1/logs", body, "Content-Type", "application/x-protobuf"); status != 200 || answer != "" {
		t.Fatalf("%d %q", status, answer)
	}
	want := slices.Clone(otlpWant)
	want[0] = strings.Replace(want[0], "not paid", "n\ufffdt p\ufffdid", 1)
	b.wants(want...)
}

// FuzzOTLP: whatever is sent, what becomes a record is JSON, and what the protobuf library
// reads is read here.
func FuzzOTLP(f *testing.F) {
	f.Add([]byte(otlpExample), true)
	f.Add(otlpBinary(f), false)
	f.Add(nested(50), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		o := otlpReader{maxLine: 1 << 20, memory: NewMemory(1 << 30)}
		var err error
		if isJSON {
			err = o.requestJSON(data)
		} else {
			err = o.request(data)
			request := new(collogs.ExportLogsServiceRequest)
			if proto.Unmarshal(data, request) == nil && err != nil {
				t.Fatalf("the library reads it, and here %v", err)
			}
		}
		for rest := o.dst; err == nil && len(rest) > 0; {
			var r spool.Record
			n, err := spool.ParseRecord(rest, &r)
			if err != nil {
				t.Fatal(err)
			}
			if rest = rest[n:]; !json.Valid(r.Text) {
				t.Fatalf("%q is no JSON", r.Text)
			}
		}
	})
}

func BenchmarkOTLP(b *testing.B) {
	data := bytes.Repeat(otlpBinary(b), 1000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	o := otlpReader{maxLine: 1 << 20, memory: NewMemory(1 << 30)}
	for b.Loop() {
		o.dst, o.unfolded = o.dst[:0], 0
		if err := o.request(data); err != nil {
			b.Fatal(err)
		}
	}
}
