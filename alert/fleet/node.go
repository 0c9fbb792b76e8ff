package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/internal/backoff"
)

const (
	// publishEvery is how often a node publishes what it has counted.
	publishEvery = 500 * time.Millisecond
	// markEvery is how often it says how far it has read.
	markEvery = time.Second
	// manyGroups is how many have to change for a node to publish at marks only.
	manyGroups = 100
	// appendTimeout bounds one try.
	appendTimeout = 5 * time.Second
	// beatEvery is how often an evaluator says that it lives.
	beatEvery = 3 * time.Second
	// deadAfter is the silence of the evaluators after which a node decides by itself.
	deadAfter = 15 * time.Second
	// inHand is how old, at a heartbeat, lines may be that are not decided yet.
	inHand = 5 * time.Second
)

// NodeConfig is what a Node needs.
type NodeConfig struct {
	// Name is the node's, unlike that of any other.
	Name  string
	Log   Log
	Rules []*alert.Rule // those of scope fleet
	// Engine has counted the host's lines; alert.Engine.Publish has been called.
	Engine *alert.Engine
	// Ready tells whether the inputs have been looked at once.
	Ready func() bool
	// HandedOver is told of incidents that the host has told and that evaluators go on
	// with.
	HandedOver func(ids []string)
	// Reports are those over the fleet, of which Book has counted this host's lines; Host
	// is its name there.
	Reports []*report.Report
	Book    *report.Book
	Host    string
	Logger  *slog.Logger
}

// Node publishes what a host has counted, and tells its engine who decides.
type Node struct {
	cfg NodeConfig

	// Owned by the publishing goroutine.
	partitions int
	backlog    backlog
	marks      []alert.Mark
	markedAt   time.Time
	failures   int
	tryAt      time.Time

	mu      sync.Mutex // guards what follows
	began   time.Time
	heard   map[int]heard // by partition
	total   int           // of partitions, as the last heartbeat has it
	trouble error         // of publishing
	alone   map[string]bool
	dropped uint64
}

// heard is the last heartbeat for a partition.
type heard struct {
	at    time.Time
	rules []string
	open  []openIncident
}

// NewNode returns a Node that Run starts.
func NewNode(c NodeConfig) *Node {
	return &Node{cfg: c, heard: make(map[int]heard), alone: make(map[string]bool), backlog: newBacklog(c.Rules)}
}

