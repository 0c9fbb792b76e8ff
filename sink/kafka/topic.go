package kafka

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
)

// topic is one topic with its lanes, a lane a partition. Until its partitions are
// known, documents wait in its lobby, in order; a topic that cannot be found holds up
// no other.
type topic struct {
	sink *Sink
	name string

	mu    sync.Mutex // guards what follows
	lobby []run
	lanes []*lane // nil until they are known
	ended bool    // they will never be
	turn  int     // of RoundRobin
}

// add gives documents to the lanes of their partitions.
func (t *topic) add(r run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended:
		r.of.again(r.at, len(r.refs))
	case t.lanes == nil:
		t.lobby = append(t.lobby, r)
	default:
		t.spreadLocked(r)
	}
}

// find learns the topic's partitions, and tries until it does or ctx ends.
func (t *topic) find(ctx context.Context) {
	s := t.sink
	for failures := 1; ; failures++ {
		n, err := t.ask(ctx)
		if err == nil {
			t.open(n)
			s.trouble(t, nil)
			return
		}
		if ctx.Err() != nil {
			break
		}
		s.trouble(t, fmt.Errorf("kafka: topic %s: %w", t.name, err))
		if backoff.Sleep(ctx, s.cfg.Backoff.Delay(failures)) != nil {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, r := range t.lobby {
		r.of.again(r.at, len(r.refs))
	}
	t.lobby = nil
}

func (t *topic) ask(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.sink.cfg.Timeout, errNoAnswer)
	defer cancel()
	n, _, err := t.sink.cluster.partitions(ctx, t.name)
	return n, err
}

// open starts the lanes and sends on what waits for them.
func (t *topic) open(partitions int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range partitions {
		t.lanes = append(t.lanes, t.sink.startLane(t.name, p))
	}
	for _, r := range t.lobby {
		t.spreadLocked(r)
	}
	t.lobby = nil
}

// spreadLocked cuts a run where its documents go to different partitions. Neighbours
// are mostly of one file, and share theirs.
func (t *topic) spreadLocked(r run) {
	t.turn++
	from, at := 0, -1
	var origin *record.Origin
	for i, ref := range r.refs {
		if o := ref.Doc().Origin; o != origin || t.sink.cfg.Spread == ByRequest {
			origin = o
			p := t.partition(ref)
			if at >= 0 && p != at {
				t.lanes[at].add(run{r.refs[from:i], r.of, r.at + from})
				from = i
			}
			at = p
		}
	}
	if at >= 0 {
		t.lanes[at].add(run{r.refs[from:], r.of, r.at + from})
	}
}

// partition chooses the document's. What must stay together is hashed, the same way
// after every restart.
func (t *topic) partition(ref record.Ref) int {
	n := len(t.lanes)
	switch t.sink.cfg.Spread {
	case RoundRobin:
		return t.turn % n
	case ByRequest:
		if id, _ := ref.Routed("request_id"); len(id) > 0 {
			return hashed(id, n)
		}
	case ByProject:
		return hashed([]byte(ref.Doc().Origin.Project), n)
	}
	id := ref.ID()
	return hashed(id[:bytes.LastIndexByte(id, '-')+1], n) // machine and file generation
}

func hashed(key []byte, n int) int { return int(crc32.Checksum(key, castagnoli) % uint32(n)) }
