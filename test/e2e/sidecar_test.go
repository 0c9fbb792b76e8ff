package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// search is an Elasticsearch in the mood that the test wants: its bulk API stores each id
// once, or refuses everything.
type search struct {
	*httptest.Server
	mu     sync.Mutex
	away   bool
	asked  int
	stored map[string]map[string]any
}

func newSearch(t *testing.T) *search {
	b := &search{stored: make(map[string]map[string]any)}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *search) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	b.asked++
	if b.away {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"type":"unavailable","reason":"the test wants it"},"status":503}`)
		return
	}
	items := []string{}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var action struct {
			Create struct {
				ID string `json:"_id"`
			}
		}
		var doc map[string]any
		json.Unmarshal(lines.Bytes(), &action)
		if lines.Scan(); json.Unmarshal(lines.Bytes(), &doc) == nil && action.Create.ID != "" {
			status := 201
			if b.stored[action.Create.ID] != nil {
				status = 409
			}
			b.stored[action.Create.ID] = doc
			items = append(items, fmt.Sprintf(`{"create":{"status":%d}}`, status))
		}
	}
	fmt.Fprintf(w, `{"took":1,"errors":false,"items":[%s]}`, strings.Join(items, ","))
}

func (b *search) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

func (b *search) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

// messages counts the stored documents by their messages.
func (b *search) messages() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]int)
	for _, d := range b.stored {
		text, _ := d["message"].(string)
		all[text]++
	}
	return all
}

// newSidecar is an agent beside an application that writes to DIR/logs, an emptyDir, and
// an Elasticsearch.
func newSidecar(t *testing.T) (*world, *search) {
	t.Helper()
	b := newSearch(t)
	w := newWorld(t, fmt.Sprintf(`
shutdown_timeout: 20s
limits: {memory: 32MiB, cpus: 1}
inputs:
  app: {files: ['$DIR/logs/*.log'], format: plain, multiline: none}
outputs:
  search: {elasticsearch: {urls: ['%s'], index: logs}}
`, b.URL))
	return w, b
}

// TestSidecarEndsWithTheLastWords: the application has ended when SIGTERM comes, in the
// midst of a line.
func TestSidecarEndsWithTheLastWords(t *testing.T) {
	t.Parallel()
	w, b := newSidecar(t)
	w.start("--drain", "0s")
	w.check(os.WriteFile(w.path("logs", "app.log"), []byte("one\ntwo\nlast wor"), 0o644))
	began := time.Now()
	w.stop(0)
	if got := b.messages(); got["one"] != 1 || got["two"] != 1 || got["last wor"] != 1 || len(got) != 3 {
		t.Errorf("delivered: %v", got)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v: the unfinished line has waited for its time limit", took)
	}
}

// TestSidecarOutlivesItsApplication: both are stopped at once, and the application still
// has something to say.
func TestSidecarOutlivesItsApplication(t *testing.T) {
	t.Parallel()
	w, b := newSidecar(t)
	w.start("--drain", "2s")
	l := w.log("app.log")
	w.check(l.WriteString("before\n"))
	w.check(w.agent.Signal(os.Interrupt))
	for i := range 5 {
		w.pause(300 * time.Millisecond)
		w.check(l.WriteString(fmt.Sprintf("closing %d\n", i)))
	}
	code, err := w.agent.Wait(w.ctx)
	w.check(err)
	if got := b.messages(); code != 0 || len(got) != 6 || got["closing 4"] != 1 {
		t.Errorf("it ends with %d; delivered: %v", code, got)
	}
}

// TestSidecarStoppedWhileItsOutputIsDown: it heals within the grace, or never.
func TestSidecarStoppedWhileItsOutputIsDown(t *testing.T) {
	t.Parallel()
	for _, heals := range []bool{true, false} {
		w, b := newSidecar(t)
		if !heals {
			w.check(w.replace("shutdown_timeout: 20s", "shutdown_timeout: 3s"))
		}
		b.setAway(true)
		w.start("--drain", "0s")
		w.check(os.WriteFile(w.path("logs", "app.log"), []byte(strings.Repeat("a line\n", 5000)+"the last\n"), 0o644))
		w.check(rig.Poll(w.ctx, "a few tries", func() error {
			if n := b.requests(); n < 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		}))
		began := time.Now()
		w.check(w.agent.Signal(os.Interrupt))
		if heals {
			w.pause(time.Second)
			b.setAway(false)
		}
		code, err := w.agent.Wait(w.ctx)
		w.check(err)
		took := time.Since(began)
		switch got := b.messages(); {
		case heals && (code != 0 || got["a line"] != 5000 || got["the last"] != 1 || took > 15*time.Second):
			t.Errorf("it ends with %d after %v; delivered %d lines, %d last", code, took, got["a line"], got["the last"])
		case !heals && (code != 3 || took > 10*time.Second):
			t.Errorf("it ends with %d after %v, want 3", code, took)
		}
		if heals {
			continue
		}
		if w.LogCount("undelivered") == 0 {
			t.Error("nothing is said of what was not sent")
		}
		b.setAway(false)
		w.start("--drain", "0s")
		w.stop(0)
		if got := b.messages(); got["a line"] != 5000 || got["the last"] != 1 {
			t.Errorf("after the next start %d lines are delivered, %d last", got["a line"], got["the last"])
		}
	}
}

// replace changes text in the configuration.
func (w *world) replace(old, new string) error {
	data, err := os.ReadFile(w.Config())
	if err != nil {
		return err
	}
	return os.WriteFile(w.Config(), []byte(strings.ReplaceAll(string(data), old, new)), 0o644)
}

// TestSidecarIsSmall: what it costs beside an application that says nothing.
func TestSidecarIsSmall(t *testing.T) {
	w, _ := newSidecar(t)
	l := w.log("app.log")
	w.check(l.WriteString("started\n"))
	w.start("--drain", "0s")
	span := 5 * time.Second
	if torture() > 0 {
		span = time.Minute
	}
	w.pause(2 * time.Second)
	before, err := w.agent.Proc()
	w.check(err)
	w.pause(span)
	after, err := w.agent.Proc()
	w.check(err)
	share := float64(after.Ticks-before.Ticks) / 100 / span.Seconds()
	t.Logf("resident %.1f MiB, at most %.1f MiB; %.2f %% of a core", float64(after.RSS)/(1<<20), float64(after.Peak)/(1<<20), 100*share)
	if after.RSS > 24<<20 {
		t.Errorf("%.1f MiB are resident, want at most 24", float64(after.RSS)/(1<<20))
	}
	if share > 0.015 { // one percent, and what a tick of the clock is off by
		t.Errorf("%.2f %% of a core while nothing happens", 100*share)
	}
}
