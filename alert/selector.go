package alert

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// SelectorConfig says which lines are picked out, and what groups they make.
type SelectorConfig struct {
	// Name is for errors.
	Name string
	// Inputs are the inputs whose lines are looked at; none: all but those of kind kafka.
	Inputs []string
	// Count is a predicate over a line, or the bare name of a level; "": every line.
	Count string
	// Per are the fields that make the groups; none: one group.
	Per []string
}

// Selector picks out lines and names their group, for who counts them otherwise than a
// Rule does: a report over a day. It does not change and may be shared.
type Selector struct {
	cfg  SelectorConfig
	pred *pred
	per  []field
	text string
}

// NewSelector compiles a selector. The error holds an *Error for each mistake, joined.
func NewSelector(cfg SelectorConfig) (*Selector, error) {
	s := &Selector{cfg: cfg, text: "lines"}
	var errs []error
	switch name := strings.TrimSpace(cfg.Count); {
	case name == "":
	case plainLevel(name):
		l, _ := record.LevelNamed(name)
		s.pred, s.text = levelPred(opEq, l), name
	default:
		p, err := parsePredicate(cfg.Count)
		if err != nil {
			errs = append(errs, located(cfg.Name, "count", cfg.Count, bareWord(name, err)))
			break
		}
		s.pred, s.text = p, p.text
	}
	r := &Rule{cfg: RuleConfig{Name: cfg.Name, Per: cfg.Per}}
	r.compilePer(func(key, format string, args ...any) {
		errs = append(errs, &Error{Rule: cfg.Name, Key: key, Text: fmt.Sprintf(format, args...)})
	})
	s.per = r.per
	return s, errors.Join(errs...)
}

func plainLevel(name string) bool {
	_, known := record.LevelNamed(name)
	return known
}

// bareWord explains a word alone that is no level.
func bareWord(word string, err error) error {
	if strings.ContainsAny(word, " =<>!~()'\"`") {
		return err
	}
	return wrong(0, "%q is neither a level nor a predicate; %s; a predicate is for example status_code >= 500", word, suggestLevel(word))
}

// String is what is counted, in the words of the configuration.
func (s *Selector) String() string { return s.text }

// Fields are the names of the fields that make the groups.
func (s *Selector) Fields() []string { return s.cfg.Per }

// Watches tells whether the selector looks at the lines of that input; kafka says
// whether the input is of that kind.
func (s *Selector) Watches(input string, kafka bool) bool {
	return way{input: input, kafka: kafka}.leadsTo(s.cfg.Inputs)
}

// WatchesPassing is Watches for documents that come by a kafka input and that another
// tailwater has read by its input before.
func (s *Selector) WatchesPassing(input, before string) bool {
	return way{input, true, before}.leadsTo(s.cfg.Inputs)
}

// Group returns the values of a key that Pick gave.
func (s *Selector) Group(key string) []record.KeyValue {
	parts := splitKey(key, len(s.per))
	group := make([]record.KeyValue, len(parts))
	for i := range parts {
		group[i] = record.KeyValue{Key: s.per[i].name, Value: parts[i]}
	}
	return group
}

// Bind returns the selector for the lines of a chain with that origin.
func (s *Selector) Bind(o *record.Origin) *Picker {
	known := make(map[string]int)
	p := &Picker{pred: s.pred.bind(o, known)}
	for _, f := range s.per {
		p.per = append(p.per, f.bind(o, known))
	}
	p.hints = make(hints, len(known))
	return p
}

// Picker is a Selector for the lines of one chain. One goroutine at a time uses it.
type Picker struct {
	pred    *pred
	per     []field
	hints   hints
	scratch []byte
}

// Pick tells whether the line counts, and appends the key of its group to key. It keeps
// nothing of r.
func (p *Picker) Pick(key []byte, r *record.Record) ([]byte, bool) {
	if p.pred != nil && !p.pred.match(p.hints, r, &p.scratch) {
		return key, false
	}
	for i := range p.per {
		part, _ := p.per[i].text(p.hints, r, &p.scratch)
		key = appendPart(key, part)
	}
	return key, true
}
