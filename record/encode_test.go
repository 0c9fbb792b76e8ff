package record

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func gateway() (*Origin, *Record) {
	o := NewOrigin(OriginFields{Machine: "k3v9x2ma", Generation: "8f3kq09zt5mw", Host: "gw-1", Input: "gateway",
		File: "/var/log/nginx/access.log", Project: "gateway", Extra: []KeyValue{{"env", "prod"}}})
	r := new(Record)
	r.Reset()
	for _, f := range []struct {
		key  string
		val  []byte
		kind Kind
	}{
		{"remote_addr", []byte("203.0.113.7"), Text}, {"method", []byte("GET"), Text},
		{"path", []byte("/api/v1/orders/8841/items"), Text}, {"query", []byte("page=2&size=50"), Text},
		{"http_version", []byte("1.1"), Text}, {"status_code", []byte("200"), JSON}, {"bytes_sent", []byte("5316"), JSON},
		{"referer", []byte("https://shop.example.com/orders"), Text},
		{"user_agent", []byte("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"), Text},
		{"request_time", []byte("0.123"), JSON}, {"upstream_time", []byte("0.120"), JSON},
		{"request_id", []byte("7f3c0a1be24d9f6688aa01c3f5e7d9b2"), Text},
	} {
		r.PutNamed(NewName(f.key), f.val, f.kind)
	}
	return o, r
}

func TestDocumentHasEachOfTailwatersOwnFields(t *testing.T) {
	o, r := gateway()
	r.Level = LevelWarn
	r.Partial, r.Truncated, r.ParseError = true, true, "not of the format"
	at := time.Date(2026, 11, 23, 20, 0, 0, 7e6, time.UTC)
	out, idLen := o.AppendDoc([]byte("before"), r, at.UnixMilli(), 12345)
	out = out[len("before"):]
	var doc map[string]any
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want := map[string]any{"@timestamp": "2026-11-23T20:00:00.007Z", "id": "k3v9x2ma-8f3kq09zt5mw-12345", "offset": 12345.0, "host": "gw-1",
		"input": "gateway", "file": "/var/log/nginx/access.log", "project": "gateway", "env": "prod", "level": "warn",
		"status_code": 200.0, "request_time": 0.123, "partial": true, "truncated": true, "parse_error": "not of the format"}
	for key, value := range want {
		if doc[key] != value {
			t.Errorf("%s is %v, want %v", key, doc[key], value)
		}
	}
	if id := string(out[idAt : idAt+idLen]); id != doc["id"] {
		t.Errorf("the id is framed as %q", id)
	}
	if out[len(out)-1] != '\n' || bytes.Count(out, []byte("\n")) != 1 {
		t.Errorf("not one line: %q", out)
	}
}

func TestTimesOutsideOfRFC3339AreClamped(t *testing.T) {
	o, r := gateway()
	for _, ms := range []int64{-1 << 63, -62135596800001, -1, 0, 1, 253402300800000, 1<<63 - 1} {
		out, _ := o.AppendDoc(nil, r, ms, 0)
		var doc struct {
			Time time.Time `json:"@timestamp"`
		}
		if err := json.Unmarshal(out, &doc); err != nil {
			t.Errorf("%d ms: %v", ms, err)
		}
		if ms >= minMilli && ms <= maxMilli && doc.Time.UnixMilli() != ms {
			t.Errorf("%d ms became %v", ms, doc.Time)
		}
	}
}

func TestReservedAndRepeatedKeys(t *testing.T) {
	o := NewOrigin(OriginFields{Machine: "m", Generation: "g", Host: "h", Extra: []KeyValue{{"env", "prod"}, {"env", "twice"}}})
	r := new(Record)
	r.Reserve(NewKeys("env"))
	r.Reset()
	for _, key := range []string{"id", "a", "env", "a", "offset", "id", "b"} {
		r.Add(key, []byte(`"`+key+`"`), JSON)
	}
	out, _ := o.AppendDoc(nil, r, 0, 0)
	want := `"host":"h","env":"prod","orig_id":"id","a":"a","orig_env":"env","orig_offset":"offset","b":"b"}` + "\n"
	if !strings.HasSuffix(string(out), want) {
		t.Errorf("got %s", out)
	}
}

func TestScratchStaysWhenItGrows(t *testing.T) {
	r := new(Record)
	r.Reset()
	var kept [][]byte
	for i := range 1000 {
		kept = append(kept, r.Keep(append(r.Scratch(), strings.Repeat(string(rune('a'+i%26)), i%37)...)))
	}
	for i, b := range kept {
		if string(b) != strings.Repeat(string(rune('a'+i%26)), i%37) {
			t.Fatalf("slice %d became %q", i, b)
		}
	}
}

