package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// RuleConfig is a rule as it stands in the configuration. Zero values mean the
// defaults that each field names.
type RuleConfig struct {
	// Name is the rule's key under `alerts`.
	Name string
	// Inputs are the inputs whose lines are watched; none: all but those of kind kafka.
	Inputs []string
	// Per are the fields that make the groups; none: one group.
	Per []string
	// When is the condition, Where a predicate that narrows the lines.
	When, Where string
	// Within is the window: whole seconds, up to a day. Default 1m.
	Within time.Duration
	// For is how long the condition must hold before it opens an incident: whole
	// seconds. Default 0s.
	For time.Duration
	// Repeat is how often an open incident is notified again. Default 1h.
	Repeat time.Duration
	// Lateness is how far a line's time may lie before the newest. Default 2m.
	Lateness time.Duration
	// StaleAfter is the age from which an incident is counted, not notified. Default 10m.
	StaleAfter time.Duration
	// MaxGroups bounds the groups that are watched at a time. Default 1000.
	MaxGroups int
	// Scope is "host" or "fleet". Default host: whoever knows of a fleet sets it.
	Scope string
	// Labels go with the notices as they are.
	Labels map[string]string
	// Annotations and Links are templates; see Incident.
	Annotations, Links map[string]string
	// Notify are the channels; none: all.
	Notify []string
}

// Defaults of RuleConfig, and its bounds.
const (
	DefaultWithin     = time.Minute
	DefaultRepeat     = time.Hour
	DefaultLateness   = 2 * time.Minute
	DefaultStaleAfter = 10 * time.Minute
	DefaultMaxGroups  = 1000

	maxWithin   = 24 * time.Hour
	maxPer      = 8
	maxCounters = 60 // a bit each
	maxNums     = 8
	// slotsPerWindow is how finely percentiles move on.
	slotsPerWindow = 12
	// forgetAfter is how long a silent group is remembered, in seconds.
	forgetAfter = 24 * 60 * 60
)

// Rule is a compiled rule. It does not change and may be shared.
type Rule struct {
	cfg      RuleConfig
	per      []field
	where    *pred
	when     cond
	atoms    []atom
	counters []*pred
	nums     []num
	accs     int // number of nums with max or avg
	sketches int // number of nums with percentiles
	// evidence are the counters whose lines are shown as samples; evident is set where
	// every line is.
	evidence uint64
	evident  bool
	// quiet is set where no lines at all can fulfil the condition.
	quiet bool
	// rising are the atoms that can make the condition true before a second is over.
	rising []int
	// risingMask are the counters whose lines can make the condition true before their
	// second is over; anyLine, where any line can.
	risingMask uint64

	// The rest is in seconds.
	within, hold, lateness, stale int64
	slot                          int64 // width of a percentile's slot
	slots                         int64 // how many of them make the window
	links                         templates
	fingerprint                   string
}

// Config returns the configuration with the defaults filled in.
func (r *Rule) Config() RuleConfig { return r.cfg }

// Name returns the rule's name.
func (r *Rule) Name() string { return r.cfg.Name }

// Fingerprint names what the rule counts: windows kept under another fingerprint are
// not the rule's.
func (r *Rule) Fingerprint() string { return r.fingerprint }

// Watches tells whether the rule watches the lines of that input; kafka says whether
// the input is of that kind.
func (r *Rule) Watches(input string, kafka bool) bool {
	return way{input: input, kafka: kafka}.leadsTo(r.cfg.Inputs)
}

// Compile checks a rule and makes it ready to run. The error holds an *Error for each
// mistake, joined.
func Compile(cfg RuleConfig) (*Rule, error) {
	fillDefaults(&cfg)
	r := &Rule{cfg: cfg}
	var errs []error
	fail := func(key, format string, args ...any) {
		errs = append(errs, &Error{Rule: cfg.Name, Key: key, Text: fmt.Sprintf(format, args...)})
	}
	r.checkTimes(fail)
	r.compilePer(fail)
	if cfg.MaxGroups < 1 {
		fail("max_groups", "%d is too few; write 1 or more", cfg.MaxGroups)
	}
	if cfg.Scope != "host" && cfg.Scope != "fleet" {
		fail("scope", "%q is not known; write host or fleet", cfg.Scope)
	}
	if cfg.Where != "" {
		where, err := parsePredicate(cfg.Where)
		if err != nil {
			errs = append(errs, located(cfg.Name, "where", cfg.Where, err))
		}
		r.where = where
	}
	if err := r.compileWhen(); err != nil {
		errs = append(errs, located(cfg.Name, "when", cfg.When, err))
	}
	links, linkErrs := parseTemplates(cfg)
	r.links, errs = links, append(errs, linkErrs...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.fingerprint = r.sum()
	return r, nil
}

func fillDefaults(cfg *RuleConfig) {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&cfg.Within, DefaultWithin)
	or(&cfg.Repeat, DefaultRepeat)
	or(&cfg.Lateness, DefaultLateness)
	or(&cfg.StaleAfter, DefaultStaleAfter)
	if cfg.MaxGroups == 0 {
		cfg.MaxGroups = DefaultMaxGroups
	}
	if cfg.Scope == "" {
		cfg.Scope = "host"
	}
}

