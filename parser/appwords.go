package parser

import (
	"bytes"

	"github.com/tailwater/tailwater/record"
)

// word reads a word of the head: the level, or the name of a thread, a logger or a
// place in the source.
func (p *appParser) word(i int) int {
	if p.level == record.LevelNone {
		if next, ok := p.levelAt(i); ok {
			return next
		}
	}
	end := i
	for end < len(p.b) && p.b[end] > ' ' && p.b[end] != '|' {
		end++
	}
	w := p.b[i:end]
	if len(w) > 120 || bytes.IndexByte(w, '=') >= 0 {
		return -1 // pairs, which are the message
	}
	if p.level != record.LevelNone {
		return p.nameBehind(w, end)
	}
	if !p.hasTime {
		return -1
	}
	return p.nameBefore(w, end)
}

// nameBefore takes a word between the time and the level.
func (p *appParser) nameBefore(w []byte, end int) int {
	next := p.blank(end)
	switch {
	case w[len(w)-1] == ':' && isCaller(w[:len(w)-1]): // Go's log with Lshortfile
		p.maybe.caller = w[:len(w)-1]
		return p.sure(end)
	case w[len(w)-1] == ':' && p.channel(w[:len(w)-1]):
		return p.end(end)
	case hasPrefix(w, "PHP") && end < len(p.b):
		return p.php(next)
	case p.doubt:
		return -1
	case hasPrefix(p.b[next:], "- ") || hasPrefix(p.b[next:], "| "):
		p.maybe.logger = w
		return next + 1
	case string(w) == "main", isNamePart(w):
		if p.hasNoThread() {
			p.maybe.thread = w
			return end
		}
	}
	// One word may be a name; the level behind it must then be plain to see.
	p.doubt = true
	p.keep(end - len(w))
	return end
}

// nameBehind takes a word behind the level: a logger when a separator follows that only
// a logger has.
func (p *appParser) nameBehind(w []byte, end int) int {
	next := p.blank(end)
	rest := p.b[next:]
	dotted := isDotted(w)
	switch {
	case p.maybe.logger != nil && !isCaller(w):
		return -1
	case isCaller(w):
		p.maybe.caller = w
		if end < len(p.b) && p.b[end] == '\t' { // zap
			return p.end(end)
		}
		if hasPrefix(rest, "- ") || hasPrefix(rest, ": ") {
			return p.end(next + 2)
		}
		return -1
	case w[len(w)-1] == ':':
		w = w[:len(w)-1]
		if isCaller(w) {
			p.maybe.caller = w
			return p.end(end)
		}
		if isDotted(w) && !isThrowable(w) {
			p.maybe.logger = w
			return p.end(end)
		}
	case hasPrefix(rest, "- "), hasPrefix(rest, ": "):
		if dotted && !isThrowable(w) || p.found.thread != nil || p.maybe.thread != nil {
			p.maybe.logger = w
			return p.end(next + 2)
		}
	case hasPrefix(rest, "[") && (dotted || p.found.thread != nil) && !p.doubt:
		// c.e.Foo [req-7] - message: believed when the separator comes.
		p.maybe.logger = w
		p.doubt = true
		return next
	case end < len(p.b) && p.b[end] == '\t' && p.msg > 0 && p.b[p.msg-1] == '\t' && p.maybe.logger == nil:
		p.maybe.logger = w // zap; believed when the place in the source comes
		p.doubt = true
		return end
	}
	return -1
}

