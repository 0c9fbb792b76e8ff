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
	"time"

	"github.com/tailwater/tailwater/test/rig"
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
	for _, module := range []string{"../senders", "../senders/collector"} {
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", dir+"/", "./...")
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", module, err, out)
		}
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
	w, r := startReceiving(t)
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

// TestRealFluentClientThroughKills: the agent is killed again and again while Fluent's own
// client sends. The client repeats what has no ack, and each record is delivered once.
func TestRealFluentClientThroughKills(t *testing.T) {
	t.Parallel()
	dir, err := senders() // before the clock runs
	if err != nil {
		t.Fatal(err)
	}
	w, r := startReceiving(t)
	_, port, _ := net.SplitHostPort(r.forward)
	const count = 2000
	cmd := exec.CommandContext(w.ctx, filepath.Join(dir, "fluent"), "-port", port, "-count", fmt.Sprint(count), "-every", "1ms")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	w.check(cmd.Start())
	for round := 1; round <= 5; round++ { // each in the midst of it
		w.received(round * count / 8)
		w.agent.Kill()
		w.start()
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("fluent: %v\n%s\n%s", err, said.String(), w.LogTail())
	}
	seen := make(map[any]int)
	for _, doc := range w.received(count) {
		seen[doc["n"]]++
	}
	for n := range count {
		if seen[float64(n)] != 1 {
			t.Errorf("record %d is there %d times", n, seen[float64(n)])
		}
	}
	w.stop(0)
}

