package tail

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// Glob is a pattern of absolute paths. * and ? match within a path element, [a-z]
// one character, {x,y} either word, ** any number of directories, and {name} is a *
// that is kept as a field.
type Glob struct {
	text  string
	base  string // the directory that holds everything it can match
	elems []elem // of the path below base
	names []string
}

// elem matches one path element.
type elem struct {
	literal string         // matched as it is when re is nil and any is not set
	re      *regexp.Regexp // its groups are the captures
	any     bool           // **
	first   int            // index of its first capture in Glob.names
}

var captureName = regexp.MustCompile(`^[A-Za-z_@][A-Za-z0-9_.@-]*$`)

// ParseGlob compiles a pattern; a relative one begins in the working directory. The
// error says what to write instead.
func ParseGlob(pattern string) (*Glob, error) {
	if pattern == "" {
		return nil, fmt.Errorf("the pattern is empty; write a path such as /var/log/nginx/*.log")
	}
	if strings.HasSuffix(pattern, "/") {
		return nil, fmt.Errorf("%s names a directory; write %s* for the files in it", pattern, pattern)
	}
	abs, err := filepath.Abs(pattern)
	if err != nil {
		return nil, err
	}
	g := &Glob{text: pattern}
	parts := strings.Split(abs, "/")[1:]
	for i, part := range parts {
		e, names, err := parseElem(part)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if e.any && i == len(parts)-1 {
			return nil, fmt.Errorf("%s ends with **; write %s/* for all files below", pattern, pattern)
		}
		for _, name := range names {
			for _, known := range g.names {
				if name == known {
					return nil, fmt.Errorf("%s captures {%s} twice; give one of them another name", pattern, name)
				}
			}
		}
		e.first = len(g.names)
		g.names = append(g.names, names...)
		g.elems = append(g.elems, e)
	}
	fixed := 0
	for fixed < len(g.elems)-1 && g.elems[fixed].re == nil && !g.elems[fixed].any {
		fixed++
	}
	g.base = "/" + strings.Join(parts[:fixed], "/")
	g.elems = g.elems[fixed:]
	return g, nil
}

// parseElem translates one element of a pattern.
func parseElem(part string) (e elem, names []string, err error) {
	if part == "**" {
		return elem{any: true}, nil, nil
	}
	if strings.Contains(part, "**") {
		return e, nil, fmt.Errorf("** stands for whole directories; write /**/ or a single * in %q", part)
	}
	if !strings.ContainsAny(part, `*?[]{}\`) {
		return elem{literal: part}, nil, nil
	}
	var re strings.Builder
	re.WriteString(`(?s)^`)
	for rest := part; rest != ""; {
		var n int
		var name string
		if n, name, err = translate(&re, rest); err != nil {
			return e, nil, err
		}
		if name != "" {
			names = append(names, name)
		}
		rest = rest[n:]
	}
	re.WriteString(`$`)
	if e.re, err = regexp.Compile(re.String()); err != nil {
		return e, nil, fmt.Errorf("%q is not a pattern", part)
	}
	return e, names, nil
}

// translate writes the regular expression for the first thing in rest, and returns
// its length and the name that it captures, if any.
func translate(re *strings.Builder, rest string) (n int, name string, err error) {
	switch rest[0] {
	case '*':
		re.WriteString(`[^/]*`)
		return 1, "", nil
	case '?':
		re.WriteString(`[^/]`)
		return 1, "", nil
	case '\\':
		if len(rest) == 1 {
			return 0, "", fmt.Errorf(`a \ at the end escapes nothing`)
		}
		re.WriteString(regexp.QuoteMeta(rest[1:2]))
		return 2, "", nil
	case '[':
		end := strings.IndexByte(rest[1:], ']')
		if end < 1 {
			return 0, "", fmt.Errorf("the [ in %q is not closed; write \\[ for the character itself", rest)
		}
		class := strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(rest[1 : end+1])
		if class[0] == '!' {
			class = "^" + class[1:]
		}
		re.WriteString("[" + class + "]")
		return end + 2, "", nil
	case '{':
		return translateBraces(re, rest)
	case '}', ']':
		return 0, "", fmt.Errorf("nothing opened the %q; write \\%c for the character itself", rest[0], rest[0])
	}
	n = strings.IndexAny(rest, `*?[]{}\`)
	if n < 0 {
		n = len(rest)
	}
	re.WriteString(regexp.QuoteMeta(rest[:n]))
	return n, "", nil
}

func translateBraces(re *strings.Builder, rest string) (n int, name string, err error) {
	end := strings.IndexByte(rest, '}')
	if end < 0 {
		return 0, "", fmt.Errorf("the { in %q is not closed", rest)
	}
	inside := rest[1:end]
	if strings.Contains(inside, ",") {
		words := strings.Split(inside, ",")
		for i, word := range words {
			words[i] = strings.NewReplacer(`\*`, `[^/]*`, `\?`, `[^/]`).Replace(regexp.QuoteMeta(word))
		}
		re.WriteString("(?:" + strings.Join(words, "|") + ")")
		return end + 1, "", nil
	}
	if !captureName.MatchString(inside) {
		return 0, "", fmt.Errorf("{%s} is no name for a field; write {name} with letters, digits and _, or {a,b} for either word", inside)
	}
	re.WriteString(`([^/]+)`)
	return end + 1, inside, nil
}

// Quote returns a pattern that matches the path alone.
func Quote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`).Replace(path)
}

