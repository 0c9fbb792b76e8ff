package wire

import (
	"encoding/binary"
	"errors"
)

// Reader reads the numbers and texts of an answer, front to back. After the first byte
// that is missing it yields zeroes, and is torn.
type Reader struct {
	Rest []byte
	Torn bool
}

// ErrTorn is for an answer that is shorter than it says.
var ErrTorn = errors.New("an answer that is shorter than it says")

// Take returns the next n bytes, which belong to the answer; nil when there are not so
// many.
func (r *Reader) Take(n int) []byte {
	if n < 0 || n > len(r.Rest) {
		r.Torn, r.Rest = true, nil
		return nil
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Uint16 is the next two bytes.
func (r *Reader) Uint16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 is the next four bytes.
func (r *Reader) Uint32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 is the next eight bytes.
func (r *Reader) Uint64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Text is a string with its length before it, empty when it is null.
func (r *Reader) Text() []byte {
	n := int16(r.Uint16())
	if n <= 0 {
		return nil
	}
	return r.Take(int(n))
}

// AppendText writes what Text reads.
func AppendText(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
