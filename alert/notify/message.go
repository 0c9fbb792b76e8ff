package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/internal/units"
)

// Message is what a channel sends at a time: notices of incidents, or lines by hand,
// or both. The channel does not keep it.
type Message struct {
	// Host is the host that sends it.
	Host string `json:"host"`
	// Items are the notices, the oldest first.
	Items []Item `json:"items,omitempty"`
	// Texts are lines that somebody has sent by hand.
	Texts []string `json:"texts,omitempty"`
	// Report is a report; it comes alone.
	Report *Report `json:"report,omitempty"`
	// Heartbeat says that the alerts are alive; it comes alone.
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
	// Instead names the channels that could not deliver what this one sends as their
	// fallback.
	Instead []string `json:"instead,omitempty"`
}

// Item is an event of an incident with what its rule says of it.
type Item struct {
	Kind     alert.Kind     `json:"kind"`
	At       time.Time      `json:"at"`
	Incident alert.Incident `json:"incident"`
	// Numbers are the incident's, as people read them.
	Numbers []string `json:"numbers,omitempty"`
	// Labels are the rule's, the group's fields, `rule` and, where the host alone has
	// decided, `host`. Silences match them.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Links       map[string]string `json:"links,omitempty"`
}

// Firing tells whether something is wrong: all but what is over.
func (it *Item) Firing() bool { return it.Kind != alert.Resolved }

// open tells whether the incident goes on after this.
func (it *Item) open() bool { return it.Kind == alert.Opened || it.Kind == alert.Repeated }

// Word is the item's kind in one word.
func (it *Item) Word() string {
	switch it.Kind {
	case alert.Resolved:
		return "RESOLVED"
	case alert.Repeated:
		return "STILL FIRING"
	case alert.Noted:
		return "OVER"
	}
	return "FIRING"
}

// Group is the incident's group in words: "project=pay path=/x"; "" for a rule
// without groups.
func (it *Item) Group() string {
	var parts []string
	for _, g := range it.Incident.Group {
		parts = append(parts, g.Key+"="+oneLine(g.Value, 200))
	}
	return strings.Join(parts, " ")
}

// Headline is the item in one line.
func (it *Item) Headline() string {
	line := "[" + it.Word() + "] " + it.Incident.Rule
	if g := it.Group(); g != "" {
		line += " " + g
	}
	if it.Firing() && len(it.Numbers) > 0 {
		line += ": " + strings.Join(it.Numbers, ", ")
		if it.Kind != alert.Noted {
			line += " within " + units.FormatDuration(it.Incident.Within)
		}
	}
	if it.Incident.Note != "" {
		line += " (" + it.Incident.Note + ")"
	}
	return line
}

// Title is the message in one line, for a subject or a preview.
func (m *Message) Title() string {
	switch {
	case m.Heartbeat != nil:
		return "[ALIVE] the alerts of tailwater on " + m.Host
	case m.Report != nil:
		return m.Report.Title()
	case len(m.Items) == 1 && len(m.Texts) == 0:
		return m.Items[0].Headline()
	case len(m.Items) == 0 && len(m.Texts) > 0:
		return oneLine(m.Texts[0], 120)
	}
	firing, rules := 0, make(map[string]bool)
	for i := range m.Items {
		if m.Items[i].Firing() {
			firing++
		}
		rules[m.Items[i].Incident.Rule] = true
	}
	var parts []string
	if firing > 0 {
		parts = append(parts, fmt.Sprintf("%d firing", firing))
	}
	if n := len(m.Items) - firing; n > 0 {
		parts = append(parts, fmt.Sprintf("%d resolved", n))
	}
	return "[" + strings.Join(parts, ", ") + "] " + oneLine(strings.Join(slices.Sorted(maps.Keys(rules)), ", "), 120)
}

// oneLine puts a text on one line of at most n bytes.
func oneLine(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' || r == '\v' || r == '\f' }), " ⏎ ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return cut(s, n)
}

// cut shortens a text to at most n bytes, at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "…"
	if n < len(more) {
		return ""
	}
	s = s[:n-len(more)]
	for len(s) > 0 && s[len(s)-1]&0xC0 == 0x80 {
		s = s[:len(s)-1]
	}
	if len(s) > 0 && s[len(s)-1] >= 0xC0 {
		s = s[:len(s)-1]
	}
	return s + more
}
