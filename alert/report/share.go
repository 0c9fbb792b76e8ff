package report

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Share is what one node of a fleet has counted for one group of a report on one day:
// the whole sum, not a difference. Of two of the same node, report, day and group, that
// with the higher Version replaces the other. So they can be sent twice and arrive in
// any order.
type Share struct {
	Report  string `json:"r"` // its Identity
	Day     Day    `json:"d"`
	Version uint64 `json:"v"`
	// Key is the group's. Rest is set, in its place, for the lines of groups beyond
	// max_groups, of which Keys names some.
	Key  []byte   `json:"k,omitempty"`
	Rest bool     `json:"x,omitempty"`
	Keys [][]byte `json:"ks,omitempty"`

	Lines int64 `json:"n"`
	// Told says that the node has told by itself that the group went over the limit.
	Told bool `json:"o,omitempty"`
}

// Top is what one node knows of the most frequent messages of a group on one day. It
// replaces what the node has said before, as a Share does.
type Top struct {
	Report  string    `json:"r"`
	Day     Day       `json:"d"`
	Version uint64    `json:"v"`
	Key     []byte    `json:"k,omitempty"`
	List    []pattern `json:"l"`
}

// Mark says how far a node is with a report. The Shares that were given before it hold
// all that it speaks of.
type Mark struct {
	Report  string `json:"r"`
	Host    string `json:"h"`
	Version uint64 `json:"v"`
	// Read is the last day of which the node has read everything.
	Read Day `json:"d"`
	// Ended is set when the node stops and has read everything: there is no more to come.
	Ended bool `json:"e,omitempty"`
}

// say has the fleet told of everything, or, where the report is the host's own, of
// nothing.
func (p *page) say(fleet bool) {
	for _, c := range p.days {
		c.unsaid, c.restUnsaid = fleet, fleet && c.overflow > 0
		for _, g := range c.groups {
			g.unsaid, g.topUnsaid = fleet, fleet && len(g.top.List) > 0
		}
	}
}

// Resay has the next Words tell of all days that matter once more.
func (b *Book) Resay() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pages {
		if p.report.cfg.Fleet {
			p.say(true)
		}
	}
}

// Words are what a node has to say to the fleet.
type Words struct {
	Shares []Share
	Tops   []Top
	Marks  []Mark
}

// Words returns what the fleet has not been told, and how far this host is. tops says
// that the most frequent messages are wanted, too, of days that may go on: of others they
// always are. ending says that these are the last words.
// What the caller cannot bring to the fleet it keeps, or calls Resay.
func (b *Book) Words(host string, tops, ending bool) (w Words) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	if now.Sub(b.started) < startWait {
		return w // the files have not been looked at yet
	}
	b.edition++
	for _, p := range b.pages {
		if !p.report.cfg.Fleet {
			continue
		}
		read := b.read(p, now)
		for day, c := range p.days {
			if c.unsaid {
				c.say(&w, p.report.Identity(), day, b.boot<<32|b.edition, tops || day <= read)
			}
		}
		w.Marks = append(w.Marks, Mark{Report: p.report.Identity(), Host: host, Version: b.boot<<32 | b.edition, Read: read,
			Ended: ending && b.behind(p, math.MaxInt64) == 0})
	}
	return w
}

// say adds what is unsaid of a day.
func (c *count) say(w *Words, report string, day Day, version uint64, tops bool) {
	c.unsaid = false
	for key, g := range c.groups {
		if g.unsaid {
			g.unsaid = false
			w.Shares = append(w.Shares, Share{Report: report, Day: day, Version: version, Key: []byte(key), Lines: g.n, Told: g.told})
		}
		if g.topUnsaid && tops {
			g.topUnsaid = false
			w.Tops = append(w.Tops, Top{Report: report, Day: day, Version: version, Key: []byte(key), List: slices.Clone(g.top.List)})
		}
		c.unsaid = c.unsaid || g.topUnsaid
	}
	if c.restUnsaid {
		c.restUnsaid = false
		s := Share{Report: report, Day: day, Version: version, Rest: true, Lines: c.overflow}
		for _, key := range c.overflowed {
			s.Keys = append(s.Keys, []byte(key))
		}
		w.Shares = append(w.Shares, s)
	}
}

// read is the last day of which no chain may bring lines any more.
func (b *Book) read(p *page, now time.Time) Day {
	zone := p.report.cfg.Zone
	day := dayOf(now.In(zone)) - 1
	if now.Before((day + 1).at(zone, 0).Add(settle)) {
		day--
	}
	for first := day - keepDays; day > first && b.behind(p, (day+1).at(zone, 0).UnixMilli()) > 0; {
		day--
	}
	return day
}

// SetLed says whether evaluators of the fleet tell a report of that identity. As long as
// none do, the host tells by itself what it has counted: at once that a group went over,
// and the report when that has been so for patience.
func (b *Book) SetLed(identity string, led bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pages {
		if p.report.cfg.Fleet && p.report.Identity() == identity {
			if p.led = led; led {
				p.ledAt = b.clock()
			}
		}
	}
}

// leave takes for told what evaluators have had the time to tell.
func (p *page) leave(now time.Time) {
	if _, at := p.next(now, true); now.Sub(at) > 2*patience {
		p.sent, p.dirty = p.sent+1, true
	}
}

// alone is what a host says that tells what the fleet should have.
func (p *page) alone(host string) string {
	if !p.report.cfg.Fleet || host == "" {
		return ""
	}
	return fmt.Sprintf("counted on host %s alone: no evaluator of the fleet has been heard of since %s", host, p.ledAt.In(p.report.cfg.Zone).Format(time.DateTime))
}
