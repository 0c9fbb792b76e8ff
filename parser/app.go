package parser

import (
	"bytes"
	"time"

	"github.com/tailwater/tailwater/record"
)

// appParser reads what applications write for people: the loggers of Java, Go, Python,
// Ruby, .NET and others, servers and daemons, syslog. It takes the head of the first
// line (time, level, thread, logger and the like) off the message as far as it is sure
// of it, and leaves the text whole where it is not: a word too many in the message
// costs nothing, and a level that was none pages somebody. No text is an error.
type appParser struct {
	times  timeParser
	json   *jsonParser
	logfmt *logfmtParser

	// reserved are the keys of the last record, free is set when no name of
	// appFields is among them.
	reserved *record.Keys
	free     bool

	r *record.Record
	b []byte // the first line
	appHead
}

// appHead is what the head of a line says.
type appHead struct {
	// msg is where the message begins. What stands before it was recognised.
	msg int
	// done ends the head.
	done bool

	ms        int64
	hasTime   bool
	epochHead bool // the time is a number, which may be another when no level follows
	afterTime int  // the place behind the time, when nothing else stood before it
	level     record.Level

	id, host, app, msgid, data []byte
	found                      appNames
	// maybe holds names that are believed only when what follows fits; doubt is set
	// when something was passed over that may be the message already.
	maybe appNames
	doubt bool
	// kept is where something was passed over that has no field, when keeps: the message
	// begins there, whatever follows.
	kept  int
	keeps bool
}

// appNames are the names that loggers put around the level. context is what stands in
// brackets and is none of the others.
type appNames struct{ thread, logger, caller, context, pid []byte }

func newApp(zone *time.Location) Parser {
	return &appParser{
		times:  newTimeParser(zone),
		json:   newJSON(JSONKeys{}, zone).(*jsonParser),
		logfmt: newLogfmt(zone).(*logfmtParser),
	}
}

// Parse implements Parser.
func (p *appParser) Parse(text []byte, r *record.Record) {
	if p.otherFormat(text, r) {
		return
	}
	line, kind := text, record.Text
	if standsForItself(text) { // and so it is one line without colors
		if bytes.IndexByte(text, '"') < 0 {
			kind = record.Escaped
		}
	} else if line = firstLine(text); bytes.IndexByte(line, 0x1b) >= 0 {
		text = r.Keep(appendUncolored(r.Scratch(), text))
		line = firstLine(text)
	}
	if len(line) == 0 || line[0]-'0' > 9 || !p.quick(text, line, r, kind) {
		p.long(text, line, r, kind)
	}
}

func firstLine(text []byte) []byte {
	if n := bytes.IndexByte(text, '\n'); n >= 0 {
		return text[:n]
	}
	return text
}

// long parses an event with any head. The values' kind is Escaped when nothing in text
// has to be.
func (p *appParser) long(text, line []byte, r *record.Record, kind record.Kind) {
	p.r, p.b = r, line
	p.appHead = appHead{}
	p.afterTime = -1
	p.head()
	if p.epochHead && p.level == record.LevelNone {
		p.appHead = appHead{afterTime: -1}
	}
	if p.level == record.LevelNone && p.msg == 0 && exceptionHead(line) {
		p.level = record.LevelError
	}
	if p.id == nil {
		p.id = headRequestID(text, p.msg)
	}
	if p.level == record.LevelNone {
		p.level, _ = textLevel(line)
	}
	p.fill(text, kind)
}

// headRequestID finds the request id where the head, which ends at n, has none: in
// brackets before the message, as Rails tags it, or named in the text.
func headRequestID(text []byte, n int) []byte {
	if msg := text[n:]; len(msg) > 0 && msg[0] == '[' {
		if n := bytes.IndexByte(msg[:min(len(msg), 100)], ']'); n > 0 {
			if id := bracketID(msg[1:n]); id != nil {
				return id
			}
		}
	}
	return textRequestID(text)
}

// otherFormat reads lines of JSON and logfmt, which loggers for people write too.
func (p *appParser) otherFormat(text []byte, r *record.Record) bool {
	if len(text) == 0 {
		return false
	}
	switch c := text[0]; {
	case c == '{' && text[len(text)-1] == '}':
		if p.json.parse(text, r) {
			return true
		}
	case c >= 'a' && c <= 't' && beginsLogfmt(text) && bytes.IndexByte(text, '\n') < 0:
		if p.logfmt.parse(text, r) && (r.HasTime || r.Level != record.LevelNone) {
			return true
		}
	default:
		return false
	}
	forget(r)
	return false
}

