package record

import "unsafe"

// Scratch returns an empty slice to append to, in memory that lives as long as the
// line. Give the result to Keep, before the next call of Scratch, to have it stay.
func (r *Record) Scratch() []byte { return r.scratch[len(r.scratch):] }

// Keep makes what was appended to Scratch's slice last until Reset, and returns it.
func (r *Record) Keep(b []byte) []byte {
	n := len(r.scratch)
	if cap(r.scratch)-n >= len(b) && len(b) > 0 && cap(b) > 0 && &r.scratch[:n+1][n] == &b[0] {
		r.scratch = r.scratch[:n+len(b)]
		return b
	}
	// It outgrew the memory and was moved: the larger one is the scratch from now
	// on, and the slices handed out so far keep the old one alive.
	r.scratch = b
	return b
}

// ScratchString returns a+b in scratch memory: it lives as long as the line.
func (r *Record) ScratchString(a, b string) string {
	s := r.Keep(append(append(r.Scratch(), a...), b...))
	return unsafe.String(unsafe.SliceData(s), len(s))
}
