package parser

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/tailwater/tailwater/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// framed is an Event that outlives its look.
type framed struct {
	Off    int64
	Text   string
	Flags  string
	Stream record.Stream
}

func (ev framed) String() string {
	return fmt.Sprintf("%d/%d%s %q", ev.Off, ev.Stream, ev.Flags, ev.Text)
}

func keep(ev Event) framed {
	flags := ""
	if ev.Partial {
		flags += "P"
	}
	if ev.Truncated {
		flags += "T"
	}
	return framed{ev.Off, string(ev.Text), flags, ev.Stream}
}

func mustFramer(t testing.TB, opt framerOptions) *framer {
	t.Helper()
	f, err := newFramer(opt)
	if err != nil {
		t.Fatal(err)
	}
	return f.(*framer)
}

// frameAll frames data in one look at a file that will not grow.
func frameAll(t testing.TB, opt framerOptions, data string) []framed {
	t.Helper()
	f := mustFramer(t, opt)
	look := Look{Data: []byte(data), Now: noon, AtEnd: true, Flush: true}
	var out []framed
	for {
		ev, ok := f.Next(&look)
		if !ok {
			return out
		}
		out = append(out, keep(ev))
	}
}

func texts(evs []framed) []string {
	var out []string
	for _, ev := range evs {
		out = append(out, ev.Text)
	}
	return out
}

func wantTexts(t *testing.T, got []framed, want ...string) {
	t.Helper()
	g, w := strings.Join(texts(got), "\n---\n"), strings.Join(want, "\n---\n")
	if g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestPlainLines(t *testing.T) {
	wantTexts(t, frameAll(t, framerOptions{}, "\xEF\xBB\xBFa\r\n\n  \n\x00\x00\x00b\n c\nlast"), "a", "b", " c", "last")
}

func TestAutoJoinsIndentedLines(t *testing.T) {
	wantTexts(t, frameAll(t, framerOptions{Multiline: joinAuto}, "a\n b\n\n\tc\nd\n\n\ne\n"), "a\n b\n\n\tc", "d", "e")
}

func TestCRI(t *testing.T) {
	wantTexts(t, frameAll(t, framerOptions{Multiline: joinAuto, Wrapper: wrapCRI}, strings.Join([]string{
		"2026-11-23T20:00:00.123456789Z stdout F a",
		"2026-11-23T20:00:00.123456789Z stderr F x",
		"2026-11-23T20:00:00.123456789Z stdout P  b",
		"2026-11-23T20:00:00.123456789Z stderr F  y",
		"2026-11-23T20:00:00.123456789Z stdout F c",
		"2026-11-23T20:00:00.123456789Z stdout F d", ""}, "\n")), "a\n bc", "d", "x\n y")
}

func TestDocker(t *testing.T) {
	wantTexts(t, frameAll(t, framerOptions{Multiline: joinAuto, Wrapper: wrapDocker}, strings.Join([]string{
		`{"log":"a\n","stream":"stdout","time":"2026-11-23T20:00:00.123456789Z"}`,
		`{"log":"\tb \u003cx\u003e","stream":"stdout","time":"2026-11-23T20:00:00.123456789Z"}`,
		`{"log":"z\"\\n","stream":"stdout","attrs":{"a":"}"},"time":"2026-11-23T20:00:00.123456789Z"}`,
		`{"log":"y\n","stream":"stdout","time":"2026-11-23T20:00:00.123456789Z"}`,
		`{"log":"d\n","stream":"stderr","time":"2026-11-23T20:00:00.123456789Z"}`, ""}, "\n")), "a\n\tb <x>z\"\\ny", "d")
}

// A writer that stands still in the middle of a character loses it only when it never
// goes on.
func TestTheUnfinishedLineIsNotCutInACharacter(t *testing.T) {
	tl := newTail(t, framerOptions{})
	tl.write("ab\xe4\xb8")
	tl.want(0)
	tl.want(5*time.Second, framed{0, "ab", "P", 0})
	tl.write("\xadc\n")
	tl.want(0, framed{2, "中c", "P", 0})
	tl.write("\xe4\xb8")
	tl.want(0)
	tl.want(5*time.Second, framed{7, "\xe4\xb8", "P", 0})

	for encoding, c := range map[string][2]string{
		"gbk":       {"ab\xd6\xd0\xce", "\xc4c\n"}, // 中文
		"gb18030":   {"ab\xd6\xd0\x81\x30\x8b", "\x36c\n"},
		"shift_jis": {"ab\x93\xfa\x95", "\x5cc\n"}, // whose second half is a backslash
		"euc-kr":    {"ab\xc7\xd1\xb1", "\xdbc\n"},
	} {
		tl := newTail(t, framerOptions{Encoding: encoding})
		tl.write(c[0])
		tl.want(0)
		whole, err := htmlDecode(encoding, c[0][:4])
		if err != nil {
			t.Fatal(err)
		}
		tl.want(5*time.Second, framed{0, whole, "P", 0})
		tl.write(c[1])
		rest, err := htmlDecode(encoding, c[0][4:]+strings.TrimSuffix(c[1], "\n"))
		if err != nil || strings.ContainsRune(whole+rest, utf8.RuneError) {
			t.Fatal(whole, rest, err)
		}
		tl.want(0, framed{4, rest, "P", 0})
	}
}

func htmlDecode(encoding, text string) (string, error) {
	e, err := htmlindex.Get(encoding)
	if err != nil {
		return "", err
	}
	return e.NewDecoder().String(text)
}
