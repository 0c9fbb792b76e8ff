package services

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/source/consume"
	"github.com/tailwater/tailwater/test/rig"
)

// transactions is a producer of another program's, which writes in transactions.
type transactions struct {
	t        *testing.T
	name     string
	topic    string
	session  kafkago.ProducerSession
	sequence int32
}

func newTransactions(t *testing.T, name, topic string) *transactions {
	t.Helper()
	x := &transactions{t: t, name: name, topic: topic}
	x.retry("a producer id", func() error {
		resp, err := admin().InitProducerID(t.Context(), &kafkago.InitProducerIDRequest{TransactionalID: name, TransactionTimeoutMs: 60_000, ProducerID: -1, ProducerEpoch: -1})
		if err == nil {
			err = resp.Error
		}
		if err == nil {
			x.session = *resp.Producer
		}
		return err
	})
	return x
}

// freshTopic makes a topic of one partition that no run before has had.
func freshTopic(t *testing.T, name string) string {
	t.Helper()
	name = fresh(name)
	createTopic(t, name, 1)
	return name
}

// retry asks again while the coordinator is being found, or ends the transaction before.
func (x *transactions) retry(what string, ask func() error) {
	x.t.Helper()
	pollFor(x.t, 30*time.Second, what, ask)
}

// write writes records as a part of the transaction, which it begins when there is none.
func (x *transactions) write(words ...string) {
	x.t.Helper()
	x.retry("the partition to be in the transaction", func() error {
		resp, err := admin().AddPartitionsToTxn(x.t.Context(), &kafkago.AddPartitionsToTxnRequest{TransactionalID: x.name, ProducerID: x.session.ProducerID,
			ProducerEpoch: x.session.ProducerEpoch, Topics: map[string][]kafkago.AddPartitionToTxn{x.topic: {{Partition: 0}}}})
		if err == nil {
			err = resp.Topics[x.topic][0].Error
		}
		return err
	})
	resp, err := admin().RawProduce(x.t.Context(), &kafkago.RawProduceRequest{Topic: x.topic, Partition: 0, RequiredAcks: kafkago.RequireAll,
		TransactionalID: x.name, RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(x.batch(words))}})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// batch is a record batch and its size, with the producer's numbers, which kafka-go does
// not write.
func (x *transactions) batch(words []string) []byte {
	x.t.Helper()
	var records []protocol.Record
	for i, w := range words {
		records = append(records, protocol.Record{Offset: int64(i), Time: time.Now(), Value: protocol.NewBytes([]byte(w))})
	}
	var buf bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Transactional, Records: protocol.NewRecordReader(records...)}
	if _, err := set.WriteTo(&buf); err != nil {
		x.t.Fatal(err)
	}
	b := buf.Bytes()[4:] // behind its size, which RawProduce wants, too
	binary.BigEndian.PutUint64(b[43:], uint64(x.session.ProducerID))
	binary.BigEndian.PutUint16(b[51:], uint16(x.session.ProducerEpoch))
	binary.BigEndian.PutUint32(b[53:], uint32(x.sequence))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	x.sequence += int32(len(words))
	return buf.Bytes()
}

func (x *transactions) end(commit bool) {
	x.t.Helper()
	x.retry("the transaction to end", func() error {
		resp, err := admin().EndTxn(x.t.Context(), &kafkago.EndTxnRequest{TransactionalID: x.name, ProducerID: x.session.ProducerID, ProducerEpoch: x.session.ProducerEpoch, Committed: commit})
		if err == nil {
			err = resp.Error
		}
		return err
	})
}

