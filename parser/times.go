package parser

import (
	"encoding/binary"
	"time"
)

// Milliseconds of the units of time.
const (
	secondMS = 1000
	minuteMS = 60 * secondMS
	hourMS   = 60 * minuteMS
	dayMS    = 24 * hourMS
)

// timeParser reads the times of log lines. Times without a zone are of its zone.
// One goroutine at a time uses it: it remembers the last minute, which most lines
// share with the line before them.
//
// Its methods return Unix milliseconds and, where they read the head of a text, the
// number of bytes that the time takes. They are strict on ranges: there is no 30th
// of February, and no time ends inside a word.
type timeParser struct {
	zone *time.Location
	// now is the clock, for times that lack the year or the date.
	now func() time.Time

	// The last date and minute that iso read, as bytes and as if it were UTC.
	isoHead, isoTail uint64
	isoMinute        int64
	// The last minute, in Unix minutes as if it were UTC, that local looked up in
	// the zone, and what to subtract.
	localMinute, localOffset int64
}

func newTimeParser(zone *time.Location) timeParser {
	if zone == nil {
		zone = time.Local
	}
	t := timeParser{zone: zone, now: time.Now, localMinute: -1 << 63}
	t.iso([]byte("1970-01-01T00:00:00Z")) // so that what is remembered is a time
	return t
}

// parse reads a value that is a time as a whole: ISO 8601 and RFC 3339, Unix time in
// seconds, milli-, micro- or nanoseconds, the common log format, RFC 1123, ctime and
// others. A time of day alone is none.
func (t *timeParser) parse(b []byte) (int64, bool) {
	if len(b) < 9 || len(b) > 64 {
		return 0, false
	}
	if ms, n, ok := t.iso(b); ok {
		return ms, n == len(b)
	}
	if ms, ok := unixTime(b); ok {
		return ms, true
	}
	if ms, ok := t.dateOnly(b); ok {
		return ms, true
	}
	if ms, n, ok := t.yearLast(b); ok {
		return ms, n == len(b)
	}
	if ms, n, ok := t.named(b); ok {
		return ms, n == len(b)
	}
	return 0, false
}

// head reads the time at the head of a line of text: all forms but Unix times.
func (t *timeParser) head(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 8 {
		return 0, 0, false
	}
	if b[0] > '9' || b[0] < '0' {
		return t.named(b)
	}
	if ms, n, ok = t.iso(b); ok {
		return ms, n, true
	}
	switch {
	case b[2] == ':':
		return t.timeOfDay(b)
	case (b[2] == '-' || b[2] == '/') && b[5] == ' ':
		return t.monthDayDigits(b)
	}
	if ms, n, ok = t.yearLast(b); ok {
		return ms, n, true
	}
	if b[2] == '/' && b[5] == '/' {
		return t.shortYear(b)
	}
	return t.named(b)
}

// shortYear reads Spark's 26/11/23 20:00:00.
func (t *timeParser) shortYear(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 17 || b[8] != ' ' {
		return 0, 0, false
	}
	year, ok1 := digits2(b)
	month, ok2 := digits2(b[3:])
	day, ok3 := digits2(b[6:])
	date, ok4 := civil(2000+year, month, day)
	of, n, ok5 := clock(b[9:])
	if !(ok1 && ok2 && ok3 && ok4 && ok5) {
		return 0, 0, false
	}
	return t.zoned(date+of, b, 9+n)
}

