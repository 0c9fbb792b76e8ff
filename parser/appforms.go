package parser

import (
	"bytes"

	"github.com/tailwater/tailwater/record"
)

// special reads the heads that have a form of their own. It says true when nothing of
// the head is left.
func (p *appParser) special() bool {
	b := p.b
	switch c := b[0]; {
	case c == '<':
		return p.priority()
	case c == ' ' || c == '\t':
		return true // it goes on with a line that is not here
	case isUpper(c) && len(b) > 20 && b[1]-'0' < 10:
		return p.klog()
	case isUpper(c) && hasPrefix(b[1:], ", ["):
		p.ruby()
	case c == '[' && hasPrefix(b, nestHead):
		return p.nest()
	case c == '[' && hasPrefix(b, ginHead):
		return p.gin()
	case c == '[':
		p.epoch(1)
	case c-'0' < 10:
		if p.redis() {
			return true
		}
		p.epoch(0)
	case c == 'p' && hasPrefix(b, "panic: "), c == 'f' && hasPrefix(b, "fatal error: "):
		p.level = record.LevelFatal // Go
		return true
	case c == 'T' && hasPrefix(b, pythonHead), c == 'E' && hasPrefix(b, "Exception in thread "), c == 'U' && hasPrefix(b, "Unhandled exception. "):
		p.level = record.LevelError
		return true
	}
	return false
}

// klog reads the head of klog and glog, Lmmdd hh:mm:ss.uuuuuu pid file:line] msg (k8s.io/klog).
func (p *appParser) klog() bool {
	b := p.b
	level, ok := levelLetter(b[0])
	month, ok1 := digits2(b[1:])
	day, ok2 := digits2(b[3:])
	if !ok || !ok1 || !ok2 || b[5] != ' ' {
		return false
	}
	of, n, ok := clock(b[6:])
	if !ok {
		return false
	}
	ms, ok := p.times.nearestYear(month, day, of)
	end := bytes.IndexByte(b[:min(len(b), 160)], ']')
	if !ok || end < 6+n {
		return false
	}
	p.level, p.ms, p.hasTime = level, ms, true
	pid := bytes.TrimLeft(b[6+n:end], " ")
	p.found.pid = leadingDigits(pid)
	if caller := bytes.TrimLeft(pid[len(p.found.pid):], " "); isCaller(caller) {
		p.found.caller = caller
	}
	p.end(end + 1)
	return true
}

// ruby reads the head of Ruby's Logger up to its level's letter; the rest is a head
// like others: E, [2026-11-23T20:00:00.123456 #123] ERROR -- name: msg.
func (p *appParser) ruby() {
	if level, ok := levelLetter(p.b[0]); ok {
		p.bracket(3)
		if p.hasTime {
			if next, ok := p.levelAt(p.msg); !ok {
				p.level = level
			} else {
				p.msg = next
			}
		} else {
			p.appHead = appHead{afterTime: -1}
		}
	}
}

const nestHead = "[Nest] "

// nestError stands in the head of an error, whose trace follows on lines of its own.
var nestError = []byte(" ERROR [")

// nest reads the head of NestJS's console, [Nest] 123  - 11/23/2026, 8:00:00 PM     LOG [Name] msg
// (console-logger.service.ts), whose date is written as the process's locale has it.
func (p *appParser) nest() bool {
	i := p.blank(len(nestHead))
	pid := leadingDigits(p.b[i:])
	i = p.blank(i + len(pid))
	if len(pid) == 0 || !hasPrefix(p.b[i:], "- ") {
		return false
	}
	i = p.blank(i + 2)
	ms, n, ok := p.times.head(p.b[i:])
	if !ok {
		return false
	}
	i = p.blank(i + n)
	word := i
	for word < len(p.b) && isUpper(p.b[word]) {
		word++
	}
	if level, ok := ParseLevel(p.b[i:word]); ok {
		p.level = level
		i = p.blank(word)
	}
	if n := bytes.IndexByte(p.b[i:min(len(p.b), i+100)], ']'); n > 1 && p.b[i] == '[' {
		p.maybe.context = p.b[i+1 : i+n]
		i += n + 1
	}
	p.ms, p.hasTime, p.found.pid = ms, true, pid
	p.end(i)
	return true
}

const ginHead = "[GIN] "

