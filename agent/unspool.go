package agent

import (
	"bytes"
	"errors"
	"strings"
	"time"
	"unsafe"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// unspooler is both, the framer and the parser of what was received: the spool's frames
// say where events begin and what is known of them beside their text. A position inside
// of a frame is its beginning, with Ahead at the event that comes next.
type unspooler struct {
	in      *input
	json    parser.Parser
	text    parser.Parser // of the input's format
	inner   record.Record // of a text within JSON
	origins map[string]*record.Origin

	at      int64 // where the frame begins
	ahead   int64 // within the frame: the event that comes next; 0 at its beginning
	need    int   // how many bytes the frame has, as far as known
	skipped parser.Skipped
	within  parser.Skipped // of the frame, counted when it is behind

	frame  spool.View
	of     *byte // the data that frame is of
	base   int64
	cursor int // in the frame's payload

	// Of the event that Next returned last.
	project []byte
	rec     spool.Record
}

// maxOrigins bounds the projects that a chain remembers.
const maxOrigins = 1000

func newUnspooler(in *input) *unspooler {
	return &unspooler{in: in, json: in.json.NewParser(), text: in.format.NewParser()}
}

// jsonFormat is the format of what senders say is JSON. structured says that the input's
// format is no other.
func jsonFormat(cfg *config.Input, format *parser.Format) (json *parser.Format, structured bool, err error) {
	c := cfg.ParserConfig()
	if c.Kind == "json" {
		return format, true, nil
	}
	structured = c.Kind == "" || c.Kind == "auto" || c.Kind == "plain"
	json, err = parser.Compile(parser.Config{Kind: "json", Zone: c.Zone, MaxLine: c.MaxLine})
	return json, structured, err
}

// originOf is the origin of a project's documents.
func (u *unspooler) originOf(f *flow, project string) *record.Origin {
	if o := u.origins[project]; o != nil {
		return o
	}
	if u.origins == nil || len(u.origins) >= maxOrigins {
		u.origins = make(map[string]*record.Origin)
	}
	o := f.originOf(project)
	u.origins[project] = o
	return o
}

// Reset implements parser.Framer.
func (u *unspooler) Reset(p record.Pos, _ []record.Cut) {
	u.at, u.ahead, u.of, u.within = p.Off, p.Ahead, nil, parser.Skipped{}
}

// Pos implements parser.Framer.
func (u *unspooler) Pos() record.Pos { return record.Pos{Off: u.at, Ahead: u.ahead} }

// Window implements parser.Framer.
func (u *unspooler) Window() int { return max(u.need, 4096) }

// Due implements parser.Framer: a frame is whole, or it is none.
func (u *unspooler) Due() (time.Time, bool) { return time.Time{}, false }

// Joins implements parser.Framer: nothing follows a spool.
func (u *unspooler) Joins(*parser.Look, []byte) int { return 0 }

// Skipped implements parser.Framer.
func (u *unspooler) Skipped() parser.Skipped { return u.skipped }

// Next implements parser.Framer.
func (u *unspooler) Next(look *parser.Look) (ev parser.Event, ok bool) {
	for u.open(look) {
		start := u.cursor
		if u.frame.Kind == spool.JSONLines {
			ok = u.line(&ev)
		} else {
			ok = u.record(&ev)
		}
		if !ok {
			u.pass(u.frame.Size)
			continue
		}
		ev.Off = u.at + int64(u.frame.PayloadAt+start)
		if u.cursor < len(u.frame.Payload) {
			u.ahead = u.at + int64(u.frame.PayloadAt+u.cursor)
		} else {
			u.pass(u.frame.Size)
		}
		return ev, true
	}
	return ev, false
}

// pass goes on behind n bytes.
func (u *unspooler) pass(n int) {
	u.skipped.HeadBytes += u.within.HeadBytes
	u.skipped.RestBytes += u.within.RestBytes
	u.skipped.DamagedBytes += u.within.DamagedBytes
	u.within = parser.Skipped{}
	u.at += int64(n)
	u.ahead, u.of, u.need = 0, nil, 0
}

// open makes the frame at the position the current one, unless it is; false when there
// is none that is whole.
func (u *unspooler) open(look *parser.Look) bool {
	for {
		data := look.Data[min(u.at-look.Base, int64(len(look.Data))):]
		if len(data) == 0 {
			return false
		}
		if u.of == &look.Data[0] && u.base == look.Base {
			return true
		}
		v, need, err := spool.Parse(data)
		switch {
		case err == nil && v.Size == 0 && !look.AtEnd:
			u.need = need
			return false
		case err != nil || v.Size == 0: // what is on disk ends with a frame, if it is whole
			n := spool.Resync(data)
			u.in.agent.log.Error("the spool is damaged; what cannot be read is passed over and counted as abandoned", "input", u.in.name, "offset", u.at, "error", errors.Join(err))
			u.within.DamagedBytes += int64(n)
			u.pass(n)
			continue
		case v.IsSegment():
			u.within.HeadBytes = int64(v.Size)
			u.pass(v.Size)
			continue
		}
		u.within.HeadBytes = int64(v.PayloadAt)
		u.frame, u.of, u.base = v, &look.Data[0], look.Base
		u.cursor = 0
		if u.ahead > 0 {
			u.cursor = int(min(max(u.ahead-u.at-int64(v.PayloadAt), 0), int64(len(v.Payload))))
		}
		return true
	}
}

// line takes the next line of the frame that is not blank.
func (u *unspooler) line(ev *parser.Event) bool {
	for u.cursor < len(u.frame.Payload) {
		line := u.frame.Payload[u.cursor:]
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n]
			u.cursor += n + 1
		} else {
			u.cursor = len(u.frame.Payload)
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) == 0 || line[0] <= ' ' && len(bytes.TrimSpace(line)) == 0 {
			continue // senders end a body with one
		}
		u.project, u.rec = u.frame.Project, spool.Record{Flags: spool.IsJSON | spool.AsSent}
		u.event(ev, line)
		return true
	}
	return false
}

