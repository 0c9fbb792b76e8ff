package record

import (
	"encoding/json"
	"testing"
)

func TestADocumentIsDecodedAsItWasMade(t *testing.T) {
	o := NewOrigin(OriginFields{Machine: "m", Generation: "g", Host: "web-1", Input: "gateway", File: `/log/"a".log`, Project: "shop", Extra: []KeyValue{{"env", "prod"}}})
	r := new(Record)
	r.Reset()
	r.Level, r.Partial, r.Truncated, r.ParseError = LevelError, true, true, `no "time"`
	r.Put("message", []byte("a \\ and\n\"b\", {c}"), Text)
	r.Put("status_code", []byte("502"), JSON)
	r.Put("request_time", []byte("0.25"), JSON)
	r.Put("upstream_time", []byte(`"-"`), JSON)
	r.Put("tags", []byte(`["x,y","]\""]`), JSON)
	r.Put("empty", nil, Text)
	doc, idLen := o.AppendDoc(nil, r, 1795464000123, 42)
	doc = doc[:len(doc)-1]
	got := new(Record)
	if !got.Decode(doc, idLen) {
		t.Fatalf("not decoded: %s", doc)
	}
	if got.Level != LevelError || !got.Partial || !got.Truncated || got.ParseError != r.ParseError || got.Status != 502 || got.RequestTime != 0.25 || got.UpstreamTime >= 0 {
		t.Errorf("%+v", got)
	}
	for key, want := range map[string]string{"host": `"web-1"`, "file": `"/log/\"a\".log"`, "project": `"shop"`, "input": `"gateway"`, "env": `"prod"`,
		"message": `"a \\ and\n\"b\", {c}"`, "tags": `["x,y","]\""]`, "empty": `""`, "status_code": "502"} {
		if f, ok := got.Get(key); !ok || string(f.Val) != want || f.Kind != JSON {
			t.Errorf("%s is %s, not %s", key, f.Val, want)
		}
	}
	r.ParseError = ""
	doc, idLen = o.AppendDoc(nil, r, 1795464000123, 42)
	doc = doc[:len(doc)-1]
	if n := testing.AllocsPerRun(100, func() { got.Decode(doc, idLen) }); n != 0 {
		t.Errorf("%v allocations for a document", n)
	}
}

// FuzzDecode: whatever a document of ours holds, it is decoded to the values that a JSON
// parser finds; of anything else nothing is read past the end.
func FuzzDecode(f *testing.F) {
	f.Add("k", `","level":"`, []byte(`{"a":"b"}`))
	f.Add("k", `\`, []byte(`","offset":1,"k":[[`))
	f.Add("k", "\xff\x00", []byte(`","offset":1,"k":"\`))
	f.Fuzz(func(t *testing.T, key, value string, hostile []byte) {
		new(Record).Decode(append([]byte(`{"@timestamp":"2026-11-23T00:00:00.000Z","id":"m-g-1`), hostile...), 5)
		doc, id := encoded(t, "p", map[string]string{string(AppendEscaped(nil, []byte("x_"+key))): value})
		r := new(Record)
		if !r.Decode(doc, len(id)) {
			t.Fatalf("not decoded: %s", doc)
		}
		var parsed map[string]any
		if err := json.Unmarshal(doc, &parsed); err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		for _, f := range r.Fields {
			var k string
			var v any
			if json.Unmarshal([]byte(`"`+f.Key+`"`), &k) != nil || json.Unmarshal(f.Val, &v) != nil || v != parsed[k] {
				t.Fatalf("%s is %s in %s", f.Key, f.Val, doc)
			}
		}
		if len(r.Fields)+4 != len(parsed) { // time, id, offset, level
			t.Fatalf("%d of %d fields of %s", len(r.Fields), len(parsed), doc)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	o := NewOrigin(OriginFields{Machine: "m", Generation: "g", Host: "web-1", Input: "gateway", File: "/var/log/nginx/access.log", Project: "gateway"})
	r := new(Record)
	r.Reset()
	for _, key := range []string{"remote_addr", "method", "path", "http_version", "referer", "user_agent", "request_id"} {
		r.Put(key, []byte("some value of the length that is usual for it"), Text)
	}
	r.Put("status_code", []byte("200"), JSON)
	r.Put("request_time", []byte("0.123"), JSON)
	doc, idLen := o.AppendDoc(nil, r, 1795464000123, 42)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		r.Decode(doc[:len(doc)-1], idLen)
	}
}
