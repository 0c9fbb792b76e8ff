package report

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMessagesThatDifferInIdsAreOne(t *testing.T) {
	for message, want := range map[string]string{
		"order 17 failed":                              "order * failed",
		"took 12.5ms, 7 of 9":                          "took *ms, * of *",
		"from 10.0.0.1:8080":                           "from *",
		"at 2026-03-01 12:00:01":                       "at * *",
		"id 0af3bd12-aaaa-bbbb-cccc-0123456789ab gone": "id * gone",
		"trace 4bf92f3577b34da6a3ce929d0e0e4736 lost":  "trace * lost",
		"pointer 0x7f and 0xC000012345":                "pointer * and *",
		"token V1StGXR8Z5jdHi6BmyT9":                   "token *",
		"deadbeef is a word, defaced too":              "deadbeef is a word, defaced too",
		"HTTP2 from host7":                             "HTTP* from host*",
		"größe 12 überschritten":                       "größe * überschritten",
		"  first line\nsecond line":                    "first line",
		"\r\n\tat the next":                            "at the next",
		"tabs\t\tand   blanks  ":                       "tabs and blanks",
		"":                                             "",
		"bell\x07 and \x1b[31mred":                     "bell and [*mred",
		"user 1,234,567 of 2":                          "user * of *",
	} {
		if got := string(fold(nil, []byte(message), false)); got != want {
			t.Errorf("%q becomes %q, want %q", message, got, want)
		}
	}
	if got := string(fold(nil, []byte(`say \"hi\" 3\nat x`), true)); got != `say "hi" *` {
		t.Errorf("%q", got)
	}
}

func TestFrequentMessagesAreFoundInBoundedMemory(t *testing.T) {
	var tp top
	grown := 0
	for i := range 100_000 {
		text := "rare " + strings.Repeat("x", i%997)
		switch {
		case i%3 == 0:
			text = "frequent"
		case i%10 == 1:
			text = "less frequent"
		}
		if tp.add([]byte(text), true) {
			grown++
		}
	}
	shown := tp.shown()
	if grown != topSize || len(tp.List) != topSize || len(shown) != topShown || shown[0].Text != "frequent" || shown[0].N != 33_334 || shown[1].Text != "less frequent" {
		t.Errorf("%d patterns: %+v", grown, shown)
	}
}

func FuzzFold(f *testing.F) {
	f.Add("order 17 of 0af3bd12-aaaa-bbbb-cccc-0123456789ab", true)
	f.Add("\xff\xfe界\\", true)
	f.Add("\\n\\\"\\", true)
	f.Fuzz(func(t *testing.T, message string, escaped bool) {
		got := fold([]byte("key"), []byte(message), escaped)
		if !strings.HasPrefix(string(got), "key") || len(got) > len("key")+maxPattern {
			t.Errorf("%q", got)
		}
		pattern := string(got[len("key"):])
		if strings.ContainsAny(pattern, "\n\r\t0123456789") {
			t.Errorf("%q holds what was to be folded", pattern)
		}
		if len(message) <= maxMessage && utf8.ValidString(message) && !utf8.ValidString(pattern) {
			t.Errorf("%q is not valid any more", pattern)
		}
	})
}
