package parser

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// The places of a request's parts among a step's keys.
const (
	keyMethod = iota
	keyPath
	keyQuery
	keyVersion
	keyRequest
)

var (
	httpSlash   = []byte("HTTP/")
	schemeSlash = []byte("://")
	quote       = []byte{'"'}
)

// put makes fields of one value; false when it is not of the variable's form.
func (p *nginxAccess) put(s *nginxStep, val []byte, r *record.Record) bool {
	if absent(val) {
		return true
	}
	switch s.kind {
	case nginxText:
		p.putText(s.names[0], val, r)
		return true
	case nginxToken:
		p.putText(s.names[0], val, r)
		// Where a literal follows, it ends the value, and a blank inside is a quoted one's.
		return s.lit != "" || bytes.IndexByte(val, ' ') < 0
	case nginxTokens:
		p.putText(s.names[0], val, r)
		return s.lit != "" || isTokens(val)
	case nginxInt:
		return putInt(s.names[0], val, r)
	case nginxClientInt:
		if !isInt(val) {
			p.putText(s.names[1], val, r)
			return true
		}
		return putInt(s.names[0], val, r)
	case nginxStatus:
		return putStatus(s.names[0], val, r)
	case nginxDecimal, nginxSeconds:
		d, ok := parseDecimal(val)
		if !ok {
			return false
		}
		putNumber(s.names[0], val, r)
		if s.kind == nginxSeconds {
			r.RequestTime = d.float()
		}
		return true
	case nginxUpstream, nginxSum, nginxLast:
		return putList(s, val, r)
	case nginxTimeLocal, nginxTimeISO, nginxMsec:
		return p.putTime(s, val, r)
	case nginxRequest:
		p.putRequest(s, val, r)
		return true
	case nginxTarget:
		p.putTarget(s, val, r)
		return true
	case nginxProtocol:
		if !bytes.HasPrefix(val, httpSlash) {
			return false
		}
		p.putText(s.names[0], val[len(httpSlash):], r)
		return true
	case nginxPathArgs:
		if bytes.IndexByte(val, '?') < 0 {
			val = trimAbsent(val, p.plan.escape) // of $args
		}
		p.putTarget(s, val, r)
		return true
	}
	n := s.pair.at(val)
	return p.put(&s.pair.left, val[:n], r) && p.put(&s.pair.right, val[n:], r)
}

// putText puts a value that is not a number, as nginx had it before it escaped it.
func (p *nginxAccess) putText(name *record.Name, val []byte, r *record.Record) {
	if name == nil || absent(val) {
		return
	}
	if p.escaped && bytes.IndexByte(val, '\\') >= 0 {
		val = p.unescape(val, r)
	}
	r.PutNamed(name, val, p.kind)
}

// unescape undoes the escapes of val. What were not characters in UTF-8 before it stays as
// nginx wrote it: \xE4 says which byte it was, and U+FFFD would not.
func (p *nginxAccess) unescape(val []byte, r *record.Record) []byte {
	if p.plan.escape == nginxEscapeJSON {
		return r.Keep(record.AppendUnescaped(r.Scratch(), val))
	}
	out := appendUnhexed(r.Scratch(), val)
	if !utf8.Valid(out) {
		return val
	}
	return r.Keep(out)
}

