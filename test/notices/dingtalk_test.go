package notices

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	robotToken  = "c0ffee00c0ffee00c0ffee00c0ffee00"
	robotSecret = "SECdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)

// robot answers as DingTalk's custom robots do: it checks the token, the signature as
// the documentation describes it, the size and the number of messages in a minute, and
// always answers with the status 200.
type robot struct {
	mu    sync.Mutex
	mood  int // an errcode, or a status from 400 to 599; 0: none
	times []time.Time
	texts []string // that were taken
	tries int
}

func (r *robot) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.mood >= 400 && r.mood < 600 {
		http.Error(w, "the address was "+req.URL.String(), r.mood) // as a proxy before it may say
		return
	}
	code, text := r.verdict(req, body)
	json.NewEncoder(w).Encode(map[string]any{"errcode": code, "errmsg": text})
}

func (r *robot) verdict(req *http.Request, body []byte) (code int, text string) {
	var m struct {
		Type     string `json:"msgtype"`
		Markdown struct{ Title, Text string }
	}
	q := req.URL.Query()
	ms, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
	mac := hmac.New(sha256.New, []byte(robotSecret))
	mac.Write([]byte(q.Get("timestamp") + "\n" + robotSecret))
	switch {
	case r.mood != 0:
		return r.mood, "mood of " + req.URL.String()
	case q.Get("access_token") != robotToken:
		return 300001, "token is not exist"
	case time.Since(time.UnixMilli(ms)).Abs() > time.Hour:
		return 310000, "invalid timestamp"
	case q.Get("sign") != base64.StdEncoding.EncodeToString(mac.Sum(nil)):
		return 310000, "sign not match"
	case req.Header.Get("Content-Type") != "application/json; charset=utf-8":
		return 43004, "need a content type of json"
	case json.Unmarshal(body, &m) != nil || m.Type != "markdown" || m.Markdown.Title == "" || m.Markdown.Text == "":
		return 40035, "invalid parameters"
	case len(body) > 20_000:
		return 460101, "message too long, exceed 20000 bytes"
	}
	now := time.Now()
	for len(r.times) > 0 && now.Sub(r.times[0]) > time.Minute {
		r.times = r.times[1:]
	}
	if len(r.times) >= 20 {
		return 130101, "send too fast, exceed 20 times per minute"
	}
	r.times, r.texts = append(r.times, now), append(r.texts, m.Markdown.Text)
	return 0, "ok"
}

func (r *robot) be(mood int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mood = mood
}

// heard are the texts that were taken, and how often it was tried.
func (r *robot) heard() ([]string, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.texts...), r.tries
}

const withRobot = `
inputs: {apps: {files: '$DIR/logs/{project}/*.log', format: json}}
alerts: {app-errors: {per: project, when: error >= 10 or fatal >= 1, labels: {team: web}}}
notify:
  oncall: {dingtalk: {webhook: '%s/robot/send?access_token=%s', secret: %s, mobiles: ['13800000000']}%s}
`

// TestStormReachesDingTalkInFewMessages: fifty projects fail at once. The first notice
// leaves at once, the others in few messages, and each project is told once.
func TestStormReachesDingTalkInFewMessages(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), new(robot)
	s := httptest.NewServer(r)
	defer s.Close()
	w.configure(fmt.Sprintf(withRobot, s.URL, robotToken, robotSecret, ""))
	w.start()
	const projects = 50
	for i := range projects {
		w.log(fmt.Sprintf("p%02d", i), "error", 9, time.Now())
	}
	w.eventually("the lines", func() error {
		m, err := w.agent.Metrics()
		if err == nil && m.Sum("read_lines_total") < 9*projects {
			err = fmt.Errorf("%v read", m.Sum("read_lines_total"))
		}
		return err
	})
	if texts, _ := r.heard(); len(texts) > 0 {
		t.Fatalf("nine lines gave a message: %s", texts)
	}
	began := time.Now()
	w.log("p00", "fatal", 1, time.Now())
	w.eventually("the first notice", func() error { return atLeast(r, 1) })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a fatal line was told after %v", took)
	}
	for i := 1; i < projects; i++ {
		w.log(fmt.Sprintf("p%02d", i), "error", 1, time.Now())
	}
	told := func() (missing int, all string) {
		texts, _ := r.heard()
		all = strings.Join(texts, "\n")
		for i := range projects {
			if !strings.Contains(all, fmt.Sprintf("project=p%02d", i)) {
				missing++
			}
		}
		return missing, all
	}
	w.eventually("every project", func() error {
		if missing, _ := told(); missing > 0 {
			return fmt.Errorf("%d projects are not told", missing)
		}
		return nil
	})
	for i := range projects { // they go on failing, within `repeat`
		w.log(fmt.Sprintf("p%02d", i), "error", 5, time.Now())
	}
	w.stop()
	_, all := told()
	for i := range projects {
		if n := strings.Count(all, fmt.Sprintf("project=p%02d:", i)); n != 1 {
			t.Errorf("p%02d is told %d times", i, n)
		}
	}
	if texts, tries := r.heard(); len(texts) > 3 || tries != len(texts) {
		t.Errorf("%d messages, %d tries", len(texts), tries)
	}
	contains(t, "message", all, "@13800000000", "error = 10 (limit: >= 10)", "#### (FIRING) app-errors project=p00: error = 9")
}

