package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// partition decides the groups of one partition of the counts. Its loop is one
// goroutine.
type partition struct {
	ev     *Evaluator
	index  int
	engine *alert.Engine
	nodes  map[string]*alert.Node

	offset int64 // of the next record of counts
	state  handedOn
	// unsaved are the keys of groups whose state is to be written; events are what the
	// engine has decided in this round, fresh what the channels get once it is written.
	unsaved  map[string]bool
	events   []alert.Event
	fresh    []*post
	news     bool // what is told has changed
	heads    json.RawMessage
	savedAt  time.Time
	tickedAt time.Time
	signedAt time.Time
	read     uint64 // records that made no sense

	mu      sync.Mutex // guards what follows
	told    []openIncident
	aliveAt time.Time
}

const (
	tickEvery = 250 * time.Millisecond
	// saveEvery is how often it is written down how far a partition is decided. What is
	// to be told is written at once.
	saveEvery = 2 * time.Second
	// readWait is how long a read waits for the next record.
	readWait = 200 * time.Millisecond
)

var errStoodStill = errors.New("it has stood still for too long to be sure of its partitions")

func newPartition(ev *Evaluator, index int) *partition {
	d := &partition{ev: ev, index: index, nodes: make(map[string]*alert.Node), unsaved: make(map[string]bool)}
	d.state.groups = make(map[string]*groupState)
	d.engine = alert.New(ev.cfg.Rules, time.Now, func(e alert.Event) { d.events = append(d.events, e) })
	return d
}

// run takes the partition over and decides it until ctx ends.
func (d *partition) run(ctx context.Context) error {
	if err := d.takeOver(ctx); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	d.sign()
	d.ev.live(d)
	err := d.loop(ctx)
	d.leave(ctx, !errors.Is(err, errStoodStill))
	return err
}

