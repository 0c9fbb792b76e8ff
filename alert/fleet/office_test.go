package fleet

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/record"
)

// office is a fleet that writes reports, in a bubble of testing/synctest. Its first
// midnight comes ten minutes after the beginning, and the report five after that.
type office struct {
	t       *testing.T
	broker  *broker
	reports []*report.Report
	zone    *time.Location
	began   time.Time
	hosts   []*clerk
	evals   []*process
	killed  bool // an evaluator was

	mu  sync.Mutex // guards what follows
	got []notify.Note
	off bool // the channel takes nothing
}

const untilMidnight = 10 * time.Minute

func newOffice(t *testing.T, partitions, hosts int) *office {
	o := &office{t: t, broker: newBroker(partitions), began: time.Now()}
	utc := o.began.UTC()
	sinceMidnight := utc.Sub(time.Date(utc.Year(), utc.Month(), utc.Day(), 0, 0, 0, 0, time.UTC))
	o.zone = time.FixedZone("test", int((24*time.Hour - untilMidnight - sinceMidnight).Seconds()))
	r, err := report.New(report.Config{Name: "daily", Count: "warn", Per: []string{"project"}, At: 5 * time.Minute, Zone: o.zone, Over: 40, MaxGroups: 100, Fleet: true})
	if err != nil {
		t.Fatal(err)
	}
	o.reports = []*report.Report{r}
	for i := range hosts {
		c := &clerk{o: o, name: fmt.Sprint("web-", i), journal: make(map[string][]byte)}
		c.start()
		o.hosts = append(o.hosts, c)
	}
	return o
}

// day is the calendar day at the beginning, and those before and after it.
func (o *office) day(n int) string { return o.began.In(o.zone).AddDate(0, 0, n).Format(time.DateOnly) }

func (o *office) take(n *notify.Note) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.off {
		o.got = append(o.got, *n)
	}
	return !o.off
}

func (o *office) setOff(off bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.off = off
}

// letters are the reports over the fleet so far, by day.
func (o *office) letters() map[string][]notify.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make(map[string][]notify.Report)
	for _, n := range o.got {
		if n.Report != nil {
			out[n.Report.Day] = append(out[n.Report.Day], *n.Report)
		}
	}
	return out
}

// over counts the notices of groups over the limit, by day and project: those of the
// fleet, and those of hosts.
func (o *office) over() (fleet, hosts map[string]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fleet, hosts = make(map[string]int), make(map[string]int)
	for _, n := range o.got {
		if n.Item == nil {
			continue
		}
		key := n.Item.Incident.Began.In(o.zone).Format(time.DateOnly) + " " + n.Item.Labels["project"]
		if n.Item.Labels["host"] == "" {
			fleet[key]++
		} else {
			hosts[key]++
		}
	}
	return fleet, hosts
}

func (o *office) evaluate(name string) *process {
	d := &desk{state: make(map[string]string)}
	p := &process{port: &port{broker: o.broker}, desk: d, ended: make(chan struct{})}
	p.evaluator = NewEvaluator(EvaluatorConfig{Name: name, Log: p.port, Reports: o.reports, Notes: &notes{d, o}, Notices: d, Logger: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.ended)
		p.evaluator.Run(ctx)
	}()
	o.evals = append(o.evals, p)
	return p
}

func (o *office) end() {
	for _, p := range o.evals {
		p.stop()
		<-p.ended
		p.desk.mu.Lock()
		p.desk.dead = true
		p.desk.mu.Unlock()
	}
	for _, c := range o.hosts {
		c.end()
	}
	time.Sleep(10 * time.Second)
}

// notes are a process's Notes with one channel, which is the office's.
type notes struct {
	*desk
	o *office
}

func noteKey(n *notify.Note) string {
	if n.Report != nil {
		return n.Report.ID
	}
	return n.Item.Incident.ID
}

func (d *notes) PostNote(n *notify.Note, done []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := noteKey(n)
	if slices.Contains(done, "it") {
		d.state[key] = "done"
	}
	if d.dead || d.state[key] == "done" {
		return
	}
	d.state[key] = "waiting"
	go func() {
		for wait := 20 * time.Millisecond; ; wait = time.Second {
			time.Sleep(wait)
			d.mu.Lock()
			if d.dead || d.state[key] != "waiting" {
				d.mu.Unlock()
				return
			}
			if d.o.take(n) {
				d.state[key] = "done"
				d.mu.Unlock()
				return
			}
			d.mu.Unlock()
		}
	}()
}

func (d *notes) PostedNote(n *notify.Note) (done []string, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state[noteKey(n)] == "done" {
		return []string{"it"}, false
	}
	return nil, true
}

func (d *notes) WithdrawNote(_ context.Context, n *notify.Note) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state[noteKey(n)] == "done" {
		return []string{"it"}
	}
	d.state[noteKey(n)] = "back"
	return nil
}

// dayLine is a line of a log.
type dayLine struct {
	at      time.Time
	project string
	warn    bool
	message string
}

// clerk is a node with one log, which survives it, as does what its journal holds.
type clerk struct {
	o       *office
	name    string
	log     []dayLine
	journal map[string][]byte
	savedAt int

	port   *port
	book   *report.Book
	taps   map[string]*report.Tap
	read   int
	behind bool // it does not read what is written for now
	stop   context.CancelFunc
	ended  chan struct{}
}

