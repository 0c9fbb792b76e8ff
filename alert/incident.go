package alert

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Kind is what an event says of an incident.
type Kind string

// The kinds of events.
const (
	Opened   Kind = "opened"
	Repeated Kind = "repeated" // still open after `repeat`
	Resolved Kind = "resolved"
	// Noted is told once: there is nothing that goes on and could end.
	Noted Kind = "noted"
)

// Event is a notice to be sent. It belongs to the receiver.
type Event struct {
	Kind Kind `json:"kind"`
	// At is the wall clock when it was decided.
	At       time.Time `json:"at"`
	Incident Incident  `json:"incident"`
	// Key is the group's key, as Changes has it.
	Key []byte `json:"key,omitempty"`
}

// Incident is a time in which the condition of a rule held for a group.
type Incident struct {
	// ID is the incident's name, the same in all its events. It is made of the rule,
	// the group and the second in which the incident began when it was found.
	ID    string            `json:"id"`
	Rule  string            `json:"rule"`
	Group []record.KeyValue `json:"group"`
	// Began and Last are the first and the last second, so far, at which the condition
	// held. Resolved is when it had been false for a whole window; else zero.
	Began    time.Time `json:"began"`
	Last     time.Time `json:"last"`
	Resolved time.Time `json:"resolved,omitzero"`
	// Within is the rule's window, Numbers its terms at Last, or at the most telling
	// second before.
	Within  time.Duration `json:"within"`
	Numbers []Number      `json:"numbers"`
	// Samples are at most MaxSamples lines that the rule's predicates picked out of the
	// window, the newest first. Their Host and File say where each came from.
	Samples []Sample `json:"samples,omitempty"`
	// Hosts and Files say where the picked lines of the window came from, most first.
	Hosts []Tally `json:"hosts,omitempty"`
	Files []Tally `json:"files,omitempty"`
	// Notices is the number of events so far, this one included.
	Notices int `json:"notices"`
	// Note says what is special about how it was decided; "" when nothing is.
	Note string `json:"note,omitempty"`
	// Told is the wall clock of the last notice; zero before the first.
	Told time.Time `json:"-"`
}

// MaxSamples is the number of lines that an incident shows, and MaxSampleBytes how
// much of each.
const (
	MaxSamples     = 5
	MaxSampleBytes = 512
)

// Sample is one line of an incident.
type Sample struct {
	Time      time.Time `json:"time"`
	Text      string    `json:"text"`
	RequestID string    `json:"request_id,omitempty"`
	Host      string    `json:"host,omitempty"`
	File      string    `json:"file,omitempty"`
}

// Tally is a number of lines by where they came from.
type Tally struct {
	Name  string `json:"name"`
	Lines int64  `json:"lines"`
}

// incidentID names an incident. It must not depend on when or how the lines were read.
func incidentID(rule, group string, began int64) string {
	h := sha256.New()
	h.Write([]byte(rule))
	h.Write([]byte{0})
	h.Write([]byte(group))
	h.Write(binary.BigEndian.AppendUint64([]byte{0}, uint64(began)))
	return hex.EncodeToString(h.Sum(nil)[:10])
}

// open is an incident that has not been resolved.
type open struct {
	ID       string  `json:"id"`
	Began    int64   `json:"b"`
	Last     int64   `json:"l"`
	Notified int64   `json:"n,omitempty"` // Unix milliseconds of the last notice; 0: none yet
	Notices  int     `json:"c,omitempty"`
	Numbers  []value `json:"v,omitempty"` // by atom, at Last
	Rising   bool    `json:"r,omitempty"` // Last has moved since the last notice
	// remind is set where people are to be told again before `repeat` has passed.
	remind bool
	// Elsewhere is set on a node whose evaluators have told it, and tell its end.
	Elsewhere bool `json:"e,omitempty"`
}

// value is an atom's number; none without events.
type value struct {
	V    float64 `json:"v"`
	None bool    `json:"x,omitempty"`
}

// span is a range of seconds, both ends included.
type span struct {
	From int64 `json:"f"`
	To   int64 `json:"t"`
}

// insertSpan adds s to rising spans, which it joins with those that it touches, and
// returns the span that it is in now.
func insertSpan(spans []span, s span) ([]span, span) {
	i := 0
	for i < len(spans) && spans[i].To+1 < s.From {
		i++
	}
	n := i
	for n < len(spans) && spans[n].From <= s.To+1 {
		s.From, s.To = min(s.From, spans[n].From), max(s.To, spans[n].To)
		n++
	}
	return slices.Replace(spans, i, n, s), s
}

// placeOf is where lines come from: a host and a file on it.
type placeOf struct{ host, file string }

// tally counts the picked lines of one slot that came from one place.
type tally struct {
	slot int64
	from placeOf
	n    int64
}

// maxTallies bounds what a group remembers of where its lines came from.
const maxTallies = 512

// sampleLine is a sample as a group keeps it, its memory used again.
type sampleLine struct {
	milli     int64
	text      []byte
	requestID []byte
	from      placeOf
	evidence  uint64 // the counters that picked it; 0: not known
	published bool   // of a node: Report has returned it
}

func (s *sampleLine) set(o *sampleLine) {
	s.milli, s.from, s.evidence, s.published = o.milli, o.from, o.evidence, false
	s.text = append(s.text[:0], o.text...)
	s.requestID = append(s.requestID[:0], o.requestID...)
}

func (s *sampleLine) sample() Sample {
	return Sample{
		Time: time.UnixMilli(s.milli).UTC(), Host: s.from.host, File: s.from.file,
		Text: strings.ToValidUTF8(string(s.text), "\uFFFD"), RequestID: strings.ToValidUTF8(string(s.requestID), "\uFFFD"),
	}
}

// tallies returns the lines by name, most first, at most ten names.
func tallies(n map[string]int64) []Tally {
	var out []Tally
	for name, lines := range n {
		if name != "" {
			out = append(out, Tally{name, lines})
		}
	}
	slices.SortFunc(out, func(a, b Tally) int {
		if a.Lines != b.Lines {
			return int(b.Lines - a.Lines)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out[:min(len(out), 10)]
}
