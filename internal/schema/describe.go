package schema

import (
	"fmt"
	"reflect"
	"strings"
)

// Section describes one struct of the file, for the reference manual.
type Section struct {
	// Path is the place, as in inputs.NAME.format; "" is the top level. Also are the
	// places where the same can be written.
	Path string
	Also []string
	// Doc is what the key that leads here means.
	Doc string
	// KindOf is what exactly one of the keys with Kind makes of it; "" where there are
	// no kinds.
	KindOf string
	// Bare is the value that may stand for the whole map; nil when there is none.
	Bare *Key
	Keys []Key
}

// Key describes one key.
type Key struct {
	Name string
	// Type is in the words of the manual: text, size, list of text, ..
	Type string
	// Default is what stands for an absent key, as it would be written; Unset says it
	// in words where it is not a value.
	Default, Unset string
	Required       bool
	Kind           bool
	// Only are the kinds that the key belongs to.
	Only     []string
	OneOf    []string
	Min, Max string
	// Literal is set when ${…} is not expanded.
	Literal bool
	Doc     string
	Example string
	// Section is the path of the section that describes the value, if it is a map.
	Section string
}

// Describe returns the sections of the struct that v is or points to, each once,
// those above first.
func Describe(v any) []Section {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	b := &describer{at: make(map[reflect.Type]int)}
	b.section(t, "", "")
	return b.sections
}

type describer struct {
	sections []Section
	at       map[reflect.Type]int // the section of a struct
}

func (b *describer) section(t reflect.Type, path, doc string) (described string) {
	if i, ok := b.at[t]; ok {
		b.sections[i].Also = append(b.sections[i].Also, path)
		return b.sections[i].Path
	}
	i := len(b.sections)
	b.at[t] = i
	b.sections = append(b.sections, Section{Path: path, Doc: doc})
	s := shapeOf(t)
	var keys []Key
	var bare *Key
	for n := range s.fields {
		f := &s.fields[n]
		if f.name {
			continue
		}
		k := b.key(t.Field(f.index).Type, f, path)
		if f.scalar {
			bare = &k
		}
		if f.key != "" {
			keys = append(keys, k)
		}
	}
	b.sections[i].Keys, b.sections[i].Bare, b.sections[i].KindOf = keys, bare, s.kindOf
	return path
}

func (b *describer) key(t reflect.Type, f *field, path string) Key {
	k := Key{
		Name: f.key, Default: f.def, Unset: f.unset, Required: f.required && !f.hasDef, Kind: f.kind != "", Only: f.only, OneOf: f.oneOf,
		Min: f.min, Max: f.max, Literal: !f.expand, Doc: f.doc, Example: f.example,
	}
	if f.hasDef && f.def == "" {
		k.Default = "''"
	}
	sub := strings.TrimPrefix(path+"."+f.key, ".")
	c := classOf(t)
	k.Type = typeName(t)
	if c == isList || c == isNamed {
		k.Min, k.Max = "", ""
		t = t.Elem()
	}
	if c == isNamed {
		if s := shapeOf(structOf(t)); len(s.keys()) == 0 {
			return k // a map of plain values
		}
		sub += ".NAME"
	}
	if st := structOf(t); st != nil && len(shapeOf(st).keys()) > 0 {
		k.Section = b.section(st, sub, f.doc)
	}
	return k
}

func typeName(t reflect.Type) string {
	switch classOf(t) {
	case isText:
		return "text"
	case isSecret:
		return "text, a secret"
	case isBool:
		return "true or false"
	case isInt:
		return "whole number"
	case isFloat:
		return "number"
	case isSize:
		return "size"
	case isDuration:
		return "duration"
	case isPointer:
		return typeName(t.Elem())
	case isList:
		return "list of " + typeName(t.Elem())
	case isNamed:
		return "map of names to " + typeName(structOf(t.Elem()))
	}
	s := shapeOf(t)
	switch {
	case s.scalar != nil && len(s.keys()) > 0:
		return typeName(t.Field(s.scalar.index).Type) + ", or map"
	case s.scalar != nil:
		return typeName(t.Field(s.scalar.index).Type)
	}
	return "map"
}

// String names the section as the manual's headings do.
func (s Section) String() string {
	if s.Path == "" {
		return "Top level"
	}
	return fmt.Sprintf("`%s`", s.Path)
}
