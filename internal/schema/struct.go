package schema

import (
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// pair is one key of a map with its value.
type pair struct{ key, value *yaml.Node }

// pairs returns the keys of a map and those that it merges (<<), its own first. Keys
// that come twice are told and left out.
func (d *decoder) pairs(p place, n *yaml.Node) []pair {
	var out []pair
	seen := make(map[string]*yaml.Node)
	merged := make(map[*yaml.Node]bool)
	var read func(n *yaml.Node, own bool)
	read = func(n *yaml.Node, own bool) {
		for n.Kind == yaml.AliasNode && n.Alias != nil {
			n = n.Alias
		}
		if merged[n] {
			return
		}
		merged[n] = true
		if n.Kind == yaml.SequenceNode && !own {
			for _, c := range n.Content {
				read(c, false)
			}
			return
		}
		if n.Kind != yaml.MappingNode {
			d.addf(n, "<< %s merges %s; write << with the alias of a map", p.in(), kindName(n))
			return
		}
		mine := make(map[string]bool)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || isNull(key) && key.Value == "" {
				d.addf(key, "a key %s is not a text; write KEY: VALUE%s", p.in(), quoteHint(key))
				continue
			}
			if key.Tag == "!!merge" {
				continue
			}
			first, there := seen[key.Value]
			switch {
			case there && mine[key.Value]:
				d.keyProblem(key, "duplicate key %q %s; it is already at line %d", key.Value, p.in(), first.Line)
				continue
			case there:
				continue // overrides what is merged
			}
			seen[key.Value], mine[key.Value] = key, true
			out = append(out, pair{key, n.Content[i+1]})
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				read(n.Content[i+1], false)
			}
		}
	}
	read(n, true)
	return out
}

// structValue decodes a map, or the bare value that stands for it, into the struct v.
func (d *decoder) structValue(p place, v reflect.Value) {
	s := shapeOf(v.Type())
	n := d.enter(p)
	if n == nil {
		return
	}
	before := d.badValues
	found := make(map[string]pair)
	good := make(map[string]bool) // the keys in found whose values are right in themselves
	var unknown []string          // what unknown keys were meant to be
	switch {
	case n.Kind == yaml.MappingNode:
		for _, kv := range d.pairs(p, n) {
			if f := s.byKey[kv.key.Value]; f != nil {
				found[f.key] = kv
				already := d.badValues
				d.value(p.child(f.key, kv.key, kv.value), v.Field(f.index), f)
				good[f.key] = d.badValues == already
				continue
			}
			unknown = append(unknown, d.unknownKey(p, kv.key, s))
		}
	case s.scalar != nil && n.Kind == yaml.ScalarNode:
		q := p
		q.node = n
		d.value(q, v.Field(s.scalar.index), s.scalar)
		d.defaults(p, v, s, found)
		d.ask(p, v, d.badValues == before, found, good)
		return
	case s.scalar != nil:
		hint := ""
		if keys := s.keys(); len(keys) > 0 {
			hint = ", or a map with one of the keys " + strings.Join(keys, ", ")
		}
		d.addf(p.at, "%s is %s; write %s%s", p.path, kindName(n), wanted(v.Field(s.scalar.index).Type(), s.scalar), hint)
		return
	case d.broken && n.Kind == yaml.ScalarNode:
		return // the half of a line that is told already
	case !isNull(n):
		where := p.path
		if where == "" {
			where = "the file"
		}
		d.addf(p.at, "%s is %s; write a map with the keys %s", where, kindName(n), strings.Join(s.keys(), ", "))
		return
	}
	if !d.broken {
		d.checkKinds(p, s, found, unknown)
		d.checkRequired(p, s, found, unknown)
	}
	d.defaults(p, v, s, found)
	d.ask(p, v, d.badValues == before, found, good)
}

// checkKinds sees to it that exactly one kind is there, and only the keys that belong
// to it.
func (d *decoder) checkKinds(p place, s *shape, found map[string]pair, unknown []string) {
	if s.kinds == nil {
		return
	}
	var there []string
	for _, k := range s.kinds {
		if _, ok := found[k]; ok {
			there = append(there, k)
		}
	}
	switch len(there) {
	case 0:
		switch {
		case len(unknown) > 0: // one of them, or the list of those known, was told
		case len(s.kinds) == 1:
			d.addf(p.at, "%s has no %s; write %[2]s: %s", p.path, s.kinds[0], exampleOf(s.byKey[s.kinds[0]]))
		default:
			d.addf(p.at, "%s has none of the keys %s; write exactly one, which says what kind of %s it is", p.path, strings.Join(s.kinds, ", "), s.kindOf)
		}
		return
	case 1:
	default:
		d.addf(found[there[1]].key, "%s has %s; keep one, as %s is of exactly one kind", p.path, strings.Join(there, " and "), withArticle(s.kindOf))
		return
	}
	for i := range s.fields {
		f := &s.fields[i]
		if kv, ok := found[f.key]; ok && len(f.only) > 0 && !slices.Contains(f.only, there[0]) {
			d.addf(kv.key, "%s.%s belongs to %s alone, and this is %s; remove it", p.path, f.key, strings.Join(f.only, ", "), there[0])
		}
	}
}

