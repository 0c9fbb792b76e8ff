package services

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/kafka"
	"github.com/tailwater/tailwater/test/fake/proxy"
	"github.com/tailwater/tailwater/test/rig"
)

// kafkaSink opens a sink of the test's own topic.
func kafkaSink(t *testing.T, topic string, change func(*kafka.Config)) *kafka.Sink {
	t.Helper()
	name, err := sink.Compile(topic, sink.TopicNaming)
	if err != nil {
		t.Fatal(err)
	}
	c := kafka.Config{Brokers: servers.Brokers("KAFKA_BROKERS"), Topic: name, Acks: kafka.AcksAll, Codec: kafka.LZ4, Backoff: impatient}
	if change != nil {
		change(&c)
	}
	s := kafka.New(c)
	t.Cleanup(func() { s.Close() })
	return s
}

// stored is what a topic holds, partition by partition, in order, as kafka-go's
// Reader sees it.
type stored [][]kafkago.Message

// readTopic reads a topic from its beginning to its present end.
func readTopic(t *testing.T, brokers []string, topic string) stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := kafkago.DialContext(ctx, "tcp", brokers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	partitions, err := conn.ReadPartitions(topic)
	if err != nil {
		t.Fatal(err)
	}
	all := make(stored, len(partitions))
	for _, p := range partitions {
		var first, last int64
		if err := rig.Poll(ctx, "the leader to know itself", func() error {
			leader, err := kafkago.DialLeader(ctx, "tcp", brokers[0], topic, p.ID)
			if err != nil {
				return err
			}
			defer leader.Close()
			first, last, err = leader.ReadOffsets()
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if first == last {
			continue
		}
		r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: brokers, Topic: topic, Partition: p.ID, MaxBytes: 16 << 20, MaxWait: 100 * time.Millisecond})
		for at := first; at < last; {
			m, err := r.ReadMessage(ctx)
			if err != nil {
				t.Fatalf("read %s/%d at %d of %d: %v", topic, p.ID, at, last, err)
			}
			all[p.ID] = append(all[p.ID], m)
			at = m.Offset + 1
		}
		r.Close()
	}
	return all
}

func header(m kafkago.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// count is the number of messages in the topic.
func (s stored) count() (n int) {
	for _, p := range s {
		n += len(p)
	}
	return n
}

// verify checks that each file's lines are there once, in one partition, in order.
func (s stored) verify(t *testing.T, files ...*file) {
	t.Helper()
	next := make(map[string]int)
	at := make(map[string]int)
	for p, messages := range s {
		for _, m := range messages {
			id := header(m, "id")
			dash := strings.LastIndexByte(id, '-')
			name := strings.TrimPrefix(id[:dash], "m-")
			if before, known := at[name]; known && before != p {
				t.Fatalf("lines of %s in partitions %d and %d", name, before, p)
			}
			at[name] = p
			if want := fmt.Sprintf("m-%s-%d", name, next[name]); id != want {
				t.Fatalf("partition %d holds %s where %s is due", p, id, want)
			}
			next[name]++
		}
	}
	for _, f := range files {
		if next[f.name] != f.next {
			t.Errorf("%d of %d lines of %s are there", next[f.name], f.next, f.name)
		}
	}
}

func TestKafkaReadsBackEveryCodec(t *testing.T) {
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			topic := "codec-" + name
			key, err := sink.Compile("{input}", sink.TopicNaming)
			if err != nil {
				t.Fatal(err)
			}
			s := kafkaSink(t, "codec-{project}", func(c *kafka.Config) { c.Codec, c.Key = kafka.Codec(codec), key })
			f := newFile(name, "codec")
			b := batch(2000, f)
			mustTake(t, s, b)
			all := readTopic(t, servers.Brokers("KAFKA_BROKERS"), topic)
			all.verify(t, f)
			for _, p := range all {
				for i, m := range p {
					want := b.Refs[i]
					if string(m.Value) != string(want.JSON()) {
						t.Fatalf("document %d came back as %s", i, m.Value)
					}
					if string(m.Key) != "in" || header(m, "project") != name || header(m, "time") != string(want.JSON()[15:39]) {
						t.Fatalf("document %d: key %q, headers %v", i, m.Key, m.Headers)
					}
					if age := time.Since(m.Time); age < -time.Second || age > time.Minute {
						t.Fatalf("document %d: record time %v", i, m.Time)
					}
				}
			}
		})
	}
}

