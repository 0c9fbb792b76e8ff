package listen

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/record"
)

var (
	errPackEnds  = errors.New("MessagePack ends early")
	errPackType  = errors.New("MessagePack of an unexpected type")
	errPackDeep  = errors.New("MessagePack nested too deeply")
	errPackLarge = errors.New("MessagePack larger than max_body")
	errPackLong  = errors.New("the JSON is longer than it may be")
)

// maxPackDepth is how deeply arrays and maps may be nested.
const maxPackDepth = 64

// packScan finds the end of a MessagePack value that arrives in pieces. The zero value
// begins at the head of the data.
type packScan struct {
	at   int   // how far it has come
	todo int64 // values that are still to come, the one at the head being the first
	on   bool
}

// scan goes on as far as data reaches. It says true when the value is complete; it ends
// at s.at then.
func (s *packScan) scan(data []byte, most int) (done bool, err error) {
	if !s.on {
		s.todo, s.on = 1, true
	}
	for s.todo > 0 {
		if s.at > most {
			return false, errPackLarge
		}
		if s.at >= len(data) {
			return false, nil
		}
		head, body, values, ok := packSize(data[s.at:])
		if !ok {
			return false, nil
		}
		if head == 0 {
			return false, errPackType
		}
		if body > most {
			return false, errPackLarge
		}
		s.at += head + body
		if s.todo += values - 1; s.todo > int64(most) {
			return false, errPackLarge // each has a byte at least
		}
	}
	return s.at <= len(data), nil
}

// packSize reads the head of a value: its length, that of the bytes which follow it, and
// how many values follow. ok is false when data ends before the head does; a head of 0
// bytes is none.
func packSize(data []byte) (head, body int, values int64, ok bool) {
	c := data[0]
	length := func(n int) (int, bool) {
		if len(data) < 1+n {
			return 0, false
		}
		v := 0
		for _, b := range data[1 : 1+n] {
			v = v<<8 | int(b)
		}
		return v, true
	}
	switch {
	case c <= 0x7f, c >= 0xe0:
		return 1, 0, 0, true
	case c <= 0x8f:
		return 1, 0, 2 * int64(c&0x0f), true
	case c <= 0x9f:
		return 1, 0, int64(c & 0x0f), true
	case c <= 0xbf:
		return 1, int(c & 0x1f), 0, true
	}
	switch c {
	case 0xc0, 0xc2, 0xc3:
		return 1, 0, 0, true
	case 0xc4, 0xd9: // bin 8, str 8
		n, ok := length(1)
		return 2, n, 0, ok
	case 0xc5, 0xda:
		n, ok := length(2)
		return 3, n, 0, ok
	case 0xc6, 0xdb:
		n, ok := length(4)
		return 5, n, 0, ok
	case 0xc7: // ext 8
		n, ok := length(1)
		return 3, n, 0, ok
	case 0xc8:
		n, ok := length(2)
		return 4, n, 0, ok
	case 0xc9:
		n, ok := length(4)
		return 6, n, 0, ok
	case 0xcc, 0xd0:
		return 1, 1, 0, true
	case 0xcd, 0xd1:
		return 1, 2, 0, true
	case 0xca, 0xce, 0xd2:
		return 1, 4, 0, true
	case 0xcb, 0xcf, 0xd3:
		return 1, 8, 0, true
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext 1 to 16
		return 2, 1 << (c - 0xd4), 0, true
	case 0xdc: // array 16
		n, ok := length(2)
		return 3, 0, int64(n), ok
	case 0xdd:
		n, ok := length(4)
		return 5, 0, int64(n), ok
	case 0xde: // map 16
		n, ok := length(2)
		return 3, 0, 2 * int64(n), ok
	case 0xdf:
		n, ok := length(4)
		return 5, 0, 2 * int64(n), ok
	}
	return 0, 0, 0, true // 0xc1 is never used
}

// packKind is what a value is.
type packKind int

const (
	packNone packKind = iota
	packNil
	packBool
	packInt
	packFloat
	packText // str and bin: who writes them seldom tells them apart
	packArray
	packMap
	packExt
)

