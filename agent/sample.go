package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tailwater/tailwater/parser"
)

// sample is a log, perhaps compressed, that is read once from begin to end and never
// held in memory as a whole.
type sample struct {
	from   io.Reader
	framer parser.Framer // set once the first bytes have told the format
	buf    []byte        // of the log from look.Base on
	look   parser.Look
	lines  int   // before look.Base
	broken error // why the log cannot be read on; what comes before counts
}

// begin reads the first bytes.
func (s *sample) begin(from io.Reader) (err error) {
	head := bufio.NewReaderSize(from, readBytes)
	s.from = head
	if magic, _ := head.Peek(2); string(magic) == "\x1f\x8b" {
		if s.from, err = gzip.NewReader(head); err != nil {
			return err
		}
	}
	s.fill()
	return nil
}

// fill reads on; what the framer has passed makes room. A log that is damaged ends there.
func (s *sample) fill() {
	if s.framer != nil {
		done := s.framer.Pos().Off - s.look.Base
		s.lines += bytes.Count(s.buf[:done], newline)
		s.buf = append(s.buf[:0], s.buf[done:]...)
		s.look.Base += done
	}
	for want := len(s.buf) + readBytes; len(s.buf) < want && !s.look.AtEnd; {
		if cap(s.buf) < want {
			s.buf = append(make([]byte, 0, 2*want), s.buf...)
		}
		n, err := s.from.Read(s.buf[len(s.buf):want])
		s.buf = s.buf[:len(s.buf)+n]
		if err != nil && err != io.EOF {
			s.broken = fmt.Errorf("%w after %d bytes of log; what is before that was read", err, s.look.Base+int64(len(s.buf)))
		}
		s.look.AtEnd = err != nil
	}
	s.look.Data, s.look.Now, s.look.Flush = s.buf, time.Now(), s.look.AtEnd
}

// lineOf is the number of the line that begins at off, which the last look held; the
// first is 1.
func (s *sample) lineOf(off int64) int {
	return 1 + s.lines + bytes.Count(s.buf[:off-s.look.Base], newline)
}
