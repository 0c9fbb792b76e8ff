package agent

import (
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
	blockBytes = 256 << 10 // a block is handed on when it holds this much
)

// turn reads and hands on up to turnBytes, and says whether there is more to do at
// once: false when the file's end is reached, or when an output has no room and will
// wake the flow.
func (c *chain) turn(w *worker, now time.Time) (again bool) {
	if !c.prepare() {
		return false
	}
	defer c.counts.flush(c.flow)
	budget := turnBytes
	for budget > 0 {
		if !c.room(now) {
			return false
		}
		n, err := c.flow.file.ReadAt(w.data(), c.pos)
		if gone := (*tail.GoneError)(nil); errors.As(err, &gone) {
			c.gone(w, gone, now)
			return false
		}
		if err != nil && err != io.EOF {
			c.flow.trouble(now, err)
			return false
		}
		w.remember(c.prev)
		look := parser.Look{Data: w.data()[:n], Base: c.pos.Off, Now: now, AtEnd: err == io.EOF}
		look.Flush = look.AtEnd && (c.flow.flush.Load() || c.flow.file.Ended())
		from := c.pos.Off
		whole := c.consume(w, &look)
		if look.AtEnd && whole {
			c.crossOver(w, &look)
			c.flow.file.Reached(c.pos.Off)
		}
		c.handOn(w)
		c.prev = w.before(c.prev[:0], int(c.pos.Off-from))
		c.keepPending(&look)
		switch {
		case len(c.flow.sealed) > 0 || look.AtEnd && whole:
			return false
		case c.pos.Off == from && whole:
			if !w.widen(c.framer.Window()) {
				c.flow.trouble(now, fmt.Errorf("offset %d: no event ends within %d bytes", c.pos.Off, len(w.data())))
				return false
			}
		}
		budget -= int(c.pos.Off - from)
	}
	return true
}

// prepare makes what a chain needs to read, which idle files do without.
func (c *chain) prepare() bool {
	f := c.flow
	if !f.sure {
		f.decide()
	}
	if !f.format.Decided() {
		return false // there is nothing to see yet
	}
	if c.framer == nil {
		framer, err := f.format.NewFramer()
		if err != nil {
			f.trouble(time.Now(), err)
			return false
		}
		c.framer = framer
		f.mu.Lock()
		c.framer.Reset(c.pos, f.cuts)
		f.mu.Unlock()
		c.parser = f.format.NewParser()
	}
	if c.origin == nil {
		c.origin = f.in.origin(f.file)
		c.rec.Reserve(f.in.reserved(f.file))
	}
	return true
}

// decide lets auto look at the file's first lines, again as long as it is not sure.
func (f *flow) decide() {
	head := make([]byte, 32<<10)
	n, err := f.file.ReadAt(head, record.Pos{})
	if n == 0 && err != nil {
		f.format = f.in.format // nothing to see; the turn will meet the error itself
		return
	}
	was := f.format
	f.format, f.sure = f.in.format.Detect(head[:n])
	f.sure = f.sure || n == len(head)
	if f.sure && !f.in.format.Decided() {
		f.agent.log.Info("format found", "file", f.file.Path(), "input", f.in.name, "format", f.format.Name())
	}
	if was != f.format {
		f.dropParsers()
	}
}

// dropParsers makes the chains build framer and parser anew at their positions.
func (f *flow) dropParsers() {
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		c.framer, c.parser, c.origin = nil, nil, nil
	}
}

// room reports whether each member can take another block. Where one cannot, it
// will wake the flow when it can, and after detachAfter the lead goes on without it.
func (c *chain) room(now time.Time) bool {
	f := c.flow
	full := false
	for _, t := range c.members {
		if t.out.roomOrPark(f) {
			delete(f.blocked, t.out)
			continue
		}
		full = true
		if _, since := f.blocked[t.out]; !since {
			f.blocked[t.out] = now
		}
	}
	if full && c == f.lead && (f.in.observed || len(c.members) > 1) {
		f.leave(c, now)
		full = false
		for _, t := range c.members {
			full = full || !t.out.queue.Room()
		}
	}
	return !full
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
			c.flow.cut(c, ev.Cut)
			w.timed = true
		}
		if len(w.block.Data) >= blockBytes {
			c.moveTo(w, c.framer.Pos(), look.Base)
			c.handOn(w)
			if !c.room(look.Now) || len(c.flow.sealed) > 0 {
				return false
			}
		}
	}
}

