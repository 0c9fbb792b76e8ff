package parser

import (
	"time"

	"github.com/tailwater/tailwater/record"
)

// keptBytes is the size up to which a stream keeps its memory while it is idle.
const keptBytes = 64 << 10

// held is a text that is pending: in the file, so long as it is one run of bytes
// there, as every later look shows them again; else copied.
type held struct {
	at     int64
	n      int
	copied bool
	buf    []byte
}

func (h *held) bytes(look *Look) []byte {
	if h.copied {
		return h.buf
	}
	from := h.at - look.Base
	return look.Data[from : from+int64(h.n) : from+int64(h.n)]
}

func (h *held) set(text []byte, at int64, copied bool) {
	h.at, h.n, h.copied = at, len(text), copied
	if copied {
		h.buf = append(h.buf[:0], text...)
	}
}

// add appends text, with newlines newlines before it.
func (h *held) add(look *Look, newlines int, text []byte) {
	if !h.copied {
		h.buf = append(h.buf[:0], h.bytes(look)...)
		h.copied = true
	}
	for range newlines {
		h.buf = append(h.buf, '\n')
	}
	h.buf = append(h.buf, text...)
	h.n = len(h.buf)
}

// piece is what one physical line gives to its stream: a line, or a part of one.
type piece struct {
	start, end int64 // in the file, newline included
	text       []byte
	at         int64 // where text stands in the file, unless copied
	copied     bool  // text stands in scratch memory
	last       bool  // the line ends with it
	over       bool  // text was cut at the limit
	cut        bool  // a cut ended it, not a newline
	atCut      bool
	rest       bool // it follows a cut inside a line
	time       int64
	hasTime    bool
}

// pending is a line in the making or an event in the making.
type pending struct {
	open       bool
	done       bool // a line whose last part is there
	blank      bool // a line of nothing but white space so far
	start, end int64
	text       held
	lines      int
	time       int64
	hasTime    bool
	partial    bool
	truncated  bool
	atCut      bool // an event may not go on behind its end
	mid        bool // and its last line goes on there
}

// stream puts lines together from their parts, and events from lines. A file without
// a wrapper is one stream.
type stream struct {
	name  record.Stream
	ahead int64 // lines that begin before it have been passed
	cuts  []record.Cut
	join  joiner

	line   pending
	event  pending
	blanks int       // lines behind event that belong to it if another one does
	since  time.Time // when the last piece was seen
	ended  bool      // nothing more will join what is pending
	rest   bool      // the next line is the rest of one that was cut
	forced int64     // where a time limit cut, until that has been returned; or -1

	blankLines int64
}

func (s *stream) reset() {
	s.cuts = s.cuts[:0]
	s.ahead, s.forced = 0, -1
	s.line.open, s.line.done, s.event.open = false, false, false
	s.ended, s.rest, s.blanks = false, false, 0
}

// start returns where the oldest of what is pending begins.
func (s *stream) start() (off int64, ok bool) {
	if s.event.open {
		return s.event.start, true
	}
	return s.line.start, s.line.open
}

// due is when the time limit of what is pending passes.
func (s *stream) due(opt *framerOptions) (at time.Time, ok bool) {
	if s.line.open && !s.line.blank {
		return s.since.Add(opt.LineTimeout), true
	}
	if s.event.open && s.event.lines == 1 && s.blanks == 0 {
		return s.since.Add(opt.LoneTimeout), true
	}
	return s.since.Add(opt.EventTimeout), s.event.open
}

// finish ends what is pending because of what the file says.
func (s *stream) finish() {
	s.line.done = s.line.open
	s.line.partial = s.line.partial || s.line.open
	s.ended = true
}

// giveUp ends what is pending because its time is up.
func (s *stream) giveUp() {
	switch {
	case s.line.open && !s.line.blank:
		s.line.mid, s.line.atCut, s.rest = true, true, true
		s.forced = s.line.end
		s.finish()
	case s.event.open:
		s.event.atCut = true
		s.forced = s.event.end
	}
}