// TestRealFluentClientInEachMode: Fluentd's client for Node.js has all modes of the
// protocol, chunks of many records, and the handshake with a shared key.
func TestRealFluentClientInEachMode(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("no npm here, from which the client comes")
	}
	var errs strings.Builder
	fetch := exec.CommandContext(t.Context(), "../env/fluent-node")
	fetch.Stderr = &errs
	dir, err := fetch.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	w := newBareWorld(t)
	open, guarded := freeAddr(w), freeAddr(w)
	w.config(fmt.Sprintf("inputs:\n  open: {forward: {listen: '%s'}}\n  guarded: {forward: {listen: '%s', shared_key: sesame}}\n", open, guarded) + fileOutput)
	w.start()
	send := func(addr, mode, key string) error {
		_, port, _ := net.SplitHostPort(addr)
		cmd := exec.CommandContext(w.ctx, "node", "../senders/fluent.js", port, mode, "300", key)
		cmd.Env = append(os.Environ(), "FLUENT_NODE="+strings.TrimSpace(string(dir)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	modes := []string{"Message", "Forward", "PackedForward", "CompressedPackedForward"}
	for _, mode := range modes {
		w.check(send(open, mode, ""))
		w.check(send(guarded, mode, "sesame"))
	}
	seen := make(map[string]int)
	for _, doc := range w.received(2 * len(modes) * 300) {
		w.has(doc, "tag", "shop.app", "level", "warn", "nested.k", 1.5, "@timestamp", "2026-11-25T10:00:00.250Z")
		seen[fmt.Sprint(doc["input"], " ", doc["message"])]++
	}
	for _, input := range []string{"open", "guarded"} {
		for _, mode := range modes {
			for n := range 300 {
				if got := seen[fmt.Sprintf("%s %s %d", input, mode, n)]; got != 1 {
					t.Fatalf("record %d of %s to %s is there %d times", n, mode, input, got)
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	_, port, _ := net.SplitHostPort(guarded)
	wrong := exec.CommandContext(ctx, "node", "../senders/fluent.js", port, "Message", "1", "wrong")
	wrong.Env = append(os.Environ(), "FLUENT_NODE="+strings.TrimSpace(string(dir)))
	if wrong.Run() == nil {
		t.Error("with a wrong key it has its acks")
	}
	if n := w.metrics().Sum("listen_answers_total", `input="guarded"`, `answer="unauthorized"`); n < 1 {
		t.Errorf("%v senders are counted as unauthorized", n)
	}
	w.stop(0)
}

// TestRealOpenTelemetrySDK sends with OpenTelemetry's own SDK and exporter, protobuf and
// gzip.
func TestRealOpenTelemetrySDK(t *testing.T) {
	t.Parallel()
	w, r := startReceiving(t)
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

// TestRealCollectorThroughKills: the exporter of the OpenTelemetry Collector sends batches
// while the agent is killed again and again. It repeats a batch that was not answered.
// None is lost; it gives no key, so a batch whose answer was lost may be there twice.
func TestRealCollectorThroughKills(t *testing.T) {
	t.Parallel()
	dir, err := senders() // before the clock runs
	if err != nil {
		t.Fatal(err)
	}
	w, r := startReceiving(t)
	const count, size, kills, consumers = 5000, 10, 4, 2
	cmd := exec.CommandContext(w.ctx, filepath.Join(dir, "collector"), "-addr", r.otlp, "-token", "sesame", "-count", fmt.Sprint(count), "-batch", fmt.Sprint(size), "-every", "5ms")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	w.check(cmd.Start())
	for round := 1; round <= kills; round++ {
		w.received(round * count / 8)
		w.agent.Kill()
		w.start()
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("collector: %v\n%s\n%s", err, said.String(), w.LogTail())
	}
	seen := make(map[any]int)
	docs := w.received(count)
	for _, doc := range docs {
		seen[doc["n"]]++
		w.has(doc, "project", "checkout", "level", "error", "message", fmt.Sprintf("collected %v", doc["n"]))
	}
	for n := range count {
		if seen[float64(n)] == 0 {
			t.Errorf("record %d is lost", n)
		}
	}
	if most := kills * consumers * size; len(docs) > count+most {
		t.Errorf("%d records are there twice, of which %d can be", len(docs)-count, most)
	}
	w.stop(0)
}

// TestRealCollectorOfOddTexts: it hands on what it has read, in both encodings, also bytes
// that are no UTF-8.
func TestRealCollectorOfOddTexts(t *testing.T) {
	t.Parallel()
	w, r := startReceiving(t)
	for i, encoding := range []string{"proto", "json"} {
		w.realSender("collector", "-addr", r.otlp, "-token", "sesame", "-count", "20", "-encoding", encoding, "-invalid")
		docs := w.received(20 * (i + 1))
		if len(docs) != 20*(i+1) {
			t.Fatalf("%d documents", len(docs))
		}
		seen := make(map[any]bool)
		for _, doc := range docs[20*i:] {
			w.has(doc, "message", fmt.Sprintf("collected %v \ufffd\ufffd", doc["n"]), "level", "error")
			seen[doc["n"]] = true
		}
		if len(seen) != 20 {
			t.Errorf("%s: %d records of 20", encoding, len(seen))
		}
	}
	w.stop(0)
}

// TestRealRsyslog has a real rsyslogd forward what it reads from a socket, octet-counted
// and by lines over TCP and as datagrams.
func TestRealRsyslog(t *testing.T) {
	t.Parallel()
	daemon := realTool(t, "rsyslogd")
	w := newBareWorld(t)
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
	w.rsyslogd(daemon)
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

// rsyslogd runs rsyslog with DIR/rsyslog.conf until the test ends.
func (w *world) rsyslogd(daemon string) {
	w.Helper()
	libraries, err := filepath.Glob(filepath.Join(filepath.Dir(daemon), "tree/usr/lib/*/rsyslog"))
	if err != nil || len(libraries) != 1 {
		w.Fatalf("rsyslog's modules: %v, %v", libraries, err)
	}
	cmd := exec.Command(daemon, "-n", "-f", w.path("rsyslog.conf"), "-i", w.path("rsyslog.pid"), "-M", libraries[0])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	w.check(cmd.Start())
	w.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if w.Failed() {
			w.Logf("rsyslogd says: %s", log.String())
		}
	})
}

// TestRealRsyslogOverRestarts: the agent is restarted while a real rsyslogd sends over TCP,
// which has no acks. An agent that stops reads what has been sent before it closes, and
// rsyslog looks whether the connection is there before it sends.
func TestRealRsyslogOverRestarts(t *testing.T) {
	t.Parallel()
	daemon := realTool(t, "rsyslogd")
	w := newBareWorld(t)
	addr := freeAddr(w)
	w.config(fmt.Sprintf("inputs:\n  sys: {syslog: {listen: 'tcp://%s'}}\n", addr) + fileOutput)
	w.start()
	_, port, _ := net.SplitHostPort(addr)
	w.check(os.WriteFile(w.path("rsyslog.conf"), fmt.Appendf(nil, `
module(load="imfile")
global(workDirectory="%[1]s")
input(type="imfile" file="%[1]s/logs/app.log" tag="shop:")
action(type="omfwd" target="127.0.0.1" port="%[2]s" protocol="tcp" tcp_framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"
  action.resumeRetryCount="-1" action.resumeInterval="1" queue.type="linkedList" queue.size="100000")
`, w.Dir, port), 0o644))
	w.rsyslogd(daemon)
	l := w.log("app.log")
	for range 4 {
		for range 40 {
			w.check(l.Write(20, 10))
			w.pause(10 * time.Millisecond)
		}
		w.stop(0)
		w.check(l.Write(20, 10))
		w.start()
	}
	w.check(l.Write(20, 10))
	w.check(rig.Poll(w.ctx, "every line", func() error {
		tally, err := rig.Count(w.path("out.ndjson"))
		if err != nil {
			return err
		}
		return tally.Clean(nil, l.Lines)
	}))
	w.check(w.count().Exact(nil, l.Lines))
	w.stop(0)
}

// TestRealLogger sends with logger(1), where there is one.
func TestRealLogger(t *testing.T) {
	t.Parallel()
	logger, err := exec.LookPath("logger")
	if err != nil {
		t.Skip("there is no logger(1) here")
	}
	w := newBareWorld(t)
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
