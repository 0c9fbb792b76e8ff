package parser

// yearLast reads the times whose date ends with its year: 11/23/2026 8:00:00 PM as it is
// written in the United States, 23.11.2026 20:00:00, 23-11-2026 20:00:00, and with a comma
// before the time. Month and day may lack their zeros.
//
// Which of the two comes first the text does not always say: with dots the day, with AM
// and PM the month, unless there is no such month. Else it is the order that brings the
// time nearer to now, but not ahead of it, which is right for a log that is read while it
// is written.
func (t *timeParser) yearLast(b []byte) (ms int64, n int, ok bool) {
	first, n := oneOrTwo(b)
	if n == 0 || len(b) < n+len("/1/26 8:00:00") {
		return 0, 0, false
	}
	sep := b[n]
	second, width := oneOrTwo(b[n+1:])
	n += 1 + width
	if width == 0 || b[n] != sep || sep != '/' && sep != '.' && sep != '-' {
		return 0, 0, false
	}
	n++
	year, short := 0, false
	if year, ok = digits4(b[n:]); ok && year >= 1970 && year < 2200 {
		n += 4
	} else if year, ok = digits2(b[n:]); ok {
		year, short = 2000+year, true
		n += 2
	} else {
		return 0, 0, false
	}
	if b[n] == ',' {
		n++
	}
	if len(b) < n+len(" 8:00:00") || b[n] != ' ' {
		return 0, 0, false
	}
	n++
	of, width, ok := clock12(b[n:])
	if !ok {
		return 0, 0, false
	}
	n += width
	half := b[n-1]|0x20 == 'm'
	if short && !half {
		return 0, 0, false // Spark's year comes first
	}
	monthFirst, ok1 := civil(year, first, second)
	dayFirst, ok2 := civil(year, second, first)
	date, other := monthFirst, dayFirst
	if !ok1 || sep == '.' {
		date, ok1 = dayFirst, ok2
	}
	if !ok1 {
		return 0, 0, false
	}
	ms, end, ok := t.zoned(date+of, b, n)
	if ok && ok2 && !half && date != other {
		if ms2, _, _ := t.zoned(other+of, b, n); t.away(ms2) < t.away(ms) {
			ms = ms2
		}
	}
	return ms, end, ok
}

// away is how far a time lies back, in milliseconds; one that is more than a day ahead is
// farther than any other.
func (t *timeParser) away(ms int64) int64 {
	back := t.now().UnixMilli() - ms
	if back < -dayMS {
		return 1 << 62
	}
	return max(back, -back)
}

// oneOrTwo reads a number of one or two digits that ends before something else.
func oneOrTwo(b []byte) (val, n int) {
	for n < 3 && n < len(b) && b[n]-'0' < 10 {
		val = val*10 + int(b[n]-'0')
		n++
	}
	if n == 3 {
		return 0, 0
	}
	return val, n
}
