package parser

import (
	"bytes"
	"cmp"
	"errors"
	"regexp"
	"time"

	"github.com/tailwater/tailwater/record"
)

// joinKind says how lines become events.
type joinKind uint8

const (
	joinNone        joinKind = iota // every line is an event
	joinAuto                        // stack traces and indented lines go on with the line before
	joinStartsWith                  // an event begins where framerOptions.StartsWith matches
	joinOthers                      // lines that framerOptions.Whole knows are events, the others as with joinAuto
	joinNginxErrors                 // an event begins where StartsWith matches, and goes on while nginx has not ended it
)

// wrapKind says what a container runtime wrote around each line.
type wrapKind uint8

const (
	wrapNone   wrapKind = iota
	wrapCRI             // containerd and CRI-O: TIME STREAM P|F TEXT
	wrapDocker          // docker's json-file: {"log":"TEXT\n","stream":"stdout","time":"TIME"}
)

// framerOptions say how a file becomes events. Zero values mean the defaults.
type framerOptions struct {
	// MaxLine is the length in bytes of the longest event. 1 MiB by default.
	MaxLine int
	// MaxLines is the number of lines of the longest event. 10,000 by default.
	MaxLines int
	// LineTimeout is how long an unfinished last line may stand still before it is
	// sent. 5 s by default.
	LineTimeout time.Duration
	// EventTimeout is how long the last event waits for a line that goes on with
	// it. 1 s by default.
	EventTimeout time.Duration
	// LoneTimeout is how long it waits while it is a single line: what goes on with a
	// line is written with it or right after it. EventTimeout by default.
	LoneTimeout time.Duration
	Multiline   joinKind
	// StartsWith is for joinStartsWith alone.
	StartsWith *regexp.Regexp
	// Whole is for joinOthers alone: it tells a line that is an event by its form, whatever
	// stands around it.
	Whole   func(line []byte) bool
	Wrapper wrapKind
	// Encoding is a name of the WHATWG encoding standard. UTF-8 by default.
	Encoding string
}

// minSpan is the least distance in a file over which an event may stretch before it
// is ended: what a file that two streams share may have to be read again.
const minSpan = 1 << 20

// framer is the Framer of all formats. Physical lines come from lines, are taken out
// of a container runtime's wrapping, put together from their parts, and joined to
// events, for each stream apart.
//
// Where an event ends depends on nothing but the bytes from its start on, and the
// cuts: so a framer that begins anew at any Pos finds the same events.
type framer struct {
	opt   framerOptions
	lines lines
	wrap  unwrapper
	// streams are indexed by record.Stream: the first is for files without a
	// wrapper, the others for those with one.
	streams []stream
	span    int64

	tailEnd   int64     // where the unfinished last line ended at the last look
	tailSince time.Time // since when
	hasTail   bool      // there was one at the last look
	tailGoes  bool      // and it goes on with whatever stands before it
	tailCut   int64     // where a time limit cut one off, until it has been returned
}

// newFramer returns the Framer for the options, or an error that says which of them
// is wrong.
func newFramer(opt framerOptions) (Framer, error) {
	opt.MaxLine = cmp.Or(max(opt.MaxLine, 0), 1<<20)
	opt.MaxLines = cmp.Or(max(opt.MaxLines, 0), 10_000)
	opt.LineTimeout = cmp.Or(max(opt.LineTimeout, 0), 5*time.Second)
	opt.EventTimeout = cmp.Or(max(opt.EventTimeout, 0), time.Second)
	opt.LoneTimeout = cmp.Or(max(opt.LoneTimeout, 0), opt.EventTimeout)
	if opt.Multiline == joinStartsWith && opt.StartsWith == nil {
		return nil, errors.New("multiline starts_with needs a regular expression")
	}
	if opt.Multiline == joinOthers && opt.Whole == nil {
		return nil, errors.New("no form of the lines that stand for themselves")
	}
	dec, err := newDecoder(opt.Encoding)
	if err != nil {
		return nil, err
	}
	f := &framer{opt: opt, span: int64(max(minSpan, opt.MaxLine)), tailCut: -1}
	f.lines.max = opt.MaxLine
	f.lines.dec = dec
	names := []record.Stream{record.StreamNone}
	if opt.Wrapper != wrapNone {
		if dec != nil {
			return nil, errors.New("encoding is for plain files; container logs are utf-8: leave it out")
		}
		f.lines.max = opt.Wrapper.longest(opt.MaxLine)
		f.wrap.kind = opt.Wrapper
		names = []record.Stream{record.StreamStdout, record.StreamStderr}
	}
	if dec != nil && dec.wide != narrow {
		f.lines.max = max(f.lines.max&^1, 2)
	}
	for _, name := range names {
		f.streams = append(f.streams, stream{name: name, join: joiner{kind: opt.Multiline, starts: opt.StartsWith, whole: opt.Whole}})
	}
	f.Reset(record.Pos{}, nil)
	return f, nil
}