// levelAt reads the level at i, where a word begins. It must stand there as loggers
// write it: in capitals, or before a colon or a tab.
func (p *appParser) levelAt(i int) (next int, ok bool) {
	end := i
	upper, lower := false, false
	for end < len(p.b) && end-i <= maxLevelWord && isLetter(p.b[end]) {
		if isUpper(p.b[end]) {
			upper = true
		} else {
			lower = true
		}
		end++
	}
	for w := end; w < len(p.b) && w-end < 3 && (p.b[w] == '+' || p.b[w] == '-' || p.b[w]-'0' < 10); w++ {
		if p.b[w]-'0' < 10 && (w+1 == len(p.b) || p.b[w+1]-'0' > 9) {
			end = w + 1 // INFO+2, DEBUG1
		}
	}
	var after byte
	if end < len(p.b) {
		after = p.b[end]
	}
	w := p.b[i:end]
	if len(w) == 1 {
		return p.letterAt(i, after)
	}
	if after == '=' {
		return p.pairLevel(i, end)
	}
	level, ok := levelWord(w)
	if !ok {
		if level, ok = offsetLevel(w); !ok {
			return p.postgresLog(w, end)
		}
	}
	switch {
	case !lower:
		return p.capitals(i, end, after, level)
	case after == '\t' && p.hasTime && !p.doubt: // zap
		p.level = level
		return p.commit(end), true
	case after == ':':
		return p.beforeColon(i, end, level, upper)
	case after == ' ' && i == p.afterTime:
		return p.bareLevel(i, end, level)
	}
	return 0, false
}

// capitals takes a level in capitals.
func (p *appParser) capitals(i, end int, after byte, level record.Level) (next int, ok bool) {
	switch after {
	case 0, ' ', '\t', '|', ']', ')':
		if p.doubt && after != '|' || !p.hasTime && !isPlainLevel(p.b[i:end]) {
			return 0, false
		}
		p.level = level
		if after == ']' || after == ')' {
			end++
		}
		return p.commit(end), true
	case ':':
		p.level = level
		if rest := p.b[end+1:]; !p.hasTime && i == 0 && len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' {
			// Python's WARNING:name:message
			if n := bytes.IndexByte(rest[:min(len(rest), 64)], ':'); n > 0 && bytes.IndexByte(rest[:n], ' ') < 0 {
				p.found.logger = rest[:n]
				return p.end(end + 1 + n + 1), true
			}
		}
		return p.commit(end + 1), true
	case '[': // logrus on a terminal: INFO[0001] message
		n := bytes.IndexByte(p.b[end:min(len(p.b), end+40)], ']')
		if n < 0 || p.hasTime {
			break
		}
		in := p.b[end+1 : end+n]
		if ms, width, ok := p.times.head(in); ok && width == len(in) {
			p.ms, p.hasTime = ms, true
		} else if !allDigits(in) {
			break
		}
		p.level = level
		return p.end(end + n + 1), true
	}
	if after == '[' && !p.doubt {
		p.level = level
		return p.commit(end), true
	}
	return 0, false
}

// beforeColon takes a level in small letters, or with a capital one, before a colon.
func (p *appParser) beforeColon(i, end int, level record.Level, upper bool) (next int, ok bool) {
	w := p.b[i:end]
	if p.doubt || i > 0 && !p.hasTime || end+1 < len(p.b) && p.b[end+1] != ' ' && p.b[end+1] != '\t' {
		return 0, false
	}
	switch {
	case upper || string(w) == "panic":
		// "Error: no route", "panic: nil map": the word is part of what they say.
		if !isPlainLevel(w) {
			return 0, false
		}
		p.level = level
		p.done = true
		return p.commit(i), true
	case string(w) == "fail", string(w) == "crit", string(w) == "dbug", string(w) == "trce", string(w) == "info", string(w) == "warn":
		p.level = level
		if p.dotnet(end + 1) {
			return p.msg, true
		}
	case !isPlainLevel(w) && !p.hasTime:
		return 0, false
	}
	p.level = level
	return p.commit(end + 1), true
}

// bareLevel takes a word in small letters right behind the time. It may well begin the
// message ("error connecting to x"), where it stays; but a line that could be less
// than a warning keeps its level unknown, as one that is known may be dropped.
func (p *appParser) bareLevel(i, end int, level record.Level) (next int, ok bool) {
	if !isPlainLevel(p.b[i:end]) {
		return 0, false
	}
	if end+1 < len(p.b) && (p.b[end+1] == ' ' || p.b[end+1] == '[') { // padded to a column
		p.level = level
		return p.commit(end), true
	}
	if w := p.b[i:end]; !equalFold(w, "error") && !equalFold(w, "fatal") && level != record.LevelWarn {
		return 0, false // "info about x", "critical section"
	}
	p.level, p.done = level, true
	return i, true
}

