package kafka

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// packer collects the records of a batch and compresses them, where the codec's format
// allows it piece by piece, while the processor's cache still has them. It keeps the
// encoders' memory between batches. One goroutine at a time uses it.
type packer struct {
	codec Codec
	// plain are the records that are not packed yet. For codecs that take no pieces
	// these are all, behind room for the batch's header.
	plain []byte
	// packed is room for the batch's header, and what is packed so far.
	packed []byte

	gzip *gzip.Writer
	sink appender
	lz4  lz4.Compressor
	zstd *zstd.Encoder
}

// appender is what a writer of streams writes to.
type appender struct{ buf []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.buf = append(a.buf, p...)
	return len(p), nil
}

const (
	// snappyPiece is what is packed at once: the encoder is fastest where all offsets
	// have 16 bits.
	snappyPiece = 63 << 10
	// snappyHeader begins the framing of the Java library (SnappyOutputStream): a magic
	// number, its version, and the oldest that can read it. Blocks with their sizes follow.
	snappyHeader = "\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
)

// The LZ4 frame format, as in its description of version 1.6: a header of magic
// number, flags (version 1, blocks that stand alone), the largest block (code 5: 256
// KiB) and a checksum of the two; blocks with their sizes; and a size of zero.
const (
	lz4Header = "\x04\x22\x4d\x18\x60\x50\xfb"
	lz4Block  = 256 << 10
	lz4Stored = 1 << 31 // in a block's size: it is not compressed
)

// reset begins a new batch.
func (p *packer) reset(codec Codec) {
	p.codec = codec
	switch codec {
	case Snappy:
		p.plain = grow(p.plain[:0], snappyPiece+snappyPiece/4)
		p.packed = append(grow(p.packed[:0], batchHeaderBytes)[:batchHeaderBytes], snappyHeader...)
	case LZ4:
		p.plain = p.plain[:0]
		p.packed = append(grow(p.packed[:0], batchHeaderBytes)[:batchHeaderBytes], lz4Header...)
	default:
		p.plain = grow(p.plain[:0], batchHeaderBytes)[:batchHeaderBytes]
	}
}

// packFull packs the records when they are enough for a piece.
func (p *packer) packFull() error {
	switch {
	case p.codec == Snappy && len(p.plain) >= snappyPiece-1<<10:
		p.packSnappy()
	case p.codec == LZ4 && len(p.plain) >= lz4Block:
		return p.packLZ4(lz4Block)
	}
	return nil
}

// finish packs what is left and returns the batch, whose header is not filled in. It is
// the packer's memory until the next reset.
func (p *packer) finish() ([]byte, error) {
	switch p.codec {
	case None:
		return p.plain, nil
	case Snappy:
		p.packSnappy()
		return p.packed, nil
	case LZ4:
		if err := p.packLZ4(1); err != nil {
			return nil, err
		}
		p.packed = append(p.packed, 0, 0, 0, 0)
		return p.packed, nil
	case Zstd:
		return p.packZstd(p.plain[batchHeaderBytes:])
	case Gzip:
		return p.packGzip(p.plain[batchHeaderBytes:])
	}
	return nil, fmt.Errorf("codec %d is not known", p.codec)
}

// packSnappy appends the records as a block.
func (p *packer) packSnappy() {
	if len(p.plain) == 0 {
		return
	}
	p.packed = grow(p.packed, 4+s2.MaxEncodedLen(len(p.plain)))
	at := len(p.packed)
	n := len(s2.EncodeSnappy(p.packed[at+4:cap(p.packed)], p.plain))
	p.packed = p.packed[:at+4+n]
	binary.BigEndian.PutUint32(p.packed[at:], uint32(n))
	p.plain = p.plain[:0]
}

// packLZ4 appends blocks as long as there are at least so many bytes for one.
func (p *packer) packLZ4(least int) error {
	rest := p.plain
	for len(rest) >= least {
		block := rest[:min(len(rest), lz4Block)]
		rest = rest[len(block):]
		p.packed = grow(p.packed, 4+lz4.CompressBlockBound(len(block)))
		at := len(p.packed)
		n, err := p.lz4.CompressBlock(block, p.packed[at+4:cap(p.packed)])
		if err != nil {
			return err
		}
		size := uint32(n)
		if n == 0 || n >= len(block) {
			n = copy(p.packed[at+4:cap(p.packed)], block)
			size = uint32(n) | lz4Stored
		}
		p.packed = p.packed[:at+4+n]
		binary.LittleEndian.PutUint32(p.packed[at:], size)
	}
	p.plain = p.plain[:copy(p.plain, rest)]
	return nil
}

func (p *packer) packZstd(records []byte) ([]byte, error) {
	if p.zstd == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
		if err != nil {
			return nil, err
		}
		p.zstd = enc
	}
	p.packed = p.zstd.EncodeAll(records, append(p.packed[:0], p.plain[:batchHeaderBytes]...))
	return p.packed, nil
}

func (p *packer) packGzip(records []byte) ([]byte, error) {
	if p.gzip == nil {
		w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		p.gzip = w
	}
	p.sink.buf = append(p.packed[:0], p.plain[:batchHeaderBytes]...)
	p.gzip.Reset(&p.sink)
	if _, err := p.gzip.Write(records); err != nil {
		return nil, err
	}
	if err := p.gzip.Close(); err != nil {
		return nil, err
	}
	p.packed, p.sink.buf = p.sink.buf, nil
	return p.packed, nil
}

// size is the memory that is kept for the next batch.
func (p *packer) size() int { return cap(p.plain) + cap(p.packed) }

// grow makes room for n more bytes after buf, and for more where it must move.
func grow(buf []byte, n int) []byte {
	if cap(buf)-len(buf) >= n {
		return buf
	}
	bigger := make([]byte, len(buf), len(buf)+max(n, len(buf)/2))
	copy(bigger, buf)
	return bigger
}
