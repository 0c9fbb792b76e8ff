package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/internal/units"
)

// AlertsStatus is what /api/v1/alerts tells.
type AlertsStatus struct {
	// Firing are the incidents that go on, the oldest first.
	Firing []notify.Item `json:"firing"`
	// History are the last notices, the newest first, with what became of them.
	History []notify.Notice `json:"history"`
	// Rules tell how each rule fares.
	Rules []alert.RuleStats `json:"rules"`
	// Fleet is the part in the fleet; nil where there is none.
	Fleet *FleetStatus `json:"fleet,omitempty"`
}

// status takes stock.
func (al *alerts) status() AlertsStatus {
	return AlertsStatus{Firing: al.firing(), History: al.dispatch.History(), Rules: al.stats(), Fleet: al.fleetStatus()}
}

// firing are the incidents that go on, with what their rules say of them.
func (al *alerts) firing() []notify.Item {
	al.mu.Lock()
	engine, rules, evaluator := al.engine, al.rules, al.evaluator
	al.mu.Unlock()
	out := []notify.Item{}
	for _, in := range firingOf(engine, evaluator) {
		for _, r := range rules {
			if r.Name() == in.Rule {
				route := routeOf(r, &in, al.agent.host)
				out = append(out, notify.NewItem(alert.Repeated, time.Now(), in, route))
			}
		}
	}
	return out
}

func (a *Agent) serveAlerts(w http.ResponseWriter, _ *http.Request) {
	serveJSON(w, http.StatusOK, a.alerts.status())
}

func (a *Agent) serveSilences(w http.ResponseWriter, _ *http.Request) {
	serveJSON(w, http.StatusOK, a.alerts.dispatch.Silences())
}

// serveSilence begins a silence: match (several), for, author, comment.
func (a *Agent) serveSilence(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s := notify.Silence{Author: r.FormValue("author"), Comment: r.FormValue("comment")}
	for _, text := range r.Form["match"] {
		m, err := notify.ParseMatcher(text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Matchers = append(s.Matchers, m)
	}
	length, err := units.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(w, "for: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.Until = time.Now().Add(length).UTC()
	s, err = a.alerts.dispatch.AddSilence(s)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.log.Info("silence begins", "id", s.ID, "author", s.Author, "until", s.Until, "matchers", fmt.Sprint(s.Matchers))
	serveJSON(w, http.StatusOK, s)
}

func (a *Agent) serveExpire(w http.ResponseWriter, r *http.Request) {
	known, err := a.alerts.dispatch.ExpireSilence(r.PathValue("id"))
	switch {
	case !known:
		http.Error(w, fmt.Sprintf("there is no silence %q; tailwater silence list shows them", r.PathValue("id")), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		a.log.Info("silence expired by hand", "id", r.PathValue("id"))
		fmt.Fprintln(w, "expired")
	}
}

// maxText bounds a line by hand.
const maxText = 8 << 10

// serveNotify sends a line by hand, and answers when it is sent, or when timeout is
// over: it is sent afterwards then.
func (a *Agent) serveNotify(w http.ResponseWriter, r *http.Request) {
	text := r.FormValue("text")
	if len(text) > maxText {
		http.Error(w, fmt.Sprintf("the text has %d bytes; at most %d are sent", len(text), maxText), http.StatusBadRequest)
		return
	}
	timeout, err := time.ParseDuration(r.FormValue("timeout"))
	if err != nil {
		http.Error(w, "timeout: give a duration such as 30s", http.StatusBadRequest)
		return
	}
	seq, err := a.alerts.dispatch.Say(strings.ToValidUTF8(text, "\uFFFD"), r.Form["channel"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	serveJSON(w, http.StatusOK, a.alerts.dispatch.Wait(ctx, seq))
}

var (
	alertsFiring   = gauge("alerts_firing", "Incidents of the rule that go on.", "rule")
	alertEvaluated = gauge("alert_last_evaluation_timestamp_seconds", "When the rule was last evaluated.", "rule")
	alertGroups    = gauge("alert_groups", "Groups that the rule watches.", "rule")
	alertBytes     = gauge("alert_window_bytes", "Memory of the rule's windows, about.", "rule")
	alertUncounted = counter("alert_uncounted_lines_total", "Lines that the rule could not count: too late, from the future, or of groups beyond max_groups or beyond the memory for them.", "rule", "reason")
	alertStale     = counter("alert_stale_incidents_total", "Incidents that were over when they were found, and told to nobody.", "rule")
	reportSkipped  = counter("report_uncounted_lines_total", "Lines that a report could not count: of days long past, from the future, or of groups beyond max_groups.", "report", "reason")
	fleetAlone     = gauge("fleet_alone", "Whether the host decides the rule on its own counts, as no evaluator is heard of.", "rule")
	fleetShare     = gauge("fleet_partitions", "Partitions of the fleet's counts that are decided here.")
	fleetDropped   = counter("fleet_dropped_seconds_total", "Seconds of counts that the fleet will not have.")
	noticesSent    = counter("notices_total", "Notices by what became of them on the channel.", "channel", "result")
)

// collect sends the metrics of the alerts.
func (al *alerts) collect(ch chan<- prometheus.Metric) {
	for _, s := range al.stats() {
		alertsFiring.send(ch, float64(s.Firing), s.Rule)
		if !s.Evaluated.IsZero() {
			alertEvaluated.send(ch, float64(s.Evaluated.UnixMilli())/1000, s.Rule)
		}
		alertGroups.send(ch, float64(s.Groups), s.Rule)
		alertBytes.send(ch, float64(s.Bytes), s.Rule)
		alertUncounted.send(ch, float64(s.Late), s.Rule, "late")
		alertUncounted.send(ch, float64(s.Future), s.Rule, "future")
		alertUncounted.send(ch, float64(s.Overflow), s.Rule, "max_groups")
		alertUncounted.send(ch, float64(s.Frozen), s.Rule, "memory")
		alertStale.send(ch, float64(s.Stale), s.Rule)
	}
	for _, s := range al.book.Skipped() {
		reportSkipped.send(ch, float64(s.Lines), s.Report, s.Reason)
	}
	if s := al.fleetStatus(); s != nil {
		s.collect(ch)
	}
	for _, c := range al.dispatch.Counts() {
		noticesSent.send(ch, float64(c.N), c.Channel, c.Result)
	}
}
