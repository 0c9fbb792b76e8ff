package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// Sink writes documents to Kafka. Unlike other sinks it tries again itself what the
// brokers may have stored already: such a batch must come again with the same
// sequence and before those after it, or it would be stored twice or not at all.
type Sink struct {
	cfg     Config
	cluster cluster
	close   func()

	ctx    context.Context
	cancel context.CancelCauseFunc
	lanes  sync.WaitGroup

	// Owned by Send.
	topics map[string]*topic
	name   []byte
	memo   *record.Origin
	memoAt *topic
	turn   int // of RoundRobin
	groups map[*lane][]item

	mu     sync.Mutex // guards report and errors
	report func(error)
	errors map[*lane]error
}

// topic is one topic with its lanes, a lane a partition.
type topic struct {
	name  string
	lanes []*lane
}

// New returns a sink; it does not connect yet.
func New(c Config) *Sink {
	transport := &kafka.Transport{ClientID: "tailwater", TLS: c.TLS, SASL: c.SASL, Dial: c.Dial, DialTimeout: 10 * time.Second, MetadataTTL: 10 * time.Second}
	s := newSink(c, nil)
	s.cluster = &brokers{client: &kafka.Client{Addr: kafka.TCP(c.Brokers...), Transport: transport}, acks: c.Acks}
	s.close = transport.CloseIdleConnections
	return s
}

func newSink(c Config, cl cluster) *Sink {
	if c.BatchBytes <= 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	s := &Sink{cfg: c, cluster: cl, close: func() {}, topics: make(map[string]*topic), groups: make(map[*lane][]item), errors: make(map[*lane]error), report: func(error) {}}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Fields are the route keys that topic, key and spread need.
func (s *Sink) Fields() []string {
	fields := s.cfg.Topic.Fields()
	if s.cfg.Key != nil {
		fields = append(fields, s.cfg.Key.Fields()...)
	}
	if s.cfg.Spread == ByRequest {
		fields = append(fields, "request_id")
	}
	return fields
}

// OnTrouble has f called with each error that keeps documents waiting, and with nil
// when none does any more.
func (s *Sink) OnTrouble(f func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = f
}

// Send gives the documents to the lanes of their partitions.
func (s *Sink) Send(ctx context.Context, batch *sink.Batch, done func(sink.Result)) {
	of := &shipment{left: len(batch.Refs), done: done}
	s.turn++
	for i, ref := range batch.Refs {
		t, err := s.topicOf(ctx, ref)
		if err != nil {
			s.clearGroups()
			done(sink.Result{Err: err, Reason: "unreachable"})
			return
		}
		l := t.lanes[s.partition(ref, len(t.lanes))]
		s.groups[l] = append(s.groups[l], item{ref, of, i})
	}
	for l, items := range s.groups {
		l.add(items...)
	}
	s.clearGroups()
}

func (s *Sink) clearGroups() {
	for l, items := range s.groups {
		clear(items)
		s.groups[l] = items[:0]
	}
}

// topicOf finds the document's topic and, the first time, its partitions.
func (s *Sink) topicOf(ctx context.Context, ref record.Ref) (*topic, error) {
	origin := ref.Doc().Origin
	constant := len(s.cfg.Topic.Fields()) == 0
	if constant && origin == s.memo {
		return s.memoAt, nil
	}
	s.name = s.cfg.Topic.Append(s.name[:0], ref, time.Now().UnixMilli())
	t := s.topics[string(s.name)]
	if t == nil {
		name := string(s.name)
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		n, err := s.cluster.partitions(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("kafka: topic %s: %w", name, err)
		}
		t = &topic{name: name}
		for p := range n {
			t.lanes = append(t.lanes, s.startLane(name, p))
		}
		s.topics[name] = t
	}
	s.memo, s.memoAt = origin, t
	return t, nil
}

func (s *Sink) startLane(name string, partition int) *lane {
	var l *lane
	l = newLane(s.cluster, &s.cfg, name, partition, func(err error) { s.trouble(l, err) })
	s.lanes.Go(func() { l.run(s.ctx) })
	return l
}

// trouble keeps which lanes are in trouble, and tells when the first is and when the
// last no longer is.
func (s *Sink) trouble(l *lane, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errors[l] = err
		s.report(err)
		return
	}
	if _, was := s.errors[l]; was {
		delete(s.errors, l)
		if len(s.errors) == 0 {
			s.report(nil)
		}
	}
}

// partition chooses one of n. What must stay together is hashed, the same way after
// every restart.
func (s *Sink) partition(ref record.Ref, n int) int {
	switch s.cfg.Spread {
	case RoundRobin:
		return s.turn % n
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

// Close ends the lanes; what they hold is answered as not delivered.
func (s *Sink) Close() error {
	s.cancel(errors.New("the output was closed"))
	s.lanes.Wait()
	s.close()
	return nil
}

// brokers is the real cluster.
type brokers struct {
	client *kafka.Client
	acks   Acks
}

func (b *brokers) produce(ctx context.Context, topic string, partition int, sealed []byte) error {
	sized := append([]byte{byte(len(sealed) >> 24), byte(len(sealed) >> 16), byte(len(sealed) >> 8), byte(len(sealed))}, sealed...)
	resp, err := b.client.RawProduce(ctx, &kafka.RawProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequiredAcks(b.acks),
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(sized)},
	})
	if err != nil {
		return err
	}
	if resp == nil { // acks 0: nobody answers
		return nil
	}
	return resp.Error
}

func (b *brokers) newProducer(ctx context.Context) (producer, error) {
	// -1 asks for a new producer; zeroes would name one that exists.
	resp, err := b.client.InitProducerID(ctx, &kafka.InitProducerIDRequest{ProducerID: -1, ProducerEpoch: -1, TransactionTimeoutMs: 60_000})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return producer{}, err
	}
	return producer{int64(resp.Producer.ProducerID), int16(resp.Producer.ProducerEpoch)}, nil
}

// partitions creates the topic where there is none: a topic named after a project
// comes into being with the project's first line.
func (b *brokers) partitions(ctx context.Context, topic string) (int, error) {
	n, err := b.known(ctx, topic)
	if !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return n, err
	}
	// -1: as many partitions and replicas as the cluster gives by default.
	resp, err := b.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: -1, ReplicationFactor: -1}}})
	if err == nil {
		err = resp.Errors[topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return 0, fmt.Errorf("there is no such topic, and it cannot be created: %w; create it, or give this user CREATE on the cluster", err)
	}
	for { // until the brokers have told each other
		n, err := b.known(ctx, topic)
		if !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, kafka.LeaderNotAvailable) {
			return n, err
		}
		if backoff.Sleep(ctx, 50*time.Millisecond) != nil {
			return 0, err
		}
	}
}

func (b *brokers) known(ctx context.Context, topic string) (int, error) {
	resp, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	for _, t := range resp.Topics {
		if t.Name == topic {
			return len(t.Partitions), t.Error
		}
	}
	return 0, kafka.UnknownTopicOrPartition
}
