package parser

import "bytes"

// trace follows the stack traces of the common languages, line by line. Indented
// lines go on with whatever stands before them; what is here is about the lines of a
// trace that are not indented, and those behind a blank line.
type trace struct {
	kind traceKind
	// brace is set when a line ended with an opening brace: Node prints an error's
	// properties behind its trace, and their closing brace unindented.
	brace bool
	// frame is set when the last line was a place in a Go file.
	frame bool
	// routine is set when a goroutine of a Go trace has begun.
	routine bool
}

type traceKind uint8

const (
	noTrace         traceKind = iota
	jvmTrace                  // Java, Kotlin, Scala, .NET
	pythonTrace               // from Traceback to the exception's line
	pythonException           // behind that line
	pythonChain               // behind "During handling of the above exception, .."
	goTrace
	nodePlace // before an error: its place in the source, as Node prints it, or NestJS's own line
	nodeTrace
	rubyTrace
	phpTrace
	rustPanic // its message is on the next line
	rustTrace
)

// begin starts with the first line of an event.
func (t *trace) begin(line []byte) {
	*t = trace{brace: len(line) > 0 && line[len(line)-1] == '{'}
	if len(line) == 0 {
		return
	}
	switch c := line[0]; {
	case c == '[' && hasPrefix(line, nestHead) && bytes.Contains(line[:min(len(line), 100)], nestError):
		t.kind = nodePlace
	case c >= '0' && c <= '9', c == '[', c == '{', c == ' ', c == '\t':
	case goHead(line):
		t.kind = goTrace
		t.routine = c == 'g'
	case c == 'T' && hasPrefix(line, pythonHead):
		t.kind = pythonTrace
	case c == 'E' && hasPrefix(line, "Exception in thread "),
		c == 'C' && hasPrefix(line, "Caused by: "),
		c == 'U' && hasPrefix(line, "Unhandled exception. "),
		exceptionHead(line):
		t.kind = jvmTrace
	case c == 't' && hasPrefix(line, "thread '") && bytes.Contains(line, []byte("panicked at")):
		t.kind = rustTrace
		if line[len(line)-1] == ':' {
			t.kind = rustPanic
		}
	case c == 'P' && hasPrefix(line, "PHP "):
		t.kind = phpTrace
	case nodeFile(line):
		t.kind = nodePlace
	case isUpper(c) && nodeError(line):
		t.kind = nodeTrace
	case rubyPlace(line) != notRuby:
		t.kind = rubyTrace
	}
}

const pythonHead = "Traceback (most recent call last):"

// joins says whether line goes on with event.
func (t *trace) joins(event, line []byte, afterBlank bool) bool {
	frame := t.frame
	t.frame = false
	if !t.goesOn(event, line, afterBlank, frame) {
		return false
	}
	if line[len(line)-1] == '{' {
		t.brace = true
	}
	return true
}

// endsBefore says, by the first bytes of a line alone, that it does not go on with the
// event. When it says false, joins knows.
func (t *trace) endsBefore(line []byte) bool {
	if line[0] == '{' {
		return t.kind != rustPanic
	}
	switch t.kind {
	case noTrace:
		switch c := line[0]; {
		case isDigit(c):
			return true
		case c == '[':
			return len(line) > 1 && line[1] != 's' // [stacktrace]
		case c == 'D', c == 'E', c == 'I', c == 'W', c == 'F', c == 'J', c == 'N':
			return beginsWithWord(line) // a level or a month
		}
	case jvmTrace:
		return isDigit(line[0])
	}
	return false
}

// beginsWithWord tells whether line begins with a word of three to seven letters before
// a space. What opens a trace begins otherwise, but for the few that begin with C, S or T.
func beginsWithWord(line []byte) bool {
	n := 0
	for n < len(line) && n < 8 && isLetter(line[n]) {
		n++
	}
	return n >= 3 && n < len(line) && n < 8 && line[n] == ' '
}

