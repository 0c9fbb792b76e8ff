package record

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func encoded(t testing.TB, project string, fields map[string]string) ([]byte, []byte) {
	o := NewOrigin(OriginFields{Machine: "m", Generation: "g", Host: "h1", Input: "in", File: `a "quoted" file`, Project: project})
	r := new(Record)
	r.Reset()
	r.Level = LevelWarn
	for k, v := range fields {
		r.Add(k, []byte(v), Text)
	}
	b := NewBlock(nil, nil, nil)
	b.Append(o, r, 1795464000123, true, 42)
	return b.JSON(0), b.ID(0)
}

func TestEncodedDocumentIsReadWithoutParsing(t *testing.T) {
	doc, id := encoded(t, "shop", map[string]string{"message": `trap: ","host":"evil","level":"fatal" \`})
	if at, ok := EncodedTime(doc, id, new(Stamp)); !ok || at != 1795464000123 {
		t.Errorf("time %d, %v", at, ok)
	}
	for key, want := range map[string]string{"host": "h1", "project": "shop", "level": "warn", "offset": "42", "nothing": ""} {
		if got := string(EncodedValue(doc, key)); got != want {
			t.Errorf("%s is %q, not %q, in %s", key, got, want, doc)
		}
	}
	if got := string(EncodedLevel(doc)); got != "warn" {
		t.Errorf("the level is %q in %s", got, doc)
	}
	for _, none := range []string{"", "v", `,"le`, `,"level`, `"level":"warn"`, `,"levels":"warn"`, `,"a":"level\":","v":"vel"`} {
		if got := EncodedLevel([]byte(none)); got != nil {
			t.Errorf("the level is %q in %s", got, none)
		}
	}
	if _, ok := EncodedTime(doc, []byte("another"), new(Stamp)); ok {
		t.Error("a document of another id was taken")
	}
	for _, hostile := range []string{`x","_index":"y`, `x\"y`, "x y", "x\ny", "x\x7f", "\u65e5", "", strings.Repeat("x", 513),
		`machine","_index":"y`, `machine-\"y`, "machine-123 4", "machine\n-1234", "machi\x7fne-1234", "machine-gen-\u65e5", "\x00machine-1"} {
		doc := `{"@timestamp":"2026-11-23T20:00:00.123Z","id":"` + hostile + `","project":"shop"}`
		if _, ok := EncodedTime([]byte(doc), []byte(hostile), new(Stamp)); ok {
			t.Errorf("%.20q was taken for an id", hostile)
		}
	}
	routed := NewBlock(nil, []string{"message", "host"}, nil)
	routed.AppendEncoded(NewOrigin(OriginFields{Project: "shop"}), doc, len(id), LevelWarn, 1795464000123)
	if string(routed.JSON(0)) != string(doc) || string(routed.ID(0)) != string(id) || routed.Value(0, "host") != "h1" {
		t.Errorf("%s, %s, %s", routed.JSON(0), routed.ID(0), routed.Value(0, "host"))
	}
	if v, _ := routed.Routed(0, "message"); string(v) != `trap: ","host":"evil","level":"fatal" \` {
		t.Errorf("message is %q", v)
	}
	last := new(Stamp)
	for _, at := range []string{"20:00:00.123", "20:00:00.123", "20:00:01.000", "20:00:99.000", "20:00:01.000", "20:00:00.123"} {
		doc := []byte(`{"@timestamp":"2026-11-23T` + at + `Z","id":"m-g-1"}`)
		got, ok := EncodedTime(doc, []byte("m-g-1"), last)
		if want, valid := EncodedTime(doc, []byte("m-g-1"), new(Stamp)); got != want || ok != valid {
			t.Errorf("behind others %s is %d, %v; alone %d, %v", at, got, ok, want, valid)
		}
	}
}

func TestEncodedTimesAreThoseOfTheStandardLibrary(t *testing.T) {
	const form = "2006-01-02T15:04:05.000Z"
	check := func(text string) {
		t.Helper()
		want, err := time.Parse(form, text)
		got, ok := parseTime([]byte(text))
		if ok != (err == nil) || ok && got != want.UnixMilli() {
			t.Errorf("%s is %d, %v; want %v, %v", text, got, ok, want, err)
		}
	}
	for year := range 2801 {
		for _, day := range []string{"01-01", "02-28", "02-29", "02-30", "03-01", "04-31", "12-31", "13-01", "00-10", "10-00"} {
			check(fmt.Sprintf("%04d-%sT23:59:59.999Z", year, day))
		}
	}
	for _, text := range []string{"2026-11-25T24:00:00.000Z", "2026-11-25T00:60:00.000Z", "2026-11-25T00:00:60.000Z", "2026-11-25 00:00:00.000Z",
		"2026-11-25T00:00:00.0x0Z", "2026-11-25T00:00:00.000z", "9999-12-31T23:59:59.999Z"} {
		check(text)
	}
}

// FuzzEncodedValue: what a document of ours says of a key, a JSON parser says too,
// and on anything else nothing is read past the end.
func FuzzEncodedValue(f *testing.F) {
	f.Add("level", `","level":"`, []byte(`{"a":"b"}`))
	f.Add("k", `\`, []byte(`{"k":`))
	f.Add("", `","level":"`, []byte("\x10evel\"\x82\"}"))
	f.Fuzz(func(t *testing.T, key, value string, hostile []byte) {
		EncodedValue(hostile, key)
		EncodedTime(hostile, []byte(key), new(Stamp))
		EncodedLevel(hostile)
		doc, _ := encoded(t, "p", map[string]string{"before": value, "x_plain": value})
		var parsed map[string]any
		if err := json.Unmarshal(doc, &parsed); err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if got := string(AppendUnescaped(nil, EncodedValue(doc, "x_plain"))); got != parsed["x_plain"] {
			t.Errorf("%q is not %q in %s", got, parsed["x_plain"], doc)
		}
		if got := string(EncodedLevel(doc)); got != parsed["level"] {
			t.Errorf("the level is %q, not %v, in %s", got, parsed["level"], doc)
		}
	})
}
