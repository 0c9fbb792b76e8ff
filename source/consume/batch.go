package consume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
)

// The record batch format v2 as described in Apache Kafka's protocol documentation
// ("Record Batch"): a header of 61 bytes, of which the first 12 are the base offset
// and the length of the rest, and records of varints, which may be compressed.
const (
	batchHeaderBytes = 61
	entryBytes       = 12 // base offset and length, as older formats have them, too

	atLength          = 8
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atRecordCount     = 57

	codecBits     = 7
	appendedTime  = 8  // the batch's time is that of the broker
	transactional = 16 // its records are in a transaction
	controlBatch  = 32 // the mark that ends one
)

// maxRecordBytes bounds one record, uncompressed: what is larger is not read.
const maxRecordBytes = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// message is one record. What it points into is good until the next one is read.
type message struct {
	offset      int64
	time        int64 // Unix milliseconds, -1 when there is none
	value       []byte
	id, project []byte // of sink/kafka's headers
}

// decoder reads record batches. One goroutine at a time uses it.
type decoder struct {
	unpack unpacker
	msg    message
	// aborted are the transactions whose records in the next answer count for nothing.
	aborted []transaction
}

// transaction is one that was taken back: what this producer wrote from the first offset
// on, up to its next mark.
type transaction struct{ producer, first int64 }

// expect is told the list of an answer: sixteen bytes a transaction.
func (d *decoder) expect(aborted []byte) {
	d.aborted = d.aborted[:0]
	for ; len(aborted) >= 16; aborted = aborted[16:] {
		d.aborted = append(d.aborted, transaction{int64(binary.BigEndian.Uint64(aborted)), int64(binary.BigEndian.Uint64(aborted[8:]))})
	}
}

// takenBack tells whether a batch up to the offset last is of an aborted transaction.
func (d *decoder) takenBack(producer, last int64) bool {
	return slices.ContainsFunc(d.aborted, func(t transaction) bool { return t.producer == producer && t.first <= last })
}

// ended takes note of a mark: what the producer writes after it is of another transaction.
func (d *decoder) ended(producer, at int64) {
	d.aborted = slices.DeleteFunc(d.aborted, func(t transaction) bool { return t.producer == producer && t.first <= at })
}

// damagedError is a batch that cannot be read, whatever one does.
type damagedError struct {
	from, to int64 // the offsets of what is in it; to is the one after the last
	why      error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("the records from offset %d to %d cannot be read: %v", e.from, e.to-1, e.why)
}

func (e *damagedError) Unwrap() error { return e.why }

// records calls each for the records of a fetch answer from the offset from on, and
// passed after each batch with the offset to read next. The last batch may be cut off;
// it is left for the next answer. An error is each's or a damagedError.
func (d *decoder) records(data []byte, from int64, each func(*message) error, passed func(next int64)) error {
	for len(data) > atMagic {
		size := int64(entryBytes) + int64(int32(binary.BigEndian.Uint32(data[atLength:])))
		if size <= atMagic || size < batchHeaderBytes && data[atMagic] >= 2 {
			return &damagedError{from, from + 1, fmt.Errorf("a batch of %d bytes", size)}
		}
		if size > int64(len(data)) {
			return nil
		}
		entry := data[:size]
		data = data[size:]
		next, err := d.entry(entry, from, each)
		if err != nil {
			return err
		}
		if next > from {
			from = next
			passed(next)
		}
	}
	return nil
}

// entry reads one batch and returns the offset after it.
func (d *decoder) entry(entry []byte, from int64, each func(*message) error) (next int64, err error) {
	if entry[atMagic] < 2 {
		return d.old(entry, from, each)
	}
	base := int64(binary.BigEndian.Uint64(entry))
	next = base + int64(binary.BigEndian.Uint32(entry[atLastOffsetDelta:])) + 1
	attributes := binary.BigEndian.Uint16(entry[atAttributes:])
	if attributes&(controlBatch|transactional) != 0 && len(d.aborted) > 0 {
		producer := int64(binary.BigEndian.Uint64(entry[atProducerID:]))
		switch {
		case attributes&controlBatch != 0:
			d.ended(producer, next-1)
		case d.takenBack(producer, next-1):
			return next, nil
		}
	}
	if next <= from || attributes&controlBatch != 0 {
		return next, nil
	}
	var fault error // of the batch; err is each's
	switch {
	case entry[atMagic] != 2:
		fault = fmt.Errorf("format %d is not known", entry[atMagic])
	case crc32.Checksum(entry[atAttributes:], castagnoli) != binary.BigEndian.Uint32(entry[atCRC:]):
		fault = errors.New("its checksum is wrong")
	default:
		fault, err = d.batch(entry, base, from, each)
	}
	if fault != nil {
		return next, &damagedError{max(base, from), next, fault}
	}
	return next, err
}

