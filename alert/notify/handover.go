package notify

import (
	"context"
	"slices"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// Notices of the fleet are kept by its evaluators until all channels have answered. The
// one that is to send them hands them to its Dispatcher with Post; when another is to
// do it, they are taken back. So they are sent once, whoever dies.

// Note is what is told once beside the rules: a report, or an item such as a group that
// has gone over a report's limit.
type Note struct {
	Report *Report `json:"report,omitempty"`
	Item   *Item   `json:"item,omitempty"`
	// Channels are to get it; none: all.
	Channels []string `json:"channels,omitempty"`
}

// Post makes an event due on the channels of its rule, but those that are done with it.
// It is called again with the same event by who takes it over, perhaps in this process.
func (d *Dispatcher) Post(e *alert.Event, done []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	route := d.rules.RouteOf(&e.Incident)
	n := d.posted(e)
	if n == nil {
		n = &Notice{Item: new(NewItem(e.Kind, e.At, e.Incident, route))}
		d.appendFleet(n, route.Channels)
	}
	d.post(n, route.Channels, done)
}

// PostNote is Post for a note.
func (d *Dispatcher) PostNote(note *Note, done []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.postedNote(note)
	if n == nil {
		n = &Notice{Item: note.Item, Report: note.Report}
		d.appendFleet(n, note.Channels)
	}
	n.Report = note.Report // of one that was taken back the rows were let go
	d.post(n, note.Channels, done)
}

// appendFleet takes a notice of the fleet; d.mu is held.
func (d *Dispatcher) appendFleet(n *Notice, channels []string) {
	now := time.Now()
	n.At, n.Fleet = now.UTC(), true
	d.append(n)
	if n.Item == nil {
		return // silences do not hold for reports
	}
	if s := d.silencedBy(n.Item.Labels, now); s != nil {
		n.Silence = s.ID + " by " + s.Author
		for name := range d.lanes {
			if wants(channels, name) {
				d.counts[[2]string{name, "silenced"}]++
			}
		}
	}
}

// post makes a notice of the fleet due; d.mu is held.
func (d *Dispatcher) post(n *Notice, channels, done []string) {
	if n.Silence != "" {
		return
	}
	for name := range d.lanes {
		if !wants(channels, name) || slices.Contains(done, name) {
			continue
		}
		if s := n.Sent[name]; s != nil && s.State == Abandoned && s.Error == takenBack {
			delete(n.Sent, name)
		}
		d.due(n, name, "")
	}
}

// Posted tells which channels are done with an event, in the order of their names, and
// whether others are not.
func (d *Dispatcher) Posted(e *alert.Event) (done []string, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.posted(e).answers()
}

// PostedNote is Posted for a note.
func (d *Dispatcher) PostedNote(note *Note) (done []string, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.postedNote(note).answers()
}

// answers are those of the channels; the Dispatcher's mu is held.
func (n *Notice) answers() (done []string, waits bool) {
	if n == nil {
		return nil, true
	}
	for name, s := range n.Sent {
		switch {
		case s.State == Waiting, s.State == Abandoned && s.Error == takenBack:
			waits = true
		default:
			done = append(done, name)
		}
	}
	slices.Sort(done)
	return done, waits
}

// Withdraw takes an event back from the channels that have not got it. It waits for
// answers that are under way until ctx ends, and returns the channels that are done
// with it.
func (d *Dispatcher) Withdraw(ctx context.Context, e *alert.Event) (done []string) {
	return d.withdraw(ctx, func() *Notice { return d.posted(e) })
}

// WithdrawNote is Withdraw for a note.
func (d *Dispatcher) WithdrawNote(ctx context.Context, note *Note) (done []string) {
	return d.withdraw(ctx, func() *Notice { return d.postedNote(note) })
}

func (d *Dispatcher) withdraw(ctx context.Context, find func() *Notice) (done []string) {
	for {
		d.mu.Lock()
		n, news := find(), d.news
		underWay := n != nil && d.takeBack(n)
		done, _ = n.answers()
		d.mu.Unlock()
		if !underWay || ctx.Err() != nil {
			return done
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// takenBack is why a delivery was abandoned that others make.
const takenBack = "the fleet's evaluators go on with it"

// takeBack abandons what waits and is not under way, and tells whether something is;
// d.mu is held.
func (d *Dispatcher) takeBack(n *Notice) (underWay bool) {
	for _, s := range n.Sent {
		switch {
		case s.State != Waiting:
		case s.underWay:
			underWay = true
		default:
			s.State, s.At, s.Error = Abandoned, time.Now().UTC(), takenBack
			d.mark(n.key())
		}
	}
	return underWay
}

// posted finds the notice of an event.
func (d *Dispatcher) posted(e *alert.Event) *Notice {
	for _, n := range slices.Backward(d.notices) {
		if n.Fleet && n.Item != nil && n.Item.Kind == e.Kind && n.Item.Incident.ID == e.Incident.ID && n.Item.Incident.Notices == e.Incident.Notices {
			return n
		}
	}
	return nil
}

// postedNote finds the notice of a note.
func (d *Dispatcher) postedNote(note *Note) *Notice {
	for _, n := range slices.Backward(d.notices) {
		switch {
		case !n.Fleet:
		case note.Report != nil && n.Report != nil && n.Report.ID == note.Report.ID && n.Report.Host == note.Report.Host:
			return n
		case note.Item != nil && n.Item != nil && n.Item.Kind == alert.Noted && n.Item.Incident.ID == note.Item.Incident.ID:
			return n
		}
	}
	return nil
}
