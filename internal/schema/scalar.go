package schema

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/tailwater/tailwater/internal/units"
)

// scalarNode decodes a single value into v: expansion, type, bounds, checks.
func (d *decoder) scalarNode(p place, v reflect.Value, f *field) {
	n := p.node
	switch {
	case n.Kind != yaml.ScalarNode:
		d.addf(p.at, "%s is %s; write %s%s", p.path, kindName(n), wanted(v.Type(), f), quoteHint(n))
		return
	case isNull(n):
		d.addf(p.at, "%s has no value; write %s, or remove the key", p.path, wanted(v.Type(), f))
		return
	}
	text := n.Value
	if f.expand && !d.opts.Literal && strings.Contains(text, "${") {
		expanded, err := d.expand(text, 0)
		if err != nil {
			d.addf(n, "%s: %v", p.path, err)
			return
		}
		d.sum.Write([]byte(n.Value + "\x00" + expanded + "\x00"))
		text = expanded
	}
	err := setScalar(v, text)
	if err == nil {
		err = d.checkScalar(v, text, f)
	}
	if err != nil {
		said := mask(err.Error(), text, n.Value)
		if classOf(v.Type()) == isSecret && strings.Contains(err.Error(), text) {
			said = "not a value that this secret can have"
		}
		d.addf(n, "%s: %s", p.path, said)
		return
	}
	if f.ref != "" {
		d.refs = append(d.refs, reference{at: n, path: p.path, section: f.ref, name: text})
	}
}

// mask replaces an expanded value in a problem's text by what the file says: it may
// be a secret.
func mask(said, value, written string) string {
	if value == written || value == "" {
		return said
	}
	said = strings.ReplaceAll(said, strconv.Quote(value), strconv.Quote(written))
	if len(value) > 3 {
		said = strings.ReplaceAll(said, value, written)
	}
	return said
}

// masked is mask for a text that a Check gave about the value at n.
func (d *decoder) masked(n *yaml.Node, text string) string {
	if n == nil || n.Kind != yaml.ScalarNode || d.opts.Literal || !strings.Contains(n.Value, "${") {
		return text
	}
	value, err := d.expand(n.Value, 0)
	if err != nil {
		return text
	}
	return mask(text, value, n.Value)
}

// setScalar gives v the value that text stands for.
func setScalar(v reflect.Value, text string) error {
	switch classOf(v.Type()) {
	case isText, isSecret:
		v.SetString(text)
	case isBool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not known; write true or false", text)
		}
		v.SetBool(text == "true")
	case isInt:
		i, err := strconv.ParseInt(strings.TrimSpace(text), 10, v.Type().Bits())
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("%q is too large", text)
		} else if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(i)
	case isFloat:
		x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(x)
	case isSize:
		b, err := units.ParseBytes(text)
		v.SetInt(int64(b))
		return err
	case isDuration:
		t, err := units.ParseDuration(text)
		v.SetInt(int64(t))
		return err
	default:
		return fmt.Errorf("%q stands where no single value can", text)
	}
	return nil
}

// checkScalar holds a value against the field's bounds and checks.
func (d *decoder) checkScalar(v reflect.Value, text string, f *field) error {
	if (f.required || f.kind != "") && text == "" {
		return errors.New("empty; write a value")
	}
	if len(f.oneOf) > 0 && v.Kind() == reflect.String && !slices.Contains(f.oneOf, text) {
		if near, ok := Nearest(text, f.oneOf); ok {
			return fmt.Errorf("%q is not known; did you mean %q?", text, near)
		}
		return fmt.Errorf("%q is not known; write one of %s", text, strings.Join(f.oneOf, ", "))
	}
	if err := checkBounds(v, text, f); err != nil {
		return err
	}
	if f.check == "" {
		return nil
	}
	check := d.opts.Checks[f.check]
	if check == nil {
		panic("schema: there is no check " + f.check)
	}
	return check(text)
}

func checkBounds(v reflect.Value, text string, f *field) error {
	bound := func(limit string) (int, bool) {
		if limit == "" || v.Kind() == reflect.String || v.Kind() == reflect.Bool {
			return 0, false
		}
		b := reflect.New(v.Type()).Elem()
		if err := setScalar(b, limit); err != nil {
			panic("schema: bound of " + f.key + ": " + err.Error())
		}
		if v.CanFloat() {
			return compare(v.Float(), b.Float()), true
		}
		return compare(v.Int(), b.Int()), true
	}
	if c, ok := bound(f.min); ok && c < 0 {
		return fmt.Errorf("%q is too small; write at least %s", text, f.min)
	}
	if c, ok := bound(f.max); ok && c > 0 {
		return fmt.Errorf("%q is too large; write at most %s", text, f.max)
	}
	return nil
}

func compare[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
