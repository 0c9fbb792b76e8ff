package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/kafka/wire"
)

// brokers is a real cluster. It knows the leaders of the topics that are written to,
// and asks again as soon as a leader turns out to be another.
type brokers struct {
	wire.Cluster
	acks Acks
	wait time.Duration // how long a broker may wait for its replicas

	asking sync.Mutex // held during metadata requests: who waits finds what the other learned

	mu     sync.Mutex // guards what follows
	topics map[string]*leaders
	links  map[int32]*linkTo
	closed bool
}

// leaders are those of a topic's partitions, -1 where there is none at the moment.
type leaders struct {
	brokers []int32
	learned time.Time
}

// linkTo is the place of the link to one broker. Its lock is held while connecting.
type linkTo struct {
	mu      chan struct{} // a lock that one can stop waiting for
	link    *link
	address string
	failed  time.Time // when connecting failed last
	err     error     // and why
	up      bool      // it could be reached last; guarded by brokers.mu
}

const (
	// patience is how long a broker may be silent until the cluster is asked whether
	// another leads the partition by now.
	patience = 3 * time.Second
	// sameFailure is how long those that waited for a connection share its failure,
	// instead of trying one after the other.
	sameFailure = time.Second
)

func newBrokers(c Config) *brokers {
	return &brokers{
		Cluster: wire.Cluster{Dialer: wire.Dialer{Dial: c.Dial, TLS: c.TLS, SASL: c.SASL}, Seeds: c.Brokers}, acks: c.Acks,
		// The broker's own limit ends before ours, so that it can say what it waits for.
		wait:   c.Timeout / 2,
		topics: make(map[string]*leaders), links: make(map[int32]*linkTo),
	}
}

// begin sends one sealed batch.
func (b *brokers) begin(ctx context.Context, topic string, index int, sealed []byte) (wait func() error) {
	began := time.Now()
	c := &call{topic: topic, partition: int32(index), sealed: sealed, done: make(chan error, 1)}
	id, l, err := b.submit(ctx, c)
	return func() error {
		if err == nil {
			err = b.await(ctx, id, l, c)
		}
		if err == nil || ctx.Err() != nil && context.Cause(ctx) == errClosed {
			return err
		}
		if stale(err) { // the leader may be another: know it before the next try
			if _, lerr := b.leadersOf(ctx, topic, began); lerr != nil && lerr.Error() != err.Error() && !errors.As(err, new(kafka.Error)) {
				return fmt.Errorf("%w (and: %w)", err, lerr)
			}
		}
		return err
	}
}

// submit gives a call to the link to the partition's leader.
func (b *brokers) submit(ctx context.Context, c *call) (broker int32, l *link, err error) {
	t, err := b.leadersOf(ctx, c.topic, time.Time{})
	if err != nil {
		return 0, nil, err
	}
	if int(c.partition) >= len(t.brokers) {
		return 0, nil, kafka.UnknownTopicOrPartition
	}
	broker = t.brokers[c.partition]
	if l, err = b.link(ctx, broker); err != nil {
		return 0, nil, err
	}
	if !l.submit(c) {
		return 0, nil, fmt.Errorf("broker %s: the connection broke", l.address)
	}
	return broker, l, nil
}

// await waits for the answer to a call. What is on the way cannot be called back, only
// given up with the connection: at the end of ctx, or when the broker is silent and
// another leads the partition by now.
func (b *brokers) await(ctx context.Context, id int32, l *link, c *call) error {
	submitted := time.Now()
	look := time.NewTimer(patience)
	defer look.Stop()
	moved := make(chan bool, 1)
	for {
		select {
		case err := <-c.done:
			if err == nil && time.Since(submitted) > patience {
				b.setUp(id, true)
			}
			return err
		case <-look.C:
			if time.Since(submitted) > slow-patience {
				b.setUp(id, false)
			}
			b.Doubt(l.address) // or it is the one that is asked who leads now
			go func() {
				t, err := b.leadersOf(ctx, c.topic, time.Now())
				moved <- err == nil && int(c.partition) < len(t.brokers) && t.brokers[c.partition] >= 0 && t.brokers[c.partition] != id
			}()
		case yes := <-moved:
			if yes {
				b.setUp(id, false)
				l.fail(fmt.Errorf("broker %s: %w for %v, and another leads by now", l.address, errSilent, time.Since(submitted).Round(time.Second)))
				return <-c.done
			}
			look.Reset(patience)
		case <-ctx.Done():
			l.fail(fmt.Errorf("broker %s: %w", l.address, context.Cause(ctx)))
			b.setUp(id, false)
			return <-c.done
		}
	}
}

