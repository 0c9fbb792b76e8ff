package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// Plain returns the message as plain text of at most limit bytes.
func (m *Message) Plain(limit int) string { return m.render(plain{}, limit) }

// Markdown returns the message in the Markdown that chat robots know (headings, bold,
// lists, links, code), of at most limit bytes. What comes from log lines stands in
// code and cannot make links or images.
func (m *Message) Markdown(limit int) string { return m.render(markdown{}, limit) }

// style is how a text says what is what.
type style interface {
	heading(s string) string
	line(label, s string) string
	code(label, s string) string
	link(name, url string) string
	report(r *Report, limit int) string
}

type plain struct{}

func (plain) heading(s string) string { return s + "\n" }
func (plain) line(label, s string) string {
	if label == "" {
		return "  " + s + "\n"
	}
	return "  " + label + ": " + s + "\n"
}
func (plain) code(label, s string) string        { return "    " + label + s + "\n" }
func (plain) link(name, url string) string       { return "  " + name + ": " + url + "\n" }
func (plain) report(r *Report, limit int) string { return r.plain(limit) }

type markdown struct{}

func (markdown) heading(s string) string { return "#### " + inert(s) + "\n\n" }
func (markdown) line(label, s string) string {
	if label == "" {
		return "- " + inert(s) + "\n"
	}
	return "- " + label + ": " + inert(s) + "\n"
}
func (markdown) code(label, s string) string {
	return "> " + inert(label) + "`" + strings.ReplaceAll(s, "`", "'") + "`\n\n"
}
func (markdown) link(name, url string) string {
	return "- [" + inert(name) + "](" + strings.NewReplacer(")", "%29", "(", "%28", " ", "%20", "\n", "").Replace(url) + ")\n"
}

func (markdown) report(r *Report, limit int) string { return r.markdown(limit) }

// inert takes from a text what Markdown would make links, images, tags or code of.
var inert = strings.NewReplacer("[", "(", "]", ")", "<", "‹", "`", "'").Replace

// render writes as many items in full as fit into limit bytes, the others in a line
// each, and says how many are left out.
func (m *Message) render(st style, limit int) string {
	var b strings.Builder
	if len(m.Instead) > 0 {
		b.WriteString(st.line("", "sent here because "+strings.Join(m.Instead, ", ")+" does not deliver"))
	}
	if m.Heartbeat != nil {
		b.WriteString(st.line("", m.Title()+" at "+when(m.Heartbeat.At)))
	}
	if m.Report != nil {
		b.WriteString(st.report(m.Report, limit-b.Len()))
	}
	for _, text := range m.Texts {
		b.WriteString(cut(text, max(0, limit-b.Len()-64)))
		b.WriteString("\n\n")
	}
	rest := 0 // what the items to come need at least
	for i := range m.Items {
		rest += len(brief(st, &m.Items[i]))
	}
	for i := range m.Items {
		short := brief(st, &m.Items[i])
		rest -= len(short)
		left := limit - b.Len() - 64
		switch full := detail(st, &m.Items[i]); {
		case len(full)+rest <= left:
			b.WriteString(full)
		case len(short) <= left:
			b.WriteString(short)
		default:
			b.WriteString(st.line("", fmt.Sprintf("and %d more; see tailwater alerts", len(m.Items)-i)))
			return b.String()
		}
	}
	return b.String()
}

func brief(st style, it *Item) string { return st.line("", cut(it.Headline(), 300)) }

func detail(st style, it *Item) string {
	in := &it.Incident
	var b strings.Builder
	b.WriteString(st.heading(cut(it.Headline(), 500)))
	if it.Kind == alert.Resolved {
		b.WriteString(st.line("began", when(in.Began)+", over since "+when(in.Last)))
	} else {
		b.WriteString(st.line("began", when(in.Began)))
	}
	for _, key := range slices.Sorted(maps.Keys(it.Annotations)) {
		b.WriteString(st.line(key, oneLine(it.Annotations[key], 1000)))
	}
	if len(in.Hosts) > 0 {
		b.WriteString(st.line("hosts", tallies(in.Hosts)))
	}
	if it.Firing() {
		if len(in.Files) > 0 {
			b.WriteString(st.line("files", tallies(in.Files)))
		}
		for _, s := range in.Samples {
			b.WriteString(st.code(sampleLabel(&s), oneLine(s.Text, alert.MaxSampleBytes)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(it.Links)) {
		b.WriteString(st.link(name, it.Links[name]))
	}
	b.WriteString(st.line("incident", in.ID))
	return b.String() + "\n"
}

func sampleLabel(s *alert.Sample) string {
	label := s.Time.Local().Format("15:04:05.000") + " "
	if s.Host != "" {
		label += s.Host + " "
	}
	if s.RequestID != "" {
		label += "request_id=" + oneLine(s.RequestID, 100) + " "
	}
	return label
}

// tallies is "web-1 (7), web-2 (3)".
func tallies(all []alert.Tally) string {
	var parts []string
	for _, t := range all {
		parts = append(parts, fmt.Sprintf("%s (%d)", oneLine(t.Name, 200), t.Lines))
	}
	return strings.Join(parts, ", ")
}

// when is a time as the people on call read it: in the host's zone.
func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
