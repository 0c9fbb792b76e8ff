package alert

import (
	"bytes"
	"regexp"
	"strconv"
	"unsafe"

	"github.com/tailwater/tailwater/record"
)

// slot says where a field's value is found.
type slot uint8

const (
	slotGet          slot = iota // among the record's fields
	slotLevel                    // Record.Level
	slotStatus                   // Record.Status
	slotRequestTime              // Record.RequestTime
	slotUpstreamTime             // Record.UpstreamTime
	slotParseError               // Record.ParseError
	slotPartial                  // Record.Partial
	slotTruncated                // Record.Truncated
	slotConst                    // the same for every line of the chain: project, host, file ..
)

// field is a reference to one field of a line.
type field struct {
	name string // as the user wrote it
	key  string // escaped, as Record keeps it
	slot slot
	// hint is the index into hints of the place where the field was last found.
	hint int
	// val is the value of a slotConst.
	val []byte
}

var typedSlots = map[string]slot{
	"level": slotLevel, "status_code": slotStatus, "request_time": slotRequestTime, "upstream_time": slotUpstreamTime,
	"parse_error": slotParseError, "partial": slotPartial, "truncated": slotTruncated,
}

func newField(name string) field {
	return field{name: name, key: string(record.AppendEscaped(nil, []byte(name))), slot: typedSlots[name]}
}

// bind fixes the field for the lines of one chain: what its origin says is constant.
func (f field) bind(o *record.Origin, hints map[string]int) field {
	if f.slot == slotGet && o != nil {
		if v, ok := o.Value(f.name); ok {
			f.slot, f.val = slotConst, []byte(v)
			return f
		}
	}
	i, known := hints[f.key]
	if !known {
		i = len(hints)
		hints[f.key] = i
	}
	f.hint = i
	return f
}

// hints remember, for each field, its index in the last line that had it: lines of
// one format have the same fields in the same order.
type hints []int32

// get finds the field among the record's own.
func (f *field) get(h hints, r *record.Record) (*record.Field, bool) {
	if i := int(h[f.hint]); i < len(r.Fields) && r.Fields[i].Key == f.key {
		return &r.Fields[i], true
	}
	if _, ok := r.Get(f.key); !ok { // most absent fields are found absent at once
		return nil, false
	}
	for i := range r.Fields {
		if r.Fields[i].Key == f.key {
			h[f.hint] = int32(i)
			return &r.Fields[i], true
		}
	}
	return nil, false
}

// number returns the field's numeric value; false when the line has none.
func (f *field) number(h hints, r *record.Record) (float64, bool) {
	switch f.slot {
	case slotStatus, slotRequestTime, slotUpstreamTime:
		v := f.slot.number(r)
		return v, v == v
	case slotConst:
		return parseNumber(f.val)
	case slotGet:
	default:
		return 0, false
	}
	found, ok := f.get(h, r)
	if !ok {
		return 0, false
	}
	return parseNumber(inside(found))
}

// value is number with NaN where the line has none.
func (f *field) value(h hints, r *record.Record) float64 {
	if f.slot.numeric() {
		return f.slot.number(r)
	}
	if v, ok := f.number(h, r); ok {
		return v
	}
	return none
}

// text returns the field's value as text, unescaped; false when the line has none.
// It may use scratch, and is valid until scratch is used again.
func (f *field) text(h hints, r *record.Record, scratch *[]byte) ([]byte, bool) {
	switch f.slot {
	case slotLevel:
		name := r.Level.String()
		return unsafe.Slice(unsafe.StringData(name), len(name)), name != ""
	case slotParseError:
		return unsafe.Slice(unsafe.StringData(r.ParseError), len(r.ParseError)), r.ParseError != ""
	case slotPartial:
		return trueText, r.Partial
	case slotTruncated:
		return trueText, r.Truncated
	case slotConst:
		return f.val, true
	}
	found, ok := f.get(h, r)
	if !ok {
		return nil, false
	}
	v := inside(found)
	isString := found.Kind == record.Escaped || len(v) < len(found.Val)
	if isString && bytes.IndexByte(v, '\\') >= 0 {
		*scratch = record.AppendUnescaped((*scratch)[:0], v)
		return *scratch, true
	}
	return v, true
}

