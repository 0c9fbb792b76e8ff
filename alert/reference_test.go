package alert

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// The reference is the rules' contract written down as plainly as it goes: it keeps
// every line it was given and looks at every second anew in every step.

type refLine struct {
	sec    int64
	fail   bool
	amount float64
}

// refRule is a condition over the lines of a window.
type refRule struct {
	cfg RuleConfig
	// open is the part of the condition that more lines can only make true, whole all
	// of it; quiet that it is true without lines.
	open, whole func(in window) bool
	quiet       bool
	// failsOnly: other lines are not counted at all, and bring no decision forward.
	failsOnly bool
	// urgent are the lines that open may become true by: while an input is behind, all
	// else is decided by the next tick. nil: none.
	urgent func(l refLine) bool
}

// window is what a reference condition sees: the lines of the window that ends at end.
type window struct {
	lines []refLine
	group *refGroup // for percentiles, which have slots of their own
	end   int64
	rule  *Rule
}

func (w window) fails() (n int) {
	for _, l := range w.lines {
		if l.fail {
			n++
		}
	}
	return n
}

func (w window) max() float64 {
	m := math.Inf(-1)
	for _, l := range w.lines {
		m = max(m, l.amount)
	}
	return m
}

func (w window) avg() float64 {
	sum := 0.0
	for _, l := range w.lines {
		sum += l.amount
	}
	return sum / float64(len(w.lines)) // NaN compares false
}

func (w window) percentile(percent int) float64 {
	last := floorDiv(w.end+1, w.rule.slot) - 1
	var v []float64
	for sec := (last - w.rule.slots + 1) * w.rule.slot; sec < (last+1)*w.rule.slot; sec++ {
		for _, l := range w.group.lines[sec] {
			v = append(v, l.amount)
		}
	}
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[(percent*len(v)+99)/100-1]
}

func no(window) bool { return false }

func each(refLine) bool   { return true }
func fail(l refLine) bool { return l.fail }

var refRules = []refRule{
	{cfg: RuleConfig{When: "count(fail == true) >= 3", Within: 5 * time.Second}, failsOnly: true, urgent: fail,
		open: func(w window) bool { return w.fails() >= 3 }, whole: func(w window) bool { return w.fails() >= 3 }},
	{cfg: RuleConfig{When: "share(fail == true) > 50% and count() >= 4", Within: 6 * time.Second}, open: no,
		whole: func(w window) bool { return len(w.lines) >= 4 && w.fails()*2 > len(w.lines) }},
	{cfg: RuleConfig{When: "max(amount) > 8 or not (rate() <= 2)", Within: 4 * time.Second}, urgent: each,
		open:  func(w window) bool { return w.max() > 8 || len(w.lines) > 8 },
		whole: func(w window) bool { return w.max() > 8 || len(w.lines) > 8 }},
	{cfg: RuleConfig{When: "count() >= 1", Within: 3 * time.Second, For: 7 * time.Second}, urgent: each,
		open: func(w window) bool { return len(w.lines) >= 1 }, whole: func(w window) bool { return len(w.lines) >= 1 }},
	{cfg: RuleConfig{When: "avg(amount) > 6 or count(fail == true) >= 6", Within: 5 * time.Second}, urgent: fail,
		open:  func(w window) bool { return w.fails() >= 6 },
		whole: func(w window) bool { return w.avg() > 6 || w.fails() >= 6 }},
	{cfg: RuleConfig{When: "p90(amount) > 7.5", Within: 30 * time.Second}, open: no,
		whole: func(w window) bool { return w.percentile(90) > 7.5 }},
	{cfg: RuleConfig{When: "count() == 0", Within: 4 * time.Second}, open: no, quiet: true,
		whole: func(w window) bool { return len(w.lines) == 0 }},
}

type refSource struct {
	group   string
	heard   time.Time
	behind  bool
	reached int64
}

type refIncident struct {
	began, last int64
	notified    time.Time
	news        bool
}

