package elastic

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// longDocuments makes a batch of n documents of so many bytes, of two projects in turns
// of three.
func longDocuments(n, size int) *sink.Batch {
	batch := new(sink.Batch)
	b := record.NewBlock(nil, nil, nil)
	var origins [2]*record.Origin
	for i := range origins {
		origins[i] = record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Project: fmt.Sprint("p", i)})
	}
	r := new(record.Record)
	for i := range n {
		r.Reset()
		r.Put("message", bytes.Repeat([]byte{'a' + byte(i%26)}, size), record.Text)
		b.Append(origins[i/3%2], r, time.Now().UnixMilli(), true, int64(i))
		batch.Refs = append(batch.Refs, record.Ref{Block: b, Index: i})
	}
	return batch
}

func loaded(t testing.TB, refs []record.Ref) *bulk {
	index, err := sink.Compile("logs-{project}", sink.IndexNaming)
	if err != nil {
		t.Fatal(err)
	}
	b := &bulk{names: index.Names()}
	b.load(refs, time.Now().UnixMilli())
	return b
}

// A body is as long as it was said to be, however it is read, and read a second time,
// when a connection turns out to be stale, it is the same.
func TestABodyIsWhatItsLengthSays(t *testing.T) {
	for size, n := range map[int]int{10: 400, 1000: 400, 3 * pieceBytes: 5} {
		refs := longDocuments(n, size).Refs
		var want strings.Builder
		for i, ref := range refs {
			fmt.Fprintf(&want, "{\"create\":{\"_index\":\"logs-p%d\",\"_id\":\"m-g-%d\"}}\n%s\n", i/3%2, i, ref.JSON())
		}
		b := loaded(t, refs)
		var written bytes.Buffer
		if n, err := b.body().WriteTo(&written); err != nil || n != b.length || written.String() != want.String() {
			t.Errorf("%d documents of %d bytes: %d of %d bytes are written, %v", len(refs), size, n, b.length, err)
		}
		again := b.body()
		var head [100]byte
		io.ReadFull(again, head[:])
		rest, err := io.ReadAll(struct{ io.Reader }{again})
		if err != nil || string(head[:])+string(rest) != want.String() {
			t.Errorf("%d documents of %d bytes: read again they are others, %v", len(refs), size, err)
		}
		if !b.end() {
			t.Error("a bulk that was read to its end is not free")
		}
	}
}

// Who reads on when the documents are the caller's again, gets none of them.
func TestABodyEndsWithItsRequest(t *testing.T) {
	b := loaded(t, longDocuments(400, 1000).Refs)
	r := b.body()
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	framed := len(r.rest)
	if b.end() {
		t.Error("a bulk of which a body is read is free")
	}
	if n, err := r.WriteTo(io.Discard); err != errEnded || n != int64(framed) {
		t.Errorf("%d bytes after the end, %d were framed before it; %v", n, framed, err)
	}
}

// The documents belong to somebody else once a request has timed out, though its
// connection may take bytes still: none of theirs must go there.
func TestARequestThatWasGivenUpSendsNothingMore(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	batch := longDocuments(4<<10, 8000) // more than the network holds
	s := open(t, Config{URLs: []string{"http://" + listener.Addr().String()}, Timeout: 300 * time.Millisecond})
	if r := send(s, batch); r.Reason != "timeout" {
		t.Fatalf("%+v", r)
	}
	data := batch.Refs[0].Block.Data
	copy(data, bytes.Repeat([]byte("X"), len(data)))
	c := <-accepted
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, _ := io.ReadAll(c) // broken off
	if len(got) == 0 || bytes.Contains(got, []byte("XX")) {
		t.Errorf("%d bytes came, of what followed in the memory: %v", len(got), bytes.Contains(got, []byte("XX")))
	}
}

func TestBulksAreFramedWithoutAllocations(t *testing.T) {
	refs := documents(1000).Refs
	b := loaded(t, refs)
	now := time.Now().UnixMilli()
	if n := testing.AllocsPerRun(20, func() {
		b.load(refs, now)
		b.body().WriteTo(io.Discard)
		b.end()
	}); n > 1 { // the body itself
		t.Errorf("%v allocations for a request of %d documents", n, len(refs))
	}
}

func BenchmarkBulk(b *testing.B) {
	refs := longDocuments(8000, 400).Refs
	bulk := loaded(b, refs)
	now := time.Now().UnixMilli()
	b.ReportAllocs()
	for b.Loop() {
		bulk.load(refs, now)
		bulk.body().WriteTo(io.Discard)
		bulk.end()
		b.SetBytes(bulk.length)
	}
}
