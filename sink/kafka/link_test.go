package kafka

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/internal/kafka/wire"
	"github.com/tailwater/tailwater/record"
)

// produceAnswer is what a broker says about one partition, in version 8.
func produceAnswer(topic string, index int32, code int16, why string) []byte {
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = wire.AppendText(b, topic)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(index))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	b = append(b, make([]byte, 8+8+8+4)...) // offsets, time, no record errors
	b = wire.AppendText(b, why)
	return append(b, 0, 0, 0, 0) // throttle time
}

func TestAnswersAreRead(t *testing.T) {
	answers, err := results(&wire.Reader{Rest: produceAnswer("logs", 2, int16(kafka.MessageSizeTooLarge), "at most 1 MiB")}, 8)
	if got := answers[partition{"logs", 2}]; err != nil || !errors.Is(got, kafka.MessageSizeTooLarge) {
		t.Errorf("%v, %v", answers, err)
	}
	whole := produceAnswer("logs", 2, 0, "")
	for n := range len(whole) - 4 { // the throttle time is not looked at
		if _, err := results(&wire.Reader{Rest: whole[:n]}, 8); !errors.Is(err, wire.ErrTorn) {
			t.Errorf("%d of %d bytes are an answer: %v", n, len(whole), err)
		}
	}
}

// FuzzAnswer: whatever comes over the wire, it is read to its end at most.
func FuzzAnswer(f *testing.F) {
	f.Add(produceAnswer("logs", 2, 0, ""), int16(8))
	f.Add(produceAnswer("logs", 2, 6, "no"), int16(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, int16(8))
	f.Fuzz(func(t *testing.T, body []byte, version int16) {
		if answers, err := results(&wire.Reader{Rest: body}, version); err == nil && len(answers) > len(body) {
			t.Errorf("%d results of %d bytes", len(answers), len(body))
		}
	})
}

func TestABatchAllocatesNothing(t *testing.T) {
	docs := documents(1000)
	for _, codec := range []Codec{None, Snappy, LZ4} {
		if codec == Snappy && raceDetector {
			continue // its tables are in a sync.Pool, which forgets at random then
		}
		var b batch
		run := func() {
			b.reset(codec)
			for i := range docs.Docs {
				b.append(record.Ref{Block: docs, Index: i}, nil, docs.Docs[i].Time)
			}
			b.seal()
			stamp(b.out, producer{1, 0}, 0)
		}
		run()
		if a := testing.AllocsPerRun(10, run); a != 0 {
			t.Errorf("codec %d: %v allocations per batch", codec, a)
		}
	}
}

// produced reads a produce request of one batch, and returns what is asked for.
func produced(t *testing.T, conn net.Conn) (correlation uint32, acks int16) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, body); err != nil {
		t.Fatal(err)
	}
	r := wire.Reader{Rest: body}
	r.Take(2 + 2)
	correlation = r.Uint32()
	r.Text()
	r.Take(2)
	return correlation, int16(r.Uint16())
}

// acks: 0, and the topic comes into being with the first line, or its leader is another
// by now: what is sent first is asked about, and what fails is sent again.
func TestWhatIsSentFirstIsAskedAboutThoughNobodyIsToAnswer(t *testing.T) {
	ours, broker := net.Pipe()
	l := newLink(ours, "b:9092", 8, AcksNone, time.Second)
	t.Cleanup(l.close)
	send := func(index int32, batch string) *call {
		c := &call{topic: "logs", partition: index, sealed: []byte(batch), done: make(chan error, 1)}
		if !l.submit(c) {
			t.Fatal("the link is down")
		}
		return c
	}
	answer := func(correlation uint32, index int32, code int16) {
		t.Helper()
		body := append(binary.BigEndian.AppendUint32(nil, correlation), produceAnswer("logs", index, code, "")...)
		if _, err := broker.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		index int32
		batch string
		acks  int16
		code  int16
	}{{0, "batch", 1, 5}, {0, "batch", 1, 0}, {0, "batch", 0, 0}, {1, "batch", 1, 0}, {0, "less", 0, 0}, {1, "batch", 0, 0},
		{0, "a large batch", 1, 10}, {0, "larger", 1, 0}, {0, "batch", 0, 0}, {0, "larger", 0, 0}} {
		c := send(step.index, step.batch)
		correlation, acks := produced(t, broker)
		if acks != step.acks {
			t.Fatalf("%+v: acks %d", step, acks)
		}
		if acks != 0 {
			answer(correlation, step.index, step.code)
		}
		if err := <-c.done; (err == nil) != (step.code == 0) {
			t.Fatalf("%+v: %v", step, err)
		}
	}
	c := send(2, "batch")
	produced(t, broker)
	broker.Close()
	if err := <-c.done; err == nil {
		t.Error("it is said to be stored by a broker that has gone")
	}
}
