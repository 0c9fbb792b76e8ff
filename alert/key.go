package alert

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// maxPart bounds, in bytes, what of a field's value is part of a group's key.
const maxPart = 256

// appendPart appends the value of one field of `per` to a group's key: its length and
// its bytes, so that no two groups share a key.
func appendPart(key, value []byte) []byte {
	if len(value) > maxPart {
		value = value[:maxPart]
		for n := 1; n < utf8.UTFMax; n++ { // not in the middle of a character
			if utf8.RuneStart(value[len(value)-n]) {
				if !utf8.FullRune(value[len(value)-n:]) {
					value = value[:len(value)-n]
				}
				break
			}
		}
	}
	key = binary.AppendUvarint(key, uint64(len(value)))
	return append(key, value...)
}

func joinKey(parts []string) string {
	key := []byte{}
	for _, p := range parts {
		key = appendPart(key, []byte(p))
	}
	return string(key)
}

// splitKey returns the n values of a key, in valid UTF-8.
func splitKey(key string, n int) []string {
	parts := make([]string, 0, n)
	for range n {
		size, used := binary.Uvarint([]byte(key[:min(len(key), binary.MaxVarintLen16)]))
		if used <= 0 || uint64(len(key)-used) < size {
			parts = append(parts, "")
			continue
		}
		parts = append(parts, strings.ToValidUTF8(key[used:used+int(size)], "\uFFFD"))
		key = key[used+int(size):]
	}
	return parts
}

// showKey writes a key as people read it.
func showKey(r *Rule, key string) string {
	parts := splitKey(key, len(r.per))
	for i := range parts {
		parts[i] = r.per[i].name + "=" + parts[i]
	}
	return strings.Join(parts, " ")
}
