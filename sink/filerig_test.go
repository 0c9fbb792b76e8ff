package sink

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// pad is a Notes in memory: what is in it survives a crash that the test plays.
type pad struct {
	entries map[string]json.RawMessage
	crash   func(stored bool) // may panic, as if the process were killed there
	fail    error
}

func (p *pad) Range(f func(key string, value []byte)) {
	for k, v := range p.entries {
		f(k, v)
	}
}

func (p *pad) Commit(entries map[string]json.RawMessage) error {
	if p.fail != nil {
		return p.fail
	}
	if p.crash != nil {
		p.crash(false)
	}
	if p.entries == nil {
		p.entries = make(map[string]json.RawMessage)
	}
	for k, v := range entries {
		if v == nil {
			delete(p.entries, k)
		} else {
			p.entries[k] = v
		}
	}
	if p.crash != nil {
		p.crash(true)
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newFile(t testing.TB, c FileConfig) *File {
	t.Helper()
	if c.Name == "" {
		c.Name = "local"
	}
	if c.Log == nil {
		c.Log = quiet()
	}
	s, err := NewFile(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func restored(t testing.TB, c FileConfig, state json.RawMessage) *File {
	t.Helper()
	s := newFile(t, c)
	if err := s.Restore(state); err != nil {
		t.Fatal(err)
	}
	return s
}

func trySend(s Sink, all ...record.Ref) (res Result) {
	b := &Batch{Refs: all}
	s.Send(context.Background(), b, func(r Result) { res = r })
	return res
}

func send(t testing.TB, s Sink, blocks ...*record.Block) {
	t.Helper()
	if r := trySend(s, refs(blocks...)...); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func commit(t testing.TB, s *File) json.RawMessage {
	t.Helper()
	state, err := s.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// messagesIn returns the messages of the documents in a file, and fails for a line
// that is not one.
func messagesIn(t testing.TB, path string) (all []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, gzipSuffix) {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var doc struct{ Message string }
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			t.Errorf("%s: %v in %q", path, err, lines.Text())
		}
		all = append(all, doc.Message)
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
	return all
}

func want(t testing.TB, path string, messages ...string) {
	t.Helper()
	if got := messagesIn(t, path); !slices.Equal(got, messages) {
		t.Errorf("%s holds %v, want %v", filepath.Base(path), got, messages)
	}
}
