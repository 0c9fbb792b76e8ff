package notices

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPrometheusRules(t *testing.T) {
	t.Parallel()
	promtool := realTool(t, "promtool")
	for _, what := range []string{"check rules", "test rules"} {
		pattern := "*.rules.yaml"
		if what == "test rules" {
			pattern = "*.test.yaml"
		}
		files, err := filepath.Glob(root + "/deploy/prometheus/" + pattern)
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		cmd := exec.CommandContext(t.Context(), promtool, append(strings.Fields(what), files...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", what, err, out)
		}
	}
}

// metricName is a metric of tailwater's own in a rule.
var metricName = regexp.MustCompile(`tailwater_[a-z0-9_]+`)

// TestRulesNameWhatExists: a rule over a metric that does not exist never fires.
func TestRulesNameWhatExists(t *testing.T) {
	t.Parallel()
	page, err := exec.CommandContext(t.Context(), "grep", "-rhoE", "--include=*.go", `(counter|gauge)\("[a-z0-9_]+"|NewDesc\("tailwater_[a-z0-9_]+"`, root+"/agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, m := range regexp.MustCompile(`"(?:tailwater_)?([a-z0-9_]+)"`).FindAllStringSubmatch(string(page), -1) {
		known["tailwater_"+m[1]] = true
	}
	files, err := filepath.Glob(root + "/deploy/prometheus/*.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, root+"/deploy/prometheus/grafana.json") {
		rules, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(rules), -1)
		if len(found) < 5 {
			t.Errorf("%s names only %q", name, found)
		}
		for _, metric := range found {
			if base := strings.TrimSuffix(metric, "_bucket"); !known[base] {
				t.Errorf("%s: there is no metric %s", name, metric)
			}
		}
	}
	if raw, err := os.ReadFile(root + "/deploy/prometheus/grafana.json"); err != nil || !json.Valid(raw) {
		t.Errorf("the dashboard is no JSON: %v", err)
	}
}

// alertmanager is a real one; what it tells goes to told.
type alertmanager struct {
	w    *world
	url  string
	mu   sync.Mutex
	told []amNotice
}

type amNotice struct {
	Status string
	Alerts []amAlert
}

type amAlert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	UpdatedAt           time.Time
	Status              any // active, suppressed .. of the API, a text in notices
}

func (am *alertmanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var n amNotice
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	am.mu.Lock()
	defer am.mu.Unlock()
	am.told = append(am.told, n)
}

func (w *world) alertmanager() *alertmanager {
	w.Helper()
	tool := w.unrooted(realTool(w.T, "prometheus-alertmanager"))
	am := &alertmanager{w: w}
	s := httptest.NewServer(am)
	w.Cleanup(s.Close)
	cfg := filepath.Join(w.Dir, "am.yml")
	w.check(os.WriteFile(cfg, fmt.Appendf(nil, `
route: {receiver: test, group_by: [alertname], group_wait: 2s, group_interval: 2s, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: '%s', send_resolved: true}]}]
`, s.URL), 0o644))
	addr := fmt.Sprint("127.0.0.1:", w.port())
	am.url = "http://" + addr
	w.serve(am.url+"/-/ready", tool, "--config.file="+cfg, "--storage.path="+filepath.Join(w.Dir, "am"), "--web.listen-address="+addr, "--cluster.listen-address=")
	return am
}

// unrooted returns Debian's Alertmanager with the path of its templates, which is built
// in, made one below the world's directory: it is unpacked and not installed.
func (w *world) unrooted(command string) string {
	w.Helper()
	tree := filepath.Join(filepath.Dir(command), "tree")
	binary, err := os.ReadFile(filepath.Join(tree, "usr/bin/prometheus-alertmanager"))
	w.check(err)
	binary = bytes.ReplaceAll(binary, []byte("/usr/share/prometheus/alertmanager"), []byte("./sr/share/prometheus/alertmanager"))
	w.check(os.Symlink(filepath.Join(tree, "usr"), filepath.Join(w.Dir, "sr")))
	tool := filepath.Join(w.Dir, "alertmanager")
	w.check(os.WriteFile(tool, binary, 0o755))
	return tool
}

// alerts are those of that name, by project.
func (am *alertmanager) alerts(name string) (map[string]amAlert, error) {
	var all []amAlert
	if err := get(am.url+"/api/v2/alerts", &all); err != nil {
		return nil, err
	}
	out := make(map[string]amAlert)
	for _, a := range all {
		if a.Labels["alertname"] == name {
			out[a.Labels["project"]] = a
		}
	}
	return out, nil
}

func (a amAlert) state() string {
	s, _ := a.Status.(map[string]any)
	state, _ := s["state"].(string)
	return state
}