func (b *brokers) setUp(id int32, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if to := b.links[id]; to != nil {
		to.up = up
	}
}

// errSilent is a broker's that has the connection and does not answer: somebody must be
// told of it, though all goes on elsewhere.
var errSilent = errors.New("no answer")

// stale are errors after which the leader is asked for.
func stale(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		return true // the connection
	}
	switch code {
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition, kafka.ReplicaNotAvailable,
		kafka.BrokerNotAvailable, kafka.NetworkException, kafka.GroupLoadInProgress, kafka.KafkaStorageError, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch:
		return true
	}
	return false
}

// link returns the link to a broker, and makes it where there is none.
func (b *brokers) link(ctx context.Context, id int32) (*link, error) {
	address := b.Broker(id)
	if address == "" {
		return nil, kafka.LeaderNotAvailable
	}
	b.mu.Lock()
	to := b.links[id]
	if to == nil {
		to = &linkTo{mu: make(chan struct{}, 1)}
		b.links[id] = to
	}
	b.mu.Unlock()
	select {
	case to.mu <- struct{}{}:
		defer func() { <-to.mu }()
	case <-ctx.Done():
		return nil, fmt.Errorf("broker %s: %w", address, context.Cause(ctx))
	}
	if to.link != nil && to.address == address && to.link.alive() {
		return to.link, nil
	}
	if to.link != nil {
		to.link.close()
		to.link = nil
	}
	if to.err != nil && time.Since(to.failed) < sameFailure {
		return nil, to.err
	}
	conn, err := b.Connect(ctx, address)
	to.failed, to.err = time.Now(), err
	b.mu.Lock()
	to.up = err == nil
	closed := b.closed
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if closed {
		conn.Close()
		return nil, errClosed
	}
	to.address, to.link = address, newLink(conn.Raw, address, conn.Versions[protocol.Produce], b.acks, b.wait)
	return to.link, nil
}

// up tells of each broker that was written to whether it could be reached last.
func (b *brokers) up() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	up := make(map[string]bool)
	for id, to := range b.links {
		up[b.Broker(id)] = to.up
	}
	return up
}

// leadersOf returns a topic's leaders as they were known after since, asking the
// cluster where that is needed.
func (b *brokers) leadersOf(ctx context.Context, topic string, since time.Time) (*leaders, error) {
	if t := b.knownLeaders(topic, since); t != nil {
		return t, nil
	}
	b.asking.Lock()
	defer b.asking.Unlock()
	if t := b.knownLeaders(topic, since); t != nil {
		return t, nil
	}
	m, err := b.Ask(ctx, &metadata.Request{TopicNames: []string{topic}})
	if err != nil {
		return nil, err
	}
	resp := m.(*metadata.Response)
	t := &leaders{learned: time.Now()}
	for _, rt := range resp.Topics {
		if rt.Name != topic {
			continue
		}
		if rt.ErrorCode != 0 {
			return nil, kafka.Error(rt.ErrorCode)
		}
		t.brokers = make([]int32, len(rt.Partitions))
		for _, p := range rt.Partitions {
			if int(p.PartitionIndex) < len(t.brokers) {
				t.brokers[p.PartitionIndex] = p.LeaderID
			}
		}
	}
	if len(t.brokers) == 0 {
		return nil, kafka.UnknownTopicOrPartition
	}
	b.Learn(resp)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[topic] = t
	return t, nil
}

