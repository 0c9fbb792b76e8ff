package sink

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Documents that claim to be older or newer than this go to `undated` in place of
// their day: a broken clock or a misread date shall not open an index of its own.
const (
	datedPast   = 30 * 24 * time.Hour
	datedFuture = 24 * time.Hour
)

const (
	undated = "undated" // {date} of an absurd time
	absent  = "none"    // {name} of a document without it
)

// Template is the name of a destination with placeholders: `logs-{project}-{date}`.
// {date} is the day of the document's own time in UTC, {level} its level, and any
// other name one of its fields. It is immutable.
type Template struct {
	text   string
	naming Naming
	parts  []part
	fields []string // the distinct names in it, without date
	dated  bool
}

// part is a literal, or, when field is not "", a placeholder.
type part struct{ literal, field string }

// Compile reads a template for names of that kind.
func Compile(template string, naming Naming) (*Template, error) {
	t := &Template{text: template, naming: naming}
	rest := template
	for rest != "" {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{literal: rest})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{literal: rest[:open]})
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return nil, fmt.Errorf("template %q: a brace without its partner; write {project}", template)
		}
		name := rest[open+1 : end]
		if err := checkPlaceholder(name); err != nil {
			return nil, fmt.Errorf("template %q: %w", template, err)
		}
		t.parts = append(t.parts, part{field: name})
		if name == "date" {
			t.dated = true
		} else if !slices.Contains(t.fields, name) {
			t.fields = append(t.fields, name)
		}
		rest = rest[end+1:]
	}
	if err := naming.checkLiterals(t.parts); err != nil {
		return nil, fmt.Errorf("template %q: %w", template, err)
	}
	return t, nil
}

func checkPlaceholder(name string) error {
	switch name {
	case "":
		return fmt.Errorf("{} names nothing; write {project}")
	case "id", "offset", "@timestamp":
		return fmt.Errorf("{%s} differs for every line and cannot be part of a name; use {date} for the day", name)
	case "parse_error", "partial", "truncated":
		return fmt.Errorf("{%s} cannot be part of a name; use {project}, {level}, {date} or a field of the line", name)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_.-@", c) {
			return fmt.Errorf("{%s} is not a field's name; letters, digits, '_', '-', '.' and '@' are", name)
		}
	}
	return nil
}

// String returns the template as it was written.
func (t *Template) String() string { return t.text }

// Pattern returns the template with a * for each placeholder: a glob that matches
// every name it makes (and others).
func (t *Template) Pattern() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field != "" {
			b.WriteByte('*')
		}
		b.WriteString(p.literal)
	}
	return b.String()
}

// Fields returns the names in the template whose values can differ from line to
// line, unless an input gives them as constants: its blocks need them as route
// keys. Date, level and what a document's Origin always has are not among them.
func (t *Template) Fields() []string {
	return slices.DeleteFunc(slices.Clone(t.fields), func(name string) bool {
		switch name {
		case "level", "host", "input", "file", "project":
			return true
		}
		return false
	})
}

// Append appends the name for r. unixMilli is the present, against which a time is
// absurd.
func (t *Template) Append(dst []byte, r record.Ref, unixMilli int64) []byte {
	start := len(dst)
	for _, p := range t.parts {
		switch p.field {
		case "":
			dst = append(dst, p.literal...)
		case "date":
			dst = appendDay(dst, r.Doc().Time, unixMilli)
		default:
			dst = t.naming.appendValue(dst, r.Value(p.field))
		}
	}
	return t.naming.finish(dst, start)
}

func appendDay(dst []byte, unixMilli, now int64) []byte {
	if unixMilli < now-datedPast.Milliseconds() || unixMilli > now+datedFuture.Milliseconds() {
		return append(dst, undated...)
	}
	return time.UnixMilli(unixMilli).UTC().AppendFormat(dst, "2006.01.02")
}

// Names makes the names of a template for many documents. Neighbours mostly have
// the same one, and get it in a few nanoseconds, without an allocation. One
// goroutine at a time uses it.
type Names struct {
	t        *Template
	interned map[string]string
	buf      []byte

	// The name of the last document, and what of a document it depends on.
	name     string
	known    bool
	now      int64
	origin   *record.Origin
	level    record.Level
	from, to int64 // of the document's time: from <= time < to
	routed   []routedValue
}

type routedValue struct {
	is    bool // the block has the name as a route key
	value []byte
}

// maxInterned bounds the memory that names from hostile fields can take.
const maxInterned = 4096

// Names returns an empty memo for the template.
func (t *Template) Names() *Names {
	return &Names{t: t, interned: make(map[string]string), routed: make([]routedValue, len(t.fields))}
}

// Of returns the name for r; equal names are the same string. unixMilli is the
// present, read once for a batch.
func (n *Names) Of(r record.Ref, unixMilli int64) string {
	doc := r.Doc()
	if n.known && n.now == unixMilli && doc.Origin == n.origin && doc.Time >= n.from && doc.Time < n.to && n.sameFields(r, doc) {
		return n.name
	}
	return n.look(r, doc, unixMilli)
}

func (n *Names) sameFields(r record.Ref, doc *record.Doc) bool {
	for i, field := range n.t.fields {
		memo := &n.routed[i]
		value, is := r.Routed(field)
		if is != memo.is || string(value) != string(memo.value) {
			return false
		}
		if field == "level" && doc.Level != n.level {
			return false
		}
	}
	return true
}

func (n *Names) look(r record.Ref, doc *record.Doc, now int64) string {
	n.known, n.now, n.origin, n.level = true, now, doc.Origin, doc.Level
	n.from, n.to = math.MinInt64, math.MaxInt64
	if n.t.dated {
		n.from, n.to = dayAround(doc.Time, now)
	}
	for i, field := range n.t.fields {
		value, is := r.Routed(field)
		n.routed[i].is = is
		n.routed[i].value = append(n.routed[i].value[:0], value...)
	}
	n.buf = n.t.Append(n.buf[:0], r, now)
	name, ok := n.interned[string(n.buf)]
	if !ok {
		if len(n.interned) >= maxInterned {
			clear(n.interned)
		}
		name = string(n.buf)
		n.interned[name] = name
	}
	n.name = name
	return name
}

// dayAround returns the times around t that have its {date}.
func dayAround(t, now int64) (from, to int64) {
	const day = int64(24 * time.Hour / time.Millisecond)
	oldest, newest := now-datedPast.Milliseconds(), now+datedFuture.Milliseconds()
	switch {
	case t < oldest:
		return math.MinInt64, oldest
	case t > newest:
		return newest + 1, math.MaxInt64
	}
	// Floor, also for the days before 1970 that a test clock may have.
	from = t - ((t%day)+day)%day
	return max(from, oldest), min(from+day, newest+1)
}
