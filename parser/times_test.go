package parser

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var shanghai = time.FixedZone("CST", 8*3600)

// testTimes are times with what they mean in a zone 8 hours east, seen on the evening
// of 2026-11-23. head is what stands behind the time.
var testTimes = []struct{ text, head, want string }{
	{"2026-11-23T20:00:00.123Z", "", "2026-11-23T20:00:00.123Z"},
	{"2026-11-23T20:00:00.123456789+08:00", "", "2026-11-23T12:00:00.123Z"},
	{"2026-11-23 20:00:00,123", " [main] x", "2026-11-23T12:00:00.123Z"},
	{"2026-11-23 20:00:00", "", "2026-11-23T12:00:00Z"},
	{"2026-11-23 20:00", " x", "2026-11-23T12:00:00Z"},
	{"2026-11-23T20:00:00-0330", "", "2026-11-23T23:30:00Z"},
	{"2026-11-23T20:00:00+05", "", "2026-11-23T15:00:00Z"},
	{"2026-11-23 20:00:00 +0000", "] [7] x", "2026-11-23T20:00:00Z"},
	{"2026-11-23 20:00:00.123 +00:00", " [INF] x", "2026-11-23T20:00:00.123Z"},
	{"2026-11-23 20:00:00.5 UTC", " [123] LOG", "2026-11-23T20:00:00.5Z"},
	{"2026-11-23 20:00:00", " -3 degrees", "2026-11-23T12:00:00Z"},
	{"2026-11-23 20:00:00", " - name - x", "2026-11-23T12:00:00Z"},
	{"2026/11/23 20:00:00", " [error] 1#1", "2026-11-23T12:00:00Z"},
	{"2026/11/23 20:00:00.123456", " x", "2026-11-23T12:00:00.123Z"},
	{"2026.11.23 20:00:00.123456", " [ 1 ] <Error>", "2026-11-23T12:00:00.123Z"},
	{"20261123T200000Z", "", "2026-11-23T20:00:00Z"},
	{"20261123 20:00:00.250", " x", "2026-11-23T12:00:00.25Z"},
	{"2026-12-31T23:59:60Z", "", "2027-01-01T00:00:00Z"},
	{"2028-02-29T00:00:00Z", "", "2028-02-29T00:00:00Z"},
	{"0001-01-01T00:00:00Z", "", "0001-01-01T00:00:00Z"},
	{"26/11/23 20:00:00", " INFO Utils: x", "2026-11-23T12:00:00Z"},
	{"23/Nov/2026:20:00:00 +0000", "] x", "2026-11-23T20:00:00Z"},
	{"23-Nov-2026 20:00:00.123", " SEVERE [main] x", "2026-11-23T12:00:00.123Z"},
	{"23 Nov 2026 20:00:00.123", " * Ready", "2026-11-23T12:00:00.123Z"},
	{"23-Nov-2026 20:00:00 UTC", "] NOTICE", "2026-11-23T20:00:00Z"},
	{"Mon, 23 Nov 2026 20:00:00 GMT", "", "2026-11-23T20:00:00Z"},
	{"Mon Nov 23 20:00:00 2026", "", "2026-11-23T12:00:00Z"},
	{"Mon Nov  2 20:00:00.123456 2026", "] [core:error]", "2026-11-02T12:00:00.123Z"},
	{"Mon Nov 23 20:00:00 UTC 2026", "", "2026-11-23T20:00:00Z"},
	{"Mon Nov 23 20:00:00 CST 2026", " ERROR x", "2026-11-23T12:00:00Z"},
	{"Nov 23 20:00:00", " host app[1]: x", "2026-11-23T12:00:00Z"},
	{"Nov  3 20:00:00.250", " host x", "2026-11-03T12:00:00.25Z"},
	{"Nov 24 20:00:00", " a clock that is ahead", "2026-11-24T12:00:00Z"},
	{"Dec 31 23:00:00", " of last year", "2025-12-31T15:00:00Z"},
	{"Feb 29 00:00:00", " of the last leap year", "2024-02-28T16:00:00Z"},
	{"Nov 23, 2026 8:00:00 PM", " org.example.Foo bar", "2026-11-23T12:00:00Z"},
	{"Nov 23, 2026 12:05:00 AM", " x", "2026-11-22T16:05:00Z"},
	{"11/23/2026 08:00:00 PM", " INFO x", "2026-11-23T12:00:00Z"},
	{"11/23/2026, 8:00:00 PM", "     LOG [X] x", "2026-11-23T12:00:00Z"},
	{"11/23/2026, 8:00:00\u202fPM", " LOG x", "2026-11-23T12:00:00Z"},
	{"11/23/2026 8:00:00.250 pm", " x", "2026-11-23T12:00:00.25Z"},
	{"11/23/2026 12:00:00 AM", " x", "2026-11-22T16:00:00Z"},
	{"11/23/2026 12:00:00 PM", " x", "2026-11-23T04:00:00Z"},
	{"1/2/2026 3:04:05 PM", " x", "2026-01-02T07:04:05Z"},
	{"01/02/2026 03:04:05 PM", " x", "2026-01-02T07:04:05Z"},
	{"1/2/26, 3:04:05 PM", " x", "2026-01-02T07:04:05Z"},
	{"23/11/2026 8:00:00 pm", " x", "2026-11-23T12:00:00Z"},
	{"11/23/2026 20:00:00", " x", "2026-11-23T12:00:00Z"},
	{"11/23/2026 20:00:00.123 +00:00", " x", "2026-11-23T20:00:00.123Z"},
	{"23/11/2026 20:00:00", " x", "2026-11-23T12:00:00Z"},
	{"11/10/2026 20:00:00", " not of a November long past, on this evening", "2026-11-10T12:00:00Z"},
	{"10/11/2026 20:00:00", " the same day, as others write it", "2026-11-10T12:00:00Z"},
	{"12/11/2026 20:00:00", " nor of next month", "2026-11-12T12:00:00Z"},
	{"23.11.2026 20:00:00,123", " x", "2026-11-23T12:00:00.123Z"},
	{"2.3.2026, 20:00:00", " x", "2026-03-02T12:00:00Z"},
	{"23-11-2026 20:00:00", " [main] x", "2026-11-23T12:00:00Z"},
	{"11-23 20:00:00.123", " [main] ERROR x", "2026-11-23T12:00:00.123Z"},
	{"11/23 20:00:00", " ERROR x", "2026-11-23T12:00:00Z"},
	{"12-31 23:00:00", " of last year", "2025-12-31T15:00:00Z"},
	{"20:00:00.123", " [main] x", "2026-11-23T12:00:00.123Z"},
	{"23:30:00", " x", "2026-11-22T15:30:00Z"},
}

