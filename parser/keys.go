package parser

import (
	"bytes"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// keyTable is what is known of a file's keys.
type keyTable struct {
	nginx bool // the keys have the meaning that nginx gives them
	// variables are nginx's by the keys that have their values, where the log_format is
	// known; nil where the keys must tell.
	variables map[string]string
	custom    JSONKeys
	root      lineKey // the parent of the outermost keys
	keys      map[keyID]*lineKey
	paths     map[string]*keyName // the names of the keys that stand in lines
	names     map[string]*keyName // those of the fields that the parser names
	lines     map[string]*uint64  // by the key in the document
	reserved  *record.Keys

	message, requestID *keyName
}

// keyID names a key by the object that it stands in and by its bytes there.
type keyID struct {
	parent *lineKey
	raw    string
}

// lineKey is one key at one place in a file's objects.
type lineKey struct {
	parent *lineKey
	path   string // with the keys around it, joined by dots; not escaped
	// lit is how it was written the first time, up to where its value begins; "" when
	// that is too long to be remembered.
	lit  string
	name *keyName
	// next is the key that stood behind it the last time: very likely the next one.
	next *lineKey
}

// keyName is a key of the document with what its values mean. Several keys of a line
// may come to the same key of the document and mean different things.
type keyName struct {
	key     string // escaped
	name    *record.Name
	role    keyRole
	rank    uint8
	numbers levelNumbers // of roleLevel
	hint    uint32       // what it tells about nginx
	line    *uint64      // the last line that had the key
	alt     *keyName     // of the values that the name is not for

	// Of roleNginx: the form of the values, the field that they become, and the field of
	// the whole text of a list.
	kindOf       nginxKind
	target, list *keyName
}

// keyRole is what a key's values mean.
type keyRole uint8

const (
	roleNone keyRole = iota
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
	role    keyRole
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
func (t *keyTable) begin(reserved *record.Keys) {
	if t.reserved == reserved && len(t.keys) < maxLearned {
		return
	}
	// Keys that are different in every line would be learned without end.
	t.reserved = reserved
	t.keys, t.lines = make(map[keyID]*lineKey), make(map[string]*uint64)
	t.paths, t.names = make(map[string]*keyName), make(map[string]*keyName)
	t.root = lineKey{}
	t.message, t.requestID = t.target("message"), t.target("request_id")
}

// lookup returns the key of these bytes among those of parent's object, which stood in
// the line as lit.
func (p *keyed) lookup(raw []byte, state stringState, parent *lineKey, lit []byte) *lineKey {
	k := p.table.keys[keyID{parent, bytesString(raw)}]
	if k == nil {
		k = p.table.learn(raw, state, parent)
		if len(lit) < 2*maxKeyBytes {
			k.lit = string(lit)
		}
	}
	if k.lit != "" {
		p.last.next = k
	}
	return k
}

// keyNamed returns the name of a key without learning what stands beside it.
func (t *keyTable) keyNamed(raw []byte) *keyName {
	k := t.keys[keyID{&t.root, bytesString(raw)}]
	if k == nil {
		k = t.learn(raw, stringBroken, &t.root)
	}
	return k.name
}

// learn makes the key of these bytes known.
func (t *keyTable) learn(raw []byte, state stringState, parent *lineKey) *lineKey {
	k := &lineKey{parent: parent}
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
	t.keys[keyID{parent, string(raw)}] = k
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

// metadata are the fields that Elasticsearch keeps for itself. It refuses documents that
// have them, whatever the mapping; what was exported from it or from MongoDB does.
var metadata = map[string]bool{"_id": true, "_index": true, "_source": true, "_type": true, "_routing": true, "_field_names": true, "_ignored": true,
	"_ignored_source": true, "_seq_no": true, "_primary_term": true, "_version": true, "_doc_count": true, "_tier": true, "_nested_path": true,
	"_data_stream_timestamp": true}

// pathName returns the name of a path that stands in a line. One that is tailwater's
// own or Elasticsearch's, or an object of that name, gets another: a mapping cannot have
// host as a word and host.name too.
func (t *keyTable) pathName(path string) *keyName {
	name := path
	first, _, _ := strings.Cut(path, ".")
	if t.reserved.Has(path) || t.reserved.Has(first) || metadata[first] || first != path && first == "message" {
		name = "orig_" + path
	}
	n := t.paths[path]
	if n == nil {
		n = t.newName(string(record.AppendEscaped(nil, []byte(name))))
		t.paths[path] = n
		t.giveRole(n, path)
	}
	return n
}

func (t *keyTable) newName(key string) *keyName {
	line := t.lines[key]
	if line == nil {
		line = new(uint64)
		t.lines[key] = line
	}
	return &keyName{key: key, name: record.NewName(key), line: line}
}

// named returns the name of a field with this escaped key, whose values mean nothing
// else.
func (t *keyTable) named(key string) *keyName {
	n := t.names[key]
	if n == nil {
		n = t.newName(key)
		t.names[key] = n
	}
	return n
}

// target returns the name of a field that the parser and not the line names.
func (t *keyTable) target(key string) *keyName {
	if t.reserved.Has(key) {
		key = "orig_" + key
	}
	return t.named(key)
}

// other returns the name for a value that did not become the field target although n
// might mean that: n itself, unless that is the target.
func (t *keyTable) other(n, target *keyName) *keyName {
	if n.key != target.key {
		return n
	}
	if n.alt == nil {
		n.alt = t.named("orig_" + n.key)
	}
	return n.alt
}

// asText returns the name for a value of n that should be a number and is none: a
// mapping would refuse it.
func (t *keyTable) asText(n *keyName) *keyName {
	if n.alt == nil {
		n.alt = t.target(n.key + "_text")
	}
	return n.alt
}

// giveRole finds out what the values of a path mean.
func (t *keyTable) giveRole(n *keyName, path string) {
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
func (n *keyName) isMessage() bool { return n.role == roleMessage && n.rank >= weakRank }

// level reads a value of a key that means the level.
func (n *keyName) level(val []byte) (record.Level, bool) {
	if len(val) == 1 && isLetter(val[0]) {
		return levelLetter(val[0] &^ 0x20)
	}
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
