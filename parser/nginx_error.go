package parser

import (
	"bytes"
	"regexp"
	"time"

	"github.com/tailwater/tailwater/record"
)

// errNginxError is the parse_error of lines that nginx did not write as an error.
const errNginxError = "not of the nginx error log's format"

// nginxErrorStart is what an event of the error log begins with. Lines that do not are of
// the event before as long as it is not ended: what a FastCGI server or a script wrote in
// several lines.
var nginxErrorStart = regexp.MustCompile(`^(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[|nginx: \[)`)

// nginxError parses the lines of nginx's error log:
//
//	2026/11/23 20:00:00 [error] 1234#5678: *90 MESSAGE, client: 1.2.3.4, server: x, request: "GET / HTTP/1.1", host: "x"
type nginxError struct {
	times   timeParser
	request nginxAccess // for the parts of a request
	keys    *record.Keys
	step    nginxStep
}

func newNginxError(zone *time.Location) Parser {
	return &nginxError{times: newTimeParser(zone), request: nginxAccess{plan: &nginxPlan{escape: nginxEscapeNone}}}
}

// nginxContext are the names of what follows the message, in nginx's order, and their
// fields. Only what nginx puts between quotes can hold anything.
var nginxContext = []struct {
	intro, key string
	quoted     bool
}{
	{intro: ", client: ", key: "remote_addr"},
	{intro: ", server: ", key: "server"},
	{intro: ", login: ", key: "login", quoted: true},
	{intro: ", request: ", key: "request", quoted: true},
	{intro: ", subrequest: ", key: "subrequest", quoted: true},
	{intro: ", upstream: ", key: "upstream", quoted: true},
	{intro: ", host: ", key: "vhost", quoted: true},
	{intro: ", referrer: ", key: "referer", quoted: true},
}

var nginxClient = []byte(nginxContext[0].intro)

// unendedNginxError tells whether a line is of a connection, as the number behind its
// asterisk says, and lacks the client, which nginx writes at the end of each such event from
// notice on: its message, that of a script perhaps, goes on in the next line.
func unendedNginxError(line []byte) bool {
	head := line[:min(len(line), 100)]
	i := bytes.Index(head, []byte(": *"))
	return i > 0 && i+3 < len(line) && isDigit(line[i+3]) && !bytes.Contains(line, nginxClient) &&
		!bytes.Contains(head, []byte("[info]")) && !bytes.Contains(head, []byte("[debug]"))
}

// Parse implements Parser.
func (p *nginxError) Parse(text []byte, r *record.Record) {
	rest, ok := p.head(text, r)
	if !ok {
		forget(r)
		r.ParseError = errNginxError
		r.Add("message", text, record.Text)
		return
	}
	message, context := splitNginxContext(rest)
	r.Add("message", message, record.Text)
	p.putContext(context, r)
}

// head reads what stands before the message: time, level, process, connection.
func (p *nginxError) head(text []byte, r *record.Record) (rest []byte, ok bool) {
	if rest, ok = bytes.CutPrefix(text, []byte("nginx: ")); !ok { // on the terminal, before there is a log
		ms, n, ok := p.times.iso(text)
		if !ok || n >= len(text) || text[n] != ' ' {
			return nil, false
		}
		r.Time, r.HasTime = ms, true
		rest = text[n+1:]
	}
	if len(rest) == 0 || rest[0] != '[' {
		return nil, false
	}
	end := bytes.IndexByte(rest, ']')
	if end < 0 || end+1 == len(rest) || rest[end+1] != ' ' {
		return nil, false
	}
	if r.Level, ok = levelWord(rest[1:end]); !ok {
		return nil, false
	}
	rest = rest[end+2:]
	pid := digitsEnd(rest)
	if pid == 0 || pid == len(rest) || rest[pid] != '#' {
		return rest, true
	}
	tid := digitsEnd(rest[pid+1:])
	colon := pid + 1 + tid
	if tid == 0 || !bytes.HasPrefix(rest[colon:], []byte(": ")) {
		return rest, true
	}
	addInt("pid", rest[:pid], r)
	addInt("tid", rest[pid+1:colon], r)
	rest = rest[colon+2:]
	if len(rest) > 1 && rest[0] == '*' {
		if n := digitsEnd(rest[1:]); n > 0 && n+1 < len(rest) && rest[n+1] == ' ' {
			addInt("connection", rest[1:n+1], r)
			rest = rest[n+2:]
		}
	}
	return rest, true
}

func addInt(key string, val []byte, r *record.Record) {
	if isInt(val) {
		r.Add(key, trimZeros(val), record.JSON)
	}
}

// splitNginxContext finds where the message ends and what nginx knew of the connection
// begins. The message may quote a client too: of the places that look right, the first
// is taken at which an address stands, and then nothing or the next name.
func splitNginxContext(rest []byte) (message, context []byte) {
	for from := 0; ; {
		i := bytes.Index(rest[from:], nginxClient)
		if i < 0 {
			return rest, nil
		}
		from += i + len(nginxClient)
		val := rest[from:]
		if end := bytes.IndexAny(val, ", \""); end < 0 || end > 0 && val[end] == ',' && isNginxContext(val[end:], 1) {
			return rest[:from-len(nginxClient)], rest[from-len(nginxClient):]
		}
	}
}

// isNginxContext tells whether b begins with one of nginx's names, from the one at first
// on, and a quote where one belongs.
func isNginxContext(b []byte, first int) bool {
	for i := first; i < len(nginxContext); i++ {
		c := &nginxContext[i]
		if val, ok := bytes.CutPrefix(b, []byte(c.intro)); ok && (!c.quoted || len(val) > 0 && val[0] == '"') {
			return true
		}
	}
	return bytes.HasPrefix(b, []byte(", bytes from/to client:")) || bytes.HasPrefix(b, []byte(", PROXY: "))
}

// putContext puts what follows the message. nginx cuts its lines at 2 KiB: the last
// value may lack its end. What has no known name is kept as context.
func (p *nginxError) putContext(b []byte, r *record.Record) {
	for i := 0; i < len(nginxContext) && len(b) > 0; i++ {
		c := &nginxContext[i]
		val, ok := bytes.CutPrefix(b, []byte(c.intro))
		if !ok {
			continue
		}
		val, b = cutNginxValue(val, i)
		if c.key == "request" {
			p.putRequest(val, r)
		} else if !absent(val) {
			r.Add(c.key, val, record.Text)
		}
	}
	if b = bytes.TrimPrefix(b, []byte(", ")); len(b) > 0 {
		r.Add("context", b, record.Text)
	}
}

// cutNginxValue takes the value of the name at i off the head of b. A quoted one ends at
// a quote behind which a later name stands, or nothing: a request may have quotes in it.
func cutNginxValue(b []byte, name int) (val, rest []byte) {
	if !nginxContext[name].quoted || len(b) == 0 || b[0] != '"' {
		if i := bytes.IndexByte(b, ','); i >= 0 {
			return b[:i], b[i:]
		}
		return b, nil
	}
	b = b[1:]
	for i := range b {
		if b[i] == '"' && (i+1 == len(b) || isNginxContext(b[i+1:], name+1)) {
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

func (p *nginxError) putRequest(val []byte, r *record.Record) {
	if keys := r.Reserved(); keys != p.keys {
		p.keys = keys
		p.step = nginxStep{keys: [5]string{"method", "path", "query", "http_version", "request"}}
		p.step.rename(keys, make(map[string]bool))
	}
	if !absent(val) {
		p.request.putRequest(&p.step, val, r)
	}
}