// appendUnhexed undoes \xXX, and also \" and \\, which other servers write into the
// same format.
func appendUnhexed(dst, val []byte) []byte {
	for {
		i := bytes.IndexByte(val, '\\')
		if i < 0 || i+1 == len(val) {
			return append(dst, val...)
		}
		dst = append(dst, val[:i]...)
		val = val[i:]
		switch {
		case val[1] == '"' || val[1] == '\\':
			dst = append(dst, val[1])
			val = val[2:]
		case len(val) >= 4 && val[1] == 'x' && isHex(val[2]) && isHex(val[3]):
			dst = append(dst, unhex(val[2])<<4|unhex(val[3]))
			val = val[4:]
		default:
			dst = append(dst, '\\')
			val = val[1:]
		}
	}
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// putRequest splits GET /path?query HTTP/1.1. What is none (the bytes of a TLS
// handshake, a single word) is put as a whole, as nginx wrote it.
func (p *nginxAccess) putRequest(s *nginxStep, val []byte, r *record.Record) {
	m := methodLen(val)
	if m == 0 {
		if m = bytes.IndexByte(val, ' '); m <= 0 || !isMethod(val[:m]) {
			p.putWhole(s, val, r)
			return
		}
	}
	target, version := val[m+1:], []byte(nil)
	if n := len(target) - len(" HTTP/1.1"); n > 0 && string(target[n:n+6]) == " HTTP/" {
		target, version = target[:n], target[n+6:]
	} else if n = bytes.LastIndexByte(target, ' '); n > 0 && bytes.HasPrefix(target[n+1:], httpSlash) {
		target, version = target[:n], target[n+1+len(httpSlash):] // HTTP/2, HTTP/10.1
	} else if len(target) == 0 || target[0] != '/' && target[0] != '*' || bytes.IndexByte(target, ' ') >= 0 {
		p.putWhole(s, val, r)
		return
	}
	if s.names[keyMethod] != nil {
		r.PutNamed(s.names[keyMethod], val[:m], p.kind)
	}
	p.putTarget(s, target, r)
	if len(version) > 0 && s.names[keyVersion] != nil {
		r.PutNamed(s.names[keyVersion], version, p.kind)
	}
}

// putWhole puts what is no request.
func (p *nginxAccess) putWhole(s *nginxStep, val []byte, r *record.Record) {
	if name := s.names[keyRequest]; name != nil {
		r.PutNamed(name, val, p.kind)
	}
}

// isMethod tells whether val can be an HTTP method: nginx takes capitals, '_' and '-'.
func isMethod(val []byte) bool {
	for _, c := range val {
		if (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// putTarget splits a request's target into path and query. Of http://host/path, which
// proxies are sent, the path is that of the host.
func (p *nginxAccess) putTarget(s *nginxStep, val []byte, r *record.Record) {
	path, query := val, []byte(nil)
	if i := bytes.IndexByte(val, '?'); i >= 0 {
		path, query = val[:i], val[i+1:]
	}
	if len(path) > 0 && path[0] != '/' {
		if i := bytes.Index(path, schemeSlash); i > 0 {
			if j := bytes.IndexByte(path[i+len(schemeSlash):], '/'); j >= 0 {
				path = path[i+len(schemeSlash)+j:]
			}
		}
	}
	p.putText(s.names[keyPath], path, r)
	p.putText(s.names[keyQuery], query, r)
}

func (p *nginxAccess) putTime(s *nginxStep, val []byte, r *record.Record) bool {
	if s.untimed {
		return s.fits(val)
	}
	var ms int64
	var ok bool
	switch s.kind {
	case nginxTimeLocal:
		ms, ok = p.clock.local(val)
	case nginxTimeISO:
		ms, ok = p.clock.iso(val)
	default:
		var d decimal
		if d, ok = parseDecimal(val); ok {
			ms = d.scaled(3)
		}
	}
	if ok {
		r.Time, r.HasTime = ms, true
	}
	return ok
}

func putStatus(name *record.Name, val []byte, r *record.Record) bool {
	if len(val) != 3 || !isDigit(val[0]) || !isDigit(val[1]) || !isDigit(val[2]) {
		return false
	}
	r.Status = int32(val[0]-'0')*100 + int32(val[1]-'0')*10 + int32(val[2]-'0')
	putNumber(name, val, r)
	return true
}

func putInt(name *record.Name, val []byte, r *record.Record) bool {
	if !isInt(val) {
		return false
	}
	putNumber(name, val, r)
	return true
}

// putNumber puts digits that may have a fraction. JSON forbids the zeros before them.
func putNumber(name *record.Name, val []byte, r *record.Record) {
	if name != nil {
		r.PutNamed(name, trimZeros(val), record.JSON)
	}
}

func trimZeros(val []byte) []byte {
	for len(val) > 1 && val[0] == '0' && isDigit(val[1]) {
		val = val[1:]
	}
	return val
}

// putList puts the sum of a list, or the last of its numbers, and where it has more
// than one entry its text too.
func putList(s *nginxStep, val []byte, r *record.Record) bool {
	list, ok := parseList(val)
	if !ok {
		return false
	}
	if list.numbers > 0 && s.kind == nginxUpstream {
		r.UpstreamTime = list.sum.float()
	}
	switch {
	case list.entries == 1:
		putNumber(s.names[0], val, r)
		return true
	case list.numbers == 0:
	case s.kind == nginxLast:
		putNumber(s.names[0], list.last, r)
	case s.names[0] != nil:
		r.PutNamed(s.names[0], r.Keep(list.sum.append(r.Scratch())), record.JSON)
	}
	if s.names[1] != nil {
		r.PutNamed(s.names[1], val, record.Text)
	}
	return true
}

// decimal is the number mant / 10^scale, with scale at most maxScale.
type decimal struct {
	mant  int64
	scale int
}

const maxDigits, maxScale = 18, 9

var tens = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// isInt tells whether val is digits, and few enough for an int64.
func isInt(val []byte) bool {
	if len(val) == 0 || len(val) > maxDigits {
		return false
	}
	for _, c := range val {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

// parseDecimal reads digits with or without a fraction.
func parseDecimal(val []byte) (d decimal, ok bool) {
	if len(val) == 0 || len(val) > maxDigits {
		return d, false
	}
	dot := -1
	for i, c := range val {
		if isDigit(c) {
			d.mant = d.mant*10 + int64(c-'0')
		} else if c == '.' && dot < 0 && i > 0 {
			dot = i
		} else {
			return d, false
		}
	}
	if dot >= 0 {
		d.scale = len(val) - dot - 1
	}
	return d, dot < 0 || d.scale > 0 && d.scale <= maxScale
}

func (d decimal) float() float64 { return float64(d.mant) / float64(tens[d.scale]) }

// scaled returns the number in units of 10^-scale, cut off.
func (d decimal) scaled(scale int) int64 {
	if d.scale > scale {
		return d.mant / tens[d.scale-scale]
	}
	return d.mant * tens[scale-d.scale]
}

// add returns the sum, false when it is too large.
func (d decimal) add(e decimal) (decimal, bool) {
	scale := max(d.scale, e.scale)
	const most = 1e17
	if d.mant > most/tens[scale-d.scale] || e.mant > most/tens[scale-e.scale] {
		return d, false
	}
	return decimal{d.scaled(scale) + e.scaled(scale), scale}, true
}

func (d decimal) append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, d.mant/tens[d.scale], 10)
	if d.scale > 0 {
		dst = append(dst, '.')
		frac := d.mant % tens[d.scale]
		for s := d.scale - 1; s >= 0; s-- {
			dst = append(dst, byte('0'+frac/tens[s]%10))
		}
	}
	return dst
}

// numbers is what a list of numbers says.
type numbers struct {
	entries, numbers int
	sum              decimal
	last             []byte
}

// parseList reads "0.1, -, 0.2 : 0.3": ", " stands between the servers that were tried,
// " : " between the groups that an internal redirect led to, and "-" for a server
// that did not answer.
func parseList(val []byte) (l numbers, ok bool) {
	for {
		end := 0
		for end < len(val) && val[end] != ',' && val[end] != ' ' {
			end++
		}
		entry := val[:end]
		l.entries++
		if !absent(entry) {
			d, ok := parseDecimal(entry)
			if !ok {
				return l, false
			}
			if l.sum, ok = l.sum.add(d); !ok {
				return l, false
			}
			l.numbers++
			l.last = entry
		}
		val = val[end:]
		switch {
		case len(val) == 0:
			return l, true
		case len(val) >= 2 && val[0] == ',' && val[1] == ' ':
			val = val[2:]
		case len(val) >= 3 && val[0] == ' ' && val[1] == ':' && val[2] == ' ':
			val = val[3:]
		default:
			return l, false
		}
	}
}
