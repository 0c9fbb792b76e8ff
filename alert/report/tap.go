package report

import (
	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// Tap is where one chain's lines enter the book. One goroutine at a time uses it.
type Tap struct {
	book  *Book
	name  string
	picks []pick
	batch *batch // of the turn under way

	// The book's mu guards these.
	behind bool
	newest int64 // Unix ms of the newest line
}

// pick is one report, bound to the chain.
type pick struct {
	page   *page
	picker *alert.Picker
	bounds dayBounds
}

// batch is what a chain has picked out in a turn. Batches are lent to chains, as there
// are many chains and few turns at a time.
type batch struct {
	hits   []hit
	text   []byte // keys and patterns
	newest int64
}

// hit is a line that counts.
type hit struct {
	pick              int
	day               Day
	key, pattern, end uint32 // where they begin and end in text
}

// maxBatch is what a batch may keep for the next turn, in bytes of text.
const maxBatch = 1 << 20

// Tap returns the entrance for a chain; nil when no report looks at its lines. name is
// the file generation's name, under which Flush keeps the position. Until the first
// Flush with caughtUp the chain counts as behind.
func (b *Book) Tap(name, input string, kafka bool, o *record.Origin) *Tap {
	return b.tap(name, o, func(s *alert.Selector) bool { return s.Watches(input, kafka) })
}

// TapPassing is Tap for the documents of a kafka input that another tailwater has read
// by its input before; a report that names that one, too, has counted them there.
func (b *Book) TapPassing(name, input, before string, o *record.Origin) *Tap {
	return b.tap(name, o, func(s *alert.Selector) bool { return s.WatchesPassing(input, before) })
}

func (b *Book) tap(name string, o *record.Origin, watches func(*alert.Selector) bool) *Tap {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &Tap{book: b, name: name, behind: true}
	for _, p := range b.pages {
		if watches(p.report.selector) {
			t.picks = append(t.picks, pick{page: p, picker: p.report.selector.Bind(o)})
		}
	}
	if t.picks == nil {
		return nil
	}
	b.taps[t] = struct{}{}
	return t
}

// Observe counts a line with the reports. unixMilli is its @timestamp, text the line as
// it was written; r and text are not kept. It takes no lock, and in the long run
// allocates nothing.
func (t *Tap) Observe(r *record.Record, unixMilli int64, text []byte) {
	b := t.batch
	if b == nil {
		b = t.book.lend()
		t.batch = b
	}
	b.newest = max(b.newest, unixMilli)
	for i := range t.picks {
		p := &t.picks[i]
		from := len(b.text)
		var ok bool
		if b.text, ok = p.picker.Pick(b.text, r); !ok {
			b.text = b.text[:from]
			continue
		}
		h := hit{pick: i, day: p.bounds.of(unixMilli, p.page.report.cfg.Zone), key: uint32(from), pattern: uint32(len(b.text))}
		b.text = appendPattern(b.text, r, text)
		h.end = uint32(len(b.text))
		b.hits = append(b.hits, h)
	}
}

// appendPattern appends the pattern of what the line says: its message, for access lines
// what was asked for.
func appendPattern(dst []byte, r *record.Record, text []byte) []byte {
	if message, ok := r.Get("message"); ok {
		return foldField(dst, &message)
	}
	path, ok := r.Get("path")
	if !ok {
		return fold(dst, text, false)
	}
	if method, ok := r.Get("method"); ok {
		dst = append(foldField(dst, &method), ' ')
	}
	return foldField(dst, &path)
}

func foldField(dst []byte, f *record.Field) []byte {
	v := f.Val
	if f.Kind == record.JSON && len(v) >= 2 && v[0] == '"' {
		v = v[1 : len(v)-1]
	}
	return fold(dst, v, f.Kind != record.Text)
}

// Flush adds what was observed to the book. at is the position up to which the lines
// have been observed; caughtUp says that this was the end of the file. Call it at the
// end of every turn.
func (t *Tap) Flush(at record.Pos, caughtUp bool) {
	t.book.mu.Lock()
	defer t.book.mu.Unlock()
	t.flush(at, caughtUp)
}

// FlushAll is Flush for taps of one name, all at one moment: no checkpoint has the
// position and lacks what one of them has observed.
func (b *Book) FlushAll(taps []*Tap, at record.Pos, caughtUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range taps {
		t.flush(at, caughtUp)
	}
}

func (t *Tap) flush(at record.Pos, caughtUp bool) {
	b := t.book
	t.behind = !caughtUp
	if b.counted[t.name] != at {
		b.counted[t.name] = at
		b.moved[t.name] = true
	}
	if t.batch == nil {
		return
	}
	t.newest = max(t.newest, t.batch.newest)
	now := b.clock()
	for i := range t.batch.hits {
		h := &t.batch.hits[i]
		p := t.picks[h.pick].page
		p.add(h, t.batch.text[h.key:h.pattern], t.batch.text[h.pattern:h.end], dayOf(now.In(p.report.cfg.Zone)))
	}
	b.giveBack(t.batch)
	t.batch = nil
}

// Close ends the chain's part in the book. What was not flushed is not counted; the
// position stays until Forget.
func (t *Tap) Close() {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taps, t)
	if t.batch != nil {
		b.giveBack(t.batch)
		t.batch = nil
	}
}

func (b *Book) lend() *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.idle); n > 0 {
		one := b.idle[n-1]
		b.idle = b.idle[:n-1]
		return one
	}
	return new(batch)
}

func (b *Book) giveBack(one *batch) {
	if cap(one.text) > maxBatch {
		return
	}
	one.hits, one.text, one.newest = one.hits[:0], one.text[:0], 0
	b.idle = append(b.idle, one)
}
