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

// Post makes an event due on the channels of its rule, but those that are done with it.
// It is called again with the same event by who takes it over, perhaps in this process.
func (d *Dispatcher) Post(e *alert.Event, done []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	route := d.rules.RouteOf(&e.Incident)
	now := time.Now()
	n := d.posted(e)
	if n == nil {
		n = &Notice{At: now.UTC(), Fleet: true, Item: new(NewItem(e.Kind, e.At, e.Incident, route))}
		d.append(n)
		if s := d.silencedBy(route.Labels, now); s != nil {
			n.Silence = s.ID + " by " + s.Author
			for name := range d.lanes {
				if wants(route.Channels, name) {
					d.counts[[2]string{name, "silenced"}]++
				}
			}
		}
	}
	if n.Silence != "" {
		return
	}
	for name := range d.lanes {
		if !wants(route.Channels, name) || slices.Contains(done, name) {
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
	n := d.posted(e)
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
	for {
		d.mu.Lock()
		n, news := d.posted(e), d.news
		underWay := n != nil && d.takeBack(n)
		d.mu.Unlock()
		if !underWay || ctx.Err() != nil {
			done, _ = d.Posted(e)
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
		if n.Fleet && n.Item.Kind == e.Kind && n.Item.Incident.ID == e.Incident.ID && n.Item.Incident.Notices == e.Incident.Notices {
			return n
		}
	}
	return nil
}
