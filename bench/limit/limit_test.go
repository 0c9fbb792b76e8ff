package main

import (
	"encoding/json"
	"testing"
)

const usual = `203.0.113.7 - - [23/Nov/2026:20:00:00 +0000] "GET /api/v1/orders/8841/items?page=2 HTTP/1.1" 200 5316 "https://shop.example.com/" "Mozilla/5.0 (X11; Linux x86_64)" 0.043 0.001, 0.041 5f2c0000000000000000000000000001`

// TestTheMarkIsHonest: what is measured against must do the work it claims to do.
func TestTheMarkIsHonest(t *testing.T) {
	for _, line := range []string{usual, "1.2.3.4 - \xff [t] \"GET /a\\x22\x01é HTTP/1.1\" 404 1 \"-\" \"\\\\\" 0.1 - id"} {
		in := []byte(line)
		if !plain(in) {
			in = escape(in)
		} else if line != usual {
			t.Errorf("%q was taken for plain text", line)
		}
		doc, ok := appendDoc(nil, in)
		if !ok {
			t.Fatalf("%q is not of the format", line)
		}
		var fields map[string]any
		if err := json.Unmarshal(doc, &fields); err != nil || len(fields) != 11 {
			t.Errorf("%s: %v, %d fields", doc, err, len(fields))
		}
	}
	if doc, ok := appendDoc([]byte("x"), []byte("not of the format")); ok || string(doc) != "x" {
		t.Errorf("%q, %v", doc, ok)
	}
}

func BenchmarkLine(b *testing.B) {
	line := []byte(usual)
	buf := make([]byte, 0, 4096)
	b.SetBytes(int64(len(line) + 1))
	b.ReportAllocs()
	for b.Loop() {
		if plain(line) {
			buf, _ = appendDoc(buf[:0], line)
		}
	}
}
