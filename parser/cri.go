package parser

import (
	"bytes"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// longest returns the longest physical line that is taken apart: one with maxLine
// bytes of text, and what the runtimes write in any case. Both break lines into parts
// of 16 KiB unless told otherwise.
func (k wrapKind) longest(maxLine int) int {
	if k == wrapDocker {
		return max(2*maxLine, 128<<10) + 1024 // escapes, attrs
	}
	return max(maxLine, 64<<10) + 256
}

// unwrapper takes the lines of a container runtime's log apart.
type unwrapper struct {
	kind  wrapKind
	clock runtimeClock
	buf   []byte // what a docker line says without its escapes
}

// open returns what is in a line and the stream it belongs to; ok is false when it
// is not whole and of the runtime's form.
func (u *unwrapper) open(ln *rawLine) (p piece, stream record.Stream, ok bool) {
	if ln.hole || ln.over || ln.cut || ln.rest {
		return p, 0, false
	}
	p.start, p.end = ln.off, ln.next
	if u.kind == wrapDocker {
		stream, ok = u.openDocker(ln, &p)
	} else {
		stream, ok = u.openCRI(ln.text, &p)
		p.at += ln.off
	}
	p.hasTime = true
	return p, stream, ok
}

// openTorn makes the best of a line that has no end: ev.Text becomes as much of the
// text as is there, when the line's head can be read.
func (u *unwrapper) openTorn(ev *Event) {
	var p piece
	if u.kind == wrapCRI {
		if stream, ok := u.openCRI(ev.Text, &p); ok {
			ev.Text, ev.Stream, ev.Time, ev.HasTime = p.text, stream, p.time, true
		}
		return
	}
	const head = `{"log":"`
	if bytes.HasPrefix(ev.Text, []byte(head)) {
		raw := ev.Text[len(head):]
		if end := stringEnd(raw); end >= 0 {
			raw = raw[:end]
		}
		u.buf = appendUnescaped(u.buf[:0], raw)
		ev.Text = bytes.TrimRight(u.buf, "\r\n")
	}
}

// openCRI reads `TIME STREAM TAGS TEXT`, the format of the Kubernetes CRI ("CRI:
// Log Management for Container Stdout/Stderr Streams"): the first tag is P when the
// line goes on in the stream's next one, else F; more tags may follow after colons.
// p.at is relative to text.
func (u *unwrapper) openCRI(text []byte, p *piece) (stream record.Stream, ok bool) {
	const word = len("stdout ")
	sp := bytes.IndexByte(text, ' ')
	if sp < 0 || len(text) < sp+1+word+1 {
		return 0, false
	}
	switch string(text[sp+1 : sp+1+word]) {
	case "stdout ":
		stream = record.StreamStdout
	case "stderr ":
		stream = record.StreamStderr
	default:
		return 0, false
	}
	if p.time, ok = u.clock.parse(text[:sp]); !ok {
		return 0, false
	}
	at := sp + 1 + word
	tags := text[at:]
	if n := bytes.IndexByte(tags, ' '); n >= 0 {
		tags = tags[:n]
	}
	if len(tags) == 0 || len(tags) > 1 && tags[1] != ':' {
		return 0, false
	}
	p.last = tags[0] == 'F'
	at = min(at+len(tags)+1, len(text))
	p.text, p.at = text[at:], int64(at)
	return stream, tags[0] == 'F' || tags[0] == 'P'
}

// openDocker reads a line of docker's json-file driver: an object with the strings
// log, stream and time, and sometimes attrs. The line is whole when log ends with a
// newline.
func (u *unwrapper) openDocker(ln *rawLine, p *piece) (stream record.Stream, ok bool) {
	text := ln.text
	var log, name, clock []byte
	at := skipSpace(text, 0)
	if at >= len(text) || text[at] != '{' {
		return 0, false
	}
	logAt := -1
	for {
		at = skipSpace(text, at+1)
		if at >= len(text) || text[at] != '"' {
			return 0, false
		}
		end := stringEnd(text[at+1:])
		if end < 0 {
			return 0, false
		}
		key := text[at+1 : at+1+end]
		at = skipSpace(text, at+end+2)
		if at >= len(text) || text[at] != ':' {
			return 0, false
		}
		from := skipSpace(text, at+1)
		if at = valueEnd(text, from); at < 0 {
			return 0, false
		}
		if text[from] == '"' {
			val := text[from+1 : at-1]
			switch string(key) {
			case "log":
				log, logAt = val, from+1
			case "stream":
				name = val
			case "time":
				clock = val
			}
		}
		at = skipSpace(text, at)
		if at < len(text) && text[at] == ',' {
			continue
		}
		if at >= len(text) || text[at] != '}' || skipSpace(text, at+1) != len(text) {
			return 0, false
		}
		break
	}
	if logAt < 0 {
		return 0, false
	}
	switch string(name) {
	case "stdout":
		stream = record.StreamStdout
	case "stderr":
		stream = record.StreamStderr
	default:
		return 0, false
	}
	if p.time, ok = u.clock.parse(clock); !ok {
		return 0, false
	}
	p.text, p.at = log, ln.off+int64(logAt)
	if n := len(log); n >= 2 && log[n-1] == 'n' && backslashes(log[:n-1])%2 == 1 {
		p.last = true
		p.text = log[:n-2]
	}
	if bytes.IndexByte(p.text, '\\') >= 0 {
		u.buf = appendUnescaped(u.buf[:0], p.text)
		p.text, p.copied = u.buf, true
		if n := len(p.text); p.last && n > 0 && p.text[n-1] == '\r' {
			p.text = p.text[:n-1]
		}
	}
	return stream, true
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t') {
		at++
	}
	return at
}

