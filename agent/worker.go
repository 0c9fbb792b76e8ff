package agent

import (
	"runtime"
	"sync"

	"github.com/tailwater/tailwater/record"
)

// worker runs flows, one turn after the other, in memory of its own: files that rest
// hold no buffer.
type worker struct {
	agent *Agent
	// mem holds the bytes before the look, up to record.TailBytes of them and ending
	// there, and the look itself after them.
	mem     []byte
	history int // how many bytes before the look are known
	block   *record.Block
	timed   bool // a time limit has bounded an event of the block
}

func newWorker(a *Agent) *worker {
	return &worker{agent: a, mem: make([]byte, record.TailBytes+readBytes), block: a.blocks.get(largeBlocks)}
}

// run takes turns until the scheduler is closed.
func (w *worker) run() {
	s := w.agent.sched
	for f := s.next(); f != nil; f = s.next() {
		w.block.Renew(w.agent.routeKeys()) // it is empty; a reload may have changed the keys
		again := f.turn(w)
		if len(w.mem) > record.TailBytes+readBytes {
			w.mem = make([]byte, record.TailBytes+readBytes)
		}
		s.ran(f, again)
	}
	w.block.Release()
}

// data is where to read to.
func (w *worker) data() []byte { return w.mem[record.TailBytes:] }

// widen makes room for a look of n bytes, and reports false when there was already.
func (w *worker) widen(n int) bool {
	if len(w.data()) >= n {
		return false
	}
	w.mem = make([]byte, record.TailBytes+n)
	return true
}

// remember puts the bytes before the look to their place.
func (w *worker) remember(prev []byte) {
	w.history = len(prev)
	copy(w.mem[record.TailBytes-len(prev):], prev)
}

// before appends the last bytes before position n of the look.
func (w *worker) before(dst []byte, n int) []byte {
	end := record.TailBytes + n
	return append(dst, w.mem[max(record.TailBytes-w.history, end-record.TailBytes):end]...)
}

// tailSum is the record.TailSum at the file's offset off, which is position n of the
// look; 0, which agrees with everything, when not all of its bytes are known.
func (w *worker) tailSum(n int, off int64) uint32 {
	end := record.TailBytes + n
	if end > len(w.mem) {
		return 0 // not of this look
	}
	before := w.mem[max(record.TailBytes-w.history, end-record.TailBytes):end]
	if int64(len(before)) < min(off, record.TailBytes) {
		return 0
	}
	return record.TailSum(before)
}

// take returns what the block holds and begins a new one. Little is copied into less
// memory, so that a thousand quiet files do not hold a thousand buffers.
func (w *worker) take() *record.Block {
	b := w.block
	size := largeBlocks
	for size+1 < blockSizes && len(b.Data) <= blockKinds[size+1].room {
		size++
	}
	if size == largeBlocks {
		w.block = w.agent.blocks.get(largeBlocks)
		return b
	}
	small := w.agent.blocks.get(size)
	b.CopyTo(small)
	b.Renew(w.agent.routeKeys())
	return small
}

// blockSize is one of the sizes in which blocks are kept.
type blockSize int

const (
	largeBlocks  blockSize = iota // what workers fill
	smallBlocks                   // what is left over at the end of a look: most looks have such
	littleBlocks                  // of a file that is written to now and then
	tinyBlocks                    // the same, where there are hundreds of them
	blockSizes
)

// blockKinds says how much blocks of a size hold, in bytes, and how many of them are
// kept for later, whatever is in use.
var blockKinds = [blockSizes]struct{ room, keep int }{
	largeBlocks: {blockBytes + blockBytes/4, 32}, smallBlocks: {blockBytes / 4, 32}, littleBlocks: {blockBytes / 16, 64}, tinyBlocks: {blockBytes / 32, 256},
}

// blocks keeps the memory of blocks that all outputs are done with. What came back last
// is used first: the processor's cache still has it.
type blocks struct {
	keys func() []string

	mu   sync.Mutex
	free [blockSizes][]*record.Block
}

func newBlocks(keys func() []string) *blocks { return &blocks{keys: keys} }

// get returns an empty block. Before that it lets the outputs have the processor, which
// may give back the block that was filled last; not for little, which is better sent
// together with that of other files.
func (p *blocks) get(size blockSize) *record.Block {
	if size <= smallBlocks {
		runtime.Gosched()
	}
	if b := p.kept(size); b != nil {
		b.Renew(p.keys())
		return b
	}
	return record.NewBlock(make([]byte, 0, blockKinds[size].room), p.keys(), func(b *record.Block) { p.put(size, b) })
}

// kept takes a block from those that are kept, nil when there is none.
func (p *blocks) kept(size blockSize) *record.Block {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free[size])
	if n == 0 {
		return nil
	}
	b := p.free[size][n-1]
	p.free[size] = p.free[size][:n-1]
	return b
}

func (p *blocks) put(size blockSize, b *record.Block) {
	if cap(b.Data) > 4*blockBytes {
		return // one overlong line must not be remembered for ever
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free[size]) < blockKinds[size].keep {
		p.free[size] = append(p.free[size], b)
	}
}
