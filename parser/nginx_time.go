package parser

const (
	nginxLocalLen = len("23/Nov/2026:20:00:00 +0000")
	nginxISOLen   = len("2026-11-23T20:00:00+00:00")
)

// nginxClock reads the forms in which nginx writes the time. Lines of one second come
// together, and so do seconds of one minute: it works out only what changed.
type nginxClock struct {
	last   [nginxLocalLen]byte // the text of the last time read
	ms     int64               // what it said, in Unix milliseconds
	minute int64               // the same without its seconds
}

// local reads $time_local, 26 bytes as in 23/Nov/2026:20:00:00 +0000.
func (c *nginxClock) local(b []byte) (ms int64, ok bool) {
	if len(b) != nginxLocalLen {
		return 0, false
	}
	if string(b) == string(c.last[:]) {
		return c.ms, true
	}
	const sec = len("23/Nov/2026:20:00:")
	s, ok := twoDigits(b, sec)
	if !ok || s > 60 {
		return 0, false
	}
	if string(b[:sec]) == string(c.last[:sec]) && string(b[sec+2:]) == string(c.last[sec+2:]) {
		c.last[sec], c.last[sec+1] = b[sec], b[sec+1]
		c.ms = c.minute + int64(s)*1000
		return c.ms, true
	}
	day, ok1 := twoDigits(b, 0)
	month, ok2 := monthNamed(b[3:6])
	century, ok3 := twoDigits(b, 7)
	year, ok4 := twoDigits(b, 9)
	if !(ok1 && ok2 && ok3 && ok4) || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' || b[20] != ' ' {
		return 0, false
	}
	return c.keep(b, century*100+year, month, day, b[12:17], s, b[21:])
}

// iso reads $time_iso8601, 25 bytes as in 2026-11-23T20:00:00+00:00.
func (c *nginxClock) iso(b []byte) (ms int64, ok bool) {
	if len(b) != nginxISOLen {
		return 0, false
	}
	if string(b) == string(c.last[:nginxISOLen]) {
		return c.ms, true
	}
	const sec = len("2026-11-23T20:00:")
	s, ok := twoDigits(b, sec)
	if !ok || s > 60 {
		return 0, false
	}
	if string(b[:sec]) == string(c.last[:sec]) && string(b[sec+2:]) == string(c.last[sec+2:nginxISOLen]) {
		c.last[sec], c.last[sec+1] = b[sec], b[sec+1]
		c.ms = c.minute + int64(s)*1000
		return c.ms, true
	}
	century, ok1 := twoDigits(b, 0)
	year, ok2 := twoDigits(b, 2)
	month, ok3 := twoDigits(b, 5)
	day, ok4 := twoDigits(b, 8)
	if !(ok1 && ok2 && ok3 && ok4) || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[22] != ':' {
		return 0, false
	}
	zone := [5]byte{b[19], b[20], b[21], b[23], b[24]}
	return c.keep(b, century*100+year, month, day, b[11:16], s, zone[:])
}

// keep works out a time from its parts, where hm is 20:00 and zone is +0000, and
// remembers it with its text.
func (c *nginxClock) keep(text []byte, year, month, day int, hm []byte, sec int, zone []byte) (ms int64, ok bool) {
	hour, ok1 := twoDigits(hm, 0)
	minute, ok2 := twoDigits(hm, 3)
	east, ok3 := twoDigits(zone, 1)
	eastMin, ok4 := twoDigits(zone, 3)
	if !(ok1 && ok2 && ok3 && ok4) || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || east > 23 || eastMin > 59 || zone[0] != '+' && zone[0] != '-' {
		return 0, false
	}
	offset := int64(east*60+eastMin) * 60
	if zone[0] == '-' {
		offset = -offset
	}
	c.last = [nginxLocalLen]byte{}
	copy(c.last[:], text)
	c.minute = (unixDays(year, month, day)*86400 + int64(hour)*3600 + int64(minute)*60 - offset) * 1000
	c.ms = c.minute + int64(sec)*1000
	return c.ms, true
}

func twoDigits(b []byte, at int) (int, bool) {
	hi, lo := b[at]-'0', b[at+1]-'0'
	return int(hi)*10 + int(lo), hi <= 9 && lo <= 9
}

// monthNamed returns 1 for Jan and so on.
func monthNamed(b []byte) (int, bool) {
	switch string(b) {
	case "Jan":
		return 1, true
	case "Feb":
		return 2, true
	case "Mar":
		return 3, true
	case "Apr":
		return 4, true
	case "May":
		return 5, true
	case "Jun":
		return 6, true
	case "Jul":
		return 7, true
	case "Aug":
		return 8, true
	case "Sep":
		return 9, true
	case "Oct":
		return 10, true
	case "Nov":
		return 11, true
	case "Dec":
		return 12, true
	}
	return 0, false
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// unixDays returns the days from 1970-01-01 to a date of the Gregorian calendar
// (counting years from March puts the leap day at a year's end).
func unixDays(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	return int64(year*365+year/4-year/100+year/400+(153*(month-3)+2)/5+day-1) - 719468
}