// iso reads YYYY-MM-DD hh:mm[:ss][.fff][zone] at the head of b: also with slashes or
// dots in the date, with T or a space before the time, a comma before the fraction,
// and the basic form 20261123T200000.
func (t *timeParser) iso(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 15 {
		return 0, 0, false
	}
	if b[4]-'0' < 10 { // basic
		return t.isoBasic(b)
	}
	if len(b) < 16 {
		return 0, 0, false
	}
	head, tail := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if head == t.isoHead && tail == t.isoTail {
		ms = t.isoMinute
		if of, ok := plainSeconds(b); ok {
			return t.local(ms + of), len("2006-01-02 15:04:05.000"), true
		}
	} else {
		sep := b[4]
		if b[7] != sep || sep != '-' && sep != '/' && sep != '.' || b[10] != ' ' && b[10]|0x20 != 't' && b[10] != '_' || b[13] != ':' {
			return 0, 0, false
		}
		year, ok1 := digits4(b)
		month, ok2 := digits2(b[5:])
		day, ok3 := digits2(b[8:])
		hour, ok4 := digits2(b[11:])
		minute, ok5 := digits2(b[14:])
		if !(ok1 && ok2 && ok3 && ok4 && ok5) || hour > 23 || minute > 59 {
			return 0, 0, false
		}
		date, ok := civil(year, month, day)
		if !ok {
			return 0, 0, false
		}
		ms = date + int64(hour)*hourMS + int64(minute)*minuteMS
		t.isoHead, t.isoTail, t.isoMinute = head, tail, ms
	}
	n = 16
	if len(b) >= 19 && b[16] == ':' {
		second, ok := digits2(b[17:])
		if !ok || second > 60 {
			return 0, 0, false
		}
		frac, width := fraction(b[19:])
		ms += int64(second)*secondMS + frac
		n = 19 + width
	}
	return t.zoned(ms, b, n)
}

// plainSeconds reads :05.123 behind the minute at the head of b, in milliseconds, when
// a space and no zone follows: what most loggers write.
func plainSeconds(b []byte) (ms int64, ok bool) {
	if len(b) < 25 {
		return 0, false
	}
	b = b[16:25]
	if b[0] != ':' || b[3] != '.' && b[3] != ',' || b[7] != ' ' || b[8] == '+' || b[8] == '-' || b[8]|0x20 == 'z' || b[8] == 'U' || b[8] == 'G' {
		return 0, false
	}
	s1, s2, f1, f2, f3 := b[1]-'0', b[2]-'0', b[4]-'0', b[5]-'0', b[6]-'0'
	if s1 > 5 || s2 > 9 || f1 > 9 || f2 > 9 || f3 > 9 {
		return 0, false
	}
	return int64(s1)*10_000 + int64(s2)*1000 + int64(f1)*100 + int64(f2)*10 + int64(f3), true
}

// isoBasic reads 20261123T200000 and 20261123 20:00:00 with fraction and zone.
func (t *timeParser) isoBasic(b []byte) (ms int64, n int, ok bool) {
	year, ok1 := digits4(b)
	month, ok2 := digits2(b[4:])
	day, ok3 := digits2(b[6:])
	if !(ok1 && ok2 && ok3) || b[8] != ' ' && b[8] != 'T' && b[8] != '-' {
		return 0, 0, false
	}
	date, ok := civil(year, month, day)
	if !ok {
		return 0, 0, false
	}
	if b[11] == ':' {
		of, n, ok := clock(b[9:])
		if !ok {
			return 0, 0, false
		}
		return t.zoned(date+of, b, 9+n)
	}
	hour, ok1 := digits2(b[9:])
	minute, ok2 := digits2(b[11:])
	second, ok3 := digits2(b[13:])
	if !(ok1 && ok2 && ok3) || hour > 23 || minute > 59 || second > 60 {
		return 0, 0, false
	}
	frac, width := fraction(b[15:])
	return t.zoned(date+int64(hour)*hourMS+int64(minute)*minuteMS+int64(second)*secondMS+frac, b, 15+width)
}

// dateOnly reads YYYY-MM-DD as the midnight that begins it.
func (t *timeParser) dateOnly(b []byte) (int64, bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	year, ok1 := digits4(b)
	month, ok2 := digits2(b[5:])
	day, ok3 := digits2(b[8:])
	date, ok4 := civil(year, month, day)
	return t.local(date), ok1 && ok2 && ok3 && ok4
}

// dayMonthYear reads 23/Nov/2026:20:00:00, 23-Nov-2026 20:00:00.123 and
// 23 Nov 2026 20:00:00 with an optional zone.
func (t *timeParser) dayMonthYear(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 20 || b[2] != b[6] || b[2] != '/' && b[2] != '-' && b[2] != ' ' || b[11] != ':' && b[11] != ' ' {
		return 0, 0, false
	}
	day, ok1 := digits2(b)
	year, ok2 := digits4(b[7:])
	date, ok3 := civil(year, monthAbbr(b[3:]), day)
	of, n, ok4 := clock(b[12:])
	if !(ok1 && ok2 && ok3 && ok4) {
		return 0, 0, false
	}
	return t.zoned(date+of, b, 12+n)
}

