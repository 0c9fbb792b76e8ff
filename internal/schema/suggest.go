package schema

import (
	"slices"
	"strings"
	"unicode"
)

// Nearest returns the one of known that name was probably meant to be.
func Nearest(name string, known []string) (string, bool) {
	plain := plainName(name)
	sorted := sortWords(plain)
	best, bestAt := 0, -1
	for i, k := range known {
		p := plainName(k)
		d := min(distance(plain, p), distance(sorted, sortWords(p)))
		if d <= allowed(min(len(plain), len(p))) && (bestAt < 0 || d < best) {
			best, bestAt = d, i
		}
	}
	if bestAt >= 0 {
		return known[bestAt], true
	}
	return prefixOf(plain, known)
}

// prefixOf finds the only known name that begins with a word of some length, or that
// the word begins with.
func prefixOf(plain string, known []string) (found string, ok bool) {
	if len(plain) < 4 {
		return "", false
	}
	for _, k := range known {
		if p := plainName(k); strings.HasPrefix(p, plain) || len(p) >= 4 && strings.HasPrefix(plain, p) {
			if ok {
				return "", false
			}
			found, ok = k, true
		}
	}
	return found, ok
}

// allowed is how many slips of the finger a word of n letters may have.
func allowed(n int) int {
	switch {
	case n <= 2:
		return 0
	case n <= 4:
		return 1
	case n <= 7:
		return 2
	}
	return 3
}

// plainName makes lineTimeout, line-timeout and line_timeout the same.
func plainName(s string) string {
	var b strings.Builder
	lower := false
	for _, r := range s {
		if unicode.IsUpper(r) && lower {
			b.WriteByte('_')
		}
		lower = unicode.IsLower(r)
		if r == '-' || r == '.' || r == ' ' {
			r = '_'
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// sortWords makes timeout_line and line_timeout the same.
func sortWords(plain string) string {
	words := strings.Split(plain, "_")
	slices.Sort(words)
	return strings.Join(words, "_")
}

// distance counts the letters to insert, remove, replace or swap with their
// neighbour, to make b of a. Words of unreasonable length are taken for different.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var rows [3][65]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
