package services

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink/kafka"
	"github.com/tailwater/tailwater/source/consume"
	"github.com/tailwater/tailwater/test/rig"
)

// plainWords is a parser that makes each text a message.
type plainWords struct{}

func (plainWords) Parse(text []byte, r *record.Record) { r.Add("message", text, record.Text) }

// taker takes what members of a group read.
type taker struct {
	mu   sync.Mutex
	seen map[string]int // by id, or by the message of what has none
	full chan struct{}  // closed while there is room
}

func newTaker() *taker {
	o := &taker{seen: make(map[string]int), full: make(chan struct{})}
	close(o.full)
	return o
}

// stop takes nothing until go on is called.
func (o *taker) stop() (goOn func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	full := make(chan struct{})
	o.full = full
	return func() { close(full) }
}

func (o *taker) deliver(ctx context.Context, p record.Parcel) error {
	b := p.Block
	o.mu.Lock()
	full := o.full
	o.mu.Unlock()
	select {
	case <-full:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	o.mu.Lock()
	for i := range b.Docs {
		key := string(b.ID(i))
		if strings.HasPrefix(key, "kafka-") {
			var doc struct{ Message string }
			if json.Unmarshal(b.JSON(i), &doc) == nil {
				key = doc.Message
			}
		}
		o.seen[key]++
	}
	o.mu.Unlock()
	b.Release()
	p.Done()
	return nil
}

// missing is how many of the files' lines were not read, and doubled how often lines
// were read again.
func (o *taker) missing(files ...*file) (missing, doubled int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range files {
		for n := range f.next {
			switch times := o.seen[f.id(n)]; {
			case times == 0:
				missing++
			default:
				doubled += times - 1
			}
		}
	}
	return missing, doubled
}

func (o *taker) has(words ...string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range words {
		if o.seen[w] == 0 {
			return fmt.Errorf("%q has not come; %d others have", w, len(o.seen))
		}
	}
	return nil
}

// groupMember is a running source.
type groupMember struct {
	*consume.Source
	stop context.CancelFunc
}

func (m *groupMember) leave() {
	m.stop()
	settle, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m.Settle(settle)
	m.Close()
}

// startMember joins a group. The member leaves at the end of the test at the latest.
func startMember(t *testing.T, group string, o *taker, topics []string, change func(*consume.Config)) *groupMember {
	t.Helper()
	c := consume.Config{
		Name: "relay", Brokers: servers.Brokers("KAFKA_BROKERS"), Topics: topics, Group: group, Project: "p", Host: "h", Workers: 2,
		NewParser: func() consume.Parser { return plainWords{} }, NewBlock: func() *record.Block { return record.NewBlock(nil, nil, nil) },
		Deliver: o.deliver, Count: func(consume.Counts) {}, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	for l := range c.Keep {
		c.Keep[l] = true
	}
	if change != nil {
		change(&c)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &groupMember{consume.New(c), stop}
	go m.Run(ctx)
	t.Cleanup(m.leave)
	return m
}

func admin() *kafkago.Client {
	return &kafkago.Client{Addr: kafkago.TCP(servers.Brokers("KAFKA_BROKERS")...)}
}

func createTopic(t *testing.T, topic string, partitions int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := rig.Poll(ctx, "the topic to be created", func() error { // its namesake may still be going
		resp, err := admin().CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
		if err == nil {
			err = resp.Errors[topic]
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// say writes one message to a partition, with an acknowledgement.
func say(t *testing.T, topic string, partition int, words ...string) {
	t.Helper()
	produce(t, topic, partition, func() (records []kafkago.Record) {
		for _, w := range words {
			records = append(records, kafkago.Record{Value: kafkago.NewBytes([]byte(w))})
		}
		return records
	})
}

// produce writes records to a partition, as soon as it has a leader. They are made anew
// for each try: one that fails may have read some of them.
func produce(t *testing.T, topic string, partition int, records func() []kafkago.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := rig.Poll(ctx, "the leader", func() error {
		resp, err := admin().Produce(ctx, &kafkago.ProduceRequest{Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records()...)})
		if err == nil {
			err = resp.Error
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func pollFor(t *testing.T, d time.Duration, what string, look func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := rig.Poll(ctx, what, look); err != nil {
		t.Fatal(err)
	}
}

// Topics and partitions that come into being while a group reads are read from their
// first record, and soon; so is a topic that is deleted and made anew.
func TestWhatAppearsWhileAGroupReadsIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	o := newTaker()
	createTopic(t, "grow-a", 1)
	say(t, "grow-a", 0, "a0 before the group")
	startMember(t, "grow", o, []string{"grow-*"}, nil)
	pollFor(t, 20*time.Second, "the topic that was there", func() error { return o.has("a0 before the group") })

	createTopic(t, "grow-b", 3)
	for p := range 3 {
		say(t, "grow-b", p, fmt.Sprint("b", p, " first"), fmt.Sprint("b", p, " second"))
	}
	pollFor(t, 15*time.Second, "a new topic", func() error {
		return o.has("b0 first", "b0 second", "b1 first", "b1 second", "b2 first", "b2 second")
	})

	if resp, err := admin().CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{Topics: []kafkago.TopicPartitionsConfig{{Name: "grow-a", Count: 4}}}); err != nil || resp.Errors["grow-a"] != nil {
		t.Fatal(resp, err)
	}
	for p := range 4 {
		say(t, "grow-a", p, fmt.Sprint("a", p, " grown"))
	}
	pollFor(t, 15*time.Second, "new partitions", func() error { return o.has("a0 grown", "a1 grown", "a2 grown", "a3 grown") })

	if resp, err := admin().DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{"grow-b"}}); err != nil || resp.Errors["grow-b"] != nil {
		t.Fatal(resp, err)
	}
	createTopic(t, "grow-b", 1)
	say(t, "grow-b", 0, "b0 anew", "b0 anew and more", "b0 anew and yet more")
	pollFor(t, 25*time.Second, "the topic made anew", func() error { return o.has("b0 anew", "b0 anew and more", "b0 anew and yet more") })
}

// fillTopic ships lines to a topic until told to stop.
func fillTopic(t *testing.T, topic string, files []*file, each int, pause time.Duration) (stop func()) {
	l := newLine(t, kafkaSink(t, topic, func(c *kafka.Config) { c.Backoff = impatient }))
	end := make(chan struct{})
	var filling sync.WaitGroup
	filling.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(pause):
			}
			for _, f := range files {
				l.put(f.block(each))
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		filling.Wait()
		l.finish()
	})
	t.Cleanup(stop) // of a test that has failed
	return stop
}

func someFiles(n int) (files []*file) {
	for i := range n {
		files = append(files, newFile("p", fmt.Sprint("f", i)))
	}
	return files
}

// Pain 22: members come and go while lines are shipped. What is read twice is only what
// a member had under way when it left.
func TestMembersOfAGroupComeAndGo(t *testing.T) {
	t.Parallel()
	createTopic(t, "crowd", 12)
	files := someFiles(24)
	stop := fillTopic(t, "crowd", files, 20, 20*time.Millisecond)
	o := newTaker()
	first := startMember(t, "crowd", o, []string{"crowd"}, nil)
	shared := func(n int, members ...*groupMember) {
		t.Helper()
		pollFor(t, 30*time.Second, "the partitions to be shared out", func() error {
			var has []int
			for _, m := range members {
				has = append(has, len(m.Lags()))
			}
			for _, h := range has {
				if h != n {
					return fmt.Errorf("they have %v", has)
				}
			}
			return nil
		})
	}
	shared(12, first)
	second := startMember(t, "crowd", o, []string{"crowd"}, nil)
	shared(6, first, second)
	third := startMember(t, "crowd", o, []string{"crowd"}, nil)
	shared(4, first, second, third)
	first.leave()
	shared(6, second, third)
	stop()
	pollFor(t, 30*time.Second, "all lines", func() error {
		if missing, _ := o.missing(files...); missing > 0 {
			return fmt.Errorf("%d are missing", missing)
		}
		return nil
	})
	if _, doubled := o.missing(files...); doubled > 0 {
		t.Errorf("%d lines were read twice although nobody was killed", doubled)
	}
	lines := 0
	for _, f := range files {
		lines += f.next
	}
	// The counting has gone from hand to hand, whoever has read.
	pollFor(t, 10*time.Second, "the accounts to agree", func() error {
		partitions, sum := 0, 0
		for _, m := range []*groupMember{second, third} {
			for _, a := range m.Accounts() {
				partitions++
				sum += int(a.Delivered.Docs)
				if a.Delivered.From != 0 || a.Delivered.End() != a.Safe || a.Safe != a.Last || a.Delivered.Records != a.Last {
					return fmt.Errorf("%+v", a)
				}
			}
		}
		if partitions != 12 || sum != lines {
			return fmt.Errorf("%d partitions account for %d of %d lines", partitions, sum, lines)
		}
		return nil
	})
}

// Pain 22: an output that is away for longer than the group's patience.
func TestAFullOutputKeepsTheGroupAsItIs(t *testing.T) {
	t.Parallel()
	createTopic(t, "patient", 12)
	files := someFiles(12)
	o := newTaker()
	var moved sync.Map
	goOn := o.stop()
	m := startMember(t, "patient", o, []string{"patient"}, func(c *consume.Config) {
		c.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "reading partitions") {
				moved.Store(string(p), true)
			}
			return testWriter{t}.Write(p)
		}), nil))
	})
	fillTopic(t, "patient", files, 200, time.Millisecond)()
	total := int64(0)
	for _, f := range files {
		total += int64(f.next)
	}
	pollFor(t, 20*time.Second, "the lag to be known while nothing is taken", func() error {
		lag := int64(0)
		for _, l := range m.Lags() {
			lag += l.Records
		}
		if lag != total {
			return fmt.Errorf("%d of %d", lag, total)
		}
		return nil
	})
	select { // the group's patience is 10 s
	case <-time.After(13 * time.Second):
	case <-t.Context().Done():
	}
	goOn()
	within(t, 10*time.Second, "catching up", func() {
		pollFor(t, 30*time.Second, "the lag to go", func() error {
			for _, l := range m.Lags() {
				if l.Records > 0 {
					return fmt.Errorf("%+v", l)
				}
			}
			return nil
		})
	})
	if missing, doubled := o.missing(files...); missing+doubled > 0 {
		t.Errorf("%d missing, %d doubled", missing, doubled)
	}
	n := 0
	moved.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("the partitions were shared out %d times", n)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
