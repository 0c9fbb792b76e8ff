package parser

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

// nginxEscape is a log_format's escape= parameter: how nginx wrote what would break
// the line.
type nginxEscape uint8

const (
	nginxEscapeDefault nginxEscape = iota // \xXX; "-" for what is absent
	nginxEscapeJSON                       // as inside a JSON string; nothing for what is absent
	nginxEscapeNone                       // not at all
)

func nginxEscapeNamed(name string) (nginxEscape, error) {
	switch name {
	case "", "default":
		return nginxEscapeDefault, nil
	case "json":
		return nginxEscapeJSON, nil
	case "none":
		return nginxEscapeNone, nil
	}
	return 0, fmt.Errorf("unknown escape %q; nginx knows default, json and none", name)
}

// nginxPlan is a log_format made ready to be run over lines: the literal text that a
// line begins with, and a step for each variable and the literal text that follows it.
// It does not change once compiled.
type nginxPlan struct {
	escape nginxEscape
	head   string
	steps  []nginxStep
	quotes int // in the literal text
	// requestIDs is set when more than one variable can give the request_id, so that
	// one that is absent from a line is replaced by the next.
	requestIDs bool
}

// nginxStep finds one variable's value and puts it into the record.
type nginxStep struct {
	kind  nginxKind
	find  nginxFind
	quick nginxQuick
	// other marks a variable that gives request_id when those before it did not.
	other bool
	// untimed marks a time that another, more exact variable of the line gives.
	untimed bool
	lit     string // the literal text that follows; "" at the end of the line
	// word and mask compare the first eight bytes of lit at once.
	word, mask uint64
	// keys are the fields that the value gives, "" for none: a single one, or a list's
	// number and its whole text, or a request's method, path, query, http_version
	// and, when it is not one, the text itself.
	keys [5]string
	// names are the keys that a document can take, as a parser needs them.
	names [5]*record.Name
	pair  *nginxSplit // of nginxPair
}

// nginxPiece is a piece of a log_format: literal text or a variable.
type nginxPiece struct {
	lit  string
	name string // "" for literal text
}

// splitNginxFormat takes a log_format's text apart as nginx does: $name and ${name}
// are variables and all else stands for itself.
func splitNginxFormat(s string) ([]nginxPiece, error) {
	var pieces []nginxPiece
	lit := 0
	for i := 0; i < len(s); {
		if s[i] != '$' {
			i++
			continue
		}
		start, from, brace := i, i+1, false
		if from < len(s) && s[from] == '{' {
			from, brace = from+1, true
		}
		end := from
		for end < len(s) && isNginxName(s[end]) {
			end++
		}
		column := utf8.RuneCountInString(s[:start]) + 1
		switch {
		case end == from:
			return nil, fmt.Errorf(`variable "$" without a name at column %d`, column)
		case brace && (end == len(s) || s[end] != '}'):
			return nil, fmt.Errorf(`variable "${%s" at column %d lacks its closing brace`, s[from:end], column)
		}
		if lit < start {
			pieces = append(pieces, nginxPiece{lit: s[lit:start]})
		}
		pieces = append(pieces, nginxPiece{name: s[from:end]})
		i = end
		if brace {
			i++
		}
		lit = i
	}
	if lit < len(s) {
		pieces = append(pieces, nginxPiece{lit: s[lit:]})
	}
	return pieces, nil
}

func isNginxName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// compileNginxPlan makes a plan of a log_format's text.
func compileNginxPlan(format string, escape nginxEscape) (*nginxPlan, error) {
	pieces, err := splitNginxFormat(format)
	if err != nil {
		return nil, err
	}
	p := &nginxPlan{escape: escape}
	names := newNginxNames(pieces, escape)
	for i := 0; i < len(pieces); {
		if pieces[i].name == "" {
			p.head = pieces[i].lit // only the first can be met here: the others end a step
			i++
			continue
		}
		var vars []string
		for ; i < len(pieces) && pieces[i].name != ""; i++ {
			vars = append(vars, pieces[i].name)
		}
		s := names.join(vars)
		if i < len(pieces) {
			s.follow(pieces[i].lit)
			i++
		}
		s.find = s.finder(escape)
		s.quick = s.quickness()
		p.steps = append(p.steps, s)
	}
	if len(p.steps) == 0 {
		return nil, fmt.Errorf("no variable in %q; write the log_format as it stands in nginx.conf, or one of the names combined, main, upstreaminfo", shorten(format))
	}
	for _, piece := range pieces {
		p.quotes += strings.Count(piece.lit, `"`)
	}
	p.requestIDs = names.requestIDs
	return p, nil
}

// shorten keeps errors to one line of a readable length.
func shorten(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
