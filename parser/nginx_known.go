package parser

import (
	"bytes"
	"strings"
	"sync"

	"github.com/tailwater/tailwater/record"
)

// knownNginx is an access log format that auto recognises.
type knownNginx struct {
	name string // as it stands in the agent's log: combined, or combined and what follows it
	plan *nginxPlan
	rest bool // what follows is not known, and kept as the field extra
}

// nginxBases are what known formats begin with. The first of those that a line fits
// counts.
var nginxBases = []struct{ name, format string }{
	{"main", nginxFormats["main"]},
	{"combined", nginxCombined},
	{"common", `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent`},
	{"vhost combined", `$host:$server_port ` + nginxCombined},
}

// nginxTails are what follows, the longer before those that they begin with: fields
// that gateways commonly log, in the orders in which they commonly do.
var nginxTails = []string{
	` "$host" sn="$server_name" rt=$request_time ua="$upstream_addr" us="$upstream_status" ut="$upstream_response_time" ul="$upstream_response_length" cs=$upstream_cache_status`,
	` rt=$request_time uct="$upstream_connect_time" uht="$upstream_header_time" urt="$upstream_response_time"`,
	` rt=$request_time uct=$upstream_connect_time uht=$upstream_header_time urt=$upstream_response_time`,
	` $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id`,
	` $request_length $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id`,
	` $request_time $upstream_response_time $upstream_addr $request_id`,
	` $request_time $upstream_response_time $upstream_addr $upstream_status`,
	` $request_time $upstream_response_time $upstream_addr`,
	` $request_time $upstream_response_time $request_id`,
	` $request_time $upstream_response_time`,
	` $upstream_response_time $request_time`,
	` "$request_time" "$upstream_response_time" "$request_id"`,
	` "$request_time" "$upstream_response_time"`,
	` $request_time $request_id`,
	` $request_time`,
	` "$request_time"`,
	` $request_id`,
	` "$request_id"`,
	``,
}

// knownNginxFormats are the formats in the order in which they are tried, those with an
// unknown rest last.
var knownNginxFormats = sync.OnceValue(func() []knownNginx {
	var known, rests []knownNginx
	for _, base := range nginxBases {
		for _, tail := range nginxTails {
			known = append(known, newKnownNginx(base.name+tail, base.format+tail))
		}
		rests = append(rests, newKnownNginx(base.name+" and more", base.format+" $extra"))
	}
	for i := range known {
		if known[i].name == "combined"+nginxTails[3] {
			known[i].name = "upstreaminfo"
		}
	}
	return append(known, rests...)
})

func newKnownNginx(name, format string) knownNginx {
	plan, err := compileNginxPlan(format, nginxEscapeDefault)
	if err != nil {
		panic("known nginx format " + format + ": " + err.Error())
	}
	return knownNginx{name: name, plan: plan, rest: strings.HasSuffix(format, "$extra")}
}

// plausible tells whether what a known format made of a line can be meant: shapes alone
// do not tell a request_id from a word, nor which of two times is the upstream's.
func plausible(r *record.Record) bool {
	if r.ParseError != "" {
		return false
	}
	if r.RequestTime >= 0 && r.UpstreamTime > r.RequestTime+0.005 {
		return false
	}
	if f, ok := r.Get("request_id"); ok && !looksLikeID(f.Val) {
		return false
	}
	if f, ok := r.Get("http_x_forwarded_for"); ok && !looksLikeAddress(f.Val) {
		return false
	}
	if f, ok := r.Get("upstream_addr"); ok && !looksLikeAddress(f.Val) {
		return false
	}
	return true
}

// looksLikeID accepts hexadecimal ids and UUIDs.
func looksLikeID(val []byte) bool {
	for _, c := range val {
		if !isHex(c) && c != '-' {
			return false
		}
	}
	return len(val) >= 16
}

// looksLikeAddress accepts a list of IP addresses with or without ports, and of sockets.
func looksLikeAddress(val []byte) bool {
	dots := false
	for _, c := range val {
		switch {
		case c == '.' || c == ':':
			dots = true
		case isHex(c) || c == ',' || c == ' ' || c == '[' || c == ']' || c == '-':
		default:
			return bytes.HasPrefix(val, []byte("unix:")) || bytes.HasPrefix(val, []byte("unknown"))
		}
	}
	return dots
}
