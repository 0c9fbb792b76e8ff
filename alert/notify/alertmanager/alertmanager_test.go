package alertmanager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/record"
)

// member is a member of a cluster.
type member struct {
	mu   sync.Mutex
	got  []posted
	down bool
}

func (m *member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if user, password, _ := r.BasicAuth(); m.down || r.URL.Path != "/api/v2/alerts" || user != "me" || password != "hunter2" {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	var all []posted
	if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.got = append(m.got, all...)
}

func item(kind alert.Kind) notify.Item {
	began := time.Now().Add(-time.Minute).Truncate(time.Second)
	it := notify.Item{Kind: kind, Labels: map[string]string{"rule": "slow", "k8s.pod": "a-1", "empty": "", "host": "web-1"},
		Annotations: map[string]string{"summary": "it is slow"}, Links: map[string]string{"kibana": "https://kibana/x"},
		Incident: alert.Incident{ID: "i1", Rule: "slow", Group: []record.KeyValue{{Key: "k8s.pod", Value: "a-1"}}, Began: began, Last: began}}
	if kind == alert.Resolved {
		it.Incident.Resolved = began.Add(30 * time.Second)
	}
	return it
}

func TestAlertIsKeptAliveAndEnded(t *testing.T) {
	up, broken := &member{}, &member{down: true}
	a, b := httptest.NewServer(up), httptest.NewServer(broken)
	defer a.Close()
	defer b.Close()
	c := &Cluster{URLs: []string{b.URL, a.URL + "/"}, User: "me", Password: "hunter2"}
	if err := c.Send(t.Context(), &notify.Message{Items: []notify.Item{item(alert.Opened)}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(t.Context(), []notify.Item{item(alert.Repeated)}); err != nil {
		t.Fatal(err)
	}
	// Both words at once, after it was down: only the last counts.
	if err := c.Send(t.Context(), &notify.Message{Items: []notify.Item{item(alert.Opened), item(alert.Resolved)}}); err != nil {
		t.Fatal(err)
	}
	if len(up.got) != 3 {
		t.Fatalf("%d alerts", len(up.got))
	}
	for i, p := range up.got {
		if p.Labels["alertname"] != "slow" || p.Labels["k8s_pod"] != "a-1" || p.Labels["host"] != "web-1" || len(p.Labels) != 3 {
			t.Errorf("labels: %v", p.Labels)
		}
		if p.Annotations["summary"] != "it is slow" || p.GeneratorURL != "https://kibana/x" || p.StartsAt.IsZero() {
			t.Errorf("%+v", p)
		}
		if over := !p.EndsAt.After(time.Now()); over != (i == 2) {
			t.Errorf("alert %d ends at %v", i, p.EndsAt)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	m := &member{down: true}
	s := httptest.NewServer(m)
	defer s.Close()
	c := &Cluster{URLs: []string{s.URL, s.URL}, User: "me", Password: "hunter2"}
	err := c.Send(t.Context(), &notify.Message{Texts: []string{"x"}})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "member 2") {
		t.Error(err)
	}
}
