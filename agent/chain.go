package agent

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

const (
	turnBytes  = 1 << 20   // what a chain may read before the others' turn
	readBytes  = 256 << 10 // a worker's read buffer
	headBytes  = 32 << 10  // what auto decides a file's format from
	blockBytes = 256 << 10 // a block is handed on when it holds this much
)

// turn reads and hands on up to turnBytes, and says whether there is more to do at
// once: false when the file's end is reached, or when an output has no room and will
// wake the flow.
func (c *chain) turn(w *worker, now time.Time) (again bool) {
	defer c.flushCounts()
	ready, err := c.prepare(w)
	if gone := (*tail.GoneError)(nil); errors.As(err, &gone) {
		c.gone(w, gone, now)
	} else if err != nil && err != io.EOF {
		c.flow.trouble(now, err)
	}
	if !ready {
		return false
	}
	budget := turnBytes
	for asked := false; budget > 0; {
		if !c.room(now) {
			return false
		}
		c.recall()
		n, err := c.flow.file.ReadAt(w.data(), c.pos)
		if gone := (*tail.GoneError)(nil); errors.As(err, &gone) {
			c.gone(w, gone, now)
			return false
		}
		if err != nil && err != io.EOF {
			c.flow.trouble(now, err)
			return false
		}
		if err == io.EOF && int64(n) < c.unsent {
			// It was truncated, or is another. What is pending must outlast this look:
			// it may be all that is left of the line.
			return false
		}
		w.remember(c.prev)
		look := parser.Look{Data: w.data()[:n], Base: c.pos.Off, Now: now, AtEnd: err == io.EOF}
		from := c.pos.Off
		whole := c.consumeLook(w, &look)
		c.atEnd = look.AtEnd && whole
		c.handOn(w)
		if look.AtEnd && whole {
			c.flow.seen.Store(look.Base + int64(n))
			c.flow.reached(c)
		}
		c.prev = w.before(c.prev[:0], int(c.pos.Off-from))
		c.keepPending(&look)
		switch {
		case len(c.flow.sealed) > 0 || look.AtEnd && whole:
			return false
		case c.pos.Off == from && whole && n < len(w.data()) && !asked:
			// No event ends in all that there is to read, and yet this is not the file's end.
			if asked = true; c.isGone(w, from+int64(n), now) {
				return false
			}
		case c.pos.Off == from && whole:
			if !w.widen(c.framer.Window()) {
				c.flow.trouble(now, fmt.Errorf("offset %d: no event ends within %d bytes", c.pos.Off, len(w.data())))
				return false
			}
		}
		if n > 0 && whole && c.pos.Off == from+int64(n) && look.Data[0] == 0 {
			c.leapHole(w, from)
		}
		budget -= int(c.pos.Off - from)
	}
	return true
}

// isGone asks for what follows at off. When it can never be read, the chain goes on behind
// it, and what is pending is sent.
func (c *chain) isGone(w *worker, off int64, now time.Time) bool {
	var next [1]byte
	_, err := c.flow.file.ReadAt(next[:], record.Pos{Off: off})
	gone := (*tail.GoneError)(nil)
	if errors.As(err, &gone) {
		c.gone(w, gone, now)
		return true
	}
	return false
}

// leapHole goes on behind a hole in the file, without reading all of it, when the look
// that began at from held nothing else. A program that does not append leaves one
// before its lines after each copytruncate, as long as all that it has ever written.
func (c *chain) leapHole(w *worker, from int64) {
	look := w.data()[:c.pos.Off-from]
	if bytes.Count(look, nul) < len(look) {
		return
	}
	to := c.flow.file.HoleEnd(c.pos.Off)
	if to <= c.pos.Off {
		return
	}
	if shipped := c.flow.shipped.Load(); len(c.members) > 0 && to > shipped {
		c.counts.nulBytes += to - max(c.pos.Off, shipped)
	}
	c.pos = record.Pos{Off: to, Time: c.pos.Time}
	c.prev = c.prev[:0]
	c.flow.mu.Lock()
	c.framer.Reset(c.pos, c.flow.cuts)
	c.flow.mu.Unlock()
	c.handOn(w)
}

var nul = []byte{0}

// recall reads the bytes before the place where the chain takes the file up, which the
// sums of its next positions cover too.
func (c *chain) recall() {
	want := min(c.pos.Off, record.TailBytes)
	if len(c.prev) > 0 || want == 0 {
		return
	}
	before := make([]byte, want)
	n, err := c.flow.file.ReadAt(before, record.Pos{Off: c.pos.Off - want})
	if (err == nil || err == io.EOF) && n == len(before) && (c.pos.Tail == 0 || record.TailSum(before) == c.pos.Tail) {
		c.prev = before
	}
}

