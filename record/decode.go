package record

import (
	"bytes"
	"strconv"
	"unsafe"
)

// Decode fills r with what a document says that AppendDoc made under an id of so many
// bytes: where it came from, too, which an Origin says of lines that are read here. It
// says false when the document goes on otherwise than AppendDoc writes; what was read
// before that stands in r. Keys and values belong to doc; a value keeps the quotes of a
// string.
func (r *Record) Decode(doc []byte, idLen int) bool {
	r.Reset()
	rest := EncodedHead(doc, idLen)
	for len(rest) > 0 && rest[0] == ',' {
		key, value, next, ok := cutPair(rest[1:])
		if !ok {
			return false
		}
		r.decoded(key, value)
		rest = next
	}
	return len(rest) == 1 && rest[0] == '}'
}

// decoded puts one key of a document into its place.
func (r *Record) decoded(key, value []byte) {
	switch string(key) {
	case "level":
		r.Level, _ = LevelNamed(string(unquoted(value)))
		return
	case "partial":
		r.Partial = string(value) == "true"
		return
	case "truncated":
		r.Truncated = string(value) == "true"
		return
	case "parse_error":
		r.ParseError = string(AppendUnescaped(nil, unquoted(value)))
		return
	case "status_code":
		if n, err := strconv.ParseInt(string(value), 10, 32); err == nil {
			r.Status = int32(n)
		}
	case "request_time":
		r.RequestTime = secondsOf(value)
	case "upstream_time":
		r.UpstreamTime = secondsOf(value)
	}
	r.Put(unsafe.String(unsafe.SliceData(key), len(key)), value, JSON)
}

// secondsOf reads a number of seconds, negative when it is none.
func secondsOf(value []byte) float64 {
	if value[0] == '"' {
		return -1
	}
	if s, err := strconv.ParseFloat(string(value), 64); err == nil && s >= 0 {
		return s
	}
	return -1
}

func unquoted(value []byte) []byte {
	if len(value) >= 2 && value[0] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// cutPair cuts `"key":value` from the front of text.
func cutPair(text []byte) (key, value, rest []byte, ok bool) {
	end := stringEnd(text)
	if end < 0 || end >= len(text) || text[end] != ':' {
		return nil, nil, nil, false
	}
	key, text = text[1:end-1], text[end+1:]
	end = valueEnd(text)
	if end <= 0 {
		return nil, nil, nil, false
	}
	return key, text[:end], text[end:], true
}

// stringEnd is where the string ends that text begins with, -1 when there is none.
func stringEnd(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return -1
	}
	for at := 1; ; {
		i := bytes.IndexByte(text[at:], '"')
		if i < 0 {
			return -1
		}
		at += i + 1
		slashes := 0
		for text[at-2-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
	}
}

// valueEnd is where the value ends that text begins with: a string, an array, or what
// has neither commas nor brackets in it; -1 when there is none.
func valueEnd(text []byte) int {
	if len(text) == 0 {
		return -1
	}
	switch text[0] {
	case '"':
		return stringEnd(text)
	case '[', '{':
		return bracketEnd(text)
	}
	return bytes.IndexAny(text, ",}")
}

func bracketEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			n := stringEnd(text[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
