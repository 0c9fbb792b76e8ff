package alert

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// atom is one compiled comparison of a condition.
type atom struct {
	index   int // among the rule's atoms
	fn      fn
	percent int // of fnQuantile
	// counter is the index of what count, rate and share count, all that of every
	// line for share, and num the index of the field of the others.
	counter, all, num int
	op                op
	limit             float64
	edge              int64 // of percentiles: the last bin that is not above limit
	unit              unit
	// negated is set where a `not` stands before the comparison of a percentile,
	// maximum or average. (Counts turn the comparison round instead; without events
	// both comparisons of a percentile are false.)
	negated bool
	// rising atoms can only become true by more lines: they fire at once.
	rising bool
	// quiet atoms are true where there are no lines: they wait until every input has
	// been read so far.
	quiet bool
	term  string
}

// cond is a condition without `not`: and, or over atoms. So what makes an atom true
// can only make the condition true.
type cond struct {
	kind nodeKind // nodeLeaf, nodeAnd, nodeOr
	kids []cond
	atom int
}

// mode is how much is known of a second.
type mode uint8

const (
	modeOpen     mode = iota // lines may still come: only rising atoms may be true
	modeDecided              // decided, but some input is behind: quiet atoms are not true
	modeComplete             // every input has been read past it
)

// values are the numbers of a window.
type values interface {
	// value returns the atom's number, false when there is none without events.
	value(a *atom) (float64, bool)
	// over tells whether a percentile is beyond the atom's edge, false when there is none.
	over(a *atom) (over, ok bool)
}

func (c *cond) holds(atoms []atom, v values, m mode) bool {
	switch c.kind {
	case nodeLeaf:
		return atoms[c.atom].holds(v, m)
	case nodeAnd:
		for i := range c.kids {
			if !c.kids[i].holds(atoms, v, m) {
				return false
			}
		}
		return true
	default:
		for i := range c.kids {
			if c.kids[i].holds(atoms, v, m) {
				return true
			}
		}
		return false
	}
}

// rising adds to some the atoms that can make the condition true while lines may still
// come; false when it cannot be true then.
func (c *cond) rising(atoms []atom, some []int) ([]int, bool) {
	if c.kind == nodeLeaf {
		if !atoms[c.atom].rising {
			return some, false
		}
		return append(some, c.atom), true
	}
	all := some
	for i := range c.kids {
		with, can := c.kids[i].rising(atoms, all)
		switch {
		case can:
			all = with
		case c.kind == nodeAnd:
			return some, false
		}
	}
	return all, len(all) > len(some)
}

func (a *atom) holds(v values, m mode) bool {
	if m == modeOpen && !a.rising || m == modeDecided && a.quiet {
		return false
	}
	if a.fn == fnQuantile && (a.op == opGt || a.op == opGe) {
		over, ok := v.over(a)
		return (ok && over) != a.negated
	}
	n, ok := v.value(a)
	return (ok && compare(n, a.op, a.limit)) != a.negated
}

// least is how many lines a rising atom that counts needs to be true.
func (a *atom) least(within int64) int64 {
	limit := a.limit
	if a.fn == fnRate {
		limit *= float64(within)
	}
	switch {
	case !(limit < 1<<52):
		return 1 << 52
	case a.op == opGe:
		return int64(math.Ceil(limit))
	}
	return int64(math.Floor(limit)) // or one more
}

// noLines are the values of a window without events.
type noLines struct{}

func (noLines) value(a *atom) (float64, bool) { return 0, a.fn <= fnRate }
func (noLines) over(*atom) (over, ok bool)    { return false, false }

// compiler gathers what a rule counts while it compiles the condition.
type compiler struct {
	atoms    []atom
	counters []*pred
	nums     []num
}

// num is a numeric field that a rule watches.
type num struct {
	field  field
	acc    int // index among those with max or avg; -1: none
	sketch int // index among those with percentiles; -1: none
	// evidence are the values whose lines are shown as samples: those beyond limit.
	evidence interval
	limit    float64
	// wantsAcc and wantsSketch are set while the condition is compiled.
	wantsAcc, wantsSketch bool
}