type refGroup struct {
	lines  map[int64][]refLine // by second
	first  int64
	base   int64
	held   map[int64]bool // the seconds at which the condition held
	open   *refIncident
	closed []span
	// waits is set when it has lines that were not looked at; urgent and late say of what
	// kind some of them are.
	waits, urgent, late bool
}

type reference struct {
	rule    refRule
	r       *Rule
	now     time.Time
	wall    int64
	settled time.Time
	ticked  time.Time
	sources map[int]*refSource
	groups  map[string]*refGroup

	newest, end, decided int64
	ends                 []passing // every end there was, with its time
	events               map[string][]string
	lines                []refLine // scratch
}

func newReference(rule refRule, r *Rule, now time.Time) *reference {
	return &reference{
		rule: rule, r: r, settled: now.Add(10 * time.Second), sources: make(map[int]*refSource), groups: make(map[string]*refGroup),
		newest: -never, end: -never, decided: -never, events: make(map[string][]string),
	}
}

func (f *reference) restart() {
	f.sources, f.ends, f.ticked = make(map[int]*refSource), nil, time.Time{}
	for _, g := range f.groups {
		g.waits, g.urgent, g.late = false, false, false
	}
	f.settled = f.now.Add(10 * time.Second)
}

func (f *reference) clock(now time.Time) { f.now, f.wall = now, now.Unix() }

func (f *reference) lagging(s *refSource) bool { return s.behind && f.now.Sub(s.heard) < time.Minute }

func (f *reference) caughtUp() bool {
	for _, s := range f.sources {
		if f.lagging(s) {
			return false
		}
	}
	return !f.now.Before(f.settled)
}

func (f *reference) flush(source int, lines []refLine, caughtUp bool) {
	s := f.sources[source]
	s.heard = f.now
	oldest := int64(-never)
	if f.end != -never {
		oldest = f.end - f.r.lateness
		if !f.caughtUp() {
			oldest = f.end - max(f.r.lateness, f.r.stale)
		}
	}
	newest := int64(-never)
	g, counted, urgent, late := f.groups[s.group], false, false, false
	for _, l := range lines {
		if l.sec <= f.wall+1 {
			newest = max(newest, min(l.sec, f.wall))
		}
		if l.sec < oldest || l.sec > f.wall+f.r.lateness {
			continue
		}
		if g == nil {
			g = &refGroup{first: l.sec, base: l.sec - 1, lines: make(map[int64][]refLine), held: make(map[int64]bool)}
			f.groups[s.group] = g
		}
		g.first = min(g.first, l.sec)
		g.lines[l.sec] = append(g.lines[l.sec], l)
		if !f.rule.failsOnly || l.fail {
			counted = true
			urgent = urgent || f.rule.urgent != nil && f.rule.urgent(l)
			late = late || l.sec <= g.base
		}
	}
	f.newest = max(f.newest, newest)
	s.behind = !caughtUp
	s.reached = max(s.reached, newest)
	if caughtUp {
		s.reached = f.wall
	}
	f.advance()
	if counted {
		g.waits, g.urgent, g.late = true, g.urgent || urgent, g.late || late
	}
	for name, g := range f.groups {
		switch {
		case !g.waits:
		case f.caughtUp(), (urgent || late) && (g.late || g.urgent && f.firesNow(g)):
			f.pass(name)
		}
	}
}

// firesNow tells whether somebody is to be told of a group at once.
func (f *reference) firesNow(g *refGroup) bool {
	if g.open != nil && !g.open.notified.IsZero() {
		return false
	}
	g.urgent = false
	for end := g.base + 1; end <= f.end; end++ {
		if f.rule.open(f.window(g, end)) {
			return true
		}
	}
	return false
}

// window is what lies before a second.
func (f *reference) window(g *refGroup, end int64) window {
	in := window{lines: f.lines[:0], group: g, end: end, rule: f.r}
	for sec := end - f.r.within + 1; sec <= end; sec++ {
		in.lines = append(in.lines, g.lines[sec]...)
	}
	f.lines = in.lines
	return in
}

