package parser

import (
	"bytes"
	"math/bits"

	"github.com/tailwater/tailwater/record"
)

// A log_format with escape=json writes JSON lines whose keys are the user's own, most
// often the names of nginx's variables. A line that has several of those keys is taken
// for one of nginx's, and gets the fields that other access lines have. In any other
// JSON a status or a host may be anything.

// nginxHints are the keys that tell. Of the first nginxSure at least one must be there.
var nginxHints = [...]string{"body_bytes_sent", "upstream_response_time", "time_local", "time_iso8601", "http_user_agent", "http_referer", "upstream_addr",
	"request_length", "upstreamtime", "responsetime", "request_time",
	"remote_addr", "remote_user", "status", "request", "request_method", "request_uri", "server_protocol", "server_name", "http_host", "bytes_sent",
	"clientip", "upstreamhost", "http_x_forwarded_for", "size", "agent"}

const nginxSure = 11

// nginxAliases are keys of a log_format that has been passed from hand to hand for
// years, with the variables that they have there.
var nginxAliases = map[string]string{
	"clientip": "remote_addr", "size": "body_bytes_sent", "responsetime": "request_time", "upstreamtime": "upstream_response_time",
	"upstreamhost": "upstream_addr", "agent": "http_user_agent",
}

func nginxHint(path string) uint32 {
	for i, name := range nginxHints {
		if name == path {
			return 1 << i
		}
	}
	return 0
}

// isNginxJSON tells by the hints of a line's keys whether nginx wrote it.
func isNginxJSON(hints uint32) bool {
	return hints&(1<<nginxSure-1) != 0 && bits.OnesCount32(hints) >= 3
}

// giveNginxRole is giveRole for the keys of nginx's lines; false when path is none that
// means something else there.
func (t *keyTable) giveNginxRole(n *keyName, path string) bool {
	if t.variables != nil {
		variable, ok := t.variables[path]
		if !ok {
			return false // a constant, or made of several
		}
		if rank := requestIDRank(variable); rank > 0 && isRequestIDVar(variable) {
			n.role, n.rank = roleRequestID, rank
			return true
		}
		path = variable
	} else if variable, ok := nginxAliases[path]; ok {
		path = variable
	}
	switch path {
	case "time_iso8601":
		n.role, n.rank = roleTime, 89
		return true
	case "msec":
		n.role, n.rank = roleTime, 88
		return true
	case "time_local":
		n.role, n.rank = roleTime, 87
		return true
	case "request_id", "req_id", "http_x_request_id":
		return false
	case "request_uri", "uri", "document_uri":
		n.role, n.kindOf, n.target = roleNginx, nginxTarget, t.target("path")
		return true
	case "args", "query_string":
		n.role, n.kindOf, n.target = roleNginx, nginxText, t.target("query")
		return true
	case "request_method":
		n.role, n.kindOf, n.target = roleNginx, nginxText, t.target("method")
		return true
	case "server_protocol":
		n.role, n.kindOf, n.target = roleNginx, nginxProtocol, t.target("http_version")
		return true
	}
	v, known := nginxVars[path]
	if !known {
		return false
	}
	n.role, n.kindOf, n.target = roleNginx, v.kind, t.target(path)
	if v.key != "" {
		n.target = t.target(v.key)
	}
	if v.list != "" {
		n.list = t.target(v.list)
	}
	return true
}

// putNginx puts the value of one of nginx's variables.
func (p *keyed) putNginx(n *keyName, val []byte, kind record.Kind) {
	if kind == record.Escaped && hasBackslash(val) {
		val, kind = p.r.Keep(record.AppendUnescaped(p.r.Scratch(), val)), record.Text
	}
	if absent(val) {
		return
	}
	switch n.kindOf {
	case nginxStatus, nginxInt, nginxClientInt, nginxDecimal, nginxSeconds:
		num, ok := cleanNumber(val)
		if !ok {
			p.field(p.table.asText(n.target), val, kind)
			return
		}
		setSlot(p.r, n.target.key, num)
		p.field(n.target, num, record.JSON)
	case nginxUpstream, nginxSum, nginxLast:
		p.putNginxList(n, val, kind)
	case nginxRequest:
		p.putNginxRequest(n, val, kind)
	case nginxTarget:
		p.putNginxTarget(n, val, kind)
	case nginxProtocol:
		p.putFirst(n.target, n, bytes.TrimPrefix(val, httpSlash), kind)
	default:
		p.putFirst(n.target, n, val, kind)
	}
}

// putFirst puts val as the field target when the line has none yet, and as the field n
// otherwise.
func (p *keyed) putFirst(target, n *keyName, val []byte, kind record.Kind) {
	if *target.line == p.line {
		target = n
	}
	p.field(target, val, kind)
}

// putNginxList puts the sum of a list, or the last of its numbers, and the list.
func (p *keyed) putNginxList(n *keyName, val []byte, kind record.Kind) {
	list, ok := parseList(val)
	if !ok {
		p.field(p.table.asText(n.target), val, kind)
		return
	}
	num := val
	switch {
	case list.numbers == 0:
		num = nil
	case list.entries == 1:
		num, _ = cleanNumber(val)
	case n.kindOf == nginxLast:
		num, _ = cleanNumber(list.last)
	default:
		num = p.r.Keep(list.sum.append(p.r.Scratch()))
	}
	if len(num) > 0 {
		setSlot(p.r, n.target.key, num)
		p.field(n.target, num, record.JSON)
	}
	if list.entries > 1 && n.list != nil {
		p.field(n.list, val, kind)
	}
}

// putNginxRequest splits GET /path?query HTTP/1.1. What is none stays whole.
func (p *keyed) putNginxRequest(n *keyName, val []byte, kind record.Kind) {
	m := bytes.IndexByte(val, ' ')
	end := bytes.LastIndexByte(val, ' ')
	if m <= 0 || end <= m || !isMethod(val[:m]) || !bytes.HasPrefix(val[end+1:], httpSlash) {
		p.field(n, val, kind)
		return
	}
	p.field(p.table.target("method"), val[:m], kind)
	p.putPath(val[m+1:end], kind)
	p.field(p.table.target("http_version"), val[end+1+len(httpSlash):], kind)
}

// putNginxTarget splits /path?query, unless the line has a path already.
func (p *keyed) putNginxTarget(n *keyName, val []byte, kind record.Kind) {
	if *n.target.line == p.line {
		p.field(n, val, kind)
		return
	}
	p.putPath(val, kind)
}

func (p *keyed) putPath(val []byte, kind record.Kind) {
	path, query, _ := bytes.Cut(val, []byte("?"))
	p.field(p.table.target("path"), path, kind)
	if len(query) > 0 {
		p.field(p.table.target("query"), query, kind)
	}
}