func (t *trace) goesOn(event, line []byte, afterBlank, frame bool) bool {
	switch line[0] {
	case ' ', '\t':
		t.indented(line)
		return true
	case 'C':
		if hasPrefix(line, "Caused by: ") {
			return t.is(jvmTrace)
		}
	case 'S':
		if hasPrefix(line, "Suppressed: ") {
			return t.is(jvmTrace)
		}
		if hasPrefix(line, "Stack trace:") {
			return t.is(phpTrace)
		}
	case 'a':
		if hasPrefix(line, "at ") && line[len(line)-1] == ')' && bytes.IndexByte(line, '(') > 3 {
			return t.is(jvmTrace)
		}
	case '-':
		if hasPrefix(line, "--- End of ") || hasPrefix(line, "---> ") {
			return t.is(jvmTrace)
		}
	case '[':
		if hasPrefix(line, "[stacktrace]") {
			return t.is(phpTrace)
		}
	case '}', ')', ']':
		if t.brace && len(bytes.Trim(line, "}]),;")) == 0 {
			t.brace = false
			return true
		}
	}
	switch t.kind {
	case noTrace:
		return t.opens(event, line, afterBlank)
	case jvmTrace:
		return isMore(line) || hasPrefix(line, "Wrapped by: ") || hasPrefix(line, "[CIRCULAR REFERENCE") ||
			hasPrefix(line, "Error has been observed at the following site(s):") || hasPrefix(line, "Original Stack Trace:")
	case pythonTrace:
		return (pythonError(line) || rubyPlace(line) != notRuby) && t.is(pythonException)
	case pythonException:
		return (hasPrefix(line, "During handling of the above exception, another exception occurred:") ||
			hasPrefix(line, "The above exception was the direct cause of the following exception:")) && t.is(pythonChain)
	case pythonChain:
		return hasPrefix(line, pythonHead) && t.is(pythonTrace)
	case goTrace:
		return t.goLine(line, frame)
	case nodePlace:
		return nodeError(line) && t.is(nodeTrace)
	case nodeTrace:
		return afterBlank && hasPrefix(line, "Node.js v") || hasPrefix(line, "(Use `node ") ||
			hasPrefix(line, "Require stack:") || hasPrefix(line, "- /")
	case rubyTrace:
		return rubyPlace(line) == rubyFrame
	case phpTrace:
		return line[0] == '#' && len(line) > 1 && isDigit(line[1]) || hasPrefix(line, "Next ") || hasPrefix(line, `"}`)
	case rustPanic:
		return !afterBlank && t.is(rustTrace)
	case rustTrace:
		return hasPrefix(line, "stack backtrace:") || hasPrefix(line, "note: ")
	}
	return false
}

// is sets the kind of the trace, and is always true.
func (t *trace) is(kind traceKind) bool {
	t.kind = kind
	return true
}

// indented learns from an indented line.
func (t *trace) indented(line []byte) {
	switch {
	case line[0] == '\t' && (t.kind == noTrace || t.kind == goTrace) && goPlace(line):
		t.frame = true
		t.kind = goTrace
	case t.kind == rustPanic:
		t.kind = rustTrace
	case t.kind == noTrace && hasPrefix(line, `  File "`):
		t.kind = pythonTrace // a syntax error has no other head
	case t.kind == noTrace && hasPrefix(bytes.TrimLeft(line, " \t"), "at "):
		t.kind = jvmTrace
	}
}

// opens says whether line begins a trace that belongs to the ordinary line before
// it: the one that a logger wrote. A trace after a line that says info or less is an
// event of its own: what a program prints as it dies must not take on the level of
// what it had to say before.
func (t *trace) opens(event, line []byte, afterBlank bool) bool {
	if c := line[0]; isDigit(c) || c == '[' || c == '{' {
		return false
	}
	if rubyPlace(line) == rubyFrame {
		return t.is(rubyTrace)
	}
	if afterBlank {
		return false
	}
	kind := noTrace
	switch {
	case hasPrefix(line, pythonHead):
		kind = pythonTrace
	case hasPrefix(line, "goroutine ") && goHead(line), goName(line):
		kind = goTrace
	case exceptionHead(line):
		kind = jvmTrace
	}
	if kind == noTrace || quiet(event) {
		return false
	}
	t.routine = kind == goTrace
	return t.is(kind)
}

