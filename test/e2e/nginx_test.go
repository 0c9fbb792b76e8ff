package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// nginxConf is that of a gateway before two upstreams, the first of which drops some
// connections. Each request is logged three times, in three formats.
const nginxConf = `
daemon off;
USER
worker_processes 2;
pid DIR/nginx.pid;
error_log DIR/logs/error.log info;
events { worker_connections 128; }
http {
  # as an operator would write it, over several lines
  log_format gateway '$remote_addr - $remote_user [$time_local] "$request" '
                     '$status $body_bytes_sent "$http_referer" "$http_user_agent" '
                     '$request_time $upstream_response_time $request_id';
  log_format structured escape=json
    '{"time":"$time_iso8601","request_id":"$request_id","remote_addr":"$remote_addr",'
    '"request_method":"$request_method","request_uri":"$request_uri","status":$status,'
    '"request_time":$request_time,"upstream_response_time":"$upstream_response_time",'
    '"http_user_agent":"$http_user_agent","http_referer":"$http_referer"}';
  access_log DIR/logs/gateway-access.log gateway;
  access_log DIR/logs/combined-access.log combined;
  access_log DIR/logs/structured-access.log structured;
  client_body_temp_path DIR/tmp;
  proxy_temp_path DIR/tmp; fastcgi_temp_path DIR/tmp; uwsgi_temp_path DIR/tmp; scgi_temp_path DIR/tmp;
  upstream app { server FIRST max_fails=0; server SECOND max_fails=0; }
  server {
    listen LISTEN;
    location = /local { return 204; }
    location / {
      proxy_pass http://app;
      proxy_set_header X-Request-ID $request_id;
      proxy_connect_timeout 2s;
      proxy_read_timeout 2s;
    }
  }
}
`

// nginx is a running nginx, its upstreams, and what its client knows of the requests.
type nginx struct {
	*world
	cmd       *exec.Cmd
	logrotate string
	addr      string
	client    *http.Client

	mu     sync.Mutex
	asked  map[string]*asked // by path
	bySeen map[string]string // request_id that the upstream saw, by path
}

// asked is one request as the client and the upstream know it.
type asked struct {
	status int
	bytes  int
	took   time.Duration
}

func startNginx(w *world) *nginx {
	w.Helper()
	tool := realTool(w.T, "nginx")
	n := &nginx{world: w, logrotate: realTool(w.T, "logrotate"), asked: make(map[string]*asked), bySeen: make(map[string]string),
		client: &http.Client{Timeout: 20 * time.Second}}
	second := httptest.NewServer(http.HandlerFunc(n.answer))
	w.Cleanup(second.Close)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	n.addr = freeAddr(w)
	w.check(os.Mkdir(w.path("tmp"), 0o700))
	conf := strings.NewReplacer("DIR", w.Dir, "USER", user, "FIRST", droppingUpstream(w, second.Listener.Addr().String()),
		"SECOND", second.Listener.Addr().String(), "LISTEN", n.addr).Replace(nginxConf)
	w.check(os.WriteFile(w.path("nginx.conf"), []byte(conf), 0o644))
	n.cmd = exec.Command(tool, "-p", w.Dir, "-c", w.path("nginx.conf"), "-e", w.path("logs", "error.log"))
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	w.check(n.cmd.Start())
	w.Cleanup(func() {
		n.cmd.Process.Signal(syscall.SIGTERM)
		n.cmd.Wait()
	})
	w.check(rig.Poll(w.ctx, "nginx to listen", func() error {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err
	}))
	return n
}

// freeAddr is an address that nobody listens on, most likely for a while.
func freeAddr(w *world) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.check(err)
	defer l.Close()
	return l.Addr().String()
}

// answer is the healthy upstream: /slow takes its time, /broken fails, /long answers much.
func (n *nginx) answer(rw http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.bySeen[r.URL.Path] = r.Header.Get("X-Request-ID")
	n.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/slow"):
		n.pause(300 * time.Millisecond)
	case strings.HasPrefix(r.URL.Path, "/broken"):
		rw.WriteHeader(http.StatusBadGateway)
	case strings.HasPrefix(r.URL.Path, "/hangs"):
		select { // until nginx has had enough
		case <-r.Context().Done():
		case <-n.ctx.Done():
		}
		return
	}
	fmt.Fprintf(rw, "%s", strings.Repeat("x", len(r.URL.Path)*10))
}

