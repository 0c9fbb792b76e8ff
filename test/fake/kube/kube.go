// Package kube is an API server for the moods that a real one cannot be asked for: it
// forgets its history, answers slowly, cuts connections, and is away. It knows pods
// alone: list, watch from a version, bookmarks.
package kube

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Pod is what a test says of a pod.
type Pod struct {
	Namespace, Name, UID, Node string
	Labels, Annotations        map[string]string
	OwnerKind, Owner           string
	Images                     map[string]string // by container
}

// Server is one API server. Its methods may be called from any goroutine.
type Server struct {
	*httptest.Server
	TokenFile, CAFile string

	mu      sync.Mutex
	version int
	since   int // what came before this version is forgotten
	muted   int // the last watch that says nothing more
	pods    map[string]map[string]any
	history []change
	changed chan struct{} // closed and replaced at each change
	cut     chan struct{} // closed and replaced to end all connections
	delay   time.Duration
	away    bool
	refuse  int
	token   string
	// Lists and Watches count the requests.
	lists, watches int
	queries        []string
}

type change struct {
	version int
	kind    string
	object  map[string]any
	at      time.Time
}

// New starts a server whose token and authority lie in dir.
func New(dir string) (*Server, error) {
	s := &Server{version: 100, pods: make(map[string]map[string]any), changed: make(chan struct{}), cut: make(chan struct{}), token: "secret"}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.StartTLS()
	s.TokenFile, s.CAFile = filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, ca, 0o600); err != nil {
		return nil, err
	}
	return s, s.SetToken("secret")
}

// SetToken makes another token the valid one.
func (s *Server) SetToken(token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
	return os.WriteFile(s.TokenFile, []byte(token+"\n"), 0o600)
}

// SetDelay has every answer and every event come so much later.
func (s *Server) SetDelay(d time.Duration) { s.set(func() { s.delay = d }) }

// SetAway makes the server close connections without an answer, and those that are open.
func (s *Server) SetAway(away bool) {
	s.set(func() { s.away = away })
	s.Cut()
}

// Refuse answers everything with a status; 0 answers again.
func (s *Server) Refuse(status int) { s.set(func() { s.refuse = status }) }

// Mute has the watches that are open say nothing more. They stay open.
func (s *Server) Mute() { s.set(func() { s.muted = s.watches }) }

func (s *Server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Cut ends the connections that are open, in the midst of what they say.
func (s *Server) Cut() {
	s.set(func() { close(s.cut); s.cut = make(chan struct{}) })
	s.CloseClientConnections()
}

// Forget drops the history: watches from older versions are gone.
func (s *Server) Forget() {
	s.set(func() { s.version++; s.since, s.history = s.version, nil })
}

// Requests counts the lists and the watches so far.
func (s *Server) Requests() (lists, watches int, queries []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists, s.watches, append([]string(nil), s.queries...)
}

// Put creates or changes a pod.
func (s *Server) Put(p Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "ADDED"
	if s.pods[p.UID] != nil {
		kind = "MODIFIED"
	}
	s.version++
	s.pods[p.UID] = p.object(s.version)
	s.tell(kind, s.pods[p.UID])
}

// Delete removes a pod.
func (s *Server) Delete(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.pods[uid]
	if o == nil {
		return
	}
	delete(s.pods, uid)
	s.version++
	s.tell("DELETED", o)
}

// Bookmark tells the watches of the present version.
func (s *Server) Bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.tell("BOOKMARK", map[string]any{"kind": "Pod", "metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}})
}

func (s *Server) tell(kind string, object map[string]any) {
	s.history = append(s.history, change{s.version, kind, object, time.Now()})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (p Pod) object(version int) map[string]any {
	var containers []any
	for name, image := range p.Images {
		containers = append(containers, map[string]any{"name": name, "image": image, "resources": map[string]any{}})
	}
	meta := map[string]any{"name": p.Name, "namespace": p.Namespace, "uid": p.UID, "resourceVersion": strconv.Itoa(version),
		"labels": p.Labels, "annotations": p.Annotations,
		"managedFields": []any{map[string]any{"manager": "kubelet", "operation": "Update", "fieldsV1": map[string]any{"f:status": map[string]any{}}}}}
	if p.Owner != "" {
		meta["ownerReferences"] = []any{map[string]any{"kind": p.OwnerKind, "name": p.Owner, "controller": true, "uid": "x"}}
	}
	return map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": meta,
		"spec": map[string]any{"nodeName": p.Node, "containers": containers}, "status": map[string]any{"phase": "Running"}}
}

// ServeHTTP answers the one path that there is.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	delay, away, refuse, token, cut := s.delay, s.away, s.refuse, s.token, s.cut
	s.queries = append(s.queries, r.URL.RawQuery)
	s.mu.Unlock()
	if away {
		panic(http.ErrAbortHandler)
	}
	select {
	case <-time.After(delay):
	case <-cut:
		panic(http.ErrAbortHandler)
	case <-r.Context().Done():
		return
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer "+token:
		fail(w, http.StatusUnauthorized, "Unauthorized")
	case refuse != 0:
		fail(w, refuse, http.StatusText(refuse))
	case r.URL.Path != "/api/v1/pods":
		fail(w, http.StatusNotFound, "the server could not find the requested resource")
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, cut)
	default:
		s.list(w, r)
	}
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "code": code, "message": text})
}

// node is what the field selector asks for.
func node(r *http.Request) string {
	return strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
}

func on(o map[string]any, node string) bool {
	spec, ok := o["spec"].(map[string]any)
	return !ok || spec["nodeName"] == node
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.lists++
	items := []any{}
	for _, o := range s.pods {
		if on(o, node(r)) {
			items = append(items, o)
		}
	}
	version := s.version
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"kind": "PodList", "apiVersion": "v1",
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(version)}, "items": items})
}

// watch sends what came after the version, each event not before its delay is over.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, cut chan struct{}) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	seconds, _ := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	number := 0
	s.set(func() { s.watches++; number = s.watches })
	if err != nil || from < s.sinceNow() {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version: %d"}}`+"\n", from)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	w.(http.Flusher).Flush()
	over := time.After(time.Duration(max(seconds, 1)) * time.Second)
	for {
		s.mu.Lock()
		var next []change
		for _, c := range s.history {
			if c.version > from {
				next = append(next, c)
			}
		}
		changed, delay, muted := s.changed, s.delay, number <= s.muted
		s.mu.Unlock()
		if muted {
			next, changed = nil, nil
		}
		for _, c := range next {
			select {
			case <-time.After(time.Until(c.at.Add(delay))):
			case <-cut:
				panic(http.ErrAbortHandler)
			case <-r.Context().Done():
				return
			}
			from = c.version
			if on(c.object, node(r)) {
				out.Encode(map[string]any{"type": c.kind, "object": c.object})
			}
		}
		if len(next) > 0 {
			w.(http.Flusher).Flush()
			continue
		}
		select {
		case <-changed:
		case <-over:
			return
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) sinceNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}
