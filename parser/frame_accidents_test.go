package parser

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// tail is a file that is read while it is written.
type tail struct {
	t    *testing.T
	f    *framer
	data []byte
	now  time.Time
	cuts []record.Cut
}

func newTail(t *testing.T, opt framerOptions) *tail {
	return &tail{t: t, f: mustFramer(t, opt), now: noon}
}

// look returns what a look at the file gives, after a wait.
func (tl *tail) look(wait time.Duration, flush bool) (evs []framed) {
	tl.now = tl.now.Add(wait)
	base := tl.f.Pos().Off
	look := Look{Data: tl.data[base:], Base: base, Now: tl.now, AtEnd: true, Flush: flush}
	for {
		ev, ok := tl.f.Next(&look)
		if !ok {
			return evs
		}
		if ev.Timed {
			tl.cuts = append(tl.cuts, ev.Cut)
		}
		evs = append(evs, keep(ev))
	}
}

func (tl *tail) want(wait time.Duration, want ...framed) {
	tl.t.Helper()
	same(tl.t, "after "+wait.String(), tl.look(wait, false), want)
}

func (tl *tail) write(s string) { tl.data = append(tl.data, s...) }

func (tl *tail) wantDue(in time.Duration) {
	tl.t.Helper()
	at, ok := tl.f.Due()
	if in == 0 && ok || in != 0 && (!ok || at.Sub(tl.now) != in) {
		tl.t.Errorf("due in %v, %v; want %v", at.Sub(tl.now), ok, in)
	}
}

func TestTheLastLineHasNoNewline(t *testing.T) {
	tl := newTail(t, framerOptions{})
	tl.write("a\nunfin")
	tl.want(0, framed{0, "a", "", 0})
	tl.wantDue(5 * time.Second)
	tl.want(4 * time.Second)
	tl.write("ish")
	tl.want(time.Second)
	tl.wantDue(5 * time.Second)
	tl.want(4999 * time.Millisecond)
	tl.want(time.Millisecond, framed{2, "unfinish", "P", 0})
	tl.wantDue(0)
	if want := []record.Cut{{Off: 10, Mid: true}}; !slices.Equal(tl.cuts, want) {
		t.Fatalf("cuts %v, want %v", tl.cuts, want)
	}
	tl.write("ed\nb\n")
	tl.want(time.Second, framed{10, "ed", "P", 0}, framed{13, "b", "", 0})

	// A reader that begins anew, at the cut or before it, finds the same lines.
	for _, off := range []int64{0, 2, 10} {
		tl.f.Reset(record.Pos{Off: off}, tl.cuts)
		all := []framed{{0, "a", "", 0}, {2, "unfinish", "P", 0}, {10, "ed", "P", 0}, {13, "b", "", 0}}
		all = slices.DeleteFunc(all, func(ev framed) bool { return ev.Off < off })
		same(t, "anew", tl.look(0, false), all)
	}
}

func TestTheLastEventWaitsASecond(t *testing.T) {
	tl := newTail(t, framerOptions{Multiline: joinAuto})
	tl.write("ERROR a\n")
	tl.want(0)
	tl.wantDue(time.Second)
	tl.want(900 * time.Millisecond)
	tl.write("\tat b\n")
	tl.want(500 * time.Millisecond)
	tl.wantDue(time.Second)
	tl.want(time.Second, framed{0, "ERROR a\n\tat b", "", 0})
	tl.write("\tat c\nnext\n")
	tl.want(0, framed{14, "\tat c", "", 0})
	if want := []record.Cut{{Off: 14}}; !slices.Equal(tl.cuts, want) {
		t.Fatalf("cuts %v, want %v", tl.cuts, want)
	}
	tl.f.Reset(record.Pos{}, tl.cuts)
	tl.want(0, framed{0, "ERROR a\n\tat b", "", 0}, framed{14, "\tat c", "", 0})
}

