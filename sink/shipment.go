package sink

import (
	"cmp"
	"slices"
	"time"

	"github.com/tailwater/tailwater/record"
)

// shipment is a batch with what is needed to account for it: the parcels that its
// documents came in. A parcel is done when none of its documents is left.
type shipment struct {
	batch    Batch   // what is still to be delivered
	owners   []int32 // for each document of batch, its parcel
	parcels  []record.Parcel
	done     []bool // for each parcel
	left     []int  // for each parcel, scratch: its documents that are left
	fates    []fate // for each document of batch, scratch
	sequence uint64 // the order of the queue
	bytes    int    // what the batch held when it was taken

	// What the sink refused and is not parked yet, and the parcel of each.
	refused       []Refusal
	refusedRefs   []record.Ref
	refusedOwners []int32

	failures  int       // tries in a row that left something to be done
	due       time.Time // the next try, while waiting
	tryBegan  time.Time
	holdsTurn bool
	putOff    bool // the last try was answered, document by document
}

type fate uint8

const (
	delivered fate = iota
	again
	refusedFate
)

// ship makes a shipment of all documents of the parcels.
func (d *Deliverer) ship(parcels []record.Parcel) {
	s := d.blank()
	d.sequence++
	s.sequence = d.sequence
	s.parcels = append(s.parcels, parcels...)
	for i, p := range parcels {
		s.done = append(s.done, false)
		s.batch.Bytes += len(p.Block.Data)
		for k := range p.Block.Docs {
			s.batch.Refs = append(s.batch.Refs, record.Ref{Block: p.Block, Index: k})
			s.owners = append(s.owners, int32(i))
		}
	}
	s.bytes = s.batch.Bytes
	d.inFlight++
	d.bytes += s.bytes
	d.lines += len(s.batch.Refs)
	if len(s.batch.Refs) == 0 {
		d.finish(s)
		return
	}
	d.enqueue(s)
}

// blank returns an empty shipment, of memory that was used before where there is.
func (d *Deliverer) blank() *shipment {
	n := len(d.spare)
	if n == 0 {
		return &shipment{}
	}
	s := d.spare[n-1]
	d.spare = d.spare[:n-1]
	*s = shipment{
		batch:   Batch{Refs: s.batch.Refs[:0]},
		owners:  s.owners[:0],
		parcels: s.parcels[:0], done: s.done[:0], left: s.left[:0], fates: s.fates[:0],
		refused: s.refused[:0], refusedRefs: s.refusedRefs[:0], refusedOwners: s.refusedOwners[:0],
	}
	return s
}

// enqueue makes s ready to be sent, before all that came later.
func (d *Deliverer) enqueue(s *shipment) {
	at, _ := slices.BinarySearchFunc(d.ready, s, func(a, b *shipment) int { return cmp.Compare(a.sequence, b.sequence) })
	d.ready = slices.Insert(d.ready, at, s)
}

// settle takes a sink's answer: what is delivered is acknowledged, what is refused
// is parked, and the rest waits for its next try.
func (d *Deliverer) settle(a answer) {
	s := a.s
	d.trying = slices.DeleteFunc(d.trying, func(t *shipment) bool { return t == s })
	s.batch.Try++
	d.judge(s, a.result)
	d.park(s)
	d.finish(s)
	if s.holdsTurn {
		s.holdsTurn = false
		<-d.turn
	}
}

// judge sorts the documents of a try into delivered, to be tried again, and refused.
func (d *Deliverer) judge(s *shipment, r Result) {
	total := len(s.batch.Refs)
	reason := cmp.Or(r.Reason, reasonOfUnlabelledTry)
	s.putOff = r.Err == nil
	if r.Err != nil {
		s.failures++
		if !d.stopping {
			d.Meter.Failed(reason, total)
			d.circuit.failed(r.Err, reason)
		}
		return
	}
	unparked := len(s.refused) // of an earlier try
	s.fates = append(s.fates[:0], make([]fate, total)...)
	for _, i := range r.Retry {
		if d.inBatch(i, total) {
			s.fates[i] = again
		}
	}
	for _, refusal := range r.Refused {
		// Refused wins over again, and the first refusal over a second.
		if i := refusal.Index; d.inBatch(i, total) && s.fates[i] != refusedFate {
			s.fates[i] = refusedFate
			refusal.Index = len(s.refusedRefs)
			refusal.Reason = cmp.Or(refusal.Reason, reasonOfUnlabelledItem)
			s.refused = append(s.refused, refusal)
			s.refusedRefs = append(s.refusedRefs, s.batch.Refs[i])
			s.refusedOwners = append(s.refusedOwners, s.owners[i])
		}
	}
	bytes := d.keepOnly(s, again)
	left := len(s.batch.Refs)
	if taken := total - left - (len(s.refused) - unparked); taken > 0 {
		d.taken = time.Now()
		d.Meter.Delivered(taken, bytes)
		d.lines -= taken
	}
	switch {
	case left == 0:
		s.failures = 0
		d.succeeded()
	case left == total:
		s.failures++
		d.Meter.Failed(reason, left)
		d.circuit.failed(errAllAgain{left, reason, r.Why}, reason)
	default:
		s.failures++
		d.Meter.Failed(reason, left)
		d.succeeded()
		d.circuit.partly(left, total, reason, r.Why)
	}
}

