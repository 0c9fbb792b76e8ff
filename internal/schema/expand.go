package schema

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxExpansions bounds how deep a default may hold another expansion.
const maxExpansions = 8

// expand replaces ${VAR}, ${VAR:-default} and ${file:/path} in s; $${ is a literal ${.
// Its errors never hold a value.
func (d *decoder) expand(s string, depth int) (string, error) {
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1])
			out.WriteString("${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		body, rest, ok := cutExpansion(s[i+2:])
		if !ok {
			return "", errors.New(`"${" without its "}"; close it, or write $${ for a literal ${`)
		}
		value, err := d.expandOne(body, depth)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		s = rest
	}
}

// cutExpansion splits at the brace that closes the expansion; those in its default
// come in pairs.
func cutExpansion(s string) (body, rest string, ok bool) {
	open := 0
	for i := range len(s) {
		switch {
		case s[i] == '{':
			open++
		case s[i] == '}' && open > 0:
			open--
		case s[i] == '}':
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

func (d *decoder) expandOne(body string, depth int) (string, error) {
	if path, ok := strings.CutPrefix(body, "file:"); ok {
		if d.opts.Files != nil {
			*d.opts.Files = append(*d.opts.Files, path)
		}
		return d.readValue(path)
	}
	name, fallback, hasFallback := strings.Cut(body, ":-")
	if !isVariable(name) {
		return "", errors.New(`"${" without a variable's name; write ${VAR}, ${VAR:-default} or ${file:/path}, or $${ for a literal ${`)
	}
	value, set := d.opts.Env(name)
	if set && (value != "" || !hasFallback) {
		return value, nil
	}
	if !hasFallback {
		return "", fmt.Errorf("the environment variable %s is not set; set it, or write ${%[1]s:-default}", name)
	}
	if depth >= maxExpansions {
		return "", fmt.Errorf("the defaults of ${%s} are nested too deeply", name)
	}
	return d.expand(fallback, depth+1)
}

// readValue returns the content of a small file without its last newline.
func (d *decoder) readValue(path string) (string, error) {
	// Only a regular file: a pipe or a terminal would wait for ever.
	if st, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("${file:%s}: %w", path, reason(err))
	} else if !st.Mode().IsRegular() {
		return "", fmt.Errorf("${file:%s}: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("${file:%s}: %w", path, reason(err))
	}
	defer f.Close()
	data, err := ReadLimited(f)
	if err != nil {
		return "", fmt.Errorf("${file:%s}: %w", path, reason(err))
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// reason is the error without the path that its text already has.
func reason(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err
	}
	return err
}

func isVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