// add takes a piece. The line before it is not pending any more when it was done.
func (s *stream) add(p piece, look *Look) {
	for len(s.cuts) > 0 && s.cuts[0].Off <= p.end {
		// A cut lies where a line of this stream ended; those at or before this one's
		// start were passed earlier, and all that is left of them is their Mid.
		if c := s.cuts[0]; c.Off <= p.start {
			s.rest = c.Mid
		} else {
			p.atCut = true
		}
		s.cuts = s.cuts[:copy(s.cuts, s.cuts[1:])]
	}
	ln := &s.line
	if ln.open {
		ln.text.add(look, 0, p.text)
	} else {
		*ln = pending{
			open: true, start: p.start, text: ln.text, lines: 1,
			blank: true, time: p.time, hasTime: p.hasTime, partial: p.rest || s.rest,
		}
		ln.text.set(p.text, p.at, p.copied)
		s.rest = false
	}
	ln.end, ln.atCut = p.end, p.atCut
	ln.done = p.last || p.over || p.atCut
	ln.truncated = p.over
	ln.blank = ln.blank && !p.over && blank(p.text)
	if ln.mid = p.atCut && (p.cut || !p.last); ln.mid {
		ln.partial = true
		s.rest = !p.last // of a physical line, the lines know it
	}
	if !ln.blank {
		s.since = look.Now
	}
}

// settle moves a done line of s into an event, and returns an event that is ended by
// it or for another reason.
func (f *framer) settle(s *stream, look *Look) (Event, bool) {
	// The distance comes first: whether the line at its end is done, because of a
	// cut perhaps, must make no difference to the event before it.
	if s.event.open && f.lines.off-s.event.start >= f.span {
		return s.emit(look), true
	}
	if s.line.open && !s.line.done && f.lines.off-s.line.start >= f.span {
		s.finish()
	}
	for s.line.done {
		text := s.line.text.bytes(look)
		switch {
		case s.line.blank:
			s.line.open, s.line.done = false, false
			if s.event.open {
				s.blanks++
			} else {
				s.blankLines++
			}
		case !s.event.open:
			s.begin(text)
		case f.joins(s, text, look):
			s.extend(text, look)
		default:
			return s.emit(look), true
		}
	}
	ev := &s.event
	if ev.open && (s.ended || ev.atCut || ev.truncated || f.opt.Multiline == joinNone || s.join.alone || f.lines.off-ev.start >= f.span) {
		return s.emit(look), true
	}
	if !ev.open && !s.line.open {
		s.ended = false
	}
	return Event{}, false
}

// joins says whether the done line goes on with the event. Parts of a line that never
// came to its end do not: by the time they are given up the event may have ended.
func (f *framer) joins(s *stream, text []byte, look *Look) bool {
	ev := &s.event
	torn := s.line.partial && s.name != record.StreamNone
	if torn || s.line.truncated || !s.join.joins(ev.text.bytes(look), text, s.blanks > 0) {
		return false
	}
	if ev.text.n+1+s.blanks+len(text) > f.opt.MaxLine || ev.lines+s.blanks >= f.opt.MaxLines {
		// Where a time limit ended the line, it ends the event too.
		ev.truncated = s.forced < 0
		return false
	}
	return true
}

// begin makes the done line an event.
func (s *stream) begin(text []byte) {
	buf := s.event.text.buf
	s.event = s.line
	s.event.done = false
	s.line.open, s.line.done, s.line.text.buf = false, false, buf
	s.join.begin(text)
}

// extend appends the done line to the event.
func (s *stream) extend(text []byte, look *Look) {
	ev, ln := &s.event, &s.line
	ev.text.add(look, 1+s.blanks, text)
	ev.lines += 1 + s.blanks
	ev.end, ev.atCut, ev.mid = ln.end, ln.atCut, ln.mid
	ev.partial = ev.partial || ln.partial
	s.blanks = 0
	ln.open, ln.done = false, false
}

// emit returns the event and is done with it.
func (s *stream) emit(look *Look) Event {
	ev := &s.event
	out := Event{
		Text: ev.text.bytes(look), Off: ev.start, Time: ev.time, HasTime: ev.hasTime,
		Stream: s.name, Partial: ev.partial, Truncated: ev.truncated,
	}
	if s.forced >= 0 {
		out.Timed = true
		out.Cut = record.Cut{Off: ev.end, Stream: s.name, Mid: ev.mid}
		if ev.end >= s.forced {
			s.forced = -1
		}
	}
	s.blankLines += int64(s.blanks)
	s.blanks = 0
	ev.open, ev.atCut, ev.truncated = false, false, false
	return out
}

// lend gives back memory that one large event needed.
func (f *framer) lend() {
	for i := range f.streams {
		s := &f.streams[i]
		if !s.event.open && cap(s.event.text.buf) > keptBytes {
			s.event.text.buf = nil
		}
		if !s.line.open && cap(s.line.text.buf) > keptBytes {
			s.line.text.buf = nil
		}
	}
}
