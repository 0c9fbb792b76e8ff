package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// The simulated fleet runs in a bubble of testing/synctest: time is the test's own.

// broker is a Kafka in memory, as far as Log goes.
type broker struct {
	count int // of partitions
	most  int // bytes that are taken at a time; 0: any number

	mu      sync.Mutex
	topics  map[topicPartition][]Record
	grown   chan struct{} // closed and made anew when something is appended
	down    bool
	noDays  bool // the topic of days may not be made
	members []*member
	turn    int // of the group's generations
}

type topicPartition struct {
	topic     Topic
	partition int
}

func newBroker(partitions int) *broker {
	return &broker{count: partitions, topics: make(map[topicPartition][]Record), grown: make(chan struct{})}
}

var errDown = errors.New("connection refused")

// port is one process's way to the broker.
type port struct {
	*broker
	dead bool // the process was killed; guarded by broker.mu
}

func (p *port) usable() error {
	if p.down || p.dead {
		return errDown
	}
	return nil
}

func (p *port) Close() {}

func (p *port) Open(context.Context) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.usable()
}

func (p *port) OpenDays(ctx context.Context) (int, error) {
	p.mu.Lock()
	forbidden := p.noDays
	p.mu.Unlock()
	if forbidden {
		return 0, errors.New("not allowed")
	}
	return p.Open(ctx)
}

func (p *port) Append(_ context.Context, t Topic, partition int, records []Record) error {
	time.Sleep(5 * time.Millisecond)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	bytes := 0
	for _, r := range records {
		bytes += len(r.Key) + len(r.Value)
	}
	if p.most > 0 && bytes > p.most {
		return errors.New("message too large")
	}
	p.appendLocked(t, partition, records)
	return nil
}

func (b *broker) appendLocked(t Topic, partition int, records []Record) {
	at := topicPartition{t, partition}
	for _, r := range records {
		r.Offset, r.Time = int64(len(b.topics[at])), time.Now()
		b.topics[at] = append(b.topics[at], r)
	}
	close(b.grown)
	b.grown = make(chan struct{})
}

func (p *port) Read(ctx context.Context, t Topic, partition int, offset int64, wait time.Duration) ([]Record, int64, error) {
	timeout := time.After(wait + time.Millisecond)
	for {
		p.mu.Lock()
		err, all, grown := p.usable(), p.topics[topicPartition{t, partition}], p.grown
		p.mu.Unlock()
		end := int64(len(all))
		if err != nil {
			return nil, 0, err
		}
		if offset < end {
			return slices.Clone(all[offset:min(end, offset+1000)]), end, nil
		}
		select {
		case <-grown:
		case <-timeout:
			return nil, end, nil
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func (p *port) Since(_ context.Context, t Topic, partition int, at time.Time) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.topics[topicPartition{t, partition}]
	i := slices.IndexFunc(all, func(r Record) bool { return !r.Time.Before(at) })
	if i < 0 {
		i = len(all)
	}
	return int64(i), p.usable()
}

// member is a process in the group.
type member struct {
	port   *port
	ctx    context.Context
	decide func(context.Context, []int)
	end    context.CancelFunc // of the generation under way
	ended  chan struct{}
}

// Join takes part until ctx ends or the broker cannot be reached.
func (p *port) Join(ctx context.Context, decide func(context.Context, []int)) error {
	time.Sleep(100 * time.Millisecond)
	m := &member{port: p, ctx: ctx, decide: decide}
	p.mu.Lock()
	if err := p.usable(); err != nil {
		p.mu.Unlock()
		return err
	}
	p.members = append(p.members, m)
	p.mu.Unlock()
	p.rebalance()
	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // a heartbeat
		}
		p.mu.Lock()
		err = p.usable()
		p.mu.Unlock()
	}
	p.mu.Lock()
	dead := p.dead
	p.members = slices.DeleteFunc(p.members, func(o *member) bool { return o == m })
	end, ended := m.end, m.ended
	p.mu.Unlock()
	if end != nil {
		end()
		<-ended
	}
	if dead { // it says no goodbye: the group waits for its heartbeats
		time.Sleep(6 * time.Second)
	}
	p.rebalance()
	return err
}