// named reads the times that name their month: those of dayMonthYear, syslog's
// Nov 23 20:00:00, ctime's Mon Nov 23 20:00:00 2026, RFC 1123's
// Mon, 23 Nov 2026 20:00:00 GMT and Java's Nov 23, 2026 8:00:00 PM.
func (t *timeParser) named(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 14 {
		return 0, 0, false
	}
	if b[0] >= '0' && b[0] <= '9' {
		return t.dayMonthYear(b)
	}
	if month := monthAbbr(b); month > 0 {
		return t.monthDay(b, month)
	}
	if !weekday(b) {
		return 0, 0, false
	}
	switch {
	case b[3] == ' ':
		ms, n, ok = t.monthDay(b[4:], monthAbbr(b[4:]))
		return ms, n + 4, ok
	case b[3] == ',' && b[4] == ' ':
		ms, n, ok = t.dayMonthYear(b[5:])
		return ms, n + 5, ok
	}
	return 0, 0, false
}

// monthDay reads the times that begin with a month's name, month, such as syslog's.
func (t *timeParser) monthDay(b []byte, month int) (ms int64, n int, ok bool) {
	if month == 0 || len(b) < 14 || b[3] != ' ' {
		return 0, 0, false
	}
	n = 4
	if b[n] == ' ' {
		n++
	}
	day := int(b[n] - '0')
	if day > 9 {
		return 0, 0, false
	}
	n++
	if c := b[n] - '0'; c < 10 {
		day = day*10 + int(c)
		n++
	}
	year := 0
	if b[n] == ',' { // Nov 23, 2026 8:00:00 PM
		n++
	}
	if len(b) < n+9 || b[n] != ' ' {
		return 0, 0, false
	}
	n++
	if y, ok := digits4(b[n:]); ok && b[n+4] == ' ' {
		year = y
		n += 5
	}
	of, width, ok := clock12(b[n:])
	if !ok {
		return 0, 0, false
	}
	n += width
	if year > 0 {
		date, ok := civil(year, month, day)
		if !ok {
			return 0, 0, false
		}
		return t.zoned(date+of, b, n)
	}
	if year, width, ms, zoned := trailingYear(b[n:]); width > 0 {
		date, ok := civil(year, month, day)
		if zoned {
			return date + of - ms, n + width, ok
		}
		return t.local(date + of), n + width, ok
	}
	ms, ok = t.nearestYear(month, day, of)
	return ms, n, ok && !inWord(b, n)
}

// monthDayDigits reads 11-23 20:00:00.123 and 11/23 20:00:00, times without a year as
// Android and log4j's MM-dd write them.
func (t *timeParser) monthDayDigits(b []byte) (ms int64, n int, ok bool) {
	month, ok1 := digits2(b)
	day, ok2 := digits2(b[3:])
	of, n, ok3 := clock(b[6:])
	if !(ok1 && ok2 && ok3) || inWord(b, 6+n) {
		return 0, 0, false
	}
	ms, ok = t.nearestYear(month, day, of)
	return ms, 6 + n, ok
}

// trailingYear reads what follows the time in ctime's form, " 2026" or " UTC 2026".
func trailingYear(b []byte) (year, n int, offset int64, zoned bool) {
	if len(b) < 5 || b[0] != ' ' {
		return 0, 0, 0, false
	}
	n = 1
	if offset, width, ok := zoneSuffix(b[n:]); ok && len(b) >= n+width+5 && b[n+width] == ' ' {
		if year, ok := digits4(b[n+width+1:]); ok && !inWord(b, n+width+5) {
			return year, n + width + 5, offset, true
		}
	}
	if width := zoneAbbr(b[n:]); width > 0 && len(b) >= n+width+5 && b[n+width] == ' ' {
		if year, ok := digits4(b[n+width+1:]); ok && !inWord(b, n+width+5) {
			return year, n + width + 5, 0, false // as Java's Date has it
		}
	}
	if year, ok := digits4(b[n:]); ok && year >= 1970 && year < 2200 && !inWord(b, n+4) && (len(b) == n+4 || b[n+4] != ':') {
		return year, n + 4, 0, false
	}
	return 0, 0, 0, false
}

