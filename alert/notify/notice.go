package notify

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Store keeps small records through restarts.
type Store interface {
	// Commit sets the given records, and deletes those whose value is nil; they are on
	// disk when it returns nil.
	Commit(change map[string]json.RawMessage) error
	// Range calls f for each record. f neither keeps value nor calls the Store.
	Range(f func(key string, value []byte))
}

const (
	noticePrefix  = "notice/"
	silencePrefix = "silence/"
)

// Notice is an event of an incident, or a line by hand, with what became of it on each
// channel.
type Notice struct {
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
	// Item is the event; nil for a line by hand, which is Text, and for a report.
	Item *Item  `json:"item,omitempty"`
	Text string `json:"text,omitempty"`
	// Fleet is set where the fleet's evaluators keep the notice until it is delivered.
	Fleet bool `json:"fleet,omitempty"`
	// Report is a report, without its rows once it is due nowhere any more.
	Report *Report `json:"report,omitempty"`
	// Silence is the silence that kept it from being sent, as it was named then.
	Silence string `json:"silence,omitempty"`
	// Sent is what became of it, by channel.
	Sent map[string]*Delivery `json:"sent,omitempty"`
}

// Delivery is what became of a notice on one channel.
type Delivery struct {
	State State `json:"state"`
	// At is when it came to that state.
	At time.Time `json:"at"`
	// For is the channel that this one is the fallback of.
	For string `json:"for,omitempty"`
	// Error is the last answer, while it waits, or the one that ended it.
	Error string `json:"error,omitempty"`

	underWay bool // the channel has been asked, and has not answered
}

// State is how far a delivery is.
type State string

// The states of a delivery. All but Waiting are final.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered"
	Refused   State = "refused"
	// Abandoned is what no channel took within a day, or what lost its channel.
	Abandoned State = "abandoned"
)

// IsNotice tells whether the Store's record of that key is a notice, and IsSilence
// whether it is a silence.
func IsNotice(key string) bool { return strings.HasPrefix(key, noticePrefix) }

// IsSilence: see IsNotice.
func IsSilence(key string) bool { return strings.HasPrefix(key, silencePrefix) }

func (n *Notice) key() string { return fmt.Sprintf("%s%016x", noticePrefix, n.Seq) }

// waits tells whether the notice is still due somewhere.
func (n *Notice) waits() bool {
	for _, s := range n.Sent {
		if s.State == Waiting {
			return true
		}
	}
	return false
}

// copied returns a notice that does not change any more.
func (n *Notice) copied() Notice {
	c := *n
	c.Sent = make(map[string]*Delivery, len(n.Sent))
	for name, s := range n.Sent {
		one := *s
		c.Sent[name] = &one
	}
	return c
}

func newID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// load reads what the Store has of an earlier life.
func (d *Dispatcher) load() {
	d.store.Range(func(key string, value []byte) {
		switch {
		case strings.HasPrefix(key, noticePrefix):
			n := new(Notice)
			if err := json.Unmarshal(value, n); err != nil || n.key() != key {
				d.log.Error("a notice in the state is unreadable; it is left out", "key", key, "error", err)
				return
			}
			d.notices = append(d.notices, n)
			d.seq = max(d.seq, n.Seq)
			if n.Fleet {
				d.takeBack(n) // whoever decides now has what was not sent
			}
		case strings.HasPrefix(key, silencePrefix):
			s := new(Silence)
			if err := json.Unmarshal(value, s); err != nil {
				d.log.Error("a silence in the state is unreadable; it does not hold", "key", key, "error", err)
				return
			}
			d.silences[s.ID] = s
		}
	})
	slices.SortFunc(d.notices, func(a, b *Notice) int { return cmp.Compare(a.Seq, b.Seq) })
}

// mark notes that the record of that key has changed; d.mu is held.
func (d *Dispatcher) mark(key string) { d.changed[key] = struct{}{} }

// Persist brings to the Store what has changed. What was emitted before the call is
// there when it returns nil.
func (d *Dispatcher) Persist() error {
	// One at a time, from the look at the records to their being on disk: an older
	// state of a record must not overtake a newer one.
	d.saving.Lock()
	defer d.saving.Unlock()
	change, err := d.changes()
	if len(change) == 0 || err != nil {
		return err
	}
	if err := d.store.Commit(change); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		for key := range change {
			d.mark(key)
		}
		return fmt.Errorf("notices not saved: %w; they are sent all the same, and after a crash perhaps again", err)
	}
	return nil
}

// changes encodes the records that have changed, and forgets what is history.
func (d *Dispatcher) changes() (map[string]json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.changed) == 0 {
		return nil, nil
	}
	d.prune()
	change := make(map[string]json.RawMessage, len(d.changed))
	for key := range d.changed {
		change[key] = nil
	}
	encode := func(key string, v any) (err error) {
		if _, wanted := change[key]; wanted {
			change[key], err = json.Marshal(v)
		}
		return err
	}
	for _, n := range d.notices {
		if n.Report != nil && n.Report.Rows != nil && !n.waits() {
			n.Report = n.Report.brief()
		}
		if err := encode(n.key(), n); err != nil {
			return nil, err
		}
	}
	for id, s := range d.silences {
		if err := encode(silencePrefix+id, s); err != nil {
			return nil, err
		}
	}
	clear(d.changed)
	return change, nil
}

// historyLength is how many notices are kept that nothing depends on any more.
const historyLength = 100

// prune forgets the oldest notices that are not due anywhere and are not the last of
// an incident that goes on.
func (d *Dispatcher) prune() {
	excess := len(d.notices) - historyLength
	if excess <= 0 {
		return
	}
	last := make(map[string]*Notice) // by incident
	for _, n := range d.notices {
		if n.Item != nil {
			last[n.Item.Incident.ID] = n
		}
	}
	d.notices = slices.DeleteFunc(d.notices, func(n *Notice) bool {
		open := n.Item != nil && !n.Fleet && last[n.Item.Incident.ID] == n && n.Item.open() && !d.ended[n.Item.Incident.ID]
		if excess <= 0 || open || n.waits() {
			return false
		}
		excess--
		d.mark(n.key())
		return true
	})
	maps.DeleteFunc(d.ended, func(id string, _ bool) bool { return last[id] == nil })
}

// lastOf returns the last notice of an incident; nil when none is known.
func (d *Dispatcher) lastOf(id string) *Notice {
	for _, n := range slices.Backward(d.notices) {
		if n.Item != nil && n.Item.Incident.ID == id {
			return n
		}
	}
	return nil
}

// Open returns the incidents whose last notice does not say that they are over, and
// when that was. After a restart the engine is to Adopt those that it does not know.
func (d *Dispatcher) Open() []Item {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Item
	seen := make(map[string]bool)
	for _, n := range slices.Backward(d.notices) {
		if n.Item == nil || n.Fleet || seen[n.Item.Incident.ID] {
			continue
		}
		seen[n.Item.Incident.ID] = true
		if n.Item.open() && !d.ended[n.Item.Incident.ID] {
			out = append(out, *n.Item)
		}
	}
	slices.Reverse(out)
	return out
}

// End says that an incident is over without a notice, as its rule is gone.
func (d *Dispatcher) End(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended[id] = true
}

// History returns the notices that are kept, the newest first: at least the last 100.
func (d *Dispatcher) History() []Notice {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Notice, 0, len(d.notices))
	for _, n := range slices.Backward(d.notices) {
		out = append(out, n.copied())
	}
	return out
}
