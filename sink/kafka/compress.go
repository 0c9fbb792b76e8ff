package kafka

import (
	"bytes"
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
	lz4  *lz4.Writer
	zstd *zstd.Encoder
	snap []byte
}

// compress appends the compressed records to dst.
func (c *compressor) compress(codec Codec, dst, records []byte) ([]byte, error) {
	switch codec {
	case Snappy: // one block, without the framing of the Java library: brokers and consumers read both
		c.snap = s2.EncodeSnappy(c.snap[:cap(c.snap)], records)
		return append(dst, c.snap...), nil
	case Zstd:
		if c.zstd == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
			if err != nil {
				return nil, err
			}
			c.zstd = enc
		}
		return c.zstd.EncodeAll(records, dst), nil
	case Gzip:
		if c.gzip == nil {
			w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
			if err != nil {
				return nil, err
			}
			c.gzip = w
		}
		return stream(c.gzip, dst, records)
	case LZ4:
		if c.lz4 == nil {
			c.lz4 = lz4.NewWriter(nil)
			if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1), lz4.ChecksumOption(false)); err != nil {
				return nil, err
			}
		}
		return stream(c.lz4, dst, records)
	}
	return nil, fmt.Errorf("codec %d is not known", codec)
}

// stream runs records through an encoder that writes to a stream.
func stream(w interface {
	io.WriteCloser
	Reset(io.Writer)
}, dst, records []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(records); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
