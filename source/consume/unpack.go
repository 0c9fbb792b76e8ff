package consume

import (
	"bufio"
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

// unpacker takes the records out of a batch's bytes, one by one. A batch that is small
// only by compression needs no more memory than mostAtOnce and its largest record. It
// keeps the decoders' memory between batches.
type unpacker struct {
	plain  []byte // what is left of records that are not compressed
	packed bool
	fault  error // what it means when nothing is left of them
	from   bytes.Reader
	stream *bufio.Reader
	behind bytes.Reader // what of a stream is in block
	body   []byte       // the record at hand, of a stream
	block  []byte       // what a snappy block held, or the beginning of a stream

	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder
}

// xerial is how the Java library begins its framing of snappy blocks: eight bytes,
// then two version numbers; then each block with its length before it.
var xerial = []byte("\x82SNAPPY\x00")

const xerialHeader = 16

// maxSnappyBlock bounds what one snappy block may hold: it is in memory as a whole.
const maxSnappyBlock = 64 << 20

// open begins with a batch's records.
func (u *unpacker) open(codec uint16, records []byte) error {
	u.packed, u.plain, u.fault = true, nil, errRecord
	u.from.Reset(records)
	switch codec {
	case 0:
		u.packed, u.plain = false, records
		return nil
	case 1:
		if u.gzip == nil {
			u.gzip = new(gzip.Reader)
		}
		if err := u.gzip.Reset(&u.from); err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
		u.begin(u.gzip)
		return nil
	case 2:
		return u.openSnappy(records)
	case 3:
		if u.lz4 == nil {
			u.lz4 = lz4.NewReader(nil)
		}
		u.lz4.Reset(&u.from)
		u.begin(u.lz4)
		return nil
	case 4:
		if u.zstd == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
			if err != nil {
				return err
			}
			u.zstd = d
		}
		if err := u.zstd.Reset(&u.from); err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		u.begin(u.zstd)
		return nil
	}
	return fmt.Errorf("codec %d is not known", codec)
}

// mostAtOnce is how much of a stream is unpacked in one go: nearly every batch is
// smaller, and its records need not be copied once more.
const mostAtOnce = 2 << 20

// begin unpacks all of a stream where it is no larger than mostAtOnce, else its
// beginning. Where it breaks off, next says so after the last whole record.
func (u *unpacker) begin(from io.Reader) {
	u.block = u.block[:0]
	for len(u.block) < mostAtOnce {
		if free := cap(u.block) - len(u.block); free == 0 {
			u.block = slices.Grow(u.block, max(256<<10, len(u.block)))
		}
		n, err := from.Read(u.block[len(u.block):cap(u.block)])
		u.block = u.block[:len(u.block)+n]
		if err != nil {
			u.plain, u.packed, u.fault = u.block, false, noEOF(err)
			return
		}
	}
	u.behind.Reset(u.block)
	u.read(io.MultiReader(&u.behind, from))
}

func (u *unpacker) read(from io.Reader) {
	if u.stream == nil {
		u.stream = bufio.NewReaderSize(from, 32<<10)
	}
	u.stream.Reset(from)
}

func (u *unpacker) openSnappy(records []byte) error {
	if !bytes.HasPrefix(records, xerial) {
		block, err := u.snappy(records, u.block[:0])
		u.block, u.plain, u.packed = block, block, false
		return err
	}
	if len(records) < xerialHeader {
		return errors.New("snappy: cut off")
	}
	u.read(&xerialReader{unpacker: u, rest: records[xerialHeader:]})
	return nil
}

func (u *unpacker) snappy(block, dst []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err == nil && n > maxSnappyBlock {
		err = fmt.Errorf("a block of %d bytes", n)
	}
	if err == nil {
		dst, err = s2.Decode(dst[:cap(dst)], block)
	}
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return dst, nil
}

// xerialReader reads the blocks of the Java library's framing.
type xerialReader struct {
	*unpacker
	rest, at []byte
}

func (x *xerialReader) Read(p []byte) (int, error) {
	for len(x.at) == 0 {
		if len(x.rest) == 0 {
			return 0, io.EOF
		}
		if len(x.rest) < 4 || uint64(binary.BigEndian.Uint32(x.rest)) > uint64(len(x.rest)-4) {
			return 0, errors.New("snappy: cut off")
		}
		n := 4 + int(binary.BigEndian.Uint32(x.rest))
		block, err := x.snappy(x.rest[4:n], x.block[:0])
		if err != nil {
			return 0, err
		}
		x.block, x.at, x.rest = block, block, x.rest[n:]
	}
	n := copy(p, x.at)
	x.at = x.at[n:]
	return n, nil
}

// next returns the next record's body, which is good until the call after it.
func (u *unpacker) next() ([]byte, error) {
	if !u.packed {
		n, size := binary.Varint(u.plain)
		if size <= 0 || n < 0 || n > int64(len(u.plain)-size) {
			return nil, u.fault
		}
		body := u.plain[size : size+int(n)]
		u.plain = u.plain[size+int(n):]
		return body, nil
	}
	n, err := binary.ReadVarint(u.stream)
	if err == nil && (n < 0 || n > maxRecordBytes) {
		err = fmt.Errorf("a record of %d bytes", n)
	}
	if err != nil {
		return nil, noEOF(err)
	}
	if err := u.fill(int(n)); err != nil {
		return nil, noEOF(err)
	}
	return u.body, nil
}

// fill reads a body of n bytes. Its memory grows with what really comes: the length
// may be a lie.
func (u *unpacker) fill(n int) error {
	u.body = u.body[:0]
	for len(u.body) < n {
		step := min(n-len(u.body), max(64<<10, len(u.body)))
		from := len(u.body)
		if cap(u.body) < from+step {
			grown := make([]byte, from, from+step)
			copy(grown, u.body)
			u.body = grown
		}
		u.body = u.body[:from+step]
		if _, err := io.ReadFull(u.stream, u.body[from:]); err != nil {
			return err
		}
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// close ends with the batch; giants are not remembered.
func (u *unpacker) close() {
	const most = 4 << 20
	u.plain = nil
	u.from.Reset(nil)
	u.behind.Reset(nil)
	if cap(u.body) > most {
		u.body = nil
	}
	if cap(u.block) > most {
		u.block = nil
	}
}
