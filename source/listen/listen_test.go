package listen

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// bench is what a listener puts its lines into, and what it counts.
type bench struct {
	testing.TB
	cfg Config

	mu      sync.Mutex
	dropped map[string]int64
}

// newBench makes a configuration with a spool of its own.
func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{TB: t, dropped: make(map[string]int64)}
	l, err := spool.Open(spool.Options{Dir: t.TempDir(), Limit: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count := func(reason string, n int64) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.dropped[reason] += n
	}
	b.cfg = Config{
		Name: "in", Project: "in", Host: "here", MaxBody: 1 << 20, MaxLine: 64 << 10, MaxConns: 100, Zone: time.UTC,
		Spool: l, Memory: NewMemory(64 << 20), Drop: count, Abandon: count, Log: slog.New(slog.DiscardHandler),
		Split: func(text []byte, emit func([]byte, bool)) int64 {
			for line := range bytes.Lines(text) {
				emit(bytes.TrimRight(line, "\n"), false)
			}
			return 0
		},
	}
	for _, c := range change {
		c(&b.cfg)
	}
	return b
}

// serve closes the server at the end of the test and returns its TCP address, or the
// first one.
func (b *bench) serve(s Server, err error) string {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s.Addrs()[0].String()
}

// lines are the events in the spool, each as PROJECT LEVEL TIME TEXT {FIELDS}.
func (b *bench) lines() (all []string) {
	b.Helper()
	first, end := b.cfg.Spool.Bounds()
	data := make([]byte, end-first)
	if n, err := b.cfg.Spool.ReadAt(data, first); n != len(data) || err != nil && err != io.EOF {
		b.Fatalf("read %d of %d: %v", n, len(data), err)
	}
	for len(data) > 0 {
		v, _, err := spool.Parse(data)
		if err != nil || v.Size == 0 {
			b.Fatalf("the spool is damaged: %v", err)
		}
		data = data[v.Size:]
		switch {
		case v.IsSegment():
		case v.Kind == spool.JSONLines:
			for line := range bytes.Lines(v.Payload) {
				if line = bytes.TrimSpace(line); len(line) > 0 {
					all = append(all, fmt.Sprintf("%s: %s", v.Project, line))
				}
			}
		default:
			for rest := v.Payload; len(rest) > 0; {
				var r spool.Record
				n, err := spool.ParseRecord(rest, &r)
				if err != nil {
					b.Fatal(err)
				}
				rest = rest[n:]
				all = append(all, describe(string(v.Project), &r))
			}
		}
	}
	return all
}

func describe(project string, r *spool.Record) string {
	if len(r.Project) > 0 {
		project = string(r.Project)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s:", project)
	if r.Level != record.LevelNone {
		fmt.Fprintf(&s, " %s", r.Level)
	}
	if r.Time != 0 {
		fmt.Fprintf(&s, " %s", time.UnixMilli(r.Time).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	for flag, name := range map[spool.Flags]string{spool.Partial: " partial", spool.Truncated: " truncated"} {
		if r.Flags&flag != 0 {
			s.WriteString(name)
		}
	}
	fmt.Fprintf(&s, " %s", r.Text)
	for rest := r.Fields; ; {
		key, val, _, more, ok := spool.ParseField(rest)
		if !ok {
			return s.String()
		}
		if string(key) != "peer" {
			fmt.Fprintf(&s, " %s=%s", key, val)
		}
		rest = more
	}
}

// wait polls until the spool has so many events.
func (b *bench) wait(n int) []string {
	b.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		all := b.lines()
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d events came: %q", len(all), n, all)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (b *bench) wants(want ...string) {
	b.Helper()
	if got := b.wait(len(want)); !slices.Equal(got, want) {
		b.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (b *bench) lost(reason string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped[reason]
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxConns = 2 })
	addr := b.serve(Syslog(b.cfg, []string{"tcp://127.0.0.1:0"}))
	first, second := dial(t, addr), dial(t, addr)
	fmt.Fprint(first, "<13>one\n")
	fmt.Fprint(second, "<13>two\n")
	b.wait(2)
	third := dial(t, addr)
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Fatalf("the third connection is served: %d bytes", n)
	}
	first.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		again := dial(t, addr)
		again.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := again.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(err.Error(), "reset") {
			break // it is left open
		}
		if time.Now().After(deadline) {
			t.Fatal("a place that became free is not given")
		}
	}
}