// droppingUpstream forwards two connections to the healthy upstream and drops the
// third, before it has answered: nginx then asks the other upstream.
func droppingUpstream(w *world, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.check(err)
	w.Cleanup(func() { l.Close() })
	var count atomic.Int64
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				if count.Add(1)%3 == 0 {
					return
				}
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					io.Copy(out, in)
					out.Close()
				}()
				io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// get makes a request and notes what came of it.
func (n *nginx) get(path string) error {
	begun := time.Now()
	req, err := http.NewRequestWithContext(n.ctx, "GET", "http://"+n.addr+path+"?q=1&r=%22x%22", nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "e2e/1.0 (\"quoted\" \\ and \u00fc)")
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[path] = &asked{resp.StatusCode, len(body), time.Since(begun)}
	return nil
}

// TestNginxItself follows the access logs of a real nginx, in the format that its own
// configuration defines, while logs are rotated under it.
func TestNginxItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `
inputs:
  gateway:
    files: ['$DIR/logs/gateway-access.log']
    format: {nginx: {conf: $DIR/nginx.conf, log_format: gateway}}
  plain:
    files: ['$DIR/logs/combined-access.log']
    format: {nginx: combined}
  structured:
    files: ['$DIR/logs/structured-access.log']
  errors:
    files: ['$DIR/logs/error.log']
outputs:
  out: {file: {path: '$DIR/out-{input}.ndjson'}}
`)
	n := startNginx(w)
	w.start()
	var requests sync.WaitGroup
	for c := range 4 {
		requests.Go(func() {
			for i := range 60 {
				kind := [...]string{"ok", "ok", "ok", "slow", "broken", "local"}[(i+c)%6]
				path := fmt.Sprintf("/%s/%d/%d/%s", kind, c, i, rand.Text())
				if kind == "local" {
					path = "/local"
				}
				if kind == "slow" && i%4 > 0 {
					continue
				}
				if err := n.get(path); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	rotated := make(chan struct{})
	go func() {
		defer close(rotated)
		for range 8 {
			n.rotate()
			w.pause(150 * time.Millisecond)
		}
	}()
	requests.Wait()
	<-rotated
	if err := n.get("/hangs/1"); err != nil {
		t.Error(err)
	}
	n.sendRaw("GET /raw\"\\\xff\x01 HTTP/1.1\r\nHost: x\r\n\r\n")
	n.sendRaw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")
	n.verify()
}

// rotation is how Debian's package of nginx has its logs rotated.
const rotation = `DIR/logs/*.log {
rotate 30
missingok
compress
delaycompress
notifempty
create 0640
sharedscripts
postrotate
	kill -USR1 $(cat DIR/nginx.pid)
endscript
}
`

// rotate has the real logrotate rotate all logs.
func (n *nginx) rotate() {
	conf := n.path("logrotate.conf")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(rotation, "DIR", n.Dir)), 0o644); err != nil {
		n.Error(err)
	}
	if err := runLogrotate(n.ctx, n.world, n.logrotate, conf); err != nil {
		n.Error(err)
	}
}

// sendRaw sends bytes that no decent client sends, and reads the answer.
func (n *nginx) sendRaw(request string) {
	c, err := net.Dial("tcp", n.addr)
	n.check(err)
	defer c.Close()
	_, err = io.WriteString(c, request)
	n.check(err)
	bufio.NewReader(c).ReadString('\n') // nginx may close without a word
}

// verify compares the documents with what the client and the upstreams know.
func (n *nginx) verify() {
	want := 0
	docs := make(map[string][]map[string]any)
	n.check(rig.Poll(n.ctx, "all requests to be delivered", func() error {
		for _, input := range []string{"gateway", "plain", "structured"} {
			// nginx writes a request's line when it has answered it, or a little later.
			want = n.lines("gateway-access.log")
			docs[input] = n.documents(n.path("out-" + input + ".ndjson"))
			if len(docs[input]) < want {
				return fmt.Errorf("%s: %d of %d", input, len(docs[input]), want)
			}
		}
		return nil
	}))
	retried := 0
	ids := make(map[string]bool)
	for input, all := range docs {
		if len(all) != want {
			n.Errorf("%s: %d documents of %d lines", input, len(all), want)
		}
		seen := make(map[string]bool)
		for _, d := range all {
			id := d["id"].(string)
			if ids[id] {
				n.Errorf("two documents have the id %s", id)
			}
			ids[id] = true
			if path, ok := d["path"].(string); ok && path != "/local" {
				seen[path] = true
			}
			n.verifyOne(input, d)
			if d["upstream_times"] != nil {
				retried++
			}
		}
		for path := range n.asked {
			if path != "/local" && !seen[path] {
				n.Errorf("%s: no document for %s", input, path)
			}
		}
	}
	if retried == 0 {
		n.Error("no request was retried at the second upstream, though the first drops every third connection")
	}
	n.verifyErrors()
}

// lines counts those of a log and its rotated files.
func (n *nginx) lines(name string) int {
	names, err := filepath.Glob(n.path("logs", name+"*"))
	n.check(err)
	total := 0
	for _, full := range names {
		data, err := rig.ReadAll(full)
		n.check(err)
		total += strings.Count(string(data), "\n")
	}
	return total
}

// verifyOne compares one document with the request it tells of.
func (n *nginx) verifyOne(input string, d map[string]any) {
	path, _ := d["path"].(string)
	status, isNumber := d["status_code"].(float64)
	if !isNumber || d["@timestamp"] == nil || d["remote_addr"] != "127.0.0.1" || d["referer"] == "-" {
		n.Errorf("%s: %v", input, d)
	}
	known := n.asked[path]
	if known == nil || path == "/local" {
		return
	}
	if at, err := time.Parse(time.RFC3339, d["@timestamp"].(string)); err != nil || time.Since(at) > 5*time.Minute || time.Until(at) > time.Second {
		n.Errorf("%s: the time is %v", input, d["@timestamp"])
	}
	if int(status) != known.status {
		n.Errorf("%s %s: status %v, the client got %d", input, path, status, known.status)
	}
	if ua := d["user_agent"]; input != "structured" && ua != `e2e/1.0 (\x22quoted\x22 \x5C and \xC3\xBC)` && ua != "e2e/1.0 (\"quoted\" \\ and \u00fc)" {
		n.Errorf("%s %s: user_agent %q", input, path, ua)
	}
	if d["method"] != "GET" || d["query"] != "q=1&r=%22x%22" {
		n.Errorf("%s %s: method %v, query %v", input, path, d["method"], d["query"])
	}
	if input != "structured" && d["bytes_sent"] != float64(known.bytes) {
		n.Errorf("%s %s: bytes_sent %v, the client got %d", input, path, d["bytes_sent"], known.bytes)
	}
	if input == "plain" {
		return
	}
	if id := n.bySeen[path]; d["request_id"] != id {
		n.Errorf("%s %s: request_id %v, the upstream saw %s", input, path, d["request_id"], id)
	}
	seconds, _ := d["request_time"].(float64)
	upstream, _ := d["upstream_time"].(float64)
	if limit := known.took.Seconds() + 0.05; seconds > limit || upstream > limit || strings.HasPrefix(path, "/slow") && (seconds < 0.2 || upstream < 0.2) {
		n.Errorf("%s %s: request_time %v, upstream_time %v, the client waited %v", input, path, seconds, upstream, known.took)
	}
}

// verifyErrors looks for what nginx said of the request that hung.
func (n *nginx) verifyErrors() {
	n.check(rig.Poll(n.ctx, "the error log's documents", func() error {
		docs := n.documents(n.path("out-errors.ndjson"))
		for _, d := range docs {
			message, _ := d["message"].(string)
			if d["level"] == "error" && strings.Contains(message, "upstream timed out") && d["path"] == "/hangs/1" {
				return nil
			}
		}
		return fmt.Errorf("no error about /hangs/1 in %d documents, the last: %v", len(docs), docs[max(0, len(docs)-5):])
	}))
}

// runLogrotate runs the real logrotate once, by force, with the configuration.
func runLogrotate(ctx context.Context, w *world, tool, conf string) error {
	out, err := exec.CommandContext(ctx, tool, "-f", "-s", w.path("logrotate.state"), conf).CombinedOutput()
	if err != nil {
		return fmt.Errorf("logrotate: %w\n%s", err, out)
	}
	return nil
}
