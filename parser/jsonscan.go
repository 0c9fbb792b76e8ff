package parser

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// stringState says whether a string of a line may be passed on as it stands.
type stringState uint8

const (
	stringValid stringState = iota
	// stringBroken is one with raw control characters, bytes that are not UTF-8,
	// escapes that JSON does not have (nginx writes \x22), or half a surrogate pair.
	stringBroken
)

// Words of eight equal bytes, to look at eight bytes at a time.
const (
	wordOnes  = 0x0101010101010101
	wordHighs = 0x8080808080808080
)

// scanString returns the place of the quote that ends the string whose text begins at
// i; -1 when there is none.
func scanString(b []byte, i int) (end int, state stringState) {
	start := i
	var high uint64 // of all bytes
	for {
		for len(b)-i >= 8 {
			x := binary.LittleEndian.Uint64(b[i:])
			high |= x
			quote, slash := x^(wordOnes*'"'), x^(wordOnes*'\\')
			// The lowest bit set is exact; a borrow can only set bits above a true one.
			if stop := ((x - wordOnes*0x20) | (quote - wordOnes) | (slash - wordOnes)) &^ x & wordHighs; stop != 0 {
				i += bits.TrailingZeros64(stop) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
			high |= uint64(b[i])
			i++
		}
		if i == len(b) {
			return -1, state
		}
		switch b[i] {
		case '"':
			if high&wordHighs != 0 && state == stringValid && !utf8.Valid(b[start:i]) {
				state = stringBroken
			}
			return i, state
		case '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				state = stringBroken
				n = 2 // whatever it is, it does not end the string
				if i+n > len(b) {
					return -1, state
				}
			}
			i += n
		default:
			state = stringBroken
			i++
		}
	}
}

// escapeLen returns the length of the valid escape at the head of b: both halves of a
// surrogate pair. 0 when it is not valid.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		return 0
	}
	if !isHex4(b, 2) {
		return 0
	}
	if b[2]|0x20 != 'd' || b[3] < '8' {
		return 6
	}
	if b[3]|0x20 > 'b' || !isHex4(b, 8) || b[6] != '\\' || b[7] != 'u' || b[8]|0x20 != 'd' || b[9]|0x20 < 'c' {
		return 0
	}
	return 12
}

func isHex4(b []byte, at int) bool {
	return len(b) >= at+4 && isHex(b[at]) && isHex(b[at+1]) && isHex(b[at+2]) && isHex(b[at+3])
}

// appendMended appends the text of a string that is not valid: the escapes of JSON are
// undone, and nginx's \xXX; other backslashes stay.
func appendMended(dst, s []byte) []byte {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		s = s[i:]
		n := escapeLen(s)
		switch {
		case n > 0:
			dst = record.AppendUnescaped(dst, s[:n])
		case len(s) >= 4 && s[1] == 'x' && isHex(s[2]) && isHex(s[3]):
			dst, n = append(dst, unhex(s[2])<<4|unhex(s[3])), 4
		case s[1] == 'u' && isHex4(s, 2): // half a pair
			dst, n = append(dst, "\uFFFD"...), 6
		default:
			dst, n = append(dst, '\\'), 1
		}
		s = s[n:]
	}
}

// space passes over white space.
func (p *jsonParser) space(i int) int {
	for i < len(p.b) && p.b[i] <= ' ' && (p.b[i] == ' ' || p.b[i] == '\n' || p.b[i] == '\t' || p.b[i] == '\r') {
		i++
	}
	return i
}

func (p *jsonParser) endsEarly() int {
	p.reason = jsonEndsEarly
	return -1
}

