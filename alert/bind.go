package alert

import (
	"slices"
	"strings"

	"github.com/tailwater/tailwater/record"
)

// binding is the rules as they apply to the lines of chains whose origins look the
// same to them: constants are filled in, rules for other inputs left out. Chains
// share it.
type binding struct {
	key       string
	users     int
	plans     [record.Levels][]*plan // those that a line of that level can matter to
	groupings []boundGrouping        // those of the engine, in its order
	varying   []int                  // those of them whose key is not the same for every line
	feeds     []bool                 // by watch
	fixed     []string               // by watch; see source
}

// plan is one rule, bound.
type plan struct {
	watch, grouping, slot int
	where                 *pred
	counters              counters
	nums                  []num
	accs, sketches        int
	evidence              uint64
	// sampleEvery is for how many seconds a few samples of a group are enough: where every
	// line is evidence they are hardly looked at.
	sampleEvery int64
	quiet       bool
	// byLevel, for a rule that looks at nothing but levels, are the counters of each, and
	// byStatus those of each status code from 1 to its length.
	byLevel  *[record.Levels]uint64
	byStatus []uint64
}

// boundGrouping makes the keys of one list of `per`.
type boundGrouping struct {
	number uint32 // another for each
	fixed  bool   // the key is prefix, for every line
	key    []byte // the parts that come first and are constant
	parts  []field
}

// bindings are those in use, and what they are made of.
type bindings struct {
	rules     []*Rule
	groupings []grouping
	of, slot  []int          // by rule: its grouping and its place in it
	names     []string       // of the fields that may be constant in a chain
	hints     map[string]int // by field key
	requestID field
	inUse     map[string]*binding
	made      uint32 // boundGroupings
}

// grouping is one list of `per` that rules share.
type grouping struct {
	per   []field
	rules int
	most  int // groups, of all rules together
}

func (b *bindings) init(rules []*Rule) {
	b.rules, b.hints, b.inUse = rules, make(map[string]int), make(map[string]*binding)
	b.requestID = newField("request_id").bind(nil, b.hints)
	for _, r := range rules {
		i := slices.IndexFunc(b.groupings, func(g grouping) bool {
			return slices.EqualFunc(g.per, r.per, func(x, y field) bool { return x.key == y.key })
		})
		if i < 0 {
			i = len(b.groupings)
			b.groupings = append(b.groupings, grouping{per: r.per})
		}
		b.of, b.slot = append(b.of, i), append(b.slot, b.groupings[i].rules)
		b.groupings[i].rules++
		b.groupings[i].most += r.cfg.MaxGroups
		b.learn(r)
	}
}

// learn gathers the names of the fields that a rule looks at.
func (b *bindings) learn(r *Rule) {
	see := func(f field) {
		f.bind(nil, b.hints)
		if f.slot == slotGet && !slices.Contains(b.names, f.name) {
			b.names = append(b.names, f.name)
		}
	}
	for _, f := range r.per {
		see(f)
	}
	for _, n := range r.nums {
		see(n.field)
	}
	for _, p := range append([]*pred{r.where}, r.counters...) {
		p.eachField(see)
	}
}

func (p *pred) eachField(f func(field)) {
	switch {
	case p == nil:
	case p.a == nil:
		f(p.field)
	default:
		p.a.eachField(f)
		p.b.eachField(f)
	}
}

// take returns the binding for a chain; release gives it back.
func (b *bindings) take(by way, o *record.Origin) *binding {
	var key strings.Builder
	key.WriteString(by.input)
	if by.kafka {
		key.WriteString("\x00kafka\x00" + by.before)
	}
	for _, name := range b.names {
		key.WriteByte(0)
		if v, ok := o.Value(name); ok {
			key.WriteString("=" + v)
		}
	}
	bound := b.inUse[key.String()]
	if bound == nil {
		bound = b.make(by, o)
		bound.key = key.String()
		b.inUse[bound.key] = bound
	}
	bound.users++
	return bound
}

func (b *bindings) release(bound *binding) {
	if bound.users--; bound.users == 0 {
		delete(b.inUse, bound.key)
	}
}

func (b *bindings) make(by way, o *record.Origin) *binding {
	out := &binding{feeds: make([]bool, len(b.rules)), fixed: make([]string, len(b.rules))}
	for _, g := range b.groupings {
		b.made++
		bound := bindGrouping(g, b.made, o, b.hints)
		if !bound.fixed {
			out.varying = append(out.varying, len(out.groupings))
		}
		out.groupings = append(out.groupings, bound)
	}
	for i, r := range b.rules {
		if !by.leadsTo(r.cfg.Inputs) {
			continue
		}
		out.feeds[i] = true
		p := plan{ // one for each rule
			watch: i, grouping: b.of[i], slot: b.slot[i], where: r.where.bind(o, b.hints),
			accs: r.accs, sketches: r.sketches, evidence: r.evidence, quiet: r.quiet,
		}
		if p.sampleEvery = 1; r.evident {
			p.sampleEvery = r.slot
		}
		for j, c := range r.counters {
			p.counters.add(1<<j, c.bind(o, b.hints))
		}
		for _, n := range r.nums {
			n.field = n.field.bind(o, b.hints)
			p.nums = append(p.nums, n)
		}
		if g := &out.groupings[p.grouping]; g.fixed {
			out.fixed[i] = string(g.key)
		}
		if p.byLevel = countersByLevel(&p.counters); p.byLevel == nil {
			p.byStatus = countersByStatus(&p.counters)
		}
		for l := range out.plans {
			if p.byLevel == nil || p.byLevel[l] != 0 || p.quiet || len(p.nums) > 0 {
				out.plans[l] = append(out.plans[l], &p)
			}
		}
	}
	return out
}

func bindGrouping(g grouping, number uint32, o *record.Origin, hints map[string]int) boundGrouping {
	out := boundGrouping{number: number}
	for _, f := range g.per {
		f = f.bind(o, hints)
		if f.slot == slotConst && len(out.parts) == 0 {
			out.key = appendPart(out.key, f.val)
			continue
		}
		out.parts = append(out.parts, f)
	}
	out.fixed = len(out.parts) == 0
	return out
}
