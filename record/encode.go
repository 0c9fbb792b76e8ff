package record

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Origin is what all events of one chain share: the file's generation, its project,
// and the constant part of its documents, encoded once. One goroutine at a time
// uses it.
type Origin struct {
	// Project is the value of the documents' project, for topics, indexes and
	// headers.
	Project string

	idHead []byte            // `","id":"MACHINE-GENERATION-`
	head   []byte            // `,"host":..,"input":..,"file":..,"project":..` and the configured fields
	values map[string]string // what a template may ask for by name

	second  int64 // the Unix second that secText holds
	secText [20]byte
}

// OriginFields names the constant part of a chain's documents.
type OriginFields struct {
	Machine    string // the machine's identity, part of every id
	Generation string // the file generation's name, part of every id
	Host       string
	Input      string
	File       string // the path under which the file was first seen
	Project    string
	// Extra are the configuration's fields and the path's captures, in order.
	Extra []KeyValue
}

// KeyValue is a constant field.
type KeyValue struct{ Key, Value string }

// NewOrigin encodes the constant part of a chain's documents.
func NewOrigin(f OriginFields) *Origin {
	o := &Origin{Project: f.Project, second: -1 << 63, values: make(map[string]string)}
	o.idHead = append(o.idHead, `","id":"`...)
	o.idHead = append(o.idHead, f.Machine...)
	o.idHead = append(o.idHead, '-')
	o.idHead = append(o.idHead, f.Generation...)
	o.idHead = append(o.idHead, '-')
	constants := append([]KeyValue{{"host", f.Host}, {"input", f.Input}, {"file", f.File}, {"project", f.Project}}, f.Extra...)
	for _, kv := range constants {
		if kv.Value == "" {
			continue
		}
		if _, twice := o.values[kv.Key]; twice {
			continue
		}
		o.values[kv.Key] = kv.Value
		o.head = append(o.head, ',', '"')
		o.head = AppendEscaped(o.head, []byte(kv.Key))
		o.head = append(o.head, '"', ':', '"')
		o.head = AppendEscaped(o.head, []byte(kv.Value))
		o.head = append(o.head, '"')
	}
	return o
}

// Value returns the chain's constant of that name (host, input, file, project, a
// configured field or a capture).
func (o *Origin) Value(name string) (string, bool) {
	v, ok := o.values[name]
	return v, ok
}

// idAt is where the id begins in every document that AppendDoc writes.
const idAt = len(`{"@timestamp":"2006-01-02T15:04:05.000Z","id":"`)

// AppendDoc appends the document of r, whose line begins at offset, with a final
// newline. unixMilli is its @timestamp. The id is dst[n+idAt : n+idAt+idLen], where
// n was dst's length.
func (o *Origin) AppendDoc(dst []byte, r *Record, unixMilli, offset int64) (out []byte, idLen int) {
	dst = append(dst, `{"@timestamp":"`...)
	dst = o.appendTime(dst, unixMilli)
	dst = append(dst, o.idHead...)
	digits := len(dst)
	dst = strconv.AppendInt(dst, offset, 10)
	idLen = len(o.idHead) - len(`","id":"`) + len(dst) - digits
	offsetDigits := dst[digits:]
	dst = append(dst, `","offset":`...)
	dst = append(dst, offsetDigits...)
	dst = append(dst, o.head...)
	if r.Level != LevelNone {
		dst = append(dst, `,"level":"`...)
		dst = append(dst, r.Level.String()...)
		dst = append(dst, '"')
	}
	for i := range r.Fields {
		dst = appendField(dst, &r.Fields[i])
	}
	if r.Partial {
		dst = append(dst, `,"partial":true`...)
	}
	if r.Truncated {
		dst = append(dst, `,"truncated":true`...)
	}
	if r.ParseError != "" {
		dst = append(dst, `,"parse_error":"`...)
		dst = AppendEscaped(dst, []byte(r.ParseError))
		dst = append(dst, '"')
	}
	return append(dst, '}', '\n'), idLen
}

// appendField appends `,"key":value`. Making room for all of it first leaves the
// copying without a check for each part.
func appendField(dst []byte, f *Field) []byte {
	n := len(dst)
	if cap(dst)-n < len(f.Key)+len(f.Val)+fieldRoom {
		dst = slices.Grow(dst, len(f.Key)+len(f.Val)+fieldRoom)
	}
	b := dst[n:cap(dst)]
	b[0], b[1] = ',', '"'
	k := 2 + copy(b[2:], f.Key)
	b[k], b[k+1] = '"', ':'
	k += 2
	if f.Kind == JSON {
		k += copy(b[k:], f.Val)
		return dst[:n+k]
	}
	b[k] = '"'
	k++
	done := len(f.Val)
	if f.Kind == Escaped {
		copy(b[k:], f.Val)
	} else {
		done = copyPlain(b[k:], f.Val)
	}
	k += done
	if done < len(f.Val) {
		dst = AppendEscaped(dst[:n+k], f.Val[done:])
		return append(dst, '"')
	}
	b[k] = '"'
	return dst[:n+k+1]
}

