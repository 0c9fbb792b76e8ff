package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// cluster is what a lane needs of Kafka.
type cluster interface {
	// produce stores one sealed and stamped batch; errors of the broker are
	// kafka.Error values.
	produce(ctx context.Context, topic string, partition int, sealed []byte) error
	// newProducer asks for a producer of the lane's own.
	newProducer(ctx context.Context) (producer, error)
	// partitions is how many partitions the topic has.
	partitions(ctx context.Context, topic string) (int, error)
}

// item is one document in a lane, and the shipment to tell what became of it.
type item struct {
	ref record.Ref
	of  *shipment
	at  int // its index there
}

// lane is one partition: it stores its documents in order, one batch at a time.
// While a batch is under way the next one fills, so that batches grow with the load
// and no document waits for a clock.
type lane struct {
	cluster   cluster
	cfg       *Config
	topic     string
	partition int
	report    func(error)

	mu      sync.Mutex // guards waiting and bytes
	waiting []item
	filled  chan struct{} // has a token while waiting is not empty

	// Owned by run.
	batch      batch
	compressor compressor
	producer   producer
	known      bool // producer is one
	sequence   int32
}

func newLane(c cluster, cfg *Config, topic string, partition int, report func(error)) *lane {
	return &lane{cluster: c, cfg: cfg, topic: topic, partition: partition, report: report, filled: make(chan struct{}, 1)}
}

// add queues documents in order.
func (l *lane) add(items ...item) {
	l.mu.Lock()
	l.waiting = append(l.waiting, items...)
	l.mu.Unlock()
	select {
	case l.filled <- struct{}{}:
	default:
	}
}

// run stores what is added until ctx ends; what is left then is answered as such.
func (l *lane) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			l.giveUp(ctx, l.take(nil))
			return
		case <-l.filled:
		}
		for items := l.take(nil); len(items) > 0; items = l.take(items) {
			if !l.store(ctx, items) {
				l.giveUp(ctx, l.take(nil))
				return
			}
		}
	}
}

// take returns what waits, up to one batch's bytes; spare is memory to use again.
func (l *lane) take(spare []item) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for n < len(l.waiting) && (n == 0 || bytes < l.cfg.BatchBytes) {
		d := l.waiting[n].ref.Doc()
		bytes += int(d.End-d.Start) + recordOverhead
		n++
	}
	clear(spare)
	items := append(spare[:0], l.waiting[:n]...)
	rest := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[rest:])
	l.waiting = l.waiting[:rest]
	return items
}

// recordOverhead is about what a record has beside its value: the headers above all.
const recordOverhead = 96

// store writes the items as one batch, again until the broker has it; in halves when
// it is too large. It returns false when ctx has ended.
func (l *lane) store(ctx context.Context, items []item) bool {
	failures := 0
	sealed := false
	for {
		err := l.ensureProducer(ctx)
		if err == nil && !sealed {
			if err = l.seal(items); err != nil {
				l.refuse(items, "encoding", err)
				return true
			}
			sealed = true
		}
		if err == nil {
			stamp(l.batch.out, l.producer, l.sequence)
			err = l.try(ctx)
		}
		switch {
		case err == nil, errors.Is(err, kafka.DuplicateSequenceNumber):
			l.sequence = nextSequence(l.sequence, int32(len(items)))
			l.report(nil)
			for _, it := range items {
				it.of.delivered(1)
			}
			return true
		case errors.Is(err, kafka.MessageSizeTooLarge), errors.Is(err, kafka.RecordListTooLarge):
			if len(items) == 1 {
				l.refuse(items, "too_large", err)
				return true
			}
			half := len(items) / 2
			return l.store(ctx, items[:half]) && l.store(ctx, items[half:])
		case errors.Is(err, kafka.InvalidRecord), errors.Is(err, kafka.InvalidTimestamp):
			if len(items) == 1 {
				l.refuse(items, "invalid_record", err)
				return true
			}
			half := len(items) / 2
			return l.store(ctx, items[:half]) && l.store(ctx, items[half:])
		case lostProducer(err):
			l.known = false // a new one begins at sequence 0
		}
		if ctx.Err() != nil {
			l.giveUp(ctx, items)
			return false
		}
		failures++
		l.report(l.explain(err))
		if backoff.Sleep(ctx, l.cfg.Backoff.Delay(failures)) != nil {
			l.giveUp(ctx, items)
			return false
		}
	}
}

