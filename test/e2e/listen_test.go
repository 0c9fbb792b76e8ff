package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// receiving is a configuration with all kinds of listeners. The addresses are free
// ones.
type receiving struct{ http, forward, syslog, otlp string }

func newReceiving(w *world) receiving {
	return receiving{freeAddr(w), freeAddr(w), freeAddr(w), freeAddr(w)}
}

// startReceiving starts an agent that listens in all ways, and writes to a file.
func startReceiving(t *testing.T) (*world, receiving) {
	t.Helper()
	w := newBareWorld(t)
	r := newReceiving(w)
	w.config(r.inputs("") + fileOutput)
	w.start()
	return w, r
}

// inputs are the input sections; more is added to that of http.
func (r receiving) inputs(more string) string {
	return fmt.Sprintf(`
inputs:
  web: {http: {listen: '%s', tokens: [sesame]}%s}
  fwd: {forward: {listen: '%s'}}
  sys: {syslog: {listen: 'tcp://%s'}}
  otel: {otlp: {listen: '%s', tokens: [sesame]}}
`, r.http, more, r.forward, r.syslog, r.otlp)
}

// sender posts numbered lines and repeats, under the same key, what it had no answer
// for.
type sender struct {
	*rig.Lines
	w       *world
	url     string
	kind    string // Content-Type
	want    int    // the status that says yes
	wrap    func(lines []byte) []byte
	client  http.Client
	repeats int
}

