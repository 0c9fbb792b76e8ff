package kafka

import (
	"encoding/binary"
	"errors"
	"testing"

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
