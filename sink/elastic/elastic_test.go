package elastic

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// server is a fake for moods that a real Elasticsearch cannot be asked for.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	stored map[string]string // by index/id
	mood   func(requests int, ids []string) (status int, item func(id string) (int, string))
	asked  int
}

func newServer(t *testing.T) *server {
	s := &server{stored: make(map[string]string)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.bulk))
	t.Cleanup(s.Close)
	return s
}

func (s *server) bulk(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/_bulk" {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids, indexes, docs []string
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		var action struct {
			Create struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			} `json:"create"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		lines.Scan()
		ids, indexes, docs = append(ids, action.Create.ID), append(indexes, action.Create.Index), append(docs, lines.Text())
	}
	s.asked++
	status, item := 200, func(string) (int, string) { return 201, "" }
	if s.mood != nil {
		status, item = s.mood(s.asked, ids)
	}
	if item == nil {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"type":"some_exception","reason":"as the test wants"},"status":%d}`, status)
		return
	}
	errors := false
	var items []string
	for i, id := range ids {
		code, kind := item(id)
		key := indexes[i] + "/" + id
		if _, known := s.stored[key]; known && code == 201 {
			code, kind = 409, "version_conflict_engine_exception"
		}
		if code == 201 {
			s.stored[key] = docs[i]
			items = append(items, `{"create":{"status":201}}`)
			continue
		}
		errors = true
		items = append(items, fmt.Sprintf(`{"create":{"status":%d,"error":{"type":%q,"reason":"as the test wants"}}}`, code, kind))
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":%v,"items":[%s]}`, errors, strings.Join(items, ","))
}

// documents makes a batch of n documents of project Shop.
func documents(n int) *sink.Batch {
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Project: "Shop"})
	b := record.NewBlock(nil, nil, nil)
	batch := new(sink.Batch)
	r := new(record.Record)
	for i := range n {
		r.Reset()
		r.Put("message", fmt.Appendf(nil, "line %d", i), record.Text)
		b.Append(o, r, time.Now().UnixMilli(), true, int64(i))
		batch.Refs = append(batch.Refs, record.Ref{Block: b, Index: i})
	}
	return batch
}

func open(t *testing.T, c Config) *Sink {
	t.Helper()
	c.Index = "logs-{project}-{date}"
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func send(s *Sink, b *sink.Batch) sink.Result {
	answer := make(chan sink.Result, 1)
	s.Send(context.Background(), b, func(r sink.Result) { answer <- r })
	return <-answer
}

func TestADocumentIsCreatedUnderItsOwnIDInItsDaysIndex(t *testing.T) {
	fake := newServer(t)
	batch := documents(3)
	if r := send(open(t, Config{URLs: []string{fake.URL}}), batch); r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
		t.Fatalf("%+v", r)
	}
	for i, ref := range batch.Refs {
		key := fmt.Sprintf("logs-shop-%s/m-g-%d", time.Now().UTC().Format("2006.01.02"), i)
		if fake.stored[key] != string(ref.JSON()) {
			t.Errorf("%s holds %q", key, fake.stored[key])
		}
	}
}

func TestALostAnswerDoublesNothing(t *testing.T) {
	fake := newServer(t)
	s := open(t, Config{URLs: []string{fake.URL}})
	batch := documents(10)
	send(s, batch) // stored; say that the answer was lost
	if r := send(s, batch); r.Err != nil || len(r.Retry)+len(r.Refused) > 0 {
		t.Fatalf("a conflict is not delivered: %+v", r)
	}
	if len(fake.stored) != 10 {
		t.Errorf("%d documents stored", len(fake.stored))
	}
}

func TestEachItemIsJudgedByItself(t *testing.T) {
	fake := newServer(t)
	fake.mood = func(_ int, _ []string) (int, func(string) (int, string)) {
		return 200, func(id string) (int, string) {
			switch id {
			case "m-g-1":
				return 429, "es_rejected_execution_exception"
			case "m-g-2":
				return 400, "mapper_parsing_exception"
			case "m-g-3":
				return 403, "cluster_block_exception"
			case "m-g-4":
				return 503, "unavailable_shards_exception"
			}
			return 201, ""
		}
	}
	r := send(open(t, Config{URLs: []string{fake.URL}}), documents(6))
	if r.Err != nil || !slices.Equal(r.Retry, []int{1, 3, 4}) {
		t.Errorf("to be tried again: %v, %v", r.Retry, r.Err)
	}
	if len(r.Refused) != 1 || r.Refused[0].Index != 2 || r.Refused[0].Reason != "mapper_parsing_exception" || !strings.Contains(r.Refused[0].Detail, "as the test wants") {
		t.Errorf("refused: %+v", r.Refused)
	}
}