func newTestTimes() *timeParser {
	p := newTimeParser(shanghai)
	p.now = func() time.Time { return time.Date(2026, 11, 23, 12, 30, 0, 0, time.UTC) }
	return &p
}

func TestTimesAtTheHeadOfALine(t *testing.T) {
	p := newTestTimes()
	for _, c := range testTimes {
		for range 2 { // the second time from what is remembered
			ms, n, ok := p.head([]byte(c.text + c.head))
			if got := time.UnixMilli(ms).UTC().Format(time.RFC3339Nano); !ok || got != c.want || n != len(c.text) {
				t.Errorf("%q: %v, %d bytes, %v; want %s, %d bytes", c.text+c.head, got, n, ok, c.want, len(c.text))
			}
		}
	}
}

func TestTimesAsValues(t *testing.T) {
	p := newTestTimes()
	cases := slices.DeleteFunc(slices.Clone(testTimes), func(c struct{ text, head, want string }) bool {
		return c.text[2] == ':' || c.text[5] == ' ' || strings.HasPrefix(c.text, "26/") // what may be something else is no value
	})
	for _, c := range append(cases, []struct{ text, head, want string }{
		{"1795464000", "", "2026-11-23T20:00:00Z"},
		{"1795464000.123", "", "2026-11-23T20:00:00.123Z"},
		{"1795464000.1229999", "", "2026-11-23T20:00:00.123Z"},
		{"1795464000.9999999", "", "2026-11-23T20:00:00.999Z"},
		{"1795464000123", "", "2026-11-23T20:00:00.123Z"},
		{"1795464000123456", "", "2026-11-23T20:00:00.123Z"},
		{"1795464000123456789", "", "2026-11-23T20:00:00.123Z"},
		{"1.795464e9", "", "2026-11-23T20:00:00Z"},
		{"2026-11-23", "", "2026-11-22T16:00:00Z"},
	}...) {
		ms, ok := p.parse([]byte(c.text))
		if got := time.UnixMilli(ms).UTC().Format(time.RFC3339Nano); !ok || got != c.want {
			t.Errorf("%q: %v %v, want %s", c.text, got, ok, c.want)
		}
	}
}

