package listen

import (
	"bytes"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

func itoa(n int) string { return strconv.Itoa(n) }

var facilities = [...]string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

var severities = [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

var severityLevels = [...]record.Level{record.LevelFatal, record.LevelFatal, record.LevelFatal, record.LevelError, record.LevelWarn, record.LevelInfo, record.LevelInfo, record.LevelDebug}

// syslogHead reads what stands before the text of a syslog message, of RFC 5424 or of
// what RFC 3164 found in use. Everything is a message: of what is not understood the
// text is all there is.
type syslogHead struct {
	fields []byte
	param  param

	time  int64
	level record.Level
}

// append appends the message as a Record.
func (h *syslogHead) append(dst, msg []byte, flags spool.Flags, now time.Time, zone *time.Location, peer string) []byte {
	msg = bytes.TrimRight(msg, "\r\n\x00")
	if len(trimSpace(msg)) == 0 {
		return dst
	}
	h.fields, h.time, h.level = h.fields[:0], 0, record.LevelNone
	text := h.read(msg, now, zone)
	h.field("peer", []byte(peer))
	r := spool.Record{Flags: flags | spool.Syslog, Time: h.time, Level: h.level, Fields: h.fields, Text: text}
	return spool.AppendRecord(dst, &r)
}

// read takes the head off the message.
func (h *syslogHead) read(msg []byte, now time.Time, zone *time.Location) (text []byte) {
	pri, n := priority(msg)
	if n == 0 {
		return msg
	}
	h.level = severityLevels[pri&7]
	h.field("facility", []byte(facilities[pri>>3]))
	h.field("severity", []byte(severities[pri&7]))
	msg = msg[n:]
	if bytes.HasPrefix(msg, []byte("1 ")) {
		if text, ok := h.rfc5424(msg[2:]); ok {
			return cee(text)
		}
	}
	return cee(h.rfc3164(msg, now, zone))
}

// cee takes off the mark before JSON that some libraries write.
func cee(text []byte) []byte {
	if rest, ok := bytes.CutPrefix(text, []byte("@cee:")); ok {
		return bytes.TrimLeft(rest, " ")
	}
	return text
}

// priority reads <134>.
func priority(msg []byte) (pri, n int) {
	if len(msg) < 3 || msg[0] != '<' {
		return 0, 0
	}
	for n = 1; n < len(msg) && n < 5; n++ {
		c := msg[n]
		if c == '>' && n > 1 {
			if pri > 191 {
				return 0, 0
			}
			return pri, n + 1
		}
		if c < '0' || c > '9' {
			return 0, 0
		}
		pri = pri*10 + int(c-'0')
	}
	return 0, 0
}

// rfc5424 reads TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG].
func (h *syslogHead) rfc5424(msg []byte) (text []byte, ok bool) {
	var parts [5][]byte
	rest := msg
	for i := range parts {
		n := bytes.IndexByte(rest, ' ')
		if n <= 0 {
			return nil, false
		}
		parts[i], rest = rest[:n], rest[n+1:]
	}
	if string(parts[0]) != "-" {
		t, err := time.Parse(time.RFC3339Nano, string(parts[0]))
		if err != nil {
			return nil, false
		}
		h.time = t.UnixMilli()
	}
	h.origin(parts[1], parts[2], parts[3])
	h.field("msgid", parts[4])
	n, ok := h.structured(rest)
	if !ok {
		n = 0 // some senders leave it out: all of the rest is the text
	}
	rest = bytes.TrimPrefix(rest[n:], []byte(" "))
	return bytes.TrimPrefix(rest, []byte("\ufeff")), true
}

// origin notes where the message comes from. A process id that is a number is the pid of
// text lines too.
func (h *syslogHead) origin(host, app, proc []byte) {
	h.field("hostname", host)
	h.field("app", app)
	key := "pid"
	for _, c := range proc {
		if c < '0' || c > '9' {
			key = "procid"
		}
	}
	h.field(key, proc)
}

// structured reads the structured data at the head of b, whose parameters become fields
// named ID.NAME, and returns its length; false when there is none.
func (h *syslogHead) structured(b []byte) (n int, ok bool) {
	if len(b) > 0 && b[0] == '-' && (len(b) == 1 || b[1] == ' ') {
		return 1, true
	}
	before := len(h.fields)
	for n < len(b) && b[n] == '[' {
		k := h.element(b[n:])
		if k == 0 {
			h.fields, h.param.n = h.fields[:before], 0
			return 0, false
		}
		n += k
		h.fields = h.param.appendTo(h.fields)
	}
	return n, n > 0
}

// element reads [id name="value" ..] and returns its length, 0 when it is none.
func (h *syslogHead) element(b []byte) int {
	i := 1
	for i < len(b) && b[i] != ' ' && b[i] != ']' && b[i] != '=' && b[i] != '"' {
		i++
	}
	id := b[1:i]
	if len(id) == 0 {
		return 0
	}
	for {
		for i < len(b) && b[i] == ' ' {
			i++
		}
		if i >= len(b) {
			return 0
		}
		if b[i] == ']' {
			return i + 1
		}
		start := i
		for i < len(b) && b[i] != '=' && b[i] != ' ' && b[i] != ']' && b[i] != '"' {
			i++
		}
		if i+1 >= len(b) || i == start || b[i] != '=' || b[i+1] != '"' {
			return 0
		}
		name := b[start:i]
		p := &h.param
		if p.n > 0 && !bytes.Equal(name, p.name) {
			h.fields = p.appendTo(h.fields)
		}
		p.begin(id, name)
		for i += 2; i < len(b) && b[i] != '"'; i++ {
			if b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\' || b[i+1] == ']') {
				i++
			}
			p.value = append(p.value, b[i])
		}
		if i >= len(b) {
			return 0
		}
		i++
	}
}