// Other programs write in transactions: what they take back is not read, what they
// commit is, once it is.
func TestWhatATransactionTookBackIsNotIndexed(t *testing.T) {
	t.Parallel()
	topic := freshTopic(t, "banking")
	x, y := newTransactions(t, topic+"-x", topic), newTransactions(t, topic+"-y", topic)
	o := newTaker()
	m := startMember(t, topic, o, []string{topic}, nil)
	say(t, topic, 0, "plain")
	x.write("x took back", "x took this back, too")
	y.write("y kept")
	x.write("x took back all of it")
	x.end(false)
	y.end(true)
	pollFor(t, 20*time.Second, "what was committed", func() error { return o.has("plain", "y kept") })

	y.write("y is not done")
	say(t, topic, 0, "after y")
	account := func() (consume.Account, error) {
		all := m.Accounts()
		if len(all) != 1 {
			return consume.Account{}, fmt.Errorf("accounts: %+v", all)
		}
		return all[0], nil
	}
	pollFor(t, 20*time.Second, "the reading to wait for the transaction", func() error {
		a, err := account()
		if err == nil && a.Last-a.Safe != 2 {
			err = fmt.Errorf("%+v", a)
		}
		return err
	})
	if err := o.has("y is not done", "after y"); err == nil {
		t.Error("what is not committed was read")
	}
	y.end(true)
	pollFor(t, 20*time.Second, "what waited for it", func() error { return o.has("y is not done", "after y") })
	for _, words := range []string{"x took back", "x took this back, too", "x took back all of it"} {
		if o.has(words) == nil {
			t.Errorf("%q was read", words)
		}
	}
	// 4 records are read; 3 were taken back, and 3 transactions have left their marks.
	pollFor(t, 10*time.Second, "the ledger", func() error {
		a, err := account()
		if err == nil && (a.Safe != a.Last || a.Delivered.Records != 4 || a.Delivered.Void != 6 || a.Delivered.Docs != 4 || a.Delivered.End() != a.Safe) {
			err = fmt.Errorf("%+v", a)
		}
		return err
	})
}

// logged keeps what a member logs.
func logged(t *testing.T) (text func() string, change func(*consume.Config)) {
	var mu sync.Mutex
	var all strings.Builder
	return func() string {
			mu.Lock()
			defer mu.Unlock()
			return all.String()
		}, func(c *consume.Config) {
			c.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
				mu.Lock()
				all.Write(p)
				mu.Unlock()
				return testWriter{t}.Write(p)
			}), nil))
		}
}

