package agent

import (
	"bytes"
	"slices"

	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// crossOver deals with what is pending at the end of a file that has been rotated
// away: the head of its successor may go on with it (the second half of a stack
// trace). It says whether it has seen all of the look.
//
// An unfinished last line does not cross: whoever writes it may still do so to the
// old file. It waits for its own time limit, as everywhere.
func (c *chain) crossOver(w *worker, look *parser.Look, next *tail.File, ended bool) (whole bool) {
	due, pending := c.framer.Due()
	if !pending || !bytes.HasSuffix(look.Data, newline) {
		look.Flush = ended
		return c.consume(w, look)
	}
	joined := next.Progress().Head
	if joined == 0 {
		head := make([]byte, readBytes)
		n, err := next.ReadAt(head, record.Pos{})
		head = head[:n]
		goesOn := err != nil && !bytes.Contains(head[c.framer.Joins(look, head):], newline)
		if goesOn && !ended && look.Now.Before(due) {
			return c.consume(w, look) // more of the event may be written there
		}
		if joined = int64(c.framer.Joins(look, head)); joined > 0 && !c.flow.agent.claimHead(next, joined) {
			joined = 0
		}
		if joined > 0 {
			w.timed = true // on disk before it leaves
			c.counts.bytes += joined
		}
	}
	look.Flush = true
	if joined == 0 {
		return c.consume(w, look)
	}
	return c.joinHead(w, look, next, joined)
}

var newline = []byte("\n")

// joinHead ends the pending event with the first bytes of the next generation.
func (c *chain) joinHead(w *worker, look *parser.Look, next *tail.File, joined int64) (whole bool) {
	head := make([]byte, joined)
	n, _ := next.ReadAt(head, record.Pos{})
	both := *look
	both.Data = append(slices.Clip(look.Data), head[:n]...)
	c.limit = look.Base + int64(len(look.Data)) // positions stay within this generation
	whole = c.consume(w, &both)
	c.limit = 0
	c.flow.mu.Lock()
	defer c.flow.mu.Unlock()
	c.framer.Reset(c.pos, c.flow.cuts)
	return whole
}

// claimHead notes that the first n bytes of a generation belong to the last event of
// the one before. It declines when the generation is being read already: then its
// head has gone its own way.
func (a *Agent) claimHead(next *tail.File, n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := next.Progress()
	if a.flows[next] != nil || len(p.Pos) > 0 || next.Start().Off > 0 {
		return false
	}
	p.Head = n
	next.SetProgress(p)
	return true
}

// turnHasCome reports whether the output has been given what the generation before has
// been read of: an output that comes back after rotations gets the generations one
// after the other. When it has not, the flow is woken as the older one goes on.
func (f *flow) turnHasCome(out *output) bool {
	prev := f.prev()
	if prev == nil {
		return true
	}
	f.agent.mu.Lock()
	older := f.agent.flows[prev]
	f.agent.mu.Unlock()
	if older == nil || older.through(out) {
		return true
	}
	older.heir.Store(f)
	return older.through(out)
}

// through reports whether the output's queue has had all that has been read of the
// flow, or nothing can be done about it now.
func (f *flow) through(out *output) bool {
	if f.troubled.Load() || f.left.Load() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		if t.out == out {
			return t.at.Load() >= f.readTo.Load()
		}
	}
	return true
}

// wakeHeir lets the next generation's flow look again whether its turn has come.
func (f *flow) wakeHeir() {
	if heir := f.heir.Swap(nil); heir != nil {
		f.agent.sched.wake(heir)
	}
}
