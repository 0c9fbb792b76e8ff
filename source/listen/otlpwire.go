package listen

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// maxRecordFactor is how many times as long as its JSON a record may be.
const maxRecordFactor = 8

var (
	errWire     = errors.New("it is no protobuf")
	errUnfolded = errors.New("with the resource's attributes in each record this is too much at once; send fewer records in a request")
)

// otlpReader makes records of an ExportLogsServiceRequest. It reads the messages as they
// lie in the body: there are far more objects in one than memory may be spent on, and
// texts that are no UTF-8, which others send, cost no more than those bytes.
type otlpReader struct {
	maxLine  int
	body     int // its length
	memory   *Memory
	held     int    // of memory; whoever made the reader gives it back
	dst      []byte // what has become of it
	rejected int64  // records of more than maxLine

	unfolded     int
	shared, text []byte
	fields       []byte
}

// fields iterates over the fields of a message.
type fields struct {
	rest  []byte
	num   protowire.Number
	typ   protowire.Type
	bytes []byte // of a BytesType
	bits  uint64 // of the others
	err   error
}

// next reads a field, and says false at the end and when there is none.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	num, typ, n := protowire.ConsumeTag(f.rest)
	if n < 0 {
		f.err = errWire
		return false
	}
	f.num, f.typ, f.rest = num, typ, f.rest[n:]
	switch typ {
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	case protowire.VarintType:
		f.bits, n = protowire.ConsumeVarint(f.rest)
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(f.rest)
	case protowire.Fixed32Type:
		var bits uint32
		bits, n = protowire.ConsumeFixed32(f.rest)
		f.bits = uint64(bits)
	default:
		n = protowire.ConsumeFieldValue(num, typ, f.rest)
	}
	if n < 0 {
		f.err = errWire
		return false
	}
	f.rest = f.rest[n:]
	return true
}

// is tells whether the field is that message, text or bytes.
func (f *fields) is(num protowire.Number) bool {
	return f.num == num && f.typ == protowire.BytesType
}

// merged is the embedded message of that number: where it comes in parts, their bytes
// together.
func merged(message []byte, num protowire.Number) (all []byte, err error) {
	parts := 0
	f := fields{rest: message}
	for f.next() {
		if !f.is(num) {
			continue
		}
		if parts++; parts == 1 {
			all = f.bytes[:len(f.bytes):len(f.bytes)]
		} else {
			all = append(all, f.bytes...)
		}
	}
	return all, f.err
}

// request takes a request's records.
func (o *otlpReader) request(body []byte) error {
	f := fields{rest: body}
	for f.next() {
		if f.is(1) {
			if err := o.resourceLogs(f.bytes); err != nil {
				return err
			}
		}
	}
	return f.err
}

func (o *otlpReader) resourceLogs(message []byte) error {
	resource, err := merged(message, 1)
	if err != nil {
		return err
	}
	project, err := o.beginResource(resource)
	if err != nil {
		return err
	}
	f := fields{rest: message}
	for f.next() {
		if f.is(2) {
			if err := o.scopeLogs(f.bytes, project); err != nil {
				return err
			}
		}
	}
	return f.err
}

// beginResource puts a resource's attributes before what is to come.
func (o *otlpReader) beginResource(resource []byte) (project []byte, err error) {
	o.shared = o.shared[:0]
	f := fields{rest: resource}
	for f.next() {
		if !f.is(1) {
			continue
		}
		key, value, err := keyValue(f.bytes)
		if err != nil {
			return nil, err
		}
		if string(key) == "service.name" {
			if project, err = textOf(value); err != nil {
				return nil, err
			}
		}
		if o.shared, err = appendAttribute(o.shared, key, value, true, 0); err != nil {
			return nil, err
		}
	}
	if checkProject(string(project)) != nil {
		project = nil
	}
	return project, f.err
}

func (o *otlpReader) scopeLogs(message []byte, project []byte) error {
	scope, err := merged(message, 1)
	if err != nil {
		return err
	}
	before := len(o.shared)
	defer func() { o.shared = o.shared[:before] }()
	if err := o.beginScope(scope); err != nil {
		return err
	}
	f := fields{rest: message}
	for f.next() {
		if f.is(2) {
			if err := o.record(f.bytes, project); err != nil {
				return err
			}
		}
	}
	return f.err
}

// beginScope puts a scope's members behind those of its resource.
func (o *otlpReader) beginScope(scope []byte) (err error) {
	for _, part := range [...]struct {
		num protowire.Number
		key string
	}{{1, "scope.name"}, {2, "scope.version"}} {
		text, err := merged(scope, part.num)
		if err != nil {
			return err
		}
		o.shared = appendNonEmpty(o.shared, part.key, text)
	}
	f := fields{rest: scope}
	for f.next() {
		if !f.is(3) {
			continue
		}
		key, value, err := keyValue(f.bytes)
		if err != nil {
			return err
		}
		if o.shared, err = appendAttribute(o.shared, key, value, true, 0); err != nil {
			return err
		}
	}
	return f.err
}