func TestWhatIsNoTime(t *testing.T) {
	p := newTestTimes()
	for _, s := range []string{"", "x", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-04-31 00:00:00", "2026-11-00 00:00:00", "0000-01-01 00:00:00",
		"2026-11-23T24:00:00Z", "2026-11-23T20:60:00Z", "2026-11-23T20:00:61Z", "2026-11-23x20:00:00", "2026-11/23 20:00:00", "2026-11-23 20:00:00x",
		"2026-11-23T20:00:00Zulu", "2026-11-23T20:00:00+0860", "2026-11-23 2a:00:00", "99/Nov/2026:20:00:00 +0000", "23/Foo/2026:20:00:00 +0000", "30/Feb/2026:20:00:00 +0000",
		"Nov 31 20:00:00", "Foo Nov 23 20:00:00", "Mon Foo 23 20:00:00 2026", "Novel 3 20:00:00", "20261323T200000Z", "123", "0", "-1795464000", "12345678901234567890", "1e400",
		"1795464000x", "NaN", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "::::::::::::::::::::"} {
		if ms, ok := p.parse([]byte(s)); ok {
			t.Errorf("%q is %v", s, time.UnixMilli(ms).UTC())
		}
	}
	for _, s := range []string{"1795464000 x", "20:00 x", "20:00:00th x", "127.0.0.1 - - [x]", "24:00:00 xxxxx"} {
		if ms, n, ok := p.head([]byte(s)); ok {
			t.Errorf("%q begins with %v, %d bytes", s, time.UnixMilli(ms).UTC(), n)
		}
	}
}

// Clocks that are set back say each minute of an hour twice, and those set forward
// skip one: such lines must have a time all the same, and the others the right one.
func TestHoursThatAZoneSkipsAndRepeats(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here: ", err)
	}
	p := newTimeParser(berlin)
	for text, want := range map[string]string{
		"2026-03-29 01:59:59": "2026-03-29T00:59:59Z",
		"2026-03-29 03:00:00": "2026-03-29T01:00:00Z",
		"2026-10-25 01:59:59": "2026-10-24T23:59:59Z",
		"2026-10-25 03:00:00": "2026-10-25T02:00:00Z",
	} {
		ms, _ := p.parse([]byte(text))
		if got := time.UnixMilli(ms).UTC().Format(time.RFC3339); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"2026-03-29 02:30:00", "2026-10-25 02:30:00"} {
		ms, ok := p.parse([]byte(text))
		want, _ := time.Parse(time.DateTime, text)
		if d := want.UnixMilli() - ms; !ok || d != hourMS && d != 2*hourMS {
			t.Errorf("%s is %v", text, time.UnixMilli(ms).UTC())
		}
	}
}

// FuzzTime compares with the standard library where that knows the form.
func FuzzTime(f *testing.F) {
	for _, c := range testTimes {
		f.Add([]byte(c.text + c.head))
	}
	f.Add([]byte("1795464000.123"))
	p, fresh := newTestTimes(), newTestTimes()
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, ok := p.parse(b)
		at, n, okHead := p.head(b)
		*fresh = *newTestTimes()
		if again, okAgain := fresh.parse(b); again != ms || okAgain != ok {
			t.Fatalf("%q is %d %v, and %d %v when nothing is remembered", b, ms, ok, again, okAgain)
		}
		if okHead && (n < 8 || n > len(b)) {
			t.Fatalf("%q: %d bytes", b, n)
		}
		want, err := time.Parse(time.RFC3339Nano, string(b))
		if err != nil || len(b) > 64 || want.Year() < 1 {
			return
		}
		_, east := want.Zone()
		if b[13] != ':' || strings.HasSuffix(string(b), ":60") || east > 18*3600 || east < -18*3600 {
			return // it takes an hour of one digit, and offsets that there are not
		}
		if !ok || ms != want.UnixMilli() || at != ms || n != len(b) {
			t.Fatalf("%q is %d %v, want %d", b, ms, ok, want.UnixMilli())
		}
	})
}

func BenchmarkTime(b *testing.B) {
	for name, text := range map[string]string{"iso": "2026-11-23 20:00:00,123", "rfc3339": "2026-11-23T20:00:00.123456+08:00", "clf": "23/Nov/2026:20:00:00 +0000",
		"syslog": "Nov 23 20:00:00", "unix": "1795464000.1234567"} {
		b.Run(name, func(b *testing.B) {
			p := newTimeParser(shanghai)
			text := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := p.parse(text); !ok {
					b.Fatal("no time")
				}
			}
		})
	}
}
