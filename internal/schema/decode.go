package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"reflect"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Options are what a file is decoded with.
type Options struct {
	// Env looks up environment variables; nil is os.LookupEnv.
	Env func(name string) (string, bool)
	// Checks are the functions that check tags name. The error says what is wrong with
	// the value and what to write.
	Checks map[string]func(value string) error
	// Literal leaves values as they are written: nothing is expanded. For text from those
	// who may not see this machine's environment and files.
	Literal bool
	// Warnings takes what is allowed and not advisable; nil: nobody wants to know.
	Warnings *[]Problem
	// Files takes the paths of ${file:..} that were read, each as often as it was; nil:
	// nobody wants to know.
	Files *[]string
}

// Decode fills the struct that into points to from the YAML text of file, a name for
// the problems. The sum names what was read, the values of all expansions included.
func Decode(file string, data []byte, into any, opts Options) (sum string, problems []Problem) {
	if opts.Env == nil {
		opts.Env = os.LookupEnv
	}
	d := &decoder{file: file, opts: opts, names: make(map[string][]string), sum: sha256.New()}
	d.sum.Write(data)
	v := reflect.ValueOf(into).Elem()
	d.root = v.Type()
	d.lines = max(1, strings.Count(strings.TrimSuffix(string(data), "\n"), "\n")+1)
	root, syntax := parse(file, data)
	d.problems = syntax
	d.broken = len(syntax) > 0
	if root == nil {
		if !d.broken {
			d.add(nil, "the file is empty; write the sections "+strings.Join(shapeOf(d.root).keys(), ", "))
		}
	} else {
		d.structValue(place{node: root, at: root}, v)
		d.resolve()
	}
	for i := range d.problems {
		d.problems[i].Line = min(max(d.problems[i].Line, 1), d.lines)
	}
	if opts.Warnings != nil {
		*opts.Warnings = tidy(d.warnings)
	}
	return hex.EncodeToString(d.sum.Sum(nil)), tidy(d.problems)
}

type decoder struct {
	file      string
	opts      Options
	root      reflect.Type
	lines     int
	problems  []Problem
	warnings  []Problem
	badValues int                 // the problems but those of keys that nobody knows
	broken    bool                // the end of the file is missing: what is absent may be there
	names     map[string][]string // the names that a section of the root defines
	refs      []reference
	sum       hash.Hash // of the file and its expansions
	visits    int
}

// place is a value in the file.
type place struct {
	node  *yaml.Node // nil where the key is absent
	at    *yaml.Node // where problems of the whole value are told: its key, if it has one
	path  string     // as in inputs.apps.files
	depth int
}

func (p place) child(key string, at, node *yaml.Node) place {
	path := key
	if p.path != "" {
		path = p.path + "." + key
	}
	return place{node: node, at: at, path: path, depth: p.depth + 1}
}

// in is the place in the words of a problem.
func (p place) in() string {
	if p.path == "" {
		return "at the top level"
	}
	return "in " + p.path
}

// add tells of a value that is not good.
func (d *decoder) add(at *yaml.Node, text string) {
	d.badValues++
	d.tell(at, text)
}

