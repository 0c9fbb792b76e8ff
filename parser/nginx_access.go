package parser

import (
	"bytes"

	"github.com/tailwater/tailwater/record"
)

// errNginx is the parse_error of lines that are not of the input's log_format.
const errNginx = "not of the nginx log_format"

// nginxAccess parses the lines of one file by a plan.
type nginxAccess struct {
	plan  *nginxPlan
	steps []nginxStep  // the plan's, with the keys that the document can take
	keys  *record.Keys // those that steps were made for
	clock nginxClock

	escaped bool        // the line has a backslash, in a format that escapes
	kind    record.Kind // of values: Escaped where nothing in them has to be
	ends    []int       // of the values, while match looks for them
	budget  int         // what match may still try
}

func newNginxAccess(plan *nginxPlan) *nginxAccess {
	return &nginxAccess{plan: plan, ends: make([]int, len(plan.steps))}
}

// Parse implements Parser.
func (p *nginxAccess) Parse(text []byte, r *record.Record) {
	if keys := r.Reserved(); keys != p.keys {
		p.rename(keys)
	}
	plain := standsForItself(text)
	p.kind, p.escaped = record.Text, false
	if plain && bytes.Count(text, quote) == p.plan.quotes {
		p.kind = record.Escaped
	} else if !plain {
		p.escaped = p.plan.escape != nginxEscapeNone && bytes.IndexByte(text, '\\') >= 0
	}
	if !p.run(text, r) && !p.runMatched(text, r) {
		forget(r)
		r.ParseError = errNginx
		r.Add("message", text, record.Text)
		return
	}
	if p.plan.requestIDs {
		p.otherRequestID(r)
	}
}

// forget empties r of what a failed attempt put there.
func forget(r *record.Record) {
	partial, truncated := r.Partial, r.Truncated
	r.Reset()
	r.Partial, r.Truncated = partial, truncated
}

// run takes the shortest way through a line: each value ends where the literal text
// after it is first met. It says false when some value is not of its variable's form,
// which a value with that literal inside can be the reason for. The commonest kinds of
// step are dealt with on the spot.
func (p *nginxAccess) run(text []byte, r *record.Record) bool {
	pos := len(p.plan.head)
	if pos > 0 && (len(text) < pos || string(text[:pos]) != p.plan.head) {
		return false
	}
	for i := range p.steps {
		s := &p.steps[i]
		end := -1
		switch s.quick {
		case quickText:
			if pos < len(text) && text[pos] == '-' && s.lit[0] != '-' && s.litAt(text, pos+1) {
				end = pos + 1 // absent
				break
			}
			if end = s.next(text, pos); end < 0 {
				return false
			}
			p.putText(s.names[0], text[pos:end], r)
		case quickToken:
			if end = s.tokenEnd(text, pos); end < 0 {
				return false
			}
			p.putText(s.names[0], text[pos:end], r)
		case quickLast:
			if end = len(text); s.kind == nginxToken && blankAt(text, pos) >= 0 {
				return false
			}
			p.putText(s.names[0], text[pos:], r)
		case quickNumber:
			end = s.putQuick(text, pos, r)
		case quickRequest:
			if end = s.next(text, pos); end < 0 {
				return false
			}
			if val := text[pos:end]; !absent(val) {
				p.putRequest(s, val, r)
			}
		case quickTime:
			if end = pos + nginxLocalLen; end > len(text) || !s.litAt(text, end) {
				return false
			}
			if r.Time, r.HasTime = p.clock.local(text[pos:end]); !r.HasTime {
				return false
			}
		}
		if end < 0 {
			if end = s.end(text, pos); end < 0 || !p.put(s, text[pos:end], r) {
				return false
			}
		}
		pos = end + len(s.lit)
	}
	return pos == len(text)
}

// runMatched is run for lines in which the first place of a literal is not the right
// one.
func (p *nginxAccess) runMatched(text []byte, r *record.Record) bool {
	forget(r)
	p.kind = record.Text
	if !p.find(text) {
		return false
	}
	pos := len(p.plan.head)
	for i := range p.steps {
		s := &p.steps[i]
		if !p.put(s, text[pos:p.ends[i]], r) {
			return false
		}
		pos = p.ends[i] + len(s.lit)
	}
	return true
}

// find sets p.ends to places between which every value is of its variable's form.
func (p *nginxAccess) find(text []byte) bool {
	pos := len(p.plan.head)
	if len(text) < pos || string(text[:pos]) != p.plan.head {
		return false
	}
	p.budget = nginxMatchBudget
	return p.match(text, pos, 0)
}

// rename gives the steps the keys that a document with these keys of its own can take.
func (p *nginxAccess) rename(keys *record.Keys) {
	p.keys = keys
	p.steps = append(p.steps[:0], p.plan.steps...)
	taken := make(map[string]bool)
	for i := range p.steps {
		p.steps[i].rename(keys, taken)
	}
}

func (s *nginxStep) rename(keys *record.Keys, taken map[string]bool) {
	for i, key := range s.keys {
		if key == "" {
			continue
		}
		for keys.Has(key) || taken[key] {
			key = "orig_" + key
		}
		taken[key] = true
		s.keys[i], s.names[i] = key, record.NewName(key)
	}
	if s.pair != nil {
		pair := *s.pair
		pair.left.rename(keys, taken)
		pair.right.rename(keys, taken)
		s.pair = &pair
	}
}

// otherRequestID takes the request_id of a line from the next variable that has one.
func (p *nginxAccess) otherRequestID(r *record.Record) {
	for i := range p.steps {
		s := &p.steps[i]
		if s.keys[0] == "request_id" {
			continue
		}
		if _, has := r.Get("request_id"); has || !s.other {
			continue
		}
		if f, ok := r.Get(s.keys[0]); ok {
			r.Add("request_id", f.Val, f.Kind)
		}
	}
}