func TestKafkaWithEachAcknowledgement(t *testing.T) {
	for name, acks := range map[string]kafka.Acks{"all": kafka.AcksAll, "leader": kafka.AcksLeader, "none": kafka.AcksNone} {
		t.Run(name, func(t *testing.T) {
			files := []*file{newFile("p", "a"), newFile("p", "b"), newFile("p", "c")}
			// From the first line on, with which the topic comes into being.
			s := kafkaSink(t, "acks-"+name, func(c *kafka.Config) { c.Acks = acks })
			for range 4 {
				mustTake(t, s, batch(100, files...))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := rig.Poll(ctx, "what nobody acknowledged", func() error {
				if n := readTopic(t, servers.Brokers("KAFKA_BROKERS"), "acks-"+name).count(); n < 1200 {
					return fmt.Errorf("%d of 1200", n)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			readTopic(t, servers.Brokers("KAFKA_BROKERS"), "acks-"+name).verify(t, files...)
		})
	}
}

func TestKafkaKeepsTheLinesOfEachFileInOrder(t *testing.T) {
	s := kafkaSink(t, "order", func(c *kafka.Config) { c.BatchBytes = 32 << 10 })
	l := newLine(t, s)
	var files []*file
	for i := range 20 {
		files = append(files, newFile("p", fmt.Sprint("f", i)))
	}
	for range 20 {
		for _, f := range files {
			l.put(f.block(100))
		}
	}
	l.finish()
	readTopic(t, servers.Brokers("KAFKA_BROKERS"), "order").verify(t, files...)
}

func TestKafkaKeepsTogetherWhatIsAskedFor(t *testing.T) {
	partitionsOf := func(topic string, what func(kafkago.Message) string) map[string]map[int]bool {
		found := make(map[string]map[int]bool)
		for p, messages := range readTopic(t, servers.Brokers("KAFKA_BROKERS"), topic) {
			for _, m := range messages {
				if found[what(m)] == nil {
					found[what(m)] = make(map[int]bool)
				}
				found[what(m)][p] = true
			}
		}
		return found
	}
	for name, c := range map[string]struct {
		spread kafka.Spread
		what   func(kafkago.Message) string
		spans  int // partitions of one
	}{
		"file":       {kafka.ByFile, func(m kafkago.Message) string { id := header(m, "id"); return id[:strings.LastIndexByte(id, '-')] }, 1},
		"project":    {kafka.ByProject, func(m kafkago.Message) string { return header(m, "project") }, 1},
		"request_id": {kafka.ByRequest, func(m kafkago.Message) string { return string(m.Key) }, 1},
		"round":      {kafka.RoundRobin, func(m kafkago.Message) string { return "all" }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := sink.Compile("{request_id}", sink.TopicNaming)
			if err != nil {
				t.Fatal(err)
			}
			s := kafkaSink(t, "together-"+name, func(k *kafka.Config) { k.Spread, k.Key = c.spread, key })
			files := []*file{newFile("p", "a"), newFile("q", "b"), newFile("p", "c"), newFile("r", "d"), newFile("q", "e")}
			for _, f := range files {
				f.routes = []string{"request_id"}
				f.fields = func(r *record.Record, n int) { r.Put("request_id", fmt.Append(nil, "r", n%7), record.Text) }
			}
			for range 6 {
				mustTake(t, s, batch(20, files...))
			}
			found := partitionsOf("together-"+name, c.what)
			all := make(map[int]bool)
			for of, partitions := range found {
				if len(partitions) != c.spans {
					t.Errorf("%s is in %d partitions", of, len(partitions))
				}
				for p := range partitions {
					all[p] = true
				}
			}
			if len(all) < 2 {
				t.Error("it is all in one partition")
			}
		})
	}
}

// Pain 23: by event time a broker may expire old lines at once, and refuses what lies
// in its future; the default is the time of sending.
func TestKafkaRecordTimeIsTheEventsOnlyWhenAskedFor(t *testing.T) {
	times := map[string]time.Time{"old": time.Now().AddDate(0, 0, -20), "ahead": time.Now().AddDate(0, 0, 2)}
	for name, at := range times {
		for _, by := range []kafka.RecordTime{kafka.ClockTime, kafka.EventTime} {
			topic := fmt.Sprint("time-", name, "-", by)
			f := newFile("p", "a")
			f.at = at
			mustTake(t, kafkaSink(t, topic, func(c *kafka.Config) { c.RecordTime = by }), batch(5, f))
			for _, messages := range readTopic(t, servers.Brokers("KAFKA_BROKERS"), topic) {
				for _, m := range messages {
					want := time.Now()
					if by == kafka.EventTime && name == "old" {
						want = at
					}
					if d := m.Time.Sub(want).Abs(); d > 2*time.Minute {
						t.Errorf("%s: record time %v, want %v", topic, m.Time, want)
					}
				}
			}
		}
	}
}

func TestKafkaGetsATopicWithTheFirstLineOfAProject(t *testing.T) {
	s := kafkaSink(t, "new-{project}", nil)
	f := newFile(fmt.Sprint("Shop ", time.Now().UnixNano()), "a")
	within(t, 10*time.Second, "the first line", func() { mustTake(t, s, batch(1, f)) })
	readTopic(t, servers.Brokers("KAFKA_BROKERS"), strings.ReplaceAll("new-"+f.origin.Project, " ", "-")).verify(t, f)
}

// A topic is deleted under a running agent, whose other topics go on: it comes into being
// again, as it did with its first line.
func TestKafkaTopicThatIsDeletedIsMadeAgain(t *testing.T) {
	t.Parallel()
	topic := fresh("deleted")
	createTopic(t, topic, 5)
	s := kafkaSink(t, topic, nil)
	files := []*file{newFile("p", "a"), newFile("p", "b"), newFile("p", "c")}
	mustTake(t, s, batch(100, files...))
	resp, err := admin().DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	if err = errors.Join(err, resp.Errors[topic]); err != nil {
		t.Fatal(err)
	}
	again := []*file{newFile("p", "d"), newFile("p", "e"), newFile("p", "f")}
	mustTake(t, s, batch(100, again...))
	stored := readTopic(t, servers.Brokers("KAFKA_BROKERS"), topic)
	if len(stored) != 5 {
		t.Errorf("it had 5 partitions, and has %d", len(stored))
	}
	stored.verify(t, again...)
}

func TestKafkaRefusesTheOneRecordThatIsTooLarge(t *testing.T) {
	s := kafkaSink(t, "large", nil)
	l := newLine(t, s)
	f := newFile("p", "large")
	f.fields = func(r *record.Record, n int) {
		if n == 4711 {
			r.Put("body", []byte(random(1_500_000)), record.Text)
		}
	}
	within(t, 20*time.Second, "10,000 lines with one too large", func() {
		for range 10 {
			l.put(f.block(1000))
		}
		l.finish()
	})
	letters := l.letters()
	if len(letters) != 1 || letters[0].ID != f.id(4711) || letters[0].Reason != "too_large" || letters[0].File != "large" || letters[0].Offset != 4711 {
		t.Fatalf("%d dead letters", len(letters))
	}
	if n := readTopic(t, servers.Brokers("KAFKA_BROKERS"), "large").count(); n != 9999 {
		t.Errorf("%d of 9999 stored", n)
	}
}

func TestKafkaLogins(t *testing.T) {
	user, password := servers.Value("SERVICES_USER"), servers.Value("SERVICES_PASSWORD")
	scramBy := func(a scram.Algorithm) sasl.Mechanism {
		m, err := scram.Mechanism(a, user, password)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, change := range map[string]func(*kafka.Config){
		"plain":     func(c *kafka.Config) { c.SASL = plain.Mechanism{Username: user, Password: password} },
		"scram-256": func(c *kafka.Config) { c.SASL = scramBy(scram.SHA256) },
		"scram-512": func(c *kafka.Config) { c.SASL = scramBy(scram.SHA512) },
		"tls":       func(c *kafka.Config) { c.TLS = trusting(t) },
		"tls-plain": func(c *kafka.Config) {
			c.TLS, c.SASL = trusting(t), plain.Mechanism{Username: user, Password: password}
		},
		"tls-mutual": func(c *kafka.Config) { c.TLS = presenting(t) },
		"tls-scram":  func(c *kafka.Config) { c.TLS, c.SASL = trusting(t), scramBy(scram.SHA512) },
	} {
		t.Run(name, func(t *testing.T) {
			s := kafkaSink(t, "login-"+name, func(c *kafka.Config) {
				change(c)
				if c.Brokers = servers.Brokers(listenerFor(c)); name == "tls-mutual" {
					c.Brokers = servers.Brokers("KAFKA_MUTUAL_TLS_BROKERS")
				}
			})
			f := newFile("p", "a")
			mustTake(t, s, batch(10, f))
			readTopic(t, servers.Brokers("KAFKA_BROKERS"), "login-"+name).verify(t, f)
		})
	}
}

func listenerFor(c *kafka.Config) string {
	switch {
	case c.TLS != nil && c.SASL != nil:
		return "KAFKA_SASL_TLS_BROKERS"
	case c.TLS != nil:
		return "KAFKA_TLS_BROKERS"
	case c.SASL != nil:
		return "KAFKA_SASL_BROKERS"
	}
	return "KAFKA_BROKERS"
}

// trusting trusts the test servers.
func trusting(t *testing.T) *tls.Config {
	pem, err := os.ReadFile(servers.Value("SERVICES_CA"))
	if err != nil {
		t.Fatal(err)
	}
	return trustingPEM(pem)
}

// presenting trusts the test servers and shows them a certificate of its own.
func presenting(t *testing.T) *tls.Config {
	t.Helper()
	c := trusting(t)
	own, err := tls.LoadX509KeyPair(servers.Value("SERVICES_CLIENT_CERT"), servers.Value("SERVICES_CLIENT_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	c.Certificates = []tls.Certificate{own}
	return c
}

func trustingPEM(pem []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool}
}

// random is text that no codec makes much smaller.
func random(n int) string {
	f, err := os.Open("/dev/urandom")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	raw := make([]byte, n)
	io.ReadFull(f, raw)
	for i := range raw {
		raw[i] = 'a' + raw[i]%26
	}
	return string(raw)
}

// through has all connections of a sink go through a proxy to one broker.
func through(t *testing.T, broker string) (*proxy.Proxy, func(c *kafka.Config)) {
	t.Helper()
	p, err := proxy.Listen(broker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func(c *kafka.Config) {
		c.Timeout = time.Second
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.Addr())
		}
	}
}

func TestKafkaAnswersThatAreLost(t *testing.T) {
	p, change := through(t, servers.Brokers("KAFKA_BROKERS")[0])
	l := newLine(t, kafkaSink(t, "lost", change))
	var files []*file
	for i := range 5 {
		files = append(files, newFile("p", fmt.Sprint("f", i)))
	}
	filled := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() { mistreat(t, p, filled) })
	for range 100 {
		for _, f := range files {
			l.put(f.block(100))
		}
	}
	close(filled)
	trouble.Wait()
	l.finish()
	if p.Swallowed() == 0 {
		t.Error("no answer was lost")
	}
	readTopic(t, servers.Brokers("KAFKA_BROKERS"), "lost").verify(t, files...)
}

func TestKafkaBrokerKilledUnderLoad(t *testing.T) {
	l := newLine(t, kafkaSink(t, "killed", nil))
	var files []*file
	for i := range 5 {
		files = append(files, newFile("p", fmt.Sprint("f", i)))
	}
	stop := make(chan struct{})
	var filling sync.WaitGroup
	filling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, f := range files {
				l.put(f.block(50))
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), rig.ServicesTime)
	defer cancel()
	for range 2 {
		l.await(10) // documents are on their way
		if err := servers.Kill(ctx, "kafka-1"); err != nil {
			t.Fatal(err)
		}
		if err := servers.Up(ctx); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	filling.Wait()
	l.finish()
	readTopic(t, servers.Brokers("KAFKA_BROKERS"), "killed").verify(t, files...)
}

func TestKafkaSaysWhichBrokerIsSilentAndGoesOn(t *testing.T) {
	p, change := through(t, servers.Brokers("KAFKA_BROKERS")[0])
	s := kafkaSink(t, "silent", func(c *kafka.Config) {
		change(c)
		c.Timeout = 30 * time.Second
	})
	told := make(chan error, 100)
	s.OnTrouble(func(err error) { told <- err })
	f := newFile("p", "a")
	mustTake(t, s, batch(10, f))
	for len(told) > 0 { // of the topic's beginning
		<-told
	}
	p.Stall(true)
	answer := make(chan sink.Result, 1)
	s.Send(t.Context(), batch(10, f), func(r sink.Result) { answer <- r })
	select {
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), servers.Brokers("KAFKA_BROKERS")[0]) {
			t.Errorf("it does not name the broker: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("nothing was said for 15 s")
	}
	p.Stall(false)
	if r := <-answer; r.Err != nil || len(r.Retry) > 0 {
		t.Errorf("%+v", r)
	}
	readTopic(t, servers.Brokers("KAFKA_BROKERS"), "silent").verify(t, f)
}
