package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/tailwater/tailwater/internal/backoff"
)

// KafkaConfig says where the topics are.
type KafkaConfig struct {
	Brokers []string
	TLS     *tls.Config
	SASL    sasl.Mechanism
	// Topic is the name of the topic of counts, and of the consumer group; the others'
	// begin with it.
	Topic string
	// Horizon is how far back the counts must be kept at least.
	Horizon time.Duration
	Logger  *slog.Logger
}

// TopicNames are the names of the topics that belong to a topic of counts.
func TopicNames(topic string) []string {
	return []string{topic, topic + "-state", topic + "-beat", topic + "-days"}
}

// Kafka is the Log of a real cluster.
type Kafka struct {
	cfg    KafkaConfig
	names  []string
	client *kafka.Client
	dialer *kafka.Dialer
}

const (
	// partitions is how many the topics get that are made here: as many evaluators can
	// share the work.
	partitions = 3
	// daysKept is longer than anybody asks for a day.
	daysKept = 12 * 24 * time.Hour
	// fetchBytes bounds one answer.
	fetchBytes = 4 << 20
	// patience is how long a broker's answer may take.
	patience = 10 * time.Second
	// sessionTimeout is the silence after which the group gives a member's partitions to
	// others: the least that brokers allow.
	sessionTimeout = 6 * time.Second
)

// NewKafka returns a Log; it does not connect yet.
func NewKafka(c KafkaConfig) *Kafka {
	transport := &kafka.Transport{ClientID: "tailwater-alerts", TLS: c.TLS, SASL: c.SASL, DialTimeout: patience / 2, MetadataTTL: 3 * time.Second}
	return &Kafka{cfg: c, names: TopicNames(c.Topic),
		client: &kafka.Client{Addr: kafka.TCP(c.Brokers...), Transport: transport},
		dialer: &kafka.Dialer{ClientID: "tailwater-alerts", Timeout: patience / 2, TLS: c.TLS, SASLMechanism: c.SASL}}
}

// Close implements Log.
func (k *Kafka) Close() { k.client.Transport.(*kafka.Transport).CloseIdleConnections() }

// What rules and reports need. Where the one cannot be had the other goes on.
var (
	forRules   = []Topic{Counts, States, Beats}
	forReports = []Topic{Counts, Days}
)

// Open implements Log.
func (k *Kafka) Open(ctx context.Context) (int, error) {
	n, _, err := k.open(ctx, forRules)
	return n, err
}

// OpenDays implements Log.
func (k *Kafka) OpenDays(ctx context.Context) (int, error) {
	n, _, err := k.open(ctx, forReports)
	return n, err
}

// open returns the number of partitions, and the topics that it has made.
func (k *Kafka) open(ctx context.Context, topics []Topic) (n int, made []string, err error) {
	missing, n, err := k.look(ctx, topics)
	if err != nil || len(missing) == 0 {
		return n, nil, err
	}
	resp, err := k.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: missing})
	if err != nil {
		return 0, nil, fmt.Errorf("topics %v: %w", k.named(topics), err)
	}
	for topic, err := range resp.Errors {
		switch {
		case err == nil:
			made = append(made, topic)
		case !errors.Is(err, kafka.TopicAlreadyExists):
			return 0, nil, fmt.Errorf("topic %s cannot be created: %w; `tailwater setup` creates it with rights that a node need not have", topic, err)
		}
	}
	for failures := 1; ; failures++ { // until the brokers know of them
		if missing, n, err = k.look(ctx, topics); err != nil || len(missing) == 0 {
			return n, made, err
		}
		if err := backoff.Sleep(ctx, 100*time.Millisecond); err != nil {
			return 0, made, fmt.Errorf("topics %v: %w", k.named(topics), err)
		}
	}
}

func (k *Kafka) named(topics []Topic) (names []string) {
	for _, t := range topics {
		names = append(names, k.names[t])
	}
	return names
}

// look returns the topics that are missing, as they are to be, and the number of
// partitions of the counts.
func (k *Kafka) look(ctx context.Context, topics []Topic) (missing []kafka.TopicConfig, n int, err error) {
	meta, err := k.client.Metadata(ctx, &kafka.MetadataRequest{Topics: k.named(topics)})
	if err != nil {
		return nil, 0, fmt.Errorf("brokers %v: %w", k.cfg.Brokers, err)
	}
	there := make(map[string]int)
	for _, t := range meta.Topics {
		if t.Error == nil {
			there[t.Name] = len(t.Partitions)
		} else if !errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
			return nil, 0, fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
	}
	n = there[k.names[Counts]]
	if n == 0 {
		n = partitions
	}
	for _, topic := range topics {
		name, of := k.names[topic], n
		if topic == Beats {
			of = 1
		}
		switch have, ok := there[name]; {
		case !ok:
			missing = append(missing, kafka.TopicConfig{Topic: name, NumPartitions: of, ReplicationFactor: -1, ConfigEntries: k.settings(topic)})
		case (topic == States || topic == Days) && have != n:
			return nil, 0, fmt.Errorf("topic %s has %d partitions and %s has %d; give them as many, or take other topics (fleet.topic)", name, have, k.names[Counts], n)
		}
	}
	return missing, n, nil
}

