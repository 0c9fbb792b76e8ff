package parser

import (
	"bytes"
	"time"

	"github.com/tailwater/tailwater/record"
)

// autoParser parses the lines of a file whose format was decided from its first ones.
// Files are seldom pure: a server's errors stand among its accesses, a panic among JSON,
// JSON among text. A line that is not of the file's format is tried as what it looks
// like; each line for itself, so that it reads the same wherever reading begins.
type autoParser struct {
	kind  string // json, logfmt, nginx, nginx-error, app, plain
	conf  *Config
	plan  *nginxPlan // of nginx, nil when any of the known formats is
	first Parser

	// The others, made when they are needed.
	json, errors, text Parser
	known              []Parser
}

// parser returns what makes parsers of a kind.
func (a *auto) parser(kind string, plan *nginxPlan) func() Parser {
	return func() Parser { return newAutoParser(kind, &a.conf, plan) }
}

func newAutoParser(kind string, conf *Config, plan *nginxPlan) *autoParser {
	p := &autoParser{kind: kind, conf: conf, plan: plan}
	switch kind {
	case "json":
		p.first = newJSON(conf.JSON, conf.Zone)
	case "logfmt":
		p.first = newLogfmt(conf.Zone)
	case "nginx-error":
		p.first = newNginxError(conf.Zone)
	case "nginx":
		if plan != nil {
			p.first = newNginxAccess(plan)
		}
	}
	return p
}

// Parse implements Parser.
func (p *autoParser) Parse(text []byte, r *record.Record) {
	var reason string
	if p.first != nil {
		if p.first.Parse(text, r); r.ParseError == "" {
			return
		}
		reason = r.ParseError
		forget(r)
	}
	switch {
	case looksLikeAccess(text) && p.anyAccess(text, r):
		return
	case looksLikeNginxError(text) && p.try(&p.errors, newNginxError, text, r):
		return
	case p.conf.Kind == "nginx":
		if reason == "" {
			reason = errNginx
		}
	case p.kind != "json" && looksLikeJSON(text) && p.try(&p.json, p.newJSON, text, r):
		return
	case p.kind == "app" || p.kind == "plain": // what had no level so far may have one later
		p.try(&p.text, newApp, text, r)
		return
	case len(text) > 0 && text[0] != '{' && p.try(&p.text, newApp, text, r) && (r.HasTime || r.Level != record.LevelNone):
		return
	}
	forget(r)
	r.ParseError = reason
	r.Add("message", text, record.Text)
}

func (p *autoParser) newJSON(zone *time.Location) Parser { return newJSON(p.conf.JSON, zone) }

// try parses text as another format, whose parser is made for the first such line.
func (p *autoParser) try(as *Parser, make func(*time.Location) Parser, text []byte, r *record.Record) bool {
	if *as == nil {
		*as = make(p.conf.Zone)
	}
	(*as).Parse(text, r)
	if r.ParseError == "" {
		return true
	}
	forget(r)
	return false
}

// anyAccess parses an access line of any of the known formats.
func (p *autoParser) anyAccess(text []byte, r *record.Record) bool {
	if p.known == nil {
		for _, known := range knownNginxFormats() {
			p.known = append(p.known, newNginxAccess(known.plan))
		}
	}
	for _, known := range p.known {
		if known.Parse(text, r); plausible(r) {
			return true
		}
		forget(r)
	}
	return false
}

// looksLikeAccess tells, at little cost, whether a line can be of a known access log
// format: it has a time in brackets with a quote behind it.
func looksLikeAccess(text []byte) bool {
	i := bytes.IndexByte(text, '[')
	const width = len(`[23/Nov/2026:20:00:00 +0000] "`)
	return i > 0 && i+width <= len(text) && text[i+3] == '/' && text[i+7] == '/' && text[i+width-3] == ']' && text[i+width-1] == '"'
}
