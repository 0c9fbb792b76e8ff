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

// compressor keeps the encoders' memory between batches. One goroutine at a time
// uses it.
type compressor struct {
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

// compress appends the compressed records to dst.
func (c *compressor) compress(codec Codec, dst, records []byte) ([]byte, error) {
	switch codec {
	case Snappy: // one block, without the framing of the Java library: brokers and consumers read both
		dst = grow(dst, s2.MaxEncodedLen(len(records)))
		n := len(s2.EncodeSnappy(dst[len(dst):cap(dst)], records))
		return dst[:len(dst)+n], nil
	case LZ4:
		return c.appendLZ4(dst, records)
	case Zstd:
		if c.zstd == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
			if err != nil {
				return nil, err
			}
			c.zstd = enc
		}
		return c.zstd.EncodeAll(records, dst), nil
	case Gzip:
		c.sink.buf = dst
		if c.gzip == nil {
			w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
			if err != nil {
				return nil, err
			}
			c.gzip = w
		}
		c.gzip.Reset(&c.sink)
		if _, err := c.gzip.Write(records); err != nil {
			return nil, err
		}
		if err := c.gzip.Close(); err != nil {
			return nil, err
		}
		dst, c.sink.buf = c.sink.buf, nil
		return dst, nil
	}
	return nil, fmt.Errorf("codec %d is not known", codec)
}

// The LZ4 frame format, as in its description of version 1.6: a header of magic
// number, flags (version 1, blocks that stand alone), the largest block (code 5: 256
// KiB) and a checksum of the two; blocks with their sizes; and a size of zero.
const (
	lz4Header      = "\x04\x22\x4d\x18\x60\x50\xfb"
	lz4Block       = 256 << 10
	lz4Stored      = 1 << 31 // in a block's size: it is not compressed
	lz4FrameMargin = len(lz4Header) + 4 + 4
)

func (c *compressor) appendLZ4(dst, records []byte) ([]byte, error) {
	dst = append(dst, lz4Header...)
	for len(records) > 0 {
		block := records[:min(len(records), lz4Block)]
		records = records[len(block):]
		dst = grow(dst, 4+lz4.CompressBlockBound(len(block)))
		at := len(dst)
		n, err := c.lz4.CompressBlock(block, dst[at+4:cap(dst)])
		if err != nil {
			return nil, err
		}
		size := uint32(n)
		if n == 0 || n >= len(block) {
			n = copy(dst[at+4:cap(dst)], block)
			size = uint32(n) | lz4Stored
		}
		dst = dst[:at+4+n]
		binary.LittleEndian.PutUint32(dst[at:], size)
	}
	return append(dst, 0, 0, 0, 0), nil
}

// grow makes room for n more bytes after dst.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	bigger := make([]byte, len(dst), len(dst)+n+lz4FrameMargin)
	copy(bigger, dst)
	return bigger
}