// nearestYear gives a date the year that brings it nearest to now, and never more
// than a day ahead. of are the milliseconds of the day.
func (t *timeParser) nearestYear(month, day int, of int64) (int64, bool) {
	now := t.now()
	year := now.In(t.zone).Year()
	limit := now.UnixMilli() + dayMS
	for y := year + 1; y >= year-4; y-- { // four years back, for the 29th of February
		if date, ok := civil(y, month, day); ok {
			if ms := t.local(date + of); ms <= limit {
				return ms, true
			}
		}
	}
	return 0, false
}

// timeOfDay reads 20:00:00.123 at the head of b. The day is the last that does not
// bring it more than an hour ahead of now, so that a backlog of hours is not taken
// for the future.
func (t *timeParser) timeOfDay(b []byte) (ms int64, n int, ok bool) {
	of, n, ok := clock(b)
	if !ok || inWord(b, n) {
		return 0, 0, false
	}
	now := t.now()
	year, month, day := now.In(t.zone).Date()
	date, _ := civil(year, int(month), day)
	for back := int64(-1); back <= 1; back++ {
		ms = t.local(date - back*dayMS + of)
		if ms <= now.UnixMilli()+hourMS {
			break
		}
	}
	return ms, n, true
}

// zoned takes ms, which b[:n] said, for a time of the zone that follows in b, and
// for a local one when none does.
func (t *timeParser) zoned(ms int64, b []byte, n int) (int64, int, bool) {
	if n == len(b) {
		return t.local(ms), n, true
	}
	at := n
	if b[n] == ' ' {
		at++
	}
	offset, width, ok := zoneSuffix(b[at:])
	if ok && at > n && b[at] != 'U' && b[at] != 'G' && width < 5 {
		ok = false // "20:00:00 -3 degrees": after a space, a zone is written in full
	}
	if ok {
		return ms - offset, at + width, true
	}
	return t.local(ms), n, !inWord(b, n)
}

// zoneSuffix reads Z, UTC, GMT, +hh:mm, +hhmm and +hh at the head of b.
func zoneSuffix(b []byte) (offset int64, n int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	switch b[0] {
	case 'Z', 'z':
		return 0, 1, !inWord(b, 1)
	case 'U', 'G':
		if len(b) < 3 || string(b[:3]) != "UTC" && string(b[:3]) != "GMT" {
			return 0, 0, false
		}
		return 0, 3, !inWord(b, 3)
	case '+', '-':
	default:
		return 0, 0, false
	}
	if len(b) < 3 {
		return 0, 0, false
	}
	hours, ok := digits2(b[1:])
	if !ok || hours > 18 {
		return 0, 0, false
	}
	offset, n = int64(hours)*hourMS, 3
	at := 3
	if at < len(b) && b[at] == ':' {
		at++
	}
	if at+2 <= len(b) {
		if minutes, ok := digits2(b[at:]); ok && minutes < 60 {
			offset += int64(minutes) * minuteMS
			n = at + 2
		}
	}
	if b[0] == '-' {
		offset = -offset
	}
	return offset, n, !inWord(b, n)
}

// zoneAbbr returns the length of the abbreviation of a zone's name that b begins with. What
// it means is not said: CST is a quarter of the world apart from CST.
func zoneAbbr(b []byte) int {
	n := 0
	for n < len(b) && n < 6 && isUpper(b[n]) {
		n++
	}
	switch string(b[:n]) {
	case "CST", "CDT", "CET", "CEST", "EST", "EDT", "PST", "PDT", "MST", "MDT", "BST", "IST", "JST", "KST", "HKT", "SGT", "MSK", "EET", "EEST",
		"WET", "WEST", "AEST", "AEDT", "ACST", "AWST", "NZST", "NZDT", "BRT", "ICT", "WIB", "PKT":
		return n
	}
	return 0
}

// local turns milliseconds that were read as if they were UTC into those of the
// zone. In an hour that the clocks skip or repeat it gives one of the two readings.
func (t *timeParser) local(ms int64) int64 {
	if t.zone == time.UTC {
		return ms
	}
	minute := ms / minuteMS
	if minute != t.localMinute {
		u := time.UnixMilli(minute * minuteMS).UTC()
		in := time.Date(u.Year(), u.Month(), u.Day(), u.Hour(), u.Minute(), 0, 0, t.zone)
		t.localMinute, t.localOffset = minute, minute*minuteMS-in.UnixMilli()
	}
	return ms - t.localOffset
}
