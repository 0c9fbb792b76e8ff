package alert

import (
	"math"
	"slices"
	"sort"
)

// acc are the numbers of one field that a maximum and an average need.
type acc struct {
	max, sum float64
	n        int64
}

func (a *acc) add(b acc) {
	if b.n == 0 {
		return
	}
	if a.n == 0 || b.max > a.max {
		a.max = b.max
	}
	a.sum += b.sum
	a.n += b.n
}

// seconds are the counters of one group, by second: only seconds that have lines, in
// rising order. Counters and accumulators lie side by side in slices of their own.
type seconds struct {
	secs []int64
	cnt  []uint32 // counters of each second
	accs []acc    // accumulators of each second

	counters, fields int

	lastSec int64 // the second that at returned last, where it is secs[last]
	last    int
}

func (s *seconds) counts(i int) []uint32 { return s.cnt[i*s.counters : (i+1)*s.counters] }
func (s *seconds) fieldsAt(i int) []acc  { return s.accs[i*s.fields : (i+1)*s.fields] }

// find returns the index of the first second at or after sec.
func (s *seconds) find(sec int64) int {
	n := len(s.secs)
	for back := 1; back <= 4 && n-back >= 0; back++ { // nearly always one of the last
		if s.secs[n-back] < sec {
			return n - back + 1
		}
	}
	return sort.Search(n, func(i int) bool { return s.secs[i] >= sec })
}

// at returns the index of sec, which it inserts when it is new.
func (s *seconds) at(sec int64) (i int, inserted bool) {
	if sec == s.lastSec && len(s.secs) > 0 {
		return s.last, false
	}
	i = s.find(sec)
	s.lastSec, s.last = sec, i
	if i < len(s.secs) && s.secs[i] == sec {
		return i, false
	}
	s.cnt = insertZeros(s.cnt, i*s.counters, s.counters)
	s.accs = insertZeros(s.accs, i*s.fields, s.fields)
	s.secs = insertZeros(s.secs, i, 1)
	s.secs[i] = sec
	return i, true
}

func insertZeros[T any](s []T, at, n int) []T {
	if n == 0 {
		return s
	}
	if len(s)+n > cap(s) {
		s = slices.Grow(s, n)
	}
	s = s[:len(s)+n]
	copy(s[at+n:], s[at:len(s)-n])
	clear(s[at : at+n])
	return s
}

// cut removes the seconds [from, to) by index.
func (s *seconds) cut(from, to int) {
	s.secs = slices.Delete(s.secs, from, to)
	s.cnt = slices.Delete(s.cnt, from*s.counters, to*s.counters)
	s.accs = slices.Delete(s.accs, from*s.fields, to*s.fields)
	s.lastSec = -never
}

// cursor is a window that ends at second at, on its way over a group's seconds.
type cursor struct {
	at     int64
	lo, hi int     // the indexes of the window's seconds: [lo, hi)
	sums   []int64 // of the counters
}

// copyTo puts another cursor, of as many counters, to the same place.
func (c *cursor) copyTo(o *cursor) {
	o.at, o.lo, o.hi = c.at, c.lo, c.hi
	copy(o.sums, c.sums)
}

// moveTo lets the window end at sec, which is not before its end now.
func (c *cursor) moveTo(s *seconds, sec, within int64) {
	if sec-c.at >= within { // of the seconds between them none is in both windows
		c.place(s, sec, within)
		return
	}
	c.at = sec
	for c.hi < len(s.secs) && s.secs[c.hi] <= sec {
		for j, n := range s.counts(c.hi) {
			c.sums[j] += int64(n)
		}
		c.hi++
	}
	for c.lo < c.hi && s.secs[c.lo] <= sec-within {
		for j, n := range s.counts(c.lo) {
			c.sums[j] -= int64(n)
		}
		c.lo++
	}
}

// place puts the window's end at sec, wherever it was.
func (c *cursor) place(s *seconds, sec, within int64) {
	c.at, c.lo = sec, s.find(sec-within+1)
	c.hi = c.lo
	clear(c.sums)
	for c.hi < len(s.secs) && s.secs[c.hi] <= sec {
		for j, n := range s.counts(c.hi) {
			c.sums[j] += int64(n)
		}
		c.hi++
	}
}

// never is a second that does not come.
const never = math.MaxInt64

// nextChange returns the first second after c.at at which a second enters the window
// or leaves it.
func (c *cursor) nextChange(s *seconds, within int64) int64 {
	next := int64(never)
	if c.hi < len(s.secs) {
		next = s.secs[c.hi]
	}
	if c.lo < c.hi {
		next = min(next, s.secs[c.lo]+within)
	}
	return next
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