// beginsLogfmt tells whether text begins with one of the pairs with which logfmt
// begins.
func beginsLogfmt(text []byte) bool {
	n := bytes.IndexByte(text[:min(len(text), 12)], '=')
	if n < 0 {
		return false
	}
	switch string(text[:n]) {
	case "time", "ts", "t", "timestamp", "level", "lvl", "msg", "caller", "logger", "source", "component", "app", "service", "at":
		return true
	}
	return false
}

// head reads the head of the line, token by token, until one is none.
func (p *appParser) head() {
	if len(p.b) == 0 || p.special() {
		return
	}
	for i, tokens := p.msg, 0; tokens < 14 && i < len(p.b) && i < 300 && !p.done; tokens++ {
		if i = p.token(i); i < 0 {
			return
		}
	}
}

// commit believes all that was passed over so far: the message begins at i, or behind
// the blanks there.
func (p *appParser) commit(i int) int {
	i = p.blank(i)
	p.msg = i
	if p.keeps {
		p.msg = p.kept
	}
	p.doubt = false
	p.believe(&p.maybe.thread, &p.found.thread)
	p.believe(&p.maybe.logger, &p.found.logger)
	p.believe(&p.maybe.caller, &p.found.caller)
	p.believe(&p.maybe.context, &p.found.context)
	p.believe(&p.maybe.pid, &p.found.pid)
	return i
}

func (p *appParser) believe(maybe, found *[]byte) {
	if *maybe != nil {
		*found, *maybe = *maybe, nil
	}
}

// keep has the message begin at i, unless it begins before.
func (p *appParser) keep(i int) {
	if !p.keeps {
		p.kept, p.keeps = i, true
	}
}

// end is commit where nothing but the message can follow.
func (p *appParser) end(i int) int {
	p.done = true
	return p.commit(i)
}

func (p *appParser) blank(i int) int {
	for i < len(p.b) && (p.b[i] == ' ' || p.b[i] == '\t') {
		i++
	}
	return i
}

// token reads one token of the head at i and returns the place behind it; -1 when the
// message begins.
func (p *appParser) token(i int) int {
	if i = p.blank(i); i == len(p.b) {
		return -1
	}
	c := p.b[i]
	if !p.hasTime && i < 64 && mayBeTime(c) {
		if ms, n, ok := p.times.head(p.b[i:]); ok {
			return p.tokenTime(i, ms, n)
		}
	}
	switch {
	case c == '[':
		return p.bracket(i)
	case c-'0' < 10:
		return p.number(i)
	case isLetter(c) || c == '_':
		return p.word(i)
	}
	switch c {
	case '-':
		return p.dash(i)
	case '|':
		if p.level != record.LevelNone {
			return p.commit(i + 1)
		}
		return i + 1
	case ':':
		if p.level != record.LevelNone && (i+1 == len(p.b) || p.b[i+1] == ' ') && !p.doubt {
			return p.end(i + 1)
		}
	case '<', '(', '{', '*':
		return p.enclosed(i, c)
	}
	return -1
}

// mayBeTime tells whether a time can begin with c: a digit, or the name of a month or
// day.
func mayBeTime(c byte) bool {
	if c < 'A' {
		return c-'0' < 10
	}
	switch c {
	case 'A', 'D', 'F', 'J', 'M', 'N', 'O', 'S', 'T', 'W':
		return true
	}
	return false
}

func (p *appParser) tokenTime(i int, ms int64, n int) int {
	p.ms, p.hasTime = ms, true
	first := i == 0
	i += n
	if i < len(p.b) && (p.b[i] == ':' || p.b[i] == ',' || p.b[i] == ']') {
		i++
	}
	if first && p.b[0] > '9' && p.syslogTag(p.blank(i), false) || first && p.b[0] <= '9' && n > 10 && p.b[10] == 'T' && p.syslogTag(p.blank(i), true) {
		return p.msg
	}
	// PostgreSQL names the zone by its abbreviation, which says nothing that is sure.
	if j := i + 1; j+5 < len(p.b) && p.b[i] == ' ' && isUpper(p.b[j]) && isUpper(p.b[j+1]) && isUpper(p.b[j+2]) {
		for j < len(p.b) && isUpper(p.b[j]) {
			j++
		}
		if j-i <= 5 && j+1 < len(p.b) && p.b[j] == ' ' && p.b[j+1] == '[' && !isLevelWord(p.b[i+1:j]) {
			i = j
		}
	}
	if i < len(p.b) && p.b[i] == ' ' {
		if n := zoneAbbr(p.b[i+1:]); n > 0 && i+1+n < len(p.b) && p.b[i+1+n] == ' ' {
			i += 1 + n
		}
	}
	i = p.commit(i)
	p.afterTime = i
	return i
}