// record takes the next record of the frame.
func (u *unspooler) record(ev *parser.Event) bool {
	if u.cursor >= len(u.frame.Payload) {
		return false
	}
	n, err := spool.ParseRecord(u.frame.Payload[u.cursor:], &u.rec)
	if err != nil { // its checksum was right: another version wrote it
		u.within.DamagedBytes += int64(len(u.frame.Payload) - u.cursor)
		u.in.agent.log.Error("a record of the spool is not understood, and what follows it in its frame; it is counted as abandoned", "input", u.in.name, "offset", u.at)
		return false
	}
	u.cursor += n
	u.project = u.frame.Project
	if len(u.rec.Project) > 0 {
		u.project = u.rec.Project
	}
	u.event(ev, u.rec.Text)
	ev.Partial = u.rec.Flags&spool.Partial != 0
	ev.Truncated = ev.Truncated || u.rec.Flags&spool.Truncated != 0
	return true
}

func (u *unspooler) event(ev *parser.Event, text []byte) {
	*ev = parser.Event{Text: text, Time: u.frame.Time, HasTime: true}
	if u.rec.Flags&spool.TimeIsFallback != 0 && u.rec.Time != 0 {
		ev.Time = u.rec.Time
	}
	if most := int(u.in.cfg.MaxLine); len(text) > most {
		ev.Text, ev.Truncated = text[:most], true
		u.within.RestBytes += int64(len(text) - most)
	}
}

