package parser

import (
	"bytes"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Why a line is not taken as JSON.
const (
	notAnObject   = "not a JSON object"
	invalidJSON   = "invalid JSON"
	jsonEndsEarly = "JSON ends early"
	jsonTooDeep   = "JSON nested too deeply"
	jsonTooMany   = "JSON with too many keys"
	jsonLongKey   = "JSON with a key that is too long"
)

// What bounds the work that one line can ask for. Elasticsearch takes no more than
// 1,000 fields in an index and 20 levels by default.
const (
	maxFields    = 1000
	maxFlatDepth = 16   // objects deeper than this are values
	maxDepth     = 64   // of such values
	maxKeyBytes  = 1024 // of a key, and of the names of those around it
	maxLearned   = 1024
)

// jsonParser splits JSON lines. What it learns about a file's keys (their names in the
// document, what they mean, which follows which) it looks up once, not at every line.
// String values are passed on as they stand when they are valid.
type jsonParser struct {
	keyed

	// The keys of lines that nginx writes have other meanings: see jsonnginx.go.
	tables [2]keyTable
	nginx  bool // the last line was one of nginx's
	always bool // every line is

	b        []byte // the line
	reason   string
	keyStack [][]byte // the keys of the objects inside arrays, around the current place
}

func newJSON(keys JSONKeys, zone *time.Location) Parser {
	return &jsonParser{keyed: keyed{times: newTimeParser(zone)}, tables: [2]keyTable{{custom: keys}, {custom: keys, nginx: true}}}
}

// wholeObject tells whether a line is an object from its first byte to its last.
func wholeObject(line []byte) bool {
	if len(line) > 0 && (line[0] <= ' ' || line[len(line)-1] <= ' ') {
		line = bytes.TrimSpace(line)
	}
	return len(line) > 0 && line[0] == '{' && line[len(line)-1] == '}'
}

// Parse implements Parser.
func (p *jsonParser) Parse(text []byte, r *record.Record) {
	if !p.parse(text, r) {
		unparsed(text, r, p.reason)
	}
}

// parse is Parse without the message for text that is no JSON. It leaves r in disorder
// then.
func (p *jsonParser) parse(text []byte, r *record.Record) bool {
	if !p.object(text, r) {
		return false
	}
	if nginx := p.always || isNginxJSON(p.hints); nginx != p.nginx {
		// The keys were taken for what they are not. Only the line itself decides, so
		// that it reads the same wherever reading begins.
		p.nginx = nginx
		forget(r)
		return p.object(text, r)
	}
	return true
}

// object reads text as one object.
func (p *jsonParser) object(text []byte, r *record.Record) bool {
	table := &p.tables[0]
	if p.nginx {
		table = &p.tables[1]
	}
	p.begin(r, table)
	p.b, p.reason = text, invalidJSON

	i := p.space(0)
	if i == len(text) || text[i] != '{' {
		p.reason = notAnObject
		return false
	}
	i = p.members(i+1, &table.root, 1)
	if i < 0 {
		return false
	}
	if p.space(i) != len(text) {
		p.reason = invalidJSON
		return false
	}
	p.end()
	return true
}

// members reads an object's members up to its closing brace, and returns the place
// after that; -1, with p.reason, when they are invalid. parent is the object's key.
func (p *jsonParser) members(i int, parent *lineKey, depth int) int {
	if i = p.space(i); i < len(p.b) && p.b[i] == '}' {
		return i + 1
	}
	for {
		k := p.last.next
		if k != nil && k.parent == parent && len(p.b)-i > len(k.lit) && string(p.b[i:i+len(k.lit)]) == k.lit {
			i = p.space(i + len(k.lit))
		} else if k, i = p.key(i, parent); i < 0 {
			return -1
		}
		p.last = k
		if i = p.member(i, k, depth); i < 0 {
			return -1
		}
		if i = p.space(i); i == len(p.b) {
			return p.endsEarly()
		}
		switch p.b[i] {
		case ',':
			i = p.space(i + 1)
		case '}':
			return i + 1
		default:
			return -1
		}
	}
}

// key reads a key that was not foreseen, with the colon after it, and returns the place
// of its value.
func (p *jsonParser) key(i int, parent *lineKey) (*lineKey, int) {
	if i == len(p.b) {
		return nil, p.endsEarly()
	}
	if p.b[i] != '"' {
		return nil, -1
	}
	end, state := scanString(p.b, i+1)
	if end < 0 {
		return nil, p.endsEarly()
	}
	colon := p.space(end + 1)
	if colon == len(p.b) {
		return nil, p.endsEarly()
	}
	if p.b[colon] != ':' {
		return nil, -1
	}
	after := p.space(colon + 1)
	raw := p.b[i+1 : end]
	if len(raw)+len(parent.path) > maxKeyBytes {
		p.reason = jsonLongKey
		return nil, -1
	}
	return p.lookup(raw, state, parent, p.b[i:after]), after
}

// member reads the value of key k at i and makes fields of it.
func (p *jsonParser) member(i int, k *lineKey, depth int) int {
	if i == len(p.b) {
		return p.endsEarly()
	}
	if len(p.r.Fields) >= maxFields {
		p.reason = jsonTooMany
		return -1
	}
	switch c := p.b[i]; {
	case c == '"':
		end, state := scanString(p.b, i+1)
		if end < 0 {
			return p.endsEarly()
		}
		val, kind := p.b[i+1:end], record.Escaped
		if state == stringBroken {
			val, kind = p.r.Keep(appendMended(p.r.Scratch(), val)), record.Text
		}
		p.put(k.name, val, kind)
		return end + 1
	case c == '{' && depth < maxFlatDepth && !k.name.isMessage():
		return p.members(i+1, k, depth+1)
	case c == '{' || c == '[':
		return p.nested(i, k)
	case c == 'n':
		return p.literal(i, "null")
	case c == 't', c == 'f':
		word := "true"
		if c == 'f' {
			word = "false"
		}
		end := p.literal(i, word)
		if end > 0 {
			p.put(k.name, p.b[i:end], record.JSON)
		}
		return end
	}
	n := jsonNumber(p.b[i:])
	if n == 0 {
		return -1
	}
	p.put(k.name, p.b[i:i+n], record.JSON)
	return i + n
}

// nested keeps an array, or an object too deep to be flattened, as one value.
func (p *jsonParser) nested(i int, k *lineKey) int {
	end, state := p.value(i, 0)
	if end < 0 {
		return -1
	}
	val, kind := p.b[i:end], record.JSON
	switch {
	case state == valueTwice || k.name.isMessage():
		kind = record.Text // a key twice is not for Elasticsearch, and a message is text
	case state == valueBroken:
		val = p.r.Keep(appendCompact(p.r.Scratch(), val))
	}
	p.put(k.name, val, kind)
	return end
}
