package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
)

// Sums is a report over a fleet: it adds up what the nodes have counted, and says when
// to tell. One goroutine at a time uses it.
type Sums struct {
	page  *page
	began time.Time // when this evaluator took over
	nodes map[string]*member
	parts map[Day]*parts
}

// member is a node as it was heard of last.
type member struct {
	Mark
	heard time.Time
}

// parts are the nodes' shares of a day.
type parts struct {
	groups map[string]map[string]*part // by key and node
	rest   map[string]*part            // by node
	left   bool                        // groups beyond mostGroups are left out
	bare   bool                        // the messages have been let go
}

type part struct {
	version    uint64
	lines      int64
	keys       [][]byte
	topVersion uint64
	top        []pattern
}

// SumsState is what a successor needs beside the nodes' Shares.
type SumsState struct {
	Since time.Time `json:"since"`
	Sent  string    `json:"sent"` // the last day that was reported
	// Told are, by day, the keys of the groups that were told to be over the limit.
	Told map[string][][]byte `json:"told,omitempty"`
}

const (
	// mostGroups bounds the groups of a day over all nodes.
	mostGroups = 100_000
	// livesFor is how long after its last mark a node is taken to live.
	livesFor = time.Minute
	// grace is how long after a takeover nodes that were not heard of may still say how
	// far they are: Kafka may have been away.
	grace = 2 * time.Minute
	// forgetAfter is when a node that is not heard of any more is no longer missed.
	forgetAfter = 48 * time.Hour
	// mostHosts bounds the hosts that a notice names.
	mostHosts = 10
)

// NewSums returns the sums of a report of which nothing is known yet.
func NewSums(r *Report, now time.Time) *Sums {
	p := newPage(r, now)
	p.led = false
	return &Sums{page: p, began: now, nodes: make(map[string]*member), parts: make(map[Day]*parts)}
}

// Restore goes on where another evaluator ended. It comes before the first Take.
func (s *Sums) Restore(state *SumsState) error {
	sent, err := parseDay(state.Sent)
	if err != nil {
		return fmt.Errorf("state of the report %s: %w", s.page.report.cfg.Name, err)
	}
	s.page.since, s.page.sent = state.Since, sent
	for name, keys := range state.Told {
		day, err := parseDay(name)
		if err != nil {
			return fmt.Errorf("state of the report %s: %w", s.page.report.cfg.Name, err)
		}
		for _, key := range keys {
			s.group(day, string(key)).told = true
		}
	}
	return nil
}

// State is what Restore takes.
func (s *Sums) State() *SumsState {
	state := &SumsState{Since: s.page.since.UTC(), Sent: s.page.sent.String(), Told: make(map[string][][]byte)}
	for day, c := range s.page.days {
		for _, key := range slices.Sorted(maps.Keys(c.groups)) {
			if c.groups[key].told && day >= s.page.sent {
				state.Told[day.String()] = append(state.Told[day.String()], []byte(key))
			}
		}
	}
	return state
}

func (s *Sums) day(day Day) (*count, *parts) {
	c, p := s.page.days[day], s.parts[day]
	if c == nil {
		c = &count{groups: make(map[string]*groupCount)}
		s.page.days[day] = c
	}
	if p == nil {
		p = &parts{groups: make(map[string]map[string]*part), rest: make(map[string]*part)}
		s.parts[day] = p
	}
	return c, p
}

func (s *Sums) group(day Day, key string) *groupCount {
	c, _ := s.day(day)
	g := c.groups[key]
	if g == nil {
		g = new(groupCount)
		c.groups[key] = g
	}
	return g
}

// Take counts a node's share in place of what it has said before. Days that are over and
// done with are left out.
func (s *Sums) Take(node string, sh *Share, now time.Time) {
	today := dayOf(now.In(s.page.report.cfg.Zone))
	if sh.Day < s.page.sent || sh.Day > today+keepDays || sh.Lines < 0 {
		return
	}
	c, p := s.day(sh.Day)
	if sh.Rest {
		if was := replace(p.rest, node, sh); was >= 0 {
			c.overflow += sh.Lines - was
			p.rest[node].keys = sh.Keys
		}
		return
	}
	of := p.of(sh.Key)
	if of == nil {
		return
	}
	g := s.group(sh.Day, string(sh.Key))
	if was := replace(of, node, sh); was >= 0 {
		g.n += sh.Lines - was
	}
	g.told = g.told || sh.Told
}

// of are the nodes' parts of a group; nil where there are too many groups.
func (p *parts) of(key []byte) map[string]*part {
	of := p.groups[string(key)]
	if of == nil && len(p.groups) >= mostGroups {
		p.left = true
	} else if of == nil {
		of = make(map[string]*part)
		p.groups[string(key)] = of
	}
	return of
}

// TakeTop takes what a node knows of a group's messages, in place of what it has said
// before. Of days that were reported nothing is kept.
func (s *Sums) TakeTop(node string, t *Top, now time.Time) {
	if t.Day <= s.page.sent || t.Day > dayOf(now.In(s.page.report.cfg.Zone))+keepDays || len(t.List) > topSize {
		return
	}
	_, p := s.day(t.Day)
	of := p.of(t.Key)
	if of == nil {
		return
	}
	x := of[node]
	if x == nil {
		x = new(part)
		of[node] = x
	}
	if x.topVersion < t.Version {
		x.topVersion, x.top = t.Version, t.List
	}
}

