package parser

import (
	"bytes"

	"github.com/tailwater/tailwater/record"
)

// quickHead is the short way over the heads that most loggers write:
//
//	2026-11-23 20:00:00.123 [main] INFO  c.e.Foo [request_id=7f3c] - message
//	2026-11-23T20:00:00.123+08:00  INFO 1 --- [nio-8080-exec-1] c.e.Foo : message
//	2026-11-23 20:00:00,123 - shop.cart - INFO - message
//
// It goes over each byte once and decides what the long way, appParser.head, would
// decide. Where it would have to look twice it declines; a test holds it to the same
// answers. It knows the level of every head it accepts, and nothing in it is in doubt.
type quickHead struct {
	line []byte
	i    int // what is before it has been read
	msg  int // where the message begins if nothing else comes

	level                            record.Level
	thread, logger, context, pid, id []byte
	// doubt is set when only what follows can tell whether the last part belongs to
	// the head or to the message.
	doubt bool
	// odd is set when there may be an equals sign before the context.
	odd bool
}

// maxQuick is how far into the line a part of a quickHead may begin.
const maxQuick = 256

// The classes of bytes that the words of a head are made of.
const (
	inName   = 1 << iota // letters, digits and what else stands in the name of a logger
	inBorder             // . : / between the parts of a name
	inSpace              // space and control characters
	inOther
	inPair // =
	inBar  // |
)

var headClass = func() (class [256]uint8) {
	for c := range class {
		switch b := byte(c); {
		case isWord(b), b == '-', b == '<', b == '>':
			class[c] = inName
		case b == '.', b == ':', b == '/':
			class[c] = inBorder
		case b <= ' ':
			class[c] = inSpace
		case b == '=':
			class[c] = inPair
		case b == '|':
			class[c] = inBar
		default:
			class[c] = inOther
		}
	}
	return class
}()

// quick parses an event whose first line, line, begins with a digit, if its head is one
// of quickHead's. The values' kind is Escaped when nothing in text has to be.
func (p *appParser) quick(text, line []byte, r *record.Record, kind record.Kind) bool {
	ms, n, ok := p.times.iso(line)
	if !ok || n+1 >= len(line) || line[n] != ' ' || !p.mayPut(r) {
		return false
	}
	if line[10] == 'T' && bytes.Contains(line, []byte("]:")) {
		return false // syslog's host and app[123]: perhaps
	}
	h := quickHead{line: line, i: n}
	h.i = h.blank(n)
	if !h.before() || !h.takeLevel() || !h.behind() {
		return false
	}
	if h.msg >= len(line) || line[h.msg] <= ' ' {
		return false
	}
	if h.id == nil && line[h.msg] != '[' {
		h.id = h.namedID()
	}
	if h.id == nil {
		h.id = headRequestID(text, h.msg)
	}
	r.Time, r.HasTime, r.Level = ms, true, h.level
	h.put(text[h.msg:], r, kind)
	return true
}

// put puts what was found, and the message, as values of the kind.
func (h *quickHead) put(msg []byte, r *record.Record, kind record.Kind) {
	if h.thread != nil {
		r.PutNamed(threadName, h.thread, kind)
	}
	if h.logger != nil {
		r.PutNamed(loggerName, h.logger, kind)
	}
	if h.context != nil {
		r.PutNamed(contextName, h.context, kind)
	}
	if h.pid != nil {
		if pid, ok := cleanNumber(h.pid); ok {
			r.PutNamed(pidName, pid, record.JSON)
		}
	}
	if h.id != nil {
		r.PutNamed(idName, h.id, kind)
	}
	r.PutNamed(messageName, msg, kind)
}

// namedID returns the request id that the context begins with, when that is where the
// long way finds it: at the first equals sign of the text.
func (h *quickHead) namedID() []byte {
	const key = "request_id="
	if !hasPrefix(h.context, key) || h.odd {
		return nil
	}
	return idValue(h.context[len(key):])
}

func (h *quickHead) blank(i int) int {
	for i < len(h.line) && (h.line[i] == ' ' || h.line[i] == '\t') {
		i++
	}
	return i
}

