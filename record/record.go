package record

import "slices"

// Kind tells how a field's bytes become JSON.
type Kind uint8

const (
	// Text is raw bytes: they are quoted and escaped, and what is not UTF-8 in
	// them becomes U+FFFD.
	Text Kind = iota
	// JSON is one complete, valid JSON value, copied as it stands.
	JSON
	// Escaped is the inside of a JSON string, valid as it stands: it is quoted and
	// copied. Without a backslash in it, it is the text itself; see Field.AppendText.
	Escaped
)

// Field is one key of a document with its value.
type Field struct {
	// Key is the key as it stands between the quotes of a JSON document: already
	// escaped.
	Key  string
	Val  []byte
	Kind Kind

	head *head // of Key, nil when it has none
}

// Name is a key that a parser puts again and again, with all that is worked out for it
// once. Make it with NewName.
type Name struct {
	key  string
	bit  uint64
	head *head
}

// head is `,"key":"` with room behind it: copying all of it, whatever its length, is
// cheaper than copying as much as is needed.
type head struct {
	text [headBytes]byte
	len  int
}

const headBytes = 32

// NewName returns the Name of a key. The key is as Field wants it: already escaped.
func NewName(key string) *Name {
	n := &Name{key: key, bit: keyBit(key)}
	if text := `,"` + key + `":"`; len(text) <= headBytes {
		n.head = &head{len: len(text)}
		copy(n.head.text[:], text)
	}
	return n
}

// Key returns the key.
func (n *Name) Key() string { return n.key }

// AppendText appends the field's value as text, the escapes of a string undone; a
// value of Kind JSON as it stands.
func (f Field) AppendText(dst []byte) []byte {
	if f.Kind == Escaped {
		return AppendUnescaped(dst, f.Val)
	}
	return append(dst, f.Val...)
}

// Record is one event between parsing and encoding. It is reused for every line:
// Reset it, let a parser fill it, read it, encode it.
type Record struct {
	// Time is the event's own time in Unix milliseconds, when HasTime.
	Time    int64
	HasTime bool
	Level   Level

	// Fields are the document's keys beside tailwater's own, in the order of the
	// line. A key stands in it once; use Add, which sees to that.
	Fields []Field

	// Status is the HTTP status code, 0 when the line has none.
	Status int32
	// RequestTime and UpstreamTime are in seconds, negative when the line has none.
	RequestTime, UpstreamTime float64

	// ParseError says why the line did not parse; "" when it did. It becomes the
	// document's parse_error and is one of a small set of constants.
	ParseError string
	// Partial marks a line that was sent before its end was written, and the rest.
	Partial bool
	// Truncated marks a line that was cut at the length limit.
	Truncated bool

	seen     uint64 // a bit for each key in Fields, to find most new keys new at once
	reserved *Keys
	scratch  []byte
}

// Keys is the set of keys that a line may not use because the document has its own
// of that name. Build it once with NewKeys.
type Keys struct {
	seen  uint64
	names map[string]struct{}
}

// NewKeys returns the set of tailwater's own keys and the given ones (the names of
// the configuration's fields and of the path's captures).
func NewKeys(more ...string) *Keys {
	k := &Keys{names: make(map[string]struct{})}
	own := []string{"@timestamp", "id", "host", "input", "file", "offset", "project", "level", "parse_error", "partial", "truncated"}
	for _, name := range append(own, more...) {
		k.names[name] = struct{}{}
		k.seen |= keyBit(name)
	}
	return k
}

var ownKeys = NewKeys()

// Reserve sets the keys that Add renames to orig_KEY, from now on. A Record without
// it uses tailwater's own keys.
func (r *Record) Reserve(k *Keys) { r.reserved = k }

// Reserved returns the keys that Add renames, for parsers that decide once for a key
// and then use Put.
func (r *Record) Reserved() *Keys {
	if r.reserved == nil {
		return ownKeys
	}
	return r.reserved
}

// Has tells whether the name is in the set.
func (k *Keys) Has(name string) bool {
	_, ok := k.names[name]
	return ok
}

// Reset forgets the line, not the reserved keys and the memory.
func (r *Record) Reset() {
	r.Time, r.HasTime, r.Level = 0, false, LevelNone
	r.Fields = r.Fields[:0]
	r.Status, r.RequestTime, r.UpstreamTime = 0, -1, -1
	r.ParseError, r.Partial, r.Truncated = "", false, false
	r.seen = 0
	r.scratch = r.scratch[:0]
}

// Put appends a field whose key the parser knows to be new and not reserved: the
// fast way for formats with fixed keys, and never for keys that come from the line.
func (r *Record) Put(key string, val []byte, kind Kind) {
	f := r.push()
	f.Key, f.Val, f.Kind, f.head = key, val, kind, nil
	r.seen |= keyBit(key)
}

// PutNamed is Put for a key whose Name the parser has: the fastest way.
func (r *Record) PutNamed(name *Name, val []byte, kind Kind) {
	f := r.push()
	f.Key, f.Val, f.Kind, f.head = name.key, val, kind, name.head
	r.seen |= name.bit
}

// push returns a new field to be filled in place. A Field built first and then appended
// is stored in words and loaded again in pairs of words, for which the processor must
// wait.
func (r *Record) push() *Field {
	n := len(r.Fields)
	if n == cap(r.Fields) {
		r.Fields = slices.Grow(r.Fields, 1)
	}
	r.Fields = r.Fields[:n+1]
	return &r.Fields[n]
}

// Add appends a field. A reserved key is renamed to orig_KEY; of a key that is
// already there, the later value wins, as in most JSON readers.
func (r *Record) Add(key string, val []byte, kind Kind) {
	bit := keyBit(key)
	own := r.reserved
	if own == nil {
		own = ownKeys
	}
	if own.seen&bit != 0 {
		if _, taken := own.names[key]; taken {
			key = r.ScratchString("orig_", key)
			bit = keyBit(key)
		}
	}
	if r.seen&bit != 0 {
		for i := range r.Fields {
			if r.Fields[i].Key == key {
				r.Fields[i].Val, r.Fields[i].Kind = val, kind
				return
			}
		}
	}
	r.seen |= bit
	f := r.push()
	f.Key, f.Val, f.Kind, f.head = key, val, kind, nil
}

// keyBit hashes a key to one of 64 bits. It need not be good, only fast.
func keyBit(key string) uint64 {
	n := len(key)
	if n == 0 {
		return 1
	}
	h := uint(key[0]) + uint(key[n-1])*7 + uint(key[n/2])*13 + uint(n)*31
	return 1 << (h & 63)
}

// Get returns the field of that key. Level, time and tailwater's own keys are not
// among the fields.
func (r *Record) Get(key string) (Field, bool) {
	if r.seen&keyBit(key) == 0 {
		return Field{}, false
	}
	for i := range r.Fields {
		if r.Fields[i].Key == key {
			return r.Fields[i], true
		}
	}
	return Field{}, false
}