// literal passes over word.
func (p *jsonParser) literal(i int, word string) int {
	if len(p.b)-i < len(word) {
		if string(p.b[i:]) == word[:len(p.b)-i] {
			return p.endsEarly()
		}
		return -1
	}
	if string(p.b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// valueState says whether a nested value may be passed on as it stands.
type valueState uint8

const (
	valueValid  valueState = iota
	valueBroken            // it has broken strings or newlines
	valueTwice             // one of its objects has a key twice, or may have
)

// value passes over a value of any kind and returns the place after it.
func (p *jsonParser) value(i, depth int) (end int, state valueState) {
	if i == len(p.b) {
		return p.endsEarly(), state
	}
	switch c := p.b[i]; c {
	case '"':
		end, s := scanString(p.b, i+1)
		if end < 0 {
			return p.endsEarly(), state
		}
		if s == stringBroken {
			state = valueBroken
		}
		return end + 1, state
	case '{', '[':
		if depth == maxDepth {
			p.reason = jsonTooDeep
			return -1, state
		}
		keys := len(p.keyStack)
		end, state = p.elements(i+1, c+2, depth+1) // in ASCII, } is { + 2 and ] is [ + 2
		p.keyStack = p.keyStack[:keys]
		return end, state
	case 't':
		return p.literal(i, "true"), state
	case 'f':
		return p.literal(i, "false"), state
	case 'n':
		return p.literal(i, "null"), state
	}
	n := jsonNumber(p.b[i:])
	if n == 0 {
		return -1, state
	}
	return i + n, state
}

// elements passes over the elements of an array or object, up to the bracket that
// closes it.
func (p *jsonParser) elements(i int, closing byte, depth int) (end int, state valueState) {
	keys := len(p.keyStack)
	if i = p.gap(i, &state); i < len(p.b) && p.b[i] == closing {
		return i + 1, state
	}
	for {
		if closing == '}' {
			if i = p.innerKey(i, keys, &state); i < 0 {
				return -1, state
			}
		}
		next, s := p.value(i, depth)
		if next < 0 {
			return -1, state
		}
		state = max(state, s)
		if i = p.gap(next, &state); i == len(p.b) {
			return p.endsEarly(), state
		}
		switch p.b[i] {
		case closing:
			return i + 1, state
		case ',':
			i = p.gap(i+1, &state)
		default:
			return -1, state
		}
	}
}

// gap passes over white space inside a value that is to be one line.
func (p *jsonParser) gap(i int, state *valueState) int {
	end := p.space(i)
	if end > i && (bytes.IndexByte(p.b[i:end], '\n') >= 0 || bytes.IndexByte(p.b[i:end], '\r') >= 0) {
		*state = max(*state, valueBroken)
	}
	return end
}

// innerKey passes over a key and its colon in an object whose keys so far are
// keyStack[first:], and looks whether it is among them.
func (p *jsonParser) innerKey(i, first int, state *valueState) int {
	if i == len(p.b) {
		return p.endsEarly()
	}
	if p.b[i] != '"' {
		return -1
	}
	end, s := scanString(p.b, i+1)
	if end < 0 {
		return p.endsEarly()
	}
	key := p.b[i+1 : end]
	// Keys that are written with escapes may be equal and look different; and many
	// keys are not worth the time.
	if s == stringBroken || hasBackslash(key) || len(p.keyStack)-first > 100 {
		*state = valueTwice
	}
	if *state < valueTwice {
		for _, k := range p.keyStack[first:] {
			if string(k) == string(key) {
				*state = valueTwice
			}
		}
		p.keyStack = append(p.keyStack, key)
	}
	if i = p.gap(end+1, state); i == len(p.b) {
		return p.endsEarly()
	}
	if p.b[i] != ':' {
		return -1
	}
	return p.gap(i+1, state)
}

// appendCompact appends a nested value as one valid line: without white space, and
// with its broken strings mended.
func appendCompact(dst, val []byte) []byte {
	var text []byte
	for i := 0; i < len(val); i++ {
		switch c := val[i]; c {
		case ' ', '\n', '\r', '\t':
		case '"':
			end, state := scanString(val, i+1)
			if state == stringBroken {
				text = appendMended(text[:0], val[i+1:end])
				dst = append(dst, '"')
				dst = record.AppendEscaped(dst, text)
				dst = append(dst, '"')
			} else {
				dst = append(dst, val[i:end+1]...)
			}
			i = end
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func hasBackslash(b []byte) bool { return bytes.IndexByte(b, '\\') >= 0 }