func located(rule, key, src string, err error) error {
	e := &Error{Rule: rule, Key: key, Text: err.Error()}
	var at *syntaxError
	if errors.As(err, &at) {
		e.Line, e.Col = place(src, at.at)
	}
	return e
}

func (r *Rule) checkTimes(fail func(key, format string, args ...any)) {
	whole := func(key string, d, least, most time.Duration) int64 {
		switch {
		case d%time.Second != 0:
			fail(key, "%s is not a whole number of seconds", d)
		case d < least || d > most:
			fail(key, "%s is not between %s and %s", d, least, most)
		}
		return int64(d / time.Second)
	}
	r.within = whole("within", r.cfg.Within, time.Second, maxWithin)
	r.hold = whole("for", r.cfg.For, 0, maxWithin)
	r.lateness = whole("lateness", r.cfg.Lateness, time.Second, maxWithin)
	r.stale = whole("stale_after", r.cfg.StaleAfter, time.Second, maxWithin)
	if r.cfg.Repeat < time.Second {
		fail("repeat", "%s is too short; write 1s or more", r.cfg.Repeat)
	}
	r.slot = max(1, (r.within+slotsPerWindow-1)/slotsPerWindow)
	r.slots = (r.within + r.slot - 1) / r.slot
}

func (r *Rule) compilePer(fail func(key, format string, args ...any)) {
	for i, name := range r.cfg.Per {
		switch {
		case name == "":
			fail("per", "a field needs a name")
		case slices.Contains(r.cfg.Per[:i], name):
			fail("per", "%q stands twice", name)
		}
		if _, never := unreachable[name]; never {
			fail("per", "%q is different for every line; group by something that lines share, such as project", name)
		}
		r.per = append(r.per, newField(name))
	}
	if len(r.per) > maxPer {
		fail("per", "%d fields; at most %d are grouped by", len(r.per), maxPer)
	}
}

func (r *Rule) compileWhen() error {
	if strings.TrimSpace(r.cfg.When) == "" {
		return wrong(0, "the rule needs a condition, such as error >= 10")
	}
	n, err := parseWhen(r.cfg.When)
	if err != nil {
		return err
	}
	var c compiler
	r.when = c.compile(n, false)
	r.atoms, r.counters, r.nums = c.atoms, c.counters, c.nums
	if len(r.counters) > maxCounters || len(r.nums) > maxNums {
		return wrong(0, "too many different terms; at most %d predicates and %d fields", maxCounters, maxNums)
	}
	for i := range r.nums {
		if r.nums[i].wantsAcc {
			r.nums[i].acc = r.accs
			r.accs++
		}
		if r.nums[i].wantsSketch {
			r.nums[i].sketch = r.sketches
			r.sketches++
		}
	}
	r.chooseEvidence()
	if r.when.holds(r.atoms, noLines{}, modeOpen) {
		return wrong(0, "the condition is always true")
	}
	r.quiet = r.when.holds(r.atoms, noLines{}, modeComplete)
	r.rising, _ = r.when.rising(r.atoms, nil)
	for _, i := range r.rising {
		if a := &r.atoms[i]; a.fn == fnMax {
			r.risingMask |= anyLine
		} else {
			r.risingMask |= 1 << a.counter
		}
	}
	return nil
}

// chooseEvidence decides which lines are shown as samples: those that a predicate
// picks out, else every line.
func (r *Rule) chooseEvidence() {
	var all uint64
	fields := false
	for i, p := range r.counters {
		if p == nil {
			all |= 1 << i
		} else {
			r.evidence |= 1 << i
		}
	}
	for i := range r.nums {
		fields = fields || !math.IsInf(r.nums[i].limit, 1)
	}
	if r.evidence == 0 && !fields {
		r.evidence, r.evident = all, true
	}
}

// sum is the fingerprint: a hash of all that decides what is counted and how.
func (r *Rule) sum() string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %q %q %q %d %q", r.cfg.Inputs, r.cfg.Per, r.cfg.Where, r.within, r.cfg.Scope)
	for i := range r.counters {
		text := ""
		if r.counters[i] != nil {
			text = r.counters[i].text
		}
		fmt.Fprintf(h, " c %q", text)
	}
	for i := range r.nums {
		fmt.Fprintf(h, " n %q %v %v", r.nums[i].field.name, r.nums[i].wantsAcc, r.nums[i].wantsSketch)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
