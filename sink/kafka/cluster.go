package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/tailwater/tailwater/internal/backoff"
)

// brokers is a real cluster. It knows the leaders of the topics that are written to,
// and asks again as soon as a leader turns out to be another.
type brokers struct {
	dialer dialer
	seeds  []string
	acks   Acks
	wait   time.Duration // how long a broker may wait for its replicas

	asking sync.Mutex // held during metadata requests: who waits finds what the other learned

	mu        sync.Mutex // guards what follows
	addresses map[int32]string
	topics    map[string]*leaders
	links     map[int32]*linkTo
	closed    bool
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
	up      bool // the last try to reach it succeeded; guarded by brokers.mu
}

func newBrokers(c Config) *brokers {
	return &brokers{
		dialer: dialer{dial: c.Dial, tls: c.TLS, sasl: c.SASL}, seeds: c.Brokers, acks: c.Acks,
		// The broker's own limit ends before ours, so that it can say what it waits for.
		wait:      c.Timeout / 2,
		addresses: make(map[int32]string), topics: make(map[string]*leaders), links: make(map[int32]*linkTo),
	}
}

// produce stores one sealed batch. sealed is not read any more when it returns.
func (b *brokers) produce(ctx context.Context, topic string, index int, sealed []byte) error {
	began := time.Now()
	err := b.tryProduce(ctx, topic, index, sealed)
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

func (b *brokers) tryProduce(ctx context.Context, topic string, index int, sealed []byte) error {
	t, err := b.leadersOf(ctx, topic, time.Time{})
	if err != nil {
		return err
	}
	if index >= len(t.brokers) {
		return kafka.UnknownTopicOrPartition
	}
	c := &call{topic: topic, partition: int32(index), sealed: sealed, done: make(chan error, 1)}
	l, err := b.link(ctx, t.brokers[index])
	if err != nil {
		return err
	}
	if !l.submit(c) {
		return fmt.Errorf("broker %s: the connection broke", l.address)
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		// What is on the way cannot be called back: only with the connection.
		l.fail(fmt.Errorf("broker %s: %w", l.address, context.Cause(ctx)))
		return <-c.done
	}
}

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
	b.mu.Lock()
	address, known := b.addresses[id]
	if !known {
		b.mu.Unlock()
		return nil, kafka.LeaderNotAvailable
	}
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
	conn, err := b.dialer.connect(ctx, address)
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
	to.address, to.link = address, newLink(conn.raw, address, conn.versions[protocol.Produce], b.acks, b.wait)
	return to.link, nil
}

// up tells of each broker that was written to whether it could be reached last.
func (b *brokers) up() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	up := make(map[string]bool)
	for id, to := range b.links {
		up[b.addresses[id]] = to.up
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
	m, err := b.ask(ctx, &metadata.Request{TopicNames: []string{topic}})
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
	b.mu.Lock()
	defer b.mu.Unlock()
	b.learnBrokers(resp)
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

func (b *brokers) learnBrokers(resp *metadata.Response) {
	for _, r := range resp.Brokers {
		b.addresses[r.NodeID] = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
	}
}

// ask sends one request to any broker that can be reached and returns its answer.
func (b *brokers) ask(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	b.mu.Lock()
	addresses := slices.Clone(b.seeds)
	for _, a := range b.addresses {
		if !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	b.mu.Unlock()
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	var problems error
	for _, address := range addresses {
		m, err := b.askAt(ctx, address, req)
		if err == nil {
			return m, nil
		}
		if problems == nil {
			problems = err
		} else {
			problems = fmt.Errorf("%w; %w", problems, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, problems
}

// askAt opens a connection for one request: they are rare, and a broker that was
// killed and came back never meets us with a stale connection.
func (b *brokers) askAt(ctx context.Context, address string, req protocol.Message) (protocol.Message, error) {
	conn, err := b.dialer.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ask(ctx, req)
}

// newProducer asks for a producer of a lane's own.
func (b *brokers) newProducer(ctx context.Context) (producer, error) {
	// -1 asks for a new producer; zeroes would name one that exists.
	m, err := b.ask(ctx, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1, TransactionTimeoutMs: 60_000})
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
	_, err := b.ask(ctx, &metadata.Request{TopicNames: []string{}})
	return err
}

// partitions returns how many partitions a topic has, and creates the topic where
// there is none: one named after a project comes into being with its first line.
func (b *brokers) partitions(ctx context.Context, topic string) (n int, created bool, err error) {
	t, err := b.leadersOf(ctx, topic, time.Time{})
	if err == nil {
		return len(t.brokers), false, nil
	}
	if !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return 0, false, explainTopic(topic, err)
	}
	if err := b.create(ctx, topic); err != nil {
		return 0, false, err
	}
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
func (b *brokers) create(ctx context.Context, topic string) error {
	m, err := b.ask(ctx, &metadata.Request{TopicNames: []string{}})
	if err != nil {
		return err
	}
	cluster := m.(*metadata.Response)
	b.mu.Lock()
	b.learnBrokers(cluster)
	controller := b.addresses[cluster.ControllerID]
	b.mu.Unlock()
	// -1: as many partitions and replicas as the cluster gives by default.
	req := &createtopics.Request{TimeoutMs: int32(b.wait.Milliseconds()), Topics: []createtopics.RequestTopic{{Name: topic, NumPartitions: -1, ReplicationFactor: -1}}}
	if m, err = b.askAt(ctx, controller, req); err != nil {
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
		return b.addresses[t.brokers[partition]]
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
