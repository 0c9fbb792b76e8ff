package consume

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/record"
)

// documents turns the records of one partition into documents: tailwater's own as
// they are, others by way of the parser.
type documents struct {
	cfg    *Config
	id     partitionID
	parser Parser
	block  *record.Block // nil until there is something to put into it
	rec    record.Record
	text   []byte

	lines, bytes, parseErrors int // since the last block

	passing map[string]*record.Origin // by what tells them apart
	key     []byte
	last    lastOrigin
	foreign *record.Origin
	second  int64 // of the record time that foreign is for
}

func newDocuments(cfg *Config, id partitionID) documents {
	d := documents{cfg: cfg, id: id, parser: cfg.NewParser(), passing: make(map[string]*record.Origin), second: -1 << 62}
	var names []string
	for _, kv := range cfg.Extra {
		names = append(names, kv.Key)
	}
	d.rec.Reserve(record.NewKeys(names...))
	return d
}

// lastOrigin is that of the document before: neighbours are mostly of one file, and what
// their fields from host to project say is the same to the byte.
type lastOrigin struct {
	project, head []byte
	origin        *record.Origin
}

// maxOrigins bounds what hostile headers can have remembered.
const maxOrigins = 4096

// add appends one record's document. A record without a value is none.
func (d *documents) add(rec *protocol.Record) error {
	if rec.Value == nil {
		return nil
	}
	if n := rec.Value.Len(); cap(d.text) < n {
		d.text = make([]byte, n+n/4)
	}
	d.text = d.text[:rec.Value.Len()]
	if _, err := io.ReadFull(rec.Value, d.text); err != nil {
		return err
	}
	if d.block == nil {
		d.block = d.cfg.NewBlock()
	}
	d.lines++
	d.bytes += len(d.text)
	if id, project, ok := ownHeaders(rec.Headers); ok && d.pass(id, project) {
		return nil
	}
	d.parse(rec)
	return nil
}

// ownHeaders are those that sink/kafka gives to each record.
func ownHeaders(headers []protocol.Header) (id, project []byte, ok bool) {
	for _, h := range headers {
		switch h.Key {
		case "id":
			id = h.Value
		case "project":
			project = h.Value
		}
	}
	return id, project, len(id) > 0
}

// pass appends a document of tailwater's own, and says false when it is not one.
func (d *documents) pass(id, project []byte) bool {
	text := d.text
	at, ok := record.EncodedTime(text, id)
	if !ok || text[len(text)-1] != '}' || bytes.IndexByte(text, '\n') >= 0 {
		return false
	}
	origin, rest := d.origin(project, text, len(id))
	level, _ := record.LevelNamed(string(record.EncodedValue(rest, "level")))
	if !d.cfg.Keep[level] {
		return true
	}
	d.block.AppendEncoded(origin, text, len(id), level, at)
	return true
}

// origin is for templates: what they ask of a document's project, host and input. rest
// is what the document says after that.
func (d *documents) origin(project, text []byte, idLen int) (o *record.Origin, rest []byte) {
	fields := record.EncodedHead(text, idLen)
	if l := &d.last; l.origin != nil && bytes.Equal(l.project, project) && bytes.HasPrefix(fields, l.head) {
		return l.origin, fields[len(l.head):]
	}
	value, rest := record.CutValue(fields, "project")
	host, input := record.EncodedValue(text, "host"), record.EncodedValue(text, "input")
	o = d.originOf(project, host, input)
	if len(value) == 0 {
		return o, text
	}
	d.last.project = append(d.last.project[:0], project...)
	d.last.head = append(d.last.head[:0], fields[:len(fields)-len(rest)]...)
	d.last.origin = o
	return o, rest
}

func (d *documents) originOf(project, host, input []byte) *record.Origin {
	d.key = append(d.key[:0], project...)
	d.key = append(append(d.key, 0), host...)
	d.key = append(append(d.key, 0), input...)
	if o := d.passing[string(d.key)]; o != nil {
		return o
	}
	if len(d.passing) >= maxOrigins {
		clear(d.passing)
	}
	o := record.NewOrigin(record.OriginFields{Project: string(project), Host: string(host), Input: string(input)})
	d.passing[string(d.key)] = o
	return o
}

// parse makes a document of anything else. Its id is its place in Kafka, and the
// second in which it was stored: a topic that was deleted and made anew counts its
// offsets from zero again.
func (d *documents) parse(rec *protocol.Record) {
	stored := rec.Time
	if stored.IsZero() {
		stored = time.Unix(0, 0)
	}
	if s := stored.Unix(); s != d.second || d.foreign == nil {
		d.second = s
		d.foreign = record.NewOrigin(record.OriginFields{
			Machine: "kafka", Generation: d.id.topic + "." + strconv.Itoa(d.id.index) + "." + strconv.FormatInt(s, 36),
			Host: d.cfg.Host, Input: d.cfg.Name, File: fmt.Sprintf("kafka:%s/%d", d.id.topic, d.id.index), Project: d.cfg.Project, Extra: d.cfg.Extra,
		})
	}
	d.rec.Reset()
	d.parser.Parse(bytes.TrimRight(d.text, "\r\n"), &d.rec)
	if d.rec.ParseError != "" {
		d.parseErrors++
	}
	if !d.cfg.Keep[d.rec.Level] {
		return
	}
	at := stored.UnixMilli()
	if d.rec.HasTime {
		at = d.rec.Time
	}
	d.block.Append(d.foreign, &d.rec, at, true, rec.Offset)
}
