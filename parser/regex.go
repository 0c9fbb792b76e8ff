package parser

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// noRegexMatch is why a line is not taken by a regex.
const noRegexMatch = "does not match the regex"

// regexParser makes fields of the named captures of a user's expression. An empty
// capture and a "-" are absent. It costs one allocation a line, the places of the
// captures, which the standard library does not let a caller provide.
type regexParser struct {
	keyed
	keys keyTable

	re *regexp.Regexp
	// whole is set when the expression speaks of newlines. Any other sees the first line
	// of an event, and what follows belongs to the message.
	whole bool

	captures []regexCapture
	reserved *record.Keys // for which the names of captures hold
	message  int          // the capture that is the message, -1 for none
}

type regexCapture struct {
	group int
	raw   string
	name  *keyName
}

// newRegex returns a parser for an expression with named captures, or an error for the
// operator who wrote it.
func newRegex(expr string, zone *time.Location) (Parser, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("regex %q: %s", expr, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	p := &regexParser{keyed: keyed{times: newTimeParser(zone)}, re: re, whole: strings.Contains(expr, "(?s") || strings.Contains(expr, `\n`)}
	for group, name := range re.SubexpNames() {
		if name != "" {
			p.captures = append(p.captures, regexCapture{group: group, raw: name})
		}
	}
	if len(p.captures) == 0 {
		return nil, fmt.Errorf("regex %q has no named capture; write what is to become a field as (?P<name>...)", expr)
	}
	return p, nil
}

// Parse implements Parser.
func (p *regexParser) Parse(text []byte, r *record.Record) {
	line, rest := text, []byte(nil)
	if n := bytes.IndexByte(text, '\n'); n >= 0 && !p.whole {
		line, rest = text[:n], text[n:]
	}
	at := p.re.FindSubmatchIndex(line)
	if at == nil && len(rest) > 0 {
		line, rest = text, nil
		at = p.re.FindSubmatchIndex(line)
	}
	if at == nil {
		unparsed(text, r, noRegexMatch)
		return
	}
	p.prepare(r)
	for i := range p.captures {
		c := &p.captures[i]
		from, to := at[2*c.group], at[2*c.group+1]
		if from < 0 {
			continue
		}
		val := line[from:to]
		if i == p.message && len(rest) > 0 {
			val, rest = p.extended(val, text, from, to, rest), nil
		}
		if !absent(val) {
			p.capture(c.name, val)
		}
	}
	if len(rest) > 0 {
		p.put(p.table.keyNamed([]byte("message")), text, record.Text)
	}
	p.end()
}

// prepare begins the record with the names of the captures.
func (p *regexParser) prepare(r *record.Record) {
	p.begin(r, &p.keys)
	if p.reserved == r.Reserved() {
		return
	}
	p.reserved, p.message = r.Reserved(), -1 // the table has begun anew
	for i := range p.captures {
		c := &p.captures[i]
		c.name = p.table.keyNamed([]byte(c.raw))
		if c.name.role == roleMessage && (p.message < 0 || c.name.rank > p.captures[p.message].name.rank) {
			p.message = i
		}
	}
}

// extended returns the message of an event of several lines, of which line, the first,
// has it at from:to.
func (p *regexParser) extended(val, text []byte, from, to int, rest []byte) []byte {
	if to == len(text)-len(rest) {
		return text[from:]
	}
	return p.r.Keep(append(append(p.r.Scratch(), val...), rest...))
}

// capture puts one value. A capture that is named for it may be a time of day alone.
func (p *regexParser) capture(n *keyName, val []byte) {
	if n.role == roleTime && len(val) < 20 {
		if ms, width, ok := p.times.head(val); ok && width == len(val) {
			if p.replace(&p.time, n, val, record.Text) {
				p.ms = ms
			}
			return
		}
	}
	p.put(n, val, record.Text)
}
