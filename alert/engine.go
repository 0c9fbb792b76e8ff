package alert

import (
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Engine runs rules. All its methods may be called from any goroutine.
type Engine struct {
	clock  func() time.Time
	emitFn func(Event)
	// node is this host's name among the nodes of a fleet, after Publish; else "".
	node string

	mu      sync.Mutex // guards all below, and is held while emit is called
	watches []*watch
	now     time.Time // the clock, as of the pass under way
	wall    int64     // its second
	ticked  time.Time // the last Tick
	// settled is when an engine that has just started, or has stood still, may take
	// the inputs for caught up: until then some may not have been heard of yet.
	settled time.Time
	// unsettled is the same, but only after a time in which nothing was read.
	unsettled time.Time
	// hearUntil is when all nodes of a fleet that live have been heard of.
	hearUntil time.Time
	// mutedUntil is when what has begun may be told: before it others may say that
	// they have done so.
	mutedUntil time.Time
	// replaying is set while what is merged was decided by another engine.
	replaying bool
	restored  bool
	sources   []*source // those that were heard of lately, or are behind
	counted   map[string]record.Pos
	boot      uint64 // raised at every start, so that versions of Partials rise
	edition   uint64 // of Partials
	cursor    cursor // scratch of a pass
	view      view
	bound     bound
	counting  counting // scratch of a flush
	editing   sketch
	bins      []int32

	snapshotRoom int    // what the last snapshot took, and a little more
	encoding     []byte // scratch of a snapshot

	limit, bytes int64     // of memory for the groups, and what they took when they were
	weighed      time.Time // weighed
	grown        int64     // what nodes' shares have taken since then
	tight        bool
	closedUntil  time.Time // no group is admitted before, as some have been shed

	binding bindings
	shown   shownKeys
	idle    ledgers

	nodes map[string]uint32 // numbers of the nodes, for shares
}

// The patience of the engine.
const (
	// waitForInputs is how long a second that others have passed waits for an input.
	waitForInputs = 2 * time.Second
	// stoodStill is the time between two Ticks from which the process, or the clock,
	// is taken to have stood still or jumped.
	stoodStill = 5 * time.Second
	// settleTime is how long inputs have after that to say that they are behind.
	settleTime = 10 * time.Second
	// stuckAfter is the silence after which an input that was behind holds up nobody.
	stuckAfter = time.Minute
)

// New returns an engine for the rules. now is the wall clock. emit is called for
// every event, in order, while the engine is locked: it must neither wait nor call the
// engine, only put the event away for good; what it has taken counts as notified.
func New(rules []*Rule, now func() time.Time, emit func(Event)) *Engine {
	e := &Engine{clock: now, emitFn: emit, counted: make(map[string]record.Pos), nodes: make(map[string]uint32)}
	for i, r := range rules {
		e.watches = append(e.watches, &watch{
			engine: e, rule: r, index: i, groups: make(map[string]*group),
			newest: -never, end: -never, decided: -never, complete: -never, merged: -never, frozen: -never, based: -never, sweptDecided: -never, sweptFinal: -never, horizon: max(r.lateness, r.stale), lead: lead{upTo: -never},
		})
	}
	e.startAt(now())
	e.binding.init(rules)
	e.shown = make(shownKeys, len(e.binding.groupings))
	return e
}

func (e *Engine) startAt(now time.Time) {
	e.settled = now.Add(settleTime)
	e.boot = uint64(max(now.Unix(), 0))
}

// watch is a rule at work.
type watch struct {
	engine *Engine
	rule   *Rule
	index  int
	groups map[string]*group
	// numbered are the groups by their numbers, of which unused are free; forgotten is how
	// many groups were let go.
	numbered  []*group
	unused    []uint32
	forgotten uint64
	// based is the latest base of a group that there was.
	based int64
	fresh fresh
	// touched are the groups that were added to since the last flush.
	touched []*group
	// pressed are those of them that may not wait for the next Tick, behind is set while an
	// input has lines of the past to be read still.
	pressed []*group
	behind  bool

	// newest is the newest second of a line, end that of the windows. decided is the
	// last second for which no input is waited for. -never: none yet.
	newest, end, decided int64
	// complete is, of rules that find silence, the last second up to which every input
	// has been read.
	complete int64
	// Of an evaluator: merged is the newest second that a node has counted, frozen the
	// last one whose counts nobody can change any more.
	merged, frozen int64
	// horizon is how far before end a line may lie, in seconds: the lateness, or as
	// long as an input is behind, all that could still be notified.
	horizon int64
	passed  []passing
	// sweptDecided and sweptEnd are decided and end at the last pass over all groups,
	// sweptFinal is final.
	sweptDecided, sweptEnd, sweptFinal int64

	lead lead
	gone []string // keys of groups that Changes has told of, and that are forgotten

	stats RuleStats
}

// passing says that end was at a second at a time.
type passing struct {
	end       int64
	from, til time.Time
}

// source is what the engine knows of an input, or of a node of the fleet.
type source struct {
	feeds []bool // by watch
	// fixed is the key of the only group that it can add to, by watch; "": any.
	fixed   []string
	reached int64 // every line before this second has been read
	behind  bool
	heard   time.Time
	listed  bool // in Engine.sources
}

// list notes that s is there.
func (e *Engine) list(s *source) {
	s.heard = e.now
	if !s.listed {
		s.listed = true
		e.sources = append(e.sources, s)
	}
}

// heardOf notes that s has reported.
func (e *Engine) heardOf(s *source, newest int64, caughtUp bool) {
	e.list(s)
	s.behind = !caughtUp
	s.reached = max(s.reached, min(newest, e.wall))
	if caughtUp {
		s.reached = max(s.reached, e.wall)
	}
}

// drop forgets a source.
func (e *Engine) drop(s *source) {
	s.listed = false
	e.sources = slices.DeleteFunc(e.sources, func(o *source) bool { return o == s })
}

// live tells whether a second waits for s.
func (e *Engine) live(s *source) bool { return e.now.Sub(s.heard) < waitForInputs }

// lagging tells whether s has lines of the past still to read.
func (e *Engine) lagging(s *source) bool { return s.behind && e.now.Sub(s.heard) < stuckAfter }

// enter begins a pass at the clock's time.
func (e *Engine) enter() {
	e.now = e.clock()
	e.wall = floorDiv(e.now.UnixMilli(), 1000)
}

// Tick lets time pass: windows move on, what waited is decided, and what is over is
// let go. Call it about four times a second.
func (e *Engine) Tick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	gap := e.now.Sub(e.ticked)
	if e.ticked.IsZero() || gap > stoodStill || gap < 0 {
		e.settled = e.now.Add(settleTime) // lines of that time may not have been read yet
		if !e.ticked.IsZero() {
			e.unsettled = e.settled
		}
	}
	e.ticked = e.now
	e.sources = slices.DeleteFunc(e.sources, func(s *source) bool {
		s.listed = e.live(s) || e.lagging(s)
		return !s.listed
	})
	for _, w := range e.watches {
		w.tick()
	}
	e.weigh()
	e.showKeys()
}

