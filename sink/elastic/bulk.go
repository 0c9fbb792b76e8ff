package elastic

import (
	"bytes"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// bulk frames documents for the bulk API: an action line, the document as it is, and
// a newline. It is reused.
type bulk struct {
	index  *sink.Template
	names  *names
	body   []byte
	answer bytes.Buffer
}

// append frames one document.
func (b *bulk) append(ref record.Ref, now int64) {
	body := append(b.body, `{"create":{"_index":"`...)
	body = b.names.append(body, b.index, ref, now)
	body = append(body, `","_id":"`...)
	body = append(body, ref.ID()...) // printable, and without quotes and backslashes: see record.EncodedTime
	body = append(body, "\"}}\n"...)
	body = append(body, ref.JSON()...)
	b.body = append(body, '\n')
}

// names remembers the index of the document before: those of a block mostly share
// it.
type names struct {
	origin *record.Origin
	day    int64
	level  record.Level
	routed bool
	name   []byte
}

// append appends the document's index, JSON-escaped: IndexNaming leaves nothing in
// it that would need it.
func (n *names) append(dst []byte, t *sink.Template, ref record.Ref, now int64) []byte {
	doc := ref.Doc()
	day := doc.Time / (24 * time.Hour).Milliseconds()
	if n.routed || n.origin != doc.Origin || n.day != day || n.level != doc.Level {
		n.routed = len(t.Fields()) > 0
		n.origin, n.day, n.level = doc.Origin, day, doc.Level
		n.name = t.Append(n.name[:0], ref, now)
	}
	return append(dst, n.name...)
}