// gin reads the head of Gin's access lines, [GIN] 2026/11/23 - 20:00:00 | 200 | 1.2ms | 10.0.0.1 | GET "/x".
func (p *appParser) gin() bool {
	const date = len("2006/01/02")
	i := len(ginHead)
	if len(p.b) < i+date+len(" - 15:04:05") || !hasPrefix(p.b[i+date:], " - ") {
		return false
	}
	var text [date + len(" 15:04:05")]byte
	n := copy(text[:], p.b[i:i+date+1])
	copy(text[n:], p.b[i+date+len(" - "):])
	ms, width, ok := p.times.iso(text[:])
	if !ok || width != len(text) {
		return false
	}
	p.ms, p.hasTime, p.maybe.context = ms, true, ginName
	p.end(i + date + len(" - 15:04:05"))
	return true
}

var ginName = []byte("GIN")

// channel takes Monolog's channel and level, production.ERROR, when that is what w is.
func (p *appParser) channel(w []byte) bool {
	dot := bytes.LastIndexByte(w, '.')
	if dot <= 0 || dot+1 == len(w) || !isUpper(w[dot+1]) || !isUpper(w[len(w)-1]) || p.doubt {
		return false
	}
	level, ok := levelWord(w[dot+1:])
	if ok {
		p.level, p.maybe.logger = level, w[:dot]
	}
	return ok
}

// epoch reads a Unix time, which begins at i, before what is a head like others:
// 1795464000.123 ERROR msg, [1795464000] ERROR msg. It is believed when a level follows.
func (p *appParser) epoch(i int) {
	n := i
	for n < len(p.b) && (p.b[n]-'0' < 10 || p.b[n] == '.') {
		n++
	}
	if n-i < len("1795464000") || n+1 >= len(p.b) || i == 0 && p.b[n] != ' ' && p.b[n] != '\t' || i == 1 && p.b[n] != ']' {
		return
	}
	ms, ok := unixTime(p.b[i:n])
	if !ok || ms < 1e12 || ms >= 4102444800_000 { // before 2001, or from 2100 on
		return
	}
	p.ms, p.hasTime, p.epochHead = ms, true, true
	p.afterTime = p.commit(n + i)
}

// redis reads 1234:M 23 Nov 2026 20:00:00.123 * msg, where the letter is the server's
// role and the mark behind the time the level (server.c of Redis).
func (p *appParser) redis() bool {
	n := len(leadingDigits(p.b))
	if len(p.b) < n+26 || p.b[n] != ':' || !isUpper(p.b[n+1]) || p.b[n+2] != ' ' {
		return false
	}
	ms, width, ok := p.times.dayMonthYear(p.b[n+3:])
	at := n + 3 + width
	if !ok || len(p.b) < at+3 || p.b[at] != ' ' || p.b[at+2] != ' ' {
		return false
	}
	switch p.b[at+1] {
	case '.', '-':
		p.level = record.LevelDebug
	case '*':
		p.level = record.LevelInfo
	case '#':
		p.level = record.LevelWarn
	default:
		return false
	}
	p.ms, p.hasTime = ms, true
	p.found.pid = p.b[:n]
	p.end(at + 2)
	return true
}

// priority reads syslog's <134> with what follows: RFC 5424's head, or that of RFC 3164.
// The level is that of the message, when it says one, else the priority's.
func (p *appParser) priority() bool {
	digits := leadingDigits(p.b[1:])
	n := len(digits) + 1
	if len(digits) == 0 || len(digits) > 3 || n >= len(p.b) || p.b[n] != '>' {
		return false
	}
	pri := 0
	for _, c := range digits {
		pri = pri*10 + int(c-'0')
	}
	if pri > 191 {
		return false
	}
	level := syslogLevel(pri % 8)
	if p.commit(n + 1); hasPrefix(p.b[n+1:], "1 ") {
		p.rfc5424(n + 3)
		p.level, p.done = level, true
		return true
	}
	if ms, width, ok := p.times.head(p.b[p.msg:]); ok {
		p.ms, p.hasTime = ms, true
		p.commit(p.msg + width)
	}
	if !p.syslogTag(p.msg, false) {
		p.tag(p.msg, false)
	}
	for i, tokens := p.msg, 0; tokens < 2 && i >= 0 && p.level == record.LevelNone && !p.done; tokens++ {
		i = p.token(i)
	}
	if p.level == record.LevelNone {
		p.level = level
	}
	return true
}

