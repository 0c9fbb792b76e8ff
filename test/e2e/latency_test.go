package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// desk takes notices in webhooks and notes when each project's came, by the kind of the
// channel, the first element of the path.
type desk struct {
	mu   sync.Mutex
	came map[string]map[string]time.Time
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var m struct {
		Items []struct {
			Incident struct{ Group []struct{ Value string } }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind, _, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.came[kind] == nil {
		d.came[kind] = make(map[string]time.Time)
	}
	for _, it := range m.Items {
		if project := it.Incident.Group[0].Value; d.came[kind][project].IsZero() {
			d.came[kind][project] = now
		}
	}
}

// by is when each project's notice came by channels of that kind.
func (d *desk) by(kind string) map[string]time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.came[kind])
}

// TestTheTenthErrorIsToldWithinASecond writes the tenth error line of one project after
// the other, and measures from before the write until the notice is there: 99 of a hundred
// take less than a second, to a program that hears of all of them, some a second, and to
// people who hear of one every few seconds. It is not parallel, so that it does not measure
// the other tests.
func TestTheTenthErrorIsToldWithinASecond(t *testing.T) {
	const chats, each = 40, 6
	d := &desk{came: make(map[string]map[string]time.Time)}
	s := httptest.NewServer(d)
	defer s.Close()
	var rules, channels strings.Builder
	for i := range chats {
		fmt.Fprintf(&rules, "  errors-%d: {per: project, where: \"project =~ '^c%d-'\", when: error >= 10, within: 10m, notify: [chat-%d, hook-%d]}\n", i, i, i, i%4)
		fmt.Fprintf(&channels, "  chat-%d: {webhook: {url: '%s/chat/%d', template: '{{json .}}'}}\n", i, s.URL, i)
	}
	for i := range 4 {
		fmt.Fprintf(&channels, "  hook-%d: {webhook: {url: '%s/hook/%d'}}\n", i, s.URL, i)
	}
	w := newWorld(t, "inputs:\n  app: {files: ['$DIR/logs/{project}/*.log'], format: json}\noutputs:\n  out: {discard: {}}\nalerts:\n"+rules.String()+"notify:\n"+channels.String())
	line := func(l *rig.Log) {
		w.check(l.WriteString(fmt.Sprintf(`{"time":%q,"level":"error","msg":"out of stock"}`+"\n", time.Now().UTC().Format(time.RFC3339Nano))))
	}
	var projects []string
	logs := make(map[string]*rig.Log)
	for k := range each {
		for i := range chats {
			name := fmt.Sprintf("c%d-%d", i, k)
			projects = append(projects, name)
			logs[name] = w.log(name + "/app.log")
			for range 9 {
				line(logs[name])
			}
		}
	}
	w.start()
	w.check(rig.Poll(w.ctx, "nine lines of each project to be read", func() error {
		if n := w.metrics().Sum("read_lines_total"); n < float64(9*len(projects)) {
			return fmt.Errorf("%v are", n)
		}
		return nil
	}))
	if n := len(d.by("chat")) + len(d.by("hook")); n > 0 {
		t.Fatalf("%d notices of nine lines", n)
	}
	const apart = 110 * time.Millisecond // 4.4 s for each chat, 0.44 s for each hook
	written := make(map[string]time.Time)
	for began, i := time.Now(), 0; i < len(projects); i++ {
		w.pause(time.Until(began.Add(time.Duration(i) * apart)))
		written[projects[i]] = time.Now()
		line(logs[projects[i]])
	}
	for _, kind := range []string{"hook", "chat"} {
		w.check(rig.Poll(w.ctx, "the notices", func() error {
			if n := len(d.by(kind)); n < len(projects) {
				return fmt.Errorf("%s: %d of %d", kind, n, len(projects))
			}
			return nil
		}))
		var took []time.Duration
		for project, at := range d.by(kind) {
			took = append(took, at.Sub(written[project]))
		}
		slices.Sort(took)
		p99 := took[(len(took)*99+99)/100-1]
		t.Logf("%s: %d incidents; median %v, p99 %v, longest %v", kind, len(took), took[len(took)/2], p99, took[len(took)-1])
		if p99 >= time.Second {
			t.Errorf("%s: 99 of 100 notices left within %v of the tenth line; it is to be under a second", kind, p99)
		}
	}
	w.stop(0)
}
