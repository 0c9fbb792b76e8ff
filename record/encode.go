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

	lead   []byte            // `{"@timestamp":"2006-01-02T15:04:05.000Z","id":"MACHINE-GENERATION-`
	head   []byte            // `,"host":..,"input":..,"file":..,"project":..` and the configured fields
	values map[string]string // what a template may ask for by name

	milli  int64 // the time that lead says, in Unix milliseconds
	second int64 // and its second
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
	o.lead = append(o.lead, `{"@timestamp":"2006-01-02T15:04:05.000Z","id":"`...)
	o.lead = append(o.lead, f.Machine...)
	o.lead = append(o.lead, '-')
	o.lead = append(o.lead, f.Generation...)
	o.lead = append(o.lead, '-')
	o.setTime(0)
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

// The places of the time and the id in every document that AppendDoc writes.
const (
	timeAt = len(`{"@timestamp":"`)
	idAt   = len(`{"@timestamp":"2006-01-02T15:04:05.000Z","id":"`)
)

// AppendDoc appends the document of r, whose line begins at offset, with a final
// newline. unixMilli is its @timestamp. The id is dst[n+idAt : n+idAt+idLen], where
// n was dst's length.
func (o *Origin) AppendDoc(dst []byte, r *Record, unixMilli, offset int64) (out []byte, idLen int) {
	if unixMilli != o.milli {
		o.setTime(unixMilli)
	}
	const middle = `","offset":`
	n := len(dst)
	if room := len(o.lead) + len(middle) + 2*maxDigits + len(o.head); cap(dst)-n < room {
		dst = slices.Grow(dst, room)
	}
	dst = append(dst, o.lead...)
	digits := len(dst)
	dst = strconv.AppendInt(dst, offset, 10)
	idLen = len(dst) - n - idAt
	offsetDigits := dst[digits:]
	dst = append(dst, middle...)
	dst = append(dst, offsetDigits...)
	dst = append(dst, o.head...)
	if r.Level != LevelNone {
		dst = append(dst, `,"level":"`...)
		dst = append(dst, r.Level.String()...)
		dst = append(dst, '"')
	}
	dst = appendFields(dst, r.Fields)
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

// maxDigits is the length of the longest offset.
const maxDigits = 20

// chunk is what is copied at once, where memory allows it: the length of most values is
// less, and a copy that does not depend on it needs no branch that could be mispredicted.
const chunk = 32

// fieldRoom is what a field needs beside its value: its head, the chunk in which a short
// value is copied, and the closing quote.
const fieldRoom = headBytes + chunk + 1

// appendFields appends `,"key":value` for each field.
func appendFields(dst []byte, fields []Field) []byte {
	n := len(dst)
	b := dst[:cap(dst)]
	for i := range fields {
		f := &fields[i]
		val := f.Val
		if f.head == nil {
			b = appendKey(b[:n], f.Key)
			n = len(b) - len(`"`)
			b = b[:cap(b)]
		}
		if len(b)-n < fieldRoom+len(val) {
			b = slices.Grow(b[:n], fieldRoom+len(val))
			b = b[:cap(b)]
		}
		if f.head != nil {
			*(*[headBytes]byte)(b[n:]) = f.head.text
			n += f.head.len
		} else {
			n++
		}
		if f.Kind == JSON {
			n--
		}
		if len(val) <= chunk && cap(val) >= chunk {
			*(*[chunk]byte)(b[n:]) = *(*[chunk]byte)(val[:chunk])
			if f.Kind == Text && !plainChunk(val) {
				b = append(AppendEscaped(b[:n], val), '"')
				n = len(b)
				b = b[:cap(b)]
				continue
			}
		} else if f.Kind != Text {
			copy(b[n:], val)
		} else if done := copyPlain(b[n:], val); done < len(val) {
			b = append(AppendEscaped(b[:n+done], val[done:]), '"')
			n = len(b)
			b = b[:cap(b)]
			continue
		}
		n += len(val)
		if f.Kind != JSON {
			b[n] = '"'
			n++
		}
	}
	return b[:n]
}

// appendKey appends `,"key":"`, of which the last quote is not wanted for all kinds.
func appendKey(dst []byte, key string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	return append(dst, '"', ':', '"')
}

// plainChunk tells whether val, of at most a chunk, stands for itself in a JSON string.
func plainChunk(val []byte) bool {
	n := len(val)
	if n < 8 {
		return needEscape(binary.LittleEndian.Uint64(val[:8]))&lowBytes(n) == 0
	}
	bad := needEscape(binary.LittleEndian.Uint64(val)) | needEscape(binary.LittleEndian.Uint64(val[n-8:]))
	if n > 16 {
		bad |= needEscape(binary.LittleEndian.Uint64(val[8:])) | needEscape(binary.LittleEndian.Uint64(val[n-16:]))
	}
	return bad == 0
}

// lowBytes returns a mask of a word's first n bytes, less than eight.
func lowBytes(n int) uint64 { return 1<<(8*uint(n)) - 1 }

// copyPlain copies from src to dst up to the first byte that needs escaping, or not quite
// as far, and returns how many bytes that are. dst is at least as long as src; what it
// holds behind the copy is undefined.
func copyPlain(dst, src []byte) int {
	if len(src) < chunk {
		return copyPlainShort(dst, src)
	}
	last := len(src) - chunk
	for n := 0; ; n = min(n+chunk, last) { // the last chunk has some again
		s, d := src[n:n+chunk], dst[n:n+chunk]
		x0, x1 := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		x2, x3 := binary.LittleEndian.Uint64(s[16:]), binary.LittleEndian.Uint64(s[24:])
		if needEscape(x0)|needEscape(x1)|needEscape(x2)|needEscape(x3) != 0 {
			return n
		}
		binary.LittleEndian.PutUint64(d, x0)
		binary.LittleEndian.PutUint64(d[8:], x1)
		binary.LittleEndian.PutUint64(d[16:], x2)
		binary.LittleEndian.PutUint64(d[24:], x3)
		if n == last {
			return len(src)
		}
	}
}

func copyPlainShort(dst, src []byte) int {
	n := 0
	for ; len(src)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(src[n:])
		if needEscape(x) != 0 {
			return n
		}
		binary.LittleEndian.PutUint64(dst[n:], x)
	}
	for ; n < len(src); n++ {
		c := src[n]
		if c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return n
		}
		dst[n] = c
	}
	return n
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

// setTime makes o.lead say unixMilli, as RFC 3339 in UTC with milliseconds. Lines of one
// second come together: it is formatted once for all of them.
func (o *Origin) setTime(unixMilli int64) {
	o.milli = unixMilli
	unixMilli = min(max(unixMilli, minMilli), maxMilli)
	sec, ms := unixMilli/1000, unixMilli%1000
	if ms < 0 {
		sec, ms = sec-1, ms+1000
	}
	text := o.lead[timeAt:]
	if sec != o.second {
		time.Unix(sec, 0).UTC().AppendFormat(text[:0], "2006-01-02T15:04:05.")
		o.second = sec
	}
	text = text[len("2006-01-02T15:04:05."):]
	text[0], text[1], text[2] = byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10)
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