// fieldRoom is what a field needs beside key and value: the punctuation.
const fieldRoom = 8

// copyPlain copies from src to dst up to the first byte that needs escaping, and
// returns how many bytes that are. dst is at least as long as src; what it holds
// behind the copy is undefined.
func copyPlain(dst, src []byte) int {
	if len(src) < 8 {
		return copyPlainShort(dst, src)
	}
	last := len(src) - 8
	for n := 0; n < last; n += 8 {
		x := binary.LittleEndian.Uint64(src[n:])
		binary.LittleEndian.PutUint64(dst[n:], x)
		if bad := needEscape(x); bad != 0 {
			return n + bits.TrailingZeros64(bad)/8
		}
	}
	x := binary.LittleEndian.Uint64(src[last:]) // the rest, and some again
	binary.LittleEndian.PutUint64(dst[last:], x)
	if bad := needEscape(x); bad != 0 {
		return last + bits.TrailingZeros64(bad)/8
	}
	return len(src)
}

func copyPlainShort(dst, src []byte) int {
	for n, c := range src {
		if c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return n
		}
		dst[n] = c
	}
	return len(src)
}

// needEscape returns a word whose lowest set bit is the high bit of the first of x's
// eight bytes that does not stand for itself in a JSON string; 0 when all do.
func needEscape(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, slash := x^(ones*'"'), x^(ones*'\\')
	// A borrow can only set bits above a true one. (v - ones) sets the high bit of a
	// byte v >= 0x81 too, but x has it then.
	return (x | (x - ones*0x20) | (quote - ones) | (slash - ones)) & highs
}

// The years that RFC 3339 can write; a time outside is written as the nearer end.
const (
	minMilli = -62135596800000 // 0001-01-01
	maxMilli = 253402300799999 // 9999-12-31
)

// appendTime appends unixMilli as RFC 3339 in UTC with milliseconds and without
// quotes. Lines of one second come together: it is formatted once for all of them.
func (o *Origin) appendTime(dst []byte, unixMilli int64) []byte {
	unixMilli = min(max(unixMilli, minMilli), maxMilli)
	sec, ms := unixMilli/1000, unixMilli%1000
	if ms < 0 {
		sec, ms = sec-1, ms+1000
	}
	if sec != o.second {
		t := time.Unix(sec, 0).UTC()
		t.AppendFormat(o.secText[:0], "2006-01-02T15:04:05.")
		o.second = sec
	}
	dst = append(dst, o.secText[:]...)
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// AppendEscaped appends s as the inside of a JSON string: quotes, backslashes and
// control characters are escaped, and bytes that are not UTF-8 become U+FFFD. Eight
// bytes are looked at at a time, as nearly all text needs no change.
func AppendEscaped(dst, s []byte) []byte {
	for {
		n := plain(s)
		dst = append(dst, s[:n]...)
		s = s[n:]
		if len(s) == 0 {
			return dst
		}
		c := s[0]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s)
			if r == utf8.RuneError && size <= 1 {
				dst = append(dst, "\uFFFD"...)
			} else {
				dst = append(dst, s[:size]...)
			}
			s = s[size:]
			continue
		}
		dst = appendControl(dst, c)
		s = s[1:]
	}
}

func appendControl(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// AppendUnescaped appends the text that s, the inside of a valid JSON string, stands
// for. Half a surrogate pair becomes U+FFFD. What is no valid escape is copied.
func AppendUnescaped(dst, s []byte) []byte {
	for {
		n := bytes.IndexByte(s, '\\')
		if n < 0 || n+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:n]...)
		c := s[n+1]
		s = s[n+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(s)
			if !ok {
				dst = append(dst, '\\', c)
				continue
			}
			s = s[4:]
			if utf16.IsSurrogate(r) {
				var low rune
				if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
					low, _ = hex4(s[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					s = s[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default: // a quote, a backslash, a slash
			dst = append(dst, c)
		}
	}
}

// hex4 reads the four hexadecimal digits at the head of s.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// plain returns how many bytes at the head of s stand for themselves in a JSON
// string: ASCII without control characters, quotes and backslashes.
func plain(s []byte) int {
	n := 0
	for len(s)-n >= 8 {
		if bad := needEscape(binary.LittleEndian.Uint64(s[n:])); bad != 0 {
			return n + bits.TrailingZeros64(bad)/8
		}
		n += 8
	}
	for n < len(s) && s[n] >= 0x20 && s[n] < utf8.RuneSelf && s[n] != '"' && s[n] != '\\' {
		n++
	}
	return n
}
