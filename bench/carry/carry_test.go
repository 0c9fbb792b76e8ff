package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

// batchOf is a record batch as kafka-go writes it.
func batchOf(t *testing.T, codec compress.Compression, base int64, values ...string) []byte {
	var records []protocol.Record
	for i, v := range values {
		records = append(records, protocol.Record{Offset: base + int64(i), Value: protocol.NewBytes([]byte(v))})
	}
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: protocol.NewRecordReader(records...)}
	var buf bytes.Buffer
	if _, err := set.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	batch := buf.Bytes()[4:] // without its size
	binary.BigEndian.PutUint64(batch, uint64(base))
	return batch
}

// serve answers fetch requests for a topic of one-letter name as a broker does: batches
// from the one that holds the offset, of which the last may be cut off.
func serve(c net.Conn, partitions [][][]byte) {
	defer c.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		index, at := int(binary.BigEndian.Uint32(q[len(q)-16:])), int64(binary.BigEndian.Uint64(q[len(q)-12:]))
		var records []byte
		cut := false
		code, end := uint16(3), int64(-1)
		if index < len(partitions) {
			code, end = 0, 0
			for _, b := range partitions[index] {
				end = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
				switch {
				case end <= at || cut:
					continue
				case len(records) > 0:
					b, cut = b[:len(b)-1], true
				}
				records = append(records, b...)
			}
		}
		u16, u32, u64 := binary.BigEndian.AppendUint16, binary.BigEndian.AppendUint32, binary.BigEndian.AppendUint64
		a := u32(u32(u32(nil, 0), 0), 1) // correlation, throttling, topics
		a = append(u16(a, 1), 't')
		a = u16(u32(u32(a, 1), uint32(index)), code)
		a = u32(u64(u64(a, uint64(end)), uint64(end)), 0)
		a = append(u32(a, uint32(len(records))), records...)
		c.Write(append(u32(nil, uint32(len(a))), a...))
	}
}

// TestTheMarkIsHonest: what is measured against must carry all that the topic holds.
func TestTheMarkIsHonest(t *testing.T) {
	var want []string
	var partitions [][][]byte
	for p, codec := range []compress.Compression{compress.None, compress.Snappy, compress.Lz4} {
		var batches [][]byte
		for b := range 3 {
			var values []string
			for i := range 100 {
				values = append(values, fmt.Sprintf("<%d.%d.%d %s>", p, b, i, strings.Repeat("some words ", 500)))
			}
			batches, want = append(batches, batchOf(t, codec, int64(b)*100, values...)), append(want, values...)
		}
		partitions = append(partitions, batches)
	}
	listen := func(each func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			if c, err := l.Accept(); err == nil {
				each(c)
			}
		}()
		return l.Addr().String()
	}
	got := make(chan []byte, 1)
	broker := listen(func(c net.Conn) { serve(c, partitions) })
	sink := listen(func(c net.Conn) {
		all, _ := io.ReadAll(c)
		got <- all
	})
	written, records, err := run(broker, "t", sink)
	all := <-got
	if err != nil || records != int64(len(want)) || written != int64(len(all)) {
		t.Fatalf("%d of %d records, %d bytes of which %d came, %v", records, len(want), written, len(all), err)
	}
	rest := all
	for _, v := range want { // each once, in order
		i := bytes.Index(rest, []byte(v))
		if i < 0 {
			t.Fatalf("%.20s did not come, or not in its place", v)
		}
		rest = rest[i+len(v):]
	}
	if n := bytes.Count(all, []byte("words >")); n != len(want) {
		t.Errorf("%d of %d records came", n, len(want))
	}
}
