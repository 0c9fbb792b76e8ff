package report

import "unicode/utf8"

// maxPattern bounds a pattern, in bytes, and maxMessage what of a message it is made of.
const (
	maxPattern = 160
	maxMessage = 400
)

// The classes of bytes.
const (
	classDigit = 1 << iota
	classHex   // a to f
	classWord  // the other letters
	classEnd   // the end of a line
	classBlank
	classControl
	classEscape
)

var classes = func() (c [256]uint8) {
	for b := range c {
		switch {
		case b >= '0' && b <= '9':
			c[b] = classDigit
		case b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F':
			c[b] = classHex
		case b >= 'g' && b <= 'z' || b >= 'G' && b <= 'Z':
			c[b] = classWord
		case b == '\n' || b == '\r':
			c[b] = classEnd
		case b == '\\':
			c[b] = classEscape
		case b == ' ' || b == '\t':
			c[b] = classBlank
		case b < ' ' || b == 0x7f:
			c[b] = classControl
		}
	}
	return c
}()

const alnum = classDigit | classHex | classWord

// fold appends the pattern of a message: its first line, with a * for what differs from
// time to time: numbers, hexadecimal ids, uuids, and long words with several digits in
// them. So "order 17 of 0af3-.. failed" and "order 18 of 9b21-.. failed" are one.
//
// escaped says that the message is the inside of a JSON string.
func fold(dst, message []byte, escaped bool) []byte {
	start := len(dst)
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	for i := 0; i < len(message) && len(dst)-start < maxPattern; {
		switch c := classes[message[i]]; {
		case c&alnum != 0 && isUUID(message[i:]):
			dst = appendStar(dst, start)
			i += uuidLen
		case c&alnum != 0:
			end := i + 1
			seen, digits := c, int(c&classDigit)
			for end < len(message) && classes[message[end]]&alnum != 0 {
				seen |= classes[message[end]]
				digits += int(classes[message[end]] & classDigit)
				end++
			}
			dst = appendWord(dst, start, message[i:end], seen, digits)
			i = end
		case c == classEnd || c == classEscape && escaped && i+1 < len(message) && (message[i+1] == 'n' || message[i+1] == 'r'):
			if len(dst) > start {
				return trim(dst, start)
			}
			i++ // the message begins on the next line
			if c == classEscape {
				i++
			}
		case c == classEscape && escaped && i+1 < len(message) && (message[i+1] == '"' || message[i+1] == '/' || message[i+1] == '\\'):
			dst = append(dst, message[i+1])
			i += 2
		case c == classBlank:
			if len(dst) > start && dst[len(dst)-1] != ' ' {
				dst = append(dst, ' ')
			}
			i++
		case c == classControl:
			i++
		default:
			dst = append(dst, message[i])
			i++
		}
	}
	return trim(dst, start)
}

// appendWord appends a run of letters and digits.
func appendWord(dst []byte, start int, word []byte, seen uint8, digits int) []byte {
	switch {
	case digits == 0:
		return append(dst, word...)
	case seen&classWord == 0 && (len(word) >= 8 || digits == len(word)), // an id, or a number
		len(word) >= 16 && digits >= 2,
		len(word) > 2 && word[0] == '0' && word[1]|0x20 == 'x' && isHex(word[2:]):
		return appendStar(dst, start)
	}
	for i := 0; i < len(word); i++ {
		if classes[word[i]]&classDigit == 0 {
			dst = append(dst, word[i])
		} else if i == 0 || classes[word[i-1]]&classDigit == 0 {
			dst = appendStar(dst, start)
		}
	}
	return dst
}

const uuidLen = len("00000000-0000-0000-0000-000000000000")

// isUUID tells whether b begins with one.
func isUUID(b []byte) bool {
	if len(b) < uuidLen || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return false
	}
	return isHex(b[:8]) && isHex(b[9:13]) && isHex(b[14:18]) && isHex(b[19:23]) && isHex(b[24:uuidLen])
}

func isHex(b []byte) bool {
	for _, c := range b {
		if classes[c]&(classDigit|classHex) == 0 {
			return false
		}
	}
	return true
}

// appendStar appends a *. One that follows another after a single . - : or / is a part of
// the same thing, such as an address, a date or a uuid.
func appendStar(dst []byte, start int) []byte {
	if n := len(dst); n-start >= 2 && dst[n-2] == '*' {
		switch dst[n-1] {
		case '.', '-', ':', ',', '/':
			return dst[:n-1]
		}
	}
	if n := len(dst); n > start && dst[n-1] == '*' {
		return dst
	}
	return append(dst, '*')
}

// trim takes blanks off the end and keeps to maxPattern, at a rune's border, in valid
// UTF-8 as far as the message was.
func trim(dst []byte, start int) []byte {
	if len(dst)-start > maxPattern {
		end := start + maxPattern
		for end > start && !utf8.RuneStart(dst[end]) {
			end--
		}
		dst = dst[:end]
	}
	for len(dst) > start && dst[len(dst)-1] == ' ' {
		dst = dst[:len(dst)-1]
	}
	return dst
}
