package record

import "hash/crc32"

// Pos is a place in one generation of a file from which reading can go on: every
// event that begins before it has been passed. Offsets count decompressed bytes.
type Pos struct {
	// Off is the offset of the first byte that has not been passed.
	Off int64 `json:"off"`
	// Ahead is set where two streams interleave in one file (stdout and stderr of
	// a container): lines of AheadStream that begin before Ahead are passed too.
	Ahead       int64  `json:"ahead,omitempty"`
	AheadStream Stream `json:"ahead_stream,omitempty"`
	// Skip is set when Off lies inside an overlong line whose head was sent: the
	// rest of it, to the newline, is passed over.
	Skip bool `json:"skip,omitempty"`
	// Time is the time of the last event before Off in Unix milliseconds, which
	// lines without a time of their own inherit; 0 when there was none.
	Time int64 `json:"time,omitempty"`
	// Tail is the TailSum of the bytes that end at Off.
	Tail uint32 `json:"tail,omitempty"`
}

// Cut is a place at which an event was ended by a time limit and not by what the
// file says: reading again must end it there again, whatever was written after it.
// Cuts are made durable before the event is delivered.
type Cut struct {
	// Off is the offset at which the event's last byte, its newline included, ends.
	Off    int64  `json:"off"`
	Stream Stream `json:"stream,omitempty"`
	// Mid is set when the cut lies inside a line of Stream that was not finished:
	// what follows is the rest of that line.
	Mid bool `json:"mid,omitempty"`
}

// Stream names one of the streams that share a file.
type Stream uint8

// The streams of a container's log. Other files have only StreamNone.
const (
	StreamNone Stream = iota
	StreamStdout
	StreamStderr
)

// TailBytes is the number of bytes before a position that TailSum covers.
const TailBytes = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// TailSum returns the CRC-32C of the last TailBytes bytes of before (of all of
// it, when it is shorter): what tells a file that was truncated and has grown past
// the old offset from one that only grew. The sum of nothing is 0.
func TailSum(before []byte) uint32 {
	if len(before) > TailBytes {
		before = before[len(before)-TailBytes:]
	}
	return crc32.Checksum(before, castagnoli)
}