// settings are those of a topic.
func (k *Kafka) settings(t Topic) []kafka.ConfigEntry {
	ms := func(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
	switch t {
	case Counts:
		return []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "delete"},
			{ConfigName: "retention.ms", ConfigValue: ms(max(2*time.Hour, 2*k.cfg.Horizon))},
			{ConfigName: "segment.ms", ConfigValue: ms(10 * time.Minute)},
			// The brokers' clock, and not each node's own: by it the counts of the last
			// minutes are found.
			{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"}}
	case States:
		return []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "compact"},
			{ConfigName: "segment.ms", ConfigValue: ms(10 * time.Minute)},
			{ConfigName: "min.cleanable.dirty.ratio", ConfigValue: "0.1"}}
	case Days:
		return []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "compact,delete"},
			{ConfigName: "retention.ms", ConfigValue: ms(daysKept)}, {ConfigName: "segment.ms", ConfigValue: ms(time.Hour)},
			{ConfigName: "min.cleanable.dirty.ratio", ConfigValue: "0.1"},
			// A node whose clock is wrong keeps nothing for ever, and loses nothing at once.
			{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"}}
	}
	return []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: "delete"},
		{ConfigName: "retention.ms", ConfigValue: ms(10 * time.Minute)}, {ConfigName: "segment.ms", ConfigValue: ms(10 * time.Minute)},
		{ConfigName: "message.timestamp.type", ConfigValue: "LogAppendTime"}}
}

// Setup makes the topics, that of days where there are reports, and gives those that are
// there their settings. say is told of each step.
func (k *Kafka) Setup(ctx context.Context, reports bool, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	topics := forRules
	if reports {
		topics = append(slices.Clone(forRules), Days)
	}
	n, made, err := k.open(ctx, topics)
	if err != nil {
		return err
	}
	var change []kafka.IncrementalAlterConfigsRequestResource
	for _, topic := range topics {
		r := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: k.names[topic]}
		for _, s := range k.settings(topic) {
			r.Configs = append(r.Configs, kafka.IncrementalAlterConfigsRequestConfig{Name: s.ConfigName, Value: s.ConfigValue, ConfigOperation: kafka.ConfigOperationSet})
		}
		change = append(change, r)
	}
	resp, err := k.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: change})
	if err != nil {
		return fmt.Errorf("settings of the topics %v: %w", k.named(topics), err)
	}
	for _, r := range resp.Resources {
		if r.Error != nil {
			return fmt.Errorf("settings of the topic %s: %w", r.ResourceName, r.Error)
		}
	}
	for _, topic := range topics {
		name, of, what := k.names[topic], n, "exists, its settings are as they must be"
		if topic == Beats {
			of = 1
		}
		if slices.Contains(made, name) {
			what = "created"
		}
		say(fmt.Sprintf("topic %s: %s; %d partitions, %s", name, what, of, k.settings(topic)[0].ConfigValue))
	}
	return nil
}

// Append implements Log.
func (k *Kafka) Append(ctx context.Context, t Topic, partition int, records []Record) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	batch := make([]kafka.Record, len(records))
	for i, r := range records {
		batch[i].Key, batch[i].Time = kafka.NewBytes(r.Key), time.Now()
		if r.Value != nil {
			batch[i].Value = kafka.NewBytes(r.Value)
		}
	}
	resp, err := k.client.Produce(ctx, &kafka.ProduceRequest{Topic: k.names[t], Partition: partition, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(batch...), Compression: kafka.Snappy})
	if err == nil {
		err = resp.Error
	}
	for _, at := range respErrors(resp) {
		err = errors.Join(err, at)
	}
	if err != nil {
		return fmt.Errorf("topic %s partition %d: %w", k.names[t], partition, err)
	}
	return nil
}

func respErrors(resp *kafka.ProduceResponse) map[int]error {
	if resp == nil {
		return nil
	}
	return resp.RecordErrors
}