// rebalance ends the generation, waits for its members, and begins another.
func (b *broker) rebalance() {
	b.mu.Lock()
	b.turn++
	turn := b.turn
	members := slices.Clone(b.members)
	b.mu.Unlock()
	for _, m := range members {
		b.mu.Lock()
		end, ended := m.end, m.ended
		b.mu.Unlock()
		if end != nil {
			end()
			<-ended
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if turn != b.turn || b.down {
		return // another has begun
	}
	for i, m := range b.members {
		var mine []int
		for p := range b.count {
			if p%len(b.members) == i {
				mine = append(mine, p)
			}
		}
		ctx, end := context.WithCancel(m.ctx)
		m.end, m.ended = end, make(chan struct{})
		go func() {
			defer close(m.ended)
			m.decide(ctx, mine)
		}()
	}
}

// channel is where notices go. It belongs to the test, and outlives processes.
type channel struct {
	mu   sync.Mutex
	got  []alert.Event
	at   []time.Time
	down bool
}

func (c *channel) take(e alert.Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return false
	}
	c.got, c.at = append(c.got, e), append(c.at, time.Now())
	return true
}

func (c *channel) events() []alert.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// opened counts the incidents that were told.
func (c *channel) opened() (n int) {
	for _, e := range c.events() {
		if e.Kind == alert.Opened {
			n++
		}
	}
	return n
}

// desk is one process's Notices, with one channel.
type desk struct {
	channel *channel
	mu      sync.Mutex
	state   map[string]string // by event: waiting, done, back
	turn    time.Duration     // keeps the notices in their order
	dead    bool
}

func eventKey(e *alert.Event) string {
	return fmt.Sprint(e.Kind, " ", e.Incident.ID, " ", e.Incident.Notices)
}

func (d *desk) Post(e *alert.Event, done []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(done, "it") {
		d.state[eventKey(e)] = "done"
	}
	if d.dead || d.state[eventKey(e)] == "done" {
		return
	}
	d.state[eventKey(e)] = "waiting"
	d.turn += time.Microsecond
	go d.send(e, 20*time.Millisecond+d.turn)
}

func (d *desk) send(e *alert.Event, wait time.Duration) {
	for ; ; wait = time.Second {
		time.Sleep(wait)
		d.mu.Lock()
		if d.dead || d.state[eventKey(e)] != "waiting" {
			d.mu.Unlock()
			return
		}
		if d.channel.take(*e) {
			d.state[eventKey(e)] = "done"
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
	}
}

func (d *desk) Posted(e *alert.Event) (done []string, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state[eventKey(e)] == "done" {
		return []string{"it"}, false
	}
	return nil, true
}

func (d *desk) Withdraw(_ context.Context, e *alert.Event) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state[eventKey(e)] == "done" {
		return []string{"it"}
	}
	d.state[eventKey(e)] = "back"
	return nil
}

// process is an evaluator.
type process struct {
	evaluator *Evaluator
	port      *port
	desk      *desk
	stop      context.CancelFunc
	ended     chan struct{}
}

// world is a fleet.
type world struct {
	t       *testing.T
	broker  *broker
	channel *channel
	rules   []*alert.Rule
	began   time.Time
	nodes   []*host
	evals   []*process

	memory    int64 // of the evaluators; 0: any
	wasDown   bool
	calmUntil time.Time
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newWorld(t *testing.T, partitions int, cfgs ...alert.RuleConfig) *world {
	t.Helper()
	w := &world{t: t, broker: newBroker(partitions), channel: new(channel)}
	for _, c := range cfgs {
		c.Scope = "fleet"
		r, err := alert.Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		w.rules = append(w.rules, r)
	}
	w.began = time.Now()
	return w
}

func (w *world) elapsed() time.Duration { return time.Since(w.began) }

// end stops everything; a bubble must be empty when it ends.
func (w *world) end() {
	for _, p := range w.evals {
		p.stop()
	}
	for _, p := range w.evals {
		<-p.ended
	}
	for _, n := range w.nodes {
		n.end()
	}
	for _, p := range w.evals {
		p.desk.mu.Lock()
		p.desk.dead = true
		p.desk.mu.Unlock()
	}
	time.Sleep(10 * time.Second)
}

func (w *world) evaluate(name string) *process {
	p := &process{port: &port{broker: w.broker}, desk: &desk{channel: w.channel, state: make(map[string]string)}, ended: make(chan struct{})}
	p.evaluator = NewEvaluator(EvaluatorConfig{Name: name, Log: p.port, Rules: w.rules, Memory: w.memory, Notices: p.desk, Logger: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.ended)
		p.evaluator.Run(ctx)
	}()
	w.evals = append(w.evals, p)
	return p
}

// kill is kill -9: nothing is written down any more, nobody is told, and the group has
// to find out.
func (p *process) kill() {
	p.port.mu.Lock()
	p.port.dead = true
	p.port.mu.Unlock()
	p.desk.mu.Lock()
	p.desk.dead = true
	p.desk.mu.Unlock()
	p.stop()
}

// down takes the broker away, or brings it back.
func (w *world) down(down bool) {
	w.broker.mu.Lock()
	w.broker.down = down
	w.wasDown = w.wasDown || down
	w.broker.mu.Unlock()
}

// line is a line of a log of the simulation.
type line struct {
	at      time.Time
	wrote   time.Time
	project string
	level   record.Level
	value   float64 // of the field value; 0: none
}

// host is a node with one log that survives it.
type host struct {
	w       *world
	name    string
	port    *port
	log     []line
	engine  *alert.Engine
	node    *Node
	taps    map[string]*alert.Tap
	read    int // of log
	told    map[string]bool
	saved   []byte
	savedAt int // read as of saved
	stop    context.CancelFunc
	ended   chan struct{}
	behind  bool // it does not read what is written for now
}

func (w *world) host(name string) *host {
	h := &host{w: w, name: name, told: make(map[string]bool)}
	h.start()
	w.nodes = append(w.nodes, h)
	return h
}

// start begins a process with what was saved.
func (h *host) start() {
	h.port = &port{broker: h.w.broker}
	h.engine = alert.New(h.w.rules, time.Now, func(e alert.Event) {
		if key := eventKey(&e); !h.told[key] { // the dispatcher knows what it has sent
			h.told[key] = true
			h.w.channel.take(e)
		}
	})
	if h.saved != nil {
		if err := h.engine.Restore(h.saved); err != nil {
			h.w.t.Error(err)
		}
	}
	h.read = h.savedAt
	h.engine.Publish(h.name)
	h.taps = make(map[string]*alert.Tap)
	h.node = NewNode(NodeConfig{Name: h.name, Log: h.port, Rules: h.w.rules, Engine: h.engine, Ready: func() bool { return true },
		HandedOver: func([]string) {}, Logger: quiet()})
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ended = stop, make(chan struct{})
	for _, l := range h.log {
		h.tap(l.project)
	}
	if len(h.log) == 0 {
		h.tap("p0")
	}
	h.turn()
	go func() {
		defer close(h.ended)
		var work sync.WaitGroup
		work.Go(func() { h.node.Run(ctx) })
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
				h.engine.Tick()
			}
		}
		work.Wait()
	}()
}

