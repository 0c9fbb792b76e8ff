package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/record"
)

const (
	// patience is how long a report waits for files that have not been read past its
	// day, as after an outage. It is sent with what is known then, and says so.
	patience = time.Hour
	// startWait is how long a new process takes to look at the files.
	startWait = 3 * time.Second
	// maxRows bounds the groups that a report shows, and topRows those whose messages
	// it shows.
	maxRows = 200
	topRows = 30
)

// Note is something to tell: a report, or a group that has gone over one's limit.
type Note struct {
	notify.Note

	page *page
	day  Day
	key  string
}

// Due returns what is to be told now. host is the host that speaks. When it is kept for
// good, Done says so; else it is due again.
func (b *Book) Due(host string) (due []Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	if now.Sub(b.started) < startWait {
		return nil // the files have not been looked at yet
	}
	for _, p := range b.pages {
		if p.report.cfg.Fleet && p.led {
			p.leave(now)
			continue
		}
		due = p.over(due, now, host)
		if p.report.cfg.Fleet && now.Sub(p.ledAt) < patience {
			continue // there may be evaluators again
		}
		if r, day := b.nextReport(p, now, host); r != nil {
			due = append(due, Note{Note: notify.Note{Report: r, Channels: p.report.cfg.Notify}, page: p, day: day})
		}
	}
	return due
}

// Done says that a note of Due is kept for good.
func (b *Book) Done(n Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n.Report != nil {
		n.page.sent, n.page.dirty = max(n.page.sent, n.day), true
		return
	}
	if c := n.page.days[n.day]; c != nil && c.groups[n.key] != nil {
		g := c.groups[n.key]
		g.told, c.dirty = true, true
		g.unsaid, c.unsaid = true, true
	}
}

// over finds the groups that have gone over the limit today or yesterday: what is longer
// ago stands in the report.
func (p *page) over(due []Note, now time.Time, host string) []Note {
	cfg := &p.report.cfg
	if cfg.Over <= 0 {
		return due
	}
	today := dayOf(now.In(cfg.Zone))
	for day := today - 1; day <= today; day++ {
		c := p.days[day]
		if c == nil {
			continue
		}
		for key, g := range c.groups {
			if g.n > cfg.Over && !g.told {
				due = append(due, Note{Note: notify.Note{Item: p.item(day, key, g, now, host), Channels: cfg.Notify}, page: p, day: day, key: key})
			}
		}
	}
	return due
}