func (c *compiler) compile(n *node, negated bool) cond {
	switch n.kind {
	case nodeNot:
		return c.compile(n.kids[0], !negated)
	case nodeLeaf:
		a := c.atom(&n.cmp, negated)
		a.index = len(c.atoms)
		c.atoms = append(c.atoms, a)
		return cond{kind: nodeLeaf, atom: a.index}
	}
	out := cond{kind: n.kind}
	if negated { // de Morgan
		out.kind = nodeAnd + nodeOr - n.kind
	}
	for _, kid := range n.kids {
		out.kids = append(out.kids, c.compile(kid, negated))
	}
	// Percentiles are asked for last: often the others decide.
	slices.SortStableFunc(out.kids, func(a, b cond) int { return cmp.Compare(c.percentiles(&a), c.percentiles(&b)) })
	return out
}

// percentiles is how many of them a condition asks for.
func (c *compiler) percentiles(of *cond) (n int) {
	if of.kind == nodeLeaf && c.atoms[of.atom].fn == fnQuantile {
		return 1
	}
	for i := range of.kids {
		n += c.percentiles(&of.kids[i])
	}
	return n
}

func (c *compiler) atom(cmp *comparison, negated bool) atom {
	a := atom{fn: cmp.fn, percent: cmp.percent, op: cmp.op, limit: cmp.limit, unit: cmp.unit, term: cmp.show()}
	if cmp.fn <= fnRate {
		if negated {
			a.op = a.op.not()
		}
		a.counter = c.counter(cmp.pred)
		if cmp.fn == fnShare {
			a.all, a.unit = c.counter(nil), unitPercent
		}
	} else {
		a.negated = negated
		a.num = c.num(cmp)
		a.edge = edgeOf(a.limit, a.op == opGe)
		if u := cmp.field.slot; a.unit == unitNone && (u == slotRequestTime || u == slotUpstreamTime) {
			a.unit = unitSeconds
		}
	}
	above := a.op == opGt || a.op == opGe || a.op == opNe && a.limit == 0 && a.fn != fnMax
	a.rising = above && !a.negated && (a.fn == fnCount || a.fn == fnRate || a.fn == fnMax)
	a.quiet = (&a).holds(noLines{}, modeComplete)
	return a
}

// counter returns the index of the counter of lines that match p.
func (c *compiler) counter(p *pred) int {
	for i, q := range c.counters {
		if p == nil && q == nil || p != nil && q != nil && p.text == q.text {
			return i
		}
	}
	c.counters = append(c.counters, p)
	return len(c.counters) - 1
}

func (c *compiler) num(cmp *comparison) int {
	at := -1
	for i := range c.nums {
		if c.nums[i].field.key == cmp.field.key {
			at = i
		}
	}
	if at < 0 {
		at = len(c.nums)
		c.nums = append(c.nums, num{field: cmp.field, acc: -1, sketch: -1, evidence: interval{none, none}, limit: math.Inf(1)})
	}
	n := &c.nums[at]
	if cmp.fn == fnQuantile {
		n.wantsSketch = true
	} else {
		n.wantsAcc = true
	}
	if cmp.op == opGt || cmp.op == opGe {
		if cmp.limit < n.limit {
			n.evidence, n.limit = intervalOf(cmp.op, cmp.limit), cmp.limit
		}
	}
	return at
}

// Number is one term of a condition with its value.
type Number struct {
	// Term is the term as the rule has it, such as `count(status_code >= 500)`.
	Term string `json:"term"`
	// Value is in lines, seconds, bytes, or a share between 0 and 1.
	Value float64 `json:"value"`
	// None is set where there were no events to take a percentile or an average of.
	None bool `json:"none,omitempty"`
	// Op and Limit are what the value was compared with.
	Op    string  `json:"op"`
	Limit float64 `json:"limit"`
	unit  unit
}

// String writes the number as people read it: "share(status_code >= 500) = 7.2% (limit: > 5%)".
func (n Number) String() string {
	value := "none"
	if !n.None {
		value = n.show(n.Value)
	}
	return n.Term + " = " + value + " (limit: " + n.Op + " " + n.show(n.Limit) + ")"
}

func (n Number) show(v float64) string {
	switch n.unit {
	case unitPercent:
		return strconv.FormatFloat(v*100, 'g', 3, 64) + "%"
	case unitSeconds:
		return strconv.FormatFloat(v, 'g', 4, 64) + "s"
	case unitBytes:
		return strconv.FormatFloat(v, 'f', 0, 64) + "B"
	}
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