func (s *sender) send(count, pad int) {
	body := s.Append(nil, count, pad)
	if s.wrap != nil {
		body = s.wrap(body)
	}
	key := fmt.Sprintf("%s-%d", s.ID, s.N)
	s.w.check(rig.Poll(s.w.ctx, "an answer", func() error {
		r, err := http.NewRequestWithContext(s.w.ctx, "POST", s.url, bytes.NewReader(body))
		if err != nil {
			return rig.Final(err)
		}
		r.Header.Set("Authorization", "Bearer sesame")
		r.Header.Set("Content-Type", s.kind)
		r.Header.Set("Idempotency-Key", key)
		resp, err := s.client.Do(r)
		if err != nil {
			s.repeats++
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		switch {
		case err != nil || resp.StatusCode >= 500 || resp.StatusCode == 429:
			s.repeats++
			return fmt.Errorf("%s: %s", resp.Status, text)
		case resp.StatusCode != s.want:
			return rig.Final(fmt.Errorf("%s: %s", resp.Status, text))
		}
		return nil
	}))
}

// otlpBody puts each line into the body of a log record.
func otlpBody(lines []byte) []byte {
	var records []string
	for line := range bytes.Lines(lines) {
		text, _ := json.Marshal(string(bytes.TrimSpace(line)))
		records = append(records, fmt.Sprintf(`{"severityNumber":9,"body":{"stringValue":%s}}`, text))
	}
	return fmt.Appendf(nil, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}`, strings.Join(records, ","))
}

// chunks sends numbered records by the forward protocol, each chunk again until it has
// its ack.
type chunks struct {
	*rig.Lines
	w       *world
	addr    string
	tls     *tls.Config // nil sends in plain
	conn    net.Conn
	repeats int
}

func (c *chunks) send(count int) {
	var entries []byte
	for line := range bytes.Lines(c.Append(nil, count, 10)) {
		// [1700000000, {"log": LINE}]
		entries = append(entries, 0x92, 0xce, 0x65, 0x53, 0xf1, 0x00, 0x81, 0xa3, 'l', 'o', 'g', 0xd9, byte(len(line)-1))
		entries = append(entries, line[:len(line)-1]...)
	}
	id := fmt.Sprintf("%s%06d", c.ID, c.N)
	m := []byte{0x93, 0xa3, 't', 'a', 'g', 0xc6, byte(len(entries) >> 24), byte(len(entries) >> 16), byte(len(entries) >> 8), byte(len(entries))}
	m = append(m, entries...)
	m = append(append(append(m, 0x81, 0xa5), "chunk"...), 0xa0|byte(len(id)))
	m = append(m, id...)
	want := append(append([]byte("\x81\xa3ack"), 0xa0|byte(len(id))), id...)
	c.w.check(rig.Poll(c.w.ctx, "an ack", func() (err error) {
		if c.conn == nil {
			if c.conn, err = net.DialTimeout("tcp", c.addr, time.Second); err != nil {
				return err
			}
			if c.tls != nil {
				config := c.tls.Clone()
				config.ServerName = "127.0.0.1"
				c.conn = tls.Client(c.conn, config)
			}
		}
		c.conn.SetDeadline(time.Now().Add(5 * time.Second))
		got := make([]byte, len(want))
		if _, err = c.conn.Write(m); err == nil {
			_, err = io.ReadFull(c.conn, got)
		}
		if err != nil {
			c.repeats++
			c.conn.Close()
			c.conn = nil
			return err
		}
		if !bytes.Equal(got, want) {
			return rig.Final(fmt.Errorf("the ack is %q, want %q", got, want))
		}
		return nil
	}))
}

// TestKillsWhileLinesAreSent kills the agent at random moments while senders of three
// protocols send numbered lines and repeat what they had no answer for, and while one of
// two outputs takes nothing until the end. Each of both has every acknowledged line once.
func TestKillsWhileLinesAreSent(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	r := newReceiving(w)
	w.config(r.inputs("") + `
shutdown_timeout: 300ms
outputs:
  up: {file: {path: '$DIR/up.ndjson'}}
  down: {file: {path: '$DIR/dir/down.ndjson'}}
`)
	rng := rand.New(rand.NewPCG(seed(t), 2))
	w.check(os.WriteFile(w.path("dir"), nil, 0o644)) // where a directory would be made
	w.start()
	senders := []*sender{
		{Lines: &rig.Lines{ID: "ndjson"}, url: "http://" + r.http + "/v1/logs/shop", kind: "application/x-ndjson", want: 202},
		{Lines: &rig.Lines{ID: "array"}, url: "http://" + r.http + "/v1/logs/pay", kind: "application/json", want: 202, wrap: func(lines []byte) []byte {
			return fmt.Appendf(nil, "[%s]", strings.ReplaceAll(strings.TrimSpace(string(lines)), "\n", ","))
		}},
		{Lines: &rig.Lines{ID: "otlp"}, url: "http://" + r.otlp + "/v1/logs", kind: "application/json", want: 200, wrap: otlpBody},
	}
	forward := &chunks{Lines: &rig.Lines{ID: "fwd"}, w: w, addr: r.forward}
	var stop atomic.Bool
	var work sync.WaitGroup
	for _, s := range senders {
		s.w = w
		work.Go(func() {
			for !stop.Load() {
				s.send(20, 50)
			}
		})
	}
	work.Go(func() {
		for !stop.Load() {
			forward.send(20)
		}
	})
	until := time.Now().Add(max(torture(), 4*time.Second))
	for round := 0; time.Now().Before(until); round++ {
		w.pause(time.Duration(100+rng.IntN(700)) * time.Millisecond)
		if round%4 == 3 {
			w.check(w.agent.Signal(syscall.SIGTERM))
			if _, err := w.agent.Wait(w.ctx); err != nil {
				t.Error(err)
				break
			}
		} else {
			w.agent.Kill()
		}
		w.start()
	}
	stop.Store(true)
	work.Wait()
	if t.Failed() {
		return
	}
	repeats := forward.repeats
	all := []*rig.Lines{forward.Lines}
	for _, s := range senders {
		repeats += s.repeats
		all = append(all, s.Lines)
	}
	if repeats == 0 {
		t.Error("no sender had to repeat anything")
	}
	w.check(os.Remove(w.path("dir")))
	for _, name := range []string{"up.ndjson", "dir/down.ndjson"} {
		w.check(rig.Poll(w.ctx, "every line in "+name, func() error {
			tally, err := rig.Count(w.path(name))
			if err != nil {
				return rig.Final(err)
			}
			return tally.Clean(nil, all...)
		}))
		tally, err := rig.Count(w.path(name))
		w.check(err)
		if err := tally.Exact(nil, all...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.stop(0)
}

// received reads what was delivered to DIR/out.ndjson, once there are so many.
func (w *world) received(n int) (docs []map[string]any) {
	w.Helper()
	w.check(rig.Poll(w.ctx, "the documents", func() error {
		data, err := os.ReadFile(w.path("out.ndjson"))
		if err != nil {
			return err
		}
		docs = docs[:0]
		for line := range bytes.Lines(data) {
			var doc map[string]any
			if err := json.Unmarshal(line, &doc); err != nil {
				return err
			}
			docs = append(docs, doc)
		}
		if len(docs) < n {
			return fmt.Errorf("%d of %d documents", len(docs), n)
		}
		return nil
	}))
	return docs
}

// has wants the keys of a document to have these values.
func (w *world) has(doc map[string]any, pairs ...any) {
	w.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := doc[pairs[i].(string)]; got != pairs[i+1] {
			w.Errorf("%s is %v, want %v, in %v", pairs[i], got, pairs[i+1], doc)
		}
	}
}

// post sends a body to the http input.
func (r receiving) post(w *world, project, kind, body string) (int, string) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, "POST", "http://"+r.http+"/v1/logs/"+project, strings.NewReader(body))
	w.check(err)
	req.Header.Set("Authorization", "Bearer sesame")
	req.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.check(err)
	return resp.StatusCode, string(text)
}

func (r receiving) accepted(w *world, project, kind, body string) {
	w.Helper()
	if status, answer := r.post(w, project, kind, body); status != 202 {
		w.Fatalf("%d %s", status, answer)
	}
}

// TestReceivedDocuments looks at what becomes of what is sent: levels, times, projects,
// formats, keep, and that alerts see it.
func TestReceivedDocuments(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	r := newReceiving(w)
	w.config(r.inputs(", keep: [warn, error], fields: {env: prod}") + fileOutput + `
alerts:
  errors: {per: project, when: error >= 2, within: 1m}
`)
	w.start()
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	r.accepted(w, "shop", "application/x-ndjson", fmt.Sprintf(`{"@timestamp":"%s","level":"error","msg":"no stock","trace_id":"t1","id":"theirs"}
{"level":"info","msg":"not kept"}
{"level":"warn","msg":"few","user":{"name":"u"}}
broken {
`, now))
	r.accepted(w, "pay", "text/plain", now+" ERROR [main] c.x.Pay - declined request_id=r7\njava.lang.IllegalStateException: no\n\tat a.b.C(C.java:1)\n"+
		`10.0.0.1 - - [25/Nov/2026:10:00:00 +0000] "GET /a?b=c HTTP/1.1" 502 12 "-" "curl"`+"\n")
	docs := w.received(5)
	if len(docs) != 5 {
		t.Fatalf("%d documents: %v", len(docs), docs)
	}
	w.has(docs[0], "@timestamp", now, "level", "error", "message", "no stock", "request_id", "t1", "project", "shop", "env", "prod", "input", "web", "host", "rig", "orig_id", "theirs")
	w.has(docs[1], "level", "warn", "user.name", "u")
	w.has(docs[2], "message", "broken {", "parse_error", "not a JSON object", "project", "shop")
	w.has(docs[3], "level", "error", "request_id", "r7", "project", "pay", "@timestamp", now)
	if m, _ := docs[3]["message"].(string); !strings.Contains(m, "declined") || !strings.Contains(m, "\tat a.b.C") {
		t.Errorf("the stack trace is not joined: %v", docs[3])
	}
	w.has(docs[4], "status_code", 502.0, "path", "/a", "query", "b=c", "@timestamp", "2026-11-25T10:00:00.000Z")
	m := w.metrics()
	if lines, kept := m.Sum("read_lines_total", `input="web"`), m.Sum("kept_lines_total", `input="web"`); lines != 6 || kept != 5 {
		t.Errorf("%v lines are counted as read, %v as kept", lines, kept)
	}
	if n := m.Sum("log_lines_total", `project="shop"`, `level="error"`); n != 1 {
		t.Errorf("%v errors are counted for shop", n)
	}
	r.accepted(w, "shop", "application/json", fmt.Sprintf(`{"time":"%s","level":"error","msg":"again"}`, now))
	w.check(rig.Poll(w.ctx, "the alert", func() error {
		if w.metrics().Sum("alerts_firing", `rule="errors"`) != 1 {
			return errors.New("it does not fire")
		}
		return nil
	}))
	w.stop(0)
	// The same state again: nothing is sent twice.
	w.start()
	r.accepted(w, "shop", "application/json", `{"level":"error","msg":"the last"}`)
	if docs = w.received(7); len(docs) != 7 {
		t.Errorf("%d documents after a restart", len(docs))
	}
	w.stop(0)
}

// TestReloadsOfListeners: a listener that does not change stays open under its senders'
// connections, one that is removed closes and its lines are delivered all the same, one
// that changes is opened anew.
func TestReloadsOfListeners(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	r := newReceiving(w)
	outputs := `
outputs:
  out: {file: {path: '$DIR/dir/out.ndjson'}}
`
	w.check(os.WriteFile(w.path("dir"), nil, 0o644)) // nothing is delivered at first
	w.config(r.inputs("") + outputs)
	w.start()
	c, err := net.Dial("tcp", r.syslog)
	w.check(err)
	defer c.Close()
	fmt.Fprint(c, "<11>before\n")
	s := &sender{Lines: &rig.Lines{ID: "x"}, w: w, url: "http://" + r.http + "/v1/logs/shop", kind: "application/x-ndjson", want: 202}
	s.send(5000, 50)
	reload := func(config string, n int) {
		t.Helper()
		w.config(config)
		w.check(w.agent.Signal(syscall.SIGHUP))
		w.check(rig.Poll(w.ctx, "the reload", func() error {
			if got := w.LogCount("configuration reloaded"); got < n {
				return fmt.Errorf("%d reloads", got)
			}
			return nil
		}))
	}
	// web is gone, fwd is elsewhere, sys has other fields.
	elsewhere := freeAddr(w)
	config := r.inputs("") + outputs
	lines := strings.Split(config, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "  web:"):
			lines[i] = ""
		case strings.HasPrefix(line, "  fwd:"):
			lines[i] = strings.Replace(line, r.forward, elsewhere, 1)
		case strings.HasPrefix(line, "  sys:"):
			lines[i] = strings.Replace(line, "}}", "}, fields: {env: prod}}", 1)
		}
	}
	reload(strings.Join(lines, "\n"), 1)
	w.check(rig.Poll(w.ctx, "the listener to close", func() error {
		if status, _ := r.post(w, "shop", "text/plain", "late"); status != 0 {
			return fmt.Errorf("answered with %d", status)
		}
		return nil
	}))
	if _, err := net.DialTimeout("tcp", elsewhere, time.Second); err != nil {
		t.Errorf("the changed listener: %v", err)
	}
	if _, err := net.DialTimeout("tcp", r.forward, time.Second); err == nil {
		t.Error("the changed listener is still where it was")
	}
	if _, err := fmt.Fprint(c, "<11>after\n"); err != nil {
		t.Error(err)
	}
	w.check(rig.Poll(w.ctx, "the line over the old connection", func() error {
		if n := w.metrics().Sum("listen_answers_total", `input="sys"`, `answer="ok"`); n < 2 {
			return fmt.Errorf("%v messages were taken", n)
		}
		return nil
	}))
	w.agent.Kill() // what the removed input has received is not forgotten over that
	w.start()
	w.check(os.Remove(w.path("dir")))
	w.check(rig.Poll(w.ctx, "every line", func() error {
		tally, err := rig.Count(w.path("dir/out.ndjson"))
		if err != nil {
			return err
		}
		return tally.Clean(nil, s.Lines)
	}))
	tally, err := rig.Count(w.path("dir/out.ndjson"))
	w.check(err)
	if err := tally.Exact(nil, s.Lines); err != nil {
		t.Error(err)
	}
	w.check(rig.Poll(w.ctx, "the spool to be removed", func() error {
		if _, err := os.Stat(w.path("state", "spool", "web")); err == nil {
			return errors.New("it is there")
		}
		return nil
	}))
	data, err := os.ReadFile(w.path("dir/out.ndjson"))
	w.check(err)
	for _, text := range []string{`"message":"before"`, `"message":"after"`} {
		if n := bytes.Count(data, []byte(text)); n != 1 {
			t.Errorf("%s is there %d times", text, n)
		}
	}
	w.stop(0)
}

// TestFullSpoolHoldsSendersBack: with the output down the spool fills to its limit, and
// no further; senders are told 429, and nothing is lost or doubled when it is back.
func TestFullSpoolHoldsSendersBack(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	addr := freeAddr(w)
	w.config(fmt.Sprintf(`
inputs:
  web: {http: {listen: '%s', spool: 4MiB, max_body: 1MiB}}
outputs:
  out: {file: {path: '$DIR/dir/out.ndjson'}}
`, addr))
	w.check(os.WriteFile(w.path("dir"), nil, 0o644))
	w.start()
	lines := &rig.Lines{ID: "x"}
	full, sent := 0, 0
	for full == 0 {
		body := lines.Append(nil, 500, 900)
		resp, err := http.Post("http://"+addr+"/v1/logs/shop", "application/x-ndjson", bytes.NewReader(body))
		w.check(err)
		resp.Body.Close()
		switch resp.StatusCode {
		case 202:
			sent += len(body)
		case 429:
			if resp.Header.Get("Retry-After") == "" {
				t.Error("a 429 without Retry-After")
			}
			full++
			lines.N -= 500
		default:
			t.Fatal(resp.Status)
		}
		if sent > 8<<20 {
			t.Fatal("the spool has no end")
		}
	}
	if n := w.metrics().Sum("spool_bytes", `input="web"`); n > 4<<20 || n < 3<<20 {
		t.Errorf("the spool has %v bytes", n)
	}
	p, err := w.agent.Proc()
	w.check(err)
	if p.RSS > 320<<20 {
		t.Errorf("%d MiB of memory", p.RSS>>20)
	}
	w.check(os.Remove(w.path("dir")))
	w.delivered("dir/out.ndjson", &rig.Log{Lines: lines})
	w.check(rig.Poll(w.ctx, "room in the spool", func() error {
		if n := w.metrics().Sum("spool_bytes", `input="web"`); n > 2<<20 {
			return fmt.Errorf("it has %v bytes", n)
		}
		return nil
	}))
	w.stop(0)
}

// TestTheAgeOfWhatWaitsOutlivesARestart: what was received before it and is not delivered
// does not count as new, or an agent that is killed again and again would hide the lag.
func TestTheAgeOfWhatWaitsOutlivesARestart(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	r := newReceiving(w)
	w.config(r.inputs("") + "outputs:\n  out: {file: {path: '$DIR/dir/out.ndjson'}}\n")
	w.check(os.WriteFile(w.path("dir"), nil, 0o644)) // nothing is delivered
	w.start()
	r.accepted(w, "shop", "application/json", `{"time":"2026-11-25T10:00:00Z","message":"of an old time"}`)
	r.accepted(w, "shop", "text/plain", "of no time")
	waits := func() float64 { return w.metrics().Sum("file_lag_seconds", `input="web"`) }
	w.check(rig.Poll(w.ctx, "some age", func() error {
		if age := waits(); age < 3 {
			return fmt.Errorf("%v seconds", age)
		}
		return nil
	}))
	w.agent.Kill()
	w.start()
	up := time.Now()
	w.check(rig.Poll(w.ctx, "the age that it has", func() error {
		if age := waits(); age < 3+time.Since(up).Seconds() {
			return fmt.Errorf("%v seconds, %v after the start", age, time.Since(up))
		} else if age > 3600 {
			return rig.Final(fmt.Errorf("%v seconds: that is the event's age", age))
		}
		return nil
	}))
	w.agent.Kill()
}

// TestDamagedSpoolCostsWhatIsDamaged: bits that rot on the disk cost the requests they
// hit, which are counted; all others are delivered, and the agent starts and goes on.
func TestDamagedSpoolCostsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	r := newReceiving(w)
	w.config(r.inputs("") + "shutdown_timeout: 200ms\noutputs:\n  out: {file: {path: '$DIR/dir/out.ndjson'}}\n")
	w.check(os.WriteFile(w.path("dir"), nil, 0o644)) // nothing is delivered at first
	w.start()
	s := &sender{Lines: &rig.Lines{ID: "x"}, w: w, url: "http://" + r.http + "/v1/logs/shop", kind: "application/x-ndjson", want: 202}
	for range 50 {
		s.send(10, 50)
	}
	w.agent.Kill()
	names, err := filepath.Glob(w.path("state/spool/web/*.spool"))
	if err != nil || len(names) != 1 {
		t.Fatalf("the spool has the files %v, %v", names, err)
	}
	data, err := os.ReadFile(names[0])
	w.check(err)
	data[len(data)/2] ^= 0x10
	w.check(os.WriteFile(names[0], append(data, "torn"...), 0o600))
	w.start()
	w.check(os.Remove(w.path("dir")))
	s.send(10, 50)
	hit := -1 // the number of the request that was hit
	w.check(rig.Poll(w.ctx, "all lines but ten", func() error {
		tally, err := rig.Count(w.path("dir/out.ndjson"))
		if err != nil {
			return err
		}
		for request := range 50 {
			if tally.Clean(func(_ string, n int) bool { return n/10 == request }, s.Lines) == nil {
				hit = request
				return tally.Exact(func(_ string, n int) bool { return n/10 == hit }, s.Lines)
			}
		}
		return fmt.Errorf("%d documents", tally.Documents)
	}))
	if n := w.metrics().Sum("abandoned_bytes_total", `reason="spool_damaged"`); n < 500 || n > 2500 {
		t.Errorf("%v bytes are counted as damaged", n)
	}
	if w.LogCount("the spool is damaged") == 0 || w.LogCount("torn by a crash") != 1 {
		t.Error("the log does not tell of it")
	}
	out, errs, code := w.command("audit", "--state", w.State(), "--json")
	if code != 0 || !strings.Contains(out, `"input": "web"`) {
		t.Errorf("audit ends with %d: %s %s", code, out, errs)
	}
	w.stop(0)
}
