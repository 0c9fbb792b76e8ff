package sink

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// seen is what a person wants to see of a document.
type seen struct {
	Time        time.Time `json:"@timestamp"`
	Level       word      `json:"level"`
	Project     word      `json:"project"`
	Message     word      `json:"message"`
	Method      word      `json:"method"`
	Path        word      `json:"path"`
	Query       word      `json:"query"`
	Status      word      `json:"status_code"`
	RequestTime word      `json:"request_time"`
	RequestID   word      `json:"request_id"`
	ParseError  word      `json:"parse_error"`
}

// word is a string, or the text of any other JSON value.
type word string

func (w *word) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*w = word(s)
	return nil
}

const (
	red, yellow, green, cyan, dim = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[36m", "\x1b[2m"
	bold                          = "\x1b[1;31m"
	plainly                       = "\x1b[0m"
)

// appendHuman appends a document as a line for people. Times are those of zone.
func appendHuman(dst, doc []byte, zone *time.Location, color bool) []byte {
	var d seen
	if json.Unmarshal(doc, &d) != nil {
		return append(appendHarmless(dst, string(doc)), '\n')
	}
	paint := func(code, text string) {
		if color && code != "" {
			dst = append(appendHarmless(append(dst, code...), text), plainly...)
			return
		}
		dst = appendHarmless(dst, text)
	}
	paint(dim, d.Time.In(zone).Format("2006-01-02 15:04:05.000"))
	dst = append(dst, ' ')
	paint(levelColor(string(d.Level)), fmt.Sprintf("%-5s", strings.ToUpper(string(d.Level))))
	dst = append(dst, ' ')
	paint(cyan, string(d.Project))
	dst = append(dst, ' ')
	switch {
	case d.Message != "":
		dst = appendHarmless(dst, string(d.Message))
	case d.Method != "" || d.Path != "":
		target := string(d.Method) + " " + string(d.Path)
		if d.Query != "" {
			target += "?" + string(d.Query)
		}
		dst = append(appendHarmless(dst, target), ' ')
		paint(statusColor(string(d.Status)), string(d.Status))
		if d.RequestTime != "" {
			dst = append(appendHarmless(append(dst, ' '), string(d.RequestTime)), 's')
		}
	default:
		dst = appendHarmless(dst, string(doc))
	}
	if d.RequestID != "" {
		dst = append(dst, ' ')
		paint(dim, "request_id="+string(d.RequestID))
	}
	if d.ParseError != "" {
		dst = append(dst, ' ')
		paint(yellow, "(not parsed: "+string(d.ParseError)+")")
	}
	return append(dst, '\n')
}

func levelColor(level string) string {
	switch level {
	case "fatal":
		return bold
	case "error":
		return red
	case "warn":
		return yellow
	case "info":
		return green
	}
	return dim
}

func statusColor(status string) string {
	switch {
	case strings.HasPrefix(status, "5"):
		return red
	case strings.HasPrefix(status, "4"):
		return yellow
	}
	return green
}

// dangerous reports whether a terminal might obey r in place of showing it: control
// characters (C1 ones too), and those that turn the direction of the text around.
func dangerous(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// appendHarmless appends text as it may be shown on a terminal: further lines are
// indented, so that no line of a message can pass for a document of its own, and
// what is dangerous is spelled out.
func appendHarmless(dst []byte, text string) []byte {
	for _, r := range text {
		switch {
		case r == '\n':
			dst = append(dst, "\n    "...)
		case r == '\t':
			dst = append(dst, '\t')
		case dangerous(r):
			dst = appendSpelled(dst, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// appendHarmlessJSON appends a JSON document for a terminal. JSON has C0 escaped
// already; the rest of what is dangerous can stand in its strings.
func appendHarmlessJSON(dst, doc []byte) []byte {
	for len(doc) > 0 {
		r, size := utf8.DecodeRune(doc)
		if dangerous(r) {
			dst = appendSpelled(dst, r)
		} else {
			dst = append(dst, doc[:size]...)
		}
		doc = doc[size:]
	}
	return dst
}

func appendSpelled(dst []byte, r rune) []byte { return fmt.Appendf(dst, `\u%04x`, r) }