func atLeast(r *robot, n int) error {
	if texts, tries := r.heard(); len(texts) < n {
		return fmt.Errorf("%d messages of %d tries", len(texts), tries)
	}
	return nil
}

// TestDingTalkOutOfOrderIsNoSecret: what the robot answers is told to the operator, with
// what to do, and neither its token nor its secret stands anywhere.
func TestDingTalkOutOfOrderIsNoSecret(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), new(robot)
	s := httptest.NewServer(r)
	defer s.Close()
	w.configure(fmt.Sprintf(withRobot, s.URL, robotToken, "SECfalse-false-false-false", ""))
	w.start()
	w.log("pay", "fatal", 1, time.Now())
	w.eventually("the reason in the history", func() error {
		out := w.command("alerts", "-c", w.Config())
		if !strings.Contains(out, "errcode 310000: sign not match; compare the robot's security settings") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	for _, mood := range []int{500, 502, 400093} {
		_, before := r.heard()
		r.be(mood)
		w.command("silence", "list", "-c", w.Config())
		w.eventually("another try", func() error {
			if _, tries := r.heard(); tries == before {
				return fmt.Errorf("%d tries", tries)
			}
			return nil
		})
	}
	s.CloseClientConnections()
	r.be(0)
	w.configure(fmt.Sprintf(withRobot, s.URL, robotToken, robotSecret, "")) // it is corrected
	w.eventually("the notice", func() error { return atLeast(r, 1) })
	if texts, _ := r.heard(); len(texts) != 1 {
		t.Errorf("%d messages", len(texts))
	}
	w.secretless(robotToken, robotSecret, "SECfalse")
}

// secretless wants that nothing that the agent says holds one of the secrets.
func (w *world) secretless(secrets ...string) {
	w.Helper()
	said, err := os.ReadFile(w.LogFile())
	w.check(err)
	for _, path := range []string{"/", "/metrics", "/readyz", "/api/v1/status", "/api/v1/alerts", "/api/v1/silences"} {
		body, err := w.agent.Get(path)
		w.check(err)
		said = append(said, body...)
	}
	said = append(said, w.command("alerts", "-c", w.Config())...)
	said = append(said, w.command("status", "-c", w.Config())...)
	for _, secret := range secrets {
		if i := strings.Index(string(said), secret); i >= 0 {
			w.Errorf("a secret is told: ..%s..", said[max(0, i-200):min(len(said), i+200)])
		}
	}
}

// TestSilenceOverARestart: what a silence matches is not sent, by whoever began it, until
// it ends; the others are.
func TestSilenceOverARestart(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), new(robot)
	s := httptest.NewServer(r)
	defer s.Close()
	w.configure(fmt.Sprintf(withRobot, s.URL, robotToken, robotSecret, ""))
	w.start()
	id := strings.Fields(w.command("silence", "add", "-c", w.Config(), "--for", "2h", "--author", "ann", "--comment", "db moves", "team=web", "project=~pay.*"))[0]
	w.agent.Kill()
	w.start()
	contains(t, "list", w.command("silence", "list", "-c", w.Config()), id, "ann", "team=web project=~pay.*", "db moves")
	w.log("payments", "fatal", 1, time.Now())
	w.log("shop", "fatal", 1, time.Now())
	w.eventually("the notice of the other", func() error { return atLeast(r, 1) })
	w.eventually("the silenced one in the history", func() error {
		out := w.command("alerts", "-c", w.Config())
		if !strings.Contains(out, "silenced "+id+" by ann") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if texts, _ := r.heard(); len(texts) != 1 || !strings.Contains(texts[0], "project=shop") || strings.Contains(texts[0], "payments") {
		t.Errorf("%q", texts)
	}
	w.command("silence", "expire", "-c", w.Config(), id)
	w.log("payroll", "fatal", 1, time.Now())
	w.eventually("a notice after the silence", func() error { return atLeast(r, 2) })
	var status struct{ History []json.RawMessage }
	body, err := w.agent.Get("/api/v1/alerts")
	w.check(err)
	w.check(json.Unmarshal(body, &status))
	if len(status.History) != 3 {
		t.Errorf("%d notices in the history", len(status.History))
	}
}