// Reset implements Framer.
func (f *framer) Reset(p record.Pos, cuts []record.Cut) {
	f.lines.reset(p.Off, p.Skip, cuts)
	f.hasTail, f.tailEnd, f.tailCut = false, -1, -1
	for i := range f.streams {
		s := &f.streams[i]
		s.reset()
		if s.name == record.StreamNone {
			continue
		}
		s.ahead = p.Off
		if s.name == p.AheadStream {
			s.ahead = max(p.Ahead, p.Off)
		}
		for _, c := range cuts {
			if c.Stream == s.name {
				s.cuts = append(s.cuts, c)
			}
		}
	}
}

// Window implements Framer: an event is ended when it has stretched over span, and
// the line that shows it may be as long as a line can be.
func (f *framer) Window() int { return int(f.span) + f.lines.max + 16 }

// Skipped implements Framer.
func (f *framer) Skipped() Skipped {
	sum := f.lines.skipped
	for i := range f.streams {
		sum.BlankLines += f.streams[i].blankLines
	}
	return sum
}

// Pos implements Framer.
func (f *framer) Pos() record.Pos {
	p := record.Pos{Off: f.lines.off, Skip: f.lines.skip}
	for i := range f.streams {
		s := &f.streams[i]
		at, pending := s.start()
		if pending && at < p.Off {
			p.Off, p.Skip = at, false
		}
		if !pending {
			at = f.lines.off
		}
		if s.name != record.StreamNone && max(at, s.ahead) > p.Ahead {
			p.Ahead, p.AheadStream = max(at, s.ahead), s.name
		}
	}
	if p.Ahead <= p.Off {
		p.Ahead, p.AheadStream = 0, record.StreamNone
	}
	return p
}

// Next implements Framer.
func (f *framer) Next(look *Look) (ev Event, ok bool) {
	alone := f.opt.Multiline == joinNone || f.opt.Multiline == joinOthers && !f.streams[0].event.open && !f.streams[0].line.open
	if alone && f.opt.Wrapper == wrapNone && f.lines.simple() {
		if ev, ok := f.plain(look); ok {
			return ev, true
		}
	}
	auto := (f.opt.Multiline == joinAuto || f.opt.Multiline == joinOthers) && f.opt.Wrapper == wrapNone
	if auto && f.single(look, &ev) {
		return ev, true
	}
	if look.Base > f.oldest() || look.Base+int64(len(look.Data)) < f.lines.off {
		return Event{}, false // not what Pos asked for
	}
	for {
		for i := range f.streams {
			if ev, ok := f.settle(&f.streams[i], look); ok {
				return ev, true
			}
		}
		if auto && f.single(look, &ev) {
			return ev, true
		}
		var ln rawLine
		if !f.lines.peek(look, &ln) {
			if f.timeUp(look) {
				continue
			}
			f.lend()
			return Event{}, false
		}
		if ev, ok := f.take(&ln, look); ok {
			return ev, true
		}
	}
}