// event parses one event, counts it, and encodes it if it is to be kept.
func (c *chain) event(w *worker, ev *parser.Event) {
	r := &c.rec
	r.Reset()
	c.parser.Parse(ev.Text, r)
	r.Partial, r.Truncated = ev.Partial, ev.Truncated
	at, own := c.timeOf(r, ev)
	keep := c.flow.in.keeps(r.Level)
	if c == c.flow.lead && ev.Off >= c.flow.counted {
		c.counts.observe(r, keep)
	}
	if keep && len(c.members) > 0 {
		w.block.Append(c.origin, r, at, own, ev.Off)
	}
}

// timeOf is the event's own time, else the wrapper's, else that of the event before
// it, else the clock's.
func (c *chain) timeOf(r *record.Record, ev *parser.Event) (unixMilli int64, own bool) {
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
	p.Time, p.Tail = c.pos.Time, 0
	if w.knows(p.Off, base) {
		p.Tail = w.tailSum(int(p.Off - base))
	}
	c.pos = p
}

// keepPending keeps the bytes of an event that is not complete, should the file be
// truncated before it is.
func (c *chain) keepPending(look *parser.Look) {
	c.pending = c.pending[:0]
	if rest := look.Data[c.pos.Off-look.Base:]; len(rest) <= maxPending {
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

func (c *chain) rememberCount() {
	f := c.flow
	if c != f.lead {
		return
	}
	if n := c.pos.Off - f.readTo.Load(); n > 0 {
		c.counts.bytes += n
	}
	f.counted = max(f.counted, c.pos.Off)
	f.readTo.Store(max(c.pos.Off, f.readTo.Load()))
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
		done := t.Begin(to, int64(b.Size()))
		if !t.out.queue.Put(record.Parcel{Block: b, Done: func() {
			done()
			f.dirty.Store(true)
		}}) {
			b.Release() // the output has ended: it will get this again from its safe position
		}
	}
}

// advance moves the members past bytes that hold nothing for them.
func (f *flow) advance(members []*track, to record.Pos) {
	for _, t := range members {
		t.Advance(to)
	}
	f.dirty.Store(true)
}

// crossOver ends what is pending at the end of a file that has been rotated away:
// the head of its successor may go on with it (the second half of a stack trace).
func (c *chain) crossOver(w *worker, look *parser.Look) {
	next := c.flow.file.Next()
	if _, pending := c.framer.Due(); next == nil || !pending {
		return
	}
	joined := next.Progress().Head
	head := make([]byte, readBytes)
	if joined == 0 {
		n, _ := next.ReadAt(head, record.Pos{})
		if n == 0 {
			return // nothing written there yet; the time limit will decide
		}
		joined = int64(c.framer.Joins(look, head[:n]))
		if joined > 0 {
			p := next.Progress()
			p.Head = joined
			next.SetProgress(p)
			w.timed = true // on disk before it leaves
		}
	}
	end := look.Base + int64(len(look.Data))
	if joined > 0 {
		n, _ := next.ReadAt(head[:min(joined, int64(len(head)))], record.Pos{})
		look.Data = append(slices.Clip(look.Data), head[:n]...)
	}
	look.Flush = true
	c.limit = end // positions stay within this generation
	c.consume(w, look)
	c.limit = 0
	if joined > 0 {
		c.framer.Reset(c.pos, nil)
	}
	look.Data = look.Data[:end-look.Base]
}

// gone sends what is known of the bytes that can never be read, counts the rest, and
// ends the chain there.
func (c *chain) gone(w *worker, e *tail.GoneError, now time.Time) {
	f := c.flow
	known := c.pos.Off + int64(len(c.pending))
	if len(c.pending) > 0 {
		w.remember(nil)
		c.consume(w, &parser.Look{Data: c.pending, Base: c.pos.Off, Now: now, AtEnd: true, Flush: true})
		c.pending = c.pending[:0]
	}
	end := max(e.To, known)
	if lost := end - known; lost > 0 {
		f.in.metrics.abandon(e.Reason, lost)
		f.agent.log.Error("bytes were gone before they were read; they are counted as abandoned", "file", f.file.Path(),
			"from", known, "to", end, "reason", e.Reason)
	}
	if c == f.lead {
		c.counts.bytes += max(0, known-f.readTo.Load())
		f.readTo.Store(end) // the rest is passed, and not read
	}
	c.pos = record.Pos{Off: end, Time: c.pos.Time}
	c.prev = c.prev[:0]
	c.framer.Reset(c.pos, nil)
	f.counted = max(f.counted, end)
	c.handOn(w)
	f.file.Reached(end)
}
