package agent

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/ack"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/source/tail"
)

// flow is one file generation on its way to the outputs of its input. It exists
// while there is something to do for the file; the file's own Progress outlives it.
type flow struct {
	agent *Agent
	file  feed
	place int // the scheduler's, guarded by it

	// What follows is used by the worker whose turn it is, and by others only while
	// the scheduler is paused.

	in     *input
	view   *view
	pod    *podFlow       // nil where the file is no container's log
	format *parser.Format // what auto decided on, or the view's own
	sure   bool           // the decision stands

	lead *chain
	lags []*chain
	tap  *tap // nil where no rule watches the input
	// sealed are blocks that may leave only once what names or bounds them is on
	// disk. While there are any, the flow does not run.
	sealed []sealedBlock

	retryAt time.Time // when a file that could not be read is tried again
	// counted is, by stream, the offset before which events have been counted and
	// observed, whichever chain came by first.
	counted [record.StreamStderr + 1]int64
	// shipped is the offset before which bytes have been counted, as read for an output
	// or as abandoned: each once. The worker writes it, the ledger reads it.
	shipped atomic.Int64

	mu     sync.Mutex // guards tracks and cuts against the savers and the status page
	tracks []*track
	// cuts are the places, in rising order, at which a time limit ended an event
	// that some output may have to read again.
	cuts    []record.Cut
	lost    []record.Lost // ranges that an output will never have
	growth  growth
	blocked map[*output]time.Time // since when an output has had no room for this flow

	kept tail.Progress // what is kept with the file and does not change while it flows

	dirty        atomic.Bool          // a position or a cut is to be saved
	heir         atomic.Pointer[flow] // the next generation's, when it waits for this one
	troubled     atomic.Bool          // the file could not be read
	left         atomic.Bool          // its input is gone: nothing more is read
	readTo       atomic.Int64         // how far the furthest chain has come, for status and metrics
	seen         atomic.Int64         // the end of the file as a chain met it: past what is pending
	firstTime    atomic.Int64         // the earliest time of a line that a chain began with, Unix ms; 0: none
	flush        atomic.Bool          // drain: send an unfinished last line too
	quietAt      time.Time            // since when there has been nothing to do; the driver's
	watchedAt    int64                // the driver's watchdog: the position it saw,
	watchedSince time.Time            // and since when
	stalled      atomic.Bool
	due          atomic.Int64 // when a pending event's time limit ends, Unix ns; 0: none
}

// track is what one output has of this file.
type track struct {
	out *output
	*ack.Tracker
	start int64 // where it began
	// commits is set where the output's deliveries are only final with its own state;
	// final is then the position that goes with it.
	commits  bool
	final    record.Pos
	finalSum record.Sum
	at       atomic.Int64 // the offset before which everything has been put into the queue
	waits    atomic.Bool  // the flow is to be woken when something of it has been delivered
}

func newTrack(out *output, pos record.Pos, sum record.Sum) *track {
	t := &track{out: out, Tracker: ack.New(pos, sum), start: pos.Off, final: pos}
	_, t.finalSum = t.Sum()
	_, t.commits = out.sink.(sink.Committer)
	t.at.Store(pos.Off)
	return t
}

// room reports whether out takes another block of the flow; if not, the flow is woken
// when it does.
func (t *track) room(f *flow) bool {
	if !f.turnHasCome(t.out) {
		return false
	}
	if t.crowds() {
		t.waits.Store(true)
		if t.crowds() {
			return false
		}
	}
	return t.out.roomOrPark(f)
}

// crowds reports whether the flow has a quarter of the output's room while half of it
// is taken. A file that is stuck (its partition is, or its index) or only loud leaves
// room for the others.
func (t *track) crowds() bool {
	_, own := t.InFlight()
	limit := t.out.queue.Limit()
	if own < limit/4 {
		return false
	}
	waiting, inFlight := t.out.queue.Bytes()
	return waiting+inFlight >= limit/2
}

// saved is the position to be saved.
func (t *track) saved() record.Pos {
	pos, _ := t.savedSum()
	return pos
}

// savedSum is the position to be saved, with what lies before it.
func (t *track) savedSum() (record.Pos, record.Sum) {
	if t.commits {
		return t.final, t.finalSum
	}
	return t.Sum()
}

// committed notes that what out has of the file now is final.
func (f *flow) committed(out *output) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		if t.out == out && t.final != t.Safe() {
			t.final, t.finalSum = t.Sum()
			f.dirty.Store(true)
		}
	}
}

