package alert

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is a mistake in a rule, for the person who wrote it.
type Error struct {
	// Rule is the rule's name and Key the key of the configuration that is wrong.
	Rule, Key string
	// Line and Col are where in the value of the key, from 1 and in characters; 0
	// when the value as a whole is wrong.
	Line, Col int
	// Text says what is wrong, and what to write instead.
	Text string
}

// Error returns one line: the rule, the key, the place, what is wrong.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("alert %s: %s: %s", e.Rule, e.Key, e.Text)
	}
	return fmt.Sprintf("alert %s: %s:%d:%d: %s", e.Rule, e.Key, e.Line, e.Col, e.Text)
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenField // a name in back quotes
	tokenNumber
	tokenText
	tokenOp // a comparison
	tokenOpen
	tokenClose
)

// unit is what a number was given in. Numbers are kept in seconds and bytes.
type unit uint8

const (
	unitNone unit = iota
	unitPercent
	unitSeconds
	unitBytes
)

type token struct {
	kind tokenKind
	at   int // byte offset in the expression
	text string
	num  float64
	unit unit
}

// syntaxError is a mistake at a byte offset; the parser's caller turns it into an Error.
type syntaxError struct {
	at   int
	text string
}

func (e *syntaxError) Error() string { return e.text }

func wrong(at int, format string, args ...any) error {
	return &syntaxError{at, fmt.Sprintf(format, args...)}
}

// place turns a byte offset into line and column, from 1, in characters.
func place(src string, at int) (line, col int) {
	before := src[:min(at, len(src))]
	line = 1 + strings.Count(before, "\n")
	before = before[strings.LastIndexByte(before, '\n')+1:]
	return line, utf8.RuneCountInString(before) + 1
}

// lex cuts an expression into tokens; the last one is tokenEnd.
func lex(src string) ([]token, error) {
	var out []token
	for at := 0; ; {
		for at < len(src) && strings.IndexByte(" \t\r\n", src[at]) >= 0 {
			at++
		}
		if at == len(src) {
			return append(out, token{kind: tokenEnd, at: at}), nil
		}
		t, err := lexOne(src, at)
		if err != nil {
			return nil, err
		}
		t.at = at
		at += len(t.text)
		if t.kind == tokenText || t.kind == tokenField {
			if t.text, err = unquote(t.text, t.at); err != nil {
				return nil, err
			}
		}
		out = append(out, t)
	}
}

// lexOne returns the token that begins at src[at], its text as it was written.
func lexOne(src string, at int) (token, error) {
	rest := src[at:]
	switch c := rest[0]; {
	case c == '(':
		return token{kind: tokenOpen, text: "("}, nil
	case c == ')':
		return token{kind: tokenClose, text: ")"}, nil
	case c == '"' || c == '\'' || c == '`':
		return lexQuoted(rest, at)
	case c >= '0' && c <= '9' || c == '-' || c == '.':
		return lexNumber(rest, at)
	case strings.IndexByte("=!<>&|", c) >= 0:
		return lexOp(rest, at)
	}
	n := 0
	for n < len(rest) {
		r, size := utf8.DecodeRuneInString(rest[n:])
		if !unicode.IsLetter(r) && (n == 0 && r != '_' && r != '@' || n > 0 && !unicode.IsDigit(r) && !strings.ContainsRune("_@.-", r)) {
			break
		}
		n += size
	}
	if n == 0 {
		r, _ := utf8.DecodeRuneInString(rest)
		return token{}, wrong(at, "unexpected %q", r)
	}
	return token{kind: tokenWord, text: rest[:n]}, nil
}

func lexOp(rest string, at int) (token, error) {
	for _, op := range []string{"==", "!=", "<=", ">=", "=~", "<", ">"} {
		if strings.HasPrefix(rest, op) {
			return token{kind: tokenOp, text: op}, nil
		}
	}
	for _, hint := range [][2]string{{"&&", "and"}, {"||", "or"}, {"!~", "not (field =~ ..)"}, {"!", "not"}, {"&", "and"}, {"|", "or"}, {"=>", ">="}, {"=<", "<="}, {"=", "=="}} {
		if strings.HasPrefix(rest, hint[0]) {
			return token{}, wrong(at, "%q is not known here; write %s", hint[0], hint[1])
		}
	}
	return token{}, wrong(at, "unexpected %q", rest[0])
}

func lexQuoted(rest string, at int) (token, error) {
	quote := rest[0]
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == quote && quote == '`':
			return token{kind: tokenField, text: rest[:i+1]}, nil
		case rest[i] == quote:
			return token{kind: tokenText, text: rest[:i+1]}, nil
		case rest[i] == '\\' && quote == '"':
			i++
		}
	}
	return token{}, wrong(at, "the text that begins here has no closing %c", quote)
}

// unquote takes the quotes off. Between double quotes, \" \\ \n and \t are what they
// are in JSON and any other backslash stands for itself, so that regular expressions
// need no second layer of escapes; between the other quotes nothing is escaped.
func unquote(text string, at int) (string, error) {
	quote, inner := text[0], text[1:len(text)-1]
	if quote == '`' && inner == "" {
		return "", wrong(at, "a field needs a name")
	}
	if quote != '"' || !strings.Contains(inner, `\`) {
		return inner, nil
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(inner), nil
}

// units are kept as a factor and a divisor, so that 7% is the float nearest to 0.07.
var units = map[string]struct {
	times, over float64
	unit        unit
}{
	"": {1, 1, unitNone}, "%": {1, 100, unitPercent},
	"ns": {1, 1e9, unitSeconds}, "us": {1, 1e6, unitSeconds}, "µs": {1, 1e6, unitSeconds}, "ms": {1, 1e3, unitSeconds},
	"s": {1, 1, unitSeconds}, "m": {60, 1, unitSeconds}, "h": {3600, 1, unitSeconds}, "d": {86400, 1, unitSeconds},
	"B": {1, 1, unitBytes}, "kB": {1e3, 1, unitBytes}, "KB": {1e3, 1, unitBytes}, "MB": {1e6, 1, unitBytes}, "GB": {1e9, 1, unitBytes}, "TB": {1e12, 1, unitBytes},
	"KiB": {1 << 10, 1, unitBytes}, "MiB": {1 << 20, 1, unitBytes}, "GiB": {1 << 30, 1, unitBytes}, "TiB": {1 << 40, 1, unitBytes},
}

// lexNumber reads a number with its unit; times may be added up, as in 1m30s.
func lexNumber(rest string, at int) (token, error) {
	t := token{kind: tokenNumber}
	n := 0
	for {
		digits := n
		for n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.' || n == 0 && rest[n] == '-') {
			n++
		}
		num, err := strconv.ParseFloat(rest[digits:n], 64)
		if err != nil {
			return t, wrong(at+digits, "%q is not a number", rest[digits:n])
		}
		name := n
		for n < len(rest) && (rest[n] == '%' || rest[n] >= 'a' && rest[n] <= 'z' || rest[n] >= 'A' && rest[n] <= 'Z' || strings.HasPrefix(rest[name:], "µ") && n < name+len("µ")) {
			n++
		}
		u, known := units[rest[name:n]]
		if !known {
			return t, wrong(at+name, "unknown unit %q; known are %%, ns, us, ms, s, m, h, d, B, KiB, MiB, GiB, kB, MB, GB", rest[name:n])
		}
		t.num += num * u.times / u.over
		t.unit = u.unit
		t.text = rest[:n]
		if u.unit != unitSeconds || n == len(rest) || rest[n] < '0' || rest[n] > '9' {
			return t, nil
		}
	}
}
