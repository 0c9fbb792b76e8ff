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
	file  *tail.File
	place int // the scheduler's, guarded by it

	// What follows is used by the worker whose turn it is, and by others only while
	// the scheduler is paused.

	in     *input
	format *parser.Format // what auto decided on, or the input's own
	sure   bool           // the decision stands

	lead *chain
	lags []*chain
	// sealed are blocks that may leave only once what names or bounds them is on
	// disk. While there are any, the flow does not run.
	sealed []sealedBlock

	retryAt time.Time // when a file that could not be read is tried again
	// counted is the offset before which the lead has counted and observed lines.
	counted int64

	mu     sync.Mutex // guards tracks and cuts against the savers and the status page
	tracks []*track
	// cuts are the places, in rising order, at which a time limit ended an event
	// that some output may have to read again.
	cuts    []record.Cut
	blocked map[*output]time.Time // since when an output has had no room for this flow

	dirty        atomic.Bool  // a position has moved since it was last saved
	readTo       atomic.Int64 // the lead chain's position, for status and metrics
	flush        atomic.Bool  // drain: send an unfinished last line too
	quietAt      time.Time    // since when there has been nothing to do; the driver's
	watchedAt    int64        // the driver's watchdog: the position it saw,
	watchedSince time.Time    // and since when
	stalled      atomic.Bool
	due          atomic.Int64 // when a pending event's time limit ends, Unix ns; 0: none
}

// track is what one output has of this file.
type track struct {
	out *output
	*ack.Tracker
	// commits is set where the output's deliveries are only final with its own state;
	// final is then the position that goes with it.
	commits bool
	final   record.Pos
}

func newTrack(out *output, pos record.Pos) *track {
	t := &track{out: out, Tracker: ack.New(pos), final: pos}
	_, t.commits = out.sink.(sink.Committer)
	return t
}

// saved is the position to be saved.
func (t *track) saved() record.Pos {
	if t.commits {
		return t.final
	}
	return t.Safe()
}

// committed notes that what out has of the file now is final.
func (f *flow) committed(out *output) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		if t.out == out && t.final != t.Safe() {
			t.final = t.Safe()
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
	limit   int64 // where the generation ends while its last event is joined with the next's head

	// Made when first needed, dropped when the flow's format changes.
	framer parser.Framer
	parser parser.Parser
	origin *record.Origin
	rec    record.Record

	counts lineCounts // of this turn; the lead chain's alone
}

// sealedBlock waits for the checkpoint.
type sealedBlock struct {
	block   *record.Block
	members []*track
	to      record.Pos
	save    uint64 // the checkpoint to wait for
}

// newFlow takes a file up where its outputs have got to.
func newFlow(a *Agent, f *tail.File, in *input) *flow {
	fl := &flow{agent: a, file: f, in: in, blocked: make(map[*output]time.Time)}
	p := f.Progress()
	fl.cuts = p.Cuts
	fl.format, fl.sure = in.format.Restore(p.Format)
	start := f.Start()
	if p.Head > start.Off {
		start = record.Pos{Off: p.Head}
	}
	fl.adopt(p.Pos, start)
	return fl
}

// adopt makes the tracks and the chains for the input's outputs: the furthest one
// leads, the others follow from where they are.
func (f *flow) adopt(saved map[string]record.Pos, start record.Pos) {
	unknown := unknownPos(saved, start)
	f.mu.Lock()
	f.tracks = f.tracks[:0]
	f.lead, f.lags = nil, nil
	for _, out := range f.in.outputs {
		pos, known := saved[out.name]
		if !known {
			pos = unknown
		}
		f.tracks = append(f.tracks, newTrack(out, pos))
	}
	f.mu.Unlock()
	slices.SortStableFunc(f.tracks, func(a, b *track) int { return cmp.Compare(b.Safe().Off, a.Safe().Off) })
	for _, t := range f.tracks {
		f.join(t, t.Safe())
	}
	f.counted = f.lead.pos.Off
	f.readTo.Store(f.lead.pos.Off)
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
// chain of their own at the same place.
func (f *flow) leave(c *chain, now time.Time) {
	staying := c.members[:0:0]
	var leaving []*track
	for _, t := range c.members {
		since, blocked := f.blocked[t.out]
		if blocked && now.Sub(since) >= detachAfter && !t.out.queue.Room() {
			leaving = append(leaving, t)
			delete(f.blocked, t.out)
		} else {
			staying = append(staying, t)
		}
	}
	if len(leaving) == 0 || len(staying) == 0 && !f.in.observed {
		return
	}
	c.members = staying
	for _, t := range leaving {
		f.lags = append(f.lags, &chain{flow: f, pos: c.pos, prev: slices.Clone(c.prev), members: []*track{t}})
	}
}

// detachAfter is how long an output may have no room before the chain goes on
// without it. Shorter stalls are cheaper to wait for than to read twice.
const detachAfter = time.Second

// rejoin merges chains that have met, and lets the furthest lead: it is the one that
// counts, and an output of the old lead may be down.
func (f *flow) rejoin() {
	chains := append([]*chain{f.lead}, f.lags...)
	slices.SortStableFunc(chains, func(a, b *chain) int { return cmp.Compare(b.pos.Off, a.pos.Off) })
	met := chains[:1]
	for _, c := range chains[1:] {
		if last := met[len(met)-1]; samePlace(last.pos, c.pos) {
			last.members = append(last.members, c.members...)
			continue
		}
		met = append(met, c)
	}
	f.lead, f.lags = met[0], met[1:]
}

// turn runs each chain for a while and says whether there is more to do at once.
func (f *flow) turn(w *worker) (again bool) {
	if !f.unseal() {
		return false // the saver wakes the flow
	}
	now := time.Now()
	f.retryAt = time.Time{}
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
	f.noteDue()
	return again
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
	if len(f.blocked) > 0 && (f.in.observed || len(f.lead.members) > 1) {
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
	f.agent.log.Warn("file cannot be read; other files go on, and it is tried again", "file", f.file.CurrentPath(),
		"error", err, "again_in", retryAfter)
}

const retryAfter = 5 * time.Second

// progress is what is to be saved: per output the position before which it has
// everything, and the cuts after the least of them.
func (f *flow) progress() tail.Progress {
	p := f.file.Progress()
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Pos = make(map[string]record.Pos, len(f.tracks))
	least := int64(-1)
	for _, t := range f.tracks {
		pos := t.saved()
		p.Pos[t.out.name] = pos
		if least < 0 || pos.Off < least {
			least = pos.Off
		}
	}
	p.Cuts = nil
	for _, c := range f.cuts {
		if c.Off >= least {
			p.Cuts = append(p.Cuts, c)
		}
	}
	if f.sure {
		p.Format = f.format.Name()
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