// String returns the pattern as it was written.
func (g *Glob) String() string { return g.text }

// Names are the fields that the pattern captures.
func (g *Glob) Names() []string { return g.names }

// Match reports whether the pattern matches an absolute path, and what it captures.
func (g *Glob) Match(path string) (captures []record.KeyValue, ok bool) {
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(g.base, "/")+"/")
	if !ok || below == "" {
		return nil, false
	}
	values := make([]string, len(g.names))
	if !g.match(g.elems, strings.Split(below, "/"), values) {
		return nil, false
	}
	for i, name := range g.names {
		captures = append(captures, record.KeyValue{Key: name, Value: values[i]})
	}
	return captures, true
}

// match compares element by element. Only the latest ** is ever tried again with one
// more directory: what an earlier one could take, the latest can take as well, and so
// the time is bounded by the product of the lengths.
func (g *Glob) match(elems []elem, parts []string, values []string) bool {
	e, p := 0, 0
	star, starAt := -1, 0
	for p < len(parts) {
		switch {
		case e < len(elems) && elems[e].any:
			star, starAt = e, p
			e++
		case e < len(elems) && elems[e].match(parts[p], values):
			e++
			p++
		case star >= 0:
			starAt++
			e, p = star+1, starAt
		default:
			return false
		}
	}
	return e == len(elems)
}

// match reports whether one path element matches; values takes the captures and may
// be nil.
func (e *elem) match(name string, values []string) bool {
	if e.re == nil {
		return name == e.literal
	}
	if values == nil || e.re.NumSubexp() == 0 {
		return e.re.MatchString(name)
	}
	groups := e.re.FindStringSubmatch(name)
	if groups == nil {
		return false
	}
	copy(values[e.first:], groups[1:])
	return true
}

// excludes are patterns of what is left alone: one without a slash is matched with a
// path's last element, others with the whole path.
type excludes struct {
	names []elem
	paths []*Glob
}

func parseExcludes(patterns []string) (x excludes, err error) {
	for _, p := range patterns {
		if strings.Contains(p, "/") {
			g, err := ParseGlob(p)
			if err != nil {
				return x, err
			}
			x.paths = append(x.paths, g)
			continue
		}
		e, _, err := parseElem(p)
		if err != nil {
			return x, err
		}
		x.names = append(x.names, e)
	}
	return x, nil
}

// CheckExclude says what is wrong with a pattern of Input.Exclude, nil if nothing is.
func CheckExclude(pattern string) error {
	_, err := parseExcludes([]string{pattern})
	return err
}

func (x *excludes) match(path string) bool {
	name := filepath.Base(path)
	for i := range x.names {
		if x.names[i].match(name, nil) {
			return true
		}
	}
	for _, g := range x.paths {
		if _, ok := g.Match(path); ok {
			return true
		}
	}
	return false
}
