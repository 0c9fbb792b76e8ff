package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/fake/bulk"
	"github.com/tailwater/tailwater/test/rig"
)

// hung is an output that never answers beside one that does, with little memory.
const hung = `
limits: {memory: 64MiB}
inputs:
  app: {files: ['$DIR/logs/*.log'], format: json}
outputs:
  out: {file: {path: '$DIR/out.ndjson'}}
  search: {elasticsearch: {urls: ['%s'], index: 'logs-{project}', timeout: 2s}}
`

// TestElasticsearchHangsAndTheRestGoesOn writes several times of what memory holds while
// Elasticsearch takes requests and never answers. The other output gets every line,
// memory stays within its limit, and Elasticsearch gets all of it, each once, when it
// answers again.
func TestElasticsearchHangsAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	es := bulk.New()
	t.Cleanup(es.Close)
	es.Set(bulk.Mood{Hang: true})
	w := newWorld(t, fmt.Sprintf(hung, es.URL))
	w.start()
	l := w.log("a.log")
	rounds := 6
	if torture() > 0 {
		rounds = 30
	}
	for range rounds { // 9 MB each
		w.write(l, 9000, 900)
		w.check(rig.Poll(w.ctx, "the other output to keep up", func() error {
			if m := w.metrics(); m.Sum("output_lines_total", `output="out"`) < float64(l.N) {
				return fmt.Errorf("it has %v of %d lines", m.Sum("output_lines_total", `output="out"`), l.N)
			}
			return nil
		}))
	}
	w.check(rig.Poll(w.ctx, "the one that hangs to count as down", func() error {
		m := w.metrics()
		if up, n := m.Sum("output_up", `output="search"`), m.Sum("output_lines_total", `output="search"`); up != 0 || n != 0 {
			return fmt.Errorf("up %v, %v lines delivered", up, n)
		}
		return nil
	}))
	if got, err := w.agent.Get("/readyz"); err != nil || !strings.Contains(string(got), "output search: retrying") || !strings.Contains(string(got), "no answer within 2s") {
		t.Errorf("readiness: %s, %v", got, err)
	}
	if out, _, code := w.command("status", "--state", w.State()); code != 0 || !strings.Contains(out, "no answer within 2s") {
		t.Errorf("status, code %d:\n%s", code, out)
	}
	proc, err := w.agent.Proc()
	w.check(err)
	t.Logf("%d MB were written; resident at most %d MiB of 64", l.Bytes/1e6, proc.Peak>>20)
	if limit := int64(96 << 20); proc.Peak > limit {
		t.Errorf("%d MiB were resident", proc.Peak>>20)
	}
	es.Set(bulk.Mood{})
	w.check(rig.Poll(w.ctx, "Elasticsearch to catch up", func() error {
		if n := len(es.Docs()); n < l.N {
			return fmt.Errorf("%d of %d documents", n, l.N)
		}
		return nil
	}))
	w.exact(l)
	w.books(l.Bytes, map[string]int{"out": l.N, "search": l.N})
	if n := len(es.Docs()); n != l.N {
		t.Errorf("%d documents of %d lines", n, l.N)
	}
	w.stop(0)
}

