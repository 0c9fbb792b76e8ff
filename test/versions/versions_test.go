// Package versions holds the test of the Elasticsearch output against its older
// versions and its relatives.
package versions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/elastic"
	"github.com/tailwater/tailwater/test/rig"
)

// server is one real server, spoken to by hand.
type server struct {
	*testing.T
	url string
}

// do sends a request that must succeed.
func (s *server) do(method, path, body string) string {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		s.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, answer)
	}
	return string(answer)
}

func (s *server) sink(change func(*elastic.Config)) *elastic.Sink {
	s.Helper()
	c := elastic.Config{Name: "search", URLs: []string{s.url}, Index: "logs-{project}-{date}", Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	es, err := elastic.New(c)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { es.Close() })
	return es
}

// setup runs it and returns what it says.
func (s *server) setup(es *elastic.Sink) string {
	s.Helper()
	var said []string
	if err := es.Setup(s.Context(), "search", func(text string) { said = append(said, text) }); err != nil {
		s.Fatalf("%v\n%s", err, strings.Join(said, "\n"))
	}
	return strings.Join(said, "\n")
}

// batch makes n documents; every third has a user that is an object, the others one
// that is text.
func batch(project string, n int) *sink.Batch {
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Input: "in", File: "/a.log", Project: project})
	b := record.NewBlock(nil, nil, nil)
	all := new(sink.Batch)
	r := new(record.Record)
	for i := range n {
		r.Reset()
		r.Put("message", fmt.Appendf(nil, "line %d", i), record.Text)
		r.Put("status_code", []byte("200"), record.JSON)
		r.Put("request_time", []byte("1"), record.JSON)
		if i%3 == 2 {
			r.Put("user", []byte(`{"name":"alice"}`), record.JSON)
		} else {
			r.Put("user", []byte("alice"), record.Text)
		}
		b.Append(o, r, time.Now().UnixMilli(), true, int64(i))
		all.Refs = append(all.Refs, record.Ref{Block: b, Index: i})
	}
	return all
}

func (s *server) send(es *elastic.Sink, b *sink.Batch) sink.Result {
	s.Helper()
	answer := make(chan sink.Result, 1)
	es.Send(s.Context(), b, func(r sink.Result) { answer <- r })
	select {
	case r := <-answer:
		return r
	case <-time.After(time.Minute):
		s.Fatal("no answer within a minute")
		return sink.Result{}
	}
}

func (s *server) count(index string) (n int) {
	s.Helper()
	s.do("POST", "/"+index+"/_refresh", "")
	var c struct{ Count int }
	if err := json.Unmarshal([]byte(s.do("GET", "/"+index+"/_count", "")), &c); err != nil {
		s.Fatal(err)
	}
	return c.Count
}

func TestOlderVersionsAndRelatives(t *testing.T) {
	if os.Getenv("TAILWATER_TORTURE") == "" {
		t.Skip("starts three more servers: make torture")
	}
	for version, banner := range map[string]string{"8": "Elasticsearch 8.19.21", "7": "Elasticsearch 7.17.29", "opensearch": "OpenSearch 2.19.6"} {
		t.Run(version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*rig.ServicesTime)
			defer cancel()
			own, err := rig.StartServices(ctx, "../..", "SERVICES=elasticsearch", "ES_VERSION="+version)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { own.Stop() })
			s := &server{t, own.Value("ELASTICSEARCH_URL")}
			s.takesEachDocumentOnce(banner)
			s.takesAnAlias()
			if version == "8" { // what is published of 7 and of OpenSearch has none
				s.takesADataStream()
			}
		})
	}
}

// takesEachDocumentOnce sends a batch three times: after the first what it holds is
// known, and what does not fit is refused with a reason each time.
func (s *server) takesEachDocumentOnce(banner string) {
	es := s.sink(func(c *elastic.Config) { c.Gzip = true })
	for range 2 { // it is idempotent
		if said := s.setup(es); !strings.Contains(said, banner) {
			s.Errorf("setup says: %s", said)
		}
	}
	if r := s.send(es, batch("Shop", 10)); r.Err != nil || len(r.Retry) > 0 {
		s.Fatalf("%+v", r)
	}
	const n, odd = 300, 100
	b := batch("plain", n)
	plain := s.sink(func(c *elastic.Config) { c.Index = "{project}-{date}" }) // no template leaves out what does not fit
	for try := range 3 {
		r := s.send(plain, b)
		if r.Err != nil || len(r.Retry) > 0 || len(r.Refused) != odd {
			s.Fatalf("try %d: %v, %d put off, %d refused", try, r.Err, len(r.Retry), len(r.Refused))
		}
		if one := r.Refused[0]; !strings.Contains(one.Reason, "pars") || !strings.Contains(one.Detail, "user") {
			s.Errorf("refused for %q: %s", one.Reason, one.Detail)
		}
	}
	index := "logs-shop-" + time.Now().UTC().Format("2006.01.02")
	if got := s.count("plain-*"); got != n-odd {
		s.Errorf("%d documents are stored, want %d", got, n-odd)
	}
	mapping := s.do("GET", "/"+index+"/_mapping", "")
	for field, kind := range map[string]string{"status_code": "integer", "request_time": "float", "message": "text", "id": "keyword"} {
		if !strings.Contains(mapping, fmt.Sprintf(`%q:{"type":%q`, field, kind)) {
			s.Errorf("%s is no %s in %s", field, kind, mapping)
		}
	}
	s.do("PUT", "/"+index+"/_settings", `{"index.blocks.read_only_allow_delete":true}`)
	if r := s.send(es, batch("Shop", 1)); len(r.Retry) != 1 || r.Reason != "blocked" || !strings.Contains(r.Why, "make room") {
		s.Errorf("read-only: %+v", r)
	}
	s.do("PUT", "/"+index+"/_settings", `{"index.blocks.read_only_allow_delete":null}`)
}

func (s *server) takesAnAlias() {
	es := s.sink(func(c *elastic.Config) { c.Index, c.Target = "rolling", elastic.ToAlias })
	b := batch("x", 2)
	if r := s.send(es, b); len(r.Retry) != 2 || !strings.Contains(r.Why, "tailwater setup") {
		s.Errorf("an alias that is not there: %+v", r)
	}
	if said := s.setup(es); !strings.Contains(said, "rolling-000001") {
		s.Errorf("setup says: %s", said)
	}
	for range 2 {
		if r := s.send(es, b); r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
			s.Errorf("%+v", r)
		}
	}
	if got := s.count("rolling"); got != 2 {
		s.Errorf("%d documents behind the alias", got)
	}
}

func (s *server) takesADataStream() {
	es := s.sink(func(c *elastic.Config) {
		c.Name, c.Index, c.Target = "stream", "stream-{project}", elastic.ToDataStream
	})
	if err := es.Setup(s.Context(), "stream", func(string) {}); err != nil {
		s.Fatal(err)
	}
	b := batch("x", 2)
	for range 2 {
		if r := s.send(es, b); r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
			s.Errorf("%+v", r)
		}
	}
	if got := s.count("stream-x"); got != 2 {
		s.Errorf("%d documents in the data stream", got)
	}
	if settings := s.do("GET", "/stream-x/_settings", ""); !strings.Contains(settings, ".ds-stream-x-") {
		s.Errorf("it is no data stream: %s", settings)
	}
}