func (c *clerk) start() {
	c.port = &port{broker: c.o.broker}
	c.book = report.NewBook(time.Now)
	c.book.Configure(c.o.reports)
	c.book.Load(func(each func(string, []byte)) {
		for key, value := range c.journal {
			each(key, value)
		}
	}, quiet())
	c.read = c.savedAt
	c.taps = make(map[string]*report.Tap)
	c.tap("p0")
	for _, l := range c.log {
		c.tap(l.project)
	}
	c.turn()
	node := NewNode(NodeConfig{Name: c.name, Log: c.port, Reports: c.o.reports, Book: c.book, Host: c.name, Ready: func() bool { return true },
		HandedOver: func([]string) {}, Logger: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	c.stop, c.ended = stop, make(chan struct{})
	go func() {
		defer close(c.ended)
		var work sync.WaitGroup
		work.Go(func() { node.Run(ctx) })
		for ctx.Err() == nil {
			for _, n := range c.book.Due(c.name) {
				c.o.take(&n.Note)
				c.book.Done(n)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		work.Wait()
	}()
}

func (c *clerk) tap(project string) *report.Tap {
	t := c.taps[project]
	if t == nil {
		o := record.NewOrigin(record.OriginFields{Host: c.name, Input: "apps", File: "/log/" + project, Project: project})
		t = c.book.Tap(c.name+project, "apps", false, o)
		c.taps[project] = t
	}
	return t
}

// turn reads what is there, or notes that there is something.
func (c *clerk) turn() {
	for ; !c.behind && c.read < len(c.log); c.read++ {
		l := &c.log[c.read]
		r := new(record.Record)
		r.Reset()
		r.Level = record.LevelInfo
		if l.warn {
			r.Level = record.LevelWarn
		}
		r.Put("message", []byte(l.message), record.Text)
		c.tap(l.project).Observe(r, l.at.UnixMilli(), nil)
	}
	for _, t := range c.taps {
		t.Flush(record.Pos{Off: int64(c.read)}, c.read == len(c.log))
	}
}

func (c *clerk) save() {
	change, err := c.book.Changes(true)
	if err != nil {
		c.o.t.Error(err)
	}
	for key, value := range change {
		if value == nil {
			delete(c.journal, key)
		} else {
			c.journal[key] = value
		}
	}
	c.savedAt = c.read
}

func (c *clerk) end() {
	c.stop()
	<-c.ended
}

func (c *clerk) kill() {
	c.port.mu.Lock()
	c.port.dead = true
	c.port.mu.Unlock()
	c.end()
}

// after lets time pass, in which every host looks at its log.
func (o *office) after(d time.Duration) {
	for ; d > 0; d -= time.Second {
		time.Sleep(min(time.Second, d))
		for _, c := range o.hosts {
			c.turn()
		}
	}
}

// reference counts the warnings of a day, by project, with the most frequent message.
func (o *office) reference(day string) map[string]int64 {
	out := make(map[string]int64)
	for _, c := range o.hosts {
		for _, l := range c.log {
			if l.warn && l.at.In(o.zone).Format(time.DateOnly) == day {
				out[l.project]++
			}
		}
	}
	return out
}

// check compares the report over a day with the plain sums.
func (o *office) check(day, before string) {
	o.t.Helper()
	all := o.letters()[day]
	if len(all) == 0 || len(all) > 1 && !o.killed {
		o.t.Fatalf("%d reports of %s", len(all), day)
	}
	for _, r := range all[1:] { // the process died between the channel's answer and its record of it
		if !reflect.DeepEqual(r, all[0]) {
			o.t.Fatalf("two reports of %s that differ:\n%+v\n%+v", day, all[0], r)
		}
	}
	r, want, was := all[0], o.reference(day), o.reference(before)
	if r.Host != "" || len(r.Remarks) > 0 && !strings.HasPrefix(r.Remarks[0], "counting began") {
		o.t.Errorf("host %q, remarks %q", r.Host, r.Remarks)
	}
	got, total := make(map[string]int64), int64(0)
	for _, row := range r.Rows {
		project := row.Group[0].Value
		if row.Lines > 0 {
			got[project] = row.Lines
		}
		yesterday := was[project]
		if len(was) == 0 {
			yesterday = -1 // nobody has counted then
		}
		if row.Before != yesterday || row.Over != (row.Lines > 40) {
			o.t.Errorf("%s %s: the day before %d, not %d; over: %v", day, project, row.Before, yesterday, row.Over)
		}
		if row.Lines > 0 && (len(row.Top) != 1 || row.Top[0].Text != "item * is low" || row.Top[0].Lines != row.Lines) {
			o.t.Errorf("%s %s: %d lines, and the messages %+v", day, project, row.Lines, row.Top)
		}
		total += row.Lines
	}
	if !maps.Equal(got, want) || r.Total != total {
		o.t.Errorf("report of %s: %v, want %v; total %d", day, got, want, r.Total)
	}
}

func warning(at time.Time, project string, n int) dayLine {
	return dayLine{at: at, project: project, warn: true, message: fmt.Sprintf("item %d is low", n)}
}
