package consume

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/tailwater/tailwater/record"
)

// documents turns the records of one partition into documents: tailwater's own as
// they are, others by way of the parser.
type documents struct {
	cfg    *Config
	id     partitionID
	parser Parser
	block  *record.Block // nil until there is something to put into it
	// watcher is nil where nobody watches.
	watcher Watcher
	rec     record.Record

	counts Counts // since the last block

	passing map[string]*record.Origin // by what tells them apart
	key     []byte
	last    lastOrigin
	stamp   record.Stamp
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
func (d *documents) add(m *message) {
	if m.value == nil {
		return
	}
	if d.block == nil {
		d.block = d.cfg.NewBlock()
	}
	d.counts.Lines++
	d.counts.Bytes += len(m.value)
	if !d.pass(m) {
		d.parse(m)
	}
}

// show is add for the watcher alone.
func (d *documents) show(m *message) {
	if m.value == nil {
		return
	}
	if at, ok := d.ours(m); ok {
		d.watcher.Document(m.offset, m.value, len(m.id), at)
		return
	}
	at, text := d.split(m)
	d.watcher.Record(m.offset, &d.rec, at, text)
}

// ours tells whether the record is a document of tailwater's own, and its time.
func (d *documents) ours(m *message) (unixMilli int64, ok bool) {
	if len(m.id) == 0 {
		return 0, false
	}
	at, ok := record.EncodedTime(m.value, m.id, &d.stamp)
	return at, ok && m.value[len(m.value)-1] == '}' && bytes.IndexByte(m.value, '\n') < 0
}

// tell counts what was added since it did last.
func (d *documents) tell() {
	if d.counts.Lines > 0 {
		d.cfg.Count(d.counts)
		d.counts = Counts{}
	}
}

// pass appends a document of tailwater's own, and says false when it is not one.
func (d *documents) pass(m *message) bool {
	text := m.value
	at, ok := d.ours(m)
	if !ok {
		return false
	}
	if d.watcher != nil {
		d.watcher.Document(m.offset, text, len(m.id), at)
	}
	origin, rest := d.origin(m.project, text, len(m.id))
	level, _ := record.LevelNamed(string(record.EncodedLevel(rest)))
	if !d.cfg.Keep[level] {
		return true
	}
	d.counts.Kept[level]++
	d.block.AppendEncoded(origin, text, len(m.id), level, at)
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
func (d *documents) parse(m *message) {
	stored := max(m.time, 0)
	if s := stored / 1000; s != d.second || d.foreign == nil {
		d.second = s
		d.foreign = record.NewOrigin(record.OriginFields{
			Machine: "kafka", Generation: d.id.topic + "." + strconv.Itoa(d.id.index) + "." + strconv.FormatInt(s, 36),
			Host: d.cfg.Host, Input: d.cfg.Name, File: fmt.Sprintf("kafka:%s/%d", d.id.topic, d.id.index), Project: d.cfg.Project, Extra: d.cfg.Extra,
		})
	}
	at, text := d.split(m)
	if d.rec.ParseError != "" {
		d.counts.ParseErrors++
	}
	if d.watcher != nil {
		d.watcher.Record(m.offset, &d.rec, at, text)
	}
	if !d.cfg.Keep[d.rec.Level] {
		return
	}
	d.counts.Kept[d.rec.Level]++
	d.block.Append(d.foreign, &d.rec, at, true, m.offset)
}

// split fills d.rec with what a foreign record says, and returns its time and its text.
func (d *documents) split(m *message) (unixMilli int64, text []byte) {
	d.rec.Reset()
	text = bytes.TrimRight(m.value, "\r\n")
	d.parser.Parse(text, &d.rec)
	if d.rec.HasTime {
		return d.rec.Time, text
	}
	return max(m.time, 0), text
}
