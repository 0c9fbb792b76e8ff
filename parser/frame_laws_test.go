package parser

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// frameCase is a file and how it is framed; span is the framer's, small enough to
// matter.
type frameCase struct {
	opt  framerOptions
	span int64
	data []byte
}

func (c *frameCase) framer(t testing.TB, p record.Pos, cuts []record.Cut) *framer {
	f := mustFramer(t, c.opt)
	f.span = c.span
	var after []record.Cut
	for _, cut := range cuts {
		if cut.Off >= p.Off {
			after = append(after, cut)
		}
	}
	f.Reset(p, after)
	return f
}

func inOrder(evs []framed) []framed {
	slices.SortStableFunc(evs, func(a, b framed) int { return cmp.Compare(a.Off, b.Off) })
	return evs
}

// whole frames the file in one look, with the cuts.
func (c *frameCase) whole(t testing.TB, cuts []record.Cut) (evs []framed) {
	f := c.framer(t, record.Pos{}, cuts)
	look := Look{Data: c.data, Now: noon, AtEnd: true, Flush: true}
	for {
		ev, ok := f.Next(&look)
		if !ok {
			if end := f.Pos(); end.Off < int64(len(c.data))-1 {
				t.Fatalf("stopped at %+v of %d", end, len(c.data))
			}
			return inOrder(evs)
		}
		evs = append(evs, keep(ev))
	}
}

// inLooks frames the file in looks that end anywhere, with framers that begin anew at
// any position.
func (c *frameCase) inLooks(t testing.TB, rnd *rand.Rand) (evs []framed) {
	f := c.framer(t, record.Pos{}, nil)
	size := 1 + rnd.IntN(40)
	for {
		p := f.Pos()
		n := min(rnd.IntN(size)+1, len(c.data)-int(p.Off))
		end := int(p.Off) + n
		look := Look{Data: slices.Clone(c.data[p.Off:end]), Base: p.Off, Now: noon, AtEnd: end == len(c.data), Flush: end == len(c.data)}
		got := 0
		for {
			ev, ok := f.Next(&look)
			if !ok {
				break
			}
			got++
			evs = append(evs, keep(ev))
			if !ev.Timed && rnd.IntN(6) == 0 {
				if f.Pos().Off < p.Off {
					t.Fatalf("went back from %+v to %+v", p, f.Pos())
				}
				f = c.framer(t, f.Pos(), nil)
				break
			}
		}
		now := f.Pos()
		switch {
		case look.Flush && got == 0:
			return inOrder(evs)
		case now.Off == p.Off && n >= f.Window() && !look.AtEnd:
			t.Fatalf("does not move on from %+v with %d bytes", p, n)
		case now == p && size < 1<<20:
			size *= 2
		case size > 200:
			size /= 2
		}
		if rnd.IntN(4) == 0 {
			f = c.framer(t, f.Pos(), nil)
		}
		for i := range look.Data {
			look.Data[i] = 'X' // lent, and taken back
		}
	}
}

func same(t testing.TB, what string, got, want []framed) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	var b strings.Builder
	for i := 0; i < max(len(got), len(want)); i++ {
		switch {
		case i >= len(got):
			fmt.Fprintf(&b, "missing %v\n", want[i])
		case i >= len(want):
			fmt.Fprintf(&b, "surplus %v\n", got[i])
		case got[i] != want[i]:
			fmt.Fprintf(&b, "%d: got %v\n   want %v\n", i, got[i], want[i])
		default:
			continue
		}
		if b.Len() > 2000 {
			break
		}
	}
	t.Fatalf("%s:\n%s", what, b.String())
}

// bare returns the bytes of s that are neither blank nor NUL.
func bare(s string) string {
	return string(slices.DeleteFunc([]byte(s), func(c byte) bool { return c == 0 || blank([]byte{c}) }))
}

var someLines = strings.Split(`2026-11-23 20:00:00,123 ERROR [main] c.e.Foo - it broke
2026-11-23 20:00:00,124 INFO started
java.lang.IllegalStateException: closed
	at com.example.Foo.run(Foo.java:12)
	... 12 more
Caused by: java.io.IOException: gone
Traceback (most recent call last):
  File "x.py", line 2, in <module>
ValueError: x
During handling of the above exception, another exception occurred:
panic: boom
goroutine 1 [running]:
main.f(0x1, 0x2)
	/src/main.go:12 +0x1d
exit status 2
example.com/shop/cart.(*Cart).Add
app.rb:10:in 'run'
app.rb:10:in 'run': no (ArgumentError)
	from app.rb:2:in 'x'
Error: boom
    at f (/app/a.js:1:2) {
  code: 'X',
}
/app/index.js:10
Node.js v20.0.0
PHP Fatal error:  Uncaught x
Stack trace:
#0 {main}
thread 'main' panicked at src/main.rs:2:5:
note: run with it
2026/11/23 20:00:00 [error] 1#1: *7 a script said
this, client: 10.0.0.1
{"level":"info","msg":"x"}
{
}
a
 b
é漢字
x\y"z
some line that is quite a bit longer than all of the other ones, so that it meets the limit on the length of a line`, "\n")