// A writer with a buffer tears a line of a trace in two: the trace waits for the rest
// of the line, and is not torn.
func TestATornLineHoldsItsTrace(t *testing.T) {
	tl := newTail(t, framerOptions{Multiline: joinAuto})
	tl.write("ERROR a\n\tat b\n\ta")
	tl.want(0)
	tl.want(4 * time.Second)
	tl.write("t c\nnext\n")
	tl.want(0, framed{0, "ERROR a\n\tat b\n\tat c", "", 0})
}

// Behind a line that is whole stands the beginning of the next, for as long as its writer
// takes: the one must not wait for the other.
func TestALineDoesNotWaitForTheEndOfTheNext(t *testing.T) {
	tl := newTail(t, framerOptions{Multiline: joinAuto, LineTimeout: time.Minute})
	tl.write("one\ntw")
	tl.want(0)
	tl.wantDue(time.Second)
	tl.want(900 * time.Millisecond)
	tl.write("o")
	tl.want(900 * time.Millisecond)
	tl.want(time.Second, framed{0, "one", "", 0})
	tl.wantDue(time.Minute - time.Second)
	tl.write("\nthree")
	tl.want(0)
	tl.want(time.Second, framed{4, "two", "", 0})
	if want := []record.Cut{{Off: 4}, {Off: 8}}; !slices.Equal(tl.cuts, want) {
		t.Fatalf("cuts %v, want %v", tl.cuts, want)
	}

	// What begins as a trace waits, and so does what the next line is sure to go on with.
	for _, data := range []string{"panic: a\n\ngorou", "ERROR a\n\tat b\nCaused", "a\n b"} {
		tl := newTail(t, framerOptions{Multiline: joinAuto, LineTimeout: time.Minute})
		tl.write(data)
		tl.want(0)
		tl.want(30 * time.Second)
	}
}

func TestTheLastLineOfATraceHasNoNewline(t *testing.T) {
	tl := newTail(t, framerOptions{Multiline: joinAuto})
	tl.write("Traceback (most recent call last):\n  File \"x.py\"\nValueError: x")
	tl.want(0)
	same(t, "flushed", tl.look(0, true), []framed{{0, "Traceback (most recent call last):\n  File \"x.py\"\nValueError: x", "P", 0}})
	if p := tl.f.Pos(); p.Off != int64(len(tl.data)) {
		t.Fatalf("at %+v", p)
	}
}

// One stream goes on and on; the last event of the other leaves all the same.
func TestTheOtherStreamGoesOn(t *testing.T) {
	const stamp = "2026-11-23T20:00:00.123456789Z "
	tl := newTail(t, framerOptions{Multiline: joinAuto, Wrapper: wrapCRI})
	tl.write(stamp + "stdout F ERROR a\n")
	first := int64(len(tl.data))
	tl.write(stamp + "stderr F x\n")
	tl.want(0)
	for range 4 {
		tl.write(stamp + "stderr F  y\n")
		tl.want(240 * time.Millisecond)
	}
	tl.write(stamp + "stderr F  y\n")
	tl.want(40*time.Millisecond, framed{0, "ERROR a", "", 1})
	if p := tl.f.Pos(); p.Off != first || p.Ahead != int64(len(tl.data)) || p.AheadStream != record.StreamStdout {
		t.Fatalf("at %+v", p)
	}
	tl.want(time.Second, framed{first, "x" + strings.Repeat("\n y", 5), "", 2})
}

