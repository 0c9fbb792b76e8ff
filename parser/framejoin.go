package parser

import "slices"

// Joins implements Framer. It tries the lines of head on a copy of what is pending,
// as if they stood in this file.
func (f *framer) Joins(look *Look, head []byte) int {
	end, oldest := look.Base+int64(len(look.Data)), f.oldest()
	if f.lines.off != end || oldest == end || look.Base > oldest || f.lines.dec.mark(head) > 0 {
		return 0
	}
	g := f.clone()
	seam := &Look{Base: oldest, Now: look.Now}
	seam.Data = slices.Concat(look.Data[oldest-look.Base:], head)
	joined := end
	for {
		var ln rawLine
		if !g.lines.peek(seam, &ln) || ln.hole || ln.over {
			return int(joined - end)
		}
		g.take(&ln, seam)
		if g.lines.off != ln.next {
			return int(joined - end) // all that is pending ends before it
		}
		pending := false
		for i := range g.streams {
			s := &g.streams[i]
			for ev, ended := g.settle(s, seam); ended; ev, ended = g.settle(s, seam) {
				if ev.Off < end && s.event.end == ln.next {
					return int(ln.next - end)
				}
				// The line has ended the event before its own, which may have begun in this file too.
			}
			at, open := s.start()
			if open && at >= end {
				return int(joined - end) // another one begins with it
			}
			pending = pending || open
			if s.event.open && s.event.end == ln.next || s.line.open && s.line.start < end && s.line.end == ln.next {
				joined = ln.next
			}
		}
		if !pending {
			return int(joined - end)
		}
	}
}

// clone returns a framer in the same state that shares no memory with f.
func (f *framer) clone() *framer {
	g := *f
	g.lines.cuts = slices.Clone(f.lines.cuts)
	g.lines.dec, _ = newDecoder(f.opt.Encoding) // it was good for f
	g.wrap.buf = nil
	g.streams = slices.Clone(f.streams)
	for i := range g.streams {
		s := &g.streams[i]
		s.cuts = slices.Clone(s.cuts)
		s.line.text.buf = slices.Clone(s.line.text.buf)
		s.event.text.buf = slices.Clone(s.event.text.buf)
	}
	return &g
}