// letterAt takes a letter for the level: E/Tag: message, I | message, W NETWORK [..].
func (p *appParser) letterAt(i int, after byte) (next int, ok bool) {
	level, ok := levelLetter(p.b[i])
	if !ok || p.b[i] == 'A' || p.b[i] == 'P' || p.doubt {
		return 0, false
	}
	if after == '/' && !p.hasTime && i == 0 || after == '/' && p.hasTime {
		n := bytes.IndexByte(p.b[i:min(len(p.b), i+64)], ':')
		if n < 3 || bytes.IndexByte(p.b[i:i+n], '/') != 1 {
			return 0, false
		}
		name := p.b[i+2 : i+n]
		if open := bytes.IndexByte(name, '('); open > 0 && name[len(name)-1] == ')' {
			p.found.pid = bytes.TrimSpace(name[open+1 : len(name)-1])
			name = name[:open]
		}
		p.level = level
		p.found.logger = bytes.TrimSpace(name)
		return p.end(i + n + 1), true
	}
	if after != ' ' || !p.hasTime {
		return 0, false
	}
	if i == p.afterTime && (p.b[i] == 'E' || p.b[i] == 'W' || p.b[i] == 'F') { // which no sentence begins with
		p.level = level
		return p.commit(i + 1), true
	}
	// A sentence may begin with "I" or "A".
	rest := p.b[p.blank(i+1):]
	if len(rest) > 1 && (rest[0] == '|' || rest[0] == '[' || isUpper(rest[0]) && isUpper(rest[1])) {
		p.level = level
		return p.commit(i + 1), true
	}
	return 0, false
}

// pairLevel takes level=error.
func (p *appParser) pairLevel(i, end int) (next int, ok bool) {
	switch string(p.b[i:end]) {
	case "level", "lvl", "severity", "loglevel", "LEVEL":
	default:
		return 0, false
	}
	from := end + 1
	to := from
	for to < len(p.b) && p.b[to] > ' ' && p.b[to] != ',' && p.b[to] != ';' {
		to++
	}
	level, ok := ParseLevel(bytes.Trim(p.b[from:to], `"'`))
	if !ok {
		return 0, false
	}
	p.level = level
	if p.doubt || p.msg != i {
		p.done = true
		return i, true
	}
	return p.commit(to), true
}

// postgresLog takes PostgreSQL's LOG: for information, behind its process.
func (p *appParser) postgresLog(w []byte, end int) (next int, ok bool) {
	if string(w) != "LOG" || !hasPrefix(p.b[end:], ":  ") || p.found.pid == nil {
		return 0, false
	}
	p.level = record.LevelInfo
	return p.commit(end + 1), true
}

// php takes the levels that PHP names behind its own name; i is where they begin.
func (p *appParser) php(i int) int {
	rest := p.b[i:]
	for _, l := range []struct {
		words string
		level record.Level
	}{
		{"Fatal error:", record.LevelFatal}, {"Parse error:", record.LevelFatal}, {"Recoverable fatal error:", record.LevelError},
		{"Warning:", record.LevelWarn}, {"Deprecated:", record.LevelWarn}, {"Notice:", record.LevelInfo},
	} {
		if hasPrefix(rest, l.words) {
			p.level = l.level
			return p.end(i + len(l.words))
		}
	}
	return -1
}

// isPlainLevel tells whether a word that can be a level is seldom anything else.
func isPlainLevel(w []byte) bool {
	if len(w) < 4 {
		return len(w) == 3 && (string(w) == "ERR" || string(w) == "WRN" || string(w) == "INF" || string(w) == "DBG" || string(w) == "FTL" || string(w) == "err")
	}
	switch w[0] | 0x20 {
	case 't':
		return equalFold(w, "trace")
	case 'd':
		return equalFold(w, "debug")
	case 'i':
		return equalFold(w, "info")
	case 'w':
		return equalFold(w, "warn") || equalFold(w, "warning")
	case 'e':
		return equalFold(w, "error")
	case 'f':
		return equalFold(w, "fatal")
	case 'c':
		return equalFold(w, "critical")
	case 's':
		return equalFold(w, "severe")
	case 'p':
		return equalFold(w, "panic")
	}
	return false
}

