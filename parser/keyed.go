package parser

import "github.com/tailwater/tailwater/record"

// keyed makes fields of the pairs of keys and values that a line has, for the formats
// that have such: among them are the time, the level, the message and the request id.
type keyed struct {
	times timeParser

	// The line.
	r     *record.Record
	table *keyTable
	last  *lineKey // the key before
	line  uint64   // its number, which marks the names that it has had
	hints uint32   // which keys of nginx's it has

	time, level, message, requestID choice
	ms                              int64 // what time says
}

// choice is the best of the keys that give one thing, such as the time.
type choice struct {
	name *keyName
	val  []byte
	kind record.Kind
	at   int // its place among the fields
}

// begin prepares for a line.
func (p *keyed) begin(r *record.Record, table *keyTable) {
	table.begin(r.Reserved())
	p.r, p.table, p.last = r, table, &table.root
	p.line++
	p.hints = 0
	p.time, p.level, p.message, p.requestID = choice{}, choice{}, choice{}, choice{}
}

// end gives the record what only the whole line decides.
func (p *keyed) end() {
	if p.requestID.name == nil && p.message.name != nil {
		if id := textRequestID(p.r.Fields[p.message.at].Val); id != nil {
			p.field(p.table.requestID, id, record.Text)
		}
	}
	if p.time.name == nil {
		return
	}
	p.r.Time, p.r.HasTime = p.ms, true
	if p.r.Level == record.LevelNone && p.time.name.key == "@t" {
		p.r.Level = record.LevelInfo // Serilog writes @l only for other levels
	}
}

// put makes a field of a value, or what its key means.
func (p *keyed) put(n *keyName, val []byte, kind record.Kind) {
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
func (p *keyed) field(n *keyName, val []byte, kind record.Kind) {
	if *n.line == p.line {
		for i := range p.r.Fields {
			if f := &p.r.Fields[i]; f.Key == n.key {
				f.Val, f.Kind = val, kind
				return
			}
		}
	}
	*n.line = p.line
	p.r.PutNamed(n.name, val, kind)
}

// choose puts val as the field of the name target when n is the best key for that so
// far, and under its own name otherwise.
func (p *keyed) choose(c *choice, n *keyName, val []byte, kind record.Kind, target *keyName) {
	switch {
	case c.name == nil:
		*c = choice{name: n, at: len(p.r.Fields)}
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
func (p *keyed) replace(c *choice, n *keyName, val []byte, kind record.Kind) bool {
	if c.name != nil && c.name != n {
		if c.name.rank >= n.rank {
			p.field(n, val, kind)
			return false
		}
		p.field(c.name, c.val, c.kind)
	}
	*c = choice{name: n, val: val, kind: kind}
	return true
}

func (p *keyed) putTime(n *keyName, val []byte, kind record.Kind) {
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
func (p *keyed) putNanos(n *keyName, val []byte, kind record.Kind) {
	d, ok := parseDecimal(val)
	if p.time.name == nil || p.time.name.rank != instantRank || !ok || d.scale > 0 || d.mant >= 1e9 || p.ms%1000 != 0 {
		p.field(n, val, kind)
		return
	}
	p.ms += d.mant / 1e6
}

func (p *keyed) putLevel(n *keyName, val []byte, kind record.Kind) {
	level, ok := n.level(val)
	if !ok {
		p.field(n, val, kind)
		return
	}
	if p.replace(&p.level, n, val, kind) {
		p.r.Level = level
	}
}

func (p *keyed) putRequestID(n *keyName, val []byte, kind record.Kind) {
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
func (p *keyed) putNumber(n *keyName, val []byte, kind record.Kind) {
	if kind != record.JSON && absent(val) {
		return
	}
	num, ok := cleanNumber(val)
	if !ok {
		p.field(p.table.asText(n), val, kind)
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