// param is a parameter of structured data. One that is repeated, as in
// [origin ip="192.0.2.1" ip="192.0.2.129"], is a list.
type param struct {
	name  []byte
	key   []byte
	value []byte // the last one
	list  []byte // those before it, as JSON
	n     int    // how many they are together
}

func (p *param) begin(id, name []byte) {
	if p.n == 0 {
		p.name = append(p.name[:0], name...)
		p.key = append(record.AppendEscaped(p.key[:0], id), '.')
		p.key = record.AppendEscaped(p.key, name)
		p.list = append(p.list[:0], '[')
	} else {
		p.list = append(p.quoted(p.list), ',')
	}
	p.value = p.value[:0]
	p.n++
}

func (p *param) quoted(dst []byte) []byte {
	return append(record.AppendEscaped(append(dst, '"'), p.value), '"')
}

// appendTo appends the field, and forgets it.
func (p *param) appendTo(fields []byte) []byte {
	n := p.n
	p.n = 0
	switch n {
	case 0:
		return fields
	case 1:
		return spool.AppendField(fields, string(p.key), p.value, record.Text)
	}
	return spool.AppendField(fields, string(p.key), append(p.quoted(p.list), ']'), record.JSON)
}

// rfc3164 reads TIMESTAMP HOSTNAME TAG[PID]: MSG, of which each may be missing.
func (h *syslogHead) rfc3164(msg []byte, now time.Time, zone *time.Location) (text []byte) {
	t, n := oldTime(msg, now, zone)
	if n == 0 {
		if k, app, proc := tag(msg); k > 0 {
			h.origin(nil, app, proc)
			return bytes.TrimPrefix(msg[k:], []byte(" "))
		}
		return msg
	}
	h.time = t
	rest := bytes.TrimLeft(msg[n:], " ")
	if k, app, proc := tag(rest); k > 0 && isTagAlone(rest, k) { // without a host, as on a local socket
		h.origin(nil, app, proc)
		return bytes.TrimPrefix(rest[k:], []byte(" "))
	}
	k := bytes.IndexByte(rest, ' ')
	if k <= 0 || !isHost(rest[:k]) {
		return rest
	}
	host := rest[:k]
	rest = rest[k+1:]
	k, app, proc := tag(rest)
	h.origin(host, app, proc)
	return bytes.TrimPrefix(rest[k:], []byte(" "))
}

// isTagAlone tells that the first word is a tag and no host.
func isTagAlone(b []byte, k int) bool {
	i := bytes.IndexByte(b, ' ')
	return i < 0 || k <= i
}

func isHost(b []byte) bool {
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '-' || c == '_' || c == ':' || c >= 0x80) {
			return false
		}
	}
	return len(b) <= 255
}

// tag reads app: or app[123]: and returns its length, 0 when there is none.
func tag(b []byte) (n int, app, proc []byte) {
	for n < len(b) && n < 64 && (b[n] >= '0' && b[n] <= '9' || b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z' || bytes.IndexByte([]byte("._-/@+()"), b[n]) >= 0) {
		n++
	}
	if n == 0 || n == len(b) || b[0] == '@' {
		return 0, nil, nil
	}
	app = b[:n]
	if b[n] == '[' {
		end := bytes.IndexByte(b[n:min(len(b), n+64)], ']')
		if end < 0 || n+end+1 >= len(b) || b[n+end+1] != ':' {
			return 0, nil, nil
		}
		proc = b[n+1 : n+end]
		n += end + 1
	}
	if b[n] != ':' || n+1 < len(b) && b[n+1] != ' ' && proc == nil {
		return 0, nil, nil
	}
	return n + 1, app, proc
}

// oldTime reads the time at the head: Oct 11 22:14:15, with a year behind the day or
// behind the time, with a fraction, or one of RFC 3339. n is its length, 0 when there is
// none.
func oldTime(b []byte, now time.Time, zone *time.Location) (unixMilli int64, n int) {
	if len(b) > 19 && b[0] >= '0' && b[0] <= '9' {
		end := bytes.IndexByte(b, ' ')
		if end < 0 {
			end = len(b)
		}
		if t, err := time.Parse(time.RFC3339Nano, string(b[:min(end, 40)])); err == nil {
			return t.UnixMilli(), end
		}
		return 0, 0
	}
	if len(b) < 15 {
		return 0, 0
	}
	for _, layout := range [...]string{"Jan _2 15:04:05", "Jan _2 2006 15:04:05", "Jan 2 15:04:05"} {
		n = len(layout)
		if len(b) < n {
			continue
		}
		text := string(b[:n])
		t, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		if n < len(b) && b[n] == '.' { // a fraction
			k := n + 1
			scale := 100
			ms := 0
			for k < len(b) && b[k] >= '0' && b[k] <= '9' {
				ms += int(b[k]-'0') * scale
				scale /= 10
				k++
			}
			t = t.Add(time.Duration(ms) * time.Millisecond)
			n = k
		}
		if n < len(b) && b[n] == ':' { // some write one behind the time
			n++
		}
		if n < len(b) && b[n] != ' ' {
			continue
		}
		if t.Year() == 0 {
			t = nearestYear(t, now, zone)
		}
		return t.UnixMilli(), n
	}
	return 0, 0
}

// nearestYear gives a time without a year the one by which it is nearest to now.
func nearestYear(t, now time.Time, zone *time.Location) time.Time {
	best := t
	for year := now.Year() - 1; year <= now.Year()+1; year++ {
		c := time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
		if c.Month() == t.Month() && (best.Year() == 0 || c.Sub(now).Abs() < best.Sub(now).Abs()) {
			best = c
		}
	}
	if best.Year() == 0 {
		return now
	}
	return best
}