func (b *brokers) knownLeaders(topic string, since time.Time) *leaders {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.topics[topic]; t != nil && t.learned.After(since) {
		return t
	}
	return nil
}

// newProducer asks for a producer of a lane's own.
func (b *brokers) newProducer(ctx context.Context) (producer, error) {
	// -1 asks for a new producer; zeroes would name one that exists.
	m, err := b.Ask(ctx, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1, TransactionTimeoutMs: 60_000})
	if err != nil {
		return producer{}, err
	}
	resp := m.(*initproducerid.Response)
	if resp.ErrorCode != 0 {
		return producer{}, kafka.Error(resp.ErrorCode)
	}
	return producer{resp.ProducerID, resp.ProducerEpoch}, nil
}

// reach returns an error when no broker answers.
func (b *brokers) reach(ctx context.Context) error {
	_, err := b.Ask(ctx, &metadata.Request{TopicNames: []string{}})
	return err
}

// partitions returns how many partitions a topic has now, and creates the topic where
// there is none: one named after a project comes into being with its first line. One that
// was deleted gets as many as it had.
func (b *brokers) partitions(ctx context.Context, topic string) (n int, created bool, err error) {
	was := -1 // as many as the cluster gives by default
	if t := b.knownLeaders(topic, time.Time{}); t != nil {
		was = len(t.brokers)
	}
	t, err := b.leadersOf(ctx, topic, time.Now())
	if err == nil {
		return len(t.brokers), false, nil
	}
	if !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return 0, false, explainTopic(topic, err)
	}
	if err := b.create(ctx, topic, was); err != nil {
		return 0, false, err
	}
	b.forget(topic)
	for { // until the brokers have told each other
		t, err := b.leadersOf(ctx, topic, time.Time{})
		if err == nil && !slices.Contains(t.brokers, -1) {
			return len(t.brokers), true, nil
		}
		if err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, kafka.LeaderNotAvailable) {
			return 0, true, explainTopic(topic, err)
		}
		b.forget(topic)
		if backoff.Sleep(ctx, 50*time.Millisecond) != nil {
			return 0, true, fmt.Errorf("topic %s was created, and its brokers do not know it yet: %w", topic, context.Cause(ctx))
		}
	}
}

func (b *brokers) forget(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.topics, topic)
}

// create makes a topic, by way of the controller: older clusters take it from no
// other broker.
func (b *brokers) create(ctx context.Context, topic string, partitions int) error {
	m, err := b.Ask(ctx, &metadata.Request{TopicNames: []string{}})
	if err != nil {
		return err
	}
	cluster := m.(*metadata.Response)
	b.Learn(cluster)
	controller := b.Broker(cluster.ControllerID)
	// -1: as many replicas as the cluster gives by default.
	req := &createtopics.Request{TimeoutMs: int32(b.wait.Milliseconds()), Topics: []createtopics.RequestTopic{{Name: topic, NumPartitions: int32(partitions), ReplicationFactor: -1}}}
	if m, err = b.AskAt(ctx, controller, req); err != nil {
		return err
	}
	for _, t := range m.(*createtopics.Response).Topics {
		switch code := kafka.Error(t.ErrorCode); code {
		case 0, kafka.TopicAlreadyExists:
		default:
			return fmt.Errorf("there is no such topic, and it cannot be created: %w %s; create it, or give this user CREATE on the cluster", code, t.ErrorMessage)
		}
	}
	return nil
}

// leader is the address of the partition's leader, as far as is known.
func (b *brokers) leader(topic string, partition int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.topics[topic]; t != nil && partition < len(t.brokers) {
		return b.Broker(t.brokers[partition])
	}
	return "unknown"
}

// close takes the connections down; calls under way are answered.
func (b *brokers) close() {
	b.mu.Lock()
	b.closed = true
	links := b.links
	b.links = make(map[int32]*linkTo)
	b.mu.Unlock()
	for _, to := range links {
		to.mu <- struct{}{}
		if to.link != nil {
			to.link.close()
		}
		<-to.mu
	}
}