func randomOptions(rnd *rand.Rand) framerOptions {
	opt := framerOptions{MaxLine: []int{20, 60, 200, 5000}[rnd.IntN(4)], MaxLines: []int{1, 3, 100}[rnd.IntN(3)]}
	opt.Multiline, opt.Whole = joinKind(rnd.IntN(5)), wholeObject
	if opt.Multiline == joinStartsWith || opt.Multiline == joinNginxErrors {
		opt.StartsWith = regexp.MustCompile(`^[a-j2]`)
	}
	opt.Wrapper = wrapKind(rnd.IntN(3))
	if opt.Wrapper == wrapNone {
		opt.Encoding = []string{"", "", "gbk", "utf-16le", "utf-16be", "utf-16", "windows-1252"}[rnd.IntN(7)]
	}
	return opt
}

// wrapped writes a line as a container runtime does, in parts.
func wrapped(rnd *rand.Rand, kind wrapKind, line string) string {
	var b strings.Builder
	stream := []string{"stdout", "stderr"}[rnd.IntN(2)]
	for {
		n, last := len(line), true
		if rnd.IntN(3) == 0 && n > 0 {
			n, last = rnd.IntN(n), false
		}
		part := line[:n]
		line = line[n:]
		if kind == wrapCRI {
			tag := "P"
			if last {
				tag = "F"
			}
			fmt.Fprintf(&b, "2026-11-23T20:00:00.%09dZ %s %s %s\n", rnd.IntN(1e9), stream, tag, part)
		} else {
			part = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\t", `\t`).Replace(part)
			if last {
				part += `\n`
			}
			fmt.Fprintf(&b, `{"log":"%s","stream":"%s","time":"2026-11-23T20:00:00.%09dZ"}`+"\n", part, stream, rnd.IntN(1e9))
		}
		if last {
			return b.String()
		}
		if rnd.IntN(3) == 0 {
			b.WriteString(wrapped(rnd, kind, someLines[rnd.IntN(len(someLines))]))
		}
	}
}

func randomFile(rnd *rand.Rand, opt *framerOptions, lines int) []byte {
	var b strings.Builder
	for range lines {
		line := someLines[rnd.IntN(len(someLines))]
		switch rnd.IntN(16) {
		case 0:
			line = ""
		case 1:
			line += "\r"
		case 2:
			line = "  \t"
		case 3:
			b.WriteString(strings.Repeat("\x00", rnd.IntN(100)))
		}
		if opt.Wrapper != wrapNone && rnd.IntN(20) > 0 {
			b.WriteString(wrapped(rnd, opt.Wrapper, line))
		} else {
			b.WriteString(line + "\n")
		}
	}
	data := b.String()
	if rnd.IntN(2) == 0 {
		data = strings.TrimSuffix(data, "\n")
	}
	switch opt.Encoding {
	case "utf-16le", "utf-16be", "utf-16":
		big := opt.Encoding == "utf-16be" || opt.Encoding == "utf-16" && rnd.IntN(2) == 0
		var wide []byte
		for _, r := range data {
			if big {
				wide = append(wide, byte(r>>8), byte(r))
			} else {
				wide = append(wide, byte(r), byte(r>>8))
			}
		}
		return wide
	}
	return []byte(data)
}

func TestLooksThatEndAnywhereGiveTheSameEvents(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		c := frameCase{opt: randomOptions(rnd), span: []int64{100, 500, 1 << 20}[rnd.IntN(3)]}
		c.data = randomFile(rnd, &c.opt, 40)
		same(t, fmt.Sprintf("seed %d %+v", seed, c.opt), c.inLooks(t, rnd), c.whole(t, nil))
	}
}

