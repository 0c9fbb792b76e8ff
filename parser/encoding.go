package parser

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"
)

// decoder knows where lines end in an encoding, and turns their text into UTF-8. Its
// methods may be called on nil, which is UTF-8 itself: what is not valid in that is
// replaced where documents are encoded.
//
// In all encodings of the HTML index but UTF-16 the byte 0x0A is a newline wherever
// it stands: no trail byte of GBK, GB18030, Big5, Shift JIS or EUC is below 0x30.
type decoder struct {
	t    transform.Transformer
	wide utf16Order

	buf    []byte // the last decoded text
	bufOff int64  // where it begins in the file, -1 when there is none
	bufLen int    // and its length there
	// bufOrder is the byte order that it was taken to have: the newline that comes
	// later may say another than the text did.
	bufOrder utf16Order
}

// utf16Order is the order of the bytes in a UTF-16 file. A newline is 00 0A or 0A 00
// at an even offset; as neither U+0A00 nor U+000A swapped is a character that anybody
// writes, a file says its own order with each newline.
type utf16Order uint8

const (
	narrow utf16Order = iota
	littleEndian
	bigEndian
	eitherEndian
)

// errEncoding is the answer to an encoding that nobody knows.
var errEncoding = errors.New("is not a known encoding; write utf-8, utf-16, gbk, gb18030 or another name of the WHATWG encoding standard")

// newDecoder returns the decoder of the encoding with that name, nil for UTF-8.
func newDecoder(name string) (*decoder, error) {
	label := strings.ToLower(strings.TrimSpace(name))
	if label == "" {
		return nil, nil
	}
	enc, err := htmlindex.Get(label)
	if err != nil {
		return nil, fmt.Errorf("encoding %q %w", name, errEncoding)
	}
	canonical, err := htmlindex.Name(enc)
	if err != nil || canonical == "replacement" {
		return nil, fmt.Errorf("encoding %q %w", name, errEncoding)
	}
	d := &decoder{bufOff: -1}
	switch canonical {
	case "utf-8":
		return nil, nil
	case "utf-16le":
		d.wide = littleEndian
		if label == "utf-16" {
			d.wide = eitherEndian
		}
	case "utf-16be":
		d.wide = bigEndian
	default:
		d.t = enc.NewDecoder().Transformer
	}
	return d, nil
}

// IsWide reports whether the encoding with that name is UTF-16, in either order.
func IsWide(name string) bool {
	d, err := newDecoder(name)
	return err == nil && d != nil && d.wide != narrow
}

// forget drops what was decoded last.
func (d *decoder) forget() { d.bufOff = -1 }

// mark returns the length of the byte order mark at the head of a file.
func (d *decoder) mark(head []byte) int {
	switch {
	case d == nil && bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		return 3
	case d == nil:
		return 0
	case d.wide != narrow && (bytes.HasPrefix(head, []byte("\xFF\xFE")) || bytes.HasPrefix(head, []byte("\xFE\xFF"))):
		return 2
	case d.wide == narrow && bytes.HasPrefix(head, []byte("\x84\x31\x95\x33")): // GB18030
		return 4
	}
	return 0
}

// newline finds the first newline in data, which begins at off in the file and has
// none in its first known bytes: its index and its length, or -1.
func (d *decoder) newline(data []byte, known int, off int64) (at, width int) {
	for i := known; ; i++ {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			return -1, 0
		}
		i += n
		if d == nil || d.wide == narrow {
			return i, 1
		}
		even := (off+int64(i))%2 == 0
		if even && d.wide != bigEndian && i+1 < len(data) && data[i+1] == 0 {
			return i, 2
		}
		if !even && d.wide != littleEndian && i > 0 && data[i-1] == 0 {
			return i - 1, 2
		}
	}
}

