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
	sum := crc32.Checksum(object, castagnoli)
	dst = hex.AppendEncode(dst, []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	dst = append(dst, ' ')
	dst = append(dst, object...)
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
// is not JSON.
func appendChange(dst []byte, change map[string]json.RawMessage) ([]byte, error) {
	var object bytes.Buffer
	var gone []string
	object.WriteByte('{')
	n := 0
	for _, key := range slices.Sorted(maps.Keys(change)) {
		value := change[key]
		if value == nil {
			gone = append(gone, key)
			continue
		}
		if n == 0 {
			object.WriteString(`"set":{`)
		} else {
			object.WriteByte(',')
		}
		n++
		object.Write(quoted(key))
		object.WriteByte(':')
		if err := json.Compact(&object, value); err != nil {
			return nil, fmt.Errorf("state record %q: %w", key, err)
		}
	}
	if n > 0 {
		object.WriteByte('}')
	}
	if len(gone) > 0 {
		if n > 0 {
			object.WriteByte(',')
		}
		object.WriteString(`"del":`)
		list, err := json.Marshal(gone)
		if err != nil {
			return nil, err
		}
		object.Write(list)
	}
	object.WriteByte('}')
	return appendLine(dst, object.Bytes()), nil
}

func quoted(key string) []byte {
	q, err := json.Marshal(key)
	if err != nil {
		panic(err) // a string always marshals
	}
	return q
}
