package report

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
)

const (
	// keepDays is how many days are kept: what an agent that was down so long has
	// missed is still sent, and compared with the day before.
	keepDays = 9
	// settle is how long after a day's end its last lines may still be on their way.
	settle = 10 * time.Second
	// maxOverflowed is how many of the groups beyond max_groups are named.
	maxOverflowed = 10
)

// Book holds what is counted. Its methods may be called from any goroutine.
type Book struct {
	clock func() time.Time

	mu      sync.Mutex // guards what follows
	pages   []*page
	counted map[string]record.Pos
	moved   map[string]bool // positions that have changed since the last Changes
	taps    map[*Tap]struct{}
	started time.Time
	boot    uint64   // raised at every start, so that versions of Shares rise
	edition uint64   // of Shares
	dropped []string // keys of the journal to be deleted
	idle    []*batch
}

// page is a report with its days.
type page struct {
	report *Report
	days   map[Day]*count
	// since is when the counting began; what was written before may not be counted.
	since time.Time
	// sent is the last day that has been reported, or that was over before since.
	sent  Day
	dirty bool // since or sent
	// led says, of a report over the fleet, that evaluators tell; ledAt is when that was
	// so last.
	led   bool
	ledAt time.Time
	// What was not counted since the start: lines of days that are not kept, and of
	// groups beyond max_groups.
	early, future, overflow uint64
}

// count is one day of one report.
type count struct {
	groups     map[string]*groupCount
	patterns   int
	overflow   int64
	overflowed []string // keys of the first groups beyond max_groups
	restUnsaid bool     // of those, as a group's unsaid

	dirty    bool // to be saved
	unsaid   bool // something in it is
	topDirty bool
	topSaved time.Time
}

type groupCount struct {
	n    int64
	told bool // that it went over
	top  top
	// unsaid and topUnsaid are set when the fleet has not been told what it is now.
	unsaid, topUnsaid bool
}

// NewBook returns a book without reports. now is the wall clock.
func NewBook(now func() time.Time) *Book {
	began := now()
	return &Book{clock: now, boot: uint64(max(began.Unix(), 0)), counted: make(map[string]record.Pos), moved: make(map[string]bool), taps: make(map[*Tap]struct{}), started: began}
}

// Configure sets the reports. Those that were there and count the same go on. Taps that
// are open do not know of the new ones: they must be opened anew.
func (b *Book) Configure(reports []*Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.pages
	b.pages = nil
	for _, r := range reports {
		i := slices.IndexFunc(was, func(p *page) bool { return p.report.cfg.Name == r.cfg.Name && p.report.fingerprint == r.fingerprint })
		if i >= 0 {
			b.pages = append(b.pages, was[i])
			was[i].report = r
			was[i].say(r.cfg.Fleet)
			was = slices.Delete(was, i, i+1)
			continue
		}
		now := b.clock()
		b.pages = append(b.pages, newPage(r, now))
	}
	for _, p := range was {
		b.forget(p)
	}
}

func newPage(r *Report, now time.Time) *page {
	p := &page{report: r, days: make(map[Day]*count), since: now, sent: dayOf(now.In(r.cfg.Zone)) - 1, dirty: true, led: true, ledAt: now}
	// Yesterday's report is still to come when its time is.
	if now.Before(r.due(p.sent)) {
		p.sent--
	}
	return p
}

// forget has the journal forget a page, unless another has its name.
func (b *Book) forget(p *page) {
	if !slices.ContainsFunc(b.pages, func(q *page) bool { return q.report.cfg.Name == p.report.cfg.Name }) {
		b.dropped = append(b.dropped, p.key())
	}
	for day := range p.days {
		b.dropped = append(b.dropped, p.dayKey(day), p.topKey(day))
	}
}

// Names are the names of the reports.
func (b *Book) Names() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pages {
		names = append(names, p.report.cfg.Name)
	}
	return names
}

// Counted returns the position up to which the lines of a file generation are counted;
// false when none are. The caller does not observe earlier lines again.
func (b *Book) Counted(name string) (record.Pos, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.counted[name]
	return at, ok
}

// Positions are the names of the file generations that the book has positions of.
func (b *Book) Positions() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.counted))
}

// Forget removes the position of a file generation that is gone for good.
func (b *Book) Forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.counted[name]; known {
		delete(b.counted, name)
		delete(b.moved, name)
		b.dropped = append(b.dropped, positionPrefix+name)
	}
}

// Skipped are lines that no day counts.
type Skipped struct {
	Report, Reason string
	Lines          uint64
}

// Skipped returns how many lines no day has counted, and why: early (older than the days
// that are kept), future, or max_groups.
func (b *Book) Skipped() (out []Skipped) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pages {
		name := p.report.cfg.Name
		out = append(out, Skipped{name, "early", p.early}, Skipped{name, "future", p.future}, Skipped{name, "max_groups", p.overflow})
	}
	return out
}

// add counts a hit; b.mu is held. today is that of the page's zone.
func (p *page) add(h *hit, key, pattern []byte, today Day) {
	switch {
	case h.day <= today-keepDays:
		p.early++
		return
	case h.day > today+1:
		p.future++
		return
	}
	c := p.days[h.day]
	if c == nil {
		c = &count{groups: make(map[string]*groupCount)}
		p.days[h.day] = c
	}
	c.dirty = true
	g := c.groups[string(key)]
	if g == nil {
		if len(c.groups) >= p.report.cfg.MaxGroups {
			c.overflow++
			c.unsaid, c.restUnsaid = true, true
			p.overflow++
			if len(c.overflowed) < maxOverflowed && !slices.Contains(c.overflowed, string(key)) {
				c.overflowed = append(c.overflowed, string(key))
			}
			return
		}
		g = new(groupCount)
		c.groups[string(key)] = g
	}
	g.n++
	g.unsaid, c.unsaid = true, true
	// Whether a day of the fleet was reported is not this host's to know.
	open := h.day > p.sent || p.report.cfg.Fleet && h.day >= today-2
	if open && len(pattern) > 0 {
		c.topDirty, g.topUnsaid = true, true
		if g.top.add(pattern, c.patterns < maxPatterns) {
			c.patterns++
		}
	}
}