func (l *lane) ensureProducer(ctx context.Context) error {
	if l.known || l.cfg.Acks != AcksAll {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	p, err := l.cluster.newProducer(ctx)
	if err != nil {
		return fmt.Errorf("ask for a producer id: %w", err)
	}
	l.producer, l.sequence, l.known = p, 0, true
	return nil
}

func (l *lane) seal(items []item) error {
	l.batch.reset()
	if l.cfg.Acks != AcksAll {
		l.producer, l.sequence = producer{id: -1, epoch: -1}, -1
	}
	now := time.Now().UnixMilli()
	for _, it := range items {
		at := now
		if l.cfg.RecordTime == EventTime {
			at = it.ref.Doc().Time
		}
		var key []byte
		if l.cfg.Key != nil {
			key = l.cfg.Key.Append(nil, it.ref, now)
		}
		l.batch.append(it.ref, key, at)
	}
	return l.batch.seal(l.cfg.Codec, &l.compressor)
}

func (l *lane) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	return l.cluster.produce(ctx, l.topic, l.partition, l.batch.out)
}

// nextSequence advances as the brokers count: after the largest int32 comes 0.
func nextSequence(s, n int32) int32 {
	if s < 0 {
		return s // not idempotent
	}
	return int32((int64(s) + int64(n)) & (1<<31 - 1))
}

// lostProducer are the answers after which a producer's sequences are worth nothing:
// the broker has forgotten it, fenced it, or misses a batch before this one.
func lostProducer(err error) bool {
	for _, lost := range []kafka.Error{kafka.OutOfOrderSequenceNumber, kafka.InvalidProducerEpoch, kafka.UnknownProducerId,
		kafka.InvalidProducerIDMapping, kafka.ProducerFenced} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

// explain puts err in words for the person on call.
func (l *lane) explain(err error) error {
	where := fmt.Sprintf("kafka: topic %s partition %d", l.topic, l.partition)
	switch {
	case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return fmt.Errorf("%s: not allowed: %w; give this user WRITE on the topic and IDEMPOTENT_WRITE on the cluster", where, err)
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		return fmt.Errorf("%s: there is no such topic: %w; `tailwater setup` creates it", where, err)
	case errors.Is(err, kafka.NotEnoughReplicas), errors.Is(err, kafka.NotEnoughReplicasAfterAppend):
		return fmt.Errorf("%s: too few replicas in sync: %w; are brokers down?", where, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func (l *lane) refuse(items []item, reason string, err error) {
	for _, it := range items {
		it.of.refuse(it.at, reason, err.Error())
	}
}

// giveUp answers that the items were not stored as far as is known.
func (l *lane) giveUp(ctx context.Context, items []item) {
	for ; len(items) > 0; items = l.take(nil) {
		for _, it := range items {
			it.of.again(it.at, context.Cause(ctx))
		}
	}
}

// shipment gathers what became of one batch of the Deliverer.
type shipment struct {
	mu     sync.Mutex
	left   int
	result sink.Result
	done   func(sink.Result)
}

func (s *shipment) delivered(n int) { s.settle(n, func(*sink.Result) {}) }

func (s *shipment) refuse(at int, reason, detail string) {
	s.settle(1, func(r *sink.Result) {
		r.Refused = append(r.Refused, sink.Refusal{Index: at, Reason: reason, Detail: detail})
	})
}

func (s *shipment) again(at int, cause error) {
	s.settle(1, func(r *sink.Result) {
		r.Retry, r.Reason = append(r.Retry, at), "stopped"
	})
}

func (s *shipment) settle(n int, note func(*sink.Result)) {
	s.mu.Lock()
	note(&s.result)
	s.left -= n
	done := s.left == 0
	s.mu.Unlock()
	if done {
		s.done(s.result)
	}
}