// reached tells how far the file has been read. A block that waits for a checkpoint
// must be under way before the next generation's first.
func (f *flow) reached(c *chain) {
	if len(f.sealed) == 0 {
		f.file.Reached(c.pos.Off)
	}
}

// consumeLook turns the look's events into documents, those at the file's end too
// when they are known to be complete. It says whether it has seen all of the look.
func (c *chain) consumeLook(w *worker, look *parser.Look) (whole bool) {
	f := c.flow
	if !look.AtEnd {
		return c.consume(w, look)
	}
	ended := f.flush.Load() || f.file.Ended()
	next := f.next()
	if next == nil {
		look.Flush = ended
		return c.consume(w, look)
	}
	look.AtEnd = false // no time limit: the next generation decides
	whole = c.consume(w, look)
	look.AtEnd = true
	return whole && len(f.sealed) == 0 && c.crossOver(w, look, next, ended)
}

// prepare makes what a chain needs to read, which idle files do without. It says
// whether there is something to see, and what keeps the file's head from being seen.
func (c *chain) prepare(w *worker) (ready bool, err error) {
	f := c.flow
	if !f.sure {
		err = f.decide(w.data()[:headBytes])
	}
	if !f.format.Decided() && !f.received() {
		return false, err
	}
	if c.framer == nil && f.received() {
		c.unspool = newUnspooler(f.in)
		c.framer, c.parser, c.skipped = c.unspool, c.unspool, parser.Skipped{}
		c.framer.Reset(c.pos, nil)
	}
	if c.framer == nil {
		framer, err := f.format.NewFramer()
		if err != nil {
			f.trouble(time.Now(), err)
			return false, nil
		}
		c.framer, c.skipped = framer, parser.Skipped{}
		f.mu.Lock()
		c.framer.Reset(c.pos, f.cuts)
		f.mu.Unlock()
	}
	if c.parser == nil {
		c.parser = f.format.NewParser()
	}
	if c.origin == nil {
		c.project, c.origin = f.view.project, f.origin()
		c.rec.Reserve(f.view.keys)
	}
	return true, nil
}

// decide lets auto look at the file's first lines, again as long as it is not sure.
// head is memory to use.
func (f *flow) decide(head []byte) error {
	n, err := f.file.ReadAt(head, record.Pos{})
	if n == 0 && err != nil {
		return err // what was decided so far stands
	}
	was := f.format
	f.format, f.sure = f.view.format.Detect(head[:n])
	f.sure = f.sure || n == len(head)
	if f.sure && !f.view.format.Decided() {
		f.in.tellFormat(f.file.Path(), f.format.Name())
	}
	if was != f.format {
		f.dropParsers()
	}
	return nil
}

// dropParsers makes the chains build framer and parser anew at their positions.
func (f *flow) dropParsers() {
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		c.framer, c.parser, c.origin = nil, nil, nil
	}
}

// enter makes what follows events of the project.
func (c *chain) enter(project []byte) {
	if c.project == string(project) {
		return
	}
	c.flushCounts()
	c.project = string(project)
	c.origin = c.unspool.originOf(c.flow, c.project)
}

// flushCounts adds what has been counted to what everybody sees.
func (c *chain) flushCounts() { c.counts.flush(c.flow, c.project) }

// room reports whether each member can take another block. Where one cannot, it
// will wake the flow when it can, and after detachAfter the lead goes on without it.
func (c *chain) room(now time.Time) bool {
	f := c.flow
	canLeave := c == f.lead && (f.in.observed || len(c.members) > 1)
	full := false
	for _, t := range c.members {
		if t.room(f) {
			delete(f.blocked, t.out)
			continue
		}
		full = true
		if _, since := f.blocked[t.out]; canLeave && !since {
			f.blocked[t.out] = now
		}
	}
	if !full || !canLeave || !f.leave(c, now) {
		return !full
	}
	for _, t := range c.members {
		if !t.room(f) {
			return false
		}
	}
	return true
}

