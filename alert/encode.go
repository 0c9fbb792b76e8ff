package alert

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"

	"github.com/tailwater/tailwater/record"
)

// Snapshot returns the windows, the incidents and the positions up to which the lines
// are counted, all of one moment, as JSON. An evaluator's engine has Changes and
// Resume in its place.
//
// In a backlog of many groups it is some megabytes, each second: the groups are written
// without reflection, and into memory that suffices, as the last one did.
func (e *Engine) Snapshot() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := stateWriter{b: make([]byte, 0, e.snapshotRoom), raw: e.encoding[:0]}
	s.value(`{"version":`, snapshotVersion)
	s.value(`,"boot":`, e.boot)
	if len(e.counted) > 0 {
		s.value(`,"counted":`, e.counted)
	}
	s.list(`,"rules":`, len(e.watches), func(i int) { s.watch(e.watches[i]) })
	s.text("}")
	e.snapshotRoom, e.encoding = len(s.b)+len(s.b)/8, s.raw
	return s.b, s.err
}

// stateWriter writes what snapshot and its parts say, as JSON.
type stateWriter struct {
	b, raw []byte // raw is scratch
	err    error
}

func (s *stateWriter) text(t string) { s.b = append(s.b, t...) }

// value writes the rare values, for which json has to suffice.
func (s *stateWriter) value(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil && s.err == nil {
		s.err = err
	}
	s.b = append(append(s.b, key...), b...)
}

func (s *stateWriter) number(key string, n int64) {
	s.b = strconv.AppendInt(append(s.b, key...), n, 10)
}

// bytes writes bytes as json does, unless there are none.
func (s *stateWriter) bytes(key string, b []byte) {
	if len(b) > 0 {
		s.b = append(base64.StdEncoding.AppendEncode(append(append(s.b, key...), '"'), b), '"')
	}
}

// list writes a list of n, unless there are none.
func (s *stateWriter) list(key string, n int, element func(i int)) {
	for i := range n {
		if i == 0 {
			s.text(key)
			s.text("[")
		} else {
			s.text(",")
		}
		element(i)
	}
	if n > 0 {
		s.text("]")
	}
}

func (s *stateWriter) string(key, v string) {
	if v != "" {
		s.raw = append(s.raw[:0], v...)
		s.b = append(record.AppendEscaped(append(append(s.b, key...), '"'), s.raw), '"')
	}
}

// watch writes a watchState.
func (s *stateWriter) watch(w *watch) {
	w.digest()
	state := watchState{Name: w.rule.cfg.Name, Fingerprint: w.rule.fingerprint, Newest: w.newest, End: w.end, Decided: w.decided}
	if w.lead.upTo != -never {
		state.LedUpTo = w.lead.upTo
	}
	s.value("", state)
	if len(w.groups) > 0 {
		s.b = s.b[:len(s.b)-1] // the brace
		s.text(`,"groups":`)
		first := byte('[')
		for _, g := range w.groups {
			s.b = append(s.b, first)
			s.group(g)
			first = ','
		}
		s.text("]}")
	}
}

// group writes a groupState.
func (s *stateWriter) group(g *group) {
	s.raw = append(s.raw[:0], g.key...)
	s.text(`{"k":"`)
	s.b = base64.StdEncoding.AppendEncode(s.b, s.raw)
	s.number(`","b":`, g.base.at)
	s.number(`,"l":`, g.lastSeen)
	s.raw = g.appendSeconds(s.raw[:0])
	s.bytes(`,"s":`, s.raw)
	s.raw = g.appendDist(s.raw[:0])
	s.bytes(`,"d":`, s.raw)
	if g.open != nil {
		s.value(`,"o":`, g.open)
	}
	if len(g.closed) > 0 {
		s.value(`,"c":`, g.closed)
	}
	if len(g.runs) > 0 {
		s.value(`,"r":`, g.runs)
	}
	s.list(`,"x":`, len(g.samples), func(i int) { s.sample(&g.samples[i]) })
	s.list(`,"t":`, len(g.tallies), func(i int) { s.tally(&g.tallies[i]) })
	if len(g.told) > 0 {
		s.value(`,"e":`, g.told)
	}
	s.text("}")
}

// sample writes a sampleState.
func (s *stateWriter) sample(x *sampleLine) {
	s.number(`{"m":`, x.milli)
	s.text(`,"t":"`)
	s.b = append(base64.StdEncoding.AppendEncode(s.b, x.text), '"')
	s.bytes(`,"r":`, x.requestID)
	s.string(`,"h":`, x.from.host)
	s.string(`,"f":`, x.from.file)
	if x.evidence != 0 {
		s.b = strconv.AppendUint(append(s.b, `,"e":`...), x.evidence, 10)
	}
	s.text("}")
}

// tally writes a tallyState.
func (s *stateWriter) tally(t *tally) {
	s.number(`{"s":`, t.slot)
	s.string(`,"h":`, t.from.host)
	s.string(`,"f":`, t.from.file)
	s.number(`,"n":`, t.n)
	s.text("}")
}

// appendSeconds writes, for each second, the distance to the one before, the counters
// and the accumulators.
func (g *group) appendSeconds(b []byte) []byte {
	before := int64(0)
	for i, sec := range g.secs {
		b = binary.AppendVarint(b, sec-before)
		before = sec
		for _, n := range g.counts(i) {
			b = binary.AppendUvarint(b, uint64(n))
		}
		for _, a := range g.fieldsAt(i) {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(a.max))
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(a.sum))
			b = binary.AppendVarint(b, a.n)
		}
	}
	return b
}

// appendDist writes, for each field, the number of slots, and for each slot its index,
// the number of bins, and the bins' indexes and counts. Indexes are distances.
func (g *group) appendDist(b []byte) []byte {
	for j := range g.dist {
		d := &g.dist[j]
		b = binary.AppendUvarint(b, uint64(len(d.slots)))
		slot := int64(0)
		for i := range d.slots {
			b = binary.AppendVarint(b, d.slots[i].index-slot)
			slot = d.slots[i].index
			bins := d.of(i)
			b = binary.AppendUvarint(b, uint64(len(bins)))
			bin := int64(0)
			for _, x := range bins {
				b = binary.AppendVarint(b, int64(x.Index)-bin)
				bin = int64(x.Index)
				b = binary.AppendUvarint(b, uint64(x.N))
			}
		}
	}
	return b
}