// logRecord is a LogRecord but for its attributes.
type logRecord struct {
	nanos, observed        uint64
	severity               uint64
	severityText           []byte
	body                   []byte // an AnyValue
	hasBody                bool
	traceID, spanID, event []byte
}

func (l *logRecord) read(message []byte) error {
	f := fields{rest: message}
	for f.next() {
		switch {
		case f.num == 1 && f.typ == protowire.Fixed64Type:
			l.nanos = f.bits
		case f.num == 11 && f.typ == protowire.Fixed64Type:
			l.observed = f.bits
		case f.num == 2 && f.typ == protowire.VarintType:
			l.severity = f.bits
		case f.is(3):
			l.severityText = f.bytes
		case f.is(5):
			l.body, l.hasBody = f.bytes, true
		case f.is(9):
			l.traceID = notZero(f.bytes)
		case f.is(10):
			l.spanID = notZero(f.bytes)
		case f.is(12):
			l.event = f.bytes
		}
	}
	return f.err
}

// notZero is an id; one of zeros alone is none, by the protocol.
func notZero(id []byte) []byte {
	for _, b := range id {
		if b != 0 {
			return id
		}
	}
	return nil
}

// record takes one LogRecord. Attributes stand in the order of their weight, as of two
// with one name the later wins: resource, scope, record.
func (o *otlpReader) record(message []byte, project []byte) error {
	if len(o.shared)+len(message) > maxRecordFactor*o.maxLine { // it need not be built to be known as too large
		o.rejected++
		return nil
	}
	var l logRecord
	if err := l.read(message); err != nil {
		return err
	}
	o.text = append(o.text[:0], o.shared...)
	if err := o.members(message, &l); err != nil {
		return err
	}
	if err := o.unfold(len(o.text)); err != nil {
		return err
	}
	if len(o.text) > o.maxLine {
		o.rejected++
		return nil
	}
	r := spool.Record{Flags: spool.IsJSON, Project: project, Text: o.text}
	nanos := l.nanos
	if nanos == 0 {
		nanos = l.observed
	}
	if nanos <= math.MaxInt64 {
		r.Time = int64(nanos / uint64(time.Millisecond))
	}
	if n := l.severity; n >= 1 && n <= 24 {
		r.Level = [...]record.Level{record.LevelDebug, record.LevelDebug, record.LevelInfo, record.LevelWarn, record.LevelError, record.LevelFatal}[(n-1)/4]
	}
	if len(l.traceID) > 0 {
		var id [64]byte
		o.fields = spool.AppendField(o.fields[:0], "trace_id", hex.AppendEncode(id[:0], l.traceID), record.Text)
		r.Fields = o.fields
	}
	o.dst = spool.AppendRecord(o.dst, &r)
	return nil
}

// unfold asks for the memory of n more bytes.
func (o *otlpReader) unfold(n int) error {
	o.unfolded += n
	if o.unfolded > min(o.memory.unfolded(o.body), int(o.memory.bytes)-o.body) {
		return errUnfolded
	}
	for o.body+o.held < o.unfolded { // as much as the body has was asked for with it
		if !o.memory.take(memoryStep) {
			return errBusy
		}
		o.held += memoryStep
	}
	return nil
}

// members makes a JSON object of what is shared and of a record.
func (o *otlpReader) members(message []byte, l *logRecord) error {
	body, kind, err := anyOf(l.body)
	if err != nil {
		return err
	}
	f := fields{rest: message}
	for f.next() {
		if !f.is(6) {
			continue
		}
		key, value, err := keyValue(f.bytes)
		if err != nil {
			return err
		}
		if o.text, err = appendAttribute(o.text, key, value, kind != 0, 0); err != nil {
			return err
		}
	}
	o.text = appendNonEmpty(o.text, "event_name", l.event)
	o.text = appendNonEmpty(o.text, "severity_text", l.severityText)
	var id [64]byte
	o.text = appendNonEmpty(o.text, "span_id", hex.AppendEncode(id[:0], l.spanID))
	o.text = appendNonEmpty(o.text, "trace_id", hex.AppendEncode(id[:0], l.traceID))
	switch kind {
	case 0:
	case anyKVList:
		if o.text, err = appendMembers(o.text, body.bytes, 0); err != nil {
			return err
		}
	case anyString:
		o.text = appendText(o.text, "message", body.bytes)
	default:
		value, err := appendAny(nil, l.body, 0)
		if err != nil {
			return err
		}
		o.text = appendText(o.text, "message", bytes.Trim(value, `"`)) // of bytes, and of NaN
	}
	if len(o.text) == 0 {
		o.text = append(o.text, ',')
	}
	o.text[0] = '{' // in the place of the first comma, or before nothing
	o.text = append(o.text, '}')
	return nil
}