// takeOver goes on where the last evaluator of the partition ended.
func (d *partition) takeOver(ctx context.Context) error {
	began := time.Now()
	if err := d.readStates(ctx); err != nil {
		return err
	}
	from, err := d.ev.cfg.Log.Since(ctx, Counts, d.index, time.Now().Add(-d.ev.horizon))
	if err != nil {
		return err
	}
	d.offset = from
	mute := muteTime
	if p := d.state.position; p != nil {
		d.engine.Replay()
		if err := d.engine.Resume(p.Heads, d.carried()); err != nil {
			return err
		}
		if err := d.readUpTo(ctx, p.Offset); err != nil {
			return err
		}
		if since := time.Since(p.At); since >= 0 && since < deadAfter-beatEvery {
			mute = 0 // no node decides by itself after so short a time
		}
	}
	d.engine.Live(settleTime, mute)
	_, end, err := d.ev.cfg.Log.Read(ctx, Counts, d.index, d.offset, 0)
	if err != nil {
		return err
	}
	if err := d.readUpTo(ctx, end); err != nil {
		return err
	}
	d.engine.Decide() // what is merged and not decided must not be written down as read
	for _, g := range d.state.groups {
		for _, p := range g.Posts {
			d.ev.cfg.Notices.Post(&p.Event, p.Done)
		}
	}
	d.ev.cfg.Logger.Info("partition of the fleet's alerts taken over", "partition", d.index, "groups", len(d.state.groups),
		"offset", d.offset, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

func (d *partition) readStates(ctx context.Context) error {
	offset, err := d.ev.cfg.Log.Since(ctx, States, d.index, time.Time{})
	if err != nil {
		return err
	}
	for {
		records, end, err := d.ev.cfg.Log.Read(ctx, States, d.index, offset, 0)
		if err != nil {
			return err
		}
		for i := range records {
			if err := d.state.take(&records[i]); err != nil {
				return err
			}
			offset = records[i].Offset + 1
		}
		if offset >= end || len(records) == 0 {
			return nil
		}
	}
}

func (d *partition) carried() (all []alert.Carried) {
	for _, g := range d.state.groups {
		all = append(all, g.Carried)
	}
	return all
}

// readUpTo merges the counts before an offset.
func (d *partition) readUpTo(ctx context.Context, end int64) error {
	for d.offset < end {
		records, last, err := d.ev.cfg.Log.Read(ctx, Counts, d.index, d.offset, 0)
		if err != nil {
			return err
		}
		for i := range records {
			if records[i].Offset < end {
				d.take(&records[i])
			}
		}
		if len(records) == 0 && (d.offset >= last || ctx.Err() != nil) {
			break // the topic is another one, and shorter
		}
		if len(records) == 0 {
			return fmt.Errorf("nothing to read at offset %d, before the end at %d", d.offset, last)
		}
	}
	return ctx.Err()
}

// take merges a record of counts.
func (d *partition) take(r *Record) {
	d.offset = r.Offset + 1
	if len(r.Value) == 0 {
		return
	}
	rep, err := decodeCounted(r.Value)
	if err != nil {
		if d.read++; d.read == 1 {
			d.ev.cfg.Logger.Warn("a record in the topic of counts makes no sense; it is left out", "partition", d.index, "offset", r.Offset, "error", err)
		}
		return
	}
	n := d.nodes[rep.Node]
	if n == nil {
		n = d.engine.Node(rep.Node)
		d.nodes[rep.Node] = n
	}
	if rep.Partial != nil {
		n.Merge(rep.Partial)
	}
	if rep.Marks != nil {
		n.Mark(rep.Marks)
	}
}

// loop reads and decides until ctx ends.
func (d *partition) loop(ctx context.Context) error {
	for {
		began := time.Now()
		records, _, err := d.ev.cfg.Log.Read(ctx, Counts, d.index, d.offset, readWait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		for i := range records {
			d.take(&records[i])
		}
		if len(records) > 0 {
			d.engine.Decide()
		}
		if time.Since(d.tickedAt) >= tickEvery {
			d.engine.Tick()
			d.tickedAt = time.Now()
		}
		d.delivered()
		if err := d.save(ctx, false); err != nil {
			return err
		}
		if time.Since(began) > standstill {
			return errStoodStill
		}
		d.post()
		d.sign()
		if d.news {
			d.news = false
			d.ev.beatSoon()
		}
	}
}

// delivered notes which channels have answered.
func (d *partition) delivered() {
	for key, g := range d.state.groups {
		g.Posts = slices.DeleteFunc(g.Posts, func(p *post) bool {
			done, waits := d.ev.cfg.Notices.Posted(&p.Event)
			if first := len(p.Done) == 0; p.add(done) {
				d.news = d.news || first
				d.unsaved[key] = true
			}
			if !waits {
				d.unsaved[key] = true
			}
			return !waits
		})
	}
}

// save writes down what has changed: at once when something is to be told, else after
// saveEvery. The position comes last: what is written of groups before it, should the
// rest be missing, is known when the counts after the old position are decided again.
func (d *partition) save(ctx context.Context, last bool) error {
	heads, groups, err := d.engine.Changes()
	if err != nil {
		return err
	}
	d.heads = heads
	for i := range groups {
		d.of(&groups[i])
	}
	for i := range d.events {
		e := &d.events[i]
		key := d.keyOf(e)
		g := d.state.groups[key]
		if g == nil {
			continue // cannot be: an event changes its group
		}
		p := &post{Event: *e}
		g.Posts, d.fresh = append(g.Posts, p), append(d.fresh, p)
		d.unsaved[key] = true
	}
	d.events = d.events[:0]
	urgent := len(d.fresh) > 0 || last
	if !urgent && time.Since(d.savedAt) < saveEvery {
		return nil
	}
	records, err := d.records()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := appendAll(within, d.ev.cfg.Log, States, d.index, records); err != nil {
		return fmt.Errorf("states: %w", err)
	}
	clear(d.unsaved)
	d.savedAt = time.Now()
	return nil
}

// of puts a group's new state in place.
func (d *partition) of(c *alert.Carried) {
	key := stateKey(c)
	g := d.state.groups[key]
	if g == nil {
		g = new(groupState)
		d.state.groups[key] = g
	}
	g.Carried = *c
	d.unsaved[key] = true
}

// keyOf finds the group of an event.
func (d *partition) keyOf(e *alert.Event) string {
	for _, r := range d.ev.cfg.Rules {
		if r.Name() == e.Incident.Rule {
			return stateKey(&alert.Carried{Rule: r.Identity(), Key: e.Key})
		}
	}
	return ""
}

func (d *partition) records() (records []Record, err error) {
	for _, key := range slices.Sorted(maps.Keys(d.unsaved)) {
		g := d.state.groups[key]
		if g == nil {
			continue
		}
		r := Record{Key: []byte(key)}
		if len(g.State) > 0 || len(g.Posts) > 0 {
			if r.Value, err = json.Marshal(g); err != nil {
				return nil, err
			}
		} else {
			delete(d.state.groups, key)
		}
		records = append(records, r)
	}
	p := position{Offset: d.offset, Heads: d.heads, Evaluator: d.ev.cfg.Name, At: time.Now().UTC()}
	value, err := json.Marshal(p)
	return append(records, Record{Key: []byte(positionKey), Value: value}), err
}

// post hands what has been written down to the channels.
func (d *partition) post() {
	for _, p := range d.fresh {
		d.ev.cfg.Notices.Post(&p.Event, nil)
	}
	d.fresh = d.fresh[:0]
}

// leave takes back what no channel has taken, and writes down how far the partition is,
// for the next member, unless there may be one by now.
func (d *partition) leave(ctx context.Context, mine bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for key, g := range d.state.groups {
		for _, p := range g.Posts {
			p.add(d.ev.cfg.Notices.Withdraw(ctx, &p.Event))
			d.unsaved[key] = true
		}
	}
	if !mine {
		return
	}
	if err := d.save(ctx, true); err != nil {
		d.ev.cfg.Logger.Warn("how far the fleet's alerts are decided is not written down; what was told last may be told again", "partition", d.index, "error", err)
	}
}

// sign notes that the partition is being decided and, when that has changed or a second
// has passed, what fires in it.
func (d *partition) sign() {
	if !d.news && time.Since(d.signedAt) < time.Second {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.aliveAt = time.Now()
		return
	}
	d.signedAt = time.Now()
	waiting := make(map[string]bool)
	for _, g := range d.state.groups {
		for _, p := range g.Posts {
			if len(p.Done) == 0 && p.Event.Kind == alert.Opened {
				waiting[p.Event.Incident.ID] = true // nobody has been told yet
			}
		}
	}
	var told []openIncident
	for _, in := range d.engine.Firing() {
		if !waiting[in.ID] {
			told = append(told, openIncident{Incident: brief(&in), Notified: in.Told.UnixMilli(), Partition: d.index})
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told, d.aliveAt = told, time.Now()
}

// open are the incidents of the last sign; alive tells whether that is not long ago.
func (d *partition) open() (told []openIncident, alive bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told, time.Since(d.aliveAt) < standstill
}