func TestARequestThatIsTooLargeIsHalvedUntilTheOneIsFound(t *testing.T) {
	fake := newServer(t)
	fake.mood = func(_ int, ids []string) (int, func(string) (int, string)) {
		if slices.Contains(ids, "m-g-37") {
			return 413, nil
		}
		return 200, func(string) (int, string) { return 201, "" }
	}
	r := send(open(t, Config{URLs: []string{fake.URL}}), documents(100))
	if r.Err != nil || len(r.Retry) > 0 || len(r.Refused) != 1 || r.Refused[0].Index != 37 {
		t.Errorf("%+v", r)
	}
	if len(fake.stored) != 99 {
		t.Errorf("%d of 99 are stored", len(fake.stored))
	}
}

func TestWordsForThePersonOnCall(t *testing.T) {
	for status, want := range map[int]string{401: "check api_key", 403: "give the role create_doc", 404: "are the urls those of Elasticsearch", 429: "needs more nodes",
		503: "GET _cluster/health says", 500: "some_exception"} {
		fake := newServer(t)
		fake.mood = func(int, []string) (int, func(string) (int, string)) { return status, nil }
		r := send(open(t, Config{URLs: []string{fake.URL}, Password: "hunter2", Username: "u"}), documents(1))
		if r.Err == nil || !strings.Contains(r.Err.Error(), want) || strings.Contains(r.Err.Error(), "hunter2") {
			t.Errorf("%d: %v", status, r.Err)
		}
	}
}

func TestAServerThatDoesNotAnswerIsATimeout(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-release
	}))
	defer hangs.Close()
	defer close(release)
	r := send(open(t, Config{URLs: []string{hangs.URL}, Timeout: 50 * time.Millisecond}), documents(1))
	if r.Err == nil || r.Reason != "timeout" {
		t.Errorf("%+v", r)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	if r := send(open(t, Config{URLs: []string{gone.URL}}), documents(1)); r.Err == nil || r.Reason != "unreachable" {
		t.Errorf("%+v", r)
	}
}

func TestTheGateFollowsTheServer(t *testing.T) {
	g := newGate(8)
	over := sink.Result{Reason: "overloaded", Err: fmt.Errorf("429")}
	ctx := context.Background()
	for range 8 {
		g.enter(ctx)
	}
	for range 8 { // all were under way together: they count once
		g.leave(over, time.Second)
	}
	if g.limit != 4 {
		t.Errorf("after one overload the limit is %v", g.limit)
	}
	for range 100 {
		g.enter(ctx)
		g.leave(sink.Result{}, time.Millisecond)
	}
	if g.limit != 8 {
		t.Errorf("after good answers the limit is %v", g.limit)
	}
	full := newGate(1)
	full.enter(ctx)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if full.enter(ended) == nil {
		t.Error("entered a full gate")
	}
}

// written counts the calls that bring a request to the network.
type written struct {
	net.Conn
	calls atomic.Int32
}

func (w *written) Write(p []byte) (int, error) {
	w.calls.Add(1)
	return w.Conn.Write(p)
}

// A body of megabytes leaves in one call behind its head, not in 32 KiB at a time.
func TestABodyIsSentInOneGo(t *testing.T) {
	got := make(chan int64, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
	}))
	defer server.Close()
	transport, w := newTransport(), new(written)
	defer transport.CloseIdleConnections()
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		w.Conn = c.(conn).Conn
		return conn{w}, nil
	}
	const size = 4 << 20
	resp, err := (&http.Client{Transport: transport}).Post(server.URL, "application/x-ndjson", bytes.NewReader(make([]byte, size)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := <-got; n != size || w.calls.Load() > 4 {
		t.Errorf("%d of %d bytes came, in %d calls", n, size, w.calls.Load())
	}
}

// Filebeat's api_key: is ID:KEY, Elasticsearch's own answer has it encoded.
func TestAnAPIKeyIsTakenInBothForms(t *testing.T) {
	for _, key := range []units.Secret{"id:key", "aWQ6a2V5"} {
		var got string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Get("Authorization")
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(server.Close)
		if r := send(open(t, Config{URLs: []string{server.URL}, APIKey: key}), documents(1)); r.Reason != "unauthorized" || got != "APIKey aWQ6a2V5" {
			t.Errorf("%+v, and the header is %q", r, got)
		}
	}
}