func (w *watch) tick() {
	e := w.engine
	w.stats.Evaluated = e.now
	w.digest()
	if e.wall < w.end {
		w.rewind()
	}
	w.advance()
	if w.end == -never {
		return
	}
	moved := w.decided != w.sweptDecided || w.end != w.sweptEnd || w.rule.quiet
	w.sweptDecided, w.sweptEnd = w.decided, w.end
	for _, g := range w.groups {
		if moved || g.touched {
			g.pass()
		} else {
			g.notify() // it may be time to repeat
		}
	}
	for _, g := range w.touched {
		g.listed = false
	}
	for _, g := range w.pressed {
		g.pressed = false
	}
	w.touched, w.pressed = w.touched[:0], w.pressed[:0]
	w.sweptFinal = w.final()
	w.sweep()
}

// sweep prunes all groups and forgets those that are silent.
func (w *watch) sweep() {
	floor := w.end - w.horizon
	for _, g := range w.groups {
		g.prune(floor)
		silent := g.lastSeen < w.end-forgetAfter
		if !silent && (w.rule.quiet || !g.idle()) {
			continue
		}
		if g.open != nil {
			g.resolve(w.end)
		}
		w.forget(g)
	}
}

// forget lets a group go.
func (w *watch) forget(g *group) {
	g.digest()
	w.numbered[g.number], w.unused = nil, append(w.unused, g.number)
	w.forgotten++
	if g.carried {
		w.gone = append(w.gone, g.key)
	}
	delete(w.groups, g.key)
}

// setHorizon decides how late a line may be now, and tells whether all inputs are
// caught up.
func (w *watch) setHorizon() (caughtUp bool) {
	e := w.engine
	caughtUp = !e.now.Before(e.settled)
	for _, s := range e.sources {
		caughtUp = caughtUp && !(s.feeds[w.index] && e.lagging(s))
	}
	w.behind = !caughtUp
	w.horizon = w.rule.lateness
	if !caughtUp && !e.tight {
		w.horizon = max(w.rule.lateness, w.rule.stale)
	}
	return caughtUp
}

// advance moves the window's end on, and with it what is decided.
func (w *watch) advance() {
	e := w.engine
	end := max(w.end, min(w.newest, e.wall))
	if w.setHorizon() {
		end = max(end, e.wall)
	}
	if end == -never {
		return
	}
	w.end = end
	slowest := int64(never)
	for _, s := range e.sources {
		if s.feeds[w.index] && e.live(s) {
			slowest = min(slowest, s.reached)
		}
	}
	decided := min(e.wall-1-int64(waitForInputs/time.Second), w.endBefore(waitForInputs))
	if slowest != never && !e.now.Before(e.hearUntil) {
		decided = max(decided, slowest-1)
	}
	w.decided = max(w.decided, min(decided, end))
}

