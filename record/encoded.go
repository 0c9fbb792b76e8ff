package record

import (
	"bytes"
	"encoding/binary"
)

// EncodedTime returns the @timestamp of a document that AppendDoc made under that id,
// in Unix milliseconds, and false when it is no such document, or its id cannot be one.
// last remembers the time of the document before, which mostly has the same.
func EncodedTime(doc, id []byte, last *Stamp) (unixMilli int64, ok bool) {
	const head = `{"@timestamp":"`
	if len(doc) < idAt+len(id)+2 || string(doc[:len(head)]) != head || doc[idAt+len(id)] != '"' || !bytes.Equal(doc[idAt:idAt+len(id)], id) {
		return 0, false
	}
	if !isID(id) {
		return 0, false
	}
	return last.parse(doc[len(head):])
}

// Stamp is the time of a document, as it stands there and as a number.
type Stamp struct {
	text  [len(timeForm)]byte
	milli int64
	known bool
}

// parse is parseTime, and remembers it.
func (s *Stamp) parse(text []byte) (unixMilli int64, ok bool) {
	if s.known && string(text[:len(timeForm)]) == string(s.text[:]) {
		return s.milli, true
	}
	if s.milli, s.known = parseTime(text); s.known {
		copy(s.text[:], text)
	}
	return s.milli, s.known
}

// maxIDBytes is the most that Elasticsearch takes as an _id.
const maxIDBytes = 512

// isID tells whether id may stand for a document where others are told of it by that id:
// in a bulk request one that may not would spoil the documents beside it.
func isID(id []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	rest := id
	for ; len(rest) >= 8; rest = rest[8:] { // as needEscape does; blanks and deletes are no better
		x := binary.LittleEndian.Uint64(rest)
		blank, del := x^ones*' ', x^ones*0x7f
		if needEscape(x)|((blank-ones)|(del-ones))&highs != 0 {
			return false
		}
	}
	for _, c := range rest {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxIDBytes
}

// timeForm is how setTime writes a time.
const timeForm = "0000-00-00T00:00:00.000Z"

// parseTime reads the time that text, of at least 24 bytes, begins with, as setTime
// writes it.
func parseTime(text []byte) (unixMilli int64, ok bool) {
	text = text[:len(timeForm)]
	for i, c := range text {
		if f := timeForm[i]; c != f && (f != '0' || c < '0' || c > '9') {
			return 0, false
		}
	}
	two := func(at int) int { return int(text[at]-'0')*10 + int(text[at+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	if month < 1 || month > 12 || day < 1 || day > 28 && day > daysOf(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	// Days are counted from March on, so that the leap day comes last.
	y, m := year, month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	days := y*365 + floorDiv(y, 4) - floorDiv(y, 100) + floorDiv(y, 400) + (m*153+2)/5 + day - 1 - 719468
	return (int64(days)*86400+int64(hour*3600+minute*60+second))*1000 + int64(text[20]-'0')*100 + int64(two(21)), true
}

// floorDiv is a/b rounded down: the year 0 begins in March of year -1, as it were.
func floorDiv(a, b int) int {
	if a < 0 {
		return -1
	}
	return a / b
}

// daysOf is how many days a month has.
func daysOf(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// EncodedHead returns what follows the offset in a document that AppendDoc made under an
// id of so many bytes: its constant fields, from host to project and the configured
// ones, and then what the line had. It is nil when the document does not go on so, and a
// slice of doc.
func EncodedHead(doc []byte, idLen int) []byte {
	const middle = `","offset":`
	at := idAt + idLen
	if len(doc) < at+len(middle) || string(doc[at:at+len(middle)]) != middle {
		return nil
	}
	for at += len(middle); at < len(doc); at++ {
		if c := doc[at]; c < '0' || c > '9' {
			return doc[at:]
		}
	}
	return nil
}

// EncodedValue returns the value of a key in a document of tailwater's own as it
// stands there, without the quotes of a string; nil when there is none. A document is
// flat, and a quote inside of a string is escaped, so that what looks like a key is
// one. It is a slice of doc.
func EncodedValue(doc []byte, key string) []byte {
	value, _ := CutValue(doc, key)
	return value
}

// CutValue is EncodedValue and what of the document follows the value. There is no empty key.
func CutValue(doc []byte, key string) (value, rest []byte) {
	if key == "" {
		return nil, nil // it would be found everywhere, for ever
	}
	rest = doc
	for {
		i := bytes.Index(rest, []byte(key))
		if i < 0 {
			return nil, nil
		}
		end := i + len(key)
		if i >= 2 && rest[i-1] == '"' && (rest[i-2] == ',' || rest[i-2] == '{') && end+1 < len(rest) && rest[end] == '"' && rest[end+1] == ':' {
			return valueAt(rest[end+2:])
		}
		rest = rest[end:]
	}
}

// EncodedLevel is the EncodedValue of level in what follows a document's first key. Lines
// without one are the most, and all of them is looked at then: for the key's rarest letter.
func EncodedLevel(doc []byte) []byte {
	const before, behind = `,"le`, `vel":`
	for at := 0; ; at++ {
		i := bytes.IndexByte(doc[at:], behind[0])
		if i < 0 {
			return nil
		}
		if at += i; at >= len(before) && string(doc[at-len(before):at]) == before && bytes.HasPrefix(doc[at:], []byte(behind)) {
			value, _ := valueAt(doc[at+len(behind):])
			return value
		}
	}
}

// valueAt returns the value that text begins with, and what follows.
func valueAt(text []byte) (value, rest []byte) {
	if len(text) == 0 || text[0] != '"' {
		if end := bytes.IndexAny(text, ",}"); end >= 0 {
			return text[:end], text[end:]
		}
		return nil, nil
	}
	text = text[1:]
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i], text[i+1:]
		}
	}
	return nil, nil
}

// AppendEncoded appends a document that was encoded before, under an id of so many
// bytes. The values of route keys are taken from it.
func (b *Block) AppendEncoded(o *Origin, doc []byte, idLen int, level Level, unixMilli int64) {
	start := len(b.Data)
	b.Data = append(b.Data, doc...)
	b.Data = append(b.Data, '\n')
	b.Docs = append(b.Docs, Doc{
		Start: uint32(start), End: uint32(len(b.Data) - 1),
		ID: uint32(start + idAt), IDLen: uint16(idLen),
		Level: level, OwnTime: true, Time: unixMilli, Origin: o,
	})
	for _, key := range b.routeKeys {
		b.route = AppendUnescaped(b.route, EncodedValue(doc, key))
		b.routeEnds = append(b.routeEnds, uint32(len(b.route)))
	}
}

// Origins are the Origins of documents that were encoded before, for the templates
// that ask for a document's project, host or input. One goroutine at a time uses it.
type Origins struct {
	known map[string]*Origin
	key   []byte
}

// maxOrigins bounds what hostile documents can have remembered.
const maxOrigins = 4096

// Of returns the origin of a document of tailwater's own, whose project is known.
func (o *Origins) Of(doc, project []byte) *Origin {
	host, input := EncodedValue(doc, "host"), EncodedValue(doc, "input")
	o.key = append(o.key[:0], project...)
	o.key = append(append(o.key, 0), host...)
	o.key = append(append(o.key, 0), input...)
	if known := o.known[string(o.key)]; known != nil {
		return known
	}
	if o.known == nil || len(o.known) >= maxOrigins {
		o.known = make(map[string]*Origin)
	}
	made := NewOrigin(OriginFields{Project: string(project), Host: string(host), Input: string(input)})
	o.known[string(o.key)] = made
	return made
}
