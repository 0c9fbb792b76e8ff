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
	// begin sends one sealed and stamped batch; those of a partition are sent in the
	// order of the calls. wait returns what became of it; sealed is not read any more
	// then. Errors of the broker are kafka.Error values.
	begin(ctx context.Context, topic string, partition int, sealed []byte) (wait func() error)
	// newProducer asks for a producer that nobody has.
	newProducer(ctx context.Context) (producer, error)
	// partitions is how many partitions the topic has; it is created where it must be.
	partitions(ctx context.Context, topic string) (n int, created bool, err error)
	// reach returns an error when no broker answers.
	reach(ctx context.Context) error
	// leader is the address of the partition's leader, as far as is known.
	leader(topic string, partition int) string
	up() map[string]bool
}

// run is neighbouring documents of one shipment that go to one partition.
type run struct {
	refs []record.Ref
	of   *shipment // to tell what became of them
	at   int       // the index of the first there
}

// lane is one partition: it stores its documents in order. While a batch is under way
// the next one fills, so that batches grow with the load; full ones follow each other
// without waiting for an answer.
type lane struct {
	cluster   cluster
	cfg       *Config
	topic     string
	partition int
	report    func(error)
	first     func(context.Context) (producer, error)
	batches   *sync.Pool // of *batch, shared by all lanes

	mu      sync.Mutex // guards what follows
	waiting []run      // waiting[head:]
	head    int
	bytes   int
	filled  chan struct{} // has a token while something may wait

	// Owned by run.
	to       int // the partition in which it stores: its own, as long as there is such
	producer producer
	known    bool      // producer is one
	heard    producer  // the last of which the partition has stored a batch
	lost     bool      // there was one, and it is worth nothing any more
	sequence int32     // of the next batch
	stored   time.Time // when the last batch was
	key      []byte
	flights  []*flight // in their order
}

func newLane(c cluster, cfg *Config, topic string, partition int) *lane {
	l := &lane{cluster: c, cfg: cfg, topic: topic, partition: partition, to: partition, filled: make(chan struct{}, 1), heard: producer{id: -1, epoch: -1}}
	return l
}

const (
	// A batch that is small waits until so long after the one before it, so that
	// trickles gather; a line that comes alone does not wait.
	linger     = 25 * time.Millisecond
	smallBatch = 64 << 10
)

// add queues documents in order.
func (l *lane) add(r run) {
	bytes := 0
	for _, ref := range r.refs {
		bytes += size(ref)
	}
	l.mu.Lock()
	if l.head == len(l.waiting) {
		l.waiting, l.head = l.waiting[:0], 0
	}
	l.waiting = append(l.waiting, r)
	l.bytes += bytes
	l.mu.Unlock()
	select {
	case l.filled <- struct{}{}:
	default:
	}
}

// size is about what a document takes in a batch: its headers, too.
func size(ref record.Ref) int {
	d := ref.Doc()
	return int(d.End-d.Start) + 96
}

// run stores what is added until ctx ends; what is left then is answered as such.
func (l *lane) run(ctx context.Context) {
	for {
		var answer <-chan error
		if len(l.flights) > 0 {
			answer = l.flights[0].answer
		}
		select {
		case <-ctx.Done():
			l.stop(ctx)
			return
		case err := <-answer:
			l.land(ctx, err)
		case <-l.filled:
		}
		for ctx.Err() == nil && l.gather(ctx) {
			l.launch(ctx)
		}
	}
}

// gather tells whether a batch may be begun. Beside others that are under way it must
// be full; alone it waits a moment for more where little waits.
func (l *lane) gather(ctx context.Context) bool {
	bytes := l.waitingBytes()
	if n := len(l.flights); n > 0 {
		return n < l.window() && bytes >= l.cfg.BatchBytes
	}
	for deadline := l.stored.Add(linger); bytes > 0 && bytes < smallBatch; {
		wait := time.Until(deadline)
		if wait <= 0 {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.filled:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			break
		}
		bytes = l.waitingBytes()
	}
	return bytes > 0
}

