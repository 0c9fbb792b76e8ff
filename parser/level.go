package parser

import "github.com/tailwater/tailwater/record"

// maxLevelWord is the length of the longest level word, "informational".
const maxLevelWord = 13

// ParseLevel maps the level words and numbers of the usual loggers to a level:
// names in any case and length ("WARNING", "wrn", "SEVERE", "dpanic"), with slog's
// offsets ("INFO+2"), and numbers as levelNumber knows them. It says false for
// anything else, single letters too: see levelLetter.
func ParseLevel(b []byte) (record.Level, bool) {
	if len(b) == 0 || len(b) > maxLevelWord {
		return record.LevelNone, false
	}
	if c := b[0]; c >= '0' && c <= '9' {
		n := 0
		for _, c := range b {
			if c < '0' || c > '9' || n > 1e6 {
				return record.LevelNone, false
			}
			n = n*10 + int(c-'0')
		}
		return levelNumber(n)
	}
	if l, ok := levelWord(b); ok {
		return l, true
	}
	if equalFold(b, "log") { // NestJS, PostgreSQL; in a text the word is seldom a level
		return record.LevelInfo, true
	}
	return offsetLevel(b)
}

// levelWord is ParseLevel for words alone.
func levelWord(b []byte) (record.Level, bool) {
	if len(b) < 3 || len(b) > maxLevelWord {
		return record.LevelNone, false
	}
	var low [maxLevelWord]byte
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	switch string(low[:len(b)]) {
	case "trace", "trc", "trac", "trce", "debug", "debu", "dbg", "dbug", "fine", "finer", "finest", "verbose", "vrb", "silly",
		"debug1", "debug2", "debug3", "debug4", "debug5":
		return record.LevelDebug, true
	case "info", "inf", "information", "informational", "notice", "note", "config", "success":
		return record.LevelInfo, true
	case "warn", "warning", "wrn", "warnin":
		return record.LevelWarn, true
	case "error", "err", "erro", "eror", "severe", "fail":
		return record.LevelError, true
	case "fatal", "ftl", "fata", "critical", "crit", "crt", "emerg", "emergency", "alert", "panic", "pani", "pnc", "dpanic":
		return record.LevelFatal, true
	}
	return record.LevelNone, false
}

// offsetLevel reads slog's names of the levels in between, such as "DEBUG+1",
// "INFO+4" and "ERROR-2", by the numbers that slog gives them.
func offsetLevel(b []byte) (record.Level, bool) {
	at := len(b) - 1
	for at > 0 && b[at] >= '0' && b[at] <= '9' {
		at--
	}
	if at < 4 || at == len(b)-1 || len(b)-at > 3 || b[at] != '+' && b[at] != '-' {
		return record.LevelNone, false
	}
	n := 0
	for _, c := range b[at+1:] {
		n = n*10 + int(c-'0')
	}
	if b[at] == '-' {
		n = -n
	}
	word, ok := levelWord(b[:at])
	if !ok || word > record.LevelError {
		return record.LevelNone, false
	}
	switch n += 4 * (int(word) - int(record.LevelInfo)); {
	case n < 0:
		return record.LevelDebug, true
	case n < 4:
		return record.LevelInfo, true
	case n < 8:
		return record.LevelWarn, true
	}
	return record.LevelError, true
}

// levelNumber maps the numbers that stand for levels. The ranges of the systems that
// are told apart: syslog 0–7, pino and bunyan 10–60, monolog 100–600, and the
// level_value of logback 5000–40000.
func levelNumber(n int) (record.Level, bool) {
	switch {
	case n < 0:
	case n <= 7:
		return syslogLevel(n), true
	case n < 10:
	case n < 70: // pino
		return [...]record.Level{0, record.LevelDebug, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal}[n/10], true
	case n < 100:
	case n < 700 && n%50 == 0: // monolog: 250 is notice, 550 alert
		return [...]record.Level{0, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal, record.LevelFatal}[n/100], true
	case n == 5000, n == 10000:
		return record.LevelDebug, true
	case n == 20000:
		return record.LevelInfo, true
	case n == 30000:
		return record.LevelWarn, true
	case n == 40000:
		return record.LevelError, true
	}
	return record.LevelNone, false
}

// syslogLevel maps syslog's severity: 0 emergency to 7 debug.
func syslogLevel(severity int) record.Level {
	switch severity {
	case 0, 1, 2:
		return record.LevelFatal
	case 3:
		return record.LevelError
	case 4:
		return record.LevelWarn
	case 5, 6:
		return record.LevelInfo
	}
	return record.LevelDebug
}

// otelLevel maps OpenTelemetry's severity number: 1–24, four for each level, trace
// to fatal.
func otelLevel(n int) (record.Level, bool) {
	if n < 1 || n > 24 {
		return record.LevelNone, false
	}
	return [...]record.Level{record.LevelDebug, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal}[(n-1)/4], true
}

// pythonLevel maps the numbers of Python's logging: 10 DEBUG to 50 CRITICAL, which
// pino gives other names.
func pythonLevel(n int) (record.Level, bool) {
	if n < 1 || n > 59 {
		return record.LevelNone, false
	}
	return [...]record.Level{record.LevelDebug, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal}[n/10], true
}

// levelLetter maps the single letters with which klog, glog, Ruby, Android and
// others begin their lines. It is for places where nothing but a level can stand.
func levelLetter(c byte) (record.Level, bool) {
	switch c {
	case 'T', 'V', 'D':
		return record.LevelDebug, true
	case 'I', 'N':
		return record.LevelInfo, true
	case 'W':
		return record.LevelWarn, true
	case 'E':
		return record.LevelError, true
	case 'F', 'C', 'A', 'P':
		return record.LevelFatal, true
	}
	return record.LevelNone, false
}