// The group's offset lies beyond the end, as when somebody has moved it, or its topic is
// another of the same name.
func TestAnOffsetBeyondTheEndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	topic := freshTopic(t, "beyond")
	pollFor(t, 30*time.Second, "an offset to be committed", func() error {
		resp, err := admin().OffsetCommit(t.Context(), &kafkago.OffsetCommitRequest{GroupID: topic, GenerationID: -1,
			Topics: map[string][]kafkago.OffsetCommit{topic: {{Partition: 0, Offset: 1000}}}})
		if err == nil {
			err = resp.Topics[topic][0].Error
		}
		return err
	})
	say(t, topic, 0, "zero", "one", "two")
	o := newTaker()
	text, change := logged(t)
	m := startMember(t, topic, o, []string{topic}, change)
	pollFor(t, 20*time.Second, "what is there", func() error { return o.has("zero", "one", "two") })
	if !strings.Contains(text(), "lies beyond the end") || !strings.Contains(text(), "offset=1000") {
		t.Errorf("it does not say so:\n%s", text())
	}
	pollFor(t, 10*time.Second, "the ledger", func() error {
		if a := m.Accounts(); len(a) != 1 || a[0].Safe != 3 || a[0].Delivered.Records != 3 || a[0].Delivered.Void+a[0].Delivered.Lost != 0 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
}

// A topic is deleted and made anew, and has more records than before at once: all of
// them are read, although there is something behind every offset.
func TestATopicMadeAnewIsReadFromItsFirstRecord(t *testing.T) {
	t.Parallel()
	topic := freshTopic(t, "phoenix")
	o := newTaker()
	text, change := logged(t)
	m := startMember(t, topic, o, []string{topic}, change)
	say(t, topic, 0, "old 0", "old 1", "old 2")
	committed := func() error {
		resp, err := admin().OffsetFetch(t.Context(), &kafkago.OffsetFetchRequest{GroupID: topic, Topics: map[string][]int{topic: {0}}})
		if err == nil {
			err = resp.Error
		}
		if err == nil && (len(resp.Topics[topic]) == 0 || resp.Topics[topic][0].CommittedOffset != 3) {
			err = fmt.Errorf("committed is %+v", resp.Topics[topic])
		}
		return err
	}
	pollFor(t, 30*time.Second, "a commit", committed)
	resp, err := admin().DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	if err = errors.Join(err, resp.Errors[topic]); err != nil {
		t.Fatal(err)
	}
	createTopic(t, topic, 1)
	var words []string
	for i := range 20 {
		words = append(words, fmt.Sprint("new ", i))
	}
	say(t, topic, 0, words...)
	pollFor(t, 30*time.Second, "the new topic's records", func() error { return o.has(words...) })
	// By the time that it is looked at, the new topic may be shorter than the old one was.
	if !strings.Contains(text(), "was deleted and is there again") && !strings.Contains(text(), "lies beyond the end") {
		t.Errorf("it does not say so:\n%s", text())
	}
	pollFor(t, 10*time.Second, "the ledger", func() error {
		if a := m.Accounts(); len(a) != 1 || a[0].Safe != 20 || a[0].Delivered.Docs != 20 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
}

// Records come with an id header that no document can have, or with one and broken JSON
// under it. In a bulk request such an id spoils the documents beside it: they are taken
// for what they are, another's, and nothing waits for them.
func TestARecordUnderAnImpossibleIDHoldsUpNobody(t *testing.T) {
	t.Parallel()
	topic := freshTopic(t, "hostile")
	record := func(id, rest string) kafkago.Record {
		doc := fmt.Sprintf(`{"@timestamp":%q,"id":"%s",%s`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), id, rest)
		return kafkago.Record{Value: kafkago.NewBytes([]byte(doc)), Headers: []kafkago.Header{{Key: "id", Value: []byte(id)}, {Key: "project", Value: []byte(topic)}}}
	}
	produce(t, topic, 0, func() []kafkago.Record {
		return []kafkago.Record{
			record("m-g-0", `"project":"p","message":"first"}`),
			record(`x","_index":"elsewhere","y":"z`, `"message":"another index"}`),
			record(`x\"y`, `"message":"a quote"}`),
			record("a b\x01", `"message":"not to be printed"}`),
			record(strings.Repeat("x", 600), `"message":"longer than an id may be"}`),
			record("m-g-1", `"message":"torn" "json"}`),
			record("m-g-2", `"project":"p","message":"last"}`),
		}
	})
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &rig.Home{Bin: bin, Dir: dir}
	if err := h.WriteConfig(fmt.Sprintf(`
inputs: {relay: {kafka: {brokers: ['%s'], topics: [%s], group: %[2]s}, project: %[2]s}}
outputs: {search: {elasticsearch: {urls: ['%[3]s'], index: '{project}-{date}'}}}
`, servers.Brokers("KAFKA_BROKERS")[0], topic, servers.Value("ELASTICSEARCH_URL"))); err != nil {
		t.Fatal(err)
	}
	a, err := h.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	pollFor(t, time.Minute, "the records to be answered for", func() error {
		m, err := a.Metrics()
		if err == nil && (m.Sum("output_lines_total") != 6 || m.Sum("dead_letters_total") != 1 || m.Sum("consumer_lag", topic) != 0) {
			err = fmt.Errorf("%v documents, %v dead letters, lag %v\n%s", m.Sum("output_lines_total"), m.Sum("dead_letters_total"), m.Sum("consumer_lag", topic), h.LogTail())
		}
		return err
	})
	plainServer().do(t, "POST", "/"+topic+"-*/_refresh", "")
	found := string(plainServer().do(t, "GET", "/"+topic+"-*/_search?size=20", ""))
	for _, want := range []string{"first", "another index", "a quote", "not to be printed", "longer than an id may be", "last"} {
		if !strings.Contains(found, want) {
			t.Errorf("no %q in %s", want, found)
		}
	}
}