func (d *decoder) batch(entry []byte, base, from int64, each func(*message) error) (fault, err error) {
	attributes := binary.BigEndian.Uint16(entry[atAttributes:])
	baseTime := int64(binary.BigEndian.Uint64(entry[atBaseTimestamp:]))
	if fault := d.unpack.open(attributes&codecBits, entry[batchHeaderBytes:]); fault != nil {
		return fault, nil
	}
	defer d.unpack.close()
	for range int32(binary.BigEndian.Uint32(entry[atRecordCount:])) {
		body, fault := d.unpack.next()
		if fault != nil {
			return fault, nil
		}
		delta, late, fault := d.msg.read(body)
		if fault != nil {
			return fault, nil
		}
		d.msg.offset, d.msg.time = base+delta, baseTime+late
		if attributes&appendedTime != 0 {
			d.msg.time = int64(binary.BigEndian.Uint64(entry[atMaxTimestamp:]))
		}
		if d.msg.offset < from { // a batch may begin before what was asked for
			continue
		}
		if err := each(&d.msg); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

var errRecord = errors.New("a record that does not keep to the format")

// read takes the record's body apart. It returns how far its offset and its time lie
// behind the batch's.
func (m *message) read(body []byte) (offset, late int64, err error) {
	*m = message{}
	at := 1 // behind the attributes
	late, at = varint(body, at)
	offset, at = varint(body, at)
	_, at = text(body, at) // the key
	m.value, at = text(body, at)
	headers, at := varint(body, at)
	for ; headers > 0 && at <= len(body); headers-- {
		var key, value []byte
		key, at = text(body, at)
		value, at = text(body, at)
		switch string(key) {
		case "id":
			m.id = value
		case "project":
			m.project = value
		}
	}
	if at > len(body) || offset < 0 || offset > math.MaxInt32 {
		return 0, 0, errRecord
	}
	return offset, late, nil
}

// varint reads the number that stands at an offset of a record, and returns the offset
// behind it, which is beyond the end where there is no number.
func varint(body []byte, at int) (n int64, next int) {
	if at < len(body) && body[at] < 0x80 { // nearly all are of one byte
		n = int64(body[at])
		return n>>1 ^ -(n & 1), at + 1
	}
	return longVarint(body, at)
}

func longVarint(body []byte, at int) (n int64, next int) {
	if at < len(body) {
		if n, size := binary.Varint(body[at:]); size > 0 {
			return n, at + size
		}
	}
	return 0, len(body) + 1
}

// text reads what stands at an offset with its length before it. It is nil when it is
// null, and not nil when it is empty.
func text(body []byte, at int) (t []byte, next int) {
	n, at := varint(body, at)
	switch {
	case n < 0 || at > len(body):
		return nil, at
	case n > int64(len(body)-at):
		return nil, len(body) + 1
	}
	end := at + int(n)
	return body[at:end:end], end
}

// old reads an entry of the formats before Kafka 0.11, which some clusters still keep
// on their disks. They are rare, and kafka-go's reading is good enough for them.
func (d *decoder) old(entry []byte, from int64, each func(*message) error) (next int64, err error) {
	last := int64(binary.BigEndian.Uint64(entry)) // of a compressed set, its last record's
	damaged := func(fault error) (int64, error) {
		return last + 1, &damagedError{from, last + 1, fault}
	}
	if last < from {
		return last + 1, nil
	}
	var set protocol.RecordSet
	sized := append(binary.BigEndian.AppendUint32(nil, uint32(len(entry))), entry...)
	if _, err := set.ReadFrom(bytes.NewReader(sized)); err != nil || set.Records == nil {
		return damaged(fmt.Errorf("old format: %w", err))
	}
	for {
		rec, err := set.Records.ReadRecord()
		if err == io.EOF {
			return last + 1, nil
		}
		if err != nil {
			return damaged(fmt.Errorf("old format: %w", err))
		}
		value, err := protocol.ReadAll(rec.Value)
		if err != nil {
			return damaged(fmt.Errorf("old format: %w", err))
		}
		if rec.Offset < from {
			continue
		}
		d.msg = message{offset: rec.Offset, time: -1, value: value}
		if !rec.Time.IsZero() {
			d.msg.time = rec.Time.UnixMilli()
		}
		if err := each(&d.msg); err != nil {
			return rec.Offset, err
		}
	}
}