// number reads the number of a process or a thread.
func (p *appParser) number(i int) int {
	from := i
	for i < len(p.b) && p.b[i]-'0' < 10 {
		i++
	}
	if i-from > 10 || i < len(p.b) && p.b[i] != ' ' && p.b[i] != '\t' {
		return -1
	}
	if p.level == record.LevelNone {
		if p.maybe.pid != nil || p.found.pid != nil {
			return -1
		}
		p.maybe.pid = p.b[from:i]
		return i
	}
	if next := p.blank(i); hasPrefix(p.b[next:], "--- ") && !p.doubt { // Spring Boot
		p.maybe.pid = p.b[from:i]
		return p.commit(next + 4)
	}
	return -1
}

// dash reads what stands between the parts of a head.
func (p *appParser) dash(i int) int {
	n := i
	for n < len(p.b) && p.b[n] == '-' {
		n++
	}
	if n < len(p.b) && p.b[n] != ' ' {
		return -1
	}
	switch {
	case p.level == record.LevelNone:
		if !p.hasTime {
			return -1
		}
		return n
	case n-i == 2: // Ruby: ERROR -- name: message
		if colon := bytes.IndexByte(p.b[n:min(len(p.b), n+64)], ':'); colon >= 0 {
			if name := bytes.TrimSpace(p.b[n : n+colon]); len(name) > 0 {
				p.maybe.logger = name
			}
			return p.end(n + colon + 1)
		}
		return p.end(n)
	}
	return p.end(n)
}

// The names of the fields.
var (
	hostName    = record.NewName("hostname")
	appName     = record.NewName("app")
	threadName  = record.NewName("thread")
	loggerName  = record.NewName("logger")
	callerName  = record.NewName("caller")
	contextName = record.NewName("context")
	pidName     = record.NewName("pid")
	msgidName   = record.NewName("msgid")
	dataName    = record.NewName("structured_data")
	idName      = record.NewName("request_id")
	messageName = record.NewName("message")

	appFields = []*record.Name{hostName, appName, threadName, loggerName, callerName, contextName, pidName, msgidName, dataName, idName, messageName}
)

// mayPut tells whether fields may be put under their names: none of them is reserved.
func (p *appParser) mayPut(r *record.Record) bool {
	if own := r.Reserved(); own != p.reserved {
		p.reserved, p.free = own, true
		for _, name := range appFields {
			p.free = p.free && !own.Has(name.Key())
		}
	}
	return p.free
}

// fill puts what was found into the record, as values of the kind.
func (p *appParser) fill(text []byte, kind record.Kind) {
	r := p.r
	r.Time, r.HasTime = p.ms, p.hasTime
	r.Level = p.level
	free := p.mayPut(r)
	add := func(name *record.Name, val []byte, kind record.Kind) {
		switch {
		case len(val) == 0:
		case free:
			r.PutNamed(name, val, kind)
		default:
			r.Add(name.Key(), val, kind)
		}
	}
	add(hostName, p.host, kind)
	add(appName, p.app, kind)
	add(threadName, p.found.thread, kind)
	add(loggerName, p.found.logger, kind)
	add(callerName, p.found.caller, kind)
	add(contextName, p.found.context, kind)
	if pid, ok := cleanNumber(p.found.pid); ok {
		add(pidName, pid, record.JSON)
	}
	add(msgidName, p.msgid, kind)
	add(dataName, p.data, kind)
	add(idName, p.id, kind)
	msg := text
	if p.msg > 0 {
		if msg = bytes.TrimLeft(text[p.msg:], " \t\r\n"); len(msg) == 0 {
			msg = text
		}
	}
	if free {
		r.PutNamed(messageName, msg, kind)
	} else {
		r.Add("message", msg, kind) // of an empty line, too
	}
}