// packValue is one value, without those that follow it.
type packValue struct {
	kind  packKind
	bits  uint64 // of an integer, a float, a boolean
	minus bool   // the integer is negative
	bytes []byte // of a text, an ext
	n     int    // elements of an array, pairs of a map
	ext   int8
}

// nextPack reads the value at the head of data and returns what follows.
func nextPack(data []byte) (v packValue, rest []byte, err error) {
	if len(data) == 0 {
		return v, nil, errPackEnds
	}
	head, body, values, ok := packSize(data)
	switch {
	case !ok:
		return v, nil, errPackEnds
	case head == 0:
		return v, nil, errPackType
	case body > len(data)-head || values > int64(len(data)-head):
		return v, nil, errPackEnds
	}
	b := data[head : head+body]
	rest = data[head+body:]
	switch c := data[0]; {
	case c <= 0x7f:
		v.kind, v.bits = packInt, uint64(c)
	case c >= 0xe0:
		v.kind, v.bits, v.minus = packInt, uint64(int64(int8(c))), true
	case c <= 0x8f, c == 0xde, c == 0xdf:
		v.kind, v.n = packMap, int(values/2)
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		v.kind, v.n = packArray, int(values)
	case c <= 0xbf, c >= 0xc4 && c <= 0xc6, c >= 0xd9 && c <= 0xdb:
		v.kind, v.bytes = packText, b
	case c == 0xc0:
		v.kind = packNil
	case c == 0xc2, c == 0xc3:
		v.kind, v.bits = packBool, uint64(c-0xc2)
	case c >= 0xc7 && c <= 0xc9, c >= 0xd4 && c <= 0xd8:
		v.kind, v.bytes, v.ext = packExt, b, int8(data[head-1])
	case c == 0xca:
		v.kind, v.bits = packFloat, math.Float64bits(float64(math.Float32frombits(binary.BigEndian.Uint32(b))))
	case c == 0xcb:
		v.kind, v.bits = packFloat, binary.BigEndian.Uint64(b)
	default:
		v.kind = packInt
		for _, x := range b {
			v.bits = v.bits<<8 | uint64(x)
		}
		if c >= 0xd0 { // signed: extend the sign
			shift := 64 - 8*len(b)
			v.bits = uint64(int64(v.bits<<shift) >> shift)
			v.minus = int64(v.bits) < 0
		}
	}
	return v, rest, nil
}

// time reads a value as a time: EventTime, MessagePack's own timestamp, or a number of
// seconds; false when it is none.
func (v *packValue) time() (unixMilli int64, ok bool) {
	switch v.kind {
	case packInt:
		if v.minus || v.bits > 1<<53 {
			return 0, false
		}
		if v.bits > 1e11 { // milliseconds already
			return int64(v.bits), true
		}
		return int64(v.bits) * 1000, true
	case packFloat:
		f := math.Float64frombits(v.bits)
		if !(f >= 0 && f < 1e11) {
			return 0, false
		}
		return int64(math.Round(f * 1000)), true
	case packExt:
		b := v.bytes
		switch {
		case v.ext == 0 && len(b) == 8:
			return int64(binary.BigEndian.Uint32(b))*1000 + int64(binary.BigEndian.Uint32(b[4:]))/1e6, true
		case v.ext == -1 && len(b) == 4:
			return int64(binary.BigEndian.Uint32(b)) * 1000, true
		case v.ext == -1 && len(b) == 8:
			x := binary.BigEndian.Uint64(b)
			return int64(x&(1<<34-1))*1000 + int64(x>>34)/1e6, true
		case v.ext == -1 && len(b) == 12:
			sec := int64(binary.BigEndian.Uint64(b[4:]))
			if sec > -1e11 && sec < 1e11 {
				return sec*1000 + int64(binary.BigEndian.Uint32(b))/1e6, true
			}
		}
	}
	return 0, false
}

// packLimits bound what is made of a value.
type packLimits struct {
	most  int // bytes of JSON, about
	depth int // how deep the value lies already
}

func (l packLimits) inside() packLimits { l.depth++; return l }

