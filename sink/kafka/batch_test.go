package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"testing"

	"github.com/segmentio/kafka-go/protocol"

	"github.com/tailwater/tailwater/record"
)

// documents makes a block of n documents of about 600 bytes.
func documents(n int) *record.Block {
	o := record.NewOrigin(record.OriginFields{Machine: "k3v9x2ma", Generation: "8f3kq09zt5mw", Host: "gw-1", Input: "gateway",
		File: "/var/log/nginx/access.log", Project: "gateway"})
	b := record.NewBlock(nil, nil, nil)
	r := new(record.Record)
	for i := range n {
		r.Reset()
		r.Put("path", fmt.Appendf(nil, "/api/v1/orders/%d/items", i*7919%10007), record.Text)
		r.Put("user_agent", []byte("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"), record.Text)
		r.Put("request_id", fmt.Appendf(nil, "%032x", i*104729), record.Text)
		r.Put("status_code", []byte("200"), record.JSON)
		b.Append(o, r, 1795464000000+int64(i), true, int64(i)*280)
	}
	return b
}

// TestRecordsComeBackFromTheBatch reads our batches with kafka-go's own decoder, in
// every codec.
func TestRecordsComeBackFromTheBatch(t *testing.T) {
	const n = 300
	docs := documents(n)
	for codec := None; codec <= Zstd; codec++ {
		var b batch
		b.reset(codec)
		for i := range n {
			ref := record.Ref{Block: docs, Index: i}
			var key []byte
			if i%3 == 0 {
				key = ref.ID()
			}
			if err := b.append(ref, key, ref.Doc().Time); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.seal(); err != nil {
			t.Fatal(err)
		}
		stamp(b.out, producer{id: 77, epoch: 3}, 1000)
		if sum := crc32.Checksum(b.out[atAttributes:], castagnoli); sum != binary.BigEndian.Uint32(b.out[atCRC:]) {
			t.Errorf("codec %d: the checksum does not fit", codec)
		}
		var set protocol.RecordSet
		sized := append(binary.BigEndian.AppendUint32(nil, uint32(len(b.out))), b.out...)
		if _, err := set.ReadFrom(bytes.NewReader(sized)); err != nil {
			t.Fatalf("codec %d: %v", codec, err)
		}
		if set.Version != 2 || int8(set.Attributes&7) != int8(codec) {
			t.Errorf("codec %d: version %d, attributes %v", codec, set.Version, set.Attributes)
		}
		check(t, codec, docs, set.Records, n)
	}
}

func check(t *testing.T, codec Codec, docs *record.Block, records protocol.RecordReader, n int) {
	t.Helper()
	for i := range n {
		rec, err := records.ReadRecord()
		if err != nil {
			t.Fatalf("codec %d: record %d: %v", codec, i, err)
		}
		value, _ := io.ReadAll(rec.Value)
		if !bytes.Equal(value, docs.JSON(i)) {
			t.Fatalf("codec %d: record %d is %s", codec, i, value)
		}
		if rec.Time.UnixMilli() != docs.Docs[i].Time || rec.Offset != int64(i) {
			t.Errorf("codec %d: record %d: time %v, offset %d", codec, i, rec.Time, rec.Offset)
		}
		if (rec.Key != nil) != (i%3 == 0) {
			t.Errorf("codec %d: record %d: key %v", codec, i, rec.Key)
		}
		want := fmt.Sprintf("[project=gateway time=%s id=%s ", documentTime(value), docs.ID(i))
		got := "["
		for _, h := range rec.Headers {
			got += h.Key + "=" + string(h.Value) + " "
		}
		if len(rec.Headers) != 3 || got != want {
			t.Errorf("codec %d: record %d: headers %s", codec, i, got)
		}
	}
	if _, err := records.ReadRecord(); err != io.EOF {
		t.Errorf("codec %d: more records than written: %v", codec, err)
	}
}

func BenchmarkBatch(b *testing.B) {
	docs := documents(1000)
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		b.Run(name, func(b *testing.B) {
			var batch batch
			var plain, sealed int
			b.SetBytes(int64(len(docs.Data)))
			b.ReportAllocs()
			for b.Loop() {
				batch.reset(Codec(codec))
				for i := range docs.Docs {
					if err := batch.append(record.Ref{Block: docs, Index: i}, nil, docs.Docs[i].Time); err != nil {
						b.Fatal(err)
					}
					plain += size(record.Ref{Block: docs, Index: i})
				}
				if err := batch.seal(); err != nil {
					b.Fatal(err)
				}
				stamp(batch.out, producer{1, 0}, 0)
				sealed += len(batch.out)
			}
			b.ReportMetric(float64(plain)/float64(sealed), "ratio")
		})
	}
}