// TestEachDocumentIsCountedOnceAtEveryScrape: what an output was given is what it has
// taken, what is dead, and what is under way, at every moment, while it refuses some,
// puts some off and loses answers.
func TestEachDocumentIsCountedOnceAtEveryScrape(t *testing.T) {
	t.Parallel()
	es := bulk.New()
	t.Cleanup(es.Close)
	es.Set(bulk.Mood{
		Item: func(id, doc string) (int, string) {
			switch {
			case strings.Contains(doc, `7,"p"`): // a tenth of the lines
				return http.StatusBadRequest, "mapper_parsing_exception"
			case len(id)%2 == 0 && time.Now().UnixNano()%3 == 0:
				return http.StatusTooManyRequests, "es_rejected_execution_exception"
			}
			return 0, ""
		},
		LoseAnswer: func(n int) bool { return n%4 == 0 },
	})
	w := newWorld(t, fmt.Sprintf(hung, es.URL))
	w.start()
	l := w.log("a.log")
	scrapes := 0
	agree := func(m rig.Metrics) error {
		for _, output := range []string{"out", "search"} {
			label := fmt.Sprintf("output=%q", output)
			given, taken, dead, underWay := m.Sum("output_given_lines_total", label), m.Sum("output_lines_total", label), m.Sum("dead_letters_total", label), m.Sum("output_under_way_lines", label)
			if given != taken+dead+underWay || underWay < 0 {
				return fmt.Errorf("output %s: given %v, taken %v, dead %v, under way %v", output, given, taken, dead, underWay)
			}
		}
		scrapes++
		return nil
	}
	for range 20 {
		w.write(l, 1000, 50)
		w.check(agree(w.metrics()))
	}
	refused := 0
	for n := range l.N {
		if n%10 == 7 {
			refused++
		}
	}
	w.check(rig.Poll(w.ctx, "everything to be taken or refused", func() error {
		m := w.metrics()
		if err := agree(m); err != nil {
			return rig.Final(err)
		}
		if n := m.Sum("output_lines_total", `output="search"`) + m.Sum("dead_letters_total", `output="search"`); n != float64(l.N) {
			return fmt.Errorf("%v of %d", n, l.N)
		}
		return nil
	}))
	m := w.metrics()
	if n := m.Sum("dead_letters_total", `reason="mapper_parsing_exception"`); n != float64(refused) || len(es.Docs()) != l.N-refused {
		t.Errorf("%v dead letters and %d documents, want %d and %d", n, len(es.Docs()), refused, l.N-refused)
	}
	w.books(l.Bytes, map[string]int{"out": l.N, "search": l.N - refused})
	if scrapes < 20 {
		t.Errorf("%d scrapes", scrapes)
	}
	w.stop(0)
}

// TestReplacedAuthorityAndPasswordAreFollowed: the cluster gets a certificate of another
// authority and another password. Once their files say so too lines arrive again, each
// once, without a restart; before that, and while a file is half written, nothing is lost.
func TestReplacedAuthorityAndPasswordAreFollowed(t *testing.T) {
	t.Parallel()
	es := bulk.New()
	t.Cleanup(es.Close)
	w := newBareWorld(t)
	later := time.Now().Add(time.Hour)
	shown := newAuthority(w, "ca").sign("node-1", x509.ExtKeyUsageServerAuth, later)
	next := newAuthority(w, "next")
	password := "first"
	var mu sync.Mutex
	target, err := url.Parse(es.URL)
	w.check(err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, given, _ := r.BasicAuth()
		good := given == password
		mu.Unlock()
		if !good {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		return &tls.Config{Certificates: []tls.Certificate{shown}}, nil
	}}
	front.StartTLS()
	t.Cleanup(front.Close)
	w.check(os.WriteFile(w.path("password"), []byte("first\n"), 0o600))
	w.config(fmt.Sprintf(`
inputs: {app: {files: [$DIR/logs/*.log], format: json}}
outputs:
  search: {elasticsearch: {urls: ['%s'], index: logs, user: u, password: '${file:$DIR/password}', ca: $DIR/ca.pem}}
`, front.URL))
	w.start()
	l := w.log("a.log")
	arrived := func() {
		t.Helper()
		w.check(rig.Poll(w.ctx, "every line", func() error {
			if n := len(es.Docs()); n != l.N {
				return fmt.Errorf("%d of %d; %s", n, l.N, w.LogTail())
			}
			return nil
		}))
	}
	w.write(l, 100, 50)
	arrived()
	mu.Lock()
	shown, password = next.sign("node-2", x509.ExtKeyUsageServerAuth, later), "second"
	mu.Unlock()
	front.CloseClientConnections()
	w.write(l, 100, 50)
	w.check(rig.Poll(w.ctx, "the certificate to be refused", func() error {
		if m := w.metrics(); m.Sum("output_up", `output="search"`) != 0 {
			return errors.New("the output is up")
		}
		return nil
	}))
	w.check(os.WriteFile(w.path("ca.pem"), []byte("-----BEGIN CERT"), 0o600)) // not yet all of it
	w.check(rig.Poll(w.ctx, "the half file to be refused", func() error {
		if w.LogCount("ca.pem holds no certificate") == 0 {
			return errors.New("nobody says so")
		}
		return nil
	}))
	w.check(os.Rename(w.path("next.pem"), w.path("ca.pem")))
	w.check(os.WriteFile(w.path("password"), []byte("second\n"), 0o600))
	arrived()
	w.write(l, 100, 50)
	arrived()
	w.stop(0)
}