func FuzzEscaped(f *testing.F) {
	for _, s := range []string{"", "plain", "a\"b\\c\n\t\r\x00\x1f", "\xff\xfe", "日本語", "12345678\x7f\x80", "\xed\xa0\x80", "1234567\"", "\x80\x01\x22"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		out := append(AppendEscaped([]byte{'"'}, s), '"')
		if !utf8.Valid(out) {
			t.Fatalf("%q: not UTF-8", out)
		}
		var back string
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if want := strings.ToValidUTF8(string(s), "\uFFFD"); strings.ReplaceAll(back, "\uFFFD", "") != strings.ReplaceAll(want, "\uFFFD", "") {
			t.Fatalf("%q became %q", s, back)
		}
	})
}

// However a field comes into the record, and whatever its value stands before in memory,
// it is encoded the same.
func FuzzField(f *testing.F) {
	f.Add([]byte("12345678901234567890123456789012"), []byte("key"), 8)
	f.Add([]byte("123456789012345678901234567890123"), []byte("a key of more than a head's bytes"), 32)
	f.Add([]byte("123456789012345678901234567\"90123456789012345678901234567890123456789"), []byte(""), 33)
	f.Add([]byte("1234567\xff90123456789012345678901234567890123456789012345678901234567890"), []byte("k"), 69)
	f.Fuzz(func(t *testing.T, text, key []byte, n int) {
		n = min(max(n, 0), len(text))
		name := string(AppendEscaped(nil, key))
		escaped := AppendEscaped(nil, text[:n])
		o := NewOrigin(OriginFields{})
		for _, val := range [][]byte{text[:n], append([]byte(nil), text[:n]...), text[:n:n]} {
			for kind, want := range map[Kind]string{
				Text:    `"` + string(escaped) + `"`,
				Escaped: `"` + string(text[:n]) + `"`,
				JSON:    string(text[:n]),
			} {
				want = `,"` + name + `":` + want + "}\n"
				r := new(Record)
				r.PutNamed(NewName(name), val, kind)
				if out, _ := o.AppendDoc(nil, r, 0, 0); !bytes.HasSuffix(out, []byte(want)) {
					t.Errorf("put by its name: %q does not end with %q", out, want)
				}
				r.Reset()
				r.Put(name, val, kind)
				if out, _ := o.AppendDoc(nil, r, 0, 0); !bytes.HasSuffix(out, []byte(want)) {
					t.Errorf("put by its key: %q does not end with %q", out, want)
				}
			}
		}
	})
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	o, r := gateway()
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf, _ = o.AppendDoc(buf[:0], r, 1795464000123, 1<<40) }); n != 0 {
		t.Fatalf("%v allocations per document", n)
	}
}

func BenchmarkAppendDoc(b *testing.B) {
	o, r := gateway()
	buf, _ := o.AppendDoc(nil, r, 1795464000123, 1<<40)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = o.AppendDoc(buf[:0], r, 1795464000123, 1<<40)
	}
}

// What encoding/json reads out of a string is what AppendUnescaped gives.
func FuzzUnescaped(f *testing.F) {
	for _, s := range []string{``, `a`, `\n\t\r\b\f\"\\\/`, `\u00e9`, `\ud83d\ude00`, `\ud83d`, `\ud83dx`, `\ud83d\u0041`, `\ude00\ud83d`, `é\u0000`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		got := AppendUnescaped(nil, s)
		var want string
		if !utf8.Valid(s) || json.Unmarshal([]byte(`"`+string(s)+`"`), &want) != nil {
			return
		}
		if string(got) != want {
			t.Fatalf("%q became %q, want %q", s, got, want)
		}
	})
}

func TestEscapedValuesAreCopiedAndReadAsText(t *testing.T) {
	r := new(Record)
	r.Reset()
	r.Put("a", []byte(`x\ty`), Escaped)
	out, _ := NewOrigin(OriginFields{Machine: "m", Generation: "g"}).AppendDoc(nil, r, 0, 0)
	if !bytes.Contains(out, []byte(`,"a":"x\ty"}`)) {
		t.Errorf("encoded as %s", out)
	}
	b := NewBlock(nil, []string{"a"}, nil)
	b.Append(NewOrigin(OriginFields{Machine: "m", Generation: "g"}), r, 0, true, 0)
	if v := b.Value(0, "a"); v != "x\ty" {
		t.Errorf("routed as %q", v)
	}
}