func TestAnOverlongLine(t *testing.T) {
	long := strings.Repeat("0123456789", 30)
	for _, opt := range []framerOptions{{MaxLine: 100}, {MaxLine: 100, Multiline: joinAuto}} {
		c := frameCase{opt: opt, span: 1 << 20, data: []byte("a\n" + long + "\nb\n" + long[:100] + "\r\n")}
		same(t, "overlong", c.whole(t, nil), []framed{
			{0, "a", "", 0}, {2, long[:100], "T", 0}, {303, "b", "", 0}, {305, long[:100], "", 0},
		})
		f := c.framer(t, record.Pos{}, nil)
		look := Look{Data: c.data[:200], Now: noon}
		for range 2 {
			f.Next(&look)
		}
		f.Next(&look)
		if p := f.Pos(); p != (record.Pos{Off: 200, Skip: true}) {
			t.Fatalf("in the rest of the line at %+v", p)
		}
		f = c.framer(t, f.Pos(), nil)
		ev, ok := f.Next(&Look{Data: c.data[200:], Base: 200, Now: noon})
		if !ok || string(ev.Text) != "b" {
			t.Fatalf("after the rest of the line came %q", ev.Text)
		}
	}
	f := mustFramer(t, framerOptions{MaxLine: 5})
	f.Next(&Look{Data: []byte("abcdéfghij\n"), Now: noon})
	ev, _ := f.Next(&Look{Data: []byte("x\n"), Base: 100, Now: noon})
	if ev.Text != nil || f.Skipped().RestBytes != 0 {
		t.Fatal("a look elsewhere was used")
	}
	same(t, "in a rune", frameAll(t, framerOptions{MaxLine: 5}, "abcdéfghij\n"), []framed{{0, "abcd", "T", 0}})
}

func TestWhatIsSkippedIsCounted(t *testing.T) {
	f := mustFramer(t, framerOptions{MaxLine: 5, Multiline: joinAuto})
	data := []byte("a\n\n \n\x00\x00\x00b\n\n\n\n c\n1234567\nd\n\n")
	for i := range data {
		p := f.Pos().Off
		look := Look{Data: data[p : i+1], Base: p, Now: noon, AtEnd: true, Flush: i == len(data)-1}
		for ok := true; ok; _, ok = f.Next(&look) {
		}
	}
	if got, want := f.Skipped(), (Skipped{BlankLines: 6, NULBytes: 3, RestBytes: 2}); got != want {
		t.Fatalf("skipped %+v, want %+v", got, want)
	}
}

// A copytruncate under a writer that does not append leaves a hole as large as the
// file was: it costs time, not memory.
func TestAHoleOfHundredsOfMegabytes(t *testing.T) {
	for _, opt := range []framerOptions{{}, {Multiline: joinAuto}, {Wrapper: wrapCRI}, {Encoding: "utf-16le"}} {
		f := mustFramer(t, opt)
		block := make([]byte, 256<<10)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const hole = 400 << 20
		for f.Pos().Off < hole {
			look := Look{Data: block, Base: f.Pos().Off, Now: noon, AtEnd: true}
			if ev, ok := f.Next(&look); ok {
				t.Fatalf("%+v from a hole", ev)
			}
			if f.Pos().Off == look.Base {
				t.Fatal("does not move on")
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d bytes allocated", n)
		}
		if n := f.Skipped().NULBytes; n != hole {
			t.Errorf("%d bytes counted", n)
		}
		line := "a\n"
		if opt.Encoding != "" {
			line = string(wide([]byte(line)))
		}
		look := Look{Data: []byte(line), Base: hole, Now: noon, AtEnd: true, Flush: true}
		if ev, ok := f.Next(&look); !ok || string(ev.Text) != "a" || ev.Off != hole {
			t.Errorf("behind the hole: %+v", ev)
		}
	}
}

func TestCRILinesThatAreNone(t *testing.T) {
	const stamp = "2026-11-23T20:00:00.123456789Z "
	got := frameAll(t, framerOptions{Multiline: joinAuto, Wrapper: wrapCRI}, strings.Join([]string{
		stamp + "stdout F a",
		"2026-13-23T20:00:00Z stdout F month 13",
		stamp + "stdout F  b",
		stamp + "stdfoo F c",
		stamp + "stdout X d",
		stamp + "stdout P:x e",
		stamp + "stdout F:x:y e",
		stamp + "stdout F",
		stamp + "stdout F ",
		"2026-11-23T20:00:00+08:00 stderr F f",
		"", "text", stamp + "stdout F torn",
	}, "\n"))
	want := []framed{
		{0, "a", "", 1}, {42, "2026-13-23T20:00:00Z stdout F month 13", "", 0}, {81, " b", "", 1},
		{124, stamp + "stdfoo F c", "", 0}, {166, stamp + "stdout X d", "", 0}, {208, "ee", "", 1},
		{377, "f", "", 2}, {415, "text", "", 0}, {420, "torn", "P", 1},
	}
	for i := range min(len(got), len(want)) {
		want[i].Off = got[i].Off // counted by eye in no test
	}
	same(t, "malformed", got, want)
}

func TestRuntimeTimes(t *testing.T) {
	var c runtimeClock
	for _, s := range []string{
		"2026-11-23T20:00:00Z", "2026-11-23T20:00:00.1Z", "2026-11-23T20:00:00.123456789+08:00", "2024-02-29T23:59:59.999-03:30",
		"1969-12-31T23:59:59.5Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if ms, ok := c.parse([]byte(s)); !ok || ms != want.UnixMilli() {
				t.Errorf("%s: %d, %v; want %d", s, ms, ok, want.UnixMilli())
			}
		}
	}
	for _, s := range []string{
		"", "2026-11-23T20:00:00", "2026-02-29T20:00:00Z", "2026-00-10T20:00:00Z", "2026-11-23 20:00:00Z", "2026-11-23T24:00:00Z",
		"2026-11-23T20:60:00Z", "2026-11-23T20:00:00.1", "2026-11-23T20:00:00+0800", "2026-11-23T20:00:00+24:00", "2026-11-2aT20:00:00Z",
	} {
		if ms, ok := c.parse([]byte(s)); ok {
			t.Errorf("%q: %d", s, ms)
		}
	}
}