// Parse implements parser.Parser, for the event that Next has returned.
func (u *unspooler) Parse(text []byte, r *record.Record) {
	flags := u.rec.Flags
	switch {
	case flags&spool.Syslog != 0:
		u.parseSyslog(text, r)
	case flags&spool.IsJSON == 0:
		u.text.Parse(text, r)
	default:
		u.json.Parse(text, r)
		if flags&spool.AsSent == 0 && !u.in.structured && r.ParseError == "" {
			u.parseMessage(r)
		}
	}
	if flags&(spool.Syslog|spool.TimeIsFallback) == 0 {
		if u.rec.Time != 0 {
			r.Time, r.HasTime = u.rec.Time, true
		}
		if u.rec.Level != record.LevelNone {
			r.Level = u.rec.Level
		}
	}
	for rest := u.rec.Fields; ; {
		key, val, kind, more, ok := spool.ParseField(rest)
		if !ok {
			return
		}
		addField(r, unsafe.String(unsafe.SliceData(key), len(key)), val, kind)
		rest = more
	}
}

// parseSyslog reads a syslog message's text. What its own format says is better than the
// head; what is only text has the head's level and time, and stays whole.
func (u *unspooler) parseSyslog(text []byte, r *record.Record) {
	structured := false
	switch {
	case len(text) > 1 && text[0] == '{' && text[len(text)-1] == '}' && u.in.structured:
		if u.json.Parse(text, r); r.ParseError == "" {
			structured = true
		} else {
			r.Reset()
			r.Put("message", text, record.Text)
		}
	case u.in.structured && u.in.format != u.in.json:
		structured = u.parseGuess(text, r)
	default:
		u.text.Parse(text, r)
		structured = r.ParseError == ""
	}
	if u.rec.Level != record.LevelNone && (!structured || r.Level == record.LevelNone) {
		r.Level = u.rec.Level
	}
	if u.rec.Time != 0 && (!structured || !r.HasTime) {
		r.Time, r.HasTime = u.rec.Time, true
	}
}

// parseGuess reads text of a format that nobody named: access lines are split, other
// text is a message, of which only the request id is taken.
func (u *unspooler) parseGuess(text []byte, r *record.Record) (structured bool) {
	u.text.Parse(text, r)
	if r.Status != 0 {
		return true
	}
	var id []byte
	if f, ok := r.Get("request_id"); ok {
		id = f.AppendText(u.inner.Scratch())
	}
	r.Reset()
	r.Put("message", text, record.Text)
	if len(id) > 0 {
		r.Put("request_id", r.Keep(append(r.Scratch(), id...)), record.Text)
	}
	return false
}

// parseMessage reads the message of a JSON object in the input's format. Its fields come
// first; those of the object are beside them.
func (u *unspooler) parseMessage(r *record.Record) {
	msg, ok := r.Get("message")
	if !ok {
		return
	}
	u.inner.Reset()
	u.inner.Reserve(r.Reserved())
	text := r.Keep(msg.AppendText(r.Scratch()))
	if u.text.Parse(text, &u.inner); u.inner.ParseError != "" {
		r.ParseError = u.inner.ParseError
		return
	}
	*r, u.inner = u.inner, *r
	outer := &u.inner
	if !r.HasTime {
		r.Time, r.HasTime = outer.Time, outer.HasTime
	}
	if r.Level == record.LevelNone {
		r.Level = outer.Level
	}
	for i := range outer.Fields {
		if f := &outer.Fields[i]; f.Key != "message" {
			addField(r, f.Key, f.Val, f.Kind)
		}
	}
}

// addField adds what is known beside the text. A field that the text has keeps its name,
// and so does one of tailwater's own: the other one is orig_KEY then. An object cannot
// have the name of one of those either.
func addField(r *record.Record, key string, val []byte, kind record.Kind) {
	if first, _, dotted := strings.Cut(key, "."); dotted && (first == "message" || r.Reserved().Has(first)) {
		key = r.ScratchString("orig_", key)
	}
	if was, ok := r.Get(key); ok {
		if bytes.Equal(was.Val, val) {
			return
		}
		key = r.ScratchString("orig_", key)
	}
	r.Add(key, val, kind)
}
