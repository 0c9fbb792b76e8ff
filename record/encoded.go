package record

import (
	"bytes"
	"time"
)

// EncodedTime returns the @timestamp of a document that AppendDoc made under that id,
// in Unix milliseconds, and false when it is no such document.
func EncodedTime(doc, id []byte) (unixMilli int64, ok bool) {
	const head = `{"@timestamp":"`
	if len(doc) < idAt+len(id)+2 || string(doc[:len(head)]) != head || doc[idAt+len(id)] != '"' || !bytes.Equal(doc[idAt:idAt+len(id)], id) {
		return 0, false
	}
	t, err := time.Parse("2006-01-02T15:04:05.000Z", string(doc[len(head):len(head)+24]))
	if err != nil {
		return 0, false
	}
	return t.UnixMilli(), true
}

// EncodedValue returns the value of a key in a document of tailwater's own as it
// stands there, without the quotes of a string; nil when there is none. A document is
// flat, and a quote inside of a string is escaped, so that what looks like a key is
// one. It is a slice of doc.
func EncodedValue(doc []byte, key string) []byte {
	rest := doc
	for {
		i := bytes.Index(rest, []byte(key))
		if i < 0 {
			return nil
		}
		end := i + len(key)
		if i >= 2 && rest[i-1] == '"' && (rest[i-2] == ',' || rest[i-2] == '{') && end+1 < len(rest) && rest[end] == '"' && rest[end+1] == ':' {
			return valueAt(rest[end+2:])
		}
		rest = rest[end:]
	}
}

// valueAt returns the value that text begins with.
func valueAt(text []byte) []byte {
	if len(text) == 0 || text[0] != '"' {
		if end := bytes.IndexAny(text, ",}"); end >= 0 {
			return text[:end]
		}
		return nil
	}
	text = text[1:]
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i]
		}
	}
	return nil
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
