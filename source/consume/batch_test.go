package consume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/internal/kafka/wire"
	"github.com/tailwater/tailwater/record"
)

// encoded is a record batch as kafka-go writes it.
func encoded(t testing.TB, version int8, attributes protocol.Attributes, base int64, values ...string) []byte {
	var records []protocol.Record
	for i, v := range values {
		r := protocol.Record{Offset: base + int64(i), Time: time.UnixMilli(1795464005_000 + int64(i)), Value: protocol.NewBytes([]byte(v))}
		if version == 2 {
			r.Headers = []protocol.Header{{Key: "other", Value: []byte("x")}, {Key: "id", Value: fmt.Append(nil, "m-g-", i)}, {Key: "project", Value: []byte("shop")}}
		}
		records = append(records, r)
	}
	set := protocol.RecordSet{Version: version, Attributes: attributes, Records: protocol.NewRecordReader(records...)}
	var buf bytes.Buffer
	if _, err := set.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	data := buf.Bytes()[4:] // without its size
	if version == 2 {
		binary.BigEndian.PutUint64(data, uint64(base)) // as the broker does
	}
	return data
}

// reseal makes the checksum right again.
func reseal(batch []byte) []byte {
	binary.BigEndian.PutUint32(batch[atCRC:], crc32.Checksum(batch[atAttributes:], castagnoli))
	return batch
}

// taken reads all that data holds from an offset on.
func taken(data []byte, from int64) (values []string, next int64, err error) {
	var d decoder
	next = from
	err = d.records(data, from, func(m *message) error {
		values = append(values, fmt.Sprintf("%d %d %s %s %s", m.offset, m.time, m.id, m.project, m.value))
		next = m.offset + 1
		return nil
	}, func(n int64) { next = n })
	return values, next, err
}

func want(base, from int64, n int) (values []string) {
	for i := from; i < base+int64(n); i++ {
		values = append(values, fmt.Sprintf("%d %d m-g-%d shop value %d", i, 1795464005_000+i-base, i-base, i-base))
	}
	return values
}

func numbered(n int) (values []string) {
	for i := range n {
		values = append(values, fmt.Sprint("value ", i))
	}
	return values
}

func TestBatchesOfEveryCodecAreRead(t *testing.T) {
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		data := encoded(t, 2, protocol.Attributes(codec), 100, numbered(50)...)
		data = append(data, encoded(t, 2, protocol.Attributes(codec), 150, numbered(50)...)...)
		for _, from := range []int64{100, 120, 150, 199} {
			got, next, err := taken(data, from)
			expect := slices.Concat(want(100, min(from, 150), 50), want(150, max(from, 150), 50))
			if err != nil || next != 200 || !slices.Equal(got, expect) {
				t.Fatalf("codec %d from %d: %d records, next %d, %v\n%s", codec, from, len(got), next, err, strings.Join(got, "\n"))
			}
		}
		// The broker cuts an answer where it is full.
		first := len(encoded(t, 2, protocol.Attributes(codec), 100, numbered(50)...))
		for _, n := range []int{first, first + 1, first + 30, len(data) - 1} {
			if got, next, err := taken(data[:n], 100); err != nil || next != 150 || len(got) != 50 {
				t.Fatalf("codec %d cut at %d: %d records, next %d, %v", codec, n, len(got), next, err)
			}
		}
	}
}

// A record may begin in one piece of a batch and end in another, and be larger than one.
func TestALargeBatchIsReadBitByBit(t *testing.T) {
	var values, expect []string
	for i := range 50 {
		n := 20 << 10
		if i%2 > 0 {
			n = i << 10
		}
		values = append(values, fmt.Sprint(i, strings.Repeat(" larger", n)))
		expect = append(expect, fmt.Sprintf("%d %d m-g-%d shop %s", i, 1795464005_000+i, i, values[i]))
	}
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		got, next, err := taken(encoded(t, 2, protocol.Attributes(codec), 0, values...), 0)
		if err != nil || next != 50 || !slices.Equal(got, expect) {
			t.Errorf("codec %d: %d records, next %d, %v", codec, len(got), next, err)
		}
	}
}

func TestOldFormatsAreRead(t *testing.T) {
	data := encoded(t, 1, 0, 0, "a", "b")
	got, next, err := taken(data, 0)
	if err != nil || len(got) != 2 || !strings.HasSuffix(got[1], " b") || next != 2 {
		t.Errorf("%q, next %d, %v", got, next, err)
	}
}

