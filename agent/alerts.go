package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/config"
)

// alerts joins the lead chains, the engine and the reports that decide, and the
// dispatcher that tells.
type alerts struct {
	agent    *Agent
	dispatch *notify.Dispatcher
	book     *report.Book

	mu       sync.Mutex // guards what follows; taken before the engine's and the dispatcher's own locks
	engine   *alert.Engine
	rules    []*alert.Rule
	channels map[string]channel
	watchdog *config.Watchdog
	// These are this process's parts in the fleet; nil where it has none.
	node, evaluator, silences *fleetPart
	counted                   map[string]struct{} // file generations of which the engine has a position
	written                   time.Time           // when the last snapshot was handed to a checkpoint
	sweptAt                   time.Time

	overflows overflows // run's own
	reminded  time.Time // run's own

	begun   atomic.Bool  // the files have been looked at once: time may pass
	ticked  atomic.Int64 // when that was the case last, Unix ns; 0: not yet
	made    time.Time
	changed atomic.Bool // the engine's state has changed since the last snapshot
}

const (
	// engineKey is the journal's record of the engine's windows, incidents and
	// positions.
	engineKey = "alerts/engine"
	tickEvery = 250 * time.Millisecond
	// ruleless is the same without rules: reports and days have time.
	ruleless = time.Second
	// idleSnapshot is how often a snapshot is written while nothing but time moves on.
	idleSnapshot = 30 * time.Second
	// sweepEvery is how often the positions of files that are gone are forgotten.
	sweepEvery = time.Minute
	// lastNotices is how long a stopping agent waits for notices to be taken.
	lastNotices = 5 * time.Second
)

// newAlerts reads what the journal has of an earlier life.
func newAlerts(a *Agent) *alerts {
	return &alerts{agent: a, made: time.Now(), counted: make(map[string]struct{}), book: report.NewBook(time.Now),
		dispatch: notify.New(notify.Options{Host: a.host, Store: a.journal, Log: a.log})}
}

// open makes the engine for the first time.
func (al *alerts) open(cfg *config.Config) error {
	al.mu.Lock()
	defer al.mu.Unlock()
	next, err := al.prepareLocked(cfg)
	if err != nil {
		return err
	}
	snapshot, _ := al.agent.journal.Get(engineKey)
	if err := al.replace(cfg, next, snapshot); err != nil {
		return err
	}
	al.book.Load(al.agent.journal.Range, al.agent.log)
	return nil
}

// prepared are the parts of another configuration that may be impossible to make.
type prepared struct {
	channels map[string]channel
	logs     fleetLogs
}

// prepare makes the parts of another configuration that can fail.
func (al *alerts) prepare(cfg *config.Config) (prepared, error) {
	al.mu.Lock()
	defer al.mu.Unlock()
	return al.prepareLocked(cfg)
}

func (al *alerts) prepareLocked(cfg *config.Config) (p prepared, err error) {
	if p.channels, err = al.agent.newChannels(cfg, al.channels); err != nil {
		return p, err
	}
	p.logs, err = al.agent.newFleetLogs(cfg)
	return p, err
}

// change takes over another configuration: the windows of rules that count the same
// go on. The flows must be at rest, and have their taps renewed afterwards.
func (al *alerts) change(cfg *config.Config, next prepared) error {
	al.mu.Lock()
	defer al.mu.Unlock()
	al.node.end()
	al.silences.end()
	was := al.evaluator
	snapshot, err := al.engine.Snapshot()
	if err != nil {
		return err
	}
	if err := al.replace(cfg, next, snapshot); err != nil {
		return err
	}
	if was != al.evaluator {
		was.end()
	}
	al.configure()
	al.node.start()
	al.evaluator.start()
	al.silences.start()
	return nil
}

// replace puts a new engine in the place of the old one, whose snapshot it goes on
// from.
func (al *alerts) replace(cfg *config.Config, next prepared, snapshot json.RawMessage) error {
	rules, err := compileRules(cfg)
	if err != nil {
		return err
	}
	reports, err := compileReports(cfg)
	if err != nil {
		return err
	}
	al.book.Configure(reports)
	al.watchdog = cfg.Watchdog
	engine := alert.New(rules, time.Now, func(e alert.Event) {
		al.changed.Store(true)
		al.dispatch.Emit(e)
	})
	engine.Limit(int64(cfg.AlertMemory()))
	if snapshot != nil {
		if err := engine.Restore(snapshot); err != nil {
			al.agent.log.Error("the alerts' windows cannot be read; they begin anew, and what fires may be told again", "state", cfg.State, "error", err)
		}
		al.noteCounted(snapshot)
	}
	al.engine, al.rules, al.channels = engine, rules, next.channels
	al.changed.Store(true)
	al.node, al.evaluator = al.newNode(cfg, rules, reports, engine, next.logs.node), al.newEvaluator(cfg, rules, reports, next.logs.evaluator)
	al.silences = al.newSilences(next.logs.silences, al.evaluator != nil)
	al.adopt()
	return nil
}