func (d *decoder) tell(at *yaml.Node, text string) {
	p := Problem{File: d.file, Line: 1, Text: oneLine(text)}
	if at != nil && at.Line > 0 {
		p.Line, p.Col = at.Line, at.Column
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) addf(at *yaml.Node, format string, args ...any) {
	d.add(at, fmt.Sprintf(format, args...))
}

// keyProblem tells of a key that is left out, which spoils nothing else.
func (d *decoder) keyProblem(at *yaml.Node, format string, args ...any) {
	d.tell(at, fmt.Sprintf(format, args...))
}

// oneLine keeps a problem on its line, whatever a name in it holds.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

const (
	// maxDepth is far deeper than any struct; it ends anchors that hold themselves.
	maxDepth = 24
	// maxVisits ends anchors that multiply.
	maxVisits = 200_000
)

// enter follows an alias and refuses what only an attack has. It returns nil when the
// value must not be looked at.
func (d *decoder) enter(p place) *yaml.Node {
	n := p.node
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if d.visits++; p.depth > maxDepth || d.visits > maxVisits {
		if d.visits <= maxVisits+1 {
			d.addf(p.at, "%.60s.. is nested too deeply; is there an anchor that holds itself?", p.path)
		}
		return nil
	}
	if n.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(n.Tag, "!!") {
		d.addf(n, "%s: the tag %s means nothing here; remove it", p.path, n.Tag)
		return nil
	}
	return n
}

// value decodes the value at p into v.
func (d *decoder) value(p place, v reflect.Value, f *field) {
	switch classOf(v.Type()) {
	case isPointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(p, v.Elem(), f)
	case isStruct:
		d.structValue(p, v)
	case isNamed:
		d.namedValues(p, v, f)
	case isList:
		d.listValue(p, v, f)
	default:
		if n := d.enter(p); n != nil {
			p.node = n
			d.scalarNode(p, v, f)
		}
	}
}

// listValue decodes a list; a bare value is a list of one.
func (d *decoder) listValue(p place, v reflect.Value, f *field) {
	n := d.enter(p)
	if n == nil {
		return
	}
	if isNull(n) {
		d.addf(p.at, "%s has no value; write a list, as in %s: [..], or remove the key", p.path, lastKey(p.path))
		return
	}
	nodes := n.Content
	if n.Kind != yaml.SequenceNode {
		nodes = []*yaml.Node{n}
		if n.Kind == yaml.MappingNode && structOf(v.Type().Elem()) == nil {
			d.addf(p.at, "%s is a map; write a list of values%s", p.path, quoteHint(n))
			return
		}
	}
	list := reflect.MakeSlice(v.Type(), len(nodes), len(nodes))
	seen := make(map[string]int)
	for i, c := range nodes {
		elem := place{node: c, at: c, path: p.path, depth: p.depth + 1}
		if n.Kind == yaml.SequenceNode {
			elem.path = fmt.Sprintf("%s[%d]", p.path, i)
		}
		d.value(elem, list.Index(i), f)
		if list.Index(i).Kind() == reflect.String {
			s := list.Index(i).String()
			if first, twice := seen[s]; twice && s != "" {
				d.addf(c, "%s is the same as %s[%d]; remove one", elem.path, p.path, first)
			} else {
				seen[s] = i
			}
		}
	}
	v.Set(list)
	if len(nodes) == 0 && f.min != "" {
		d.addf(p.at, "%s is empty; write at least one, or remove the key", p.path)
	}
}

// namedValues decodes a map whose keys are names into a slice, in the file's order.
func (d *decoder) namedValues(p place, v reflect.Value, f *field) {
	n := d.enter(p)
	if n == nil {
		return
	}
	var pairs []pair
	switch {
	case n.Kind == yaml.MappingNode:
		pairs = d.pairs(p, n)
	case !isNull(n):
		d.addf(p.at, "%s is %s; write a map of names, as in %s: {NAME: ..}", p.path, kindName(n), lastKey(p.path))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(pairs), len(pairs))
	names := []string{}
	for i, kv := range pairs {
		elem := list.Index(i)
		if elem.Kind() == reflect.Pointer {
			elem.Set(reflect.New(elem.Type().Elem()))
			elem = elem.Elem()
		}
		name := shapeOf(elem.Type()).name
		elem.Field(name.index).SetString(kv.key.Value)
		if name.check != "" {
			if err := d.opts.Checks[name.check](kv.key.Value); err != nil {
				d.addf(kv.key, "%s: %v", p.path, err)
			}
		}
		names = append(names, kv.key.Value)
		d.structValue(p.child(kv.key.Value, kv.key, kv.value), elem)
	}
	v.Set(list)
	if !strings.Contains(p.path, ".") {
		d.names[p.path] = names
	}
	if len(pairs) == 0 && f.min != "" && !d.broken {
		d.addf(p.at, "%s is empty; write at least one", p.path)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// quoteHint helps where {name} without quotes has become a map.
func quoteHint(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 {
		return "; a text with { } must be in quotes"
	}
	return ""
}

func lastKey(path string) string {
	path = path[strings.LastIndexByte(path, '.')+1:]
	if i := strings.IndexByte(path, '['); i >= 0 {
		path = path[:i]
	}
	return path
}
