package consume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/internal/backoff"
)

const (
	fetchBytes = 512 << 10              // of one answer, compressed
	fetchWait  = 250 * time.Millisecond // for the first byte
	blockBytes = 256 << 10              // a block is handed on when it holds this much
)

// partition is one that this member reads.
type partition struct {
	source *Source
	id     partitionID
	docs   documents

	next int64 // the offset to be read; owned by read

	mu     sync.Mutex // guards what follows
	steps  []step     // under way, in the order of the offsets
	safe   int64      // everything before it is delivered; -1: nothing is known
	stored int64      // what is committed
	end    int64      // the partition's end when it was last read; -1: not known
}

// step is a block under way.
type step struct {
	to   int64 // the offset after its last record
	done bool
}

func newPartition(s *Source, id partitionID, from int64) *partition {
	p := &partition{source: s, id: id, next: from, safe: -1, stored: -1, end: -1}
	p.docs = newDocuments(&s.Config, id)
	return p
}

// begin notes a block under way; the function it returns, that it is delivered.
func (p *partition) begin(to int64) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, step{to: to})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range p.steps {
			if p.steps[i].to == to {
				p.steps[i].done = true
			}
		}
		n := 0
		for n < len(p.steps) && p.steps[n].done {
			p.safe = p.steps[n].to
			n++
		}
		p.steps = append(p.steps[:0], p.steps[n:]...)
	}
}

// pass notes that there was nothing to deliver before to.
func (p *partition) pass(to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.steps); n > 0 {
		p.steps = append(p.steps, step{to: to, done: true})
		return
	}
	p.safe = to
}

func (p *partition) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.steps) > 0
}

func (p *partition) toCommit() (offset int64, moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.safe, p.safe > p.stored
}

func (p *partition) committed(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = offset
}

func (p *partition) lag() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end < 0 || p.safe < 0 {
		return 0
	}
	return max(0, p.end-p.safe)
}

// read fetches and hands on until ctx ends.
func (p *partition) read(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		err := p.fetch(ctx)
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		failures++
		if failures > 2 { // a leader that moved is found by then
			p.source.trouble(fmt.Errorf("topic %s partition %d: %w", p.id.topic, p.id.index, err))
		}
		if errors.Is(err, kafka.OffsetOutOfRange) {
			p.startAnew(ctx)
		}
		backoff.Sleep(ctx, backoff.Policy{Cap: 5 * time.Second}.Delay(failures))
	}
}

// startAnew goes to the oldest record that there is: retention was faster than the
// output, or the topic is another of the same name.
func (p *partition) startAnew(ctx context.Context) {
	resp, err := p.source.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{p.id.topic: {kafka.FirstOffsetOf(p.id.index)}}})
	if err != nil {
		return // fetch will say the same again
	}
	for _, at := range resp.Topics[p.id.topic] {
		if at.Partition == p.id.index && at.Error == nil {
			p.source.Log.Error("records are gone before they were read; going on with the oldest", "input", p.source.Name,
				"topic", p.id.topic, "partition", p.id.index, "from", p.next, "to", at.FirstOffset)
			p.next = at.FirstOffset
			p.mu.Lock()
			p.stored = -1 // it may be lower than what was committed
			p.mu.Unlock()
		}
	}
}

// fetch reads once and hands on what there is.
func (p *partition) fetch(ctx context.Context) error {
	resp, err := p.source.client.Fetch(ctx, &kafka.FetchRequest{Topic: p.id.topic, Partition: p.id.index, Offset: p.next,
		MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.end = resp.HighWatermark
	p.mu.Unlock()
	batches := []protocol.RecordReader{resp.Records}
	if stream, ok := resp.Records.(*protocol.RecordStream); ok {
		batches = stream.Records
	}
	for _, b := range batches {
		_, control := b.(*protocol.ControlBatch)
		if err := p.batch(ctx, b, control); err != nil {
			return err
		}
	}
	return p.handOn(ctx)
}

// batch takes the records of one record batch. Of a control batch only the offsets
// count.
func (p *partition) batch(ctx context.Context, records protocol.RecordReader, control bool) error {
	for {
		rec, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("record at %d: %w", p.next, err)
		}
		if !control && (p.next < 0 || rec.Offset >= p.next) { // a batch may begin before what was asked for
			err = p.docs.add(rec)
		}
		if rec.Key != nil {
			rec.Key.Close()
		}
		if rec.Value != nil {
			rec.Value.Close()
		}
		if err != nil {
			return fmt.Errorf("record at %d: %w", rec.Offset, err)
		}
		p.next = max(p.next, rec.Offset+1)
		if p.docs.block != nil && len(p.docs.block.Data) >= blockBytes {
			if err := p.handOn(ctx); err != nil {
				return err
			}
		}
	}
}

// handOn delivers the block at hand.
func (p *partition) handOn(ctx context.Context) error {
	b := p.docs.block
	p.docs.block = nil
	p.source.Count(p.docs.lines, p.docs.bytes, p.docs.parseErrors)
	p.docs.lines, p.docs.bytes, p.docs.parseErrors = 0, 0, 0
	if b == nil || len(b.Docs) == 0 {
		if b != nil {
			b.Release()
		}
		if p.next >= 0 {
			p.pass(p.next)
		}
		return nil
	}
	done := p.begin(p.next)
	if err := p.source.Deliver(ctx, b, done); err != nil {
		b.Release()
		return err // ctx has ended; what is not delivered is read again
	}
	return nil
}