func compileRules(cfg *config.Config) (rules []*alert.Rule, err error) {
	for _, c := range cfg.Alerts {
		r, err := alert.Compile(c.Rule())
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func compileReports(cfg *config.Config) (reports []*report.Report, err error) {
	for _, c := range cfg.Reports {
		r, err := c.Report()
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// adopt tells the engine of incidents whose notices are younger than its snapshot: the
// process died in between. They are not told again.
func (al *alerts) adopt() {
	known := make(map[string]int)
	for _, in := range al.engine.Firing() {
		known[in.ID] = in.Notices
	}
	for _, it := range al.dispatch.Open() {
		if n, ok := known[it.Incident.ID]; ok && n >= it.Incident.Notices {
			continue
		}
		if !al.engine.Adopt(it.Incident, it.At) {
			al.dispatch.End(it.Incident.ID)
		}
	}
}

// begin starts to send what waits, and the work for the fleet.
func (al *alerts) begin() {
	al.mu.Lock()
	defer al.mu.Unlock()
	al.configure()
	al.node.start()
	al.evaluator.start()
	al.silences.start()
}

// configure tells the dispatcher of the rules and the channels.
func (al *alerts) configure() {
	rules := make(map[string]*alert.Rule)
	for _, r := range al.rules {
		rules[r.Name()] = r
	}
	host, engine, evaluator := al.agent.host, al.engine, al.evaluator
	var lanes []notify.Lane
	for _, c := range al.channels {
		lane := c.lane
		if w := al.watchdog; w != nil && slices.Contains(w.Notify, lane.Name) {
			lane.Beat = w.Every
		}
		lanes = append(lanes, lane)
	}
	al.dispatch.Configure(notify.Rules{
		RouteOf: func(in *alert.Incident) notify.Route { return routeOf(rules[in.Rule], in, host) },
		Firing:  func() []alert.Incident { return firingOf(engine, evaluator) },
		Alive:   al.alive,
	}, lanes)
}

// routeOf says what the rule has for an incident's notices.
func routeOf(r *alert.Rule, in *alert.Incident, host string) notify.Route {
	labels := map[string]string{"rule": in.Rule}
	if r == nil { // of a configuration that is being replaced
		return notify.Route{Labels: labels}
	}
	cfg := r.Config()
	if cfg.Scope == "host" {
		labels["host"] = host
	}
	maps.Copy(labels, cfg.Labels)
	for _, g := range in.Group {
		labels[g.Key] = g.Value
	}
	route := notify.Route{Labels: labels, Channels: cfg.Notify}
	route.Annotations, route.Links = r.Expand(in)
	return route
}

// run lets time pass for the engine until ctx ends, once the files have been looked at:
// before that it would take what has not been read for silence.
func (al *alerts) run(ctx context.Context) {
	tick := time.NewTimer(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tick.Reset(al.tickEvery())
		if al.begun.Load() {
			al.current().Tick()
			al.remind(time.Now())
			al.tellReports()
			al.tellOverflows(time.Now())
			al.ticked.Store(time.Now().UnixNano())
		}
	}
}

func (al *alerts) tickEvery() time.Duration {
	al.mu.Lock()
	defer al.mu.Unlock()
	if len(al.rules) == 0 {
		return ruleless
	}
	return tickEvery
}

// lifeless is how long ago the last tick may be for the alerts to be alive.
const lifeless = 15 * time.Second

// alive tells whether the rules are evaluated.
func (al *alerts) alive() error {
	last := al.ticked.Load()
	switch ago := time.Since(time.Unix(0, last)); {
	case last != 0 && ago > lifeless:
		return fmt.Errorf("the rules were last evaluated %s ago", ago.Round(time.Second))
	case last != 0:
		return nil
	case time.Since(al.made) > lifeless:
		return errors.New("the rules were not evaluated since the start")
	}
	return notify.ErrStarting
}

// remindEvery is how often it is looked whether a silence has ended.
const remindEvery = time.Second

// remind has people told of what still fires when a silence ends.
func (al *alerts) remind(now time.Time) {
	if now.Sub(al.reminded) < remindEvery {
		return
	}
	al.reminded = now
	ids := al.dispatch.Unsilenced()
	if len(ids) == 0 {
		return
	}
	al.mu.Lock()
	engine, evaluator := al.engine, al.evaluator
	al.mu.Unlock()
	engine.Remind(ids)
	if evaluator != nil {
		evaluator.evaluator.Remind(ids)
	}
}

// tellReports brings what the reports have to tell to the dispatcher.
func (al *alerts) tellReports() {
	for _, n := range al.book.Due(al.agent.host) {
		if n.Report != nil {
			al.dispatch.Report(*n.Report, n.Channels)
		} else {
			al.dispatch.Note(*n.Item, n.Channels)
		}
		al.book.Done(n)
	}
}

// current is the engine in force.
func (al *alerts) current() *alert.Engine {
	al.mu.Lock()
	defer al.mu.Unlock()
	return al.engine
}

// checkpoint adds the engine's state to what the next checkpoint writes. It is taken
// after the outputs' positions: what an output has was counted before. And what the
// state says was notified is on disk before it.
func (al *alerts) checkpoint(into map[string]json.RawMessage) {
	flows := al.agent.allFlows()
	al.mu.Lock()
	defer al.mu.Unlock()
	now := time.Now()
	al.sweep(flows, now)
	days := al.days()
	snapshot := al.snapshot(now)
	if !al.persist() {
		al.book.Redo(days)
		al.changed.Store(true)
		return
	}
	maps.Copy(into, days)
	if snapshot != nil {
		into[engineKey], al.written = snapshot, now
	} else if _, had := al.agent.journal.Get(engineKey); had && len(al.rules) == 0 {
		into[engineKey] = nil
	}
}

// days is what of the reports is to be written.
func (al *alerts) days() map[string]json.RawMessage {
	days, err := al.book.Changes(al.agent.stopping.Load())
	if err != nil {
		al.agent.log.Error("what the reports count cannot be saved", "error", err)
	}
	return days
}

// snapshot is what of the engine is to be written; nil when it need not be.
func (al *alerts) snapshot(now time.Time) json.RawMessage {
	if len(al.rules) == 0 || !al.changed.Swap(false) && now.Sub(al.written) < idleSnapshot {
		return nil
	}
	snapshot, err := al.engine.Snapshot()
	if err != nil {
		al.agent.log.Error("the alerts' windows cannot be saved; after a crash they begin where they were last saved", "error", err)
		return nil
	}
	return snapshot
}

func (al *alerts) persist() bool {
	err := al.dispatch.Persist()
	if err != nil {
		al.agent.log.Error("alert state", "error", err)
	}
	return err == nil
}

// noteCounted notes the file generations that a snapshot has positions of.
func (al *alerts) noteCounted(snapshot json.RawMessage) {
	var s struct {
		Counted map[string]json.RawMessage `json:"counted"`
	}
	if json.NewDecoder(bytes.NewReader(snapshot)).Decode(&s) == nil {
		for name := range s.Counted {
			al.counted[name] = struct{}{}
		}
	}
}

// sweep forgets the positions of file generations that the journal has forgotten.
func (al *alerts) sweep(flows []*flow, now time.Time) {
	if now.Sub(al.sweptAt) < sweepEvery {
		return
	}
	al.sweptAt = now
	alive := make(map[string]bool)
	for _, f := range flows {
		alive[f.file.Gen()] = true
	}
	relays := watchesKafka(al.agent.config())
	gone := func(name string) bool {
		if isPartition(name) {
			return !relays
		}
		_, known := al.agent.journal.Get("file/" + name)
		return !known && !alive[name]
	}
	for name := range al.counted {
		if gone(name) {
			al.engine.Forget(name)
			delete(al.counted, name)
		}
	}
	for _, name := range al.book.Positions() {
		if gone(name) {
			al.book.Forget(name)
		}
	}
}

// close ends the work for the fleet, sends what still can be sent, and keeps the rest
// for the next start.
func (al *alerts) close(ctx context.Context) {
	al.mu.Lock()
	node, evaluator, silences := al.node, al.evaluator, al.silences
	al.mu.Unlock()
	node.end()
	evaluator.end()
	silences.end()
	ctx, cancel := context.WithTimeout(ctx, lastNotices)
	defer cancel()
	if err := al.dispatch.Close(ctx); err != nil {
		al.agent.log.Error("alert state", "error", err)
	}
}

// watches tells whether a rule watches the input's lines; al.mu is held.
func (al *alerts) watches(input string, kafka bool) bool {
	return slices.ContainsFunc(al.rules, func(r *alert.Rule) bool { return r.Watches(input, kafka) })
}

// watched tells whether a rule or a report of cfg watches the input's lines.
func watched(cfg *config.Config, in *config.Input) bool {
	rules, err := compileRules(cfg)
	if err != nil {
		return false // config.Load has compiled the same
	}
	reports, err := compileReports(cfg)
	if err != nil {
		return false // as above
	}
	kafka := in.Kind() == "kafka"
	return slices.ContainsFunc(rules, func(r *alert.Rule) bool { return r.Watches(in.Name, kafka) }) ||
		slices.ContainsFunc(reports, func(r *report.Report) bool { return r.Watches(in.Name, kafka) })
}