func (f *reference) tick() {
	if f.now.Sub(f.ticked) > 5*time.Second {
		f.settled = f.now.Add(10 * time.Second)
	}
	f.ticked = f.now
	f.advance()
	for name := range f.groups {
		f.pass(name)
	}
}

func (f *reference) advance() {
	f.end = max(f.end, min(f.newest, f.wall))
	if f.caughtUp() {
		f.end = max(f.end, f.wall)
	}
	if f.end == -never {
		return
	}
	f.ends = append(f.ends, passing{end: f.end, til: f.now})
	before, slowest := int64(-never), int64(never)
	for _, e := range f.ends {
		if f.now.Sub(e.til) >= 2*time.Second {
			before = e.end
		}
	}
	for _, s := range f.sources {
		if f.now.Sub(s.heard) < 2*time.Second {
			slowest = min(slowest, s.reached)
		}
	}
	decided := min(f.wall-3, before)
	if slowest != never {
		decided = max(decided, slowest-1)
	}
	f.decided = max(f.decided, min(decided, f.end))
}

func (f *reference) pass(name string) {
	g := f.groups[name]
	base := max(g.base, f.decided)
	if f.rule.quiet {
		g.base = max(g.base, f.end-max(f.r.lateness, f.r.stale))
		base = g.base
		if !f.now.Before(f.settled) {
			complete := f.decided
			for _, s := range f.sources {
				if s.group == name && f.lagging(s) {
					complete = min(complete, s.reached-1)
				}
			}
			base = max(base, complete)
		}
	}
	first := max(g.first, min(g.base, f.end-2*f.r.lateness)) // before that, nothing can have changed
	for end := first; end <= f.end; end++ {
		in := f.window(g, end)
		switch {
		case f.rule.quiet:
			if end > g.base && end <= base && f.rule.whole(in) {
				g.held[end] = true
			}
		case end <= base && f.rule.whole(in), f.rule.open(in):
			g.held[end] = true
		}
	}
	g.base = base
	g.waits, g.urgent, g.late = false, false, false
	for end := first; end <= f.end; end++ {
		holds := true
		for e := end - f.r.hold; e <= end; e++ {
			holds = holds && g.held[e]
		}
		if in := g.open; in != nil && f.r.hold > 0 && g.held[end] && in.last < end && end <= in.last+f.r.within {
			in.last, in.news = end, true // whatever the hold
		}
		if holds {
			f.fire(name, end)
		}
	}
	if g.open != nil && g.base-g.open.last >= f.r.within {
		f.resolve(name)
	}
	f.notify(name)
}

func (f *reference) fire(name string, sec int64) {
	g := f.groups[name]
	for _, s := range g.closed {
		if s.From <= sec && sec <= s.To {
			return
		}
	}
	if g.open != nil && sec > g.open.last+f.r.within {
		f.resolve(name)
	}
	if g.open == nil {
		g.open = &refIncident{began: sec, last: sec, news: true}
	}
	if sec < g.open.began-f.r.within { // another incident, found late: the group is notified already
		g.closed = append(g.closed, span{sec - f.r.within, sec + f.r.within})
		return
	}
	if sec > g.open.last {
		g.open.last, g.open.news = sec, true
	}
	g.open.began = min(g.open.began, sec)
}

func (f *reference) resolve(name string) {
	f.notify(name)
	g := f.groups[name]
	g.closed = append(g.closed, span{g.open.began - f.r.within, g.open.last + f.r.within})
	if !g.open.notified.IsZero() {
		f.emit(name, Resolved)
	}
	g.open = nil
}

func (f *reference) notify(name string) {
	in := f.groups[name].open
	switch {
	case in == nil || in.last+f.r.stale < f.wall:
	case in.notified.IsZero():
		f.emit(name, Opened)
	case in.news && in.last >= f.groups[name].base && f.now.Sub(in.notified) >= f.r.cfg.Repeat:
		f.emit(name, Repeated)
	}
}

func (f *reference) emit(name string, kind Kind) {
	in := f.groups[name].open
	f.events[name] = append(f.events[name], fmt.Sprintf("%s %d-%d", kind, in.began-noon.Unix(), in.last-noon.Unix()))
	in.notified, in.news = f.now, false
}