// replace puts a share in the place of the node's last one, and returns how many lines
// that had; -1 when it is no older.
func replace(of map[string]*part, node string, sh *Share) (was int64) {
	x := of[node]
	if x == nil {
		x = new(part)
		of[node] = x
	} else if x.version >= sh.Version {
		return -1
	}
	was = x.lines
	x.version, x.lines = sh.Version, sh.Lines
	return was
}

// Hear takes a node's mark, which was written at that time or, as far as is known, later.
func (s *Sums) Hear(node string, m *Mark, at time.Time) {
	if known := s.nodes[node]; known == nil || m.Version > known.Version {
		s.nodes[node] = &member{*m, at}
	}
}

// Due returns what is to be told now; the State says from then on that it has been.
func (s *Sums) Due(now time.Time) (due []notify.Note) {
	p := s.page
	for _, n := range p.over(nil, now, "") {
		g := p.days[n.day].groups[n.key]
		g.top = s.top(n.day, n.key)
		n.Item = p.item(n.day, n.key, g, now, "")
		n.Item.Incident.Hosts = s.hosts(n.day, n.key)
		g.told, g.top = true, top{}
		due = append(due, n.Note)
	}
	if now.Sub(s.began) < startWait {
		return due
	}
	day, at := p.next(now, now.Sub(s.began) > grace)
	s.prune(now)
	if now.Before(at) {
		return due
	}
	late, wait := s.late(day, at, now)
	if wait {
		return due
	}
	r := s.letter(day)
	if len(late) > 0 {
		r.Remarks = append(r.Remarks, "hosts that had not read everything of the day when this was written: "+someOf(late))
	}
	p.sent = day
	s.prune(now)
	return append(due, notify.Note{Report: r, Channels: p.report.cfg.Notify})
}

// late are the hosts that may still bring lines of a day whose report is due, and
// whether they are waited for.
func (s *Sums) late(day Day, at, now time.Time) (hosts []string, wait bool) {
	at = later(at, s.began)
	for name, m := range s.nodes {
		if now.Sub(m.heard) > forgetAfter {
			delete(s.nodes, name)
			continue
		}
		if m.Read >= day || m.Ended {
			continue
		}
		hosts = append(hosts, m.Host)
		until := at.Add(patience)
		if now.Sub(m.heard) > livesFor { // it has died, or cannot be heard
			if silent := later(m.heard.Add(patience), s.began.Add(grace)); silent.Before(until) {
				until = silent
			}
		}
		wait = wait || now.Before(until)
	}
	slices.Sort(hosts)
	return hosts, wait
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func someOf(names []string) string {
	if n := len(names) - mostHosts; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostHosts], ", "), n)
	}
	return strings.Join(names, ", ")
}

// letter is the report over a day.
func (s *Sums) letter(day Day) *notify.Report {
	c, p := s.day(day)
	for key, g := range c.groups {
		g.top = s.top(day, key)
	}
	c.overflowed = nil
	for _, node := range slices.Sorted(maps.Keys(p.rest)) {
		for _, key := range p.rest[node].keys {
			if len(c.overflowed) < maxOverflowed && !slices.Contains(c.overflowed, string(key)) {
				c.overflowed = append(c.overflowed, string(key))
			}
		}
	}
	r := s.page.letter(day, "")
	if p.left {
		r.Remarks = append(r.Remarks, fmt.Sprintf("groups beyond %d are left out", mostGroups))
	}
	return r
}

// top adds up the nodes' most frequent messages of a group: what each has had at least.
func (s *Sums) top(day Day, key string) (sum top) {
	at := make(map[string]int)
	for _, x := range s.parts[day].groups[key] {
		for _, t := range x.top {
			i, known := at[t.Text]
			if !known {
				i = len(sum.List)
				at[t.Text] = i
				sum.List = append(sum.List, pattern{Text: t.Text})
			}
			sum.List[i].N += t.N
			sum.List[i].Err += t.Err
		}
	}
	return sum
}

// hosts are those with the most lines of a group.
func (s *Sums) hosts(day Day, key string) (out []alert.Tally) {
	for node, x := range s.parts[day].groups[key] {
		name := node
		if m := s.nodes[node]; m != nil && m.Host != "" {
			name = m.Host
		}
		if x.lines > 0 {
			out = append(out, alert.Tally{Name: name, Lines: x.lines})
		}
	}
	slices.SortFunc(out, func(a, b alert.Tally) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(a.Name, b.Name))
	})
	return out[:min(len(out), mostHosts)]
}

// prune lets go of days that nothing asks for any more. Of the last one that was
// reported the messages are not.
func (s *Sums) prune(now time.Time) {
	today := dayOf(now.In(s.page.report.cfg.Zone))
	for day := range s.page.days {
		if day < s.page.sent || day > today+keepDays {
			delete(s.page.days, day)
			delete(s.parts, day)
		}
	}
	if p := s.parts[s.page.sent]; p != nil && !p.bare {
		p.bare = true
		for _, of := range p.groups {
			for _, x := range of {
				x.top = nil
			}
		}
	}
}