// plain is the short way for lines that are events: nine of ten bytes come by here.
func (f *framer) plain(look *Look) (Event, bool) {
	l := &f.lines
	i := l.off - look.Base
	if i < 0 || i >= int64(len(look.Data)) {
		return Event{}, false
	}
	data := look.Data[i:]
	if data[0] <= ' ' {
		return Event{}, false // blank, perhaps, or a hole
	}
	n := bytes.IndexByte(data[:min(len(data), l.max+1)], '\n')
	if n <= 0 {
		return Event{}, false
	}
	off, next := l.off, l.off+int64(n)+1
	if data[n-1] == '\r' {
		n--
	}
	if f.opt.Multiline == joinOthers && !f.opt.Whole(data[:n]) {
		return Event{}, false
	}
	l.off = next
	return Event{Text: data[:n:n], Off: off}, true
}

// single is the short way where traces are joined: it ends the pending event before a
// line that begins as no line of a trace does, with a digit or a bracket, and makes
// that line the pending event. Application logs are nearly all such lines. It fills out
// and says true, or does nothing.
func (f *framer) single(look *Look, out *Event) bool {
	l, s := &f.lines, &f.streams[0]
	ev, i := &s.event, l.off-look.Base
	switch {
	case !ev.open, ev.atCut, ev.truncated, s.line.open, s.ended, s.rest, s.forced >= 0, len(s.cuts) > 0, !l.simple(),
		ev.start < look.Base, i >= int64(len(look.Data)), l.off-ev.start >= f.span, !s.join.trace.endsBefore(look.Data[i:]):
		return false
	}
	data := look.Data[i:]
	n := bytes.IndexByte(data[:min(len(data), l.max+1)], '\n')
	if n < 0 {
		return false
	}
	out.Text, out.Off, out.Time, out.HasTime, out.Partial = ev.text.bytes(look), ev.start, ev.time, ev.hasTime, ev.partial
	s.blankLines += int64(s.blanks)
	s.blanks = 0
	ev.open, ev.done, ev.blank = true, false, false
	ev.start, ev.end = l.off, l.off+int64(n)+1
	l.off = ev.end
	if data[n-1] == '\r' {
		n--
	}
	ev.text.set(data[:n], ev.start, false)
	ev.lines = 1
	ev.time, ev.hasTime, ev.partial, ev.mid = 0, false, false, false
	s.since = look.Now
	s.join.begin(data[:n])
	return true
}

// oldest returns the first offset that has not been passed.
func (f *framer) oldest() int64 {
	off := f.lines.off
	for i := range f.streams {
		if at, pending := f.streams[i].start(); pending {
			off = min(off, at)
		}
	}
	return off
}

// take passes a physical line, giving it to its stream. It returns an event when the
// line is one by itself.
func (f *framer) take(ln *rawLine, look *Look) (Event, bool) {
	if f.opt.Wrapper == wrapNone {
		if ln.hole || ln.over {
			return f.alone(ln, look)
		}
		f.lines.pass(ln)
		s := &f.streams[0]
		s.add(piece{
			start: ln.off, end: ln.next, text: ln.text, at: ln.off, copied: ln.decoded, last: true,
			cut: ln.cut, atCut: ln.atCut, rest: ln.rest,
		}, look)
		return Event{}, false
	}
	if ln.blank {
		f.lines.pass(ln)
		f.lines.skipped.BlankLines++
		return Event{}, false
	}
	p, name, ok := f.wrap.open(ln)
	if !ok {
		return f.alone(ln, look)
	}
	s := &f.streams[name-record.StreamStdout]
	if p.start < s.ahead {
		f.lines.pass(ln)
		return Event{}, false
	}
	if s.line.open && s.line.text.n+len(p.text) > f.opt.MaxLine {
		// The parts so far are as much as fits: the next one begins a line.
		s.line.done, s.line.truncated = true, true
		return Event{}, false
	}
	if len(p.text) > f.opt.MaxLine {
		p.text, p.over = f.head(p.text), true
	}
	f.lines.pass(ln)
	s.add(p, look)
	return Event{}, false
}

// head cuts a text at the length limit and counts what is lost by it.
func (f *framer) head(text []byte) []byte {
	whole := text[:wholeRunes(text[:f.opt.MaxLine])]
	f.lines.skipped.RestBytes += int64(len(text) - len(whole))
	return whole
}