// TestRandomSchedulesGiveTheReferencesIncidents plays random schedules of chains that
// share groups, are behind, late, and die, to the engine and to the reference.
func TestRandomSchedulesGiveTheReferencesIncidents(t *testing.T) {
	schedules := 1000
	if slow || testing.Short() {
		schedules = 200
	}
	total, opened := 0, 0
	for seed := range schedules {
		events := playSchedule(t, uint64(seed))
		total += len(events)
		for _, e := range events {
			if e.Kind == Opened {
				opened++
			}
		}
	}
	t.Logf("%d schedules, %d events, %d incidents", schedules, total, opened)
	if opened < schedules {
		t.Error("the schedules are too quiet to tell anything")
	}
}

func playSchedule(t *testing.T, seed uint64) []Event {
	rng := rand.New(rand.NewPCG(seed, 1))
	rule := refRules[seed%uint64(len(refRules))]
	cfg := rule.cfg
	cfg.Per, cfg.Lateness, cfg.StaleAfter, cfg.Repeat = []string{"project"}, 15*time.Second, 15*time.Second, 12*time.Second
	r := mustCompile(t, cfg)
	w := newWorld(t, r)
	ref := newReference(rule, r, w.now)
	projects := []string{"a", "b", "a"}
	var taps []*Tap
	connect := func() {
		taps = taps[:0]
		for i, p := range projects {
			taps = append(taps, w.tap(p, fmt.Sprint("h", i)))
			ref.sources[i] = &refSource{group: joinKey([]string{p}), heard: w.now, behind: true, reached: -never}
		}
	}
	ref.clock(w.now)
	connect()
	calm := rng.IntN(3) // how many of ten steps have lines
	for step := range 150 {
		w.now = w.now.Add(time.Duration(1+rng.IntN(12)) * 100 * time.Millisecond)
		ref.clock(w.now)
		for i, tap := range taps {
			if rng.IntN(10) >= 2+3*calm {
				continue
			}
			caughtUp := rng.IntN(8) != 0
			lines := randomLines(rng, w.now)
			for _, l := range lines {
				tap.Observe(l.record(), l.sec*1000+rng.Int64N(1000), []byte("x"))
			}
			tap.Flush(record.Pos{}, caughtUp)
			ref.flush(i, lines, caughtUp)
		}
		if rng.IntN(3) != 0 {
			w.engine.Tick()
			ref.tick()
		}
		if rng.IntN(60) == 0 {
			w.start(w.snapshot())
			ref.restart()
			connect()
		}
		if !sameEvents(w.events, ref.events) {
			t.Fatalf("seed %d, step %d, %s:\nengine    %v\nreference %v", seed, step, cfg.When, byGroup(w.events), ref.events)
		}
	}
	return w.events
}

func randomLines(rng *rand.Rand, now time.Time) []refLine {
	var out []refLine
	late := int64(rng.IntN(3))
	if rng.IntN(6) == 0 {
		late = rng.Int64N(25)
	}
	for range rng.IntN(4) {
		out = append(out, refLine{sec: now.Unix() - late + rng.Int64N(2), fail: rng.IntN(2) == 0, amount: float64(rng.IntN(10))})
	}
	return out
}

func (l refLine) record() *record.Record {
	return lineOf(record.LevelNone, "fail", fmt.Sprint("=", l.fail), "amount", fmt.Sprint("=", l.amount))
}

func byGroup(events []Event) map[string][]string {
	out := make(map[string][]string)
	for _, e := range events {
		key := joinKey([]string{e.Incident.Group[0].Value})
		out[key] = append(out[key], fmt.Sprintf("%s %d-%d", e.Kind, e.Incident.Began.Unix()-noon.Unix(), e.Incident.Last.Unix()-noon.Unix()))
	}
	return out
}

func sameEvents(events []Event, ref map[string][]string) bool {
	got := byGroup(events)
	for name := range ref {
		if strings.Join(got[name], ",") != strings.Join(ref[name], ",") {
			return false
		}
	}
	return len(got) == len(ref)
}
