package report

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

// The keys of the journal's records. A report's name holds no slash.
const (
	pagePrefix     = "report/"     // report/NAME
	dayPrefix      = "report-day/" // report-day/NAME/FINGERPRINT/2006-01-02
	topPrefix      = "report-top/"
	positionPrefix = "report-at/" // report-at/GENERATION
)

// saveTops is how often the patterns of a day are saved while they change: they are many
// and need not be exact.
const saveTops = 30 * time.Second

func (p *page) key() string { return pagePrefix + p.report.cfg.Name }

func (p *page) dayKey(d Day) string {
	return dayPrefix + p.report.cfg.Name + "/" + p.report.fingerprint + "/" + d.String()
}

func (p *page) topKey(d Day) string {
	return topPrefix + strings.TrimPrefix(p.dayKey(d), dayPrefix)
}

type pageState struct {
	Fingerprint string    `json:"fingerprint"`
	Since       time.Time `json:"since"`
	Sent        string    `json:"sent"`
	Boot        uint64    `json:"boot,omitempty"`
}

type dayState struct {
	Groups     []groupState `json:"groups"`
	Overflow   int64        `json:"overflow,omitempty"`
	Overflowed [][]byte     `json:"overflowed,omitempty"`
}

type groupState struct {
	Key  []byte `json:"k"`
	N    int64  `json:"n"`
	Told bool   `json:"o,omitempty"`
}

type topState struct {
	Key []byte `json:"k"`
	top
}

// Changes returns what of the book has changed since the last call, as records of the
// journal: they belong into one commit, with what the outputs have of the same moment or
// an earlier one. all says that what need not be exact is wanted, too, as at the end.
func (b *Book) Changes(all bool) (map[string]json.RawMessage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]json.RawMessage)
	now := b.clock()
	for _, key := range b.dropped {
		out[key] = nil
	}
	var failed error
	put := func(key string, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			failed = fmt.Errorf("%s: %w", key, err)
			return
		}
		out[key] = raw
	}
	for _, p := range b.pages {
		p.expire(now, func(key string) { out[key] = nil })
		if p.dirty {
			put(p.key(), pageState{p.report.fingerprint, p.since.UTC(), p.sent.String(), b.boot})
		}
		for day, c := range p.days {
			if c.dirty {
				put(p.dayKey(day), c.state())
			}
			if c.topDirty && (all || now.Sub(c.topSaved) >= saveTops) {
				put(p.topKey(day), c.tops())
				c.topDirty, c.topSaved = false, now
			}
			c.dirty = false
		}
		p.dirty = false
	}
	for name := range b.moved {
		put(positionPrefix+name, b.counted[name])
	}
	b.dropped = nil
	clear(b.moved)
	return out, failed
}

// Redo has the next Changes return everything again: what the last one returned did not
// reach the journal.
func (b *Book) Redo(lost map[string]json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, value := range lost {
		if value == nil {
			b.dropped = append(b.dropped, key)
		}
	}
	for _, p := range b.pages {
		p.dirty = true
		for _, c := range p.days {
			c.dirty, c.topDirty = true, true
		}
	}
	for name := range b.counted {
		b.moved[name] = true
	}
}

func (c *count) state() dayState {
	s := dayState{Overflow: c.overflow, Groups: make([]groupState, 0, len(c.groups))}
	for key, g := range c.groups {
		s.Groups = append(s.Groups, groupState{[]byte(key), g.n, g.told})
	}
	for _, key := range c.overflowed {
		s.Overflowed = append(s.Overflowed, []byte(key))
	}
	return s
}

func (c *count) tops() (out []topState) {
	for key, g := range c.groups {
		if len(g.top.List) > 0 {
			out = append(out, topState{[]byte(key), g.top})
		}
	}
	return out
}

// expire lets days go that nothing asks for any more.
func (p *page) expire(now time.Time, gone func(key string)) {
	today := dayOf(now.In(p.report.cfg.Zone))
	for day := range p.days {
		if day <= today-keepDays || day > today+keepDays { // the clock may have been in the future
			delete(p.days, day)
			gone(p.dayKey(day))
			gone(p.topKey(day))
		}
	}
}

// Load reads what the journal has of an earlier life into a book that has been
// configured and has not been used yet. each calls its argument for every record.
// Records of reports that are gone are dropped; what is unreadable is told to log, and
// counted anew.
func (b *Book) Load(each func(func(key string, value []byte)), log *slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	records := make(map[string][]byte)
	each(func(key string, value []byte) {
		for _, prefix := range []string{pagePrefix, dayPrefix, topPrefix, positionPrefix} {
			if strings.HasPrefix(key, prefix) {
				records[key] = append([]byte(nil), value...)
			}
		}
	})
	read := func(key string, into any) bool {
		raw, known := records[key]
		delete(records, key)
		if !known {
			return false
		}
		if err := json.Unmarshal(raw, into); err != nil {
			log.Error("a record of the reports is unreadable; what it counted is missing", "key", key, "error", err)
			return false
		}
		return true
	}
	for _, p := range b.pages {
		var s pageState
		if !read(p.key(), &s) || s.Fingerprint != p.report.fingerprint {
			continue
		}
		if sent, err := parseDay(s.Sent); err == nil {
			p.since, p.sent, p.dirty = s.Since, sent, p.report.cfg.Fleet // the boot is another
			b.boot = max(b.boot, s.Boot+1)
		}
	}
	names := make(map[string]*page)
	for _, p := range b.pages {
		names[p.report.cfg.Name+"/"+p.report.fingerprint] = p
	}
	for _, key := range slices.Collect(maps.Keys(records)) {
		rest, isDay := strings.CutPrefix(key, dayPrefix)
		if !isDay {
			continue
		}
		at := strings.LastIndexByte(rest, '/')
		day, err := parseDay(rest[at+1:])
		p := names[rest[:max(at, 0)]]
		var s dayState
		if p == nil || err != nil || !read(key, &s) {
			continue
		}
		var tops []topState
		read(p.topKey(day), &tops)
		p.days[day] = s.count(tops)
	}
	for _, p := range b.pages {
		p.say(p.report.cfg.Fleet)
	}
	for _, key := range slices.Collect(maps.Keys(records)) {
		if name, isAt := strings.CutPrefix(key, positionPrefix); isAt {
			var at record.Pos
			if read(key, &at) {
				b.counted[name] = at
			}
		}
	}
	for key := range records { // of reports that are gone or count something else now
		b.dropped = append(b.dropped, key)
	}
}

func (s *dayState) count(tops []topState) *count {
	c := &count{groups: make(map[string]*groupCount, len(s.Groups)), overflow: s.Overflow}
	for _, g := range s.Groups {
		c.groups[string(g.Key)] = &groupCount{n: g.N, told: g.Told}
	}
	for _, t := range tops {
		if g := c.groups[string(t.Key)]; g != nil && len(t.List) <= topSize {
			g.top = t.top
			c.patterns += len(t.List)
		}
	}
	for _, key := range s.Overflowed {
		c.overflowed = append(c.overflowed, string(key))
	}
	return c
}

// IsCount tells whether the store's record of that key is of what was counted. How far
// counting has come in a file is no count.
func IsCount(key string) bool {
	return strings.HasPrefix(key, pagePrefix) || strings.HasPrefix(key, dayPrefix) || strings.HasPrefix(key, topPrefix)
}
