package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// fakeCluster stores batches as a broker does, sequences and all, and has moods that
// a real one cannot be asked for.
type fakeCluster struct {
	t    *testing.T
	mood func(try, partition int, values []string) (store bool, err error)
	// distance is how long an answer takes to come back.
	distance time.Duration
	// anew, when not nil, is how many partitions there are when they are asked for again.
	anew func() int

	mu       sync.Mutex
	asked    int
	tries    int
	nextID   int64
	expected map[[2]int64]int32 // the next sequence by producer and partition
	stored   map[int][]string
	most     int // the largest batch stored, in records
}

func newFakeCluster(t *testing.T) *fakeCluster {
	return &fakeCluster{t: t, expected: make(map[[2]int64]int32), stored: make(map[int][]string)}
}

func (c *fakeCluster) newProducer(context.Context) (producer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	return producer{id: c.nextID}, nil
}

func (c *fakeCluster) partitions(context.Context, string) (int, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked++; c.asked > 1 && c.anew != nil {
		return c.anew(), false, nil
	}
	return 3, false, nil
}

func (c *fakeCluster) reach(context.Context) error { return nil }

func (c *fakeCluster) leader(string, int) string { return "fake:9092" }

func (c *fakeCluster) up() map[string]bool { return nil }

func (c *fakeCluster) begin(_ context.Context, _ string, partition int, sealed []byte) func() error {
	err := c.produce(partition, sealed)
	if c.distance > 0 {
		at := time.Now().Add(c.distance)
		return func() error {
			time.Sleep(time.Until(at))
			return err
		}
	}
	return func() error { return err }
}

func (c *fakeCluster) produce(partition int, sealed []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	values := c.read(sealed)
	id, sequence := int64(binary.BigEndian.Uint64(sealed[atProducerID:])), int32(binary.BigEndian.Uint32(sealed[atBaseSequence:]))
	c.tries++
	store, err := true, error(nil)
	if c.mood != nil {
		store, err = c.mood(c.tries, partition, values)
	}
	if !store {
		return err
	}
	writer := [2]int64{id, int64(partition)}
	switch want := c.expected[writer]; {
	case sequence < want:
		return kafka.DuplicateSequenceNumber
	case sequence > want:
		return kafka.OutOfOrderSequenceNumber
	}
	c.expected[writer] = sequence + int32(len(values))
	c.stored[partition] = append(c.stored[partition], values...)
	c.most = max(c.most, len(values))
	return err
}

func (c *fakeCluster) read(sealed []byte) (values []string) {
	var set protocol.RecordSet
	sized := append(binary.BigEndian.AppendUint32(nil, uint32(len(sealed))), sealed...)
	if _, err := set.ReadFrom(bytes.NewReader(sized)); err != nil {
		c.t.Errorf("not a record batch: %v", err)
		return nil
	}
	for {
		rec, err := set.Records.ReadRecord()
		if err != nil {
			return values
		}
		v, _ := io.ReadAll(rec.Value)
		values = append(values, string(v))
	}
}

// ship sends documents of several files in batches and returns the answers.
func ship(s *Sink, files, batches, each int) []sink.Result {
	answers := make(chan sink.Result, batches)
	for b := range batches {
		batch := new(sink.Batch)
		for f := range files {
			o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: fmt.Sprint("file", f), Project: "p"})
			block := record.NewBlock(nil, nil, nil)
			r := new(record.Record)
			for i := range each {
				r.Reset()
				block.Append(o, r, 0, true, int64(b*each+i))
				batch.Refs = append(batch.Refs, record.Ref{Block: block, Index: i})
			}
		}
		s.Send(context.Background(), batch, func(r sink.Result) { answers <- r })
	}
	var all []sink.Result
	for range batches {
		all = append(all, <-answers)
	}
	return all
}

// verify checks that each file's lines are stored once and in order.
func (c *fakeCluster) verify(t *testing.T, files, lines int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]int)
	for p := range 3 {
		for _, v := range c.stored[p] {
			var file string
			var offset int
			id := v[idAt:]
			id = id[:bytes.IndexByte([]byte(id), '"')]
			parts := bytes.Split([]byte(id), []byte("-"))
			file = string(parts[1])
			fmt.Sscan(string(parts[2]), &offset)
			if offset != next[file] {
				t.Fatalf("partition %d: %s has line %d where %d was due", p, file, offset, next[file])
			}
			next[file]++
		}
	}
	for f := range files {
		if n := next[fmt.Sprint("file", f)]; n != lines {
			t.Errorf("file%d has %d of %d lines", f, n, lines)
		}
	}
}

const idAt = len(`{"@timestamp":"2006-01-02T15:04:05.000Z","id":"`)

