package services

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/queue"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/test/rig"
)

// impatient waits less than an agent does, so that the tests need not wait either.
var impatient = backoff.Policy{First: 20 * time.Millisecond, Cap: 500 * time.Millisecond}

// file makes the documents of one log file, line by line.
type file struct {
	name   string
	origin *record.Origin
	next   int
	fields func(r *record.Record, n int) // more fields for line n; may be nil
	routes []string                      // fields that templates need
	at     time.Time                     // of the events; zero is now
}

func newFile(project, name string) *file {
	return &file{name: name, origin: record.NewOrigin(record.OriginFields{
		Machine: "m", Generation: name, Host: "host", Input: "in", File: name, Project: project})}
}

// id is that of the file's line n.
func (f *file) id(n int) string { return fmt.Sprintf("m-%s-%d", f.name, n) }

// block makes a block of the next n lines.
func (f *file) block(n int) *record.Block {
	b := record.NewBlock(nil, f.routes, nil)
	r := new(record.Record)
	now := time.Now().UnixMilli()
	if !f.at.IsZero() {
		now = f.at.UnixMilli()
	}
	for range n {
		r.Reset()
		r.Put("message", fmt.Appendf(nil, "line %d of %s: %s", f.next, f.name, strings.Repeat("padding ", 20)), record.Text)
		if f.fields != nil {
			f.fields(r, f.next)
		}
		b.Append(f.origin, r, now, true, int64(f.next))
		f.next++
	}
	return b
}

// batch puts the next n lines of each file into one batch.
func batch(n int, files ...*file) *sink.Batch {
	b := new(sink.Batch)
	for _, f := range files {
		block := f.block(n)
		b.Bytes += len(block.Data)
		for i := range block.Docs {
			b.Refs = append(b.Refs, record.Ref{Block: block, Index: i})
		}
	}
	return b
}

// sendOnce is one try.
func sendOnce(t *testing.T, s sink.Sink, b *sink.Batch) sink.Result {
	t.Helper()
	answer := make(chan sink.Result, 1)
	s.Send(t.Context(), b, func(r sink.Result) { answer <- r })
	select {
	case r := <-answer:
		return r
	case <-time.After(time.Minute):
		t.Fatal("no answer within a minute")
		return sink.Result{}
	}
}

// mustTake sends a batch of which all must be delivered.
func mustTake(t *testing.T, s sink.Sink, b *sink.Batch) {
	t.Helper()
	if r := sendOnce(t, s, b); r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
		t.Fatalf("not delivered: %v; %d to be tried again, refused: %v", r.Err, len(r.Retry), r.Refused)
	}
}

// line is an output as the agent runs it: queue, Deliverer, sink, dead letters.
type line struct {
	t         *testing.T
	queue     *queue.Memory
	deliverer *sink.Deliverer
	deadDir   string
	room      chan struct{}
	ended     chan error

	mu   sync.Mutex
	open int // parcels not done
	done int // and done
}

func newLine(t *testing.T, s sink.Sink) *line {
	t.Helper()
	l := &line{t: t, deadDir: filepath.Join(t.TempDir(), "dead"), room: make(chan struct{}, 1), ended: make(chan error, 1)}
	l.queue = queue.New(4<<20, func() {
		select {
		case l.room <- struct{}{}:
		default:
		}
	})
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	dead := sink.NewDeadLetters(sink.DeadConfig{Dir: l.deadDir, Log: log})
	l.deliverer = sink.NewDeliverer(sink.DeliverConfig{Name: "real", Sink: s, Queue: l.queue, Dead: dead, Log: log,
		Backoff: impatient, MaxBatchBytes: 256 << 10})
	go func() { l.ended <- l.deliverer.Run(context.WithoutCancel(t.Context())) }()
	return l
}

// put queues a block, when there is room.
func (l *line) put(b *record.Block) {
	l.t.Helper()
	l.mu.Lock()
	l.open++
	l.mu.Unlock()
	p := record.Parcel{Block: b, Done: func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		l.done++
	}}
	for deadline := time.After(10 * time.Minute); !l.queue.Room(); {
		select {
		case <-l.room:
		case <-deadline:
			l.t.Fatalf("no room in the queue for ten minutes: %+v", l.deliverer.State())
		}
	}
	if !l.queue.Put(p) {
		l.t.Fatal("the queue is closed")
	}
}

// await waits until n more blocks are delivered.
func (l *line) await(n int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	done := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.done
	}
	before := done()
	if err := rig.Poll(ctx, "deliveries", func() error {
		if d := done(); d < before+n {
			return fmt.Errorf("%d of %d blocks: %+v", d-before, n, l.deliverer.State())
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
}

// finish waits until all that was put is delivered or parked.
func (l *line) finish() {
	l.t.Helper()
	l.queue.Close()
	select {
	case err := <-l.ended:
		if err != nil {
			l.t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		l.t.Fatalf("not delivered within two minutes: %+v", l.deliverer.State())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != 0 {
		l.t.Errorf("%d blocks were not acknowledged", l.open)
	}
}

// letters are what was parked.
func (l *line) letters() (all []sink.Letter) {
	l.t.Helper()
	files, err := sink.ListLetters(l.deadDir)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range files {
		if _, err := sink.ReadLetters(f.Path, func(letter sink.Letter) error {
			all = append(all, letter)
			return nil
		}); err != nil {
			l.t.Fatal(err)
		}
	}
	return all
}

// testWriter shows the log of a test that fails.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// within fails the test when f takes longer than d.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > d {
		t.Errorf("%s took %v, longer than %v", what, took.Round(time.Millisecond), d)
	}
}
