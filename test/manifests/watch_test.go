package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/source/kube"
	"github.com/tailwater/tailwater/test/rig"
)

// eavesdropper stands between a client and the API server, and can cut the connections.
type eavesdropper struct {
	*httptest.Server

	mu       sync.Mutex
	asked    []url.Values
	bookmark string // the version of the last one that went by
}

func eavesdrop(t *testing.T, c *rig.Cluster) *eavesdropper {
	t.Helper()
	to, err := url.Parse(c.URL)
	check(t, err)
	e := new(eavesdropper)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			e.mu.Lock()
			defer e.mu.Unlock()
			e.asked = append(e.asked, r.In.URL.Query())
		},
		Transport: c.Transport(), FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			r.Body = &overheard{ReadCloser: r.Body, by: e}
			return nil
		},
	}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { recover() }() // what the proxy does when the connection is cut
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		e.CloseClientConnections()
		e.Close()
	})
	return e
}

// overheard looks for bookmarks in what goes by.
type overheard struct {
	io.ReadCloser
	by   *eavesdropper
	line []byte
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	o.line = append(o.line, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(o.line, []byte("\n"))
		if !whole {
			return n, err
		}
		var event struct {
			Type   string
			Object struct {
				Metadata struct{ ResourceVersion string }
			}
		}
		if json.Unmarshal(line, &event) == nil && event.Type == "BOOKMARK" {
			o.by.mu.Lock()
			o.by.bookmark = event.Object.Metadata.ResourceVersion
			o.by.mu.Unlock()
		}
		o.line = append(o.line[:0], rest...)
	}
}

// seen are the last bookmark and the requests so far.
func (e *eavesdropper) seen() (bookmark string, asked []url.Values) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bookmark, append([]url.Values(nil), e.asked...)
}

// TestBookmarksOfARealAPIServer: a node on which nothing happens learns by bookmarks how
// far the cluster has come, and a watch that is cut goes on from there, without a list.
func TestBookmarksOfARealAPIServer(t *testing.T) {
	span(t)
	c := cluster(t)
	token := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(token, []byte(install(t, c)), 0o600))
	check(t, create(t, c, namespace("shop"), ""))
	e := eavesdrop(t, c)
	pod := func(name, node string) {
		t.Helper()
		_, err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/shop/pods", map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "main", "image": "shop:1"}}},
		})
		check(t, err)
	}
	pod("quiet", "node-a")
	pods := kube.New(kube.Config{Server: e.URL, TokenFile: token, Node: "node-a", Changed: func(string) {}, Forgotten: func(*kube.Pod) {}})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() { pods.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	known := func(n int) {
		t.Helper()
		check(t, rig.Poll(ctx, "the pods to be known", func() error {
			if pods.Known() != n || !pods.Up() {
				return fmt.Errorf("%d are; %s", pods.Known(), pods.Trouble())
			}
			return nil
		}))
	}
	known(1)
	for i := range 20 {
		pod(fmt.Sprint("elsewhere-", i), "node-b")
	}
	var bookmark string
	var before []url.Values
	check(t, rig.Poll(ctx, "a bookmark", func() error {
		if bookmark, before = e.seen(); bookmark == "" {
			return fmt.Errorf("none came after %d requests", len(before))
		}
		return nil
	}))
	e.CloseClientConnections()
	var after []url.Values
	check(t, rig.Poll(ctx, "the next watch", func() error {
		if _, after = e.seen(); len(after) == len(before) {
			return fmt.Errorf("nobody asks")
		}
		return nil
	}))
	if next := after[len(before)]; next.Get("watch") != "1" || next.Get("resourceVersion") != bookmark {
		t.Errorf("after the bookmark of version %s the client asks for %v", bookmark, next)
	}
	if began := before[len(before)-1].Get("resourceVersion"); began == bookmark {
		t.Errorf("the bookmark has brought nothing: both are version %s", bookmark)
	}
	pod("second", "node-a")
	known(2)
}