// rfc5424 reads TIME HOST APP PROCID MSGID STRUCTURED-DATA MSG.
func (p *appParser) rfc5424(i int) {
	var parts [5][]byte
	for k := range parts {
		n := bytes.IndexByte(p.b[i:], ' ')
		if n < 0 {
			return
		}
		parts[k] = p.b[i : i+n]
		i += n + 1
	}
	end := structuredData(p.b[i:])
	if end == 0 {
		return
	}
	if ms, n, ok := p.times.iso(parts[0]); ok && n == len(parts[0]) {
		p.ms, p.hasTime = ms, true
	} else if !absent(parts[0]) {
		return
	}
	present := func(b []byte) []byte {
		if absent(b) {
			return nil
		}
		return b
	}
	p.host, p.app = present(parts[1]), present(parts[2])
	if allDigits(parts[3]) {
		p.found.pid = parts[3]
	}
	p.msgid, p.data = present(parts[4]), present(p.b[i:i+end])
	p.end(i + end)
	if hasPrefix(p.b[p.msg:], "\ufeff") {
		p.msg += 3
	}
}

// structuredData returns the length of RFC 5424's structured data at the head of b: a
// dash, or elements in brackets with quoted values; 0 when there is none.
func structuredData(b []byte) int {
	if len(b) > 0 && b[0] == '-' {
		return 1
	}
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ']' && (i+1 == len(b) || b[i+1] != '['):
			return i + 1
		case i == 0 && c != '[':
			return 0
		}
	}
	return 0
}

// syslogTag reads the host and the tag that follow syslog's time.
func (p *appParser) syslogTag(i int, strict bool) bool {
	n := i
	for n < len(p.b) && (isWord(p.b[n]) || p.b[n] == '.' || p.b[n] == '-') {
		n++
	}
	if n == i || n >= len(p.b) || p.b[n] != ' ' {
		return false
	}
	if !p.tag(n+1, strict) {
		return false
	}
	p.host = p.b[i:n]
	return true
}

// tag reads app[123]: or, unless it is to be strict, app: at i.
func (p *appParser) tag(i int, strict bool) bool {
	n := i
	for n < len(p.b) && (isWord(p.b[n]) || p.b[n] == '.' || p.b[n] == '-' || p.b[n] == '/' || p.b[n] == '@') {
		n++
	}
	end, pid := n, []byte(nil)
	if n < len(p.b) && p.b[n] == '[' {
		pid = leadingDigits(p.b[n+1:])
		if end = n + 1 + len(pid); len(pid) == 0 || end >= len(p.b) || p.b[end] != ']' {
			return false
		}
		end++
	}
	if n == i || n-i > 64 || end >= len(p.b) || p.b[end] != ':' || strict && pid == nil {
		return false
	}
	p.app = p.b[i:n]
	if pid != nil {
		p.found.pid = pid
	}
	p.commit(end + 1)
	p.afterTime = p.msg
	return true
}

// dotnet reads the category behind the level of .NET's console, whose message is on
// the lines below: "fail: Microsoft.Hosting[0]".
func (p *appParser) dotnet(i int) bool {
	i = p.blank(i)
	name := bytes.TrimRight(p.b[i:], " \r")
	open := bytes.LastIndexByte(name, '[')
	if open <= 0 || name[len(name)-1] != ']' || !allDigits(name[open+1:len(name)-1]) || bytes.IndexByte(name, ' ') >= 0 {
		return false
	}
	p.found.logger = name[:open]
	p.end(len(p.b))
	return true
}

// appendUncolored appends text without the escapes that give a terminal its colors.
func appendUncolored(dst, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, 0x1b)
		if i < 0 {
			return append(dst, text...)
		}
		dst = append(dst, text[:i]...)
		text = text[i+1:]
		if len(text) == 0 || text[0] != '[' {
			continue
		}
		n := 1
		for n < len(text) && n < 32 && text[n] >= 0x20 && text[n] < 0x40 {
			n++
		}
		if n < len(text) && text[n] >= 0x40 && text[n] < 0x7f {
			text = text[n+1:]
		}
	}
}
