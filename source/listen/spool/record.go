package spool

import (
	"encoding/binary"
	"errors"

	"github.com/tailwater/tailwater/record"
)

// Record is one event of a frame of Records: its text, and what the protocol that
// brought it says of it.
type Record struct {
	Flags Flags
	// Time is in Unix milliseconds, 0 where the sender gives none.
	Time int64
	// Level is LevelNone where the sender gives none.
	Level record.Level
	// Project is the event's own, empty where it is the frame's.
	Project []byte
	// Fields are what AppendField has put together.
	Fields []byte
	Text   []byte
}

// Flags say how a Record's text is to be taken.
type Flags uint8

const (
	// IsJSON: the text is a JSON object that was made from what the sender sent.
	IsJSON Flags = 1 << iota
	// AsSent: the JSON is what the sender wrote; its message is not parsed further.
	AsSent
	// TimeIsFallback: a time that the text has is better than the record's.
	TimeIsFallback
	// Syslog: the text is a syslog message, without the head.
	Syslog
	// Partial and Truncated are those of record.Record.
	Partial
	Truncated
)

// AppendRecord appends r as a frame of Records has it.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, byte(r.Flags), byte(r.Level))
	dst = binary.AppendVarint(dst, r.Time)
	dst = appendPart(dst, r.Project)
	dst = appendPart(dst, r.Fields)
	return appendPart(dst, r.Text)
}

func appendPart(dst, part []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(part)))
	return append(dst, part...)
}

var errRecord = errors.New("a record of the spool is malformed")

// ParseRecord reads the record at the head of data into r, whose slices are data's, and
// returns its length.
func ParseRecord(data []byte, r *Record) (n int, err error) {
	if len(data) < 2 || int(data[1]) >= record.Levels {
		return 0, errRecord
	}
	r.Flags, r.Level = Flags(data[0]), record.Level(data[1])
	at := 2
	t, k := binary.Varint(data[at:])
	if k <= 0 {
		return 0, errRecord
	}
	r.Time = t
	at += k
	for _, part := range [...]*[]byte{&r.Project, &r.Fields, &r.Text} {
		size, k := binary.Uvarint(data[at:])
		if k <= 0 || size > uint64(len(data)-at-k) {
			return 0, errRecord
		}
		at += k
		*part = data[at : at+int(size) : at+int(size)]
		at += int(size)
	}
	return at, nil
}

// AppendField appends a field of a Record. key is escaped as record.Field wants it.
func AppendField(dst []byte, key string, val []byte, kind record.Kind) []byte {
	dst = append(dst, byte(kind))
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	dst = binary.AppendUvarint(dst, uint64(len(val)))
	return append(dst, val...)
}

// ParseField reads the field at the head of data and returns what follows it; false
// when there is none.
func ParseField(data []byte) (key, val []byte, kind record.Kind, rest []byte, ok bool) {
	if len(data) == 0 || data[0] > byte(record.Escaped) {
		return nil, nil, 0, nil, false
	}
	kind, rest = record.Kind(data[0]), data[1:]
	for _, part := range [...]*[]byte{&key, &val} {
		size, k := binary.Uvarint(rest)
		if k <= 0 || size > uint64(len(rest)-k) {
			return nil, nil, 0, nil, false
		}
		*part = rest[k : k+int(size) : k+int(size)]
		rest = rest[k+int(size):]
	}
	return key, val, kind, rest, true
}
