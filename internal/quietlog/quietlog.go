// Package quietlog keeps a log from flooding: a warning or error that repeats is
// counted and not repeated.
package quietlog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Every is how often a repeating record is written, with the number of those that
// were held back.
const Every = time.Minute

// maxKnown bounds the memory for what was seen.
const maxKnown = 1000

// New returns a handler that passes records on to next. Of warnings and errors with
// the same message about the same subject, the first is written at once, and then
// one in each Every with "repeated" set to the number held back.
func New(next slog.Handler) slog.Handler {
	return &handler{next: next, seen: &seen{known: make(map[string]*entry)}}
}

type handler struct {
	next  slog.Handler
	about string // of WithAttrs and WithGroup
	*seen
}

type seen struct {
	mu    sync.Mutex
	known map[string]*entry
}

type entry struct {
	written  time.Time
	heldBack int
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	about := h.about
	for _, a := range attrs {
		about += subject(a)
	}
	return &handler{h.next.WithAttrs(attrs), about, h.seen}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.about + "/" + name, h.seen}
}

// subject is the part of a record that makes it another one: what it is about, not
// the numbers and the words that differ from time to time.
func subject(a slog.Attr) string {
	switch a.Key {
	case "file", "output", "input", "state", "channel", "rule", "config", "pod", "container":
		return " " + a.Key + "=" + a.Value.String()
	}
	return ""
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.next.Handle(ctx, r)
	}
	key := h.about + r.Message
	r.Attrs(func(a slog.Attr) bool {
		key += subject(a)
		return true
	})
	heldBack, write := h.note(key, r.Time)
	if !write {
		return nil
	}
	if heldBack > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", heldBack))
	}
	return h.next.Handle(ctx, r)
}

func (s *seen) note(key string, now time.Time) (heldBack int, write bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known[key]
	if e != nil && now.Sub(e.written) < Every {
		e.heldBack++
		return 0, false
	}
	if e == nil {
		if len(s.known) >= maxKnown {
			s.forget(now)
		}
		e = new(entry)
		s.known[key] = e
	}
	heldBack = e.heldBack
	*e = entry{written: now}
	return heldBack, true
}

// forget drops what has not been seen lately, or everything when all of it has.
func (s *seen) forget(now time.Time) {
	for key, e := range s.known {
		if now.Sub(e.written) >= Every {
			delete(s.known, key)
		}
	}
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
}