// half returns how many bytes at the end of data may be the first part of a newline.
func (d *decoder) half(data []byte, off int64) int {
	if d == nil || d.wide == narrow || len(data) == 0 || (off+int64(len(data)))%2 == 0 {
		return 0
	}
	return 1
}

// leadingNULs counts the bytes of the NUL characters at the head of data.
func (d *decoder) leadingNULs(data []byte) int {
	if data[0] != 0 {
		return 0
	}
	n := leadingNULs(data)
	if d != nil && d.wide != narrow {
		n &^= 1
	}
	return n
}

// whole returns the length of text without a character that its end cuts in two.
func (d *decoder) whole(text []byte) int {
	switch {
	case d == nil:
		return wholeRunes(text)
	case d.wide != narrow: // lines are looked for, and cut, between its units
		return len(text)
	}
	// Only from the line's beginning on can it be told what belongs together.
	var scratch [4 << 10]byte
	d.t.Reset()
	for n := 0; ; {
		_, taken, err := d.t.Transform(scratch[:], text[n:], false)
		n += taken
		switch {
		case err == transform.ErrShortSrc && n > 0:
			return n
		case err != transform.ErrShortDst:
			return len(text)
		}
	}
}

// decode returns text, which begins at off in the file, in UTF-8. The newline that
// ends it, if one does, tells the byte order. The result is valid until the next call.
func (d *decoder) decode(text, newline []byte, off int64) []byte {
	order := d.order(text, newline)
	if d.bufOff == off && d.bufLen == len(text) && d.bufOrder == order {
		return d.buf
	}
	d.bufOff, d.bufLen, d.bufOrder = off, len(text), order
	if d.wide != narrow {
		d.buf = appendUTF16(d.buf[:0], text, off%2 != 0, order)
		return d.buf
	}
	d.t.Reset()
	d.buf = d.buf[:0]
	for len(text) > 0 {
		if cap(d.buf)-len(d.buf) < utf8.UTFMax+len(text) {
			d.buf = append(d.buf, make([]byte, 2*len(text)+64)...)[:len(d.buf)]
		}
		nDst, nSrc, err := d.t.Transform(d.buf[len(d.buf):cap(d.buf)], text, true)
		d.buf = d.buf[:len(d.buf)+nDst]
		text = text[nSrc:]
		if err != nil && nDst == 0 && nSrc == 0 {
			d.buf = utf8.AppendRune(d.buf, utf8.RuneError)
			text = text[1:]
		}
	}
	return d.buf
}

// order returns the byte order of a line: what the configuration says, else that of
// the newline after it, else the one in which more of its characters are Latin.
func (d *decoder) order(text, newline []byte) utf16Order {
	if d.wide != eitherEndian {
		return d.wide
	}
	if len(newline) > 1 {
		if newline[0] == '\n' {
			return littleEndian
		}
		return bigEndian
	}
	high := 0
	for i := 0; i+1 < len(text); i += 2 {
		if text[i] == 0 {
			high++
		}
		if text[i+1] == 0 {
			high--
		}
	}
	if high > 0 {
		return bigEndian
	}
	return littleEndian
}

// appendUTF16 appends text in UTF-8. odd is set when its first byte is the second
// half of a character.
func appendUTF16(dst, text []byte, odd bool, order utf16Order) []byte {
	if odd && len(text) > 0 {
		dst = utf8.AppendRune(dst, utf8.RuneError)
		text = text[1:]
	}
	unit := func(b []byte) rune {
		if order == bigEndian {
			return rune(b[0])<<8 | rune(b[1])
		}
		return rune(b[1])<<8 | rune(b[0])
	}
	for len(text) > 1 {
		r := unit(text)
		text = text[2:]
		if utf16.IsSurrogate(r) {
			second := rune(0)
			if len(text) > 1 {
				second = unit(text)
			}
			if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
				text = text[2:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	if len(text) == 1 {
		dst = utf8.AppendRune(dst, utf8.RuneError)
	}
	return dst
}
