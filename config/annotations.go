package config

import (
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/parser"
)

// Annotations is how a pod wants its lines to be read. Each text is what stands behind
// the key of that name in an input, "" where the pod says nothing. They come from
// whoever may create pods: nothing of the agent's own, neither its environment nor its
// files, can be named in them.
type Annotations struct{ Format, Multiline, Keep string }

// annotated is what annotations can change of an input.
type annotated struct {
	Format    Format    `yaml:"format" default:"auto"`
	Multiline Multiline `yaml:"multiline" default:"auto"`
	Keep      []string  `yaml:"keep" min:"1" oneof:"debug info warn error fatal"`
}

// Annotated returns the input as a pod wants it. Each annotation that is wrong is left
// out, and is one of the errors.
func (in *Input) Annotated(a Annotations) (*Input, error) {
	changed := *in
	var wrong error
	for _, part := range []struct {
		key, text string
		use       func(*annotated)
	}{
		{"format", formatText(a.Format), func(as *annotated) { changed.Format = as.Format }},
		{"multiline", a.Multiline, func(as *annotated) { changed.Multiline = as.Multiline }},
		{"keep", listText(a.Keep), func(as *annotated) { changed.Keep = as.Keep }},
	} {
		if strings.TrimSpace(part.text) == "" {
			continue
		}
		before := changed
		as, err := readAnnotation(part.key, part.text)
		if err == nil {
			part.use(as)
			if _, err = parser.Compile(changed.ParserConfig()); err != nil {
				changed = before
			}
		}
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("annotation tailwater/%s: %w", part.key, err))
		}
	}
	return &changed, wrong
}

// formatText lets a log_format stand for itself.
func formatText(text string) string {
	if strings.Contains(text, "$") && !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return "{nginx: " + quoted(text) + "}"
	}
	return text
}

// listText lets words stand for a list.
func listText(text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), "[") || strings.TrimSpace(text) == "" {
		return text
	}
	return "[" + text + "]"
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// readAnnotation decodes one value as it would stand in the configuration file.
func readAnnotation(key, text string) (*annotated, error) {
	text = strings.TrimSpace(text)
	if len(text) > 16<<10 {
		return nil, errors.New("it is longer than 16 KiB")
	}
	if !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "[") {
		text = quoted(text)
	}
	doc := key + ": " + strings.ReplaceAll(text, "\n", " ")
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(doc), &node); err != nil {
		return nil, errors.New("it is not of the form that stands in a configuration: a word, or {nginx: '..'}, {regex: '..'}, {starts_with: '..'}")
	}
	if namesFile(&node) {
		return nil, errors.New("conf names a file of the agent's, which a pod cannot; write the log_format itself")
	}
	as := new(annotated)
	_, problems := schema.Decode("annotation", []byte(doc), as, schema.Options{Checks: checks, Literal: true})
	var wrong error
	for _, p := range problems {
		wrong = errors.Join(wrong, errors.New(p.Text))
	}
	return as, wrong
}

// namesFile reports whether the value has a key that would have a file read.
func namesFile(n *yaml.Node) bool {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Value == "conf" || namesFile(c) {
			return true
		}
	}
	return n.Kind == yaml.AliasNode
}
