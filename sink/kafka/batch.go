package kafka

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tailwater/tailwater/record"
)

// The record batch format v2 as described in Apache Kafka's protocol documentation
// ("Record Batch"): a fixed header of 61 bytes, all numbers big endian, and records
// of varints, of which everything after the header may be compressed.
const (
	batchHeaderBytes = 61

	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atRecordCount     = 57
)

// Codec is a compression of record batches, by its number in their attributes.
type Codec int8

// The codecs of the format.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch builds one record batch. It is reused.
type batch struct {
	out   []byte // the sealed batch, in packer's memory
	count int32
	base  int64 // the first record's timestamp
	max   int64

	packer packer

	origin  *record.Origin // of the document before
	project []byte         // the header for its project
}

// reset begins a new batch.
func (b *batch) reset(codec Codec) {
	b.packer.reset(codec)
	b.count, b.out = 0, nil
}

// The headers of each record as they are encoded: the length of the name, the name, and
// the length of the value where it is always the same.
const (
	headerID      = "\x04id"
	headerProject = "\x0eproject"
	headerTime    = "\x08time\x30" // documentTime's 24 bytes
	noTime        = "\x08time\x00"
)

// append adds a document with its headers project, time and id. unixMilli becomes
// the record's timestamp; key may be nil. The id is the last header: what differs from
// record to record lies together then, and the compression has fewer matches to make.
func (b *batch) append(ref record.Ref, key []byte, unixMilli int64) error {
	if b.count == 0 {
		b.base, b.max = unixMilli, unixMilli
	}
	b.max = max(b.max, unixMilli)
	doc := ref.Doc()
	if doc.Origin != b.origin {
		b.origin = doc.Origin
		b.project = append(b.project[:0], headerProject...)
		b.project = binary.AppendVarint(b.project, int64(len(doc.Origin.Project)))
		b.project = append(b.project, doc.Origin.Project...)
	}
	value, id := ref.JSON(), ref.ID()
	timeHeader, at := headerTime, documentTime(value)
	if at == nil {
		timeHeader = noTime
	}

	var lead [32]byte // attributes, timestamp delta, offset delta
	n := 1 + binary.PutVarint(lead[1:], unixMilli-b.base)
	n += binary.PutVarint(lead[n:], int64(b.count))
	body := n + keyBytes(key) + varintBytes(len(value)) + len(value) + 1 +
		len(headerID) + varintBytes(len(id)) + len(id) + len(b.project) + len(timeHeader) + len(at)

	buf := grow(b.packer.plain, binary.MaxVarintLen32+body)
	buf = binary.AppendVarint(buf, int64(body))
	buf = append(buf, lead[:n]...)
	if key == nil {
		buf = append(buf, 1) // -1: no key
	} else {
		buf = binary.AppendVarint(buf, int64(len(key)))
		buf = append(buf, key...)
	}
	buf = binary.AppendVarint(buf, int64(len(value)))
	buf = append(buf, value...)
	buf = append(buf, 6) // three headers
	buf = append(buf, b.project...)
	buf = append(buf, timeHeader...)
	buf = append(buf, at...)
	buf = append(buf, headerID...)
	buf = binary.AppendVarint(buf, int64(len(id)))
	b.packer.plain = append(buf, id...)
	b.count++
	return b.packer.packFull()
}

// documentTime is the text of a document's @timestamp, which stands first in it.
func documentTime(doc []byte) []byte {
	const before = len(`{"@timestamp":"`)
	const length = len("2006-01-02T15:04:05.000Z")
	if len(doc) < before+length {
		return nil
	}
	return doc[before : before+length]
}

func keyBytes(key []byte) int {
	if key == nil {
		return 1
	}
	return varintBytes(len(key)) + len(key)
}

// varintBytes is the length of n's zigzag varint.
func varintBytes(n int) int {
	size := 1
	for u := uint64(n) << 1; u >= 0x80; u >>= 7 {
		size++
	}
	return size
}

// seal compresses what is left and fills the header in, but for what stamp does. The
// result is in out until the next reset.
func (b *batch) seal() error {
	h, err := b.packer.finish()
	if err != nil {
		return fmt.Errorf("compress %d records: %w", b.count, err)
	}
	b.out = h
	clear(h[:batchHeaderBytes])
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-atLeaderEpoch))
	binary.BigEndian.PutUint32(h[atLeaderEpoch:], 0xffffffff)
	h[atMagic] = 2
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(b.packer.codec))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[atBaseTimestamp:], uint64(b.base))
	binary.BigEndian.PutUint64(h[atMaxTimestamp:], uint64(b.max))
	binary.BigEndian.PutUint32(h[atRecordCount:], uint32(b.count))
	return nil
}

// producer is who writes: an id and an epoch that the cluster has given.
type producer struct {
	id    int64
	epoch int16
}

// stamp sets the producer and the first record's sequence in a sealed batch, and the
// checksum over it all.
func stamp(sealed []byte, p producer, sequence int32) {
	binary.BigEndian.PutUint64(sealed[atProducerID:], uint64(p.id))
	binary.BigEndian.PutUint16(sealed[atProducerEpoch:], uint16(p.epoch))
	binary.BigEndian.PutUint32(sealed[atBaseSequence:], uint32(sequence))
	binary.BigEndian.PutUint32(sealed[atCRC:], crc32.Checksum(sealed[atAttributes:], castagnoli))
}
