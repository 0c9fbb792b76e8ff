package tail

import (
	"bytes"
	"hash/crc32"
	"io"
	"sync"

	"github.com/tailwater/tailwater/record"
)

// headBytes is how much of a file's head a fingerprint covers at most.
const headBytes = 1024

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fingerprint tells a file by its first bytes. It grows with the file up to headBytes.
type fingerprint struct {
	N   int64  `json:"n"`
	Sum uint64 `json:"sum"`
}

// fingerprintOf covers all of head, which is at most headBytes long.
func fingerprintOf(head []byte) fingerprint {
	// Two CRCs of different polynomials are no cryptography, but no accident has
	// both of them in common.
	return fingerprint{int64(len(head)), uint64(crc32.ChecksumIEEE(head))<<32 | uint64(crc32.Checksum(head, castagnoli))}
}

// matches reports whether a file whose head is given begins as the fingerprint says.
func (p fingerprint) matches(head []byte) bool {
	return int64(len(head)) >= p.N && fingerprintOf(head[:p.N]) == p
}

// mark is a place in a file with the sum of the bytes before it.
type mark struct {
	Off int64  `json:"off"`
	Sum uint32 `json:"sum"`
}

// markAt makes the mark at off; ok is false where the bytes before it cannot be read,
// or are not text yet. Source.mu is held.
func (f *File) markAt(r io.ReaderAt, off int64) (m mark, ok bool) {
	before, err := readBefore(r, off)
	if err != nil {
		return mark{}, false
	}
	return f.markOf(before, off)
}

func (f *File) markOf(before []byte, off int64) (m mark, ok bool) {
	if !f.isText(before, off) {
		return mark{}, false
	}
	return mark{off, record.TailSum(before)}, true
}

// isText reports whether the bytes that end at off are to stay as they are. A NUL is a
// hole, or what a network file system shows for a byte that has not arrived; only in
// UTF-16 it may be half of a character. Source.mu is held.
func (f *File) isText(before []byte, off int64) bool {
	if bytes.IndexByte(before, 0) < 0 {
		return true
	}
	if in := f.source.inputNamed(f.input); in == nil || !in.Wide {
		return false
	}
	for i := int(off-int64(len(before))) & 1; i < len(before); i += 2 {
		if before[i] == 0 && (i+1 == len(before) || before[i+1] == 0) {
			return false
		}
	}
	return true
}

// spans are for the bytes between two marks.
var spans = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// nextMark tells whether m holds, and makes the mark at end: with one read where the file
// has grown by little.
func (f *File) nextMark(m mark, r io.ReaderAt, end int64) (holds bool, at mark, ok bool, err error) {
	span := spans.Get().(*[4 << 10]byte)
	defer spans.Put(span)
	from := m.Off - min(m.Off, record.TailBytes)
	if m.Off == 0 || end < m.Off || end-from > int64(len(span)) {
		if holds, err = m.holds(r); !holds || err != nil {
			return holds, mark{}, false, err
		}
		at, ok = f.markAt(r, end)
		return true, at, ok, nil
	}
	n, err := r.ReadAt(span[:end-from], from)
	if err != nil && err != io.EOF {
		return false, mark{}, false, err
	}
	if int64(n) < m.Off-from || record.TailSum(span[:m.Off-from]) != m.Sum {
		return false, mark{}, false, nil
	}
	if int64(n) == end-from {
		at, ok = f.markOf(span[max(0, n-record.TailBytes):n], end)
	}
	return true, at, ok, nil
}

// holds reports whether the bytes before the mark are still those. An error is one of
// reading, and no answer.
func (m mark) holds(r io.ReaderAt) (bool, error) {
	before, err := readBefore(r, m.Off)
	if err == io.EOF {
		return false, nil // shorter than the mark
	}
	return err == nil && record.TailSum(before) == m.Sum, err
}

// readBefore reads the bytes that a TailSum at off covers.
func readBefore(r io.ReaderAt, off int64) ([]byte, error) {
	buf := make([]byte, min(off, record.TailBytes))
	n, err := r.ReadAt(buf, off-int64(len(buf)))
	if n == len(buf) {
		return buf, nil
	}
	if err == nil {
		err = io.EOF
	}
	return nil, err
}

// readHead reads the head that a fingerprint covers, up to n bytes.
func readHead(r io.ReaderAt, n int64) ([]byte, error) {
	buf := make([]byte, min(n, headBytes))
	got, err := r.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return buf[:got], err
}