func withArticle(noun string) string {
	if strings.ContainsAny(noun[:1], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

func (d *decoder) checkRequired(p place, s *shape, found map[string]pair, unknown []string) {
	for i := range s.fields {
		f := &s.fields[i]
		if _, ok := found[f.key]; ok || !f.required || f.hasDef || slices.Contains(unknown, f.key) {
			continue
		}
		example := exampleOf(f)
		if p.path == "" {
			d.addf(p.at, "there are no %s; write them, as in %s: %s", f.key, f.key, example)
			continue
		}
		d.addf(p.at, "%s has no %s; write %s: %s", p.path, f.key, f.key, example)
	}
}

func exampleOf(f *field) string {
	if f.example != "" {
		return f.example
	}
	return ".."
}

// defaults gives the absent keys their values.
func (d *decoder) defaults(p place, v reflect.Value, s *shape, found map[string]pair) {
	for i := range s.fields {
		f := &s.fields[i]
		if _, ok := found[f.key]; ok || f.key == "" {
			continue
		}
		fv := v.Field(f.index)
		switch {
		case f.scalar && !fv.IsZero():
		case f.hasDef && classOf(fv.Type()) == isStruct:
			// A union's default is its bare value.
			sub := shapeOf(fv.Type())
			d.mustSet(fv.Field(sub.scalar.index), f)
			d.defaults(p, fv, sub, nil)
		case f.hasDef:
			d.mustSet(fv, f)
		case classOf(fv.Type()) == isStruct:
			d.defaults(p, fv, shapeOf(fv.Type()), nil)
		}
	}
}

// mustSet sets a default, which is as good as the code.
func (d *decoder) mustSet(v reflect.Value, f *field) {
	if classOf(v.Type()) == isList {
		for _, s := range strings.Fields(f.def) {
			elem := reflect.New(v.Type().Elem()).Elem()
			if err := setScalar(elem, s); err != nil {
				panic("schema: default of " + f.key + ": " + err.Error())
			}
			v.Set(reflect.Append(v, elem))
		}
		return
	}
	if err := setScalar(v, f.def); err != nil {
		panic("schema: default of " + f.key + ": " + err.Error())
	}
}

// ask lets the struct itself say what is wrong with it. Where some values are wrong
// already, only what it says of the good ones is told.
func (d *decoder) ask(p place, v reflect.Value, allGood bool, found map[string]pair, good map[string]bool) {
	if d.broken {
		return
	}
	tell := func(key, text string) {
		at, path := p.at, p.path
		top, rest, _ := strings.Cut(key, ".")
		name, _, _ := strings.Cut(top, "[")
		if !allGood && p.path != "" && !good[name] {
			return
		}
		if key != "" {
			if path != "" {
				path += "."
			}
			path += key
			if kv, ok := found[name]; ok {
				at = deeper(kv, top, rest)
			}
		}
		if path != "" {
			text = path + ": " + text
		}
		d.add(at, d.masked(at, text))
	}
	if checker, ok := v.Addr().Interface().(interface {
		Check(problem func(key, text string))
	}); ok {
		checker.Check(tell)
	}
	if len(d.problems) > 0 {
		return
	}
	if adviser, ok := v.Addr().Interface().(interface {
		Advise(warning func(key, text string))
	}); ok {
		adviser.Advise(tell)
		d.warnings, d.problems, d.badValues = append(d.warnings, d.problems...), nil, 0
	}
}

// deeper finds the node that the rest of a key's path names below kv.
func deeper(kv pair, top, rest string) *yaml.Node {
	n := kv.value
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if _, index, ok := strings.Cut(top, "["); ok && n.Kind == yaml.SequenceNode {
		i := 0
		for _, c := range strings.TrimSuffix(index, "]") {
			i = i*10 + int(c-'0')
		}
		if i < len(n.Content) {
			return n.Content[i]
		}
	}
	if rest != "" && n.Kind == yaml.MappingNode {
		next, below, _ := strings.Cut(rest, ".")
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == strings.SplitN(next, "[", 2)[0] {
				return deeper(pair{n.Content[i], n.Content[i+1]}, next, below)
			}
		}
	}
	if n.Kind == yaml.ScalarNode && n.Line > 0 {
		return n
	}
	return kv.key
}
