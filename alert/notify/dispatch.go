package notify

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// Options are what a Dispatcher needs.
type Options struct {
	// Host is the name of this host, for the messages.
	Host  string
	Store Store
	Log   *slog.Logger
}

// Lane is a channel with its place in the configuration.
type Lane struct {
	Name string
	// Channel is the channel itself. A Lane whose Channel is the same as before a
	// Configure goes on without noticing; so it must be comparable: a pointer.
	Channel Channel
	// Fallback is the channel that is told what this one could not deliver; "": none.
	Fallback string
	// Beat is how often the channel is told that the alerts are alive; 0: never.
	Beat time.Duration
}

// Route is what the rules say of an incident.
type Route struct {
	Labels, Annotations, Links map[string]string
	// Channels are to get its notices; none: all.
	Channels []string
}

// Rules tells the Dispatcher of the rules in force. The functions are called from
// several goroutines, RouteOf also while the engine is locked: it must not call the
// engine.
type Rules struct {
	RouteOf func(*alert.Incident) Route
	// Firing are the incidents that are open and were notified.
	Firing func() []alert.Incident
	// Alive tells why the rules are not evaluated; nil when they are, ErrStarting soon after
	// the start.
	Alive func() error
}

// Count is a number of notices by channel and result.
type Count struct {
	Channel, Result string
	N               uint64
}

// Dispatcher brings notices to channels. Its methods may be called from any goroutine.
type Dispatcher struct {
	host  string
	store Store
	log   *slog.Logger

	saving      sync.Mutex // see Persist
	configuring sync.Mutex

	mu       sync.Mutex // guards what follows; never held while anybody is waited for
	notices  []*Notice  // in order of Seq
	seq      uint64
	silences map[string]*Silence
	ended    map[string]bool // incidents that are over without a notice
	changed  map[string]struct{}
	counts   map[[2]string]uint64
	rules    Rules
	lanes    map[string]*lane
	news     chan struct{} // closed and made anew when a delivery has changed
	closing  bool
}

// New returns a Dispatcher with what the Store has of an earlier life. It sends
// nothing before Configure.
func New(o Options) *Dispatcher {
	d := &Dispatcher{
		host: o.Host, store: o.Store, log: o.Log, silences: make(map[string]*Silence), ended: make(map[string]bool),
		changed: make(map[string]struct{}), counts: make(map[[2]string]uint64), lanes: make(map[string]*lane), news: make(chan struct{}),
	}
	d.load()
	return d
}

// Configure sets the rules and the channels, and begins to send. What waits for a
// channel that is gone goes to its former fallback, else to all channels.
func (d *Dispatcher) Configure(rules Rules, lanes []Lane) {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	d.mu.Lock()
	gone, next := maps.Clone(d.lanes), make(map[string]*lane)
	for _, c := range lanes {
		if l := d.lanes[c.Name]; l != nil && l.channel == c.Channel {
			next[c.Name] = l
			delete(gone, c.Name)
		}
	}
	d.mu.Unlock()
	for _, l := range gone {
		l.stop() // its last answer is noted before a successor sends the same
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return
	}
	d.rules = rules
	for _, c := range lanes {
		l := next[c.Name]
		if l == nil {
			l = newLane(d, c.Name, c.Channel)
			next[c.Name] = l
		}
		if l.fallback = c.Fallback; l.beat != c.Beat {
			l.beat = c.Beat
			l.wakeUp()
		}
	}
	d.lanes = next
	for _, l := range gone {
		if next[l.name] == nil {
			d.inherit(l)
		}
	}
	for _, l := range next {
		l.start()
	}
}

// inherit gives the notices that wait for a channel that is gone to others.
func (d *Dispatcher) inherit(l *lane) {
	now := time.Now()
	for _, n := range d.notices {
		s := n.Sent[l.name]
		if s == nil || s.State != Waiting {
			continue
		}
		s.State, s.At, s.Error = Abandoned, now.UTC(), "the channel was removed from the configuration"
		heirs := []string{l.fallback}
		if d.lanes[l.fallback] == nil {
			heirs = slices.Collect(maps.Keys(d.lanes))
		}
		for _, heir := range heirs {
			d.due(n, heir, l.name)
		}
		d.mark(n.key())
	}
}

// due makes the notice due on a channel, unless it is there already.
func (d *Dispatcher) due(n *Notice, channel, instead string) bool {
	l := d.lanes[channel]
	if l == nil || n.Sent[channel] != nil {
		return false
	}
	if n.Sent == nil {
		n.Sent = make(map[string]*Delivery)
	}
	now := time.Now()
	n.Sent[channel] = &Delivery{State: Waiting, At: now.UTC(), For: instead}
	l.pacer.due(now)
	d.mark(n.key())
	l.wakeUp()
	return true
}

// Emit takes an event of the engine. It does not wait for anything: the notice is in
// memory when it returns, and in the Store after the next Persist. An event that is
// known already, because the engine goes over it again after a restart, is dropped.
func (d *Dispatcher) Emit(e alert.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.lastOf(e.Incident.ID)
	if last != nil && (last.Item.Kind == alert.Resolved || e.Kind != alert.Resolved && last.Item.Incident.Notices >= e.Incident.Notices) {
		return
	}
	route := d.rules.RouteOf(&e.Incident)
	d.tell(NewItem(e.Kind, e.At, e.Incident, route), route.Channels, last != nil)
}

// Note takes what is told once, such as a group that has gone over a report's limit. Of
// one incident id only the first is told.
func (d *Dispatcher) Note(it Item, channels []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastOf(it.Incident.ID) == nil {
		d.tell(it, channels, false)
	}
}

