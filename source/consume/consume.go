package consume

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/record"
)

// Parser splits what is not a document of tailwater's own; parser.Parser is one.
type Parser interface {
	Parse(text []byte, r *record.Record)
}

// Config says what to read, and whom to give it to.
type Config struct {
	Name    string   // the input's
	Brokers []string // some of the cluster
	Topics  []string // globs: * and ? as in path.Match
	Except  []string // names of topics that are not read, whatever Topics says
	Group   string
	TLS     *tls.Config
	SASL    sasl.Mechanism

	// Project, Host and Extra are those of documents that are made here.
	Project, Host string
	Extra         []record.KeyValue
	// Keep says for each level whether its documents go on.
	Keep [record.Levels]bool

	// NewParser makes a parser for one partition.
	NewParser func() Parser
	// NewBlock returns an empty block.
	NewBlock func() *record.Block
	// Deliver hands a block on, and waits while there is no room. done is called when
	// the output has taken charge of it all. After an error the block is the caller's.
	Deliver func(ctx context.Context, b *record.Block, done func()) error
	// Count is told of what was read: documents, their bytes, and how many did not
	// parse. Any goroutine calls it.
	Count func(lines, bytes, parseErrors int)
	Log   *slog.Logger
}

// Source is one input.
type Source struct {
	Config
	client *kafka.Client
	dialer *kafka.Dialer
	finish chan struct{} // closed by Close: what could be delivered is
	ended  chan struct{} // closed when Run has returned
	once   sync.Once

	mu         sync.Mutex // guards partitions
	partitions map[partitionID]*partition
	state      atomic.Pointer[string] // what is wrong at the moment
}

type partitionID struct {
	topic string
	index int
}

const (
	// lookEvery is how often new topics are looked for.
	lookEvery = 10 * time.Second
	// commitEvery is how often offsets are committed: so much is read again after a
	// crash.
	commitEvery = time.Second
	// lastAnswers is how long a partition that goes to another member waits for what
	// it has under way, so that the other does not read it again.
	lastAnswers = 3 * time.Second
)

// New returns a source that Run starts.
func New(c Config) *Source {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	transport := &kafka.Transport{ClientID: "tailwater", TLS: c.TLS, SASL: c.SASL, DialTimeout: 10 * time.Second, MetadataTTL: 5 * time.Second}
	return &Source{
		Config: c,
		client: &kafka.Client{Addr: kafka.TCP(c.Brokers...), Transport: transport},
		dialer: &kafka.Dialer{ClientID: "tailwater", Timeout: 10 * time.Second, TLS: c.TLS, SASLMechanism: c.SASL},
		finish: make(chan struct{}), ended: make(chan struct{}), partitions: make(map[partitionID]*partition),
	}
}

// Run reads until ctx ends, and stays a member of the group until Close. It is called
// once.
func (s *Source) Run(ctx context.Context) {
	defer close(s.ended)
	defer s.client.Transport.(*kafka.Transport).CloseIdleConnections()
	for failures := 0; ctx.Err() == nil; {
		topics, err := s.match(ctx)
		if err == nil && len(topics) == 0 {
			err = fmt.Errorf("no topic matches %v yet", s.Topics)
		}
		if err != nil {
			if ctx.Err() == nil {
				s.trouble(err)
			}
			failures++
			backoff.Sleep(ctx, backoff.Policy{Cap: lookEvery}.Delay(failures))
			continue
		}
		failures = 0
		s.member(ctx, topics)
	}
}

// Close commits what was delivered since Run's context ended, leaves the group and
// waits until Run has returned.
func (s *Source) Close() {
	s.once.Do(func() { close(s.finish) })
	<-s.ended
}

// Settle waits until all that was read is delivered, or ctx ends; the reading has
// been ended before.
func (s *Source) Settle(ctx context.Context) {
	for {
		busy := false
		s.mu.Lock()
		for _, p := range s.partitions {
			busy = busy || p.busy()
		}
		s.mu.Unlock()
		if !busy || backoff.Sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

// match finds the topics of the globs.
func (s *Source) match(ctx context.Context) ([]string, error) {
	var problems error
	for _, broker := range s.Brokers {
		conn, err := s.dialer.DialContext(ctx, "tcp", broker)
		if err != nil {
			problems = fmt.Errorf("broker %s cannot be reached: %w", broker, err)
			continue
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		partitions, err := conn.ReadPartitions()
		conn.Close()
		if err != nil {
			problems = fmt.Errorf("broker %s: topics: %w", broker, err)
			continue
		}
		found := make(map[string]bool)
		for _, p := range partitions {
			if s.wants(p.Topic) {
				found[p.Topic] = true
			}
		}
		return slices.Sorted(maps.Keys(found)), nil
	}
	return nil, problems
}

// wants tells whether a topic is to be read; those of Kafka itself never are.
func (s *Source) wants(topic string) bool {
	return !strings.HasPrefix(topic, "__") && !slices.Contains(s.Except, topic) && slices.ContainsFunc(s.Topics, func(glob string) bool {
		ok, _ := path.Match(glob, topic)
		return ok
	})
}

// member takes part in the group with these topics, until ctx ends or there are
// others.
func (s *Source) member(ctx context.Context, topics []string) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: s.Group, Brokers: s.Brokers, Dialer: s.dialer, Topics: topics,
		WatchPartitionChanges: true, PartitionWatchInterval: lookEvery, JoinGroupBackoff: time.Second,
		SessionTimeout: 10 * time.Second, HeartbeatInterval: 2 * time.Second,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) { s.Log.Debug(fmt.Sprintf(format, args...), "input", s.Name) }),
	})
	if err != nil {
		s.trouble(err)
		backoff.Sleep(ctx, time.Second)
		return
	}
	defer group.Close()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		s.watch(reading, topics)
		stop()
	})
	for {
		generation, err := group.Next(reading)
		if err != nil {
			if reading.Err() != nil {
				break
			}
			s.trouble(fmt.Errorf("group %s: %w", s.Group, err))
			continue
		}
		s.trouble(nil)
		s.begin(reading, generation)
	}
	if ctx.Err() != nil { // not other topics, but the end
		<-s.finish
	}
}