// consume turns the look's events into documents. It says whether it has seen all of
// the look; not so when the outputs' room ended first.
func (c *chain) consume(w *worker, look *parser.Look) (whole bool) {
	for {
		ev, ok := c.framer.Next(look)
		if !ok {
			c.moveTo(w, c.framer.Pos(), look.Base)
			return true
		}
		c.event(w, &ev)
		if ev.Timed {
			if c.limit == 0 || ev.Cut.Off <= c.limit {
				c.flow.cut(c, ev.Cut)
			}
			w.timed = true
		}
		if len(w.block.Data) >= blockBytes {
			c.moveTo(w, c.framer.Pos(), look.Base)
			c.handOn(w)
			if len(c.flow.sealed) > 0 || !c.room(look.Now) {
				return false
			}
		}
	}
}

// event parses one event, counts it, and encodes it if it is to be kept.
func (c *chain) event(w *worker, ev *parser.Event) {
	if c.unspool != nil {
		c.enter(c.unspool.project)
	}
	r := &c.rec
	r.Reset()
	c.parser.Parse(ev.Text, r)
	r.Partial, r.Truncated = ev.Partial, ev.Truncated
	at, own := c.timeOf(r, ev)
	keep := c.flow.view.keeps(r.Level)
	if c.flow.first(ev) {
		c.counts.observe(r, keep)
	}
	c.flow.observe(c, ev, r, at)
	if keep && len(c.members) > 0 {
		w.block.Append(c.origin, r, at, own, ev.Off)
	}
}

// timeOf is the event's own time, else the wrapper's, else that of the event before
// it, else the clock's.
func (c *chain) timeOf(r *record.Record, ev *parser.Event) (unixMilli int64, own bool) {
	switch {
	case ev.HasTime: // when it was written, or received
		c.flow.began(ev.Time, c)
	case r.HasTime:
		c.flow.began(r.Time, c)
	}
	switch {
	case r.HasTime:
		c.pos.Time = r.Time
	case ev.HasTime:
		c.pos.Time = ev.Time
	case c.pos.Time == 0:
		return time.Now().UnixMilli(), false
	}
	return c.pos.Time, true
}

// moveTo sets the chain's position, with the sum of the bytes before it.
func (c *chain) moveTo(w *worker, p record.Pos, base int64) {
	if c.limit > 0 && p.Off > c.limit {
		p = record.Pos{Off: c.limit}
	}
	p.Time, p.Tail = c.pos.Time, w.tailSum(int(p.Off-base), p.Off)
	c.pos = p
}

// keepPending keeps the bytes of an event that is not complete, should the file be
// truncated before it is.
func (c *chain) keepPending(look *parser.Look) {
	rest := look.Data[c.pos.Off-look.Base:]
	c.unsent = int64(len(rest))
	c.pending = c.pending[:0]
	if len(rest) <= maxPending {
		c.pending = append(c.pending, rest...)
	}
}

const maxPending = 64 << 10

// cut keeps the place where a time limit ended an event, and tells the other chains,
// which are to end it there too.
func (f *flow) cut(by *chain, c record.Cut) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, known := range f.cuts {
		if known == c {
			return
		}
	}
	f.cuts = append(f.cuts, c)
	f.dirty.Store(true) // the checkpoint that is waited for must hold it
	slices.SortFunc(f.cuts, func(a, b record.Cut) int { return cmp.Compare(a.Off, b.Off) })
	for _, other := range append([]*chain{f.lead}, f.lags...) {
		if other != by && other.framer != nil {
			other.framer.Reset(other.pos, f.cuts)
		}
	}
}

// handOn gives what the worker's block holds to the chain's members, with the
// position that they will have reached then. A block that a time limit has bounded
// waits until that is on disk.
func (c *chain) handOn(w *worker) {
	f := c.flow
	c.rememberCount()
	f.observed(c, c.atEnd)
	c.atEnd = false
	if len(w.block.Docs) == 0 {
		if !w.timed {
			f.advance(c.members, c.pos)
			return
		}
	}
	b := w.take()
	if !w.timed {
		f.send(b, c.members, c.pos)
		return
	}
	w.timed = false
	f.sealed = append(f.sealed, sealedBlock{b, slices.Clone(c.members), c.pos, f.agent.saver.next()})
	f.agent.saver.request(f)
}