// Read implements Log.
func (k *Kafka) Read(ctx context.Context, t Topic, partition int, offset int64, wait time.Duration) ([]Record, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+wait)
	defer cancel()
	resp, err := k.client.Fetch(ctx, &kafka.FetchRequest{Topic: k.names[t], Partition: partition, Offset: offset,
		MinBytes: 1, MaxBytes: fetchBytes, MaxWait: max(wait, time.Millisecond)})
	if err == nil {
		err = resp.Error
	}
	if errors.Is(err, kafka.OffsetOutOfRange) {
		first, serr := k.Since(ctx, t, partition, time.Time{})
		if serr == nil && first > offset { // it was deleted; the rest is there
			return k.Read(ctx, t, partition, first, wait)
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("topic %s partition %d: %w", k.names[t], partition, err)
	}
	batches := []protocol.RecordReader{resp.Records}
	if stream, ok := resp.Records.(*protocol.RecordStream); ok {
		batches = stream.Records
	}
	var out []Record
	for _, b := range batches {
		if _, control := b.(*protocol.ControlBatch); control {
			continue
		}
		if out, err = appendRecords(out, b, offset); err != nil {
			return nil, 0, fmt.Errorf("topic %s partition %d: %w", k.names[t], partition, err)
		}
	}
	return out, resp.HighWatermark, nil
}

func appendRecords(out []Record, batch protocol.RecordReader, from int64) ([]Record, error) {
	for {
		rec, err := batch.ReadRecord()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		r := Record{Offset: rec.Offset, Time: rec.Time}
		if r.Key, err = protocol.ReadAll(rec.Key); err != nil {
			return nil, err
		}
		if r.Value, err = protocol.ReadAll(rec.Value); err != nil {
			return nil, err
		}
		if rec.Key != nil {
			rec.Key.Close()
		}
		if rec.Value != nil {
			rec.Value.Close()
		}
		if r.Offset >= from { // a batch may begin before what was asked for
			out = append(out, r)
		}
	}
}

// Since implements Log.
func (k *Kafka) Since(ctx context.Context, t Topic, partition int, at time.Time) (int64, error) {
	ask := kafka.FirstOffsetOf(partition)
	if !at.IsZero() {
		ask = kafka.TimeOffsetOf(partition, at)
	}
	offset, err := k.offset(ctx, t, ask)
	if err == nil && offset < 0 { // nothing is as young as that
		offset, err = k.offset(ctx, t, kafka.LastOffsetOf(partition))
	}
	return offset, err
}

func (k *Kafka) offset(ctx context.Context, t Topic, ask kafka.OffsetRequest) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := k.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{k.names[t]: {ask}}})
	if err != nil {
		return 0, fmt.Errorf("topic %s partition %d: %w", k.names[t], ask.Partition, err)
	}
	answers := resp.Topics[k.names[t]]
	if len(answers) == 0 {
		return 0, fmt.Errorf("topic %s partition %d: no answer of the brokers", k.names[t], ask.Partition)
	}
	p := answers[0] // one was asked for
	switch {
	case p.Error != nil:
		return 0, fmt.Errorf("topic %s partition %d: %w", k.names[t], ask.Partition, p.Error)
	case ask.Timestamp == kafka.FirstOffset:
		return p.FirstOffset, nil
	case ask.Timestamp == kafka.LastOffset:
		return p.LastOffset, nil
	case len(p.Offsets) == 0:
		return -1, nil
	}
	return slices.Min(slices.Collect(maps.Keys(p.Offsets))), nil
}

// Join implements Log.
func (k *Kafka) Join(ctx context.Context, decide func(ctx context.Context, partitions []int)) error {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: k.cfg.Topic, Brokers: k.cfg.Brokers, Dialer: k.dialer, Topics: []string{k.names[Counts]},
		SessionTimeout: sessionTimeout, HeartbeatInterval: time.Second, RebalanceTimeout: patience, JoinGroupBackoff: time.Second,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) { k.cfg.Logger.Debug(fmt.Sprintf(format, args...)) }),
	})
	if err != nil {
		return err
	}
	defer group.Close()
	var deciding sync.WaitGroup
	defer deciding.Wait()
	for {
		generation, err := group.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("group %s: %w", k.cfg.Topic, err)
		}
		var mine []int
		for _, a := range generation.Assignments[k.names[Counts]] {
			mine = append(mine, a.ID)
		}
		deciding.Add(1)
		generation.Start(func(owned context.Context) {
			defer deciding.Done()
			running, stop := context.WithCancel(ctx)
			defer stop()
			defer context.AfterFunc(owned, stop)()
			decide(running, mine)
		})
	}
}

var _ Log = (*Kafka)(nil)
