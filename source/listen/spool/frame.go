package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Kind says what a frame holds.
type Kind uint8

const (
	kindSegment Kind = iota // the head of a segment: the generation's name
	// JSONLines are lines of JSON, ended by newlines.
	JSONLines
	// Records are Records, one after the other.
	Records
)

// The head of a frame, little endian:
//
//	0  magic     8  length of what follows   16 time
//	4  kind     12  CRC-32C of what follows  24 the offset at which it stands, in a segment's head
//	6  meta                                  32 CRC-32C of these 32 bytes
//
// What follows is meta (the key, the project) and the payload.
const (
	headBytes = 36
	magic     = 0x50537754 // "TwSP"
	// MaxFrame bounds a frame, in bytes.
	MaxFrame = 80 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Key tells one hand-over from all others: the digest of what its sender calls it.
type Key [16]byte

// Frame is a frame that is being made. Put the payload behind Buf, then Append it to a
// Log.
type Frame struct {
	// Buf is the frame so far; append to it.
	Buf  []byte
	meta int
	key  Key
	sum  uint32 // of the payload, for a frame with a key
}

// Begin starts a frame in buf's memory. key is the zero Key where the sender gives
// none; unixMilli is when it was received.
func Begin(buf []byte, kind Kind, project string, key Key, unixMilli int64) *Frame {
	project = project[:min(len(project), 4096)]
	buf = append(buf[:0], make([]byte, headBytes)...)
	binary.LittleEndian.PutUint32(buf, magic)
	buf[4] = byte(kind)
	binary.LittleEndian.PutUint64(buf[16:], uint64(unixMilli))
	buf = append(buf, key[:]...)
	buf = append(buf, project...)
	f := &Frame{Buf: buf, meta: len(buf), key: key}
	binary.LittleEndian.PutUint16(buf[6:], uint16(f.meta-headBytes))
	return f
}

// SetKind changes what the frame holds.
func (f *Frame) SetKind(k Kind) { f.Buf[4] = byte(k) }

// Payload is what was appended so far.
func (f *Frame) Payload() []byte { return f.Buf[f.meta:] }

// Trim takes a prefix off the payload, if it begins with that.
func (f *Frame) Trim(prefix string) {
	if rest, ok := bytes.CutPrefix(f.Payload(), []byte(prefix)); ok {
		f.Buf = append(f.Buf[:f.meta], rest...)
	}
}

// Forget makes the frame one without a key.
func (f *Frame) Forget() {
	clear(f.Buf[headBytes : headBytes+len(f.key)])
	f.key = Key{}
}

// seal completes the head. at is the offset at which the frame will stand, for the head
// of a segment.
func (f *Frame) seal(at int64) {
	b := f.Buf
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-headBytes))
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[headBytes:], castagnoli))
	binary.LittleEndian.PutUint64(b[24:], uint64(at))
	binary.LittleEndian.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	if f.key != (Key{}) {
		f.sum = sumOf(f.Payload())
	}
}

// View is a frame as it was read.
type View struct {
	Kind Kind
	// Project is that of its lines.
	Project []byte
	// Time is when it was received, in Unix milliseconds.
	Time int64
	// Payload is a slice of what was parsed, which begins at byte PayloadAt of it.
	Payload   []byte
	PayloadAt int
	// Size is the frame's length in bytes.
	Size int

	key Key
	at  int64
}

// IsSegment tells that the frame is a segment's head and holds nothing to deliver.
func (v *View) IsSegment() bool { return v.Kind == kindSegment }

// ErrDamaged says that no frame begins where one should.
var ErrDamaged = errors.New("the spool is damaged here")

// Parse reads the frame at the head of data. With fewer bytes than the frame has it
// returns how many are needed, as far as that is known, and no error. A View's Size is
// 0 then.
func Parse(data []byte) (v View, need int, err error) {
	if len(data) < headBytes {
		return v, headBytes, nil
	}
	v, size, ok := parseHead(data)
	if !ok {
		return View{}, 0, ErrDamaged
	}
	if len(data) < size {
		return View{}, size, nil
	}
	if crc32.Checksum(data[headBytes:size], castagnoli) != binary.LittleEndian.Uint32(data[12:]) {
		return View{}, 0, ErrDamaged
	}
	meta := int(binary.LittleEndian.Uint16(data[6:]))
	v.PayloadAt = headBytes + meta
	copy(v.key[:], data[headBytes:])
	v.Project = data[headBytes+len(v.key) : v.PayloadAt]
	v.Payload = data[v.PayloadAt:size:size]
	v.Size = size
	return v, size, nil
}

// parseHead reads a head; size is that of the whole frame.
func parseHead(data []byte) (v View, size int, ok bool) {
	if len(data) < headBytes || binary.LittleEndian.Uint32(data) != magic ||
		crc32.Checksum(data[:32], castagnoli) != binary.LittleEndian.Uint32(data[32:]) {
		return v, 0, false
	}
	size = headBytes + int(binary.LittleEndian.Uint32(data[8:]))
	meta := int(binary.LittleEndian.Uint16(data[6:]))
	v.Kind = Kind(data[4])
	v.Time = int64(binary.LittleEndian.Uint64(data[16:]))
	v.at = int64(binary.LittleEndian.Uint64(data[24:]))
	return v, size, size <= MaxFrame && meta >= len(v.key) && headBytes+meta <= size
}

// Resync returns how many bytes at the head of damaged data to pass over: up to the
// next place at which a frame may begin.
func Resync(data []byte) int {
	for i := 1; i < len(data); i++ {
		if i+4 > len(data) {
			return i // the beginning of one, perhaps
		}
		if binary.LittleEndian.Uint32(data[i:]) != magic {
			continue
		}
		if len(data)-i < headBytes {
			return i
		}
		if _, _, ok := parseHead(data[i:]); ok {
			return i
		}
	}
	return len(data)
}
