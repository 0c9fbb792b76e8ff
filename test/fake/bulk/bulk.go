// Package bulk is an Elasticsearch that only knows the bulk API, for the moods that a
// real one cannot be asked for: busy for a third of the documents, silent, slow, lost
// in thought after it has stored everything, or talking nonsense.
package bulk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Server stores what it is sent, each document once under its index and id.
type Server struct {
	*httptest.Server
	gone chan struct{}

	mu   sync.Mutex // guards what follows
	mood Mood
	docs map[string]string // by index/id
	at   map[string]time.Time
	sent map[string]int // how often an id came
	// requests are when they came, bytes what their bodies had together.
	requests []time.Time
	bytes    int64
}

// Mood says how the server behaves. The zero value stores and answers as it should.
type Mood struct {
	// Item decides on one document before it is stored; "" and 0 store it.
	Item func(id, doc string) (status int, kind string)
	// Request decides on a request as a whole; 0 is to look at its items.
	Request func(n int) (status int)
	// LoseAnswer has everything stored, and the connection cut instead of an answer.
	LoseAnswer func(n int) bool
	// Answer changes the body of an answer.
	Answer func(body []byte) []byte
	// Hang keeps requests without an answer until the mood changes.
	Hang bool
	// Delay is how long an answer takes.
	Delay time.Duration
	// Gzip compresses answers for clients that say they read that.
	Gzip bool
}

// New starts a server on a free port.
func New() *Server {
	s := &Server{docs: make(map[string]string), at: make(map[string]time.Time), sent: make(map[string]int), gone: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Close ends the server, and the requests that hang.
func (s *Server) Close() {
	close(s.gone)
	s.Set(Mood{})
	s.Server.CloseClientConnections()
	s.Server.Close()
}

// Set changes the mood.
func (s *Server) Set(m Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

// Docs are the stored documents by INDEX/ID.
func (s *Server) Docs() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]string, len(s.docs))
	for key, doc := range s.docs {
		all[key] = doc
	}
	return all
}

// StoredAt is when the document of that id was stored; zero when it was not.
func (s *Server) StoredAt(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[id]
}

// Sent is how often a document of that id came.
func (s *Server) Sent(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent[id]
}

// Seen are the times of all requests, and the bytes of their bodies together.
func (s *Server) Seen() (requests []time.Time, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.requests...), s.bytes
}

func (s *Server) now() Mood {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mood
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/_bulk" {
		http.Error(w, `{"error":"not of interest here"}`, http.StatusNotFound)
		return
	}
	body, err := read(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, time.Now())
	s.bytes += int64(len(body))
	n := len(s.requests)
	s.mu.Unlock()
	for s.now().Hang {
		select {
		case <-r.Context().Done():
			return
		case <-s.gone:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
	m := s.now()
	if m.Delay > 0 {
		select {
		case <-time.After(m.Delay):
		case <-r.Context().Done():
		}
	}
	if m.Request != nil {
		if status := m.Request(n); status != 0 {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":{"type":"es_rejected_execution_exception","reason":"as the test wants"},"status":%d}`, status)
			return
		}
	}
	answer, err := s.store(m, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if m.LoseAnswer != nil && m.LoseAnswer(n) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			conn.Close()
		}
		return
	}
	if m.Answer != nil {
		answer = m.Answer(answer)
	}
	if m.Gzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(answer)
		z.Close()
		return
	}
	w.Write(answer)
}

func read(r *http.Request) ([]byte, error) {
	from := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		from = z
	}
	return io.ReadAll(from)
}

// store judges and stores the documents of one request, and makes the answer.
func (s *Server) store(m Mood, body []byte) ([]byte, error) {
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 64<<20)
	var items []string
	bad := false
	for lines.Scan() {
		var action struct {
			Create struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			} `json:"create"`
		}
		if err := json.Unmarshal(lines.Bytes(), &action); err != nil {
			return nil, err
		}
		lines.Scan()
		status, kind := 0, ""
		if m.Item != nil {
			status, kind = m.Item(action.Create.ID, lines.Text())
		}
		if status == 0 {
			status, kind = s.create(action.Create.Index, action.Create.ID, lines.Text())
		}
		s.mu.Lock()
		s.sent[action.Create.ID]++
		s.mu.Unlock()
		if status/100 == 2 {
			items = append(items, fmt.Sprintf(`{"create":{"status":%d}}`, status))
			continue
		}
		bad = true
		items = append(items, fmt.Sprintf(`{"create":{"status":%d,"error":{"type":%q,"reason":"as the test wants"}}}`, status, kind))
	}
	return fmt.Appendf(nil, `{"errors":%v,"items":[%s]}`, bad, strings.Join(items, ",")), lines.Err()
}

func (s *Server) create(index, id, doc string) (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := index + "/" + id
	if _, known := s.docs[key]; known {
		return http.StatusConflict, "version_conflict_engine_exception"
	}
	s.docs[key], s.at[id] = doc, time.Now()
	return http.StatusCreated, ""
}
