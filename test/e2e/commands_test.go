package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

func TestCheckNamesEveryProblem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	if _, errs, code := w.command("check", "-c", w.Config()); code != 0 {
		t.Errorf("a right configuration: code %d, %s", code, errs)
	}
	w.config("inputs:\n  app:\n    fiels: ['x']\n    keep: [wran]\noutputs:\n  out: {file: {path: x}}\n")
	out, errs, code := w.command("check", "-c", w.Config())
	for _, want := range []string{w.Config() + ":7:", "files", w.Config() + ":8:", "warn"} {
		if !strings.Contains(out+errs, want) {
			t.Errorf("check says nothing of %q:\n%s%s", want, out, errs)
		}
	}
	if code != 1 {
		t.Errorf("check ends with code %d, want 1", code)
	}
	if _, _, code := w.command("run", "-c", w.Config()); code != 1 {
		t.Errorf("run ends with code %d, want 1", code)
	}
}

func TestTryPrintsDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  gateway:\n    files: ['$DIR/logs/*access.log']\n    format: {nginx: combined}\n    keep: [error]\n"+fileOutput)
	good := `203.0.113.7 - - [23/Nov/2026:20:00:00 +0100] "GET /a/b?c=d HTTP/1.1" 404 17 "-" "curl/8"` + "\n"
	sample := w.path("logs", "x-access.log")
	w.check(os.WriteFile(sample, []byte(good+"rubbish\n"), 0o644))
	out, errs, code := w.command("try", "-c", w.Config(), sample)
	if code != 1 || !strings.Contains(errs, "rubbish") {
		t.Errorf("with a line that does not parse: code %d, %s", code, errs)
	}
	first, _, _ := strings.Cut(out, "\n")
	var doc map[string]any
	if err := json.Unmarshal([]byte(first), &doc); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for key, want := range map[string]any{"@timestamp": "2026-11-23T19:00:00.000Z", "method": "GET", "path": "/a/b", "query": "c=d", "http_version": "1.1",
		"status_code": 404., "bytes_sent": 17., "user_agent": "curl/8", "remote_addr": "203.0.113.7", "referer": nil, "project": "gateway", "input": "gateway"} {
		if doc[key] != want {
			t.Errorf("%s is %v, want %v", key, doc[key], want)
		}
	}
	w.check(os.WriteFile(sample, []byte(good), 0o644))
	if _, errs, code := w.command("try", "-c", w.Config(), "--input", "gateway", sample); code != 0 {
		t.Errorf("with right lines: code %d, %s", code, errs)
	}
}

func TestTryReadsRotatedAndCompressedFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  other:\n    files: ['$DIR/other/*.log']\n    format: json\n"+
		"  apps:\n    files: ['$DIR/logs/{project}/app.log']\n    format: plain\n"+fileOutput)
	w.check(os.Mkdir(w.path("logs", "shop"), 0o755))
	for _, name := range []string{"app.log.1", "app.log-20261123.gz"} {
		sample := w.path("logs", "shop", name)
		text := []byte("one\ntwo\n")
		if strings.HasSuffix(name, ".gz") {
			var z bytes.Buffer
			zip := gzip.NewWriter(&z)
			zip.Write(text)
			w.check(zip.Close())
			text = z.Bytes()
		}
		w.check(os.WriteFile(sample, text, 0o644))
		out, errs, code := w.command("try", "-c", w.Config(), sample)
		if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"project":"shop","message":"two"`) {
			t.Errorf("%s: code %d\n%s%s", name, code, out, errs)
		}
	}
}

func TestDrainShipsTheUnfinishedLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: plain\n    line_timeout: 10m\n"+fileOutput)
	l := w.log("app.log")
	w.write(l, 1000, 50)
	w.start()
	w.check(l.WriteString("no end"))
	w.check(w.agent.Drain(w.ctx))
	w.exact(l)
	docs := w.documents(w.path("out.ndjson"))
	last := docs[len(docs)-1]
	if last["message"] != "no end" || last["partial"] != true {
		t.Errorf("the last document is %v", last)
	}
	if _, _, code := w.command("drain", "--state", w.State()); code != 1 {
		t.Errorf("draining an agent that is not there ends with code %d, want 1", code)
	}
	// What follows the piece that was sent is a line of its own, after a restart too.
	w.check(l.WriteString(" yet\n"))
	w.write(l, 10, 0)
	w.start()
	w.exact(l)
	w.waitForText(`"message":" yet"`, 1)
	w.waitForText(`no end yet`, 0)
}

func TestDrainThatCannot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  app:\n    files: ['$DIR/logs/*.log']\n    format: json\n"+toStdout)
	tap := newTap(w)
	l := w.log("app.log")
	w.write(l, 10_000, 500)
	w.start()
	out, errs, code := w.command("drain", "-c", w.Config(), "--timeout", "500ms")
	if code != 3 || !strings.Contains(out, l.Name) {
		t.Errorf("drain ends with code %d, want 3, and prints %q %q, want the file that is left", code, out, errs)
	}
	close(tap.open)
	w.write(l, 10, 0)
	w.exact(l) // the agent has gone on
}

func TestStatusAndHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, oneInput)
	addr := freeAddr(w)
	text, err := os.ReadFile(w.Config())
	w.check(err)
	w.check(os.WriteFile(w.Config(), []byte(strings.Replace(string(text), "listen: ''", "listen: "+addr, 1)), 0o644))
	if _, errs, code := w.command("status", "-c", w.Config()); code != 1 || strings.Count(strings.TrimSpace(errs), "\n") > 0 {
		t.Errorf("status of an agent that does not run: code %d, %q", code, errs)
	}
	l := w.log("a.log")
	w.write(l, 10, 0)
	w.start()
	w.exact(l)
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/": "tailwater", "/metrics": `tailwater_output_lines_total{output="out"} 10`, "/api/v1/status": `"app"`} {
		resp, err := http.Get("http://" + addr + path)
		w.check(err)
		body := new(strings.Builder)
		w.check(resp.Write(body))
		if resp.StatusCode != http.StatusOK || !strings.Contains(body.String(), want) {
			t.Errorf("%s answers %s and says nothing of %q", path, resp.Status, want)
		}
	}
	resp, err := http.Post("http://"+addr+"/api/v1/drain?timeout=1s", "", nil)
	w.check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a drain over HTTP without listen_token answers %s", resp.Status)
	}
	out, errs, code := w.command("status", "-c", w.Config())
	if code != 0 || !strings.Contains(out, "app") {
		t.Errorf("status: code %d, %s%s", code, out, errs)
	}
	out, _, code = w.command("status", "-c", w.Config(), "--json")
	if !json.Valid([]byte(out)) || code != 0 {
		t.Errorf("status --json: code %d, %s", code, out)
	}
	if info, err := os.Stat(w.path("state", "tailwater.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if out, _, code := w.command("version"); code != 0 || !strings.Contains(out, "go1") {
		t.Errorf("version: code %d, %s", code, out)
	}
}

// TestMetricsOfTheContract: dashboards and alerts are built on these names.
func TestMetricsOfTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs:\n  gateway:\n    files: ['$DIR/logs/*.log']\n    format: {nginx: combined}\n"+fileOutput)
	l := w.log("access.log")
	w.check(l.WriteString(`203.0.113.7 - - [23/Nov/2026:20:00:00 +0000] "GET / HTTP/1.1" 502 17 "-" "curl/8"` + "\nrubbish\n"))
	w.start()
	w.waitForText(`"id"`, 2)
	w.accounts(l.Bytes)
	m := w.metrics()
	for name, want := range map[string]float64{
		"read_lines_total": 2, "parse_errors_total": 1, "output_lines_total": 2, "kept_lines_total": 2, "file_lag_bytes": 0,
		"stalled_files": 0, "held_deleted_bytes": 0, "config_last_reload_success": 1, "build_info": 1, "log_lines_total": 2,
	} {
		if got := m.Sum(name); got != want {
			t.Errorf("tailwater_%s adds up to %v, want %v", name, got, want)
		}
	}
	if got := m.Sum("http_requests_total", `project="gateway"`, `status_code="502"`); got != 1 {
		t.Errorf("tailwater_http_requests_total for 502 is %v, want 1", got)
	}
	for _, name := range []string{"read_bytes_total", "queue_bytes", "file_lag_seconds", "kept_lines_total"} {
		if !has(m, "tailwater_"+name) {
			t.Errorf("no metric tailwater_%s", name)
		}
	}
}

func has(m rig.Metrics, name string) bool {
	for key := range m {
		if strings.HasPrefix(key, name) {
			return true
		}
	}
	return false
}
