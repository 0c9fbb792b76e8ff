package tail

import (
	"path/filepath"
	"strings"
)

// words that may stand in what a rotation appends to a name.
var rotationWords = map[string]bool{
	"gz": true, "old": true, "bak": true, "prev": true, "save": true, "orig": true,
	"t": true, "z": true, "utc": true, "gmt": true, "w": true, "h": true, "s": true,
	"jan": true, "feb": true, "mar": true, "apr": true, "may": true, "jun": true,
	"jul": true, "aug": true, "sep": true, "oct": true, "nov": true, "dec": true,
}

// looksRotated reports whether rest is what rotations append to a log's name: a
// number, a date, .old and the like, and .gz after it. A name that is being written
// under for later (.tmp) never does.
func looksRotated(rest string) bool {
	if rest == "" {
		return false
	}
	if rest == "~" {
		return true
	}
	if strings.IndexByte(".-_@", rest[0]) < 0 {
		return false
	}
	told := false // by a digit or a word that says so
	for i := 0; i < len(rest); {
		switch c := rest[i]; {
		case c >= '0' && c <= '9':
			told = true
			i++
		case strings.IndexByte(".-_@:+T", c) >= 0:
			i++
		case isLetter(c):
			end := i
			for end < len(rest) && isLetter(rest[end]) {
				end++
			}
			word := strings.ToLower(rest[i:end])
			if !rotationWords[word] {
				return false
			}
			told = told || len(word) > 1
			i = end
		default:
			return false
		}
	}
	return told
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// isGzip reports whether a name says that the content is compressed.
func isGzip(name string) bool { return strings.HasSuffix(name, ".gz") }

// roots calls f with each name of which the given one may be a rotated sibling, the
// shortest first, until f returns true.
func roots(name string, f func(root string) bool) bool {
	for i := 1; i < len(name); i++ {
		if looksRotated(name[i:]) && f(name[:i]) {
			return true
		}
	}
	return false
}

// Unrotated returns the paths of the logs that path may be a rotated sibling of, by its
// name alone, the shortest first.
func Unrotated(path string) []string {
	var all []string
	dir, name := filepath.Split(path)
	roots(name, func(root string) bool {
		all = append(all, dir+root)
		return false
	})
	return all
}

// olderRotation reports whether the rotated file a is older than b. Names that number
// or date both alike say so; the time of the last write does not always: that of a .gz
// may be the time of its compression.
func olderRotation(a string, aTime int64, b string, bTime int64) bool {
	if a != b && numberedAlike(strings.TrimSuffix(a, ".gz"), strings.TrimSuffix(b, ".gz")) {
		return olderName(a, b)
	}
	return aTime < bTime || aTime == bTime && olderName(a, b)
}

// numberedAlike reports whether two names differ in a counter, or in the digits of a
// date.
func numberedAlike(x, y string) bool {
	i, j := lastNumber(x), lastNumber(y)
	if i < len(x) && j < len(y) && x[:i] == y[:j] && len(x)-i <= 3 && len(y)-j <= 3 {
		return true
	}
	digits := 0
	for k := 0; k < len(x) && k < len(y); k++ {
		xd, yd := x[k] >= '0' && x[k] <= '9', y[k] >= '0' && y[k] <= '9'
		if xd != yd || !xd && x[k] != y[k] {
			return false
		}
		if xd {
			digits++
		}
	}
	return len(x) == len(y) && digits >= len("20060102")
}

// olderName reports whether rotations would have given the name a to an older file
// than the name b: a higher number, or a lower date.
func olderName(a, b string) bool {
	x, y := strings.TrimSuffix(a, ".gz"), strings.TrimSuffix(b, ".gz")
	i, j := lastNumber(x), lastNumber(y)
	if x[:i] == y[:j] && len(x)-i <= 3 && len(y)-j <= 3 { // a counter, not a date
		if len(x)-i != len(y)-j {
			return len(x)-i > len(y)-j
		}
		return x > y
	}
	return x < y
}

// lastNumber is where the digits at the end of s begin.
func lastNumber(s string) int {
	for len(s) > 0 && s[len(s)-1] >= '0' && s[len(s)-1] <= '9' {
		s = s[:len(s)-1]
	}
	return len(s)
}
