// Package alertmanager hands notices to Alertmanager, which groups and routes them.
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
)

// Cluster is one Alertmanager, or the members of a cluster: each is told everything,
// and one that listens suffices.
type Cluster struct {
	// URLs are the members' addresses, without /api.
	URLs []string
	// User and Password are for basic authentication; "" for none.
	User, Password string
	// Client sends; nil is one of its own.
	Client *http.Client
}

// aliveFor is how long Alertmanager takes an alert for firing without hearing of it
// again: the Dispatcher repeats it each minute.
const aliveFor = 5 * time.Minute

// posted is an alert of Alertmanager's API v2.
type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

var plain = notify.NewClient(http.DefaultTransport.(*http.Transport).Clone())

// Pace holds nothing back: Alertmanager groups by itself.
func (c *Cluster) Pace() notify.Pace { return notify.Pace{} }

// Send tells of the notices. Lines by hand and reports become alerts that end after
// five minutes.
func (c *Cluster) Send(ctx context.Context, m *notify.Message) error {
	now := time.Now()
	var all []posted
	last := make(map[string]int) // of each incident only the last word counts
	for i := range m.Items {
		a := toPost(&m.Items[i], now)
		if at, known := last[m.Items[i].Incident.ID]; known {
			all[at] = a
			continue
		}
		last[m.Items[i].Incident.ID] = len(all)
		all = append(all, a)
	}
	for _, text := range m.Texts {
		all = append(all, posted{Labels: map[string]string{"alertname": "notice", "host": m.Host, "severity": "info"},
			Annotations: map[string]string{"summary": text}, StartsAt: now, EndsAt: now.Add(aliveFor)})
	}
	if h := m.Heartbeat; h != nil {
		// It fires as long as it is repeated: who routes it to a dead man's switch hears
		// when it stops.
		all = append(all, posted{Labels: map[string]string{"alertname": "TailwaterWatchdog", "host": m.Host, "severity": "none"},
			Annotations: map[string]string{"summary": m.Title()}, StartsAt: h.At, EndsAt: now.Add(2*h.Every + 30*time.Second)})
	}
	if r := m.Report; r != nil {
		all = append(all, posted{Labels: map[string]string{"alertname": r.Name, "host": m.Host, "severity": "info"},
			Annotations: map[string]string{"summary": r.Title(), "details": m.Plain(8000)}, StartsAt: now, EndsAt: now.Add(aliveFor)})
	}
	return c.post(ctx, all)
}

// Keep says that the incidents go on.
func (c *Cluster) Keep(ctx context.Context, firing []notify.Item) error {
	now := time.Now()
	all := make([]posted, 0, len(firing))
	for i := range firing {
		all = append(all, toPost(&firing[i], now))
	}
	return c.post(ctx, all)
}

// toPost is the item as an alert. What names it for Alertmanager, its labels, is the
// same for all its life and without anything that changes.
func toPost(it *notify.Item, now time.Time) posted {
	p := posted{Labels: make(map[string]string), Annotations: make(map[string]string), StartsAt: it.Incident.Began, EndsAt: now.Add(aliveFor)}
	for key, value := range it.Labels {
		if key == "rule" {
			key = "alertname"
		}
		if value != "" {
			p.Labels[labelName(key)] = value
		}
	}
	p.Labels["alertname"] = it.Incident.Rule
	for key, value := range it.Annotations {
		p.Annotations[labelName(key)] = value
	}
	if p.Annotations["summary"] == "" {
		p.Annotations["summary"] = it.Headline()
	}
	m := notify.Message{Items: []notify.Item{*it}}
	p.Annotations["details"] = m.Plain(8000)
	p.Annotations["incident"] = it.Incident.ID
	for key, link := range it.Links {
		p.Annotations["link_"+labelName(key)] = link
		if p.GeneratorURL == "" || key == "kibana" {
			p.GeneratorURL = link
		}
	}
	if !it.Firing() {
		p.EndsAt = now
		if r := it.Incident.Resolved; !r.IsZero() && r.Before(now) && r.After(p.StartsAt) {
			p.EndsAt = r
		}
	}
	return p
}

// labelName makes a name of letters, digits and _ of a field's name.
func labelName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// post tells every member, and fails when none has listened.
func (c *Cluster) post(ctx context.Context, all []posted) error {
	data, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if c.User != "" {
		req := http.Request{Header: make(http.Header)}
		req.SetBasicAuth(c.User, c.Password)
		header["Authorization"] = req.Header["Authorization"]
	}
	client := c.Client
	if client == nil {
		client = plain
	}
	// A member that hangs must not use up the time of the others.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answers := make(chan error, len(c.URLs))
	for i, u := range c.URLs {
		go func() {
			answer, err := notify.Post(ctx, client, strings.TrimSuffix(u, "/")+"/api/v2/alerts", header, data)
			if err == nil {
				err = answer.Err()
			}
			if err != nil && len(c.URLs) > 1 {
				err = fmt.Errorf("member %d: %w", i+1, err)
			}
			answers <- err
		}()
	}
	var failed error
	heard := false
	for range c.URLs {
		if err := <-answers; err != nil {
			failed = errors.Join(failed, err)
		} else {
			heard = true
		}
	}
	if heard {
		return nil
	}
	return failed
}
