package parser

import (
	"strconv"
	"unsafe"
)

// jsonNumber returns how many bytes at the head of b are a number by the grammar of
// JSON, which forbids leading zeros, a bare point and a plus sign; 0 when none are.
func jsonNumber(b []byte) int {
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	if i == start || b[start] == '0' && i > start+1 {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		for i++; i < len(b) && b[i]-'0' < 10; i++ {
		}
		if i == start {
			return 0
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		for ; i < len(b) && b[i]-'0' < 10; i++ {
		}
		if i == start {
			return 0
		}
	}
	return i
}

// isNumber tells whether all of b is a JSON number of a length that every reader
// takes.
func isNumber(b []byte) bool {
	return len(b) > 0 && len(b) <= 32 && jsonNumber(b) == len(b)
}

// parseFloat reads a number. The usual forms, digits with a few decimals, do not pass
// through strconv.
func parseFloat(b []byte) (float64, bool) {
	if len(b) > 0 && len(b) <= 15 {
		n, point := int64(0), -1
		i := 0
		for ; i < len(b); i++ {
			if c := b[i] - '0'; c < 10 {
				n = n*10 + int64(c)
			} else if b[i] == '.' && point < 0 && i > 0 {
				point = i
			} else {
				break
			}
		}
		if i == len(b) && point != i-1 {
			if point < 0 {
				return float64(n), true
			}
			return float64(n) / powersOf10[i-1-point], true // both are exact, so the quotient is the nearest
		}
	}
	// What strconv takes and logs do not mean (inf, 0x1p-2, 1_000), and its errors,
	// which allocate, are kept away from it.
	if !isNumber(b) {
		return 0, false
	}
	f, err := strconv.ParseFloat(bytesString(b), 64)
	return f, err == nil
}

var powersOf10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// bytesString is b as a string without a copy. It is as good as b: for lookups, and for
// keys that live as long as the line.
func bytesString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
