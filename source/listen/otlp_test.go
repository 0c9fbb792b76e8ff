package listen

import (
	"encoding/json"
	"strings"
	"testing"

	collogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const otlpExample = `{"resourceLogs":[
 {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"checkout"}},{"key":"host.name","value":{"stringValue":"h9"}}]},
  "scopeLogs":[{"scope":{"name":"lib","version":"1.2","attributes":[{"key":"s","value":{"boolValue":true}}]},"logRecords":[
   {"timeUnixNano":"1795464000123456789","observedTimeUnixNano":1795464001000000000,"severityNumber":17,"severityText":"ERROR","body":{"stringValue":"not paid"},
    "attributes":[{"key":"n","value":{"intValue":"5"}},{"key":"f","value":{"doubleValue":1.5}},{"key":"a","value":{"arrayValue":{"values":[{"stringValue":"x"},{"intValue":2}]}}},
     {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"AQI="}}]}}},{"key":"message","value":{"stringValue":"an attribute"}}],
    "traceId":"5b8efff798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174","flags":1,"unknownField":{"x":1}},
   {"observedTimeUnixNano":"1795464001000000000","severityNumber":"SEVERITY_NUMBER_INFO2","body":{"kvlistValue":{"values":[{"key":"message","value":{"stringValue":"a map"}},{"key":"user","value":{"stringValue":"u1"}}]}},"eventName":"paid"},
   {"body":{"intValue":"7"}}]}]},
 {"scopeLogs":[{"logRecords":[{"severityNumber":1},{}]}]}
]}`

var otlpWant = []string{
	`checkout: error 2026-11-23T20:00:00.123Z {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"n":5,"f":1.5,"a":["x",2],"m":{"k":"AQI="},"attributes.message":"an attribute","severity_text":"ERROR","span_id":"eee19b7ec3c1b174","trace_id":"5b8efff798038103d269b633813fc60c","message":"not paid"} trace_id=5b8efff798038103d269b633813fc60c`,
	`checkout: info 2026-11-23T20:00:01.000Z {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"event_name":"paid","message":"a map","user":"u1"}`,
	`checkout: {"service.name":"checkout","host.name":"h9","scope.name":"lib","scope.version":"1.2","s":true,"message":"7"}`,
	`in: debug {}`,
	`in: {}`,
}

func TestOTLPInBothEncodings(t *testing.T) {
	var request collogs.ExportLogsServiceRequest
	if err := decodeOTLPJSON([]byte(otlpExample), &request); err != nil {
		t.Fatal(err)
	}
	binary, err := proto.Marshal(&request)
	if err != nil {
		t.Fatal(err)
	}
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

// FuzzOTLP: whatever is sent, what becomes a record is JSON.
func FuzzOTLP(f *testing.F) {
	f.Add([]byte(otlpExample), true)
	var request collogs.ExportLogsServiceRequest
	if err := decodeOTLPJSON([]byte(otlpExample), &request); err != nil {
		f.Fatal(err)
	}
	data, _ := proto.Marshal(&request)
	f.Add(data, false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		request := new(collogs.ExportLogsServiceRequest)
		if isJSON {
			if decodeOTLPJSON(data, request) != nil {
				return
			}
		} else if (proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 200}).Unmarshal(data, request) != nil {
			return
		}
		var text []byte
		for _, of := range request.GetResourceLogs() {
			for _, in := range of.GetScopeLogs() {
				for _, l := range in.GetLogRecords() {
					text = appendAttributes(text[:0], of.GetResource().GetAttributes(), true)
					text = appendOTLPText(text, l)
					text[0] = '{'
					if !json.Valid(text) {
						t.Fatalf("%q is no JSON", text)
					}
				}
			}
		}
		appendOTLP(nil, request, 1<<20)
	})
}
