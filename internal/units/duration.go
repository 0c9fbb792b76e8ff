package units

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a duration such as 10s, 1m30s, 250ms or 7d: the syntax of
// time.ParseDuration with days (of 24 hours) in front. It is never negative. The
// error says what to write instead.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative; write a duration such as 10s", s)
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && text != "0" {
		return 0, fmt.Errorf("%q has no unit; write %ss for seconds, or another of ms, s, m, h, d", s, text)
	}
	var days time.Duration
	rest := text
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil {
			return 0, notDuration(s)
		}
		const most = uint64(1<<63-1) / uint64(24*time.Hour)
		if n > most {
			return 0, tooLong(s)
		}
		days, rest = time.Duration(n)*24*time.Hour, tail
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		return 0, notDuration(s)
	}
	if d += days; d < days {
		return 0, tooLong(s)
	}
	return d, nil
}

func notDuration(s string) error {
	return fmt.Errorf("%q is not a duration; write one such as 10s, 1m30s or 7d", s)
}

func tooLong(s string) error { return fmt.Errorf("%q is too long; the most is 106751d", s) }

// FormatDuration writes a duration as people write it, in a form that ParseDuration
// reads back: 1h and not 1h0m0s, 7d and not 168h.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	if d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
