package alert

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tailwater/tailwater/record"
)

// snapshotVersion is raised when an older tailwater could not read the snapshot.
const snapshotVersion = 1

type snapshot struct {
	Version int                   `json:"version"`
	Boot    uint64                `json:"boot"`
	Counted map[string]record.Pos `json:"counted,omitempty"`
	Rules   []watchState          `json:"rules"`
}

type watchState struct {
	Name        string       `json:"name"`
	Fingerprint string       `json:"fingerprint"`
	Newest      int64        `json:"newest"`
	End         int64        `json:"end"`
	Decided     int64        `json:"decided"`
	LedUpTo     int64        `json:"led_up_to,omitempty"`
	Groups      []groupState `json:"groups,omitempty"`
}

type groupState struct {
	Key      []byte        `json:"k"`
	Base     int64         `json:"b"`
	LastSeen int64         `json:"l"`
	Seconds  []byte        `json:"s,omitempty"` // varints; see appendSeconds
	Dist     []byte        `json:"d,omitempty"` // varints; see appendDist
	Open     *open         `json:"o,omitempty"`
	Closed   []span        `json:"c,omitempty"`
	Runs     []span        `json:"r,omitempty"`
	Samples  []sampleState `json:"x,omitempty"`
	Tallies  []tallyState  `json:"t,omitempty"`
	Told     []Told        `json:"e,omitempty"`
}

type sampleState struct {
	Milli     int64  `json:"m"`
	Text      []byte `json:"t"`
	RequestID []byte `json:"r,omitempty"`
	Host      string `json:"h,omitempty"`
	File      string `json:"f,omitempty"`
	Evidence  uint64 `json:"e,omitempty"`
}

type tallyState struct {
	Slot int64  `json:"s"`
	Host string `json:"h,omitempty"`
	File string `json:"f,omitempty"`
	N    int64  `json:"n"`
}

// Restore puts a snapshot into an engine that has just been made. Rules that the
// snapshot does not know, or that count something else by now, begin anew. After an
// error the engine is as it was.
func (e *Engine) Restore(data []byte) error {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	if s.Version != snapshotVersion {
		return fmt.Errorf("alert state: version %d, this tailwater reads %d", s.Version, snapshotVersion)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.enter()
	known := make(map[*watch]map[string]*group)
	for _, state := range s.Rules {
		for _, w := range e.watches {
			if w.rule.cfg.Name == state.Name && w.rule.fingerprint == state.Fingerprint {
				groups, err := w.restore(state)
				if err != nil {
					return fmt.Errorf("alert state: rule %s: %w", state.Name, err)
				}
				known[w] = groups
			}
		}
	}
	for _, state := range s.Rules {
		for w, groups := range known {
			if w.rule.cfg.Name == state.Name {
				w.newest, w.end, w.decided, w.groups = state.Newest, state.End, state.Decided, groups
				w.sweptDecided = -never
				if state.LedUpTo != 0 {
					w.lead.upTo = state.LedUpTo
				}
			}
		}
	}
	for name, at := range s.Counted {
		e.counted[name] = at
	}
	e.boot = max(e.boot, s.Boot+1)
	e.restored = true
	return nil
}

// plausible tells whether seconds lie in the years that a line's time can have.
func plausible(secs ...int64) bool {
	for _, s := range secs {
		if s != -never && (s < -62135596800 || s > 253402300799) {
			return false
		}
	}
	return true
}

// plausible tells whether the times of the state can be worked with.
func (s *groupState) plausible() bool {
	ok := s.Base != -never && plausible(s.Base, s.LastSeen)
	for _, x := range append(slices.Clone(s.Closed), s.Runs...) {
		ok = ok && plausible(x.From, x.To)
	}
	for _, x := range s.Told {
		ok = ok && plausible(x.Began, x.Last)
	}
	return ok && (s.Open == nil || plausible(s.Open.Began, s.Open.Last))
}

func (w *watch) restore(s watchState) (map[string]*group, error) {
	groups := make(map[string]*group, len(s.Groups))
	if !plausible(s.Newest, s.End, s.Decided) {
		return nil, errDamaged
	}
	for _, state := range s.Groups {
		if !state.plausible() {
			return nil, errDamaged
		}
		g := newGroup(w, string(state.Key), state.Base+1)
		g.lastSeen = state.LastSeen
		g.open, g.closed, g.runs, g.told = state.Open, state.Closed, state.Runs, state.Told
		if g.open != nil && len(g.open.Numbers) != len(w.rule.atoms) {
			g.open.Numbers = nil // the condition was changed
		}
		for _, x := range state.Samples {
			g.samples = append(g.samples, sampleLine{milli: x.Milli, text: x.Text, requestID: x.RequestID, from: placeOf{x.Host, x.File}, evidence: x.Evidence})
		}
		for _, t := range state.Tallies {
			g.tallies = append(g.tallies, tally{t.Slot, placeOf{t.Host, t.File}, t.N})
		}
		if err := g.readSeconds(state.Seconds); err != nil {
			return nil, err
		}
		if err := g.readDist(state.Dist); err != nil {
			return nil, err
		}
		g.base.place(&g.seconds, state.Base, w.rule.within)
		groups[g.key] = g
	}
	return groups, nil
}

var errDamaged = errors.New("damaged")

// varints reads what the append functions wrote.
type varints struct {
	b   []byte
	bad bool
}

func (v *varints) signed() int64 {
	x, n := binary.Varint(v.b)
	return x * v.took(n)
}

func (v *varints) unsigned() uint64 {
	x, n := binary.Uvarint(v.b)
	return x * uint64(v.took(n))
}

// took passes over n bytes and returns 1, or 0 when there was nothing to read.
func (v *varints) took(n int) int64 {
	if n <= 0 {
		v.bad, v.b = true, nil
		return 0
	}
	v.b = v.b[n:]
	return 1
}

func (v *varints) float() float64 {
	if len(v.b) < 8 {
		v.took(0)
		return 0
	}
	x := math.Float64frombits(binary.LittleEndian.Uint64(v.b))
	v.took(8)
	return x
}

func (g *group) readSeconds(b []byte) error {
	v := varints{b: b}
	sec := int64(0)
	for len(v.b) > 0 {
		step := v.signed()
		sec += step
		if len(g.secs) > 0 && step <= 0 || !plausible(sec) {
			return errDamaged
		}
		g.secs = append(g.secs, sec)
		for range g.counters {
			g.cnt = append(g.cnt, uint32(v.unsigned()))
		}
		for range g.fields {
			g.accs = append(g.accs, acc{v.float(), v.float(), v.signed()})
		}
	}
	if v.bad {
		return errDamaged
	}
	return nil
}

func (g *group) readDist(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	v := varints{b: b}
	for i := range g.dist {
		slot := int64(0)
		for n := v.unsigned(); n > 0 && !v.bad; n-- {
			step := v.signed()
			slot += step
			d := &g.dist[i]
			if len(d.slots) > 0 && step <= 0 || !plausible(slot) {
				return errDamaged
			}
			at, bin := d.at(slot), int64(0)
			for m := v.unsigned(); m > 0 && !v.bad; m-- {
				bin = min(max(bin+v.signed(), zeroBin), math.MaxInt32)
				d.bins = append(d.bins, Bin{int32(bin), uint32(v.unsigned())})
			}
			d.put(at, d.of(at), g.watch.engine)
			d.slots[at].total = d.of(at).total()
		}
	}
	if v.bad || len(v.b) > 0 {
		return errDamaged
	}
	return nil
}
