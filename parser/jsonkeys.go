package parser

import (
	"bytes"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// jsonTable is what is known of a file's keys.
type jsonTable struct {
	nginx    bool // the keys have the meaning that nginx gives them
	custom   JSONKeys
	root     jsonKey // the parent of the outermost keys
	keys     map[jsonKeyID]*jsonKey
	names    map[string]*jsonName
	reserved *record.Keys

	message, requestID *jsonName
}

// jsonKeyID names a key by the object that it stands in and by its bytes there.
type jsonKeyID struct {
	parent *jsonKey
	raw    string
}

// jsonKey is one key at one place in a file's objects.
type jsonKey struct {
	parent *jsonKey
	path   string // with the keys around it, joined by dots; not escaped
	// lit is how it was written the first time, up to where its value begins; "" when
	// that is too long to be remembered.
	lit  string
	name *jsonName
	// next is the key that stood behind it the last time: very likely the next one.
	next *jsonKey
}

// jsonName is a key of the document with what its values mean. Several keys of a line
// may come to the same name.
type jsonName struct {
	key     string // escaped
	role    jsonRole
	rank    uint8
	numbers levelNumbers // of roleLevel
	hint    uint32       // what it tells about nginx
	line    uint64       // the last line that had it

	// Of roleNginx: the form of the values, the field that they become, and the field of
	// the whole text of a list.
	kindOf       nginxKind
	target, list *jsonName
}

// jsonRole is what a key's values mean.
type jsonRole uint8

const (
	roleNone jsonRole = iota
	roleTime
	roleNanos
	roleLevel
	roleMessage
	roleRequestID
	roleNumber
	roleNginx
)

// The ranks of the keys that give one thing: the best of a line gives it, and the
// others stay fields. Below weakRank are words that often mean other things.
const (
	customRank  = 100
	weakRank    = 55
	instantRank = 62
)

// levelNumbers says which numbers a key has for levels.
type levelNumbers uint8

const (
	usualNumbers levelNumbers = iota
	otelNumbers
	pythonNumbers
	noNumbers // none
)

type knownKey struct {
	role    jsonRole
	rank    uint8
	numbers levelNumbers
}

// knownKeys are the keys under which loggers write what tailwater needs to know, in
// lower case without _ and -: logback, log4j2, JUL, zap, zerolog, slog, logrus, pino,
// bunyan, winston, python-json-logger, structlog, loguru, Serilog, GELF, ECS,
// OpenTelemetry, journald.
var knownKeys = map[string]knownKey{
	"@timestamp": {roleTime, 90, 0}, "timestamp": {roleTime, 85, 0}, "time": {roleTime, 80, 0}, "ts": {roleTime, 76, 0},
	"@t": {roleTime, 75, 0}, "datetime": {roleTime, 70, 0}, "eventtime": {roleTime, 70, 0}, "logtime": {roleTime, 69, 0},
	"logtimestamp": {roleTime, 69, 0}, "realtimetimestamp": {roleTime, 68, 0}, "asctime": {roleTime, 66, 0},
	"instant.epochsecond": {roleTime, instantRank, 0}, "instant.nanoofsecond": {roleNanos, 0, 0}, "timemillis": {roleTime, 60, 0},
	"timeunixnano": {roleTime, 60, 0}, "date": {roleTime, 50, 0}, "t": {roleTime, 40, 0},

	"level": {roleLevel, 90, 0}, "log.level": {roleLevel, 88, 0}, "levelname": {roleLevel, 87, 0}, "severitytext": {roleLevel, 86, 0},
	"severity": {roleLevel, 85, 0}, "loglevel": {roleLevel, 84, 0}, "lvl": {roleLevel, 84, 0}, "@l": {roleLevel, 84, 0},
	"logseverity": {roleLevel, 80, 0}, "levelvalue": {roleLevel, 50, 0}, "severitynumber": {roleLevel, 50, otelNumbers},
	"levelno": {roleLevel, 45, pythonNumbers}, "priority": {roleLevel, 40, noNumbers},

	"message": {roleMessage, 90, 0}, "msg": {roleMessage, 85, 0}, "@message": {roleMessage, 84, 0}, "@m": {roleMessage, 84, 0},
	"shortmessage": {roleMessage, 80, 0}, "logmessage": {roleMessage, 70, 0}, "@mt": {roleMessage, 60, 0},
	"log": {roleMessage, 50, 0}, "event": {roleMessage, 45, 0}, "text": {roleMessage, 40, 0}, "body": {roleMessage, 40, 0},
}

// begin prepares the table for a line of a record with these reserved keys.
func (t *jsonTable) begin(reserved *record.Keys) {
	if t.reserved == reserved && len(t.keys) < maxLearned {
		return
	}
	// Keys that are different in every line would be learned without end.
	t.reserved = reserved
	t.keys, t.names = make(map[jsonKeyID]*jsonKey), make(map[string]*jsonName)
	t.root = jsonKey{}
	t.message, t.requestID = t.named("message"), t.named("request_id")
}

// key reads a key that was not foreseen, with the colon after it, and returns the place
// of its value.
func (p *jsonParser) key(i int, parent *jsonKey) (*jsonKey, int) {
	if i == len(p.b) {
		return nil, p.endsEarly()
	}
	if p.b[i] != '"' {
		return nil, -1
	}
	end, state := scanString(p.b, i+1)
	if end < 0 {
		return nil, p.endsEarly()
	}
	colon := p.space(end + 1)
	if colon == len(p.b) {
		return nil, p.endsEarly()
	}
	if p.b[colon] != ':' {
		return nil, -1
	}
	after := p.space(colon + 1)
	raw := p.b[i+1 : end]
	if len(raw)+len(parent.path) > maxKeyBytes {
		p.reason = jsonLongKey
		return nil, -1
	}
	k := p.table.keys[jsonKeyID{parent, bytesString(raw)}]
	if k == nil {
		k = p.table.learn(raw, state, parent)
		if after-i < 2*maxKeyBytes {
			k.lit = string(p.b[i:after])
		}
	}
	if k.lit != "" {
		p.last.next = k
	}
	return k, after
}

// learn makes the key of these bytes known.
func (t *jsonTable) learn(raw []byte, state stringState, parent *jsonKey) *jsonKey {
	k := &jsonKey{parent: parent}
	var text []byte
	switch {
	case state == stringBroken:
		text = appendMended(nil, raw)
	default:
		text = record.AppendUnescaped(nil, raw)
	}
	k.path = parent.path
	if parent != &t.root {
		k.path += "."
	}
	k.path += keyText(text)
	k.name = t.pathName(k.path)
	t.keys[jsonKeyID{parent, string(raw)}] = k
	return k
}

// keyText returns a key as Elasticsearch takes it: no name between two dots is empty.
func keyText(text []byte) string {
	if len(text) > 0 && text[0] != '.' && text[len(text)-1] != '.' && !bytes.Contains(text, []byte("..")) && len(bytes.TrimSpace(text)) > 0 {
		return string(text)
	}
	parts := strings.Split(string(text), ".")
	for i, part := range parts {
		if strings.TrimSpace(part) == "" {
			parts[i] = "_"
		}
	}
	return strings.Join(parts, ".")
}

// pathName returns the name of a path that stands in a line. One that is tailwater's
// own, or an object of that name, gets another: a mapping cannot have host as a word
// and host.name too.
func (t *jsonTable) pathName(path string) *jsonName {
	name := path
	first, _, _ := strings.Cut(path, ".")
	if t.reserved.Has(path) || t.reserved.Has(first) || first != path && first == "message" {
		name = "orig_" + path
	}
	n := t.named(string(record.AppendEscaped(nil, []byte(name))))
	if n.role == roleNone {
		t.giveRole(n, path)
	}
	return n
}

// named returns the name with this escaped key.
func (t *jsonTable) named(key string) *jsonName {
	n := t.names[key]
	if n == nil {
		n = &jsonName{key: key}
		t.names[key] = n
	}
	return n
}

// other returns the name for a value that did not become the field target although n
// might mean that: n itself, unless that is the target.
func (t *jsonTable) other(n, target *jsonName) *jsonName {
	if n.key == target.key {
		return t.named("orig_" + n.key)
	}
	return n
}

// giveRole finds out what the values of a path mean.
func (t *jsonTable) giveRole(n *jsonName, path string) {
	n.hint = nginxHint(path)
	if t.nginx && t.giveNginxRole(n, path) {
		return
	}
	switch path {
	case "":
		return
	case t.custom.Time:
		n.role, n.rank = roleTime, customRank
	case t.custom.Level:
		n.role, n.rank = roleLevel, customRank
	case t.custom.Message:
		n.role, n.rank = roleMessage, customRank
	case t.custom.RequestID:
		n.role, n.rank = roleRequestID, customRank
	case "PRIORITY": // journald: syslog's numbers
		n.role, n.rank = roleLevel, 60
	default:
		if isNumberField(path) {
			n.role = roleNumber
		} else if known, ok := knownKeys[normalKey(path)]; ok {
			n.role, n.rank, n.numbers = known.role, known.rank, known.numbers
		} else if rank := requestIDRank(path); rank > 0 {
			n.role, n.rank = roleRequestID, rank
		}
	}
}

// normalKey writes a key in lower case without _ and -.
func normalKey(path string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '_' || c == '-':
			return -1
		case c >= 'A' && c <= 'Z':
			return c | 0x20
		}
		return c
	}, path)
}

// isMessage tells whether whatever the key has is the message: an object too.
func (n *jsonName) isMessage() bool { return n.role == roleMessage && n.rank >= weakRank }

// level reads a value of a key that means the level.
func (n *jsonName) level(val []byte) (record.Level, bool) {
	if len(val) == 0 || val[0]-'0' > 9 || n.numbers == usualNumbers {
		return ParseLevel(val)
	}
	d, ok := parseDecimal(val)
	if !ok || d.scale > 0 || d.mant > 100 {
		return record.LevelNone, false
	}
	switch n.numbers {
	case otelNumbers:
		return otelLevel(int(d.mant))
	case pythonNumbers:
		return pythonLevel(int(d.mant))
	}
	return record.LevelNone, false
}
