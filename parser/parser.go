package parser

import (
	"time"

	"github.com/tailwater/tailwater/record"
)

// Parser splits events of one format. One goroutine at a time uses it; make one for
// each file, as it remembers what speeds up the next line.
type Parser interface {
	// Parse fills r, which was Reset, from an event's text: the bytes of its lines
	// without the last newline. The fields are slices of text or of r's scratch. Text
	// that is not of the format becomes the message and sets r.ParseError.
	Parse(text []byte, r *record.Record)
}

// Event is what a Framer cuts out of a file.
type Event struct {
	// Text is the event without its last newline; several lines where they were
	// joined. It is valid until the next call of Next.
	Text []byte
	// Off is the offset of the event's first byte in the file.
	Off int64
	// Time is the time that the wrapper gave it (container runtimes), in Unix
	// milliseconds, when HasTime.
	Time    int64
	HasTime bool
	Stream  record.Stream
	// Partial is set when the text is not ended by a newline, or begins where such
	// text was sent.
	Partial bool
	// Truncated is set when the text was longer than the limit and was cut.
	Truncated bool
	// Timed is set when a time limit or Look.Flush ended the event. The caller must
	// make Cut durable before it delivers the event.
	Timed bool
	Cut   record.Cut
}

// Look is what a Framer gets to see of a file.
type Look struct {
	// Data are the file's bytes from offset Base on. Base is the Off of the Framer's
	// Pos at the first call for this Data.
	Data []byte
	Base int64
	// Now is the time of the look, for the time limits.
	Now time.Time
	// AtEnd is set when Data reaches the end that the file has now. Without it, more
	// bytes are there to be read at once and no time limit applies.
	AtEnd bool
	// Flush asks for what is pending at the end too: the file will not grow any more,
	// or the agent is being drained.
	Flush bool
}

// Framer cuts the bytes of one file generation into events. One goroutine at a time
// uses it.
type Framer interface {
	// Reset begins anew at p, where cuts (in rising order) are those at or after p.
	Reset(p record.Pos, cuts []record.Cut)
	// Next returns the next event that is complete in look.Data; call it until it
	// says false, then go on with a look that begins at Pos().Off. When Pos did not
	// move although look.Data holds Window bytes, something is broken: given that
	// many, a Framer always moves on.
	Next(look *Look) (Event, bool)
	// Pos is where a later look, or a Framer after a restart, goes on after the
	// events that Next returned. Its Time and Tail are the caller's to fill.
	Pos() record.Pos
	// Window is the number of bytes, in one look, that always suffices to move on.
	Window() int
	// Due is when a pending event's time limit will have passed if the file does not
	// grow; ok is false when nothing is pending.
	Due() (at time.Time, ok bool)
	// Joins looks at the head of the generation that follows this file, whose end has
	// been reached, and returns how many of its bytes (whole lines) go on with the
	// event that is pending here: 0 when none do. The caller then makes that number
	// durable and calls Next with a Look whose Data has those bytes appended.
	Joins(look *Look, head []byte) int
	// Skipped is what the Framer has passed over so far without an event. Bytes that
	// are read again after a Reset count again.
	Skipped() Skipped
}

// Skipped counts what a Framer passes over without making an event of it.
type Skipped struct {
	// BlankLines are lines that hold nothing but white space and belong to no event.
	BlankLines int64
	// NULBytes lay in holes at the head of a line: what a copytruncate leaves behind
	// under a writer that does not append.
	NULBytes int64
	// RestBytes are what lines had beyond the length limit: their loss.
	RestBytes int64
	// HeadBytes are those around events that are nobody's text, and DamagedBytes those
	// of a spool that cannot be read.
	HeadBytes, DamagedBytes int64
}