func hasPrefix(line []byte, prefix string) bool {
	return len(line) >= len(prefix) && string(line[:len(prefix)]) == prefix
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func isWord(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || isDigit(c) || c == '_' || c == '$'
}

// exceptionHead recognises the qualified name of an exception, alone or with its
// message: "java.lang.IllegalStateException: closed".
func exceptionHead(line []byte) bool {
	last, end := 0, 0 // where the name's last part begins, where the name ends
	for ; end < len(line); end++ {
		if line[end] == '.' {
			last = end + 1
		} else if !isWord(line[end]) {
			break
		}
	}
	name := line[last:end]
	if last < 2 || len(name) < len("Error") || !isUpper(name[0]) {
		return false
	}
	if rest := line[end:]; len(rest) > 0 && rest[0] != ':' && !hasPrefix(rest, " (0x") {
		return false
	}
	for _, suffix := range []string{"Exception", "Error", "Throwable", "Failure"} {
		if bytes.HasSuffix(name, []byte(suffix)) {
			return true
		}
	}
	return bytes.Contains(name, []byte("Exceptions$"))
}

// isMore recognises "... 12 more" and "... 12 common frames omitted".
func isMore(line []byte) bool {
	return hasPrefix(line, "... ") && len(line) > 4 && isDigit(line[4])
}

// pythonError recognises the line that ends a Python trace: a name, perhaps dotted,
// alone or with a message.
func pythonError(line []byte) bool {
	i := 0
	for i < len(line) && (isWord(line[i]) || line[i] == '.') {
		i++
	}
	return i > 0 && !isDigit(line[0]) && (i == len(line) || line[i] == ':' && (i+1 == len(line) || line[i+1] == ' '))
}

// nodeError recognises "TypeError: x is not a function", "Error [ERR_X]: y" and
// "[Error: z]".
func nodeError(line []byte) bool {
	line = bytes.TrimPrefix(line, []byte("Uncaught "))
	line = bytes.TrimPrefix(line, []byte("["))
	i := 0
	for i < len(line) && isWord(line[i]) {
		i++
	}
	name, rest := line[:i], line[i:]
	if len(rest) > 0 && rest[0] != ':' && !hasPrefix(rest, " [") {
		return false
	}
	return bytes.HasSuffix(name, []byte("Error")) || bytes.HasSuffix(name, []byte("Exception"))
}

// nodeFile recognises "/app/index.js:10" and "node:events:497".
func nodeFile(line []byte) bool {
	n := len(line)
	for n > 0 && isDigit(line[n-1]) {
		n--
	}
	if n == len(line) || n < 4 || line[n-1] != ':' || bytes.IndexByte(line, ' ') >= 0 {
		return false
	}
	file := line[:n-1]
	return hasPrefix(line, "node:") || bytes.HasSuffix(file, []byte("js")) && bytes.LastIndexByte(file, '.') >= n-5 ||
		bytes.HasSuffix(file, []byte(".ts"))
}

type rubyKind uint8

const (
	notRuby   rubyKind = iota
	rubyFrame          // app.rb:10:in 'run'
	rubyError          // app.rb:10:in 'run': message (ErrorClass)
)

// rubyPlace recognises a place in a Ruby program.
func rubyPlace(line []byte) rubyKind {
	line = bytes.TrimPrefix(line, []byte("from "))
	at := bytes.IndexByte(line, ' ')
	if at < 5 || !bytes.HasSuffix(line[:at], []byte(":in")) || !isDigit(line[at-4]) {
		return notRuby
	}
	method := line[at+1:]
	if len(method) < 2 || method[0] != '\'' && method[0] != '`' {
		return notRuby
	}
	if method[len(method)-1] == '\'' {
		return rubyFrame
	}
	if bytes.Contains(method, []byte("': ")) {
		return rubyError
	}
	return notRuby
}