func TestEventsHaveTheTimeOfTheirFirstPart(t *testing.T) {
	f := mustFramer(t, framerOptions{Wrapper: wrapDocker})
	data := `{"log":"a","stream":"stderr","time":"2026-11-23T20:00:00.5Z"}` + "\n" +
		`{"log":"b\n","stream":"stderr","time":"2026-11-23T20:00:09Z"}` + "\n"
	ev, ok := f.Next(&Look{Data: []byte(data), Now: noon})
	if want := time.Date(2026, 11, 23, 20, 0, 0, 5e8, time.UTC).UnixMilli(); !ok || !ev.HasTime || ev.Time != want || string(ev.Text) != "ab" {
		t.Fatalf("%+v", ev)
	}
}

func TestDockerEscapes(t *testing.T) {
	for raw, want := range map[string]string{
		`a\tb\"c\\d\/e\b\f`:          "a\tb\"c\\d/e\b\f",
		`\u003ca\u003E \u00e9\u6f22`: "<a> é漢",
		`\ud83d\ude00 \ud83d \ude00`: "😀 \uFFFD \uFFFD",
		`\ud83d\u0041`:               "\uFFFDA",
		`\x \u12 \u12g4 \`:           `\x \u12 \u12g4 \`,
		`\\n`:                        `\n`,
	} {
		if got := string(appendUnescaped(nil, []byte(raw))); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

func TestEncodings(t *testing.T) {
	for _, c := range []struct{ encoding, data, want string }{
		{"", "\xEF\xBB\xBFa\nb\n", "a|b"},
		{"UTF-8", "a\xFF\n", "a\xFF"},
		{"gbk", "\xc4\xe3\xba\xc3\r\n\x81\x30\n", "你好|\uFFFD0"},
		{"gb18030", "\x84\x31\x95\x33\xc4\xe3\n\x90\x30\x81\x30\n", "你|\U00010000"},
		{"big5", "\xa7\x41\n", "你"},
		{"shift_jis", "\x83\x5c\n", "ソ"},
		{"latin1", "\xe9\n", "é"},
		{"utf-16", "\xFF\xFEa\x00\r\x00\n\x00\n\x00`O}Y\n\x00", "a|你好"},
		{"utf-16", "\xFE\xFF\x00a\x00\r\x00\nO`Y}\x00\n", "a|你好"},
		{"utf-16le", "=\xd8\x00\xde\n\x00\x0a\x01\n\x00", "😀|Ċ"},
		{"utf-16be", "\xd8=\xde\x00\x00\n\x01\x0a\x00\n\xd8=\x00\n", "😀|Ċ|\uFFFD"},
	} {
		if got := strings.Join(texts(frameAll(t, framerOptions{Encoding: c.encoding}, c.data)), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.encoding, got, c.want)
		}
	}
	for _, name := range []string{"utf8-mac", "iso-2022-kr", "hz-gb-2312"} {
		if _, err := newFramer(framerOptions{Encoding: name}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A UTF-16 file is joined by what its lines say, and the limit does not tear its
// characters.
func TestUTF16IsJoined(t *testing.T) {
	data := string(wide([]byte("ERROR a\r\n\tat b\r\nnext\r\n")))
	wantTexts(t, frameAll(t, framerOptions{Encoding: "utf-16", Multiline: joinAuto}, data), "ERROR a\n\tat b", "next")
}

func TestATraceGoesOnInTheNextFile(t *testing.T) {
	const cri = "2026-11-23T20:00:00.123456789Z "
	for name, c := range map[string]struct {
		opt       framerOptions
		old, head string
		joins     string
	}{
		"a trace":         {framerOptions{Multiline: joinAuto}, "ERROR a\n\tat b\n", "\tat c\n\tat d\nnext\n", "\tat c\n\tat d\n"},
		"a blank line":    {framerOptions{Multiline: joinAuto}, "panic: a\n", "\ngoroutine 1 [running]:\n\nnext\n", "\ngoroutine 1 [running]:\n"},
		"half a line":     {framerOptions{Multiline: joinAuto}, "ERROR a\n", "\tat c\n\tat", "\tat c\n"},
		"a torn end":      {framerOptions{Multiline: joinAuto}, "ERROR a\n\ta", "t c\n\tat", ""},
		"nothing pending": {framerOptions{Multiline: joinAuto}, "", "\tat c\n", ""},
		"another event":   {framerOptions{Multiline: joinAuto}, "ERROR a\n", "ERROR b\n\tat c\n", ""},
		"a mark":          {framerOptions{Multiline: joinAuto}, "ERROR a\n", "\xEF\xBB\xBF\tat c\n", ""},
		"a hole":          {framerOptions{Multiline: joinAuto}, "ERROR a\n", "\x00\tat c\n", ""},
		"no joining":      {framerOptions{}, "ERROR a\n", "\tat c\n", ""},
		"too long":        {framerOptions{Multiline: joinAuto, MaxLine: 20}, "ERROR a\n", "\tat c\n\tat e\n\tat d\n", "\tat c\n\tat e\n"},
		"the rest of a line": {framerOptions{Wrapper: wrapCRI}, cri + "stdout P a\n", cri + "stdout P b\n" + cri + "stdout F c\n" + cri + "stdout F d\n",
			cri + "stdout P b\n" + cri + "stdout F c\n"},
		"the rest of a line behind an event": {framerOptions{Wrapper: wrapCRI, Multiline: joinAuto}, cri + "stderr F x\n" + cri + "stderr P a\n",
			cri + "stderr F b\n" + cri + "stderr F c\n", cri + "stderr F b\n"},
		"a wrapped trace": {framerOptions{Wrapper: wrapCRI, Multiline: joinAuto}, cri + "stdout F a\n" + cri + "stderr F x\n",
			cri + "stderr F  y\n" + cri + "stdout P  b\n" + cri + "stdout F c\n" + cri + "stderr F z\n" + cri + "stdout F  d\n",
			cri + "stderr F  y\n" + cri + "stdout P  b\n" + cri + "stdout F c\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := mustFramer(t, c.opt)
			look := Look{Data: []byte(c.old), Now: noon, AtEnd: true}
			for _, ok := f.Next(&look); ok; _, ok = f.Next(&look) {
			}
			n := f.Joins(&look, []byte(c.head))
			if got := c.head[:n]; got != c.joins {
				t.Fatalf("goes on with %q, want %q", got, c.joins)
			}
			if n == 0 {
				return
			}
			// What goes on is one event with what was pending, and all of it is passed.
			base := f.Pos().Off
			both := Look{Data: []byte(c.old + c.head[:n])[base:], Base: base, Now: noon, AtEnd: true, Flush: true}
			got := 0
			for ev, ok := f.Next(&both); ok; ev, ok = f.Next(&both) {
				if got++; ev.Off >= int64(len(c.old)) {
					t.Errorf("an event of its own: %+v", ev)
				}
			}
			if got == 0 || f.Pos().Off != int64(len(c.old)+n) {
				t.Errorf("%d events, at %+v", got, f.Pos())
			}
		})
	}
}

// An event of a silent stream that nothing ends does not hold the position back for
// more than the span.
func TestASilentStreamDoesNotHoldTheFile(t *testing.T) {
	const cri = "2026-11-23T20:00:00.123456789Z "
	f := mustFramer(t, framerOptions{Wrapper: wrapCRI, Multiline: joinAuto})
	data := []byte(cri + "stdout F a\n" + strings.Repeat(cri+"stderr F "+strings.Repeat("x", 16<<10)+"\n", 200))
	data = bytes.Clone(data[:f.Window()])
	look := Look{Data: data, Now: noon}
	var first framed
	for ev, ok := f.Next(&look); ok; ev, ok = f.Next(&look) {
		if ev.Off == 0 {
			first = keep(ev)
		}
	}
	if first.Text != "a" || f.Pos().Off < minSpan {
		t.Fatalf("%v, at %+v", first, f.Pos())
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	for _, opt := range []framerOptions{
		{Multiline: joinStartsWith},
		{Encoding: "klingon"},
		{Encoding: "gbk", Wrapper: wrapCRI},
	} {
		if _, err := newFramer(opt); err == nil {
			t.Errorf("%+v is taken", opt)
		}
	}
	for _, opt := range []framerOptions{{MaxLine: -1, MaxLines: -1, LineTimeout: -1, EventTimeout: -1}, {MaxLine: 1, MaxLines: 1}, {MaxLine: 1, Encoding: "utf-16"}} {
		f := mustFramer(t, opt)
		if _, ok := f.Next(&Look{Data: []byte("abc\n"), Now: noon}); !ok && opt.Encoding == "" {
			t.Errorf("%+v: no event", opt)
		}
	}
}

func TestALoneLineWaitsLessThanATrace(t *testing.T) {
	tl := newTail(t, framerOptions{Multiline: joinAuto, LoneTimeout: 300 * time.Millisecond})
	tl.write("ERROR a\n")
	tl.want(0)
	tl.wantDue(300 * time.Millisecond)
	tl.want(300*time.Millisecond, framed{0, "ERROR a", "", 0})
	tl.write("ERROR b\n")
	tl.want(200 * time.Millisecond)
	tl.write("\tat c\n")
	tl.want(0)
	tl.wantDue(time.Second) // a trace has begun
	tl.want(900 * time.Millisecond)
	tl.write("\tat d\n")
	tl.want(0)
	tl.want(time.Second, framed{8, "ERROR b\n\tat c\n\tat d", "", 0})
}

func TestAnObjectWaitsForNothing(t *testing.T) {
	for _, wrap := range []wrapKind{wrapNone, wrapCRI} {
		head := ""
		if wrap == wrapCRI {
			head = "2026-11-23T20:00:00Z stdout F "
		}
		tl := newTail(t, framerOptions{Multiline: joinOthers, Whole: wholeObject, Wrapper: wrap})
		for _, line := range []string{`{"a":1}`, ` {"a":1} `, `{"a":1}`} {
			tl.write(head + line + "\n")
			if evs := tl.look(0, false); len(evs) != 1 || evs[0].Text != line {
				t.Errorf("after %q: %v", line, evs)
			}
		}
		tl.write(head + "panic: a\n" + head + "\n" + head + "goroutine 1 [running]:\n")
		tl.want(0)
		tl.write(head + `{"a":1}` + "\n")
		if evs := tl.look(0, false); len(evs) != 2 || evs[0].Text != "panic: a\n\ngoroutine 1 [running]:" || evs[1].Text != `{"a":1}` {
			t.Errorf("behind a trace: %v", evs)
		}
	}
}