func (h *host) tap(project string) *alert.Tap {
	t := h.taps[project]
	if t == nil {
		o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: h.name, Input: "apps", File: "/log/" + project, Project: project})
		t = h.engine.Tap(h.name+project, "apps", false, o)
		h.taps[project] = t
	}
	return t
}

// write appends lines to the log, which are read at once unless the host is behind.
func (h *host) write(lines ...line) {
	h.log = append(h.log, lines...)
	if !h.behind {
		h.turn()
	}
}

// turn reads what is there.
func (h *host) turn() {
	for ; h.read < len(h.log); h.read++ {
		l := &h.log[h.read]
		r := new(record.Record)
		r.Reset()
		r.Level = l.level
		if l.value != 0 {
			r.Put("value", fmt.Append(nil, l.value), record.JSON)
		}
		h.tap(l.project).Observe(r, l.at.UnixMilli(), []byte("line of "+h.name))
	}
	for _, t := range h.taps {
		t.Flush(record.Pos{Off: int64(h.read)}, true)
	}
}

func (h *host) save() {
	data, err := h.engine.Snapshot()
	if err != nil {
		h.w.t.Error(err)
	}
	h.saved, h.savedAt = data, h.read
}

func (h *host) end() {
	h.stop()
	<-h.ended
}

// kill ends the process at once; what it knew since save is lost.
func (h *host) kill() {
	h.port.mu.Lock()
	h.port.dead = true
	h.port.mu.Unlock()
	h.end()
}

// after lets time pass, in which every host looks at its log now and then.
func (w *world) after(d time.Duration) {
	const step = 250 * time.Millisecond
	for ; d > 0; d -= step {
		time.Sleep(min(step, d))
		for _, h := range w.nodes {
			if !h.behind {
				h.turn()
			}
		}
	}
}

// errorsNow are n error lines of now.
func errorsNow(n int, project string) (lines []line) {
	for range n {
		lines = append(lines, line{at: time.Now(), project: project, level: record.LevelError})
	}
	return lines
}

// want compares the notices so far by their kinds.
func (w *world) want(kinds ...alert.Kind) {
	w.t.Helper()
	var got []alert.Kind
	for _, e := range w.channel.events() {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, kinds) {
		w.t.Fatalf("notices %v, want %v\n%+v", got, kinds, w.channel.events())
	}
}
