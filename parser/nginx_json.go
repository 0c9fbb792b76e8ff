package parser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// nginxJSON parses the lines of a log_format that is a JSON object. Most are JSON as
// they stand. Those that are not, because nginx wrote \x22 into a string or a lone
// hyphen for a number, are taken apart by the log_format and put together again.
type nginxJSON struct {
	lines  Parser
	split  *nginxAccess
	quoted []bool // for each step, whether its value stands inside a string
	line   []byte // the line that was put together
}

// nginxJSONShape tells whether a log_format is a JSON object once its variables have
// values, and which of its values stand inside strings.
func nginxJSONShape(plan *nginxPlan) (quoted []bool, ok bool) {
	if !strings.HasPrefix(strings.TrimSpace(plan.head), "{") {
		return nil, false
	}
	var line []byte
	inString := false
	add := func(lit string) {
		for i := 0; i < len(lit); i++ {
			if lit[i] == '\\' && inString {
				i++
			} else if lit[i] == '"' {
				inString = !inString
			}
		}
		line = append(line, lit...)
	}
	add(plan.head)
	for i := range plan.steps {
		quoted = append(quoted, inString)
		line = append(line, '0')
		add(plan.steps[i].lit)
	}
	return quoted, json.Valid(line)
}

// nginxJSONVariables returns, by the keys of a log_format that is a JSON object, the
// variables that are their values: the keys may have any names.
func nginxJSONVariables(format string) map[string]string {
	pieces, err := splitNginxFormat(format)
	if err != nil {
		return nil
	}
	var b strings.Builder
	var named []string
	inString := false
	for _, p := range pieces {
		text := p.lit
		if p.name != "" {
			text = fmt.Sprintf("\ufffd%d", len(named))
			named = append(named, p.name)
			if !inString {
				text = `"` + text + `"`
			}
		}
		b.WriteString(text)
		for i := 0; p.name == "" && i < len(text); i++ {
			if text[i] == '\\' && inString {
				i++
			} else if text[i] == '"' {
				inString = !inString
			}
		}
	}
	var object map[string]any
	if json.Unmarshal([]byte(b.String()), &object) != nil {
		return nil
	}
	variables := make(map[string]string)
	var walk func(prefix string, val any)
	walk = func(path string, val any) {
		switch val := val.(type) {
		case map[string]any:
			for key, inner := range val {
				walk(strings.TrimPrefix(path+"."+key, "."), inner)
			}
		case string:
			for i, name := range named {
				if val == fmt.Sprintf("\ufffd%d", i) {
					variables[path] = name
				}
			}
		}
	}
	walk("", object)
	return variables
}

// newNginxLines is newJSON for the lines of a log_format whose keys are known.
func newNginxLines(variables map[string]string, zone *time.Location) Parser {
	p := newJSON(JSONKeys{}, zone).(*jsonParser)
	p.tables[1].variables = variables
	p.nginx, p.always = true, true
	return p
}

func newNginxJSON(plan *nginxPlan, quoted []bool, lines Parser) *nginxJSON {
	return &nginxJSON{lines: lines, split: newNginxAccess(plan), quoted: quoted}
}

// Parse implements Parser.
func (p *nginxJSON) Parse(text []byte, r *record.Record) {
	p.lines.Parse(text, r)
	if r.ParseError == "" {
		return
	}
	reason := r.ParseError
	if p.mend(text, r) {
		forget(r)
		p.lines.Parse(p.line, r)
		if r.ParseError == "" {
			return
		}
	}
	forget(r)
	r.ParseError = reason
	r.Add("message", text, record.Text)
}

// mend makes p.line a line of JSON that says what text says.
func (p *nginxJSON) mend(text []byte, r *record.Record) bool {
	s := p.split
	if keys := r.Reserved(); keys != s.keys {
		s.rename(keys)
	}
	if !s.find(text) {
		return false
	}
	pos := len(s.plan.head)
	p.line = append(p.line[:0], s.plan.head...)
	for i := range s.steps {
		val := text[pos:s.ends[i]]
		switch {
		case p.quoted[i]:
			p.line = record.AppendEscaped(p.line, p.plain(val, r))
		case isNumber(trimZeros(val)):
			p.line = append(p.line, trimZeros(val)...)
		case absent(val):
			p.line = append(p.line, "null"...)
		default:
			p.line = append(p.line, '"')
			p.line = record.AppendEscaped(p.line, p.plain(val, r))
			p.line = append(p.line, '"')
		}
		p.line = append(p.line, s.steps[i].lit...)
		pos = s.ends[i] + len(s.steps[i].lit)
	}
	return true
}

// plain undoes the escapes of a value.
func (p *nginxJSON) plain(val []byte, r *record.Record) []byte {
	if p.split.plan.escape == nginxEscapeNone || bytes.IndexByte(val, '\\') < 0 {
		return val
	}
	return p.split.unescape(val, r)
}
