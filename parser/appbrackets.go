package parser

import (
	"bytes"

	"github.com/tailwater/tailwater/record"
)

// bracket reads [..]: a time, a level, a thread, a process, a request, a logger.
func (p *appParser) bracket(i int) int {
	n := bytes.IndexByte(p.b[i:min(len(p.b), i+160)], ']')
	if n < 0 {
		return -1
	}
	end := i + n + 1
	in := bytes.TrimSpace(p.b[i+1 : end-1])
	if len(in) == 0 {
		return end
	}
	if !p.hasTime && i < 64 && mayBeTime(in[0]) {
		if ms, n, ok := p.times.head(in); ok {
			p.ms, p.hasTime = ms, true
			p.besideTime(in[n:])
			p.afterTime = p.commit(end)
			return p.afterTime
		}
	}
	if p.level == record.LevelNone {
		if level, ok := bracketLevel(in); ok && !p.doubt {
			p.level = level
			return p.commit(end)
		}
	}
	if id := bracketID(in); id != nil && p.id == nil {
		p.id = id
		if len(id) < len(in) {
			if p.maybe.context != nil && p.app == nil {
				p.app = p.maybe.context // Spring Boot: [name] [thread] [trace-span]
			}
			p.maybe.context = in
		}
		return p.sure(end)
	}
	known := p.level != record.LevelNone
	switch {
	case allDigits(in) && p.maybe.pid == nil && p.found.pid == nil:
		p.maybe.pid = in
		if p.hasTime {
			return p.sure(end)
		}
	case hasPrefix(in, "pid ") && p.maybe.pid == nil && p.found.pid == nil:
		p.maybe.pid = leadingDigits(in[4:])
		return p.sure(end)
	case p.hasNoThread() && p.found.logger == nil && isThread(in):
		p.maybe.thread = in
		if known {
			return p.sure(end)
		}
	case p.found.logger == nil && p.maybe.logger == nil && isDotted(in):
		p.maybe.logger = in
		if known {
			return p.sure(end)
		}
	case !known && p.hasNoThread() && bytes.IndexByte(in, '=') < 0:
		p.maybe.thread = in
	case p.maybe.context == nil && p.found.context == nil:
		p.maybe.context = in
		p.doubt = p.doubt || known
	default:
		p.keep(i)
	}
	return end
}

func (p *appParser) hasNoThread() bool { return p.found.thread == nil && p.maybe.thread == nil }

// sure is commit for a token that is sure itself, when those before it are.
func (p *appParser) sure(end int) int {
	if !p.doubt {
		return p.commit(end)
	}
	return end
}

// besideTime reads what some loggers put into the brackets of the time: Ruby its
// process, Serilog the level, Celery the level and the process.
func (p *appParser) besideTime(rest []byte) {
	for len(rest) > 0 {
		if c := rest[0]; c == ' ' || c == '#' || c == ':' || c == ',' {
			rest = rest[1:]
			continue
		}
		n := 0
		for n < len(rest) && rest[n] != ' ' && rest[n] != '/' && rest[n] != ':' {
			n++
		}
		word := rest[:n]
		if allDigits(word) {
			p.found.pid = word
		} else if level, ok := levelWord(word); ok && p.level == record.LevelNone {
			p.level = level
			if n+1 < len(rest) && rest[n] == '/' {
				p.found.thread = rest[n+1:]
				return
			}
		} else {
			p.found.context = rest
			return
		}
		rest = rest[n:]
	}
}

// bracketLevel reads the level in a bracket: its word, or what stands behind a colon as
// in Apache's [core:error], or a letter.
func bracketLevel(in []byte) (record.Level, bool) {
	if len(in) == 1 && in[0] != 'A' {
		return levelLetter(in[0])
	}
	if n := bytes.IndexByte(in, ':'); n > 0 && len(in) <= 40 {
		in = in[n+1:]
	}
	if string(in) == "System" { // MySQL
		return record.LevelInfo, true
	}
	if l, ok := levelWord(in); ok {
		return l, true
	}
	return offsetLevel(in)
}

// enclosed reads <Error>, (ERROR), Sling's *ERROR*, (Foo.java:12), {task.py:12} and
// ClickHouse's {query}.
func (p *appParser) enclosed(i int, open byte) int {
	closing := open + 2 // in ASCII, but for the parentheses
	switch open {
	case '(':
		closing = ')'
	case '*':
		closing = '*'
	}
	n := bytes.IndexByte(p.b[i+1:min(len(p.b), i+100)], closing) + 1
	if n == 0 {
		return -1
	}
	in, end := p.b[i+1:i+n], i+n+1
	level, isLevel := levelWord(in)
	switch {
	case isLevel && p.level == record.LevelNone && !p.doubt && (open == '<' || open != '{' && i == p.afterTime && isUpper(in[len(in)-1])):
		p.level = level
		return p.commit(end)
	case open == '<', open == '*':
		return -1
	case isCaller(in):
		p.maybe.caller = in
		return end
	case open == '{' && p.hasTime && p.level == record.LevelNone && !p.doubt && p.id == nil && p.maybe.context == nil:
		if p.id = bracketID(in); len(p.id) < len(in) {
			p.maybe.context = in
		}
		return end
	}
	return -1
}
