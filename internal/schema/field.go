package schema

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/internal/units"
)

// field is what the tags of one struct field say.
type field struct {
	index    int
	key      string // "" for a ",name" field and one that is ",scalar" alone
	name     bool
	scalar   bool
	def      string
	hasDef   bool
	unset    string
	required bool
	kind     string
	only     []string
	oneOf    []string
	min, max string
	check    string
	ref      string
	expand   bool
	also     []string
	doc      string
	example  string
}

// shape is what the tags of a struct say.
type shape struct {
	fields []field
	byKey  map[string]*field
	name   *field // the field that takes the key of the surrounding map
	scalar *field // the field that takes a bare value
	kinds  []string
	kindOf string
}

func (s *shape) keys() []string {
	keys := make([]string, 0, len(s.fields))
	for i := range s.fields {
		if s.fields[i].key != "" {
			keys = append(keys, s.fields[i].key)
		}
	}
	return keys
}

var shapes sync.Map // reflect.Type to *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{byKey: make(map[string]*field)}
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		s.fields = append(s.fields, readTags(t.Field(i), tag))
	}
	for i := range s.fields {
		f := &s.fields[i]
		if f.name {
			s.name = f
		}
		if f.scalar {
			s.scalar = f
		}
		if f.kind != "" {
			s.kinds, s.kindOf = append(s.kinds, f.key), f.kind
		}
		if f.key != "" {
			s.byKey[f.key] = f
		}
	}
	shapes.Store(t, s)
	return s
}

func readTags(sf reflect.StructField, tag string) field {
	key, option, _ := strings.Cut(tag, ",")
	f := field{
		index: sf.Index[0], key: key, name: option == "name", scalar: option == "scalar",
		unset: sf.Tag.Get("unset"), required: sf.Tag.Get("required") == "yes", kind: sf.Tag.Get("kind"),
		only: strings.Fields(sf.Tag.Get("only")), oneOf: strings.Fields(sf.Tag.Get("oneof")),
		min: sf.Tag.Get("min"), max: sf.Tag.Get("max"), check: sf.Tag.Get("check"), ref: sf.Tag.Get("ref"),
		expand: sf.Tag.Get("expand") != "no", also: strings.Fields(sf.Tag.Get("also")),
		doc: sf.Tag.Get("doc"), example: sf.Tag.Get("example"),
	}
	f.def, f.hasDef = sf.Tag.Lookup("default")
	return f
}

// Kind returns the key of that kind of v, a pointer to a decoded struct, that is
// there; "" when none is.
func Kind(v any) string {
	s := reflect.ValueOf(v).Elem()
	for _, f := range shapeOf(s.Type()).fields {
		if f.kind != "" && !s.Field(f.index).IsZero() {
			return f.key
		}
	}
	return ""
}

// class is the way in which a Go type stands in the file.
type class int

const (
	isText class = iota
	isSecret
	isBool
	isInt
	isFloat
	isSize
	isDuration
	isList
	isNamed // a slice of structs with a name: a map in the file
	isStruct
	isPointer
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[units.Bytes]()
	secretType   = reflect.TypeFor[units.Secret]()
)

func classOf(t reflect.Type) class {
	switch t {
	case durationType:
		return isDuration
	case sizeType:
		return isSize
	case secretType:
		return isSecret
	}
	switch t.Kind() {
	case reflect.String:
		return isText
	case reflect.Bool:
		return isBool
	case reflect.Int, reflect.Int64:
		return isInt
	case reflect.Float64:
		return isFloat
	case reflect.Pointer:
		return isPointer
	case reflect.Struct:
		return isStruct
	case reflect.Slice:
		if elem := structOf(t.Elem()); elem != nil && shapeOf(elem).name != nil {
			return isNamed
		}
		return isList
	}
	panic(fmt.Sprintf("schema: a field of type %s has no form in the file", t))
}

// structOf returns t or what it points to when that is a struct.
func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		return t
	}
	return nil
}

// wanted says in the words of the reader of an error what stands for the type.
func wanted(t reflect.Type, f *field) string {
	switch classOf(t) {
	case isSecret, isText:
		if len(f.oneOf) > 0 {
			return "one of " + strings.Join(f.oneOf, ", ")
		}
		return "a text"
	case isBool:
		return "true or false"
	case isInt:
		return "a whole number"
	case isFloat:
		return "a number"
	case isSize:
		return "a size such as 64MiB"
	case isDuration:
		return "a duration such as 10s"
	case isPointer:
		return wanted(t.Elem(), f)
	case isList:
		return "a list"
	}
	return "a map of keys and values"
}
