package parser

import (
	"cmp"
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// rawLine is one physical line of a file, as it stands between two newlines.
type rawLine struct {
	// text is the line as UTF-8-like bytes, without newline and carriage return: a
	// slice of the look's data, or of the decoder's scratch when decoded.
	text []byte
	// off is where the line begins in the file, next where the one after it does.
	off, next int64
	// blank is set when the line holds nothing but white space.
	blank bool
	// hole is set when this is no line but a run of NULs before one.
	hole bool
	// decoded is set when text does not stand in the look's data.
	decoded bool
	// over is set when text is the head of a line longer than the limit; what is
	// left of the line is skipped.
	over bool
	// cut is set when the line was ended by a cut and not by a newline, atCut when a
	// cut lies at its end, rest when it is what follows a cut inside a line.
	cut, atCut, rest bool
}

// lines finds the physical lines of one file generation.
type lines struct {
	off  int64 // where the next line begins
	seen int64 // no newline lies between off and seen
	skip bool  // off lies in the rest of an overlong line
	rest bool  // off lies behind a cut inside a line
	cuts []record.Cut
	max  int // the longest line, in bytes without its newline
	dec  *decoder

	skipped Skipped
	counted int64 // what lies before it has been counted in skipped
}

func (l *lines) reset(off int64, skip bool, cuts []record.Cut) {
	l.off, l.seen, l.skip, l.rest = off, off, skip, false
	l.cuts = l.cuts[:0]
	for _, c := range cuts {
		if c.Stream == record.StreamNone {
			l.cuts = append(l.cuts, c)
		}
	}
	l.counted = off
	if l.dec != nil {
		l.dec.forget()
	}
}

// simple says that nothing but a plain line can begin at off.
func (l *lines) simple() bool {
	return !l.skip && !l.rest && l.off != 0 && len(l.cuts) == 0 && l.dec == nil
}

// window returns the data from off on, as far as the next cut, and whether the cut
// is its end; nil when the look does not cover off.
func (l *lines) window(look *Look) (data []byte, cutEnds bool) {
	i := l.off - look.Base
	if i < 0 || i > int64(len(look.Data)) {
		return nil, false
	}
	for len(l.cuts) > 0 && l.cuts[0].Off <= l.off {
		if l.cuts[0].Off == l.off && l.cuts[0].Mid && !l.skip {
			l.rest = true
		}
		l.cuts = l.cuts[:copy(l.cuts, l.cuts[1:])]
	}
	data = look.Data[i:]
	if len(l.cuts) > 0 && l.cuts[0].Off-l.off <= int64(len(data)) {
		return data[:l.cuts[0].Off-l.off], true
	}
	return data, false
}

// peek finds the line that begins at off, without passing it. It says false when
// the look holds no complete one; the rest of an overlong line and a byte order mark
// at the file's head are passed on the way.
func (l *lines) peek(look *Look, ln *rawLine) bool {
	for {
		data, cutEnds := l.window(look)
		if len(data) == 0 {
			return false
		}
		if l.skip {
			if !l.passRest(data, cutEnds) {
				return false
			}
			continue
		}
		if l.off == 0 {
			if n := l.dec.mark(data); n > 0 {
				l.off = int64(n)
				continue
			}
		}
		*ln = rawLine{off: l.off, rest: l.rest}
		if n := l.dec.leadingNULs(data); n > 0 {
			ln.hole, ln.next = true, l.off+int64(n)
			return true
		}
		return l.find(data, cutEnds, ln)
	}
}

// find fills ln with the line at the head of data.
func (l *lines) find(data []byte, cutEnds bool, ln *rawLine) bool {
	limit := l.max
	if l.dec == nil && len(data) > limit && data[limit] == '\r' {
		limit++ // it is of the newline, perhaps, and not of the line
	}
	within := data[:min(len(data), limit+1)]
	known := min(max(int(l.seen-l.off), 0), len(within))
	at, width := l.dec.newline(within, known, l.off)
	end, newline := at, []byte(nil)
	switch {
	case at >= 0:
		l.seen = l.off + int64(at)
		ln.next = l.seen + int64(width)
		newline = data[at : at+width]
		ln.atCut = cutEnds && int(ln.next-l.off) == len(data)
	case len(data) > limit:
		l.seen = l.off
		end = l.dec.whole(within[:l.max])
		ln.over, ln.next = true, l.off+int64(l.max)
	case cutEnds:
		end = len(data)
		ln.cut, ln.atCut, ln.next = true, true, l.off+int64(end)
	default:
		// The newline's first half may be the last byte (UTF-16).
		l.seen = l.off + int64(max(len(within)-1, 0))
		return false
	}
	ln.text = data[:end]
	if l.dec != nil {
		ln.text, ln.decoded = l.dec.decode(ln.text, newline, l.off), true
	}
	if n := len(ln.text); n > 0 && ln.text[n-1] == '\r' && !ln.over {
		ln.text = ln.text[:n-1]
	}
	ln.blank = !ln.over && blank(ln.text)
	return true
}

// pass goes on behind the line that peek found.
func (l *lines) pass(ln *rawLine) {
	l.off = ln.next
	if !ln.hole {
		l.skip = ln.over
		l.rest = ln.cut
	}
	if l.off <= l.counted {
		return
	}
	if ln.hole {
		l.skipped.NULBytes += l.off - max(ln.off, l.counted)
	}
	l.counted = l.off
}

// cutAt cuts the unfinished last line where it ends now.
func (l *lines) cutAt(end int64) {
	l.cuts = append(l.cuts, record.Cut{Off: end, Mid: true})
	slices.SortStableFunc(l.cuts, func(a, b record.Cut) int { return cmp.Compare(a.Off, b.Off) })
}

// passRest skips what is in data of an overlong line and says whether it moved on.
func (l *lines) passRest(data []byte, cutEnds bool) bool {
	at, width := l.dec.newline(data, 0, l.off)
	from := l.off
	rest := int64(len(data))
	if at >= 0 {
		rest = int64(at)
		l.off += int64(at + width)
		l.skip = false
	} else {
		// Half a newline (UTF-16) stays for the next look.
		keep := l.dec.half(data, l.off)
		if cutEnds {
			keep = 0
		}
		rest -= int64(keep)
		l.off += rest
		if cutEnds {
			l.skip, l.rest = false, true
		}
	}
	if end := from + rest; end > l.counted {
		l.skipped.RestBytes += end - max(from, l.counted)
		l.counted = end
	}
	return l.off > from
}

// blank says whether text is nothing but white space.
func blank(text []byte) bool {
	for _, c := range text {
		if c != ' ' && (c < '\t' || c > '\r') {
			return false
		}
	}
	return true
}

// leadingNULs counts the NULs at the head of data.
func leadingNULs(data []byte) int {
	n := 0
	for len(data)-n >= 8 && binary.LittleEndian.Uint64(data[n:]) == 0 {
		n += 8
	}
	for n < len(data) && data[n] == 0 {
		n++
	}
	return n
}

// wholeRunes returns the length of text without the rune that its end cuts in two.
func wholeRunes(text []byte) int {
	for i := len(text) - 1; i >= 0 && i > len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if text[i] >= utf8.RuneSelf && !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}
