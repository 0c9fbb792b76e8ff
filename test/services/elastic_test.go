package services

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink/elastic"
	"github.com/tailwater/tailwater/test/fake/proxy"
	"github.com/tailwater/tailwater/test/rig"
)

// elasticServer is one Elasticsearch, spoken to by hand.
type elasticServer struct {
	url    string
	client *http.Client
	auth   string
}

func plainServer() *elasticServer {
	return &elasticServer{url: servers.Value("ELASTICSEARCH_URL"), client: http.DefaultClient}
}

// do sends a request that must succeed and returns the answer's body.
func (e *elasticServer) do(t *testing.T, method, path, body string) []byte {
	t.Helper()
	answer, err := e.try(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(answer)
}

// try sends a request and returns the answer's body.
func (e *elasticServer) try(ctx context.Context, method, path, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.url+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if e.auth != "" {
		req.Header.Set("Authorization", e.auth)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s\n%s", method, path, resp.Status, answer)
	}
	return string(answer), err
}

// odd shows documents that did not parse.
func (e *elasticServer) odd(ctx context.Context, pattern string) string {
	found, _ := e.try(ctx, "POST", "/"+pattern+"/_search?filter_path=hits.hits._source", `{"size":5,"query":{"exists":{"field":"parse_error"}}}`)
	return " " + found
}

// ids are the _ids of all documents of an index pattern, and how often each is there.
func (e *elasticServer) ids(t *testing.T, pattern string) map[string]int {
	t.Helper()
	e.do(t, "POST", "/"+pattern+"/_refresh", "")
	ids := make(map[string]int)
	after := ""
	for {
		var page struct {
			Hits struct {
				Hits []struct {
					Source struct {
						ID string `json:"id"`
					} `json:"_source"`
					ID   string            `json:"_id"`
					Sort []json.RawMessage `json:"sort"`
				} `json:"hits"`
			} `json:"hits"`
		}
		body := `{"size":5000,"_source":["id"],"sort":[{"offset":"asc"},{"file.keyword":"asc"}]` + after + `}`
		if err := json.Unmarshal(e.do(t, "POST", "/"+pattern+"/_search", body), &page); err != nil {
			t.Fatal(err)
		}
		hits := page.Hits.Hits
		if len(hits) == 0 {
			return ids
		}
		for _, h := range hits {
			if h.ID != h.Source.ID {
				t.Errorf("document %s is stored as %s", h.Source.ID, h.ID)
			}
			ids[h.ID]++
		}
		last, _ := json.Marshal(hits[len(hits)-1].Sort)
		after = `,"search_after":` + string(last)
	}
}

// verify checks that each line of the files is one document, but for those excused.
func (e *elasticServer) verify(t *testing.T, pattern string, excused map[string]bool, files ...*file) {
	t.Helper()
	ids := e.ids(t, pattern)
	want := 0
	for _, f := range files {
		for n := range f.next {
			if excused[f.id(n)] {
				continue
			}
			want++
			if c := ids[f.id(n)]; c != 1 {
				t.Fatalf("line %d of %s is there %d times", n, f.name, c)
			}
		}
	}
	if len(ids) != want {
		t.Errorf("%d documents where there should be %d", len(ids), want)
	}
}

func elasticSink(t *testing.T, change func(*elastic.Config)) *elastic.Sink {
	t.Helper()
	c := elastic.Config{URLs: []string{servers.Value("ELASTICSEARCH_URL")}, Index: "logs-{project}-{date}", Timeout: 30 * time.Second}
	if change != nil {
		change(&c)
	}
	s, err := elastic.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestElasticsearchTakesADocumentOnceHoweverOftenItIsSent(t *testing.T) {
	s := elasticSink(t, func(c *elastic.Config) { c.Gzip = true })
	f := newFile("once", "a")
	b := batch(1000, f)
	for range 3 {
		mustTake(t, s, b)
	}
	plainServer().verify(t, "logs-once-*", nil, f)
}

func TestElasticsearchMappingConflictIsParkedWithItsReason(t *testing.T) {
	s := elasticSink(t, nil)
	l := newLine(t, s)
	f := newFile("conflict", "a")
	excused := make(map[string]bool)
	f.fields = func(r *record.Record, n int) {
		if n%2 == 0 {
			r.Put("user", []byte(`"alice"`), record.JSON)
			return
		}
		r.Put("user", []byte(`{"name":"alice"}`), record.JSON)
		excused[f.id(n)] = true
	}
	mustTake(t, s, batch(1, f)) // this line decides that user is a string
	for range 5 {
		l.put(f.block(100))
	}
	l.finish()
	letters := l.letters()
	if len(letters) != len(excused) {
		t.Errorf("%d of %d conflicts are parked", len(letters), len(excused))
	}
	for _, letter := range letters {
		if !excused[letter.ID] || !strings.Contains(letter.Detail, "user") || !strings.Contains(string(letter.Document), `"alice"`) {
			t.Fatalf("letter %s: %s: %s", letter.ID, letter.Reason, letter.Detail)
		}
	}
	plainServer().verify(t, "logs-conflict-*", excused, f)
}

func TestElasticsearchIndexThatIsReadOnlyForAWhile(t *testing.T) {
	es := plainServer()
	l := newLine(t, elasticSink(t, nil))
	f := newFile("full", "a")
	l.put(f.block(10))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	delivered := func() error {
		if s := l.deliverer.State(); s.Lines > 0 || l.queue.Lines() > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}
	if err := rig.Poll(ctx, "the index", delivered); err != nil {
		t.Fatal(err)
	}
	if err := rig.Poll(ctx, "the output to say so", func() error {
		s := l.deliverer.State()
		if s.Up && s.Lines == 0 && l.queue.Lines() == 0 {
			// What the flood stage of the disk watermark does; again, as the cluster takes it
			// back each time that it finds room on its disks.
			es.do(t, "PUT", "/logs-full-*/_settings", `{"index.blocks.read_only_allow_delete":true}`)
			l.put(f.block(500))
		}
		if s.Up || s.Failures < 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	l.says("read-only")
	l.says("make room on its disks, or unlock the index")
	es.do(t, "PUT", "/logs-full-*/_settings", `{"index.blocks.read_only_allow_delete":null}`)
	l.finish()
	if n := len(l.letters()); n > 0 {
		t.Errorf("%d documents were parked", n)
	}
	es.verify(t, "logs-full-*", nil, f)
}

func TestElasticsearchMayNotCreateTheIndex(t *testing.T) {
	es := plainServer()
	es.do(t, "PUT", "/_cluster/settings", `{"persistent":{"action.auto_create_index":"-logs-nocreate-*,+*"}}`)
	defer es.do(t, "PUT", "/_cluster/settings", `{"persistent":{"action.auto_create_index":null}}`)
	l := newLine(t, elasticSink(t, nil))
	f := newFile("nocreate", "a")
	l.put(f.block(5))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := rig.Poll(ctx, "the output to say so", func() error {
		if s := l.deliverer.State(); s.Up || !strings.Contains(s.LastError, "auto_create_index") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	es.do(t, "PUT", "/_cluster/settings", `{"persistent":{"action.auto_create_index":null}}`)
	l.finish()
	es.verify(t, "logs-nocreate-*", nil, f)
}

func TestElasticsearchAnswersThatAreLost(t *testing.T) {
	p, err := proxy.Listen(strings.TrimPrefix(servers.Value("ELASTICSEARCH_URL"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := elasticSink(t, func(c *elastic.Config) {
		c.URLs, c.Timeout = []string{"http://" + p.Addr()}, 700*time.Millisecond
	})
	l := newLine(t, s)
	files := []*file{newFile("lost", "a"), newFile("lost", "b"), newFile("lost", "c")}
	filled := make(chan struct{})
	var trouble sync.WaitGroup
	trouble.Go(func() { mistreat(t, p, filled) })
	for range 100 {
		for _, f := range files {
			l.put(f.block(100))
		}
	}
	close(filled)
	trouble.Wait()
	l.finish()
	if p.Swallowed() == 0 {
		t.Error("no answer was lost")
	}
	plainServer().verify(t, "logs-lost-*", nil, files...)
}

// mistreat loses answers and cuts connections until done is closed, at least once.
func mistreat(t *testing.T, p *proxy.Proxy, done <-chan struct{}) {
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		before := p.Swallowed()
		p.Swallow(true)
		err := rig.Poll(ctx, "an answer to be lost", func() error {
			select {
			case <-done:
				return nil
			default:
			}
			if p.Swallowed() == before {
				return io.EOF
			}
			return nil
		})
		cancel()
		p.Swallow(false)
		p.Cut()
		if err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			return
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// startOwn starts servers that the test may mistreat.
func startOwn(t *testing.T, settings ...string) *rig.Services {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.ServicesTime)
	defer cancel()
	own, err := rig.StartServices(ctx, root, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Stop() })
	return own
}

// One server of the test's own, with users, TLS and little room for requests, is
// enough for these.
func TestElasticsearchThatIsGuardedAndDies(t *testing.T) {
	own := startOwn(t, "SERVICES=elasticsearch", "ES_SECURE=1", "ES_SETTINGS=indexing_pressure.memory.limit: 1mb")
	authority, err := os.ReadFile(own.Value("SERVICES_CA"))
	if err != nil {
		t.Fatal(err)
	}
	login := base64.StdEncoding.EncodeToString([]byte(own.Value("SERVICES_USER") + ":" + own.Value("SERVICES_PASSWORD")))
	es := &elasticServer{url: own.Value("ELASTICSEARCH_URL"), auth: "Basic " + login,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: trustingPEM(authority)}}}
	open := func(t *testing.T, change func(*elastic.Config)) *elastic.Sink {
		return elasticSink(t, func(c *elastic.Config) {
			c.URLs, c.CACert = []string{es.url}, authority
			c.Username, c.Password = own.Value("SERVICES_USER"), units.Secret(own.Value("SERVICES_PASSWORD"))
			change(c)
		})
	}
	t.Run("basic", func(t *testing.T) {
		f := newFile("basic", "a")
		mustTake(t, open(t, func(*elastic.Config) {}), batch(10, f))
		es.verify(t, "logs-basic-*", nil, f)
	})
	t.Run("api-key-and-fingerprint", func(t *testing.T) {
		var key struct{ Encoded string }
		if err := json.Unmarshal(es.do(t, "POST", "/_security/api_key", `{"name":"tailwater"}`), &key); err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(authority)
		sum := sha256.Sum256(block.Bytes)
		f := newFile("key", "a")
		mustTake(t, open(t, func(c *elastic.Config) {
			c.Username, c.Password, c.CACert = "", "", nil
			c.APIKey, c.CAFingerprint = units.Secret(key.Encoded), hex.EncodeToString(sum[:])
		}), batch(10, f))
		es.verify(t, "logs-key-*", nil, f)
	})
	for name, c := range map[string]struct {
		change func(*elastic.Config)
		want   string
	}{
		"wrong-password":    {func(c *elastic.Config) { c.Password = "wrong" }, "check api_key, or user and password"},
		"wrong-key":         {func(c *elastic.Config) { c.Username, c.Password, c.APIKey = "", "", "d3Jvbmc6d3Jvbmc=" }, "check api_key"},
		"wrong-fingerprint": {func(c *elastic.Config) { c.CACert, c.CAFingerprint = nil, strings.Repeat("ab", 32) }, "ca_fingerprint"},
		"untrusted":         {func(c *elastic.Config) { c.CACert = nil }, "ca:"},
		"http-to-https":     {func(c *elastic.Config) { c.CACert, c.URLs = nil, []string{strings.Replace(es.url, "https", "http", 1)} }, "https"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, 15*time.Second, "the answer", func() {
				r := sendOnce(t, open(t, c.change), batch(1, newFile("wrong", "a")))
				if r.Err == nil || !strings.Contains(r.Err.Error(), c.want) || strings.Contains(r.Err.Error(), "\n") {
					t.Errorf("not in words for the person on call (want %q): %v", c.want, r.Err)
				}
				t.Log(r.Err)
			})
		})
	}
	t.Run("indexing-pressure", func(t *testing.T) {
		s := open(t, func(c *elastic.Config) { c.Requests = 16 })
		var lines []*line
		var files []*file
		for i := range 4 {
			lines = append(lines, newLine(t, s))
			files = append(files, newFile("pressure", fmt.Sprint("f", i)))
		}
		var filling sync.WaitGroup
		for i, l := range lines {
			filling.Go(func() {
				for range 15 {
					l.put(files[i].block(500))
				}
				l.finish()
			})
		}
		filling.Wait()
		es.verify(t, "logs-pressure-*", nil, files...)
		stats := es.do(t, "GET", "/_nodes/stats/indexing_pressure?filter_path=nodes.*.indexing_pressure.memory.total.coordinating_rejections", "")
		if bytes.Contains(stats, []byte(`rejections":0`)) {
			t.Errorf("the server has rejected nothing: %s", stats)
		}
	})
	t.Run("killed-under-load", func(t *testing.T) {
		l := newLine(t, open(t, func(c *elastic.Config) { c.Timeout = 10 * time.Second }))
		files := []*file{newFile("killed", "a"), newFile("killed", "b")}
		var filling sync.WaitGroup
		filling.Go(func() {
			for range 60 {
				for _, f := range files {
					l.put(f.block(200))
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), rig.ServicesTime)
		defer cancel()
		if err := own.Kill(ctx, "elasticsearch"); err != nil {
			t.Fatal(err)
		}
		if err := own.Up(ctx); err != nil {
			t.Fatal(err)
		}
		filling.Wait()
		l.finish()
		es.verify(t, "logs-killed-*", nil, files...)
	})
}