// appendPackJSON appends the value at the head of data as JSON and returns what follows
// it. Bytes that are no UTF-8 become U+FFFD, a number that JSON has not becomes a text.
// Where the JSON becomes too long it says errPackLong, with what there is so far.
func appendPackJSON(dst, data []byte, l packLimits) (out, rest []byte, err error) {
	v, rest, err := nextPack(data)
	switch {
	case err != nil:
		return dst, nil, err
	case l.depth > maxPackDepth:
		return dst, nil, errPackDeep
	case len(dst) > l.most:
		return dst, nil, errPackLong
	}
	switch v.kind {
	case packNil:
		return append(dst, "null"...), rest, nil
	case packBool:
		return strconv.AppendBool(dst, v.bits == 1), rest, nil
	case packInt:
		if v.minus {
			return strconv.AppendInt(dst, int64(v.bits), 10), rest, nil
		}
		return strconv.AppendUint(dst, v.bits, 10), rest, nil
	case packFloat:
		return appendFloat(dst, math.Float64frombits(v.bits)), rest, nil
	case packText:
		if len(v.bytes) > l.most {
			return appendQuoted(dst, v.bytes[:l.most]), nil, errPackLong
		}
		return appendQuoted(dst, v.bytes), rest, nil
	case packExt:
		if len(v.bytes) > l.most {
			return dst, nil, errPackLong
		}
		if ms, ok := v.time(); ok {
			dst = append(dst, '"')
			dst = time.UnixMilli(ms).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
			return append(dst, '"'), rest, nil
		}
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, v.bytes)
		return append(dst, '"'), rest, nil
	case packArray:
		dst = append(dst, '[')
		for i := range v.n {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, rest, err = appendPackJSON(dst, rest, l.inside()); err != nil {
				return dst, nil, err
			}
		}
		return append(dst, ']'), rest, nil
	}
	dst = append(dst, '{')
	for i := range v.n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, rest, err = appendPackKey(dst, rest, l.most); err != nil {
			return dst, nil, err
		}
		dst = append(dst, ':')
		if dst, rest, err = appendPackJSON(dst, rest, l.inside()); err != nil {
			return dst, nil, err
		}
	}
	return append(dst, '}'), rest, nil
}

// appendPackKey appends a map's key, which JSON wants to be a text.
func appendPackKey(dst, data []byte, most int) (out, rest []byte, err error) {
	v, rest, err := nextPack(data)
	switch {
	case err != nil:
		return dst, nil, err
	case len(dst)+len(v.bytes) > most:
		return dst, nil, errPackLong
	case v.kind == packText:
		return appendQuoted(dst, v.bytes), rest, nil
	case v.kind == packArray || v.kind == packMap:
		return dst, nil, errPackType
	}
	key, rest, err := appendPackJSON(nil, data, packLimits{most: most, depth: maxPackDepth})
	if err != nil {
		return dst, nil, err
	}
	if len(key) > 1 && key[0] == '"' {
		return append(dst, key...), rest, nil
	}
	return appendQuoted(dst, key), rest, nil
}

func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	dst = record.AppendEscaped(dst, text)
	return append(dst, '"')
}

// appendFloat appends a JSON number, or a text where JSON has no number.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f), math.IsInf(f, 0):
		dst = append(dst, '"')
		dst = strconv.AppendFloat(dst, f, 'g', -1, 64)
		return append(dst, '"')
	case math.Abs(f) >= 1e-6 && math.Abs(f) < 1e21 || f == 0:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// Appending MessagePack, for what this side says.

func packText8(dst []byte, s string) []byte {
	if len(s) < 32 {
		return append(append(dst, 0xa0|byte(len(s))), s...)
	}
	if len(s) < 256 {
		return append(append(dst, 0xd9, byte(len(s))), s...)
	}
	return append(append(dst, 0xda, byte(len(s)>>8), byte(len(s))), s[:min(len(s), 65535)]...)
}

func packBytes(dst, b []byte) []byte {
	return append(append(dst, 0xc4, byte(len(b))), b...)
}

func packBoolean(dst []byte, b bool) []byte {
	if b {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}