// watch returns when there are other topics, or ctx ends.
func (s *Source) watch(ctx context.Context, topics []string) {
	for backoff.Sleep(ctx, lookEvery) == nil {
		if now, err := s.match(ctx); err == nil && !slices.Equal(now, topics) {
			s.Log.Info("other topics match now; joining the group again", "input", s.Name, "topics", len(now), "before", len(topics))
			return
		}
	}
}

// begin reads the partitions that a generation of the group gives to this member.
func (s *Source) begin(ctx context.Context, generation *kafka.Generation) {
	var mine []*partition
	s.mu.Lock()
	clear(s.partitions)
	for topic, assigned := range generation.Assignments {
		for _, a := range assigned {
			p := newPartition(s, partitionID{topic, a.ID}, a.Offset)
			mine = append(mine, p)
			s.partitions[p.id] = p
		}
	}
	s.mu.Unlock()
	s.Log.Info("reading partitions", "input", s.Name, "group", s.Group, "partitions", len(mine), "generation", generation.ID)
	generation.Start(func(owned context.Context) {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(owned, stop)()
		var readers sync.WaitGroup
		for _, p := range mine {
			readers.Go(func() { p.read(reading) })
		}
		tick := time.NewTicker(commitEvery)
		defer tick.Stop()
		for reading.Err() == nil {
			select {
			case <-tick.C:
				s.commit(generation, mine)
			case <-reading.Done():
			}
		}
		readers.Wait()
		s.await(owned, mine, tick.C)
		s.commit(generation, mine)
	})
}

// await waits for what is under way: as long as the agent delivers when it stops, a
// moment when the partitions go to others.
func (s *Source) await(owned context.Context, mine []*partition, tick <-chan time.Time) {
	deadline := time.Now().Add(lastAnswers)
	for slices.ContainsFunc(mine, (*partition).busy) {
		if owned.Err() != nil && time.Now().After(deadline) {
			return
		}
		select {
		case <-s.finish:
			return
		case <-tick:
		}
	}
}

// commit saves the offsets that have moved.
func (s *Source) commit(generation *kafka.Generation, mine []*partition) {
	offsets := make(map[string]map[int]int64)
	for _, p := range mine {
		if at, moved := p.toCommit(); moved {
			if offsets[p.id.topic] == nil {
				offsets[p.id.topic] = make(map[int]int64)
			}
			offsets[p.id.topic][p.id.index] = at
		}
	}
	if len(offsets) == 0 {
		return
	}
	if err := generation.CommitOffsets(offsets); err != nil {
		if !errors.Is(err, kafka.ErrGenerationEnded) {
			s.trouble(fmt.Errorf("group %s: commit: %w; what is not committed is read again", s.Group, err))
		}
		return
	}
	for _, p := range mine {
		if at, ok := offsets[p.id.topic][p.id.index]; ok {
			p.committed(at)
		}
	}
}

// trouble notes what keeps the input from being read, nil when nothing does any more.
func (s *Source) trouble(err error) {
	if err == nil {
		s.state.Store(nil)
		return
	}
	text := err.Error()
	s.state.Store(&text)
	s.Log.Warn("kafka cannot be read; it is tried again", "input", s.Name, "error", err)
}

// Trouble is what keeps the input from being read, "" when nothing does.
func (s *Source) Trouble() string {
	if text := s.state.Load(); text != nil {
		return *text
	}
	return ""
}

// Lag is how far one partition is behind.
type Lag struct {
	Topic     string
	Partition int
	// Records are those that the output does not have yet.
	Records int64
}

// Lags are those of the partitions that this member reads.
func (s *Source) Lags() []Lag {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Lag
	for id, p := range s.partitions {
		all = append(all, Lag{id.topic, id.index, p.lag()})
	}
	return all
}
