package record

import (
	"sync/atomic"
	"unsafe"
)

// Doc is one encoded document of a Block.
type Doc struct {
	// Start and End frame the JSON in Block.Data, without the newline that follows.
	Start, End uint32
	// ID and IDLen frame the document's id in Block.Data.
	ID    uint32
	IDLen uint16
	Level Level
	// OwnTime is false when Time is not the line's own nor one that an earlier line
	// of its file had, but the time of reading.
	OwnTime bool
	// Time is the document's @timestamp in Unix milliseconds.
	Time   int64
	Origin *Origin
}

// Block is a run of encoded documents from one source, in its order. It is filled
// by one goroutine and read by those of all outputs; nothing in it changes after it
// has been handed on. It is counted by references, so that its memory can be used
// again: whoever hands it to another output calls Retain, and each calls Release
// when done.
type Block struct {
	// Data holds the documents, each followed by a newline, without gaps.
	Data []byte
	Docs []Doc

	// route holds, for each document, the values of the fields that the outputs'
	// templates name and that can differ from line to line.
	route     []byte
	routeEnds []uint32
	routeKeys []string

	refs atomic.Int32
	free func(*Block)
}

// NewBlock returns an empty block with one reference. routeKeys are the names whose
// values AddRoute will give for each document. free, when not nil, is called when
// the last reference is released.
func NewBlock(data []byte, routeKeys []string, free func(*Block)) *Block {
	b := &Block{Data: data[:0], routeKeys: routeKeys, free: free}
	b.refs.Store(1)
	return b
}

// Renew makes a released block new: empty, with one reference.
func (b *Block) Renew(routeKeys []string) {
	b.Data, b.Docs, b.route, b.routeEnds = b.Data[:0], b.Docs[:0], b.route[:0], b.routeEnds[:0]
	b.routeKeys = routeKeys
	b.refs.Store(1)
}

// Clone returns a copy in memory of just its size, with one reference.
func (b *Block) Clone() *Block {
	c := new(Block)
	b.CopyTo(c)
	c.refs.Store(1)
	return c
}

// CopyTo puts what b holds into c, which is empty.
func (b *Block) CopyTo(c *Block) {
	c.Data, c.Docs = append(c.Data[:0], b.Data...), append(c.Docs[:0], b.Docs...)
	c.route, c.routeEnds = append(c.route[:0], b.route...), append(c.routeEnds[:0], b.routeEnds...)
	c.routeKeys = b.routeKeys
}

// Append encodes r as the block's next document. See Origin.AppendDoc.
func (b *Block) Append(o *Origin, r *Record, unixMilli int64, ownTime bool, offset int64) {
	start := len(b.Data)
	var idLen int
	b.Data, idLen = o.AppendDoc(b.Data, r, unixMilli, offset)
	b.Docs = append(b.Docs, Doc{
		Start: uint32(start), End: uint32(len(b.Data) - 1),
		ID: uint32(start + idAt), IDLen: uint16(idLen),
		Level: r.Level, OwnTime: ownTime, Time: unixMilli, Origin: o,
	})
	for _, key := range b.routeKeys {
		if f, ok := r.Get(key); ok {
			b.route = f.AppendText(b.route)
		}
		b.routeEnds = append(b.routeEnds, uint32(len(b.route)))
	}
}

// JSON returns the document without its newline. It belongs to the block.
func (b *Block) JSON(i int) []byte { return b.Data[b.Docs[i].Start:b.Docs[i].End] }

// ID returns the document's id. It belongs to the block.
func (b *Block) ID(i int) []byte {
	d := &b.Docs[i]
	return b.Data[d.ID : d.ID+uint32(d.IDLen)]
}

// Routed returns the value of a route key in document i (empty when the document
// has no such field), and false when the block was not made with that key. It
// belongs to the block.
func (b *Block) Routed(i int, name string) ([]byte, bool) {
	for k, key := range b.routeKeys {
		if key == name {
			at := i*len(b.routeKeys) + k
			from := uint32(0)
			if at > 0 {
				from = b.routeEnds[at-1]
			}
			return b.route[from:b.routeEnds[at]], true
		}
	}
	return nil, false
}

// Value returns what the name stands for in document i: a route key's value, level,
// or one of its Origin's constants; "" when there is none. A constant of the Origin
// stands in for a route key that the document lacks. It is as good as the block.
func (b *Block) Value(i int, name string) string {
	if v, _ := b.Routed(i, name); len(v) > 0 {
		return unsafe.String(unsafe.SliceData(v), len(v))
	}
	if name == "level" {
		return b.Docs[i].Level.String()
	}
	v, _ := b.Docs[i].Origin.Value(name)
	return v
}

// Retain adds n references.
func (b *Block) Retain(n int) { b.refs.Add(int32(n)) }

// Release gives one reference back.
func (b *Block) Release() {
	if b.refs.Add(-1) == 0 && b.free != nil {
		b.free(b)
	}
}

// Size is the memory that the block holds, in bytes, for queues bounded in bytes.
func (b *Block) Size() int { return cap(b.Data) + len(b.Docs)*32 + cap(b.route) }

// Parcel is a block on its way to one output.
type Parcel struct {
	Block *Block
	// Done is called once, from any goroutine, when the output has taken charge of
	// every document of the block: delivered, or parked as a dead letter.
	Done func()
	// Refused, when not nil, is called for each document that the output will never
	// take, once that is on disk as a dead letter and before Done; index counts in
	// Block.Docs.
	Refused func(index int, reason, detail string)
	// Parked says that the documents are dead letters already, sent again: what is
	// refused once more is not parked a second time.
	Parked bool
}

// Ref is one document of a batch.
type Ref struct {
	Block *Block
	Index int
}

// JSON returns the document without its newline.
func (r Ref) JSON() []byte { return r.Block.JSON(r.Index) }

// ID returns the document's id.
func (r Ref) ID() []byte { return r.Block.ID(r.Index) }

// Doc returns the document's metadata.
func (r Ref) Doc() *Doc { return &r.Block.Docs[r.Index] }

// Value returns what a template's name stands for; see Block.Value.
func (r Ref) Value(name string) string { return r.Block.Value(r.Index, name) }

// Routed returns the value of a route key; see Block.Routed.
func (r Ref) Routed(name string) ([]byte, bool) { return r.Block.Routed(r.Index, name) }