// tell makes the item due, unless it is silenced. known says whether there was a notice
// of the incident before.
func (d *Dispatcher) tell(it Item, channels []string, known bool) {
	now := time.Now()
	n := &Notice{At: now.UTC(), Item: &it}
	d.append(n)
	if s := d.silencedBy(it.Labels, now); s != nil {
		n.Silence = s.ID + " by " + s.Author
		for name := range d.lanes {
			if wants(channels, name) {
				d.counts[[2]string{name, "silenced"}]++
			}
		}
		return
	}
	for name := range d.lanes {
		if wants(channels, name) && (it.Kind != alert.Resolved || known && d.told(it.Incident.ID, name)) {
			d.due(n, name, "")
		}
	}
}

// Report makes a report due. Of one id only the first is sent. Silences do not hold for
// reports.
func (d *Dispatcher) Report(r Report, channels []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.notices {
		if n.Report != nil && n.Report.ID == r.ID {
			return
		}
	}
	n := &Notice{At: time.Now().UTC(), Report: &r}
	d.append(n)
	for name := range d.lanes {
		if wants(channels, name) {
			d.due(n, name, "")
		}
	}
}

// told tells whether a channel knows of the incident, or is going to.
func (d *Dispatcher) told(id, channel string) bool {
	for _, n := range slices.Backward(d.notices) {
		if n.Item != nil && n.Item.Incident.ID == id && n.Sent[channel] != nil && n.Sent[channel].State != Refused {
			return true
		}
	}
	return false
}

func (d *Dispatcher) append(n *Notice) {
	d.seq++
	n.Seq = d.seq
	d.notices = append(d.notices, n)
	d.mark(n.key())
}

func wants(channels []string, name string) bool {
	return len(channels) == 0 || slices.Contains(channels, name)
}

// NewItem puts an incident and its route together.
func NewItem(kind alert.Kind, at time.Time, in alert.Incident, r Route) Item {
	it := Item{Kind: kind, At: at, Incident: in, Labels: r.Labels, Annotations: r.Annotations, Links: r.Links}
	for _, n := range in.Numbers {
		it.Numbers = append(it.Numbers, n.String())
	}
	return it
}

// firing returns the incidents that a channel is to keep alive.
func (d *Dispatcher) firing(channel string) (out []Item) {
	d.mu.Lock()
	rules := d.rules
	d.mu.Unlock()
	if rules.Firing == nil {
		return nil
	}
	for _, in := range rules.Firing() { // it locks the engine, which calls Emit
		route := rules.RouteOf(&in)
		d.mu.Lock()
		silence := d.silencedBy(route.Labels, time.Now())
		d.mu.Unlock()
		if silence == nil && wants(route.Channels, channel) {
			out = append(out, NewItem(alert.Repeated, time.Now(), in, route))
		}
	}
	return out
}

// Say makes a line by hand due on the named channels; none: all. It returns the
// notice's number, for Wait.
func (d *Dispatcher) Say(text string, channels []string) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if strings.TrimSpace(text) == "" {
		return 0, fmt.Errorf("there is no text to send")
	}
	names := slices.Sorted(maps.Keys(d.lanes))
	for _, c := range channels {
		if d.lanes[c] == nil {
			return 0, fmt.Errorf("there is no channel %q; known channels: %s", c, strings.Join(names, ", "))
		}
	}
	n := &Notice{At: time.Now().UTC(), Text: text}
	d.append(n)
	for _, name := range names {
		if wants(channels, name) {
			d.due(n, name, "")
		}
	}
	return n.Seq, nil
}

// Wait returns a notice when it is not due anywhere any more, or when ctx ends.
func (d *Dispatcher) Wait(ctx context.Context, seq uint64) Notice {
	for {
		d.mu.Lock()
		i, known := slices.BinarySearchFunc(d.notices, seq, func(n *Notice, seq uint64) int { return int(int64(n.Seq) - int64(seq)) })
		if !known {
			d.mu.Unlock()
			return Notice{Seq: seq}
		}
		n, news := d.notices[i].copied(), d.news
		d.mu.Unlock()
		if !n.waits() || ctx.Err() != nil {
			return n
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// Counts returns the numbers of notices. The results are delivered, retried (a try
// that failed), refused, abandoned, silenced, fallback (handed on to it), heartbeat and
// heartbeat_missed.
func (d *Dispatcher) Counts() []Count {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Count, 0, len(d.counts))
	for k, n := range d.counts {
		out = append(out, Count{k[0], k[1], n})
	}
	return out
}

// Close sends what waits for channels that work, until ctx ends, and stops. What is
// left is sent after the next start.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	d.mu.Lock()
	d.closing = true
	lanes := slices.Collect(maps.Values(d.lanes))
	d.mu.Unlock()
	for _, l := range lanes {
		l.wakeUp()
	}
	for d.busy() {
		d.mu.Lock()
		news := d.news
		d.mu.Unlock()
		if !d.busy() {
			break
		}
		select {
		case <-news:
			continue
		case <-ctx.Done():
		}
		break
	}
	for _, l := range lanes {
		l.stop()
	}
	return d.Persist()
}

// busy tells whether something waits for a channel that has not just failed.
func (d *Dispatcher) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.notices {
		for name, s := range n.Sent {
			if l := d.lanes[name]; s.State == Waiting && l != nil && l.failures == 0 {
				return true
			}
		}
	}
	return false
}

// tellNews wakes those who wait for deliveries; d.mu is held.
func (d *Dispatcher) tellNews() {
	close(d.news)
	d.news = make(chan struct{})
}