// before reads what stands between the time and the level: nothing, a thread or a
// logger in brackets, or a logger between dashes.
func (h *quickHead) before() bool {
	if h.i >= len(h.line) || h.i >= maxQuick {
		return false
	}
	switch h.line[h.i] {
	case '[':
		if n := plainThread(h.line[h.i+1:]); n > 0 {
			h.thread = h.line[h.i+1 : h.i+1+n]
			h.i = h.blank(h.i + n + 2)
			break
		}
		in, end := h.bracket()
		switch {
		case len(in) < 2, bytes.IndexByte(in, ':') >= 0, isOffsetLevel(in), bracketID(in) != nil:
			return false
		case isThread(in):
			h.thread, h.odd = in, true
		case isDotted(in):
			h.logger = in
		default:
			return false
		}
		h.i = h.blank(end)
	case '-':
		if !hasPrefix(h.line[h.i:], "- ") {
			return false
		}
		h.i = h.blank(h.i + 1)
		w, kinds := h.word()
		end := h.i + len(w)
		if kinds&^(inName|inBorder) != 0 || len(w) < 2 || len(w) > 64 || !isLetter(w[0]) || !isLetter(w[1]) || bytes.IndexByte(w, ':') >= 0 ||
			isLevelWord(w) || isOffsetLevel(w) || hasPrefix(w, "PHP") || !hasPrefix(h.line[end:], " - ") {
			return false
		}
		h.logger = w
		h.i = h.blank(end + 2)
	}
	return true
}

// plainThread returns the length of the thread's name that text begins with, up to a
// closing bracket: one that is by no means a level or a request id, and short enough for
// a head. Where it says 0, isThread knows.
func plainThread(text []byte) int {
	n, digits := 0, 0
	for ; n < len(text) && n < 64; n++ {
		c := text[n]
		if headClass[c] != inName {
			break
		}
		if digits++; !isDigit(c) {
			digits = 0
		}
	}
	if n == len(text) || text[n] != ']' {
		return 0
	}
	w := text[:n]
	if at := n - digits; digits == 0 || at < 3 || w[at-1] != '-' || n <= len("informational-12") || n == 36 || n == 49 ||
		w[0] == 'r' || !isLetter(w[0]) || isUpper(w[1]) {
		if string(w) != "main" {
			return 0
		}
	}
	return n
}

// takeLevel reads a level in capitals.
func (h *quickHead) takeLevel() bool {
	if h.i >= maxQuick {
		return false // behind many blanks
	}
	rest := h.line[h.i:]
	n := 0
	for n < len(rest) && n <= maxLevelWord && isUpper(rest[n]) {
		n++
	}
	if n == len(rest) || rest[n] != ' ' {
		return false
	}
	switch string(rest[:n]) {
	case "TRACE", "DEBUG":
		h.level = record.LevelDebug
	case "INFO", "NOTICE":
		h.level = record.LevelInfo
	case "WARN", "WARNING":
		h.level = record.LevelWarn
	case "ERROR", "SEVERE":
		h.level = record.LevelError
	case "FATAL", "CRITICAL":
		h.level = record.LevelFatal
	default:
		return false
	}
	h.i = h.blank(h.i + n)
	h.msg = h.i
	return true
}

// behind reads what stands between the level and the message.
func (h *quickHead) behind() bool {
	for range 6 {
		if h.i >= len(h.line) || h.i >= maxQuick {
			return false
		}
		switch c := h.line[h.i]; {
		case c == '[':
			if !h.inBrackets() {
				return false
			}
		case c-'0' < 10:
			if !h.springProcess() {
				return !h.doubt
			}
		case isLetter(c), c == '_':
			more, ok := h.name()
			if !more {
				return ok
			}
		case c == '-':
			if h.i+1 < len(h.line) && h.line[h.i+1] == '-' {
				return false
			}
			if h.i+1 < len(h.line) && h.line[h.i+1] != ' ' {
				return !h.doubt
			}
			return h.end(h.i + 1)
		case c == ':':
			if h.doubt {
				return false
			}
			if h.i+1 < len(h.line) && h.line[h.i+1] != ' ' {
				return true
			}
			return h.end(h.i + 1)
		case c == '|', c == '<', c == '(', c == '{':
			return false
		default:
			return !h.doubt
		}
	}
	return false
}