func (l *lane) waitingBytes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// take appends what waits to runs, up to one batch's bytes.
func (l *lane) take(runs []run) []run {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes := 0
	for l.head < len(l.waiting) && bytes < l.cfg.BatchBytes {
		r := &l.waiting[l.head]
		n := 0
		for n < len(r.refs) && bytes < l.cfg.BatchBytes {
			bytes += size(r.refs[n])
			n++
		}
		runs = append(runs, run{r.refs[:n], r.of, r.at})
		if n < len(r.refs) {
			r.refs, r.at = r.refs[n:], r.at+n
			break
		}
		*r = run{}
		l.head++
	}
	l.bytes -= bytes
	return runs
}

func count(runs []run) (n int) {
	for _, r := range runs {
		n += len(r.refs)
	}
	return n
}

// halves splits runs in two of about as many documents.
func halves(runs []run) (a, b []run) {
	half := count(runs) / 2
	for _, r := range runs {
		if n := min(half, len(r.refs)); n > 0 {
			a = append(a, run{r.refs[:n], r.of, r.at})
			r.refs, r.at = r.refs[n:], r.at+n
			half -= n
		}
		if len(r.refs) > 0 {
			b = append(b, r)
		}
	}
	return a, b
}

// store writes the documents as one batch, again until the broker has it; in halves
// when it does not take them together. It returns false when ctx has ended. Nothing
// else is under way.
func (l *lane) store(ctx context.Context, runs []run) bool {
	b := l.batch()
	defer l.putBack(b)
	return l.finish(ctx, b, false, runs)
}

// finish is store with a batch that may be sealed already.
func (l *lane) finish(ctx context.Context, b *batch, sealed bool, runs []run) bool {
	verdict, err := l.settle(ctx, b, sealed, runs)
	switch verdict {
	case stopped:
		giveBack(runs)
		return false
	case refused:
		if count(runs) == 1 {
			runs[0].of.refuse(runs[0].at, reasonOf(err), err.Error())
			return true
		}
		first, second := halves(runs)
		if !l.store(ctx, first) {
			giveBack(second)
			return false
		}
		return l.store(ctx, second)
	}
	delivered(runs)
	return true
}

func delivered(runs []run) {
	for _, r := range runs {
		r.of.delivered(len(r.refs))
	}
}

// giveBack answers that the runs were not stored as far as is known.
func giveBack(runs []run) {
	for _, r := range runs {
		r.of.again(r.at, len(r.refs))
	}
}

func (l *lane) batch() *batch {
	if b, _ := l.batches.Get().(*batch); b != nil {
		return b
	}
	return new(batch)
}

func (l *lane) putBack(b *batch) {
	if b.packer.size() <= 4*l.cfg.BatchBytes { // no giants in the pool
		l.batches.Put(b)
	}
}

type verdict int8

const (
	taken verdict = iota
	refused
	stopped
)

// settle tries until the broker has taken the batch or refused it for good.
func (l *lane) settle(ctx context.Context, b *batch, sealed bool, runs []run) (verdict, error) {
	var gone time.Time // since when there is no such topic
	for failures := 1; ; failures++ {
		err := l.ensureProducer(ctx)
		if err == nil && !sealed {
			if err = l.seal(b, runs); err != nil {
				return refused, err
			}
			sealed = true
		}
		if err == nil {
			stamp(b.out, l.producer, l.sequence)
			err = l.try(ctx, b.out)()
		}
		switch {
		case isStored(err):
			l.sequence = nextSequence(l.sequence, b.count)
			l.heard = l.producer
			l.report(nil)
			return taken, nil
		case errors.Is(err, kafka.MessageSizeTooLarge), errors.Is(err, kafka.RecordListTooLarge),
			errors.Is(err, kafka.InvalidRecord), errors.Is(err, kafka.InvalidTimestamp):
			return refused, err
		case lostProducer(err):
			l.known, l.lost = false, true // a new one begins at sequence 0
		case !errors.Is(err, kafka.UnknownTopicOrPartition):
			gone = time.Time{}
		case gone.IsZero():
			gone = time.Now()
		case time.Since(gone) > goneAfter:
			if ferr := l.findAgain(ctx); ferr != nil {
				err = ferr
			}
		}
		if ctx.Err() != nil {
			return stopped, nil
		}
		if failures > 1 || !stale(err) { // a leader that moved is found before the next try
			l.report(l.explain(err))
		}
		if backoff.Sleep(ctx, l.cfg.Backoff.Delay(failures)) != nil {
			return stopped, nil
		}
	}
}