func TestTransactionsLeaveOnlyOffsets(t *testing.T) {
	data := encoded(t, 2, 0, 5, "a")
	marker := encoded(t, 2, protocol.Control|protocol.Transactional, 6, "commit")
	empty := encoded(t, 2, 0, 7, "x", "y", "z") // compaction has left nothing of it
	binary.BigEndian.PutUint32(empty[atRecordCount:], 0)
	got, next, err := taken(slices.Concat(data, marker, reseal(empty)), 5)
	if err != nil || len(got) != 1 || next != 10 {
		t.Errorf("%q, next %d, %v", got, next, err)
	}
}

// inTransaction makes a batch that of a producer's transaction.
func inTransaction(batch []byte, producer int64) []byte {
	binary.BigEndian.PutUint64(batch[atProducerID:], uint64(producer))
	batch[atAttributes+1] |= transactional
	return reseal(batch)
}

// Two producers in each other's way: what one of them took back is not read, whatever
// the other wrote in between, and what it wrote in its next transaction is.
func TestWhatATransactionTookBackIsNotRead(t *testing.T) {
	mark := func(at, producer int64) []byte {
		return inTransaction(encoded(t, 2, protocol.Control, at, "mark"), producer)
	}
	of := func(at, producer int64, values ...string) []byte {
		return inTransaction(encoded(t, 2, 0, at, values...), producer)
	}
	data := slices.Concat(of(0, 7, "back"), of(1, 8, "kept"), encoded(t, 2, 0, 2, "plain"), of(3, 7, "back", "back"), mark(5, 7),
		of(6, 7, "anew"), mark(7, 8), of(8, 8, "back too"), mark(9, 7), mark(10, 8), encoded(t, 2, 0, 11, "last"))
	list := func(all ...int64) (b []byte) {
		for _, n := range all {
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
		return b
	}
	for from, want := range map[int64]string{0: "kept plain anew last", 4: "anew last", 7: "last"} {
		var d decoder
		d.expect(list(7, 0, 8, 8))
		var got []string
		next := from
		if err := d.records(data, from, func(m *message) error {
			got = append(got, string(m.value))
			return nil
		}, func(n int64) { next = n }); err != nil || strings.Join(got, " ") != want || next != 12 {
			t.Errorf("from %d: %q, want %q; next %d, %v", from, got, want, next, err)
		}
	}
	var p = newPartition(testSource(t, func(_ context.Context, p record.Parcel) error { p.Done(); return nil }), partitionID{"t", 0}, mark0)
	var d decoder
	d.expect(list(7, 0, 8, 8))
	if err := p.take(&d, data); err != nil {
		t.Fatal(err)
	}
	if at, _ := p.toCommit(); at.offset != 12 || at.sum.Records != 4 || at.sum.Void != 8 {
		t.Errorf("the ledger has %+v", at)
	}
}

// mark0 is the beginning of a partition.
var mark0 = readMark(0, "")

func TestADamagedBatchSaysWhatIsLost(t *testing.T) {
	good, bad := encoded(t, 2, 0, 0, "a", "b"), encoded(t, 2, 0, 2, "c", "d", "e")
	bad[len(bad)-3] ^= 1
	var damage *damagedError
	got, next, err := taken(slices.Concat(good, bad), 0)
	if !errors.As(err, &damage) || damage.from != 2 || damage.to != 5 || len(got) != 2 || next != 2 {
		t.Errorf("%q, next %d, %v", got, next, err)
	}
	for name, change := range map[string]func(b []byte){
		"unknown codec":    func(b []byte) { b[atAttributes+1] |= 5 },
		"unknown format":   func(b []byte) { b[atMagic] = 9 },
		"too many records": func(b []byte) { b[atRecordCount] = 0x7f },
		"torn record":      func(b []byte) { b[batchHeaderBytes] = 0xff },
	} {
		b := encoded(t, 2, 0, 2, "c", "d", "e")
		change(b)
		if _, _, err := taken(reseal(b), 2); !errors.As(err, &damage) || damage.to != 5 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamageIsLeftOutOnlyWhenItStays(t *testing.T) {
	s := testSource(t, nil)
	var lost int64
	s.Lost = func(_ string, n int64) { lost += n }
	p := newPartition(s, partitionID{"logs-a", 0}, readMark(2, ""))
	bad := encoded(t, 2, 0, 2, "c", "d", "e")
	bad[len(bad)-3] ^= 1
	for try := 1; try <= triesOfDamage; try++ {
		err := p.take(new(decoder), bad)
		if last := try == triesOfDamage; (err == nil) != last || last != (p.next == 5) || last != (lost == 3) {
			t.Fatalf("try %d: %v, next %d, lost %d", try, err, p.next, lost)
		}
	}
	if a, _ := p.account(); a.Safe != 5 || !reflect.DeepEqual(a.Delivered, Sum{From: 2, Lost: 3, Gaps: []Gap{{2, 5, "damaged"}}}) {
		t.Errorf("%+v", a)
	}
}

func TestABombIsNotUnpackedAtOnce(t *testing.T) {
	big := strings.Repeat("x", maxRecordBytes+1)
	data := encoded(t, 2, protocol.Attributes(compress.Zstd), 0, "small", big)
	got, _, err := taken(data, 0)
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "a record of") {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// FuzzRecords: whatever comes over the wire, reading it ends, and says of no record
// that it lies before what was asked for.
func FuzzRecords(f *testing.F) {
	for _, codec := range []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd} {
		f.Add(encoded(f, 2, protocol.Attributes(codec), 3, numbered(5)...), int64(4), true)
	}
	f.Add(encoded(f, 1, 0, 3, "old"), int64(0), false)
	f.Fuzz(func(t *testing.T, data []byte, from int64, seal bool) {
		if seal && len(data) > batchHeaderBytes {
			reseal(data)
		}
		if from < 0 {
			return
		}
		var d decoder
		d.expect(data[:min(len(data), 64)])
		last := from
		d.records(data, from, func(m *message) error {
			if m.offset < from {
				t.Fatalf("record %d, from %d", m.offset, from)
			}
			return nil
		}, func(next int64) {
			if next <= last {
				t.Fatalf("on to %d from %d", next, last)
			}
			last = next
		})
	})
}

// fetchAnswer is one of version 11 with one partition.
func fetchAnswer(topic string, index int32, code int16, last int64, records []byte) []byte {
	u32 := binary.BigEndian.AppendUint32
	b := append(make([]byte, 4+2), 0, 0, 0, 0)
	b = wire.AppendText(u32(b, 1), topic)
	b = u32(u32(b, 1), uint32(index))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	b = binary.BigEndian.AppendUint64(b, uint64(last))
	b = append(b, make([]byte, 16)...)
	b = append(u32(b, 1), make([]byte, 16)...) // one aborted transaction
	b = u32(u32(b, 0xffffffff), uint32(len(records)))
	return append(b, records...)
}

func TestFetchAnswersAreRead(t *testing.T) {
	whole := fetchAnswer("logs", 3, 6, 99, []byte("records"))
	seen := 0
	err := eachPartition(whole, 11, func(a *partAnswer) {
		seen++
		if string(a.topic) != "logs" || a.index != 3 || a.code != kafka.NotLeaderForPartition || a.last != 99 || len(a.aborted) != 16 || string(a.records) != "records" {
			t.Errorf("%+v", a)
		}
	})
	if err != nil || seen != 1 {
		t.Errorf("%d partitions, %v", seen, err)
	}
	for n := range whole {
		if err := eachPartition(whole[:n], 11, func(*partAnswer) { t.Error("a torn partition") }); err == nil {
			t.Errorf("%d of %d bytes are an answer", n, len(whole))
		}
	}
}

func FuzzFetchAnswer(f *testing.F) {
	f.Add(fetchAnswer("logs", 3, 0, 99, []byte("records")), int16(11))
	f.Add(fetchAnswer("logs", 3, 1, -1, nil), int16(4))
	f.Fuzz(func(t *testing.T, body []byte, version int16) {
		n := 0
		eachPartition(body, version, func(*partAnswer) { n++ })
		if n > len(body) {
			t.Errorf("%d partitions in %d bytes", n, len(body))
		}
	})
}

func TestRecordsAreReadWithoutAllocations(t *testing.T) {
	for _, codec := range []compress.Compression{compress.None, compress.Snappy} {
		data := encoded(t, 2, protocol.Attributes(codec), 0, numbered(1000)...)
		var d decoder
		n := 0
		each, passed := func(*message) error { n++; return nil }, func(int64) {}
		if allocs := testing.AllocsPerRun(20, func() { d.records(data, 0, each, passed) }); allocs > 0 || n != 21*1000 {
			t.Errorf("codec %d: %v allocations for a batch, %d records", codec, allocs, n)
		}
	}
}

// BenchmarkRecords measures what the indexer does with a batch of an agent.
func BenchmarkRecords(b *testing.B) {
	var values []string
	size := 0
	for i := range 1500 {
		values = append(values, fmt.Sprintf(`{"n":%d,"request_id":"%x","path":"/api/v1/orders/%d","message":"%s"}`, i, i*7919, i*31, strings.Repeat("some words ", 30)))
		size += len(values[i])
	}
	for _, codec := range []compress.Compression{compress.None, compress.Snappy, compress.Lz4, compress.Zstd} {
		b.Run(fmt.Sprint("codec-", codec), func(b *testing.B) {
			data := encoded(b, 2, protocol.Attributes(codec), 0, values...)
			var d decoder
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				if err := d.records(data, 0, func(*message) error { n++; return nil }, func(int64) {}); err != nil || n != len(values) {
					b.Fatal(n, err)
				}
			}
		})
	}
}