// equalFold compares with a word in small letters.
func equalFold(w []byte, word string) bool {
	if len(w) != len(word) {
		return false
	}
	for i := range w {
		if w[i]|0x20 != word[i] {
			return false
		}
	}
	return true
}

func isLevelWord(w []byte) bool {
	_, ok := levelWord(w)
	return ok
}

func isOffsetLevel(w []byte) bool {
	_, ok := offsetLevel(w)
	return ok
}

func allDigits(w []byte) bool {
	for _, c := range w {
		if c-'0' > 9 {
			return false
		}
	}
	return len(w) > 0 && len(w) <= 10
}

func leadingDigits(w []byte) []byte {
	n := 0
	for n < len(w) && n < 10 && w[n]-'0' < 10 {
		n++
	}
	return w[:n]
}

// isThread tells whether a name in brackets is a thread's: main, http-nio-8080-exec-1,
// pool-2-thread-1, Thread-7, MainThread.
func isThread(w []byte) bool {
	if string(w) == "main" || string(w) == "MainThread" {
		return true
	}
	n := len(w)
	for n > 0 && w[n-1]-'0' < 10 {
		n--
	}
	if n == len(w) || n < 3 || w[n-1] != '-' && w[n-1] != '#' || bytes.IndexByte(w, ' ') >= 0 {
		return false
	}
	return isLetter(w[0]) && !isUpper(w[1]) // [MY-010068] is a code
}

// isNamePart tells whether a word has what words of a sentence seldom have inside.
func isNamePart(w []byte) bool {
	if !isLetter(w[0]) || w[len(w)-1] == ',' || w[len(w)-1] == '.' || w[len(w)-1] == ':' {
		return false
	}
	for _, c := range w[1:] {
		switch c {
		case '.', '-', '_', '#', '/', ':':
			return true
		}
	}
	return false
}

// isDotted tells whether w is the name of a logger made of parts: c.e.Foo, my::crate,
// app/models, module:function:7.
func isDotted(w []byte) bool {
	if len(w) < 3 || !isLetter(w[0]) && w[0] != '_' {
		return false
	}
	border := false
	for i, c := range w {
		switch {
		case isWord(c) || c == '-' || c == '<' || c == '>':
		case c == '.' || c == ':' || c == '/' || c == '$':
			if i+1 == len(w) {
				return false
			}
			border = true
		default:
			return false
		}
	}
	return border
}

// isThrowable tells whether a dotted name is an exception's and not a logger's.
func isThrowable(w []byte) bool {
	switch w[len(w)-1] {
	case 'n':
		return hasSuffix(w, "Exception")
	case 'r':
		return hasSuffix(w, "Error")
	case 'e':
		return hasSuffix(w, "Throwable") || hasSuffix(w, "Failure")
	}
	return false
}

func hasSuffix(w []byte, end string) bool {
	return len(w) >= len(end) && string(w[len(w)-len(end):]) == end
}

// isCaller tells whether w is a place in the source: file.go:12.
func isCaller(w []byte) bool {
	n := len(w)
	for n > 0 && w[n-1]-'0' < 10 {
		n--
	}
	if n == len(w) || n < 4 || w[n-1] != ':' {
		return false
	}
	dot := bytes.LastIndexByte(w[:n-1], '.')
	if dot <= 0 || n-1-dot > 6 || n-1-dot < 2 {
		return false
	}
	for _, c := range w[dot+1 : n-1] {
		if !isLetter(c) {
			return false
		}
	}
	for _, c := range w[:dot] {
		if c <= ' ' || c == '[' || c == '(' || c == '"' {
			return false
		}
	}
	return true
}
