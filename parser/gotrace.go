package parser

import "bytes"

// goHead recognises the first line of what the Go runtime prints as a program dies.
func goHead(line []byte) bool {
	switch line[0] {
	case 'p':
		return hasPrefix(line, "panic: ")
	case 'f':
		return hasPrefix(line, "fatal error: ")
	case 'g':
		return hasPrefix(line, "goroutine ") && len(line) > 10 && isDigit(line[10]) && bytes.IndexByte(line, '[') > 0
	case 'r':
		return hasPrefix(line, "runtime: ")
	case 'S':
		return hasPrefix(line, "SIGQUIT: ") || hasPrefix(line, "SIGSEGV: ") || hasPrefix(line, "SIGABRT: ")
	case 'u':
		return hasPrefix(line, "unexpected fault address ")
	}
	return false
}

// goLine says whether an unindented line goes on with a Go trace. frame is set when
// the line before it was a place in a file.
func (t *trace) goLine(line []byte, frame bool) bool {
	switch line[0] {
	case 'g':
		if goHead(line) {
			t.routine = true
			return true
		}
	case 'c':
		if hasPrefix(line, "created by ") {
			return true
		}
	case 'e':
		if hasPrefix(line, "exit status ") {
			return true
		}
	case 's':
		if hasPrefix(line, "signal arrived during ") {
			return true
		}
	case 'P':
		return hasPrefix(line, "PC=0x")
	case '[':
		return hasPrefix(line, "[signal ") || hasPrefix(line, "[originating ")
	case '.':
		return hasPrefix(line, "...additional frames elided...") || hasPrefix(line, "...") && bytes.HasSuffix(line, []byte(" frames elided..."))
	case 'f':
		if !t.routine && hasPrefix(line, "fatal error: ") {
			return true
		}
	case 'r':
		if hasPrefix(line, "runtime stack:") || hasPrefix(line, "runtime: ") && !t.routine {
			return true
		}
	}
	return goCall(line) || frame && goQualified(line) || register(line)
}

// goCall recognises a function with its arguments, as a trace names it:
// "main.(*Server).run(0xc000012345, {0x1, 0x2})".
func goCall(line []byte) bool {
	open := bytes.IndexByte(line, '(')
	if open < 1 || line[len(line)-1] != ')' || !isWord(line[0]) {
		return false
	}
	name := line[:open]
	return bytes.IndexByte(name, ' ') < 0 && (bytes.IndexByte(name, '.') > 0 || string(name) == "panic")
}

// goQualified recognises a function without its arguments, as zap and pkg/errors
// name it.
func goQualified(line []byte) bool {
	if !isWord(line[0]) || isDigit(line[0]) || bytes.IndexByte(line, '.') < 0 {
		return false
	}
	for _, c := range line {
		if !isWord(c) && bytes.IndexByte([]byte("./-(*)~[]"), c) < 0 {
			return false
		}
	}
	return true
}

// goName recognises the same where no place in a file came before, and so only when
// it says where it was imported from: "example.com/shop/cart.(*Cart).Add".
func goName(line []byte) bool {
	if !goQualified(line) {
		return false // nearly always, at the first space
	}
	slash := bytes.LastIndexByte(line, '/')
	if slash < 0 || bytes.IndexByte(line, '.') > bytes.IndexByte(line, '/') {
		return false
	}
	dot := bytes.IndexByte(line[slash:], '.')
	if dot < 2 || slash+dot+1 == len(line) {
		return false
	}
	name := line[slash+dot+1:]
	version := name[0] == 'v' && len(name) > 1 && isDigit(name[1]) // gopkg.in/yaml.v3
	return !version && !isDigit(name[0])
}

// goPlace recognises "\t/src/main.go:12" and "\t/src/main.go:12 +0x1d".
func goPlace(line []byte) bool {
	i := bytes.Index(line, []byte(".go:"))
	return i > 0 && i+4 < len(line) && isDigit(line[i+4])
}

// register recognises a line of the dump of the processor's registers: "rax    0x1".
func register(line []byte) bool {
	i := 0
	for i < len(line) && isWord(line[i]) {
		i++
	}
	if i == 0 || i > len("oldmask ") {
		return false
	}
	value := bytes.TrimLeft(line[i:], " ")
	return len(value) < len(line)-i && hasPrefix(value, "0x")
}

// levelWords are the levels of a line's head, and whether a trace behind a line of
// that level is an event of its own.
var levelWords = map[string]bool{
	"info": true, "information": true, "inf": true, "debug": true, "dbg": true, "trace": true,
	"notice": true, "verbose": true, "fine": true, "finer": true, "finest": true, "config": true,
	"warn": false, "warning": false, "wrn": false, "error": false, "err": false, "fatal": false,
	"severe": false, "critical": false, "crit": false, "panic": false, "alert": false, "emerg": false,
}

// quiet says whether the first level that the head of event names is info or below:
// a word in capitals, or one behind a bracket or an equals sign, or the first one.
func quiet(event []byte) bool {
	head := event[:min(len(event), 200)]
	if n := bytes.IndexByte(head, '\n'); n >= 0 {
		head = head[:n]
	}
	if len(head) > 5 && (head[0] == 'I' || head[0] == 'D') && isDigit(head[1]) && isDigit(head[4]) {
		return true // klog's I1123 20:00:00
	}
	for i := 0; i < len(head); {
		if !isLetter(head[i]) {
			i++
			continue
		}
		from := i
		for i < len(head) && isWord(head[i]) {
			i++
		}
		marked := from == 0 || bytes.IndexByte([]byte(`[=<|"`), head[from-1]) >= 0
		var lower [len("information")]byte
		if i-from > len(lower) {
			continue
		}
		for k, c := range head[from:i] {
			lower[k] = c | 0x20
			marked = marked || c&0x20 == 0
		}
		if q, ok := levelWords[string(lower[:i-from])]; ok {
			return q
		}
	}
	return false
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
