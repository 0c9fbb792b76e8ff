package parser

import (
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
	times timeParser

	// The keys of lines that nginx writes have other meanings: see jsonnginx.go.
	tables [2]jsonTable
	nginx  bool // the last line was one of nginx's

	// The line.
	r      *record.Record
	b      []byte
	table  *jsonTable
	line   uint64 // its number, which marks the names that it has had
	last   *jsonKey
	reason string
	hints  uint32 // which keys of nginx's it has

	time, level, message, requestID jsonChoice
	ms                              int64
	keyStack                        [][]byte // the keys of the objects inside arrays, around the current place
}

// jsonChoice is the best of the keys that give one thing, such as the time.
type jsonChoice struct {
	name *jsonName
	val  []byte
	kind record.Kind
	at   int // its place among the fields
}

func newJSON(keys JSONKeys, zone *time.Location) Parser {
	return &jsonParser{times: newTimeParser(zone), tables: [2]jsonTable{{custom: keys}, {custom: keys, nginx: true}}}
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
	if nginx := isNginxJSON(p.hints); nginx != p.nginx {
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
	p.r, p.b = r, text
	p.line++
	p.table = &p.tables[0]
	if p.nginx {
		p.table = &p.tables[1]
	}
	p.table.begin(r.Reserved())
	p.last = &p.table.root
	p.reason, p.hints = invalidJSON, 0
	p.time, p.level, p.message, p.requestID = jsonChoice{}, jsonChoice{}, jsonChoice{}, jsonChoice{}
	i := p.space(0)
	if i == len(text) || text[i] != '{' {
		p.reason = notAnObject
		return false
	}
	i = p.members(i+1, &p.table.root, 1)
	if i < 0 {
		return false
	}
	if p.space(i) != len(text) {
		p.reason = invalidJSON
		return false
	}
	if p.time.name != nil {
		r.Time, r.HasTime = p.ms, true
		if r.Level == record.LevelNone && p.time.name.key == "@t" {
			r.Level = record.LevelInfo // Serilog writes @l only for other levels
		}
	}
	return true
}

// members reads an object's members up to its closing brace, and returns the place
// after that; -1, with p.reason, when they are invalid. parent is the object's key.
func (p *jsonParser) members(i int, parent *jsonKey, depth int) int {
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

// member reads the value of key k at i and makes fields of it.
func (p *jsonParser) member(i int, k *jsonKey, depth int) int {
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
func (p *jsonParser) nested(i int, k *jsonKey) int {
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

// put makes a field of a value, or what its key means.
func (p *jsonParser) put(n *jsonName, val []byte, kind record.Kind) {
	p.hints |= n.hint
	switch n.role {
	case roleNone:
		p.field(n, val, kind)
	case roleTime:
		p.putTime(n, val, kind)
	case roleLevel:
		p.putLevel(n, val, kind)
	case roleMessage:
		if kind == record.JSON && n.rank < weakRank {
			p.field(n, val, kind)
			return
		}
		if kind == record.JSON {
			kind = record.Text
		}
		p.choose(&p.message, n, val, kind, p.table.message)
	case roleRequestID:
		p.putRequestID(n, val, kind)
	case roleNanos:
		p.putNanos(n, val, kind)
	case roleNumber:
		p.putNumber(n, val, kind)
	default:
		p.putNginx(n, val, kind)
	}
}

// field appends a field. A name that the line has had gets the later value.
func (p *jsonParser) field(n *jsonName, val []byte, kind record.Kind) {
	if n.line == p.line {
		for i := range p.r.Fields {
			if f := &p.r.Fields[i]; f.Key == n.key {
				f.Val, f.Kind = val, kind
				return
			}
		}
	}
	n.line = p.line
	p.r.Put(n.key, val, kind)
}

// choose puts val as the field of the name target when n is the best key for that so
// far, and under its own name otherwise.
func (p *jsonParser) choose(c *jsonChoice, n *jsonName, val []byte, kind record.Kind, target *jsonName) {
	switch {
	case c.name == nil:
		*c = jsonChoice{name: n, at: len(p.r.Fields)}
		p.field(target, val, kind)
	case c.name == n:
		p.r.Fields[c.at].Val, p.r.Fields[c.at].Kind = val, kind
	case c.name.rank < n.rank:
		f := &p.r.Fields[c.at]
		loser, oldVal, oldKind := c.name, f.Val, f.Kind
		f.Val, f.Kind = val, kind
		c.name = n
		p.field(p.table.other(loser, target), oldVal, oldKind)
	default:
		p.field(p.table.other(n, target), val, kind)
	}
}

// replace makes n the choice and gives the one before it back as a field; false when
// that is the better one.
func (p *jsonParser) replace(c *jsonChoice, n *jsonName, val []byte, kind record.Kind) bool {
	if c.name != nil && c.name != n {
		if c.name.rank >= n.rank {
			p.field(n, val, kind)
			return false
		}
		p.field(c.name, c.val, c.kind)
	}
	*c = jsonChoice{name: n, val: val, kind: kind}
	return true
}

func (p *jsonParser) putTime(n *jsonName, val []byte, kind record.Kind) {
	ms, ok := p.times.parse(val)
	if !ok || n.rank < weakRank && len(val) <= len("2006-01-02") {
		p.field(n, val, kind)
		return
	}
	if p.replace(&p.time, n, val, kind) {
		p.ms = ms
	}
}

// putNanos adds log4j2's instant.nanoOfSecond to its instant.epochSecond.
func (p *jsonParser) putNanos(n *jsonName, val []byte, kind record.Kind) {
	d, ok := parseDecimal(val)
	if p.time.name == nil || p.time.name.rank != instantRank || !ok || d.scale > 0 || d.mant >= 1e9 || p.ms%1000 != 0 {
		p.field(n, val, kind)
		return
	}
	p.ms += d.mant / 1e6
}

func (p *jsonParser) putLevel(n *jsonName, val []byte, kind record.Kind) {
	level, ok := n.level(val)
	if !ok {
		p.field(n, val, kind)
		return
	}
	if p.replace(&p.level, n, val, kind) {
		p.r.Level = level
	}
}

func (p *jsonParser) putRequestID(n *jsonName, val []byte, kind record.Kind) {
	if kind == record.Escaped && hasBackslash(val) {
		val = p.r.Keep(record.AppendUnescaped(p.r.Scratch(), val))
	}
	if kind != record.JSON && absent(val) {
		return
	}
	if len(val) > maxRequestID || val[0] == '[' || val[0] == 't' && kind == record.JSON || val[0] == 'f' && kind == record.JSON {
		p.field(p.table.other(n, p.table.requestID), val, kind)
		return
	}
	p.choose(&p.requestID, n, val, record.Text, p.table.requestID)
}

// putNumber puts one of the fields that are numbers wherever they come from.
func (p *jsonParser) putNumber(n *jsonName, val []byte, kind record.Kind) {
	if kind != record.JSON && absent(val) {
		return
	}
	num, ok := cleanNumber(val)
	if !ok {
		p.field(p.table.named(n.key+"_text"), val, kind)
		return
	}
	setSlot(p.r, n.key, num)
	p.field(n, num, record.JSON)
}

// setSlot fills the slot of the record for a field that has one.
func setSlot(r *record.Record, key string, num []byte) {
	switch key {
	case "status_code":
		if d, ok := parseDecimal(num); ok && d.scale == 0 && d.mant >= 100 && d.mant < 1000 {
			r.Status = int32(d.mant)
		}
	case "request_time":
		if f, ok := parseFloat(num); ok && f >= 0 {
			r.RequestTime = f
		}
	case "upstream_time":
		if f, ok := parseFloat(num); ok && f >= 0 {
			r.UpstreamTime = f
		}
	}
}

// isNumberField tells whether the field is a number in every document.
func isNumberField(key string) bool {
	switch key {
	case "status_code", "request_time", "upstream_time", "bytes_sent", "total_bytes_sent":
		return true
	}
	return false
}

// cleanNumber returns val as a JSON number when it is one, but for zeros before it.
func cleanNumber(val []byte) ([]byte, bool) {
	for len(val) > 1 && val[0] == '0' && isDigit(val[1]) {
		val = val[1:]
	}
	return val, isNumber(val)
}
