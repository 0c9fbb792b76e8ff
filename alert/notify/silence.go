package notify

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Silence keeps the notices of matching incidents from being sent for a while. They
// are kept in the history all the same.
type Silence struct {
	ID       string    `json:"id"`
	Matchers []Matcher `json:"matchers"`
	Author   string    `json:"author"`
	Comment  string    `json:"comment,omitempty"`
	Created  time.Time `json:"created"`
	Until    time.Time `json:"until"`
	// Expired says that it was ended by hand. It is kept until Until all the same: others of
	// the fleet may not know yet.
	Expired bool `json:"expired,omitempty"`
}

// Matcher compares one label: = != =~ !~. A label that an incident does not have is
// the empty text. A regular expression must match the whole value.
type Matcher struct {
	Label string `json:"label"`
	Op    string `json:"op"`
	Value string `json:"value"`
}

// ParseMatcher reads LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX.
func ParseMatcher(s string) (Matcher, error) {
	i := strings.IndexAny(s, "=!")
	if i <= 0 {
		return Matcher{}, fmt.Errorf("%q is no matcher; write LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX, as in rule=slow or project=~pay.*", s)
	}
	for _, op := range []string{"=~", "!~", "!=", "="} {
		if value, ok := strings.CutPrefix(s[i:], op); ok {
			m := Matcher{Label: strings.TrimSpace(s[:i]), Op: op, Value: strings.Trim(strings.TrimSpace(value), `"`)}
			_, err := m.regexp()
			return m, err
		}
	}
	return Matcher{}, fmt.Errorf("%q is no matcher; after the label write = != =~ or !~", s)
}

// String writes the matcher as ParseMatcher reads it.
func (m Matcher) String() string { return m.Label + m.Op + m.Value }

func (m Matcher) regexp() (*regexp.Regexp, error) {
	if m.Op != "=~" && m.Op != "!~" {
		return nil, nil
	}
	re, err := regexp.Compile("^(?:" + m.Value + ")$")
	if err != nil {
		return nil, fmt.Errorf("%s: not a regular expression: %w", m, err)
	}
	return re, nil
}

// matches tells whether the labels fulfil the matcher.
func (m Matcher) matches(labels map[string]string) bool {
	value := labels[m.Label]
	switch m.Op {
	case "=":
		return value == m.Value
	case "!=":
		return value != m.Value
	}
	re, err := m.regexp()
	return err == nil && re.MatchString(value) == (m.Op == "=~")
}

// active tells whether the silence holds at that time for an incident with the labels.
func (s *Silence) active(labels map[string]string, now time.Time) bool {
	if s.Expired || !now.Before(s.Until) || len(s.Matchers) == 0 {
		return false
	}
	return !slices.ContainsFunc(s.Matchers, func(m Matcher) bool { return !m.matches(labels) })
}

const (
	maxSilence  = 366 * 24 * time.Hour
	maxSilences = 1000
)

// check says what is wrong with a new silence.
func (s *Silence) check(now time.Time) error {
	switch {
	case len(s.Matchers) == 0:
		return errors.New("a silence needs a matcher, such as rule=slow; one for everything is rule=~.*")
	case s.Author == "":
		return errors.New("a silence needs an author: who is to be asked about it")
	case !s.Until.After(now):
		return errors.New("a silence must end in the future")
	case s.Until.Sub(now) > maxSilence:
		return errors.New("a silence lasts a year at most; change the rule instead")
	}
	return nil
}

// AddSilence begins a silence and returns it with its ID. It is on disk then.
func (d *Dispatcher) AddSilence(s Silence) (Silence, error) {
	now := time.Now()
	if err := s.check(now); err != nil {
		return s, err
	}
	s.ID, s.Created = newID(), now.UTC()
	d.mu.Lock()
	if len(d.silences) >= maxSilences {
		d.mu.Unlock()
		return s, fmt.Errorf("there are %d silences already; expire some", maxSilences)
	}
	d.silences[s.ID] = &s
	d.mark(silencePrefix + s.ID)
	d.mu.Unlock()
	return s, d.Persist()
}

// ExpireSilence ends a silence at once. False when there is none of that ID.
func (d *Dispatcher) ExpireSilence(id string) (bool, error) {
	d.mu.Lock()
	s := d.silences[id]
	known := s != nil && !s.Expired
	if known {
		ended := *s
		ended.Expired = true
		d.silences[id] = &ended
		d.mark(silencePrefix + id)
	}
	d.mu.Unlock()
	return known, d.Persist()
}

// Silences returns the silences that have not ended, the one that ends first first.
func (d *Dispatcher) Silences() []Silence {
	return slices.DeleteFunc(d.AllSilences(), func(s Silence) bool { return s.Expired })
}

// AllSilences returns those that were ended by hand before their time, too.
func (d *Dispatcher) AllSilences() []Silence {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endSilences(time.Now())
	out := make([]Silence, 0, len(d.silences))
	for _, s := range d.silences {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Silence) int {
		if c := a.Until.Compare(b.Until); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// MergeSilence takes what another process of the fleet says of a silence. One that was
// ended by hand stays so, whoever is heard last.
func (d *Dispatcher) MergeSilence(s Silence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	known := d.silences[s.ID]
	switch {
	case s.ID == "" || !now.Before(s.Until) || s.Until.Sub(now) > maxSilence+24*time.Hour:
	case known == nil && len(d.silences) >= 2*maxSilences:
	case known == nil || s.Expired && !known.Expired:
		d.silences[s.ID] = &s
		d.mark(silencePrefix + s.ID)
	}
}

// silencedBy returns the silence that holds for the labels; nil when none does.
func (d *Dispatcher) silencedBy(labels map[string]string, now time.Time) *Silence {
	for _, s := range d.silences {
		if s.active(labels, now) {
			return s
		}
	}
	return nil
}

// Unsilenced returns the ids of incidents that go on and whose last notice was kept back by
// a silence, while none holds for them any more: the engine is to Remind of them.
func (d *Dispatcher) Unsilenced() (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, n := range d.notices {
		if n.Silence == "" || n.Item == nil || !n.Item.open() || d.silencedBy(n.Item.Labels, now) != nil {
			continue
		}
		if id := n.Item.Incident.ID; !d.ended[id] && d.lastOf(id) == n {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *Dispatcher) endSilences(now time.Time) {
	for id, s := range d.silences {
		if !now.Before(s.Until) {
			delete(d.silences, id)
			d.mark(silencePrefix + id)
		}
	}
}
