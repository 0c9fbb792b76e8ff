package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// sendersDir is where senders has built them; it is removed when all tests are done.
var sendersDir string

// senders builds the programs of test/senders, once.
var senders = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tw-senders")
	if err != nil {
		return "", err
	}
	sendersDir = dir
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/", "./...")
	cmd.Dir = "../senders"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build test/senders: %w\n%s", err, out)
	}
	return dir, nil
})

// realSender runs one of them.
func (w *world) realSender(name string, args ...string) {
	w.Helper()
	dir, err := senders()
	w.check(err)
	if out, err := exec.CommandContext(w.ctx, filepath.Join(dir, name), args...).CombinedOutput(); err != nil {
		w.Fatalf("%s: %v\n%s\n%s", name, err, out, w.LogTail())
	}
}

// TestRealFluentClient sends with Fluent's own client, which waits for an ack of each
// record.
func TestRealFluentClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs: {a: {files: [/nothing]}}\noutputs: {a: {discard: {}}}\n")
	r := newReceiving(w)
	w.config(r.inputs("") + fileOutput)
	w.start()
	_, port, _ := net.SplitHostPort(r.forward)
	w.realSender("fluent", "-port", port, "-count", "200")
	docs := w.received(200)
	if len(docs) != 200 {
		t.Fatalf("%d documents", len(docs))
	}
	for n, doc := range docs {
		w.has(doc, "message", fmt.Sprintf("fluent %d", n), "n", float64(n), "nested.k", 1.5, "tag", "shop.app", "level", "warn", "project", "fwd", "@timestamp", "2026-11-25T10:00:00.250Z")
	}
	w.stop(0)
}

// TestRealOpenTelemetrySDK sends with OpenTelemetry's own SDK and exporter, protobuf and
// gzip.
func TestRealOpenTelemetrySDK(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "inputs: {a: {files: [/nothing]}}\noutputs: {a: {discard: {}}}\n")
	r := newReceiving(w)
	w.config(r.inputs("") + fileOutput)
	w.start()
	w.realSender("otel", "-addr", r.otlp, "-token", "sesame", "-count", "200")
	docs := w.received(200)
	if len(docs) != 200 {
		t.Fatalf("%d documents", len(docs))
	}
	for n, doc := range docs {
		w.has(doc, "message", fmt.Sprintf("otel %d", n), "n", float64(n), "nested.k", 1.5, "level", "error", "project", "checkout", "@timestamp", "2026-11-25T10:00:00.250Z",
			"trace_id", "5b8efff798038103d269b633813fc60c", "request_id", "5b8efff798038103d269b633813fc60c", "span_id", "0102030405060708", "scope.name", "sender")
	}
	w.stop(0)
}

// TestRealRsyslog has a real rsyslogd forward what it reads from a socket, octet-counted
// and by lines over TCP and as datagrams.
func TestRealRsyslog(t *testing.T) {
	t.Parallel()
	daemon := realTool(t, "rsyslogd")
	libraries, err := filepath.Glob(filepath.Join(filepath.Dir(daemon), "tree/usr/lib/*/rsyslog"))
	if err != nil || len(libraries) != 1 {
		t.Fatalf("rsyslog's modules: %v, %v", libraries, err)
	}
	w := newWorld(t, "inputs: {a: {files: [/nothing]}}\noutputs: {a: {discard: {}}}\n")
	addr := freeAddr(w)
	w.config(fmt.Sprintf("inputs:\n  sys: {syslog: {listen: ['tcp://%s', 'udp://%s']}}\n", addr, addr) + fileOutput)
	w.start()
	_, port, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf(`
module(load="imfile")
global(workDirectory="%[1]s" localHostname="web-3")
input(type="imfile" file="%[1]s/app.log" tag="shop[17]:" severity="error" facility="local3")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="tcp" tcp_framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="tcp" template="RSYSLOG_ForwardFormat")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="udp" template="RSYSLOG_TraditionalForwardFormat")
`, w.Dir, port)
	w.check(os.WriteFile(w.path("rsyslog.conf"), []byte(conf), 0o644))
	var text strings.Builder
	const lines = 100
	for n := range lines {
		fmt.Fprintf(&text, "order %d failed, request_id=r%d\n", n, n)
	}
	w.check(os.WriteFile(w.path("app.log"), []byte(text.String()), 0o644))
	cmd := exec.Command(daemon, "-n", "-f", w.path("rsyslog.conf"), "-i", w.path("rsyslog.pid"), "-M", libraries[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	w.check(cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("rsyslogd says: %s", log.String())
		}
	}()
	docs := w.received(3 * lines)
	if len(docs) != 3*lines {
		t.Fatalf("%d documents, want %d", len(docs), 3*lines)
	}
	wanted := regexp.MustCompile(`^ ?order (\d+) failed, request_id=r(\d+)$`)
	seen := make(map[string]int)
	for _, doc := range docs {
		w.has(doc, "level", "error", "facility", "local3", "severity", "err", "hostname", "web-3", "app", "shop", "pid", "17", "project", "sys", "peer", "127.0.0.1")
		message, _ := doc["message"].(string)
		m := wanted.FindStringSubmatch(message)
		if m == nil || doc["request_id"] != "r"+m[1] {
			t.Fatalf("%v", doc)
		}
		seen[m[1]]++
	}
	for n := range lines {
		if seen[fmt.Sprint(n)] != 3 {
			t.Errorf("line %d came %d times, want 3", n, seen[fmt.Sprint(n)])
		}
	}
	w.stop(0)
}

// TestRealLogger sends with logger(1), where there is one.
func TestRealLogger(t *testing.T) {
	t.Parallel()
	logger, err := exec.LookPath("logger")
	if err != nil {
		t.Skip("there is no logger(1) here")
	}
	w := newWorld(t, "inputs: {a: {files: [/nothing]}}\noutputs: {a: {discard: {}}}\n")
	addr := freeAddr(w)
	w.config(fmt.Sprintf("inputs:\n  sys: {syslog: {listen: '%s'}}\n", addr) + fileOutput)
	w.start()
	_, port, _ := net.SplitHostPort(addr)
	send := func(args ...string) {
		t.Helper()
		args = append([]string{"--server", "127.0.0.1", "--port", port, "-t", "cron"}, args...)
		if out, err := exec.CommandContext(w.ctx, logger, args...).CombinedOutput(); err != nil {
			t.Fatalf("logger: %v\n%s", err, out)
		}
	}
	send("--tcp", "--octet-count", "--rfc5424", "-p", "daemon.warning", "--msgid", "M1", "--sd-id", "x@1", "--sd-param", `k="v"`, "counted")
	w.received(1)
	send("--tcp", "--rfc3164", "-p", "user.crit", "by line")
	w.received(2)
	send("--udp", "--rfc5424", "-p", "local0.debug", "datagram")
	docs := w.received(3)
	w.has(docs[0], "level", "warn", "facility", "daemon", "app", "cron", "msgid", "M1", "x@1.k", "v", "message", "counted")
	w.has(docs[1], "level", "fatal", "facility", "user", "app", "cron", "message", "by line")
	w.has(docs[2], "level", "debug", "facility", "local0", "app", "cron", "message", "datagram")
	w.stop(0)
}