// rememberCount counts the bytes that no chain has read for an output before. A chain
// that reads for the alerts alone leaves them to be counted: they may yet be lost.
func (c *chain) rememberCount() {
	f := c.flow
	f.readTo.Store(max(c.pos.Off, f.readTo.Load()))
	n := c.pos.Off - f.shipped.Load()
	if len(c.members) == 0 {
		n = 0
	}
	if c.framer != nil && (c.pos.Off != f.shipped.Load() || c.framer.Skipped() != c.skipped) {
		now, was := c.framer.Skipped(), c.skipped
		c.skipped = now
		if passed := now.NULBytes + now.RestBytes + now.DamagedBytes - was.NULBytes - was.RestBytes - was.DamagedBytes; passed > 0 {
			for _, t := range c.members {
				t.Pass(0, passed)
			}
		}
		if n > 0 {
			c.counts.blankLines += now.BlankLines - was.BlankLines
			c.counts.nulBytes += now.NULBytes - was.NULBytes
			c.counts.restBytes += now.RestBytes - was.RestBytes
			c.counts.headBytes += now.HeadBytes - was.HeadBytes
			c.counts.damagedBytes += now.DamagedBytes - was.DamagedBytes
		}
	}
	if n > 0 {
		c.counts.bytes += n
		f.shipped.Store(c.pos.Off)
	}
}

// send puts the block into the members' queues.
func (f *flow) send(b *record.Block, members []*track, to record.Pos) {
	if len(b.Docs) == 0 || len(members) == 0 {
		f.advance(members, to)
		b.Release()
		return
	}
	b.Retain(len(members) - 1)
	for _, t := range members {
		delivery := t.Begin(to, len(b.Docs), int64(b.Size()))
		done := func() {
			delivery.Done()
			f.dirty.Store(true)
			f.agent.saver.delivered()
			if t.waits.CompareAndSwap(true, false) {
				f.agent.sched.wake(f)
			}
		}
		if !t.out.give(record.Parcel{Block: b, Done: done, Refused: func(int, string, string) { delivery.Refused() }}) {
			b.Release() // the output has ended: it will get this again from its safe position
		}
		t.at.Store(to.Off)
	}
}

// advance moves the members past bytes that hold nothing for them.
func (f *flow) advance(members []*track, to record.Pos) {
	for _, t := range members {
		t.Advance(to)
		t.at.Store(to.Off)
	}
	f.dirty.Store(true)
}

// gone sends what is known of the bytes that can never be read, counts the rest, and
// ends the chain there.
func (c *chain) gone(w *worker, e *tail.GoneError, now time.Time) {
	f := c.flow
	if len(c.pending) > 0 && c.framer != nil {
		end := c.pos.Off + int64(len(c.pending))
		w.remember(nil)
		c.consume(w, &parser.Look{Data: c.pending, Base: c.pos.Off, Now: now, AtEnd: true, Flush: true})
		c.pos = record.Pos{Off: end, Time: c.pos.Time}
		c.rememberCount()
	}
	if lost := e.To - c.pos.Off; lost > 0 {
		for _, t := range c.members {
			t.out.lose(f.in.name, e.Reason, lost)
			t.Pass(lost, 0)
		}
		// Abandoned is what no output has got.
		n := max(0, e.To-max(c.pos.Off, f.shipped.Load()))
		if n > 0 && len(c.members) > 0 {
			f.in.metrics.abandon(e.Reason, n)
			f.shipped.Store(e.To)
		}
		if len(c.members) > 0 {
			f.lose(record.Lost{From: c.pos.Off, To: e.To, Reason: e.Reason, Unread: n, Outputs: c.outputNames()})
		}
		f.agent.log.Error("bytes were gone before they were read; they are counted as abandoned", "file", f.file.Path(),
			"from", c.pos.Off, "to", e.To, "reason", e.Reason, "outputs", c.outputNames())
	}
	c.pos = record.Pos{Off: max(e.To, c.pos.Off), Time: c.pos.Time}
	c.prev, c.pending, c.unsent = c.prev[:0], c.pending[:0], 0
	if c.framer != nil {
		c.framer.Reset(c.pos, nil)
	}
	f.readTo.Store(max(c.pos.Off, f.readTo.Load()))
	c.handOn(w)
	f.seen.Store(c.pos.Off)
	f.reached(c)
}

// maxLost bounds the ranges that are told one by one; what is lost beyond them is
// added to the last one.
const maxLost = 20

// lose keeps a range that outputs will never have, for the ledger.
func (f *flow) lose(l record.Lost) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.lost); n >= maxLost {
		last := &f.lost[n-1]
		last.From, last.To, last.Unread = min(last.From, l.From), max(last.To, l.To), last.Unread+l.Unread
		return
	}
	f.lost = append(f.lost, l)
}

func (c *chain) outputNames() (names []string) {
	for _, t := range c.members {
		names = append(names, t.out.name)
	}
	return names
}