// alone returns a line that goes with no other: too long, not of the wrapper's form,
// torn, or a hole. All that is pending ends before it.
func (f *framer) alone(ln *rawLine, look *Look) (Event, bool) {
	pending := false
	for i := range f.streams {
		if _, open := f.streams[i].start(); open {
			f.streams[i].finish()
			pending = true
		}
	}
	if pending {
		return Event{}, false
	}
	f.lines.pass(ln)
	if ln.hole {
		return Event{}, false
	}
	ev := Event{Text: ln.text, Off: ln.off, Truncated: ln.over, Partial: ln.cut || ln.rest}
	if f.opt.Wrapper != wrapNone && (ln.cut || ln.over) && !ln.rest {
		f.wrap.openTorn(&ev)
	}
	if len(ev.Text) > f.opt.MaxLine {
		ev.Text, ev.Truncated = f.head(ev.Text), true
	}
	if ln.cut && ln.next == f.tailCut {
		ev.Timed = true
		ev.Cut = record.Cut{Off: ln.next, Mid: true}
		f.tailCut = -1
	}
	return ev, true
}

// timeUp ends what has been pending for too long, or all of it when the look asks for
// that. It says whether there is now something to return.
func (f *framer) timeUp(look *Look) bool {
	f.hasTail = false
	if !look.AtEnd && !look.Flush {
		return false
	}
	if f.tailUp(look) {
		return true
	}
	up := false
	for i := range f.streams {
		s := &f.streams[i]
		if due, pending := f.due(s); pending && (look.Flush || !look.Now.Before(due)) {
			s.giveUp()
			up = true
		}
	}
	for i := range f.streams {
		if s := &f.streams[i]; look.Flush && !up && s.line.open {
			s.line.open = false // blank so far
		}
	}
	return up
}

// tailUp sees to the unfinished last line: when it has not grown for LineTimeout it
// is cut off where it ends, as if a newline stood there.
func (f *framer) tailUp(look *Look) bool {
	l := &f.lines
	data, cutEnds := l.window(look)
	if len(data) == 0 || cutEnds {
		return false
	}
	if l.skip { // half a character of UTF-16, all else was passed
		if look.Flush {
			l.off += int64(len(data))
			l.skipped.RestBytes += int64(len(data))
		}
		return false
	}
	if !look.Flush {
		data = data[:len(data)-l.dec.half(data, l.off)]
		if n := l.dec.whole(data); n > 0 {
			data = data[:n] // not within a character, when its other half may still come
		}
	}
	text := data
	if l.dec != nil {
		text = l.dec.decode(data, nil, l.off)
	}
	if blank(text) {
		if look.Flush {
			l.off += int64(len(data))
		}
		return false
	}
	end := l.off + int64(len(data))
	if end != f.tailEnd {
		f.tailEnd, f.tailSince = end, look.Now
	}
	f.hasTail, f.tailGoes = true, text[0] == ' ' || text[0] == '\t'
	if !look.Flush && look.Now.Sub(f.tailSince) < f.opt.LineTimeout {
		return false
	}
	l.cutAt(end)
	f.tailCut = end
	if f.opt.Wrapper == wrapNone {
		f.streams[0].forced = end
		return true
	}
	for i := range f.streams {
		f.streams[i].giveUp()
	}
	return true
}

// due is when the time limit of what is pending in a stream passes. Where there is an
// unfinished last line, it may be the next one of the event, which waits for it then; but a
// line that is no trace so far waits only until the other has stood still as long as a trace
// would, unless that one is indented.
func (f *framer) due(s *stream) (at time.Time, ok bool) {
	if !f.hasTail || f.opt.Wrapper != wrapNone {
		return s.due(&f.opt)
	}
	if s.line.open || !s.event.open || f.tailGoes || !s.join.lone(s.event.lines) {
		return time.Time{}, false
	}
	return f.tailSince.Add(f.opt.EventTimeout), true
}

// Due implements Framer.
func (f *framer) Due() (at time.Time, ok bool) {
	if f.hasTail {
		at, ok = f.tailSince.Add(f.opt.LineTimeout), true
	}
	for i := range f.streams {
		if due, pending := f.due(&f.streams[i]); pending && (!ok || due.Before(at)) {
			at, ok = due, true
		}
	}
	return at, ok
}