func testSink(t *testing.T, c *fakeCluster) *Sink {
	topic, err := sink.Compile("logs-{project}", sink.TopicNaming)
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(Config{Topic: topic, Acks: AcksAll, Codec: LZ4, BatchBytes: 4096}, c)
	t.Cleanup(func() { s.Close() })
	return s
}

func allDelivered(t *testing.T, answers []sink.Result) {
	t.Helper()
	for _, r := range answers {
		if r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
			t.Fatalf("not delivered: %+v", r)
		}
	}
}

func TestLinesOfAFileStayInOrder(t *testing.T) {
	c := newFakeCluster(t)
	s := testSink(t, c)
	allDelivered(t, ship(s, 7, 20, 30))
	c.verify(t, 7, 600)
}

func TestAnAnswerLostOnTheWayDoublesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.mood = func(try, _ int, _ []string) (bool, error) {
			switch try % 3 {
			case 0:
				return true, errors.New("connection reset: stored, and the answer lost")
			case 1:
				return false, kafka.NotLeaderForPartition
			}
			return true, nil
		}
		s := testSink(t, c)
		allDelivered(t, ship(s, 5, 10, 20))
		c.verify(t, 5, 200)
		s.Close()
	})
}

func TestAFencedProducerGoesOnAsANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.mood = func(try, _ int, _ []string) (bool, error) {
			if try%4 == 0 {
				return false, kafka.InvalidProducerEpoch
			}
			return true, nil
		}
		s := testSink(t, c)
		allDelivered(t, ship(s, 5, 10, 20))
		c.verify(t, 5, 200)
		s.Close()
	})
}

func TestTheOneRecordThatIsTooLargeIsFound(t *testing.T) {
	c := newFakeCluster(t)
	c.mood = func(_, _ int, values []string) (bool, error) {
		if slices.ContainsFunc(values, func(v string) bool { return bytes.Contains([]byte(v), []byte(`-file0-13"`)) }) {
			return false, kafka.MessageSizeTooLarge
		}
		return true, nil
	}
	s := testSink(t, c)
	answers := ship(s, 1, 1, 100)
	if r := answers[0]; r.Err != nil || len(r.Retry) > 0 || len(r.Refused) != 1 || r.Refused[0].Index != 13 {
		t.Fatalf("%+v", answers[0])
	}
	total := 0
	for _, v := range c.stored {
		total += len(v)
	}
	if total != 99 {
		t.Errorf("%d of 99 stored", total)
	}
}

func TestAStuckPartitionHoldsOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		healed := false
		c.mood = func(_, partition int, _ []string) (bool, error) {
			if partition == 1 && !healed {
				return false, errors.New("i/o timeout")
			}
			return true, nil
		}
		s := testSink(t, c)
		var troubles []error
		s.OnTrouble(func(err error) { troubles = append(troubles, err) })
		go func() {
			time.Sleep(20 * time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.stored[0])+len(c.stored[2]) == 0 || len(c.stored[1]) > 0 {
				t.Errorf("stored while partition 1 was stuck: %d, %d, %d", len(c.stored[0]), len(c.stored[1]), len(c.stored[2]))
			}
			healed = true
		}()
		allDelivered(t, ship(s, 9, 3, 20))
		c.verify(t, 9, 60)
		s.mu.Lock()
		if len(troubles) < 2 || troubles[0] == nil || troubles[len(troubles)-1] != nil {
			t.Errorf("told of trouble: %v", troubles)
		}
		s.mu.Unlock()
		s.Close()
	})
}

func TestCloseAnswersForWhatIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		c.mood = func(int, int, []string) (bool, error) { return false, errors.New("unreachable") }
		s := testSink(t, c)
		go func() {
			time.Sleep(time.Second)
			s.Close()
		}()
		for _, r := range ship(s, 2, 2, 10) {
			if len(r.Retry) != 20 {
				t.Errorf("%d of 20 to be tried again: %v", len(r.Retry), r.Err)
			}
		}
	})
}

// A topic is deleted, and there is one of the same name with fewer partitions then: what
// was under way and what comes is stored in those, each file in order.
func TestATopicThatIsGoneIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t)
		gone, began := true, time.Now()
		c.mood = func(_, partition int, _ []string) (bool, error) {
			if partition >= 2 || gone {
				return false, kafka.UnknownTopicOrPartition
			}
			return true, nil
		}
		c.anew = func() int { gone = false; return 2 }
		s := testSink(t, c)
		allDelivered(t, ship(s, 12, 3, 5))
		if waited := time.Since(began); waited < goneAfter || waited > time.Minute {
			t.Errorf("asked for after %v", waited)
		}
		c.verify(t, 12, 15)
		s.Close()
	})
}