// TestAlertmanagerShowsWhatFires: an alert appears in a real Alertmanager with its labels,
// is grouped and silenced there, is kept alive and ends; the watchdog goes on.
func TestAlertmanagerShowsWhatFires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	am := w.alertmanager()
	w.configure(fmt.Sprintf(`
inputs: {apps: {files: '$DIR/logs/{project}/*.log', format: json}}
alerts:
  app-errors: {per: project, when: error >= 10, within: 8s, labels: {severity: page}, links: {kibana: 'https://kibana/{{.Group.project}}'}}
watchdog: {notify: [am], every: 5s}
notify: {am: {alertmanager: {urls: ['%s']}}}
`, am.url))
	w.check(send(http.MethodPost, am.url+"/api/v2/silences", fmt.Sprintf(`{"matchers":[{"name":"project","value":"shop","isRegex":false}],"startsAt":%q,"endsAt":%q,"createdBy":"ann","comment":"x"}`,
		time.Now().UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))))
	w.start()
	for _, project := range []string{"pay", "cart", "shop"} {
		w.log(project, "error", 10, time.Now())
	}
	var first map[string]amAlert
	w.eventually("three alerts", func() (err error) {
		if first, err = am.alerts("app-errors"); err == nil && len(first) < 3 {
			err = fmt.Errorf("there are %v", first)
		}
		return err
	})
	pay := first["pay"]
	if pay.Labels["severity"] != "page" || pay.Labels["host"] != "web-1" || time.Until(pay.EndsAt) < 4*time.Minute || pay.Annotations["link_kibana"] != "https://kibana/pay" {
		t.Errorf("%+v", pay)
	}
	contains(t, "details", pay.Annotations["details"], "error = 10 (limit: >= 10)", "no stock of item 17", "request_id=r-pay")
	w.eventually("the silence", func() error {
		all, err := am.alerts("app-errors")
		if err == nil && len(all) > 0 && all["shop"].state() != "suppressed" {
			err = fmt.Errorf("shop is %q", all["shop"].state())
		}
		return err
	})
	w.stop()
	w.log("pay", "error", 10, time.Now())
	w.start() // what fires is kept alive by the next process, too
	w.eventually("the alert kept alive", func() error {
		all, err := am.alerts("app-errors")
		if err == nil && !all["pay"].UpdatedAt.After(pay.UpdatedAt) {
			err = fmt.Errorf("updated at %s, as before", all["pay"].UpdatedAt)
		}
		return err
	})
	var beat amAlert
	w.eventually("the watchdog", func() error {
		all, err := am.alerts("TailwaterWatchdog")
		switch was := beat.UpdatedAt; {
		case err != nil || len(all) == 0:
			return fmt.Errorf("no heartbeat: %v", err)
		case was.IsZero():
			beat = all[""]
			return fmt.Errorf("one heartbeat")
		case !all[""].UpdatedAt.After(was):
			return fmt.Errorf("no second heartbeat")
		}
		return nil
	})
	w.eventually("the end", func() error {
		all, err := am.alerts("app-errors") // what has ended is not among them
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("there are %d", len(all))
		}
		return err
	})
	w.eventually("Alertmanager's own notices", func() error {
		am.mu.Lock()
		defer am.mu.Unlock()
		together, resolved := false, false
		for _, n := range am.told {
			var projects []string
			for _, a := range n.Alerts {
				projects = append(projects, a.Labels["project"])
				resolved = resolved || a.Labels["project"] == "pay" && a.Status == "resolved"
			}
			if slices.Contains(projects, "shop") {
				t.Errorf("a silenced alert is told: %v", projects)
			}
			together = together || slices.Contains(projects, "pay") && slices.Contains(projects, "cart")
		}
		if !together || !resolved {
			return fmt.Errorf("grouped: %v, resolved: %v: %+v", together, resolved, am.told)
		}
		return nil
	})
	if ready, err := w.agent.Get("/metrics"); err != nil || !strings.Contains(string(ready), `tailwater_notices_total{channel="am",result="heartbeat"}`) {
		t.Errorf("no heartbeat is counted: %v", err)
	}
}

// waits are the times in the rules, which a test has not.
var waits = regexp.MustCompile(`(?m)^(\s+for: ).*$`)