// chain reads a flow's file for the outputs that are at the same place.
type chain struct {
	flow    *flow
	members []*track
	pos     record.Pos
	// prev are the last bytes before pos, for its Tail: record.TailBytes of them, or
	// as many as there are.
	prev []byte
	// pending are the bytes after pos that were read and are not sent yet.
	pending []byte
	unsent  int64 // how many those are, though too many to be kept
	timed   bool  // an event with a time has been met
	atEnd   bool  // pos is where the file ends now
	limit   int64 // where the generation ends while its last event is joined with the next's head

	// Made when first needed, dropped when the flow's format changes.
	framer parser.Framer
	parser parser.Parser
	origin *record.Origin
	rec    record.Record
	// unspool is framer and parser where the flow is what was received, nil otherwise.
	unspool *unspooler
	project string // the events'

	skipped parser.Skipped // what the framer had passed over when it was last asked
	counts  lineCounts     // of this turn
}

// sealedBlock waits for the checkpoint.
type sealedBlock struct {
	block   *record.Block
	members []*track
	to      record.Pos
	save    uint64 // the checkpoint to wait for
}

// newFlow takes a file up where its outputs have got to.
func newFlow(a *Agent, f feed, in *input) *flow {
	fl := &flow{agent: a, file: f, in: in, blocked: make(map[*output]time.Time)}
	p := f.Progress()
	fl.cuts = p.Cuts
	fl.kept = tail.Progress{Format: p.Format, Head: p.Head, Notes: p.Notes}
	fl.openPod(p.Notes)
	fl.lost = p.Lost
	fl.adopt(p, fl.start())
	fl.see(fl.viewNow())
	return fl
}

// viewNow is the way in which the file is to be read by what is known now.
func (f *flow) viewNow() *view {
	if f.pod != nil {
		return f.podView()
	}
	return f.in.view(f.file)
}

// start is where an output begins when none has had anything of the file.
func (f *flow) start() record.Pos {
	start := f.file.Start()
	if head := f.file.Progress().Head; head > start.Off {
		start = record.Pos{Off: head}
	}
	return start
}

// first reports whether no chain has come by this event before, and notes that one
// has now.
func (f *flow) first(ev *parser.Event) bool {
	if ev.Off < f.counted[ev.Stream] {
		return false
	}
	f.counted[ev.Stream] = ev.Off + 1
	return true
}

// began notes the time of the first event that a chain meets.
func (f *flow) began(unixMilli int64, c *chain) {
	if c.timed {
		return
	}
	c.timed = true
	if was := f.firstTime.Load(); was == 0 || unixMilli < was {
		f.firstTime.Store(unixMilli)
	}
}

// adopt makes the tracks and the chains for the input's outputs: the furthest one
// leads, the others follow from where they are.
func (f *flow) adopt(p tail.Progress, start record.Pos) {
	unknown := unknownPos(p.Pos, start)
	f.mu.Lock()
	f.tracks = f.tracks[:0]
	f.lead, f.lags = nil, nil
	for _, out := range f.in.outputs {
		pos, known := p.Pos[out.name]
		if !known {
			pos = unknown
		}
		f.tracks = append(f.tracks, newTrack(out, pos, p.Sums[out.name]))
	}
	f.mu.Unlock()
	slices.SortStableFunc(f.tracks, func(a, b *track) int { return cmp.Compare(b.Safe().Off, a.Safe().Off) })
	for _, t := range f.tracks {
		f.join(t, t.Safe())
	}
	pos := f.lead.pos
	for stream := range f.counted {
		f.counted[stream] = pos.Off
	}
	f.counted[pos.AheadStream] = max(pos.Off, pos.Ahead)
	f.readTo.Store(pos.Off)
	f.shipped.Store(pos.Off)
}

// unknownPos is where an output begins that has never had anything of the file:
// with the slowest of the others, so that one that was renamed goes on without a
// gap, and at the start when there is none.
func unknownPos(saved map[string]record.Pos, start record.Pos) record.Pos {
	first := true
	for _, p := range saved {
		if first || p.Off < start.Off {
			start, first = p, false
		}
	}
	return start
}

// join puts an output that stands at pos to a chain that is there, or gives it one.
func (f *flow) join(t *track, pos record.Pos) {
	if f.lead == nil {
		f.lead = &chain{flow: f, pos: pos, members: []*track{t}}
		return
	}
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		if samePlace(c.pos, pos) {
			c.members = append(c.members, t)
			return
		}
	}
	f.lags = append(f.lags, &chain{flow: f, pos: pos, members: []*track{t}})
}

func samePlace(a, b record.Pos) bool {
	return a.Off == b.Off && a.Ahead == b.Ahead && a.AheadStream == b.AheadStream
}

// leave gives the members of the lead chain that have had no room for too long a
// chain of their own at the same place, and reports whether there were any.
func (f *flow) leave(c *chain, now time.Time) bool {
	staying := c.members[:0:0]
	var leaving []*track
	for _, t := range c.members {
		if since, blocked := f.blocked[t.out]; blocked && now.Sub(since) >= detachAfter {
			leaving = append(leaving, t)
		} else {
			staying = append(staying, t)
		}
	}
	if len(leaving) == 0 || len(staying) == 0 && !f.in.observed {
		return false
	}
	c.members = staying
	for _, t := range leaving {
		delete(f.blocked, t.out)
		f.lags = append(f.lags, &chain{flow: f, pos: c.pos, prev: slices.Clone(c.prev), unsent: c.unsent,
			pending: slices.Clone(c.pending), members: []*track{t}})
	}
	return true
}