// goneAfter is how long a topic that was there must be unknown until it is made again:
// who deletes one to make it anew by hand comes first.
const goneAfter = 3 * time.Second

// findAgain has the topic made that somebody has deleted, as with the first line of a
// project. Where it has fewer partitions than before, this lane shares one with another.
func (l *lane) findAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, errNoAnswer)
	defer cancel()
	n, _, err := l.cluster.partitions(ctx, l.topic)
	if err != nil {
		return err
	}
	l.to = l.partition % n
	l.known, l.lost = false, true
	return nil
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, kafka.MessageSizeTooLarge), errors.Is(err, kafka.RecordListTooLarge):
		return "too_large"
	case errors.Is(err, kafka.InvalidRecord), errors.Is(err, kafka.InvalidTimestamp):
		return "invalid_record"
	}
	return "encoding"
}

func (l *lane) ensureProducer(ctx context.Context) error {
	if l.known || l.cfg.Acks != AcksAll {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, errNoAnswer)
	defer cancel()
	ask := l.first
	if l.lost {
		ask = l.cluster.newProducer
	}
	p, err := ask(ctx)
	if err != nil {
		return fmt.Errorf("ask for a producer id: %w", err)
	}
	l.producer, l.sequence, l.known = p, 0, true
	return nil
}

func (l *lane) seal(b *batch, runs []run) error {
	b.reset(l.cfg.Codec)
	if l.cfg.Acks != AcksAll {
		l.producer, l.sequence = producer{id: -1, epoch: -1}, -1
	}
	now := time.Now().UnixMilli()
	at := now
	var key []byte
	for _, r := range runs {
		for _, ref := range r.refs {
			if l.cfg.RecordTime == EventTime {
				at = min(ref.Doc().Time, now) // brokers refuse what lies ahead of them
			}
			if l.cfg.Key != nil {
				l.key = l.cfg.Key.Append(l.key[:0], ref, now)
				key = l.key
			}
			if err := b.append(ref, key, at); err != nil {
				return err
			}
		}
	}
	return b.seal()
}

var errNoAnswer = errors.New("no answer in time")

// slow is how long a broker's answer may take before somebody is told.
const slow = 8 * time.Second

// try sends a batch and returns what waits for what became of it.
func (l *lane) try(ctx context.Context, sealed []byte) (wait func() error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, errNoAnswer)
	waiting := time.AfterFunc(slow, func() {
		l.report(l.explain(fmt.Errorf("broker %s: no answer for %v; waiting on", l.cluster.leader(l.topic, l.partition), slow)))
	})
	answer := l.cluster.begin(ctx, l.topic, l.to, sealed)
	return func() error {
		defer cancel()
		defer waiting.Stop()
		return answer()
	}
}

// isStored tells whether an answer means that the broker has the batch.
func isStored(err error) bool {
	return err == nil || errors.Is(err, kafka.DuplicateSequenceNumber)
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
	return fmt.Errorf("kafka: topic %s partition %d: %w", l.topic, l.partition, explainTopic(l.topic, err))
}

// explainTopic adds what to do about an error that the brokers answer.
func explainTopic(topic string, err error) error {
	switch {
	case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return fmt.Errorf("not allowed: %w; give this user DESCRIBE and WRITE on the topic and, on clusters before 2.8, IDEMPOTENT_WRITE", err)
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		return fmt.Errorf("there is no such topic any more: %w; it is created again in a moment", err)
	case errors.Is(err, kafka.NotEnoughReplicas), errors.Is(err, kafka.NotEnoughReplicasAfterAppend):
		return fmt.Errorf("too few replicas in sync: %w; are brokers down?", err)
	case errors.Is(err, kafka.LeaderNotAvailable):
		return fmt.Errorf("it has no leader: %w; are brokers down?", err)
	}
	return err
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

func (s *shipment) again(from, n int) {
	s.settle(n, func(r *sink.Result) {
		for i := range n {
			r.Retry = append(r.Retry, from+i)
		}
		r.Reason, r.Why = "stopped", errClosed.Error()
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
