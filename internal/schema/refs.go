package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// reference is a value that must be a name of a section.
type reference struct {
	at      *yaml.Node
	path    string
	section string
	name    string
}

// resolve looks up the references, once all names are known.
func (d *decoder) resolve() {
	if d.broken {
		return
	}
	for _, r := range d.refs {
		names, defined := d.names[r.section]
		if !defined || slices.Contains(names, r.name) {
			continue // where the section is missing, that is told
		}
		singular := strings.TrimSuffix(r.section, "s")
		hint := "known " + r.section + ": " + strings.Join(names, ", ")
		if near, ok := Nearest(r.name, names); ok {
			hint = fmt.Sprintf("did you mean %q?", near)
		} else if len(names) == 0 {
			hint = "no " + r.section + " are defined"
		}
		d.add(r.at, d.masked(r.at, fmt.Sprintf("%s: there is no %s %q; %s", r.path, singular, r.name, hint)))
	}
}

// unknownKey tells of a key that the struct does not have, and what was meant: a key
// of another spelling, what another program calls it, or a key of another place. It
// returns the key that was meant, "" when there is none.
func (d *decoder) unknownKey(p place, key *yaml.Node, s *shape) string {
	said := fmt.Sprintf("unknown key %q %s; ", key.Value, p.in())
	words := s.keys()
	meant := make(map[string]string)
	for i := range s.fields {
		if f := &s.fields[i]; f.key != "" {
			for _, word := range f.also {
				if _, taken := s.byKey[word]; !taken {
					words, meant[word] = append(words, word), f.key
				}
			}
		}
	}
	if near, ok := Nearest(key.Value, words); ok {
		if k := meant[near]; k != "" {
			near = k
		}
		d.keyProblem(key, "%sdid you mean %q?", said, near)
		return near
	}
	switch elsewhere := d.findKey(key.Value); {
	case elsewhere != "":
		d.keyProblem(key, "%sit belongs to %s; correct the indentation or move it", said, elsewhere)
	case len(s.keys()) == 0:
		d.keyProblem(key, "%snothing can be set there", said)
	default:
		d.keyProblem(key, "%sknown keys: %s", said, strings.Join(s.keys(), ", "))
	}
	return ""
}

// findKey returns the places where a key of that name may stand.
func (d *decoder) findKey(name string) string {
	var places []string
	var walk func(t reflect.Type, path string, within []reflect.Type)
	walk = func(t reflect.Type, path string, within []reflect.Type) {
		if slices.Contains(within, t) {
			return
		}
		s := shapeOf(t)
		if s.byKey[name] != nil && len(places) < 3 {
			where := path
			if where == "" {
				where = "the top level"
			}
			places = append(places, where)
		}
		for i := range s.fields {
			f := &s.fields[i]
			ft := t.Field(f.index).Type
			sub := strings.TrimPrefix(path+"."+f.key, ".")
			if classOf(ft) == isNamed {
				sub += ".NAME"
			}
			if ft.Kind() == reflect.Slice {
				ft = ft.Elem()
			}
			if st := structOf(ft); st != nil && f.key != "" {
				walk(st, sub, append(within, t))
			}
		}
	}
	walk(d.root, "", nil)
	return strings.Join(places, " or ")
}