// end ends the head: the message begins at i, or behind the blanks there. It is true.
func (h *quickHead) end(i int) bool {
	h.msg = h.blank(i)
	return true
}

// bracket returns what stands in the brackets at i, and the place behind them; nothing
// when the long way should look at it.
func (h *quickHead) bracket() (in []byte, end int) {
	rest := h.line[h.i:min(len(h.line), h.i+160)]
	n := bytes.IndexByte(rest, ']')
	if n < 2 {
		return nil, 0
	}
	in = rest[1:n]
	for len(in) > 0 && in[0] == ' ' {
		in = in[1:]
	}
	for len(in) > 0 && in[len(in)-1] == ' ' {
		in = in[:len(in)-1]
	}
	if len(in) == 0 || in[0] <= ' ' || in[0] >= 0x80 || in[len(in)-1] <= ' ' || in[len(in)-1] >= 0x80 {
		return nil, 0
	}
	return in, h.i + n + 1
}

// inBrackets reads a request id, a thread, a logger or another context behind the
// level.
func (h *quickHead) inBrackets() bool {
	in, end := h.bracket()
	if in == nil || in[0] == 'p' && hasPrefix(in, "pid ") || in[0]-'0' < 10 && allDigits(in) {
		return false
	}
	sure := !h.doubt
	switch id := bracketID(in); {
	case id != nil && h.id == nil:
		if len(id) < len(in) {
			return false
		}
		h.id = id
	case h.thread == nil && isThread(in):
		if h.logger != nil {
			return false
		}
		h.thread, h.odd = in, true
	case h.logger == nil && isDotted(in):
		h.logger = in
	case h.context == nil:
		h.context = in
		sure, h.doubt = false, true
	default:
		return false
	}
	if h.i = end; sure {
		h.i = h.blank(end)
		h.msg = h.i
	}
	h.i = h.blank(h.i)
	return true
}

// springProcess reads Spring Boot's process, 1234 ---; false when the number begins
// the message.
func (h *quickHead) springProcess() bool {
	n := h.i
	for n < len(h.line) && h.line[n]-'0' < 10 {
		n++
	}
	next := h.blank(n)
	if n-h.i > 10 || next == n || h.doubt || !hasPrefix(h.line[next:], "--- ") {
		return false
	}
	h.pid = h.line[h.i:n]
	h.i = h.blank(next + 4)
	h.msg = h.i
	return true
}

// word returns the word at i and the classes of its bytes.
func (h *quickHead) word() (w []byte, kinds uint8) {
	rest := h.line[h.i:]
	for n, c := range rest {
		class := headClass[c]
		if class&(inSpace|inBar) != 0 {
			return rest[:n], kinds
		}
		kinds |= class
	}
	return rest, kinds
}

// name reads a logger. It says whether the head goes on behind it; when not, whether
// the message may begin.
func (h *quickHead) name() (more, ok bool) {
	w, kinds := h.word()
	end := h.i + len(w)
	if len(w) > 120 || kinds&inPair != 0 || h.doubt && h.logger != nil {
		return false, !h.doubt
	}
	last := w[len(w)-1]
	if end < len(h.line) && h.line[end] == '\t' || isDigit(last) || last == ':' && len(w) > 1 && isDigit(w[len(w)-2]) {
		return false, false // a place in the source, perhaps
	}
	dotted := kinds == inName|inBorder && len(w) > 2 && headClass[last] != inBorder
	next := h.blank(end)
	rest := h.line[next:]
	switch {
	case last == ':':
		if w = w[:len(w)-1]; isDotted(w) && !isThrowable(w) {
			h.logger = w
			return false, h.end(end)
		}
	case hasPrefix(rest, "- "), hasPrefix(rest, ": "):
		if dotted && !isThrowable(w) || h.thread != nil {
			h.logger = w
			return false, h.end(next + 2)
		}
	case len(rest) > 0 && rest[0] == '[' && (dotted || h.thread != nil) && !h.doubt:
		h.logger = w
		h.doubt = true
		h.i = next
		return true, true
	}
	return false, !h.doubt
}