func TestEveryByteIsInOneEvent(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		c := frameCase{opt: randomOptions(rnd), span: []int64{100, 500, 1 << 20}[rnd.IntN(3)]}
		c.opt.MaxLine, c.opt.Wrapper, c.opt.Encoding = 5000, wrapNone, ""
		c.data = randomFile(rnd, &c.opt, 40)
		if got, want := bare(strings.Join(texts(c.whole(t, nil)), "")), bare(string(c.data)); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// grow plays a file that is written while it is read, with pauses that are longer
// than the time limits, and readers that begin anew at positions of long ago. What
// was delivered on the way must be what the file says in the end, with the cuts.
func (c *frameCase) grow(t testing.TB, rnd *rand.Rand) {
	var cuts []record.Cut
	now := noon
	written := 0
	delivered := map[[2]int64]framed{}
	safe := []record.Pos{{}}
	f := c.framer(t, record.Pos{}, nil)
	for round := 0; ; round++ {
		now = now.Add(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		if rnd.IntN(3) > 0 {
			written = min(written+rnd.IntN(120), len(c.data))
		}
		if rnd.IntN(10) == 0 {
			f = c.framer(t, safe[rnd.IntN(len(safe))], cuts)
		}
		p := f.Pos()
		look := Look{Data: c.data[min(int(p.Off), written):written], Base: p.Off, Now: now, AtEnd: true}
		look.Flush = written == len(c.data) && rnd.IntN(4) == 0
		for {
			ev, ok := f.Next(&look)
			if !ok {
				break
			}
			if ev.Timed {
				cuts = append(cuts, ev.Cut)
				slices.SortStableFunc(cuts, func(a, b record.Cut) int { return cmp.Compare(a.Off, b.Off) })
			}
			got := keep(ev)
			if c.opt.Wrapper != wrapNone {
				// That a line is the rest of one is known from a cut before it. A reader
				// that begins behind that cut, for the other stream's sake, is not told.
				got.Flags = strings.TrimPrefix(got.Flags, "P")
			}
			key := [2]int64{got.Off, int64(got.Stream)}
			if old, again := delivered[key]; again && old != got {
				t.Fatalf("at %d, first %v, then %v; cuts %v", got.Off, old, got, cuts)
			}
			delivered[key] = got
			safe = append(safe, f.Pos())
		}
		if _, pending := f.Due(); look.Flush && !pending && f.Pos().Off >= int64(len(c.data)) {
			break
		}
		if round > 100_000 {
			t.Fatalf("never ends: at %+v of %d", f.Pos(), len(c.data))
		}
	}
	var evs []framed
	for _, ev := range delivered {
		evs = append(evs, ev)
	}
	want := c.whole(t, cuts)
	if c.opt.Wrapper != wrapNone {
		for i := range want {
			want[i].Flags = strings.TrimPrefix(want[i].Flags, "P")
		}
	}
	same(t, fmt.Sprintf("%+v cuts %v", c.opt, cuts), inOrder(evs), want)
}

func TestWhatTimeCutStaysCut(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		c := frameCase{opt: randomOptions(rnd), span: []int64{100, 500, 1 << 20}[rnd.IntN(3)]}
		c.data = randomFile(rnd, &c.opt, 30)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { c.grow(t, rnd) })
	}
}

func FuzzFramer(f *testing.F) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 10))
		opt := randomOptions(rnd)
		f.Add(randomFile(rnd, &opt, 6), seed)
	}
	f.Add([]byte("\xEF\xBB\xBF\x00\x00a\r\r\n \xff\xfe\n\n\x00"), uint64(1))
	f.Add([]byte("\xFF\xFEa\x00\n\x00\n"), uint64(2))
	f.Add([]byte(`{"log":"\ud800\u00","stream":"stdout","time":"2026-02-30T00:00:00Z"}`+"\n{\n"), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) > 10_000 {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 11))
		c := frameCase{opt: randomOptions(rnd), span: []int64{50, 500, 1 << 20}[rnd.IntN(3)], data: data}
		evs := c.whole(t, nil)
		same(t, fmt.Sprintf("%+v", c.opt), c.inLooks(t, rnd), evs)
		c.grow(t, rnd)
		if c.opt.Wrapper == wrapNone && c.opt.Encoding == "" && c.opt.MaxLine == 5000 && len(data) < 5000 {
			got, want := bare(strings.Join(texts(evs), "")), bare(strings.TrimPrefix(string(data), "\xEF\xBB\xBF"))
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
}

// A file with an encoding never takes the short ways.
func TestShortWaysCutAsTheLongOne(t *testing.T) {
	heads := append([]string{"2026-11-23 20:00:00 INFO x {", "[2026-11-23 20:00:00] y", "[stacktrace]", "[", "7", "]", "INFO  2026-11-23 x", "Nov 23 20:00:00 web-1 x", "Exception in thread \"main\" x", "ERROR x: {"}, someLines...)
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 12))
		c := frameCase{opt: randomOptions(rnd), span: []int64{100, 500, 1 << 20}[rnd.IntN(3)]}
		c.opt.Wrapper, c.opt.Encoding = wrapNone, ""
		for range 60 {
			n := len(heads)
			if rnd.IntN(2) == 0 {
				n = 10
			}
			c.data = append(c.data, heads[rnd.IntN(n)]+[]string{"\n", "\n", "\n", "\r\n", "\n\n"}[rnd.IntN(5)]...)
		}
		c.data = slices.DeleteFunc(c.data, func(b byte) bool { return b >= 0x80 })
		got := c.whole(t, nil)
		c.opt.Encoding = "windows-1252"
		same(t, fmt.Sprintf("seed %d %+v", seed, c.opt), got, c.whole(t, nil))
	}
}
