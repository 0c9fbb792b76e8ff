package parser

import (
	"bytes"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Why a line is not taken as logfmt.
const (
	notLogfmt      = "not logfmt"
	logfmtOpen     = "logfmt with a quote that is not closed"
	logfmtTooMany  = "logfmt with too many keys"
	logfmtLongKey  = "logfmt with a key that is too long"
	logfmtNoBorder = "logfmt with text right behind a quote"
)

// logfmtParser splits lines of key=value and key="quoted \" value". Values are text,
// as nothing in the line says which of them are numbers; but those fields that are
// numbers everywhere are here too. A key alone is true.
type logfmtParser struct {
	keyed
	keys keyTable

	b      []byte // the line
	reason string
	alone  int // keys without a value
}

func newLogfmt(zone *time.Location) Parser {
	return &logfmtParser{keyed: keyed{times: newTimeParser(zone)}}
}

// Parse implements Parser.
func (p *logfmtParser) Parse(text []byte, r *record.Record) {
	if !p.parse(text, r) {
		unparsed(text, r, p.reason)
	}
}

// parse is Parse without the message for text that is no logfmt. It leaves r in
// disorder then.
func (p *logfmtParser) parse(text []byte, r *record.Record) bool {
	p.begin(r, &p.keys)
	p.b, p.reason, p.alone = text, notLogfmt, 0
	pairs := 0
	for i := p.blank(0); i < len(text); i = p.blank(i) {
		if len(r.Fields) >= maxFields {
			p.reason = logfmtTooMany
			return false
		}
		if i = p.pair(i); i < 0 {
			return false
		}
		pairs++
	}
	// A sentence is a row of keys without values.
	if pairs -= p.alone; pairs == 0 || p.alone > pairs {
		return false
	}
	p.end()
	return true
}

// blank passes over white space.
func (p *logfmtParser) blank(i int) int {
	for i < len(p.b) && p.b[i] <= ' ' {
		i++
	}
	return i
}

var trueText = []byte("true")

// pair reads the key at i and its value, and returns the place after it; -1 when it is
// none.
func (p *logfmtParser) pair(i int) int {
	k := p.last.next
	if k != nil && len(p.b)-i >= len(k.lit) && string(p.b[i:i+len(k.lit)]) == k.lit {
		i += len(k.lit)
		p.last = k
	} else {
		from := i
		for i < len(p.b) && p.b[i] > ' ' && p.b[i] != '=' && p.b[i] != '"' {
			i++
		}
		raw := p.b[from:i]
		if len(raw) == 0 || i < len(p.b) && p.b[i] == '"' {
			return -1
		}
		if len(raw) > maxKeyBytes {
			p.reason = logfmtLongKey
			return -1
		}
		if i == len(p.b) || p.b[i] != '=' {
			p.alone++
			p.put(p.table.keyNamed(raw), trueText, record.Text)
			return i
		}
		i++
		k = p.lookup(raw, stringBroken, &p.table.root, p.b[from:i])
		p.last = k
	}
	if i < len(p.b) && p.b[i] == '"' {
		return p.quoted(i+1, k)
	}
	from := i
	for i < len(p.b) && p.b[i] > ' ' {
		i++
	}
	if i > from {
		p.put(k.name, p.b[from:i], record.Text)
	}
	return i
}

// quoted reads a value up to its closing quote.
func (p *logfmtParser) quoted(i int, k *lineKey) int {
	from, escaped := i, false
	for {
		n := bytes.IndexByte(p.b[i:], '"')
		if n < 0 {
			p.reason = logfmtOpen
			return -1
		}
		if n == 0 || p.b[i+n-1] != '\\' {
			escaped = escaped || hasBackslash(p.b[i:i+n])
			i += n
			break
		}
		escaped = true
		// The quote is escaped when an odd number of backslashes stands before it.
		slashes := 0
		for slashes < i+n-from && p.b[i+n-1-slashes] == '\\' {
			slashes++
		}
		i += n
		if slashes%2 == 0 {
			break
		}
		i++
	}
	val := p.b[from:i]
	if i++; i < len(p.b) && p.b[i] > ' ' {
		p.reason = logfmtNoBorder
		return -1
	}
	if escaped {
		val = p.r.Keep(appendMended(p.r.Scratch(), val))
	}
	if len(val) > 0 {
		p.put(k.name, val, record.Text)
	}
	return i
}
