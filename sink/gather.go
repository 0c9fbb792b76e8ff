package sink

import (
	"time"

	"github.com/tailwater/tailwater/record"
)

// gathering is what was taken from the queue and is no batch yet. A small batch costs
// the destination, and the sink, nearly as much as a large one: beside others it waits a
// moment for more (DeliverConfig.Linger), so that batches grow with the load.
type gathering struct {
	parcels []record.Parcel
	bytes   int
	since   time.Time
}

// gather takes a lot from the queue.
func (d *Deliverer) gather(lot []record.Parcel) {
	bytes := 0
	for _, p := range lot {
		bytes += len(p.Block.Data)
	}
	g := &d.gathered
	if g.bytes+bytes > d.MaxBatchBytes {
		d.shipGathered()
	}
	if len(g.parcels) == 0 {
		g.since = time.Now()
	}
	g.parcels = append(g.parcels, lot...)
	g.bytes += bytes
}

// untilRipe is how long what is gathered waits for more; an hour when there is nothing.
func (d *Deliverer) untilRipe() time.Duration {
	switch g := &d.gathered; {
	case len(g.parcels) == 0 || !d.mayBegin():
		return time.Hour
	case d.drained || len(d.trying)+len(d.ready) == 0 || g.bytes >= d.MaxBatchBytes:
		return 0
	default:
		return max(0, d.Linger-time.Since(g.since))
	}
}

// shipGathered makes a batch of what is gathered.
func (d *Deliverer) shipGathered() {
	g := &d.gathered
	if len(g.parcels) == 0 {
		return
	}
	d.ship(g.parcels)
	clear(g.parcels)
	g.parcels, g.bytes = g.parcels[:0], 0
}
