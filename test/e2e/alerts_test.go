package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// pager takes notices in a webhook, and counts them by project and incident.
type pager struct {
	mu   sync.Mutex
	seen map[string]map[string]int
}

func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Items []struct {
			Kind     string `json:"kind"`
			Incident struct {
				ID    string `json:"id"`
				Group []struct{ Value string }
			} `json:"incident"`
		} `json:"items"`
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range m.Items {
		if it.Kind == "opened" {
			project := it.Incident.Group[0].Value
			if p.seen[project] == nil {
				p.seen[project] = make(map[string]int)
			}
			p.seen[project][it.Incident.ID]++
		}
	}
}

func (p *pager) told(project string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen[project]) > 0
}

// TestAlertsThroughKills writes nine or ten error lines for each of many projects
// while the agent is killed again and again: exactly those with ten are told, under
// one incident each, and hardly one of them twice.
func TestAlertsThroughKills(t *testing.T) {
	t.Parallel()
	p := &pager{seen: make(map[string]map[string]int)}
	s := httptest.NewServer(p)
	defer s.Close()
	w := newWorld(t, fmt.Sprintf(`
inputs:
  app: {files: ['$DIR/logs/{project}/*.log'], format: json, keep: [fatal]}
outputs:
  out: {file: {path: '$DIR/out/all.ndjson'}}
alerts:
  errors: {per: project, when: error >= 10, within: 10m}
notify:
  pager: {webhook: {url: '%s'}}
`, s.URL))
	rng := rand.New(rand.NewPCG(seed(t), 1))
	write := func(project string) {
		dir := filepath.Join(w.Dir, "logs", project)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := fmt.Fprintf(f, `{"time":%q,"level":"error","msg":"line of %s"}`+"\n", time.Now().UTC().Format(time.RFC3339Nano), project); err != nil {
			t.Fatal(err)
		}
	}
	const projects, kills = 40, 12
	var lines []string // the project of each line, in the order in which they are written
	for i := range projects {
		for range 9 + i%2 {
			lines = append(lines, fmt.Sprint("p", i))
		}
	}
	rng.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	w.start()
	for i, project := range lines {
		write(project)
		w.pause(time.Duration(rng.IntN(12)) * time.Millisecond)
		if i%(len(lines)/kills) == 0 {
			w.agent.Kill()
			w.start()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := rig.Poll(ctx, "the notices", func() error {
		for i := 1; i < projects; i += 2 {
			if !p.told(fmt.Sprint("p", i)) {
				return fmt.Errorf("p%d has ten error lines and nobody is told", i)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, w.LogTail())
	}
	w.stop(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	twice := 0
	for project, incidents := range p.seen {
		var number int
		fmt.Sscanf(project, "p%d", &number)
		if number%2 == 0 || len(incidents) != 1 {
			t.Errorf("%s is told with incidents %v", project, incidents)
		}
		for _, n := range incidents {
			twice += n - 1
		}
	}
	if twice > kills/4 {
		t.Errorf("%d notices came again, after %d kills", twice, kills)
	}
}

// TestAStreamFallsSilent: of two projects that log all the time one stops. That is told
// once, and once that it is back; the other is not spoken of.
func TestAStreamFallsSilent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var m struct {
			Items []struct {
				Kind     string
				Incident struct{ Group []struct{ Value string } }
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, it := range m.Items {
			told = append(told, it.Kind+" "+it.Incident.Group[0].Value)
		}
	}))
	defer s.Close()
	w := newWorld(t, fmt.Sprintf(`
inputs:
  app: {files: ['$DIR/logs/{project}/*.log'], format: json}
outputs:
  out: {discard: {}}
alerts:
  silent: {per: project, when: count() == 0, within: 8s}
notify:
  pager: {webhook: {url: '%s'}}
`, s.URL))
	quiet, loud := w.log("quiet/a.log"), w.log("loud/a.log")
	w.write(quiet, 1, 0)
	w.start()
	until := func(want string, logs ...*rig.Log) {
		t.Helper()
		w.check(rig.Poll(w.ctx, want, func() error {
			for _, l := range logs {
				w.write(l, 1, 0)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(told, ", "); got != want {
				return fmt.Errorf("told: %s", got)
			}
			return nil
		}))
	}
	until("opened quiet", loud)
	until("opened quiet, resolved quiet", loud, quiet)
	w.stop(0)
	until("opened quiet, resolved quiet")
}
