package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
)

// pager is a channel that a test looks into.
type pager struct {
	mu    sync.Mutex
	got   []notify.Item
	texts []string
	sent  []notify.Report
	down  bool
}

// days are the reports.
func (p *pager) days() []notify.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

func (p *pager) Pace() notify.Pace { return notify.Pace{} }

func (p *pager) Send(_ context.Context, m *notify.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return fmt.Errorf("down")
	}
	p.got = append(p.got, m.Items...)
	p.texts = append(p.texts, m.Texts...)
	if m.Report != nil {
		p.sent = append(p.sent, *m.Report)
	}
	return nil
}

func (p *pager) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.got)
}

// page gives the rig's channels the pager.
func (r *rig) page() *pager {
	p := new(pager)
	r.channelFor = func(*config.Channel) notify.Channel { return p }
	return p
}

func (r *rig) mkdir(name string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Join(r.dir, name), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

const alerting = `
inputs:
  apps: {files: '$DIR/logs/{project}/*.log', format: app, keep: [fatal], multiline: none}
outputs:
  out: {discard: {}}
alerts:
  errors: {per: project, when: error >= 10 or fatal >= 1, labels: {team: web}}
notify:
  pager: {webhook: {url: 'http://localhost/'}}
`

// errorLines are n error lines of now.
func errorLines(n int) string {
	line := time.Now().UTC().Format("2006-01-02T15:04:05.000Z") + " ERROR [main] shop.Cart - no stock request_id=r-1\n"
	return strings.Repeat(line, n)
}

// call asks the agent over its socket, which is there soon after the start.
func (r *rig) call(method, path string, into any) int {
	r.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "state", SocketName))
	}}}
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://agent"+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	var resp *http.Response
	r.eventually("an answer of "+path, func() bool {
		resp, err = client.Do(req)
		return err == nil
	})
	defer resp.Body.Close()
	if into != nil && resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			r.t.Fatal(err)
		}
	}
	return resp.StatusCode
}

func TestTenthErrorLinePagesOnceAndNotAgainAfterARestart(t *testing.T) {
	r := newRig(t)
	p := r.page()
	r.mkdir("logs/pay")
	r.configure(alerting)
	r.append("logs/pay/a.log", errorLines(5))
	r.start()
	r.append("logs/pay/b.log", errorLines(4))
	r.eventually("nine lines read", func() bool { return r.agent.metrics.input("apps").lines.Load() == 9 })
	if n := p.count(); n != 0 {
		t.Fatalf("nine lines gave %d notices", n)
	}
	r.stop()
	r.start() // the window survives
	r.append("logs/pay/b.log", errorLines(1))
	r.eventually("a notice", func() bool { return p.count() == 1 })
	it := p.got[0]
	if it.Incident.Rule != "errors" || it.Group() != "project=pay" || it.Labels["team"] != "web" || len(it.Incident.Samples) < 2 ||
		it.Incident.Samples[0].RequestID != "r-1" || len(it.Incident.Files) != 2 || len(it.Incident.Hosts) != 1 {
		t.Errorf("%+v", it)
	}
	var s AlertsStatus
	r.call("GET", "/api/v1/alerts", &s)
	if len(s.Firing) != 1 || len(s.History) != 1 || s.History[0].Sent["pager"].State != notify.Delivered {
		t.Errorf("%+v", s)
	}
	r.stop()
	r.append("logs/pay/b.log", errorLines(20))
	r.start()
	r.eventually("all lines read", func() bool { return r.agent.metrics.input("apps").lines.Load() == 20 })
	r.call("POST", "/api/v1/notify?timeout=5s&text=after", nil)
	if n := p.count(); n != 1 || len(p.texts) != 1 {
		t.Errorf("after a restart: %d notices, %q", n, p.texts)
	}
}

func TestNoticeThatWasNotSentIsSentAfterTheRestart(t *testing.T) {
	r := newRig(t)
	p := r.page()
	p.down = true
	r.mkdir("logs/pay")
	r.configure(alerting)
	r.start()
	r.append("logs/pay/a.log", errorLines(10))
	r.eventually("a failed try", func() bool {
		var s AlertsStatus
		r.call("GET", "/api/v1/alerts", &s)
		return len(s.History) == 1 && s.History[0].Sent["pager"].Error != ""
	})
	r.stop()
	p.down = false
	r.start()
	r.eventually("the notice", func() bool { return p.count() == 1 })
}

func TestOldLinesPageNobody(t *testing.T) {
	r := newRig(t)
	p := r.page()
	r.mkdir("logs/pay")
	r.configure(alerting)
	old := strings.Repeat("2020-01-01T00:00:00.000Z FATAL [main] x - gone\n", 100)
	r.append("logs/pay/a.log", old)
	r.start()
	r.eventually("the old lines read", func() bool { return r.agent.metrics.input("apps").lines.Load() == 100 })
	r.append("logs/pay/a.log", errorLines(10))
	r.eventually("the fresh incident", func() bool { return p.count() == 1 })
	if it := p.got[0]; it.Incident.Began.Year() == 2020 {
		t.Errorf("%+v", it)
	}
}

