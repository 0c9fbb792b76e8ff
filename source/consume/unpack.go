package consume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// unpacker takes the records out of a batch's bytes, one by one. It unpacks them piece
// by piece, so that the processor's cache still has what is read, and a batch that is
// small only by compression needs no more memory than a piece and its largest record.
// It keeps the decoders' memory between batches.
type unpacker struct {
	plain  []byte // what is unpacked and not read yet
	window []byte // the memory of plain, where that is not the batch itself
	packed pieces // what follows plain; nil: nothing
	ended  error  // what it means when a record does, and packed is nil

	from   bytes.Reader
	xerial xerialBlocks
	stream stream
	gzip   *gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
}

// pieces are records that are compressed.
type pieces interface {
	// appendPiece unpacks some more; it returns io.EOF when there are none.
	appendPiece(dst []byte) ([]byte, error)
}

// open begins with a batch's records.
func (u *unpacker) open(codec uint16, records []byte) (err error) {
	u.plain, u.packed, u.ended = nil, &u.stream, io.ErrUnexpectedEOF
	u.from.Reset(records)
	switch codec {
	case 0:
		u.plain, u.packed, u.ended = records, nil, errRecord
		return nil
	case 1:
		if u.gzip == nil {
			u.gzip = new(gzip.Reader)
		}
		u.stream = stream{from: u.gzip}
		if err = u.gzip.Reset(&u.from); err != nil {
			err = fmt.Errorf("gzip: %w", err)
		}
		return err
	case 2:
		return u.openSnappy(records)
	case 3:
		if u.lz4 == nil {
			u.lz4 = lz4.NewReader(nil)
		}
		u.stream = stream{from: u.lz4}
		u.lz4.Reset(&u.from)
		return nil
	case 4:
		if u.zstd == nil {
			if u.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20)); err != nil {
				return err
			}
		}
		u.stream = stream{from: u.zstd}
		if err = u.zstd.Reset(&u.from); err != nil {
			err = fmt.Errorf("zstd: %w", err)
		}
		return err
	}
	return fmt.Errorf("codec %d is not known", codec)
}

// next returns the next record's body, which is good until the call after it.
func (u *unpacker) next() ([]byte, error) {
	for {
		n, size := binary.Varint(u.plain)
		switch {
		case size < 0 || n < 0:
			return nil, errRecord
		case n > maxRecordBytes:
			return nil, fmt.Errorf("a record of %d bytes", n)
		case size > 0 && n <= int64(len(u.plain)-size):
			body := u.plain[size : size+int(n)]
			u.plain = u.plain[size+int(n):]
			return body, nil
		}
		if err := u.more(); err != nil {
			return nil, err
		}
	}
}

// more unpacks a piece behind what is left of the one before. The memory grows with what
// really comes: a record's length may be a lie.
func (u *unpacker) more() (err error) {
	if u.packed == nil {
		return u.ended
	}
	u.window = append(u.window[:0], u.plain...)
	u.window, err = u.packed.appendPiece(u.window)
	u.plain = u.window
	if err == io.EOF {
		return u.ended
	}
	return err
}

// close ends with the batch; giants are not remembered.
func (u *unpacker) close() {
	const most = 4 << 20
	u.plain, u.packed, u.xerial.rest = nil, nil, nil
	u.from.Reset(nil)
	if cap(u.window) > most {
		u.window = nil
	}
}

// stream is a decoder as pieces.
type stream struct {
	from io.Reader
	err  error // how it has ended
}

// pieceBytes is how much of a stream is unpacked at once: as much as an LZ4 block of
// sink/kafka holds, so that it need not be copied once more.
const pieceBytes = 256 << 10

func (s *stream) appendPiece(dst []byte) ([]byte, error) {
	if s.err != nil {
		return dst, s.err
	}
	dst = slices.Grow(dst, pieceBytes)
	var n int
	n, s.err = s.from.Read(dst[len(dst) : len(dst)+pieceBytes])
	return dst[:len(dst)+n], nil
}

// xerial is how the Java library begins its framing of snappy blocks: eight bytes,
// then two version numbers; then each block with its length before it.
var xerial = []byte("\x82SNAPPY\x00")

const xerialHeader = 16

// maxSnappyBlock bounds what one snappy block may hold: it is in memory as a whole.
const maxSnappyBlock = 64 << 20

var errSnappyCutOff = errors.New("snappy: cut off")

func (u *unpacker) openSnappy(records []byte) (err error) {
	if !bytes.HasPrefix(records, xerial) {
		u.window, err = appendSnappy(u.window[:0], records)
		u.plain, u.packed = u.window, nil
		return err
	}
	if len(records) < xerialHeader {
		return errSnappyCutOff
	}
	u.xerial.rest, u.packed = records[xerialHeader:], &u.xerial
	return nil
}

// xerialBlocks are the blocks of the Java library's framing as pieces.
type xerialBlocks struct{ rest []byte }

func (x *xerialBlocks) appendPiece(dst []byte) ([]byte, error) {
	if len(x.rest) == 0 {
		return dst, io.EOF
	}
	if len(x.rest) < 4 || uint64(binary.BigEndian.Uint32(x.rest)) > uint64(len(x.rest)-4) {
		return dst, errSnappyCutOff
	}
	end := 4 + int(binary.BigEndian.Uint32(x.rest))
	block := x.rest[4:end]
	x.rest = x.rest[end:]
	return appendSnappy(dst, block)
}

// appendSnappy unpacks a block.
func appendSnappy(dst, block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err == nil && n > maxSnappyBlock {
		err = fmt.Errorf("a block of %d bytes", n)
	}
	if err == nil {
		dst = slices.Grow(dst, n)
		_, err = s2.Decode(dst[len(dst):len(dst)+n], block)
	}
	if err != nil {
		return dst, fmt.Errorf("snappy: %w", err)
	}
	return dst[:len(dst)+n], nil
}