// item is the notice that a group has gone over the limit.
func (p *page) item(day Day, key string, g *groupCount, now time.Time, host string) *notify.Item {
	cfg := &p.report.cfg
	group := p.report.selector.Group(key)
	labels := map[string]string{"rule": cfg.Name}
	if host != "" {
		labels["host"] = host
	}
	for name, value := range cfg.Labels {
		labels[name] = value
	}
	for _, kv := range group {
		labels[kv.Key] = kv.Value
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %d", cfg.Name, host, key, day)
	it := notify.NewItem(alert.Noted, now, alert.Incident{
		ID: hex.EncodeToString(h.Sum(nil)[:10]), Rule: cfg.Name, Group: group, Began: day.at(cfg.Zone, 0), Last: now.Truncate(time.Second),
		Notices: 1,
	}, notify.Route{Labels: labels})
	if host != "" {
		it.Incident.Hosts, it.Incident.Note = []alert.Tally{{Name: host, Lines: g.n}}, p.alone(host)
	}
	it.Numbers = []string{fmt.Sprintf("%s = %d on %s (limit: > %d)", p.report.selector, g.n, day, cfg.Over)}
	for _, t := range g.top.shown() {
		it.Incident.Samples = append(it.Incident.Samples, alert.Sample{Time: now, Text: fmt.Sprintf("%d × %s", t.N, t.Text)})
	}
	return &it
}

// nextReport returns the oldest report that is due.
func (b *Book) nextReport(p *page, now time.Time, host string) (*notify.Report, Day) {
	day, at := p.next(now, true)
	if now.Before(at) {
		return nil, day
	}
	behind := b.behind(p, (day+1).at(p.report.cfg.Zone, 0).UnixMilli())
	if began := b.started.Add(patience); began.After(at.Add(patience)) {
		at = b.started // the agent was down at the time
	}
	if behind > 0 && now.Sub(at) < patience {
		return nil, day
	}
	r := p.letter(day, host)
	if behind > 0 {
		r.Remarks = append(r.Remarks, fmt.Sprintf("files not read to the end of the day when this was written: %d", behind))
	}
	if note := p.alone(host); note != "" {
		r.Remarks = append(r.Remarks, note)
	}
	return r, day
}

// next is the oldest day that is not reported, and when it is due. pass says that what
// is not known of a missed day will not be known.
func (p *page) next(now time.Time, pass bool) (day Day, at time.Time) {
	today := dayOf(now.In(p.report.cfg.Zone))
	if p.sent >= today { // the clock was in the future
		p.sent, p.dirty = today-1, true
	}
	if first := today - keepDays + 1; p.sent < first {
		p.sent, p.dirty = first, true
	}
	for pass && p.sent+1 < today-1 && p.days[p.sent+1] == nil { // a missed day of which nothing is known
		p.sent, p.dirty = p.sent+1, true
	}
	return p.sent + 1, p.report.due(p.sent + 1)
}

// behind counts the chains that may still bring lines from before a time.
func (b *Book) behind(p *page, milli int64) (n int) {
	for t := range b.taps {
		if t.behind && t.newest < milli && slices.ContainsFunc(t.picks, func(o pick) bool { return o.page == p }) {
			n++
		}
	}
	return n
}

// letter is the report over a day.
func (p *page) letter(day Day, host string) *notify.Report {
	cfg := &p.report.cfg
	r := &notify.Report{
		ID: cfg.Name + "/" + day.String(), Name: cfg.Name, Count: p.report.selector.String(), Day: day.String(), Zone: cfg.Zone.String(),
		Host: host, Over: cfg.Over, Before: -1,
	}
	c, before := p.days[day], p.days[day-1]
	began := dayOf(p.since.In(cfg.Zone))
	knowBefore := before != nil || began < day-1
	if knowBefore {
		r.Before = 0
	}
	if c == nil {
		c = new(count)
	}
	if before == nil {
		before = new(count)
	}
	for key, g := range c.groups {
		row := notify.ReportRow{Group: p.report.selector.Group(key), Lines: g.n, Before: -1, Over: cfg.Over > 0 && g.n > cfg.Over}
		if knowBefore {
			row.Before = before.of(key)
		}
		for _, t := range g.top.shown() {
			row.Top = append(row.Top, notify.ReportPattern{Text: t.Text, Lines: t.N})
		}
		r.Total += g.n
		r.Rows = append(r.Rows, row)
	}
	for key, g := range before.groups {
		r.Before += g.n
		if c.groups[key] == nil && g.n > 0 { // it has fallen silent
			r.Rows = append(r.Rows, notify.ReportRow{Group: p.report.selector.Group(key), Before: g.n})
		}
	}
	if knowBefore {
		r.Before += before.overflow
	}
	r.Total += c.overflow
	p.arrange(r)
	if c.overflow > 0 {
		var names []string
		for _, key := range c.overflowed {
			names = append(names, show(p.report.selector.Group(key)))
		}
		r.Remarks = append(r.Remarks, fmt.Sprintf("%d lines are of groups beyond max_groups %d, such as %v", c.overflow, cfg.MaxGroups, names))
	}
	if began >= day {
		r.Remarks = append(r.Remarks, "counting began on "+p.since.In(cfg.Zone).Format("2006-01-02 15:04")+"; of what was written before, only what was still to be read is counted")
	}
	return r
}

func (c *count) of(key string) int64 {
	if g := c.groups[key]; g != nil {
		return g.n
	}
	return 0
}

func show(group []record.KeyValue) string {
	row := notify.ReportRow{Group: group}
	return row.Label()
}

// arrange puts the rows into their order and bounds them.
func (p *page) arrange(r *notify.Report) {
	slices.SortFunc(r.Rows, func(a, b notify.ReportRow) int {
		return cmp.Or(cmp.Compare(b.Lines, a.Lines), cmp.Compare(b.Before, a.Before), cmp.Compare(a.Label(), b.Label()))
	})
	if len(r.Rows) > maxRows {
		r.More = len(r.Rows) - maxRows
		r.Rows = r.Rows[:maxRows]
	}
	for i := topRows; i < len(r.Rows); i++ {
		r.Rows[i].Top = nil
	}
}
