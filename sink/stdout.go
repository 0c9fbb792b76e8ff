package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tailwater/tailwater/internal/terminal"
)

// Format is how Stdout writes a document.
type Format string

const (
	// FormatAuto is FormatHuman on a terminal and FormatJSON elsewhere.
	FormatAuto Format = "auto"
	// FormatJSON is a JSON object a line.
	FormatJSON Format = "json"
	// FormatHuman is the time, the level, the project and the message, or what was
	// asked for and what came of it.
	FormatHuman Format = "human"
)

// Stdout writes documents to standard output or another stream. When the batch
// fails half-way, the half that was written is written again.
//
// Go ends a process that writes to a broken standard output with SIGPIPE, unless it
// ignores or receives that signal; only then does the error reach the Deliverer.
type Stdout struct {
	name string
	w    io.Writer

	human  bool
	screen bool // what reads it obeys control characters
	color  bool

	mu  sync.Mutex // one writer at a time, also after a try was given up
	buf []byte
}

// NewStdout returns an output of that name to w, which stays the caller's. An empty
// format is FormatAuto. Colours are for terminals, unless NO_COLOR is set.
func NewStdout(name string, w io.Writer, format Format) *Stdout {
	s := &Stdout{name: name, w: w}
	if f, ok := w.(*os.File); ok {
		s.screen = terminal.Is(f)
	}
	s.human = format == FormatHuman || s.screen && format != FormatJSON
	s.color = s.screen && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// Send implements Sink. It blocks while the reader of the stream does not read.
func (s *Stdout) Send(_ context.Context, batch *Batch, done func(Result)) {
	err := s.write(batch)
	switch {
	case err == nil:
		done(Result{})
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		done(Result{Reason: "closed", Err: fmt.Errorf("output %s: standard output is closed, the program that read it has ended: %w; restart tailwater, or send to a file", s.name, err)})
	default:
		done(Result{Reason: reasonOf(err), Err: fmt.Errorf("output %s: write to standard output: %w; the documents are tried again", s.name, err)})
	}
}

func (s *Stdout) write(batch *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.buf[:0]
	now := time.Now()
	for _, r := range batch.Refs {
		switch doc := r.JSON(); {
		case s.human:
			s.buf = appendHuman(s.buf, doc, now.Location(), s.color)
		case s.screen:
			s.buf = append(appendHarmlessJSON(s.buf, doc), '\n')
		default:
			s.buf = append(append(s.buf, doc...), '\n')
		}
		if len(s.buf) >= gatherBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return s.flush()
}

func (s *Stdout) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// Close implements Sink. The stream is not ours to close.
func (s *Stdout) Close() error { return nil }