var trueText = []byte("true")

// inside returns a value without the quotes of a JSON string.
func inside(f *record.Field) []byte {
	v := f.Val
	if f.Kind == record.JSON && len(v) >= 2 && v[0] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// op is a comparison.
type op uint8

const (
	opEq op = iota
	opNe
	opLt
	opLe
	opGt
	opGe
	opMatch
)

var opNames = [...]string{"==", "!=", "<", "<=", ">", ">=", "=~"}

func (o op) String() string { return opNames[o] }

// not is the comparison that is true where o is false.
func (o op) not() op { return [...]op{opNe, opEq, opGe, opGt, opLe, opLt}[o] }

func compare(a float64, o op, b float64) bool {
	switch o {
	case opEq:
		return a == b
	case opNe:
		return a != b
	case opLt:
		return a < b
	case opLe:
		return a <= b
	case opGt:
		return a > b
	case opGe:
		return a >= b
	}
	return false
}

type predKind uint8

const (
	predNumber predKind = iota // field op num
	predText                   // field == text, field != text
	predMatch                  // field =~ re
	predLevel                  // level op a level's name
	predAnd
	predOr
	predNot
)

// pred is a predicate over one line. A comparison with a field that the line does not
// have is false, whatever the comparison.
type pred struct {
	kind  predKind
	op    op
	level record.Level
	field field
	num   float64
	str   []byte
	re    *regexp.Regexp
	a, b  *pred
	text  string // canonical, as it is shown in notices
}

// bind returns the predicate for the lines of one chain.
func (p *pred) bind(o *record.Origin, hints map[string]int) *pred {
	if p == nil {
		return nil
	}
	q := *p
	if p.a == nil {
		q.field = p.field.bind(o, hints)
	}
	q.a, q.b = p.a.bind(o, hints), p.b.bind(o, hints)
	return &q
}

// match tells whether the line fulfils the predicate.
func (p *pred) match(h hints, r *record.Record, scratch *[]byte) bool {
	switch p.kind {
	case predLevel:
		return r.Level != record.LevelNone && compare(float64(r.Level), p.op, float64(p.level))
	case predNumber:
		v, ok := p.field.number(h, r)
		return ok && compare(v, p.op, p.num)
	case predText:
		v, ok := p.field.text(h, r, scratch)
		return ok && bytes.Equal(v, p.str) == (p.op == opEq)
	case predMatch:
		v, ok := p.field.text(h, r, scratch)
		return ok && p.re.Match(v)
	case predAnd:
		return p.a.match(h, r, scratch) && p.b.match(h, r, scratch)
	case predOr:
		return p.a.match(h, r, scratch) || p.b.match(h, r, scratch)
	default:
		return !p.a.match(h, r, scratch)
	}
}

var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// parseNumber reads a JSON number. Those of up to 15 digits, which are nearly all, are
// exact in one division.
func parseNumber(b []byte) (float64, bool) {
	n, neg := 0, false
	if len(b) > 0 && b[0] == '-' {
		n, neg = 1, true
	}
	var mantissa uint64
	digits, after, point := 0, 0, false
	for ; n < len(b); n++ {
		c := b[n]
		if c == '.' && !point && digits > 0 {
			point = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		if digits++; digits > 15 {
			return parseLong(b)
		}
		mantissa = mantissa*10 + uint64(c-'0')
		if point {
			after++
		}
	}
	if digits == 0 || point && after == 0 {
		return 0, false
	}
	if n < len(b) {
		if b[n] == 'e' || b[n] == 'E' {
			return parseLong(b)
		}
		return 0, false
	}
	v := float64(mantissa) / pow10[after]
	if neg {
		v = -v
	}
	return v, true
}

// parseLong reads numbers with exponents and many digits. Only what has the bytes of a
// number reaches strconv, whose errors would be allocated.
func parseLong(b []byte) (float64, bool) {
	if len(b) > 64 {
		return 0, false
	}
	for i, c := range b {
		exponent := i > 0 && (c == 'e' || c == 'E' || c == '+')
		if (c < '0' || c > '9') && c != '-' && c != '.' && !exponent {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64)
	return v, err == nil
}
