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
	s, ok := digits2(b[sec:])
	if !ok || s > 60 {
		return 0, false
	}
	if string(b[:sec]) == string(c.last[:sec]) && string(b[sec+2:]) == string(c.last[sec+2:]) {
		c.last[sec], c.last[sec+1] = b[sec], b[sec+1]
		c.ms = c.minute + int64(s)*secondMS
		return c.ms, true
	}
	day, ok1 := digits2(b)
	year, ok2 := digits4(b[7:])
	if !ok1 || !ok2 || b[2] != '/' || b[6] != '/' || b[11] != ':' || b[14] != ':' || b[17] != ':' || b[20] != ' ' {
		return 0, false
	}
	return c.keep(b, year, monthAbbr(b[3:]), day, b[12:], s, [5]byte(b[21:]))
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
	s, ok := digits2(b[sec:])
	if !ok || s > 60 {
		return 0, false
	}
	if string(b[:sec]) == string(c.last[:sec]) && string(b[sec+2:]) == string(c.last[sec+2:nginxISOLen]) {
		c.last[sec], c.last[sec+1] = b[sec], b[sec+1]
		c.ms = c.minute + int64(s)*secondMS
		return c.ms, true
	}
	year, ok1 := digits4(b)
	month, ok2 := digits2(b[5:])
	day, ok3 := digits2(b[8:])
	if !(ok1 && ok2 && ok3) || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[22] != ':' {
		return 0, false
	}
	return c.keep(b, year, month, day, b[11:], s, [5]byte{b[19], b[20], b[21], b[23], b[24]})
}

// keep works out a time from its parts, where hm begins with 20:00 and zone is +0000,
// and remembers it with its text.
func (c *nginxClock) keep(text []byte, year, month, day int, hm []byte, sec int, zone [5]byte) (ms int64, ok bool) {
	date, ok := civil(year, month, day)
	hour, ok1 := digits2(hm)
	minute, ok2 := digits2(hm[3:])
	east, ok3 := digits2(zone[1:])
	eastMin, ok4 := digits2(zone[3:])
	if !(ok && ok1 && ok2 && ok3 && ok4) || hour > 23 || minute > 59 || east > 23 || eastMin > 59 || zone[0] != '+' && zone[0] != '-' {
		return 0, false
	}
	offset := int64(east)*hourMS + int64(eastMin)*minuteMS
	if zone[0] == '-' {
		offset = -offset
	}
	c.last = [nginxLocalLen]byte{}
	copy(c.last[:], text)
	c.minute = date + int64(hour)*hourMS + int64(minute)*minuteMS - offset
	c.ms = c.minute + int64(sec)*secondMS
	return c.ms, true
}