func (d *Deliverer) inBatch(i, total int) bool {
	if i >= 0 && i < total {
		return true
	}
	d.Log.Error("a sink answered for a document that is not in its batch; please report it", "output", d.Name, "index", i, "documents", total)
	return false
}

// keepOnly shrinks the batch to the documents of that fate and returns the bytes
// of those that were delivered.
func (d *Deliverer) keepOnly(s *shipment, keep fate) (deliveredBytes int) {
	n := 0
	s.batch.Bytes = 0
	for i, ref := range s.batch.Refs {
		doc := ref.Doc()
		size := int(doc.End-doc.Start) + 1
		switch s.fates[i] {
		case keep:
			s.batch.Refs[n], s.owners[n] = ref, s.owners[i]
			s.batch.Bytes += size
			n++
		case delivered:
			deliveredBytes += size
		}
	}
	s.batch.Refs, s.owners = s.batch.Refs[:n], s.owners[:n]
	return deliveredBytes
}

// park stores what was refused. When that fails it stays with the shipment.
func (d *Deliverer) park(s *shipment) {
	if len(s.refused) == 0 {
		return
	}
	if refused := s.unparked(); len(refused) > 0 {
		if err := d.Dead.Park(d.Name, s.refusedRefs, refused); err != nil {
			s.failures++
			d.Meter.Failed("dead_letter", len(s.refused))
			d.circuit.failed(err, "dead_letter")
			return
		}
	}
	d.circuit.parked(s.refused)
	counts := make(map[string]int)
	for _, r := range s.refused {
		counts[r.Reason]++
		if p := s.parcels[s.refusedOwners[r.Index]]; p.Refused != nil {
			p.Refused(s.refusedRefs[r.Index].Index, r.Reason, r.Detail)
		}
	}
	for reason, n := range counts {
		d.Meter.Parked(reason, n)
	}
	d.lines -= len(s.refused)
	s.refused, s.refusedRefs, s.refusedOwners = s.refused[:0], s.refusedRefs[:0], s.refusedOwners[:0]
}

// unparked are the refusals of documents that are no dead letters yet.
func (s *shipment) unparked() []Refusal {
	fresh := s.refused
	if slices.ContainsFunc(s.parcels, func(p record.Parcel) bool { return p.Parked }) {
		fresh = slices.DeleteFunc(slices.Clone(fresh), func(r Refusal) bool { return s.parcels[s.refusedOwners[r.Index]].Parked })
	}
	return fresh
}

// finish acknowledges the parcels of which nothing is left, and ends the shipment
// or has it wait for its next try.
func (d *Deliverer) finish(s *shipment) {
	s.left = append(s.left[:0], make([]int, len(s.parcels))...)
	for _, owner := range s.owners {
		s.left[owner]++
	}
	for _, owner := range s.refusedOwners {
		s.left[owner]++
	}
	open := 0
	for i, p := range s.parcels {
		if s.left[i] > 0 {
			open++
			continue
		}
		if !s.done[i] {
			s.done[i] = true
			p.Done()
			p.Block.Release()
		}
	}
	if open > 0 {
		s.due = time.Now().Add(d.backoff(s.failures))
		d.waiting = append(d.waiting, s)
		return
	}
	d.inFlight--
	d.bytes -= s.bytes
	// The blocks are no longer ours to point into.
	clear(s.parcels)
	clear(s.batch.Refs[:cap(s.batch.Refs)])
	clear(s.refusedRefs[:cap(s.refusedRefs)])
	if len(d.spare) < d.MaxInFlight {
		d.spare = append(d.spare, s)
	}
}

func (d *Deliverer) backoff(failures int) time.Duration {
	policy := d.Backoff
	if d.hurried() {
		policy.Cap = hurriedCap
	}
	return policy.Delay(failures)
}

// due goes on with the shipments whose wait is over.
func (d *Deliverer) due(now time.Time) {
	var ripe []*shipment
	d.waiting = slices.DeleteFunc(d.waiting, func(s *shipment) bool {
		if s.due.After(now) {
			return false
		}
		ripe = append(ripe, s)
		return true
	})
	for _, s := range ripe {
		if len(s.batch.Refs) > 0 {
			d.enqueue(s)
			continue
		}
		d.park(s) // all that is left
		if len(s.refused) == 0 {
			d.succeeded()
		}
		d.finish(s)
	}
}

// wake ends all waits.
func (d *Deliverer) wake() {
	now := time.Now()
	for _, s := range d.waiting {
		s.due = now
	}
}

func (d *Deliverer) untilDue() time.Duration {
	wait := time.Hour
	for _, s := range d.waiting {
		wait = min(wait, time.Until(s.due))
	}
	return max(wait, 0)
}

// succeeded notes that the output takes documents. After an outage it takes what
// waits, too.
func (d *Deliverer) succeeded() {
	if d.circuit.succeeded() {
		d.wake()
	}
}

// release gives back the blocks that are not done.
func (s *shipment) release() {
	for i, p := range s.parcels {
		if !s.done[i] {
			s.done[i] = true
			p.Block.Release()
		}
	}
}
