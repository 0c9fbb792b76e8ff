package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// disk is a Store that a test looks into.
type disk struct {
	mu      sync.Mutex
	records map[string]json.RawMessage
	broken  error
}

func (d *disk) Commit(change map[string]json.RawMessage) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	if d.records == nil {
		d.records = make(map[string]json.RawMessage)
	}
	for key, value := range change {
		if value == nil {
			delete(d.records, key)
		} else {
			d.records[key] = value
		}
	}
	return nil
}

func (d *disk) Range(f func(key string, value []byte)) {
	d.mu.Lock()
	all := maps.Clone(d.records)
	d.mu.Unlock()
	for key, value := range all {
		f(key, value)
	}
}

// phone is a Channel that notes what it gets and when.
type phone struct {
	mu    sync.Mutex
	start time.Time
	got   []call
	mood  func(m *Message) error // what it answers; nil takes everything
}

type call struct {
	after time.Duration // since start
	lines []string
	err   error
}

func newPhone() *phone { return &phone{start: time.Now()} }

func (p *phone) Send(ctx context.Context, m *Message) error {
	c := call{after: time.Since(p.start)}
	for i := range m.Items {
		c.lines = append(c.lines, string(m.Items[i].Kind)+" "+m.Items[i].Incident.ID)
	}
	c.lines = append(c.lines, m.Texts...)
	if m.Report != nil {
		c.lines = append(c.lines, fmt.Sprintf("%s with %d rows", m.Report.ID, len(m.Report.Rows)))
	}
	for _, name := range m.Instead {
		c.lines = append(c.lines, "instead of "+name)
	}
	p.mu.Lock()
	mood := p.mood
	p.mu.Unlock()
	if mood != nil {
		c.err = mood(m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, c)
	return c.err
}

func (p *phone) be(mood func(*Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mood = mood
}

func (p *phone) calls() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]call(nil), p.got...)
}

// program is a phone that does not mind being told often.
type program struct{ *phone }

func (program) Pace() Pace { return ForPrograms }

// taken are the lines of all messages that were taken.
func (p *phone) taken() (lines []string) {
	for _, c := range p.calls() {
		if c.err == nil {
			lines = append(lines, c.lines...)
		}
	}
	return lines
}

var errDown = errors.New("down")

func down(*Message) error { return errDown }

// desk is a Dispatcher under test.
type desk struct {
	*Dispatcher
	t     *testing.T
	disk  *disk
	lanes []Lane
	rules Rules
}

// newDesk returns a Dispatcher whose rules name their channels in the label "to".
func newDesk(t *testing.T, d *disk, lanes ...Lane) *desk {
	t.Helper()
	k := &desk{t: t, disk: d, lanes: lanes, rules: Rules{RouteOf: func(in *alert.Incident) Route {
		r := Route{Labels: map[string]string{"rule": in.Rule}}
		for _, g := range in.Group {
			r.Labels[g.Key] = g.Value
			if g.Key == "to" {
				r.Channels = strings.Split(g.Value, ",")
			}
		}
		return r
	}}}
	k.open()
	return k
}

func (k *desk) open() {
	k.Dispatcher = New(Options{Host: "web-1", Store: k.disk, Log: slog.New(slog.DiscardHandler)})
	k.Configure(k.rules, k.lanes)
}

// kill forgets everything that is not on disk.
func (k *desk) kill() {
	k.disk.mu.Lock()
	kept := maps.Clone(k.disk.records)
	k.disk.mu.Unlock()
	for _, l := range k.Dispatcher.lanes {
		l.stop()
	}
	k.disk.mu.Lock()
	k.disk.records = kept
	k.disk.mu.Unlock()
	k.open()
}

func (k *desk) fire(id string, group ...string) { k.emit(alert.Opened, id, 1, group...) }

func (k *desk) emit(kind alert.Kind, id string, notices int, group ...string) {
	in := alert.Incident{ID: id, Rule: "r", Notices: notices, Began: time.Now(), Last: time.Now(), Within: time.Minute}
	for i := 0; i+1 < len(group); i += 2 {
		in.Group = append(in.Group, record.KeyValue{Key: group[i], Value: group[i+1]})
	}
	k.Emit(alert.Event{Kind: kind, At: time.Now(), Incident: in})
}

func (k *desk) count(channel, result string) uint64 {
	for _, c := range k.Counts() {
		if c.Channel == channel && c.Result == result {
			return c.N
		}
	}
	return 0
}

// story runs a test in a bubble whose time is the test's own, and closes the desk.
func story(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, f)
}

func (k *desk) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := k.Close(ctx); err != nil {
		k.t.Error(err)
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