// TestPrometheusScrapesAndItsRulesFire: a real Prometheus reads the metrics of an agent
// whose lines fail and whose output is down, and the rules of deploy/prometheus say so.
func TestPrometheusScrapesAndItsRulesFire(t *testing.T) {
	t.Parallel()
	prometheus := realTool(t, "prometheus")
	w := newWorld(t)
	for _, name := range []string{"tailwater.rules.yaml", "logs.rules.yaml"} {
		rules, err := os.ReadFile(root + "/deploy/prometheus/" + name)
		w.check(err)
		w.check(os.WriteFile(filepath.Join(w.Dir, name), waits.ReplaceAll(rules, []byte("${1}1s")), 0o644))
	}
	listen, addr := fmt.Sprint("127.0.0.1:", w.port()), fmt.Sprint("127.0.0.1:", w.port())
	closed := w.port()
	w.check(os.WriteFile(filepath.Join(w.Dir, "prometheus.yml"), fmt.Appendf(nil, `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [tailwater.rules.yaml, logs.rules.yaml]
scrape_configs: [{job_name: tailwater, static_configs: [{targets: ['%s']}]}]
`, listen), 0o644))
	text := fmt.Sprintf(`state: $DIR/state
listen: %s
inputs:
  apps: {files: '$DIR/logs/{project}/*.log', format: json}
  gateway: {files: '$DIR/gateway/*.log', project: gateway, format: {nginx: '$remote_addr [$time_local] "$request" $status $request_time $upstream_response_time'}}
outputs: {search: {elasticsearch: {urls: ['http://127.0.0.1:%d'], index: logs}}}
alerts: {app-errors: {when: error >= 10}}
`, listen, closed)
	w.check(os.WriteFile(w.Config(), []byte(strings.ReplaceAll(text, "$DIR", w.Dir)), 0o644))
	w.log("pay", "info", 1, time.Now())
	gateway := func(n int) {
		w.check(os.MkdirAll(filepath.Join(w.Dir, "gateway"), 0o755))
		line := "10.0.0.1 [" + time.Now().Format("02/Jan/2006:15:04:05 -0700") + `] "GET /x HTTP/1.1" 502 0.120 0.110` + "\n"
		f, err := os.OpenFile(filepath.Join(w.Dir, "gateway", "a.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		w.check(err)
		defer f.Close()
		_, err = f.WriteString(strings.Repeat(line, n))
		w.check(err)
	}
	gateway(1)
	w.start()
	w.serve("http://"+addr+"/-/ready", prometheus, "--config.file="+filepath.Join(w.Dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(w.Dir, "tsdb"), "--web.listen-address="+addr, "--web.enable-lifecycle")
	firing := func() (names []string, err error) {
		var got struct {
			Data struct {
				Alerts []struct {
					Labels map[string]string
					State  string
				}
			}
		}
		err = get("http://"+addr+"/api/v1/alerts", &got)
		for _, a := range got.Data.Alerts {
			if a.State == "firing" {
				names = append(names, strings.Trim(a.Labels["alertname"]+" "+a.Labels["project"]+a.Labels["output"], " "))
			}
		}
		return names, err
	}
	w.eventually("the alerts in Prometheus", func() error {
		w.log("pay", "error", 20, time.Now()) // counters rise between two scrapes
		gateway(100)
		names, err := firing()
		for _, want := range []string{"LogErrors pay", "Http5xx gateway", "TailwaterOutputDown search"} {
			if err == nil && !slices.Contains(names, want) {
				err = fmt.Errorf("%s is not among %q", want, names)
			}
		}
		return err
	})
	names, err := firing()
	w.check(err)
	for _, wrong := range []string{"TailwaterDown", "TailwaterRuleNotEvaluated", "TailwaterStalledFile", "TailwaterCheckpointFails", "TailwaterConfigRefused"} {
		if slices.Contains(names, wrong) {
			t.Errorf("%s fires", wrong)
		}
	}
	for _, query := range []string{`tailwater_log_lines_total{project="pay",level="error"}`, `tailwater_http_requests_total{project="gateway",status_code="502"}`,
		`histogram_quantile(0.5, rate(tailwater_http_request_seconds_bucket{project="gateway"}[1m])) > 0.1`, `tailwater_http_upstream_seconds_count{project="gateway"}`,
		`tailwater_alerts_firing{rule="app-errors"} == 1`, `time() - tailwater_alert_last_evaluation_timestamp_seconds{rule="app-errors"} < 30`, `tailwater_notices_total{channel="log",result="delivered"}`,
		`project:http_errors:ratio1m{project="gateway"} > 0.9`} {
		w.eventually(query, func() error {
			var got struct {
				Data struct{ Result []json.RawMessage }
			}
			err := get("http://"+addr+"/api/v1/query?query="+url.QueryEscape(query), &got)
			if err == nil && len(got.Data.Result) != 1 {
				err = fmt.Errorf("%d results", len(got.Data.Result))
			}
			return err
		})
	}
}