// endBefore notes where the end is now, and returns where it was that long ago.
func (w *watch) endBefore(ago time.Duration) int64 {
	now := w.engine.now
	n := len(w.passed)
	switch {
	case n > 0 && now.Sub(w.passed[n-1].from) < 100*time.Millisecond:
		w.passed[n-1].end, w.passed[n-1].til = w.end, now
	case n == 0 || w.passed[n-1].end != w.end:
		w.passed = append(w.passed, passing{w.end, now, now})
	}
	before := int64(-never)
	k := 0
	for k < len(w.passed) && now.Sub(w.passed[k].til) >= ago {
		before = w.passed[k].end
		k++
	}
	if k > 1 { // the last one that is old enough stays, to be found again
		w.passed = append(w.passed[:0], w.passed[k-1:]...)
	}
	return before
}

// completeFor is the last second up to which every input that could add to the group
// has been read: only then its silence is one.
func (w *watch) completeFor(g *group) int64 {
	e := w.engine
	if e.now.Before(e.settled) {
		return g.base.at
	}
	complete := w.decided
	for _, s := range e.sources {
		if s.feeds[w.index] && e.lagging(s) && (s.fixed[w.index] == "" || s.fixed[w.index] == g.key) {
			complete = min(complete, s.reached-1)
		}
	}
	w.complete = max(w.complete, complete)
	return complete
}

// final is the last second that is not decided again but for late lines.
func (w *watch) final() int64 {
	if w.rule.quiet {
		return w.complete
	}
	return w.decided
}

// rewind takes the rule back to a clock that has jumped back: what lies in the future
// now is not over, and must not count twice when the clock gets there again.
func (w *watch) rewind() {
	wall := w.engine.wall
	far := w.end-wall > w.rule.lateness
	w.end, w.newest, w.decided = wall, min(w.newest, wall), min(w.decided, wall-1)
	w.passed = w.passed[:0]
	for _, g := range w.groups {
		g.rewind(wall, far)
	}
	for _, s := range w.engine.sources {
		s.reached = min(s.reached, wall)
	}
}

// accepts tells whether a line of that second is counted, and counts it as late or
// future otherwise.
func (w *watch) accepts(sec int64, lines uint32) bool {
	if w.inTime(sec) {
		return true
	}
	w.untimely(sec, lines)
	return false
}

// untimely counts lines that are not counted.
func (w *watch) untimely(sec int64, lines uint32) {
	if sec > w.engine.wall {
		w.stats.Future += uint64(lines)
	} else {
		w.stats.Late += uint64(lines)
	}
}

// timely are the first and the last second whose lines are counted.
func (w *watch) timely() (oldest, newest int64) {
	oldest = -never
	if w.end != -never {
		oldest = w.end - w.horizon
	}
	return oldest, w.engine.wall + w.rule.lateness
}

func (w *watch) inTime(sec int64) bool {
	oldest, newest := w.timely()
	return oldest <= sec && sec <= newest
}

// admit returns the group of that key, made when it is new; nil when there are
// max_groups already.
func (w *watch) admit(key string, sec int64, lines uint32) *group {
	if g := w.groups[key]; g != nil {
		return g
	}
	if len(w.groups) >= w.rule.cfg.MaxGroups || w.engine.closed() {
		w.overflow(key, uint64(lines))
		return nil
	}
	g := newGroup(w, key, sec)
	if w.lead.node {
		g.changed = make(map[int64]changes)
	}
	if w.engine.replaying { // what came before was decided without it
		g.base.at = max(g.base.at, w.final())
	}
	g.altered = true
	w.groups[key] = g
	return g
}

// number gives a new group its number.
func (w *watch) number(g *group) {
	if n := len(w.unused); n > 0 {
		g.number, w.unused = w.unused[n-1], w.unused[:n-1]
		w.numbered[g.number] = g
		return
	}
	g.number = uint32(len(w.numbered))
	w.numbered = append(w.numbered, g)
}

// overflow counts lines of a group that is left out, and names it.
func (w *watch) overflow(key string, lines uint64) {
	w.stats.Overflow += lines
	if len(w.stats.Overflowed) < maxOverflowed && !slices.Contains(w.stats.overflowed, key) {
		w.stats.overflowed = append(w.stats.overflowed, key)
		w.stats.Overflowed = append(w.stats.Overflowed, showKey(w.rule, key))
	}
}

// passTouched decides the groups that a flush added to.
func (w *watch) passTouched() {
	w.advance()
	for _, g := range w.pressed {
		g.digest()
		g.pressed = false
		if w.behind && !g.mayWait() {
			g.pass()
		}
	}
	w.pressed = w.pressed[:0]
	if w.behind {
		return // for the others the next Tick suffices
	}
	w.digest()
	for _, g := range w.touched {
		g.listed = false
		if g.touched && !g.mayWait() { // else it was passed while the inputs were behind
			g.pass()
		}
	}
	w.touched = w.touched[:0]
}

func (w *watch) emit(kind Kind, g *group, in *open, resolved int64) {
	e := w.engine
	in.Notices++
	in.Notified, in.Rising, in.remind = e.now.UnixMilli(), false, false
	w.stats.Events++
	g.altered = true
	if w.lead.node {
		g.noteTold(in, kind == Resolved)
	}
	e.emitFn(Event{Kind: kind, At: e.now, Incident: g.incident(in, resolved), Key: []byte(g.key)})
}