func TestOutputThatIsDownHoldsNoAlertBack(t *testing.T) {
	r := newRig(t)
	p := r.page()
	r.mkdir("logs/pay")
	r.basin("out").broke(fmt.Errorf("down"))
	r.configure(strings.Replace(alerting, "keep: [fatal], ", "", 1))
	r.append("logs/pay/a.log", strings.Repeat("2020-01-01T00:00:00.000Z INFO [main] x - "+strings.Repeat("y", 1000)+"\n", 40_000))
	r.append("logs/pay/a.log", errorLines(10))
	r.start()
	r.eventually("the notice", func() bool { return p.count() == 1 })
}

func TestReloadKeepsTheWindowAndTakesTheNewRule(t *testing.T) {
	r := newRig(t)
	p := r.page()
	r.mkdir("logs/pay")
	r.configure(alerting)
	r.start()
	r.append("logs/pay/a.log", errorLines(9))
	r.eventually("nine lines read", func() bool { return r.agent.metrics.input("apps").lines.Load() == 9 })
	r.configure(strings.Replace(alerting, "notify:", "  many: {when: count() >= 3, where: project == pay}\nnotify:", 1))
	if err := r.agent.Reload(); err != nil {
		t.Fatal(err)
	}
	r.append("logs/pay/a.log", errorLines(1))
	r.eventually("the notice", func() bool { return p.count() == 1 })
	r.append("logs/pay/a.log", errorLines(2))
	r.eventually("the new rule's", func() bool { return p.count() == 2 })
	if p.got[0].Incident.Rule != "errors" || p.got[1].Incident.Rule != "many" {
		t.Errorf("%s, %s", p.got[0].Headline(), p.got[1].Headline())
	}
}

func TestSilenceOverTheSocket(t *testing.T) {
	r := newRig(t)
	p := r.page()
	r.mkdir("logs/pay")
	r.configure(alerting)
	r.start()
	q := url.Values{"match": {"team=web", "project=pay"}, "for": {"1h"}, "author": {"me"}}
	var s notify.Silence
	if status := r.call("POST", "/api/v1/silences?"+q.Encode(), &s); status != http.StatusOK || s.ID == "" {
		t.Fatal(status, s)
	}
	if status := r.call("POST", "/api/v1/silences?for=1h&author=me", nil); status != http.StatusBadRequest {
		t.Errorf("without a matcher: %d", status)
	}
	r.append("logs/pay/a.log", errorLines(10))
	r.eventually("a silenced notice", func() bool {
		var s AlertsStatus
		r.call("GET", "/api/v1/alerts", &s)
		return len(s.History) == 1 && s.History[0].Silence != ""
	})
	if status := r.call("DELETE", "/api/v1/silences/"+s.ID, nil); status != http.StatusOK {
		t.Errorf("expire: %d", status)
	}
	if status := r.call("DELETE", "/api/v1/silences/"+s.ID, nil); status != http.StatusNotFound {
		t.Errorf("expire again: %d", status)
	}
	if n := p.count(); n != 0 {
		t.Errorf("%d notices", n)
	}
}

// A file's birth is a commit of its own. Between the moment at which the positions
// are taken and that at which the windows are, it must not bring the positions to
// disk: after a crash the lines before them would be counted by nobody.
func TestBirthOfAFileSavesNoPositionWithoutItsWindow(t *testing.T) {
	r := newRig(t)
	r.page()
	r.mkdir("logs/pay")
	r.configure(alerting)
	r.start()
	r.append("logs/pay/a.log", errorLines(3))
	path := filepath.Join(r.dir, "logs/pay/a.log")
	offset := func() int64 { // that the journal has of a.log
		at := int64(-1)
		r.agent.journal.Range(func(key string, value []byte) {
			var e struct {
				Path string
				Pos  map[string]struct{ Off int64 }
			}
			if json.Unmarshal(value, &e) == nil && e.Path == path {
				at = e.Pos["out"].Off
			}
		})
		return at
	}
	size := int64(len(errorLines(3)))
	r.eventually("the position saved", func() bool { return offset() == size })
	files := func() (n int) {
		r.agent.journal.Range(func(key string, _ []byte) {
			if strings.HasPrefix(key, "file/") {
				n++
			}
		})
		return n
	}
	unlocked := sync.OnceFunc(r.agent.alerts.mu.Unlock)
	r.agent.alerts.mu.Lock() // a checkpoint takes the positions, and waits for the windows
	defer unlocked()
	r.append("logs/pay/a.log", errorLines(3))
	r.eventually("the position taken", func() bool {
		for _, f := range r.agent.allFlows() {
			if f.file.Progress().Pos["out"].Off == 2*size {
				return true
			}
		}
		return false
	})
	was := files()
	r.append("logs/pay/b.log", "")
	r.append("logs/pay/b.log", errorLines(1))
	r.eventually("the birth of b.log", func() bool { return files() > was })
	if at := offset(); at != size {
		t.Errorf("the position %d is saved, and the windows know nothing of it", at)
	}
	unlocked()
	r.eventually("the checkpoint", func() bool { return offset() == 2*size })
}