// Run publishes and listens until ctx ends. What has been counted by then is
// published, if Kafka takes it at once.
func (n *Node) Run(ctx context.Context) {
	n.mu.Lock()
	n.began = time.Now()
	n.mu.Unlock()
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { n.listen(ctx) })
	work.Go(func() { n.watch(ctx) })
	if len(n.cfg.Reports) > 0 {
		work.Go(func() { newTeller(n).run(ctx) })
	}
	// Not all nodes at once.
	if backoff.Sleep(ctx, rand.N(publishEvery)) == nil {
		for n.publish(ctx); backoff.Sleep(ctx, publishEvery) == nil; {
			n.publish(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	n.tryAt = time.Time{}
	n.publish(last)
}

// publish sends what there is. What Kafka does not take stays for the next time.
func (n *Node) publish(ctx context.Context) {
	now := time.Now()
	if !n.cfg.Ready() || len(n.cfg.Rules) == 0 {
		return
	}
	r := n.cfg.Engine.Report()
	n.mu.Lock()
	n.dropped += n.backlog.add(r.Partials, now)
	n.mu.Unlock()
	n.marks = r.Marks
	due := now.Sub(n.markedAt) >= markEvery-publishEvery/2
	// With many groups a second's counts go once, and not in halves.
	idle := n.backlog.empty() || len(n.backlog.groups) > manyGroups
	if !due && idle || now.Before(n.tryAt) {
		return
	}
	err := n.send(ctx, due)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trouble = err
	if err == nil {
		if n.failures > 1 {
			n.cfg.Logger.Info("the fleet has this host's counts again")
		}
		n.failures = 0
		if due {
			n.markedAt = now
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	n.failures++
	wait := backoff.Policy{First: publishEvery, Cap: 2 * time.Second}.Delay(n.failures)
	n.tryAt = time.Now().Add(wait)
	if n.failures == 2 { // one alone is a leader that moved
		n.cfg.Logger.Warn("this host's counts do not reach the fleet; they are kept and tried again", "error", err)
	}
}

// send writes the backlog, and the marks behind it, to all partitions.
func (n *Node) send(ctx context.Context, marks bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, appendTimeout, fmt.Errorf("no answer within %v", appendTimeout))
	defer cancel()
	if n.partitions == 0 {
		count, err := n.cfg.Log.Open(ctx)
		if err != nil {
			return err
		}
		n.partitions = count
	}
	batches, err := n.backlog.batches(n.cfg.Name, n.partitions)
	if err != nil {
		return err
	}
	mark, err := encodeMarks(n.cfg.Name, n.marks)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	errs := make([]error, n.partitions)
	for p := range n.partitions {
		if !marks && len(batches[p]) == 0 {
			continue
		}
		records := append(batches[p], mark)
		sending.Go(func() { errs[p] = appendAll(ctx, n.cfg.Log, Counts, p, records) })
	}
	sending.Wait()
	for _, err := range errs {
		if err != nil {
			n.partitions = 0 // they may be others by now
			return err
		}
	}
	n.backlog.clear()
	return nil
}

// listen hears the evaluators' heartbeats until ctx ends.
func (n *Node) listen(ctx context.Context) {
	offset, known := int64(-1), int64(0)
	for failures := 0; ctx.Err() == nil; {
		var err error
		if offset < 0 {
			if offset, err = n.cfg.Log.Since(ctx, Beats, 0, time.Now().Add(-4*deadAfter)); err == nil {
				known, err = n.cfg.Log.Since(ctx, Beats, 0, time.Now().Add(time.Hour))
			}
			if err != nil {
				offset = -1
			}
		}
		var records []Record
		if err == nil {
			records, _, err = n.cfg.Log.Read(ctx, Beats, 0, offset, beatEvery)
		}
		if err != nil {
			failures++
			if failures > 3 {
				offset = -1 // the topic may be another one
			}
			backoff.Sleep(ctx, backoff.Policy{First: publishEvery, Cap: 2 * time.Second}.Delay(failures))
			continue
		}
		failures = 0
		for i := range records {
			r := &records[i]
			offset = r.Offset + 1
			at := time.Now()
			if r.Offset < known && r.Time.Before(at) {
				at = r.Time // from before this node has listened
			}
			n.hear(r.Value, at)
		}
	}
}

func (n *Node) hear(value []byte, at time.Time) {
	var b beat
	if json.Unmarshal(value, &b) != nil || b.Partitions < 1 || b.Partitions > 1000 {
		return // of another version: nobody that this node knows
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total = b.Partitions
	for _, p := range b.Decides {
		if p < 0 || p >= b.Partitions {
			continue
		}
		h := heard{at: at, rules: b.Rules}
		for _, o := range b.Open {
			if o.Partition == p {
				h.open = append(h.open, o)
			}
		}
		n.heard[p] = h
	}
}

// watch tells the engine who decides until ctx ends.
func (n *Node) watch(ctx context.Context) {
	for n.leads(); backoff.Sleep(ctx, publishEvery) == nil; {
		n.leads()
	}
}

func (n *Node) leads() {
	for _, r := range n.cfg.Rules {
		l := n.lead(r.Identity())
		n.noteAlone("rule", r.Name(), &l)
		if ids := n.cfg.Engine.SetLead(r.Identity(), l); len(ids) > 0 {
			n.cfg.HandedOver(ids)
		}
	}
	for _, r := range n.cfg.Reports {
		l := n.lead(r.Identity())
		n.noteAlone("report", r.Config().Name, &l)
		n.cfg.Book.SetLed(r.Identity(), l.Led)
	}
}

// noteAlone keeps who decides, and logs it when that changes.
func (n *Node) noteAlone(kind, name string, l *alert.Lead) {
	n.mu.Lock()
	was := n.alone[name]
	n.alone[name] = !l.Led
	n.mu.Unlock()
	if !was && !l.Led {
		n.cfg.Logger.Warn(kind+" is decided on this host's own counts", kind, name, "why", l.Why)
	}
	if was && l.Led {
		n.cfg.Logger.Info(kind+" is decided over the fleet again", kind, name)
	}
}

// lead tells who decides a rule: the evaluators when each partition has one that knows
// it.
func (n *Node) lead(identity string) alert.Lead {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	var l alert.Lead
	last := now
	if n.total == 0 {
		last = n.began
	}
	for p := range n.total {
		h := n.heard[p]
		at := h.at
		if !slices.Contains(h.rules, identity) {
			at = time.Time{}
		}
		if at.Before(n.began) {
			at = n.began // until now nobody could be heard
		}
		if at.Before(last) {
			last = at
		}
		for _, o := range h.open {
			l.Open = append(l.Open, o.Incident)
			l.Notified = append(l.Notified, o.Notified)
		}
	}
	if n.total > 0 && last.After(n.began) {
		l.UpTo, l.Heard = last.Add(-inHand).Unix(), true
	}
	if l.Led = now.Sub(last) < deadAfter; l.Led {
		return l
	}
	switch {
	case n.trouble != nil:
		l.Why = "Kafka cannot be reached"
	case n.total == 0:
		l.Why = fmt.Sprintf("no evaluator's heartbeat for %v", deadAfter)
	default:
		l.Why = fmt.Sprintf("no heartbeat of an evaluator with this rule for %v", deadAfter)
	}
	return l
}

// NodeStatus is how a node fares.
type NodeStatus struct {
	// Alone are the rules and reports that the host decides on its own counts.
	Alone []string `json:"alone,omitempty"`
	// Rules tells for each rule whether it is one of those.
	Rules map[string]bool `json:"-"`
	// Error is what keeps the counts from the fleet; "" when nothing does.
	Error string `json:"error,omitempty"`
	// Dropped are seconds of counts that the fleet will not have, as Kafka could not be
	// reached for too long.
	Dropped uint64 `json:"dropped"`
}

// Status takes stock.
func (n *Node) Status() NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NodeStatus{Dropped: n.dropped, Rules: make(map[string]bool)}
	for _, r := range n.cfg.Rules {
		s.Rules[r.Name()] = n.alone[r.Name()]
	}
	for name, alone := range n.alone {
		if alone {
			s.Alone = append(s.Alone, name)
		}
	}
	slices.Sort(s.Alone)
	if n.trouble != nil {
		s.Error = n.trouble.Error()
	}
	return s
}
