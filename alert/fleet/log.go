package fleet

import (
	"context"
	"time"
)

// Log is what the fleet needs of Kafka. Its methods are called from several goroutines.
type Log interface {
	// Open makes the topics where they are missing, but for that of the days, and returns
	// the number of partitions of the counts, which is that of the states.
	Open(ctx context.Context) (partitions int, err error)
	// OpenDays does the same for the topic of the days.
	OpenDays(ctx context.Context) (partitions int, err error)
	// Append adds records to the end of a partition: all of them or none. After an
	// error they may be there all the same.
	Append(ctx context.Context, t Topic, partition int, records []Record) error
	// Read returns records from offset on, and waits for the first as long as that; end
	// is the offset after the last one there is. The records are the caller's.
	Read(ctx context.Context, t Topic, partition int, offset int64, wait time.Duration) (records []Record, end int64, err error)
	// Since returns the offset of the first record that was written at that time or
	// later, and the end where there is none. The zero time is the beginning.
	Since(ctx context.Context, t Topic, partition int, at time.Time) (offset int64, err error)
	// Join makes the caller a member of the consumer group until ctx ends. For each
	// generation of the group it calls decide with the partitions that are the
	// caller's; the context ends with the generation, which waits for decide to return,
	// and the generation ends when decide does.
	Join(ctx context.Context, decide func(ctx context.Context, partitions []int)) error
	// Close ends its connections.
	Close()
}

// mostBytes bounds what is appended at a time: brokers refuse batches of more than 1 MB.
const mostBytes = 512 << 10

// appendAll appends records in their order, at a time as many as brokers take. After an
// error the first of them may be there, and the others not.
func appendAll(ctx context.Context, l Log, t Topic, partition int, records []Record) error {
	for len(records) > 0 {
		n, bytes := 0, 0
		for n < len(records) && (n == 0 || bytes+len(records[n].Key)+len(records[n].Value) <= mostBytes) {
			bytes += len(records[n].Key) + len(records[n].Value) + 16
			n++
		}
		if err := l.Append(ctx, t, partition, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// Topic is one of the topics.
type Topic int

// The topics.
const (
	Counts Topic = iota // from the nodes
	States              // of the evaluators, compacted
	Beats               // of the evaluators; one partition
	Days                // of both, for the reports, compacted
)

// Record is a record of a topic.
type Record struct {
	Offset int64
	Time   time.Time // when it was written
	Key    []byte
	Value  []byte // nil deletes the key in a compacted topic
}
