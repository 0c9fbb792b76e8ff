package parser

// unixTime reads a number, with or without a fraction or an exponent, as Unix time.
// What it counts is told by its size: seconds up to the year 5138, then milli-,
// micro- and nanoseconds; less than three years after 1970 is no time.
func unixTime(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 32 {
		return 0, false
	}
	var whole, frac int64
	i := 0
	for ; i < len(b) && b[i]-'0' < 10; i++ {
		if i >= 19 {
			return 0, false
		}
		whole = whole*10 + int64(b[i]-'0')
	}
	if i == 0 || whole < 0 {
		return 0, false
	}
	if i < len(b) && b[i] == '.' {
		start := i + 1
		for i++; i < len(b) && b[i]-'0' < 10; i++ {
			if i-start < 9 {
				frac = frac*10 + int64(b[i]-'0')
			}
		}
		for digits := i - start; digits < 9; digits++ {
			frac *= 10
		}
	}
	if i < len(b) {
		f, ok := parseFloat(b) // 1.7957232e9
		if !ok || f < 1e8 || f >= 9e18 {
			return 0, false
		}
		whole = int64(f)
		frac = int64((f - float64(whole)) * 1e9)
	}
	switch {
	case whole < 1e8:
		return 0, false
	case whole < 1e11:
		// Half a microsecond on top: a float's .123 may be written .1229999.
		return whole*1000 + min((frac+500)/1e6, 999), true
	case whole < 1e14:
		return whole, true
	case whole < 1e17:
		return whole / 1e3, true
	}
	return whole / 1e6, true
}

// civil returns midnight of a date in Unix milliseconds, as if it were UTC, by
// counting days from March on, so that the leap day comes last.
func civil(year, month, day int) (int64, bool) {
	if year < 1 || month < 1 || month > 12 || day < 1 || day > 28 && day > daysOfMonth(year, month) {
		return 0, false
	}
	y, m := year, month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	days := y*365 + y/4 - y/100 + y/400 + (m*153+2)/5 + day - 1
	return int64(days-719468) * dayMS, true
}

func daysOfMonth(year, month int) int {
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

// clock reads hh:mm:ss[.fff] at the head of b as milliseconds of the day.
func clock(b []byte) (ms int64, n int, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return 0, 0, false
	}
	hour, ok1 := digits2(b)
	minute, ok2 := digits2(b[3:])
	second, ok3 := digits2(b[6:])
	if !(ok1 && ok2 && ok3) || hour > 23 || minute > 59 || second > 60 {
		return 0, 0, false
	}
	frac, width := fraction(b[8:])
	return int64(hour)*hourMS + int64(minute)*minuteMS + int64(second)*secondMS + frac, 8 + width, true
}

// clock12 is clock, and reads 8:00:00 PM too.
func clock12(b []byte) (ms int64, n int, ok bool) {
	var padded [8]byte
	short := 0
	if len(b) >= 7 && b[1] == ':' {
		padded[0] = '0'
		copy(padded[1:], b[:7])
		ms, _, ok = clock(padded[:])
		frac, width := fraction(b[7:])
		ms += frac
		n, short = 7+width, 1
	} else {
		ms, n, ok = clock(b)
	}
	if !ok {
		return 0, 0, false
	}
	if afternoon, width := halfDay(b[n:]); width > 0 && ms < 13*hourMS && ms >= hourMS {
		ms %= 12 * hourMS
		if afternoon {
			ms += 12 * hourMS
		}
		return ms, n + width, true
	}
	return ms, n, short == 0
}

// halfDay reads AM or PM at the head of b; n is 0 when it says neither. The blank before
// it may be a narrow no-break one, which Java and Node write since version 20.
func halfDay(b []byte) (afternoon bool, n int) {
	for _, blank := range [...]string{" ", "\u202f", "\u00a0"} {
		if hasPrefix(b, blank) {
			n = len(blank)
		}
	}
	if len(b) < n+2 || b[n+1]|0x20 != 'm' || inWord(b, n+2) || len(b) > n+2 && (b[n+2] == '-' || b[n+2] == '.') {
		return false, 0
	}
	switch b[n] {
	case 'A', 'a':
		return false, n + 2
	case 'P', 'p':
		return true, n + 2
	}
	return false, 0
}

// fraction reads .123456 or ,123 at the head of b, in milliseconds cut, not rounded.
func fraction(b []byte) (ms int64, n int) {
	if len(b) < 2 || b[0] != '.' && b[0] != ',' || b[1]-'0' > 9 {
		return 0, 0
	}
	scale := int64(100)
	for n = 1; n < len(b) && b[n]-'0' < 10; n++ {
		ms += int64(b[n]-'0') * scale
		scale /= 10
	}
	return ms, n
}

func digits2(b []byte) (int, bool) {
	hi, lo := b[0]-'0', b[1]-'0'
	return int(hi)*10 + int(lo), hi < 10 && lo < 10
}

func digits4(b []byte) (int, bool) {
	if len(b) < 4 {
		return 0, false
	}
	hi, ok1 := digits2(b)
	lo, ok2 := digits2(b[2:])
	return hi*100 + lo, ok1 && ok2
}

// monthAbbr returns the month (1–12) whose three letters b begins with, or 0.
func monthAbbr(b []byte) int {
	if len(b) < 3 {
		return 0
	}
	switch string(b[:3]) {
	case "Jan":
		return 1
	case "Feb":
		return 2
	case "Mar":
		return 3
	case "Apr":
		return 4
	case "May":
		return 5
	case "Jun":
		return 6
	case "Jul":
		return 7
	case "Aug":
		return 8
	case "Sep":
		return 9
	case "Oct":
		return 10
	case "Nov":
		return 11
	case "Dec":
		return 12
	}
	return 0
}

func weekday(b []byte) bool {
	switch string(b[:3]) {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}

// inWord tells whether a word or number goes on at b[n].
func inWord(b []byte, n int) bool {
	return n < len(b) && (b[n]-'0' < 10 || b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z' || b[n] == '_')
}
