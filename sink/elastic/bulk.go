package elastic

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// bulk is the documents of one request. It is reused.
type bulk struct {
	names  *sink.Names
	runs   []run
	length int64 // of the body
	answer bytes.Buffer

	mu    sync.Mutex // guards what follows
	refs  []record.Ref
	ended bool   // refs are the caller's again
	open  int    // bodies that are not read to their end
	piece []byte // memory for a body
}

// run is neighbours that go to one index.
type run struct {
	to    int // the document after the last one
	index string
}

// What the bulk API wants around the index, the id and the document.
const (
	actionIndex = `{"create":{"_index":"`
	actionID    = `","_id":"`
	actionEnd   = "\"}}\n"
)

// load makes the bulk one of refs.
func (b *bulk) load(refs []record.Ref, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refs, b.ended, b.runs, b.length = refs, false, b.runs[:0], 0
	for i, ref := range refs {
		index := b.names.Of(ref, now)
		if n := len(b.runs); n == 0 || b.runs[n-1].index != index {
			b.runs = append(b.runs, run{index: index})
		}
		b.runs[len(b.runs)-1].to = i + 1
		d := ref.Doc()
		b.length += int64(len(actionIndex) + len(index) + len(actionID) + int(d.IDLen) + len(actionEnd) + int(d.End-d.Start) + 1)
	}
}

// end gives refs back to the caller, whoever may still be reading a body. It says whether
// nobody is, and the bulk may be used again.
func (b *bulk) end() (free bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refs, b.ended = nil, true
	return b.open == 0
}

// body opens one: what the bulk API wants of each document.
func (b *bulk) body() *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	r := &body{bulk: b, piece: b.piece}
	b.piece = nil
	return r
}

// body is read by net/http, perhaps still when the request has failed. It is framed while
// it is read, a piece at a time: the processor's cache has each piece when the kernel
// copies it, and there is no memory as large as the request.
type body struct {
	bulk  *bulk
	at    int    // the document that comes next
	run   int    // and its run
	piece []byte // memory for what is framed
	rest  []byte // what of it is not read yet
	done  bool
}

// pieceBytes is about how much is framed at once.
const pieceBytes = 256 << 10

var errEnded = errors.New("the request has ended")

// frame makes the next piece, and returns io.EOF when there is none.
func (r *body) frame() error {
	b := r.bulk
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errEnded
	}
	p := r.piece[:0]
	for ; r.at < len(b.refs) && len(p) < pieceBytes; r.at++ {
		if r.at == b.runs[r.run].to {
			r.run++
		}
		ref := b.refs[r.at]
		d := ref.Doc()
		p = append(p, actionIndex...)
		p = append(p, b.runs[r.run].index...) // IndexNaming leaves nothing in it that needs escaping
		p = append(p, actionID...)
		p = append(p, ref.ID()...) // printable, and without quotes and backslashes: see record.EncodedTime
		p = append(p, actionEnd...)
		p = append(p, ref.Block.Data[d.Start:d.End+1]...) // with its newline
	}
	if r.piece = p; len(p) > 0 {
		r.rest = p
		return nil
	}
	if !r.done {
		r.done = true
		b.open--
		if cap(p) <= 2*pieceBytes { // a giant is not remembered
			b.piece = p
		}
	}
	return io.EOF
}

func (r *body) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.frame(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: see conn.
func (r *body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.rest) == 0 {
			if err := r.frame(); err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
		}
		m, err := w.Write(r.rest)
		n, r.rest = n+int64(m), r.rest[m:]
		if err != nil {
			return n, err
		}
	}
}

// Close does nothing: net/http may call it while it reads.
func (r *body) Close() error { return nil }
