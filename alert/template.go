package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
)

// templates are a rule's annotations and links.
type templates struct {
	annotations, links map[string]*template.Template
}

// templateData is what annotations and links may use:
// {{.Rule}} {{.Group.project}} {{.Host}} {{.RequestID}} {{.From}} {{.To}} {{.Numbers}}.
type templateData struct {
	Rule  string
	Group map[string]string
	// Host is the host with the most lines, RequestID that of the newest sample.
	Host, RequestID string
	// From and To frame the incident with a window on either side: RFC 3339 in UTC.
	From, To string
	// FromMilli and ToMilli are the same in Unix milliseconds.
	FromMilli, ToMilli int64
	Numbers            string
	Incident           *Incident
}

const rfc3339Milli = "2006-01-02T15:04:05.000Z"

func parseTemplates(cfg RuleConfig) (t templates, errs []error) {
	parse := func(key string, texts map[string]string) map[string]*template.Template {
		out := make(map[string]*template.Template)
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			tpl, err := template.New(name).Option("missingkey=zero").Parse(texts[name])
			if err == nil {
				_, err = expand(tpl, &Incident{Rule: cfg.Name})
			}
			if err != nil {
				errs = append(errs, &Error{Rule: cfg.Name, Key: key + "." + name, Text: strings.TrimPrefix(err.Error(), "template: ")})
				continue
			}
			out[name] = tpl
		}
		return out
	}
	return templates{annotations: parse("annotations", cfg.Annotations), links: parse("links", cfg.Links)}, errs
}

// Expand fills in the rule's annotations and links for an incident. A template that
// cannot be filled in gives its error as the text: no notice is lost for a link.
func (r *Rule) Expand(in *Incident) (annotations, links map[string]string) {
	all := func(tpls map[string]*template.Template) map[string]string {
		out := make(map[string]string, len(tpls))
		for name, tpl := range tpls {
			text, err := expand(tpl, in)
			if err != nil {
				text = fmt.Sprintf("(template %s: %v)", name, err)
			}
			out[name] = text
		}
		return out
	}
	return all(r.links.annotations), all(r.links.links)
}

// expand runs a template. text/template turns a panic of a method into an error.
func expand(tpl *template.Template, in *Incident) (string, error) {
	d := templateData{Rule: in.Rule, Group: make(map[string]string), Incident: in}
	for _, g := range in.Group {
		d.Group[g.Key] = g.Value
	}
	if len(in.Hosts) > 0 {
		d.Host = in.Hosts[0].Name
	}
	if len(in.Samples) > 0 {
		d.RequestID = in.Samples[0].RequestID
	}
	from, to := in.Began.Add(-in.Within).UTC(), in.Last.Add(in.Within).UTC()
	d.From, d.To = from.Format(rfc3339Milli), to.Format(rfc3339Milli)
	d.FromMilli, d.ToMilli = from.UnixMilli(), to.UnixMilli()
	for i, n := range in.Numbers {
		if i > 0 {
			d.Numbers += ", "
		}
		d.Numbers += n.String()
	}
	var b strings.Builder
	err := tpl.Execute(&b, d)
	return b.String(), err
}