// stringEnd returns the index of the quote that ends the JSON string in which text
// begins, or -1.
func stringEnd(text []byte) int {
	for at := 0; ; at++ {
		n := bytes.IndexByte(text[at:], '"')
		if n < 0 {
			return -1
		}
		if backslashes(text[at:at+n])%2 == 0 {
			return at + n
		}
		at += n
	}
}

// backslashes counts the backslashes at the end of text.
func backslashes(text []byte) int {
	n := 0
	for n < len(text) && text[len(text)-1-n] == '\\' {
		n++
	}
	return n
}

// valueEnd returns where the JSON value that begins at at ends, or -1. It looks at
// brackets and strings only.
func valueEnd(text []byte, at int) int {
	depth := 0
	for from := at; at < len(text); at++ {
		switch text[at] {
		case '"':
			n := stringEnd(text[at+1:])
			if n < 0 {
				return -1
			}
			if at += n + 1; depth == 0 {
				return at + 1
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				if at == from {
					return -1
				}
				return at
			}
			if text[at] != ',' {
				if depth--; depth == 0 {
					return at + 1
				}
			}
		}
	}
	return -1
}

// appendUnescaped appends the inside of a JSON string without its escapes. What is
// no escape stays as it is.
func appendUnescaped(dst, raw []byte) []byte {
	for {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 || n == len(raw)-1 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:n]...)
		c := raw[n+1]
		raw = raw[n+2:]
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			r, ok := hex4(raw)
			if !ok {
				dst = append(dst, '\\', 'u')
				continue
			}
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				second := rune(0)
				if len(raw) > 1 && raw[0] == '\\' && raw[1] == 'u' {
					second, _ = hex4(raw[2:])
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					raw = raw[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, '\\', c)
		}
	}
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// runtimeClock reads the times of container runtimes, RFC 3339 with any number of
// digits after the second. Most lines are of the same second as the one before.
type runtimeClock struct {
	last [19]byte // 2006-01-02T15:04:05
	sec  int64    // its Unix time in UTC
}

// parse returns b in Unix milliseconds.
func (c *runtimeClock) parse(b []byte) (ms int64, ok bool) {
	if len(b) < len("2006-01-02T15:04:05Z") {
		return 0, false
	}
	if string(b[:19]) != string(c.last[:]) {
		sec, ok := civilSecond(b[:19])
		if !ok {
			return 0, false
		}
		c.sec = sec
		copy(c.last[:], b)
	}
	ms = c.sec * 1000
	b = b[19:]
	if b[0] == '.' {
		i := 1
		for scale := int64(100); i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			ms += int64(b[i]-'0') * scale
			scale /= 10
		}
		b = b[i:]
	}
	if len(b) == 1 && b[0] == 'Z' {
		return ms, true
	}
	if len(b) != len("+00:00") || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, okH := digits(b[1:3])
	m, okM := digits(b[4:6])
	if !okH || !okM || h > 23 || m > 59 {
		return 0, false
	}
	east := int64(h*60+m) * 60_000
	if b[0] == '-' {
		east = -east
	}
	return ms - east, true
}

// civilSecond reads 2006-01-02T15:04:05 as UTC.
func civilSecond(b []byte) (sec int64, ok bool) {
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	var v [6]int
	for i, at := range [6]int{0, 5, 8, 11, 14, 17} {
		width := 2
		if i == 0 {
			width = 4
		}
		if v[i], ok = digits(b[at : at+width]); !ok {
			return 0, false
		}
	}
	if v[3] > 23 || v[4] > 59 || v[5] > 60 {
		return 0, false
	}
	t := time.Date(v[0], time.Month(v[1]), v[2], v[3], v[4], v[5], 0, time.UTC)
	if v[1] < 1 || v[1] > 12 || v[2] < 1 || v[5] < 60 && t.Day() != v[2] {
		return 0, false
	}
	return t.Unix(), true
}

func digits(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
