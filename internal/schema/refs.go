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
		names := d.names[r.section]
		if slices.Contains(names, r.name) {
			continue
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
// of another spelling, what another program calls it, or a key of another place.
func (d *decoder) unknownKey(p place, key *yaml.Node, s *shape) {
	said := fmt.Sprintf("unknown key %q %s; ", key.Value, p.in())
	for i := range s.fields {
		if f := &s.fields[i]; f.key != "" && slices.Contains(f.also, plainName(key.Value)) {
			d.addf(key, "%sdid you mean %q?", said, f.key)
			return
		}
	}
	if near, ok := Nearest(key.Value, s.keys()); ok {
		d.addf(key, "%sdid you mean %q?", said, near)
		return
	}
	if elsewhere := d.findKey(key.Value); elsewhere != "" {
		d.addf(key, "%sit belongs to %s; correct the indentation or move it", said, elsewhere)
		return
	}
	if len(s.keys()) == 0 {
		d.addf(key, "%snothing can be set there", said)
		return
	}
	d.addf(key, "%sknown keys: %s", said, strings.Join(s.keys(), ", "))
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