// detachAfter is how long an output may have no room before the chain goes on
// without it. Shorter stalls are cheaper to wait for than to read twice.
const detachAfter = time.Second

// rejoin merges chains that have met, drops those that read for nobody, and lets the
// furthest lead, as an output of the old lead may be down.
func (f *flow) rejoin() {
	chains := append([]*chain{f.lead}, f.lags...)
	if !f.in.observed {
		chains = slices.DeleteFunc(chains, func(c *chain) bool { return len(c.members) == 0 })
	}
	if len(chains) == 0 {
		return
	}
	slices.SortStableFunc(chains, func(a, b *chain) int { return cmp.Compare(b.pos.Off, a.pos.Off) })
	met := chains[:1]
	for _, c := range chains[1:] {
		if last := met[len(met)-1]; samePlace(last.pos, c.pos) {
			last.members = append(last.members, c.members...)
			continue
		}
		met = append(met, c)
	}
	if f.lead != met[0] {
		clear(f.blocked)
	}
	f.lead, f.lags = met[0], met[1:]
}

// turn runs each chain for a while and says whether there is more to do at once.
func (f *flow) turn(w *worker) (again bool) {
	if !f.unseal() {
		return false // the saver wakes the flow
	}
	if f.left.Load() {
		return false
	}
	now := time.Now()
	if f.pod != nil && !f.meetPod(now) {
		return false
	}
	f.retryAt = time.Time{}
	f.troubled.Store(false)
	defer f.wakeHeir()
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		again = c.turn(w, now) || again
		if len(f.sealed) > 0 {
			again = false
			break
		}
	}
	if len(f.lags) > 0 {
		f.rejoin()
	}
	if !again && f.agent.crowded.Load() {
		f.lighten()
	}
	f.noteDue()
	return again
}

// lighten gives back what the chains can make again, while there are thousands of
// flows. What is pending stays with the framers.
func (f *flow) lighten() {
	if f.received() {
		return
	}
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		c.parser, c.origin, c.rec = nil, nil, record.Record{}
	}
}

// unseal sends the blocks whose checkpoint is on disk, and reports whether none is
// left.
func (f *flow) unseal() bool {
	for len(f.sealed) > 0 && f.agent.saver.saved(f.sealed[0].save) {
		s := f.sealed[0]
		f.sealed = slices.Delete(f.sealed, 0, 1)
		f.send(s.block, s.members, s.to)
	}
	return len(f.sealed) == 0
}

// noteDue tells the driver when the flow must run though its file does not grow.
func (f *flow) noteDue() {
	var first time.Time
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		if c.framer == nil {
			continue
		}
		if at, ok := c.framer.Due(); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !f.retryAt.IsZero() {
		first = f.retryAt
	}
	if len(f.blocked) > 0 {
		first = time.Now().Add(detachAfter / 4) // to go on without the output that blocks
	}
	if first.IsZero() {
		f.due.Store(0)
	} else {
		f.due.Store(first.UnixNano())
	}
}

// trouble logs what keeps the file from being read and lets the flow rest for a
// while; the others go on.
func (f *flow) trouble(now time.Time, err error) {
	f.retryAt = now.Add(retryAfter)
	f.troubled.Store(true)
	f.agent.log.Warn("file cannot be read; other files go on, and it is tried again", "file", f.file.CurrentPath(),
		"error", err, "again_in", retryAfter)
}

const retryAfter = 5 * time.Second

// progress is what is to be saved: per output the position before which it has
// everything, and the cuts after the least of them.
func (f *flow) progress() tail.Progress {
	p := f.kept
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Pos = make(map[string]record.Pos, len(f.tracks))
	p.Sums = make(map[string]record.Sum, len(f.tracks))
	p.Lost = slices.Clone(f.lost)
	least := int64(-1)
	for _, t := range f.tracks {
		pos, sum := t.savedSum()
		p.Pos[t.out.name], p.Sums[t.out.name] = pos, sum
		if least < 0 || pos.Off < least {
			least = pos.Off
		}
	}
	f.cuts = slices.DeleteFunc(f.cuts, func(c record.Cut) bool { return c.Off < least })
	p.Cuts = slices.Clone(f.cuts)
	if f.sure {
		p.Format = f.format.Name()
	}
	if f.pod != nil {
		p.Notes = f.pod.notes
	}
	return p
}

// delivered reports whether every output has everything up to the file's present end.
func (f *flow) delivered() bool {
	size := f.file.Size()
	if size < 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		if n, _ := t.InFlight(); n > 0 || t.saved().Off < size {
			return false
		}
	}
	return true
}