// keyValue reads a KeyValue; value is an AnyValue.
func keyValue(message []byte) (key, value []byte, err error) {
	f := fields{rest: message}
	for f.next() {
		switch {
		case f.is(1):
			key = f.bytes
		case f.is(2):
			value = f.bytes
		}
	}
	return key, value, f.err
}

// The kinds of an AnyValue.
const (
	anyString = 1 + iota
	anyBool
	anyInt
	anyDouble
	anyArray
	anyKVList
	anyBytes
)

var anyTypes = [...]protowire.Type{anyString: protowire.BytesType, anyBool: protowire.VarintType, anyInt: protowire.VarintType, anyDouble: protowire.Fixed64Type,
	anyArray: protowire.BytesType, anyKVList: protowire.BytesType, anyBytes: protowire.BytesType}

// anyOf reads an AnyValue: of several the last one counts. kind is 0 for none.
func anyOf(message []byte) (v fields, kind int, err error) {
	f := fields{rest: message}
	for f.next() {
		if f.num < protowire.Number(len(anyTypes)) && f.typ == anyTypes[f.num] {
			v, kind = f, int(f.num)
		}
	}
	return v, kind, f.err
}

// textOf is an AnyValue's text, empty where it is none.
func textOf(value []byte) ([]byte, error) {
	v, kind, err := anyOf(value)
	if kind != anyString {
		return nil, err
	}
	return v.bytes, err
}

// appendNonEmpty appends ,"key":"text" unless the text is empty.
func appendNonEmpty(dst []byte, key string, text []byte) []byte {
	if len(text) == 0 {
		return dst
	}
	return appendText(dst, key, text)
}

func appendText(dst []byte, key string, text []byte) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return appendQuoted(dst, text)
}

// appendAttribute appends an attribute as a member. Beside a body, one that is called
// message gets another name, or it would be taken for that.
func appendAttribute(dst, key, value []byte, beside bool, depth int) ([]byte, error) {
	if beside && string(key) == "message" {
		key = []byte("attributes.message")
	}
	dst = append(dst, ',')
	dst = appendQuoted(dst, key)
	dst = append(dst, ':')
	return appendAny(dst, value, depth)
}

// appendMembers appends the members of a KeyValueList, each with a comma before it.
func appendMembers(dst, message []byte, depth int) ([]byte, error) {
	f := fields{rest: message}
	for f.next() {
		if !f.is(1) {
			continue
		}
		key, value, err := keyValue(f.bytes)
		if err != nil {
			return dst, err
		}
		if dst, err = appendAttribute(dst, key, value, false, depth); err != nil {
			return dst, err
		}
	}
	return dst, f.err
}

// appendAny appends an AnyValue as JSON. What is nested too deeply is null.
func appendAny(dst, message []byte, depth int) ([]byte, error) {
	if depth > maxPackDepth {
		return append(dst, "null"...), nil
	}
	v, kind, err := anyOf(message)
	if err != nil {
		return dst, err
	}
	switch kind {
	case anyString:
		return appendQuoted(dst, v.bytes), nil
	case anyBool:
		return strconv.AppendBool(dst, v.bits != 0), nil
	case anyInt:
		return strconv.AppendInt(dst, int64(v.bits), 10), nil
	case anyDouble:
		return appendFloat(dst, math.Float64frombits(v.bits)), nil
	case anyBytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.bytes)
		return append(dst, '"'), nil
	case anyArray:
		start := len(dst)
		f := fields{rest: v.bytes}
		for f.next() {
			if !f.is(1) {
				continue
			}
			if dst, err = appendAny(append(dst, ','), f.bytes, depth+1); err != nil {
				return dst, err
			}
		}
		return enclosed(dst, start, '[', ']'), f.err
	case anyKVList:
		start := len(dst)
		dst, err = appendMembers(dst, v.bytes, depth+1)
		return enclosed(dst, start, '{', '}'), err
	}
	return append(dst, "null"...), nil
}

// enclosed puts brackets around what was appended from start on, each with a comma
// before it: the first comma's place is the opening one's.
func enclosed(dst []byte, start int, opening, closing byte) []byte {
	if len(dst) == start {
		return append(dst, opening, closing)
	}
	dst[start] = opening
	return append(dst, closing)
}
