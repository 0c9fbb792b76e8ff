package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// version is that of the format. A reader that knows less refuses the file.
const version = 1

const sumLen = 8 // hexadecimal digits before the space

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is what one line holds. Only the fields of its kind are set.
type line struct {
	Version    int    `json:"journal,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	// Snapshot ends the snapshot and is the number of its lines, plus one so that it
	// is never zero.
	Snapshot int `json:"snapshot,omitempty"`

	Set map[string]json.RawMessage `json:"set,omitempty"`
	Del []string                   `json:"del,omitempty"`
}

// appendLine frames a JSON object, which must hold no newline.
func appendLine(dst, object []byte) []byte {
	dst, start := beginLine(dst)
	return endLine(append(dst, object...), start)
}

// beginLine leaves room for the sum of what is appended until endLine.
func beginLine(dst []byte) (_ []byte, start int) {
	return append(dst, "        "[:sumLen]+" "...), len(dst)
}

func endLine(dst []byte, start int) []byte {
	sum := crc32.Checksum(dst[start+sumLen+1:], castagnoli)
	hex.Encode(dst[start:], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	return append(dst, '\n')
}

// parseLine reads one line without its newline; ok is false for anything that was
// not written as such.
func parseLine(raw []byte) (l line, ok bool) {
	if len(raw) < sumLen+3 || raw[sumLen] != ' ' {
		return line{}, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], raw[:sumLen]); err != nil {
		return line{}, false
	}
	object := raw[sumLen+1:]
	if crc32.Checksum(object, castagnoli) != uint32(sum[0])<<24|uint32(sum[1])<<16|uint32(sum[2])<<8|uint32(sum[3]) {
		return line{}, false
	}
	return l, json.Unmarshal(object, &l) == nil
}

// appendChange frames a change; a nil value deletes. It fails only for a value that
// is not JSON, which it does not look for in what is known to be.
func appendChange(dst []byte, change map[string]json.RawMessage, known bool) ([]byte, error) {
	room := 64
	for key, value := range change {
		room += len(key) + len(value) + 8
	}
	dst, start := beginLine(slices.Grow(dst, room))
	dst = append(dst, '{')
	var gone []string
	n := 0
	for _, key := range slices.Sorted(maps.Keys(change)) {
		value := change[key]
		if value == nil {
			gone = append(gone, key)
			continue
		}
		shape := outline(value)
		if !known && !json.Valid(shape) {
			return nil, fmt.Errorf("state record %q is not JSON: %.100q", key, value)
		}
		if n == 0 {
			dst = append(dst, `"set":{`...)
		} else {
			dst = append(dst, ',')
		}
		n++
		dst = append(append(dst, quoted(key)...), ':')
		if isCompact(shape) { // as what Marshal makes
			dst = append(dst, value...)
			continue
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, value); err != nil {
			return nil, fmt.Errorf("state record %q: %w", key, err)
		}
		dst = append(dst, flat.Bytes()...)
	}
	if n > 0 {
		dst = append(dst, '}')
	}
	if len(gone) > 0 {
		if n > 0 {
			dst = append(dst, ',')
		}
		list, err := json.Marshal(gone)
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `"del":`...), list...)
	}
	return endLine(append(dst, '}'), start), nil
}

// isCompact reports whether there is no blank in a JSON value outside of its strings.
func isCompact(value []byte) bool {
	inString := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && c <= ' ':
			return false
		}
	}
	return true
}

// outline is a value without the insides of its plain strings. Whether it is JSON, and
// compact, they do not say, and of a large value they are nearly all.
func outline(value []byte) []byte {
	var out []byte
	for {
		open := bytes.IndexByte(value, '"') + 1
		if open == 0 {
			return append(out, value...)
		}
		inside := value[open:]
		end := bytes.IndexByte(inside, '"')
		if end < 0 {
			return append(out, value...)
		}
		if !isPlain(inside[:end]) { // it may not even end there
			end = stringEnd(inside)
			out = append(out, value[:open+end]...)
			value = inside[end:]
			continue
		}
		out = append(append(out, value[:open]...), '"')
		value = inside[end+1:]
	}
}

// isPlain reports whether there are only bytes that stand for themselves in a JSON string.
func isPlain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' {
			return false
		}
	}
	return true
}

// stringEnd is the length of what is left of a JSON string, its quote included.
func stringEnd(s []byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

func quoted(key string) []byte {
	q, err := json.Marshal(key)
	if err != nil {
		panic(err) // a string always marshals
	}
	return q
}
