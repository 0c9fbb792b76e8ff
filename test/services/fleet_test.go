package services

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/test/rig"
)

// pager takes notices in a webhook.
type pager struct {
	mu      sync.Mutex
	got     []notify.Item
	at      []time.Time
	reports []notify.Report
}

func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m notify.Message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Report != nil {
		p.reports = append(p.reports, *m.Report)
	}
	for _, it := range m.Items {
		p.got, p.at = append(p.got, it), append(p.at, time.Now())
	}
}

// of returns the notices of a project, with the time of the first.
func (p *pager) of(project string) (items []notify.Item, first time.Time) {
	return p.with("project", project)
}

// with returns the notices that have a label.
func (p *pager) with(label, value string) (items []notify.Item, first time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, it := range p.got {
		if it.Labels[label] == value {
			if items = append(items, it); len(items) == 1 {
				first = p.at[i]
			}
		}
	}
	return items, first
}

// fleetRig is a fleet of real processes: hosts that log, and evaluators.
type fleetRig struct {
	t          *testing.T
	pager      *pager
	hosts      []*rig.Home
	evaluators []*rig.Home
	running    map[*rig.Home]*rig.Agent
	topic      string
	broker     string
}

// fleetConfig is what the configurations say beside their places: $DIR, $BROKER, $NAME.
type fleetConfig struct{ host, evaluator, rules string }

// appErrors counts lines of hosts; the indexers' output takes nothing.
var appErrors = fleetConfig{
	host: `
inputs: {apps: {files: ['$DIR/logs/{project}/*.log'], format: json}}
outputs: {queue: {kafka: {brokers: ['$BROKER'], topic: '$NAME-logs'}}}
`,
	evaluator: `
inputs: {relay: {kafka: {brokers: ['$BROKER'], topics: ['$NAME-*'], group: $NAME}}}
outputs: {search: {elasticsearch: {urls: ['http://127.0.0.1:9'], index: 'never'}}}
`,
	rules: `
alerts:
  app-errors: {input: [apps], per: project, when: error >= 10 or fatal >= 1, within: 1m}
`,
}

func newFleetRig(t *testing.T, name string, brokers []string, hosts, evaluators int, c fleetConfig) *fleetRig {
	t.Helper()
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleetRig{t: t, pager: new(pager), running: make(map[*rig.Home]*rig.Agent), topic: name + "-alerts", broker: brokers[0]}
	s := httptest.NewServer(f.pager)
	home := func(host, config string) *rig.Home {
		h := &rig.Home{Bin: bin, Dir: filepath.Join(dir, host)}
		if err := os.MkdirAll(h.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		config = "state: $DIR/state\nlisten: ''\nhost: " + host + "\nlimits: {memory: 64MiB}\n" + config + c.rules +
			"fleet: {topic: " + f.topic + "}\nnotify: {pager: {webhook: {url: '" + s.URL + "'}}}\n"
		config = strings.NewReplacer("$DIR", h.Dir, "$BROKER", f.broker, "$NAME", name).Replace(config)
		if err := os.WriteFile(h.Config(), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		return h
	}
	for i := range hosts {
		f.hosts = append(f.hosts, home(fmt.Sprint("web-", i), c.host))
	}
	for i := range evaluators {
		f.evaluators = append(f.evaluators, home(fmt.Sprint("ix-", i), c.evaluator))
	}
	t.Cleanup(func() {
		for _, a := range f.running {
			a.Kill()
		}
		s.Close()
		if t.Failed() {
			for _, h := range append(f.hosts[:1:1], f.evaluators...) {
				t.Logf("%s:\n%s", h.Dir, h.LogTail())
			}
		}
	})
	return f
}

func (f *fleetRig) start(homes ...*rig.Home) {
	f.t.Helper()
	for _, h := range homes {
		a, err := h.Start()
		if err != nil {
			f.t.Fatal(err)
		}
		f.running[h] = a
	}
}

func (f *fleetRig) kill(h *rig.Home) {
	f.running[h].Kill()
	delete(f.running, h)
}

// stop has a process end as it should.
func (f *fleetRig) stop(h *rig.Home) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	if code, err := f.running[h].Stop(ctx); code != 0 || err != nil {
		f.t.Errorf("%s: code %d, %v", h.Dir, code, err)
	}
	delete(f.running, h)
}

// errors writes error lines of now to a project's log on a host.
func (f *fleetRig) errors(host int, project string, n int) {
	f.t.Helper()
	f.errorsWith(host, project, fmt.Sprintf(`"request_id":"r-%d"`, host), n)
}

// errorsWith writes error lines that have something more in them.
func (f *fleetRig) errorsWith(host int, project, more string, n int) {
	f.t.Helper()
	dir := filepath.Join(f.hosts[host].Dir, "logs", project)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "a.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	for i := range n {
		if _, err := fmt.Fprintf(log, `{"time":%q,"level":"error","msg":"no stock %d",%s}`+"\n",
			time.Now().UTC().Format(time.RFC3339Nano), i, more); err != nil {
			f.t.Fatal(err)
		}
	}
}

// alerts is what an agent's /api/v1/alerts says of its part in the fleet.
func (f *fleetRig) alerts(h *rig.Home) (s struct {
	Fleet struct {
		Node      *struct{ Alone []string }
		Evaluator *struct {
			Partitions []int
			Of         int
		}
	}
}) {
	f.t.Helper()
	if body, err := f.running[h].Get("/api/v1/alerts"); err == nil {
		if err := json.Unmarshal(body, &s); err != nil {
			f.t.Fatal(err)
		}
	}
	return s
}

// decided waits until the running evaluators decide everything.
func (f *fleetRig) decided(within time.Duration) {
	f.t.Helper()
	f.poll(within, "the evaluators to decide all partitions", func() error {
		have, of := 0, 1
		for _, h := range f.evaluators {
			if f.running[h] == nil {
				continue
			}
			if e := f.alerts(h).Fleet.Evaluator; e != nil && e.Of > 0 {
				have, of = have+len(e.Partitions), e.Of
			}
		}
		if have != of {
			return fmt.Errorf("%d of %d", have, of)
		}
		return nil
	})
}

func (f *fleetRig) poll(within time.Duration, what string, try func() error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), within)
	defer cancel()
	if err := rig.Poll(ctx, what, try); err != nil {
		f.t.Fatal(err)
	}
}

// told waits until a project has had so many notices.
func (f *fleetRig) told(project string, n int, within time.Duration) []notify.Item {
	f.t.Helper()
	return f.toldOf("project", project, n, within)
}

// toldOf is told for any label.
func (f *fleetRig) toldOf(label, value string, n int, within time.Duration) []notify.Item {
	f.t.Helper()
	f.poll(within, "the notice of "+value, func() error {
		if items, _ := f.pager.with(label, value); len(items) < n {
			return fmt.Errorf("%d of %d", len(items), n)
		}
		return nil
	})
	items, _ := f.pager.with(label, value)
	return items
}

// counted waits until the evaluators have what a host has counted: a fatal line that
// comes after it has been told.
func (f *fleetRig) counted(marker string) {
	f.t.Helper()
	for i := range f.hosts {
		f.errors(i, fmt.Sprint(marker, "-", i), 10)
	}
	for i := range f.hosts {
		f.told(fmt.Sprint(marker, "-", i), 1, 20*time.Second)
	}
}

// untold checks that a project has had no more notices than these.
func (f *fleetRig) untold(project string, n int) {
	f.t.Helper()
	if items, _ := f.pager.of(project); len(items) != n {
		f.t.Fatalf("%s: %d notices, want %d: %+v", project, len(items), n, items)
	}
}

// same checks that the notices are of one incident. One that was told of just
// before the evaluator was killed may be told of twice: the pager's answer was not
// recorded yet.
func (f *fleetRig) same(items []notify.Item) {
	f.t.Helper()
	if n := len(items); n < 1 || n > 2 || items[0].Incident.ID != items[n-1].Incident.ID {
		f.t.Errorf("%d notices, want one incident's, at most two: %+v", n, items)
	}
}

func TestTenErrorsOverFiveAgentsAreToldOnce(t *testing.T) {
	f := newFleetRig(t, "fleet", servers.Brokers("KAFKA_BROKERS"), 5, 2, appErrors)
	f.start(f.evaluators...)
	f.start(f.hosts...)
	f.decided(60 * time.Second)
	f.settings()
	for i := range 9 {
		f.errors(i%5, "pay", 1)
	}
	f.counted("first") // what is told of every host comes after what it had to say before
	f.untold("pay", 0)
	began := time.Now()
	f.errors(4, "pay", 1)
	it := f.told("pay", 1, 30*time.Second)[0] // of a machine that does other things, too
	_, at := f.pager.of("pay")
	t.Logf("told %v after the tenth line", at.Sub(began).Round(time.Millisecond))
	in := it.Incident
	if len(in.Hosts) != 5 || in.Hosts[0].Lines != 2 || len(in.Files) != 5 || len(in.Samples) < 3 || !strings.HasPrefix(in.Samples[0].RequestID, "r-") || in.Note != "" {
		t.Errorf("%+v", in)
	}

	// One of the evaluators dies, and comes back; an agent dies, and comes back.
	f.errors(0, "half", 5)
	f.counted("second")
	f.kill(f.evaluators[0])
	f.kill(f.hosts[0])
	f.errors(1, "half", 4)
	f.start(f.hosts[0])
	f.decided(40 * time.Second)
	f.counted("third")
	f.untold("half", 0)
	f.errors(0, "half", 1)
	f.told("half", 1, 20*time.Second)

	// Everything comes once more.
	f.replay()
	f.counted("fourth")
	for _, project := range []string{"pay", "half", "first-0", "first-4", "third-2"} {
		f.untold(project, 1)
	}
	items, _ := f.pager.of("second-1")
	f.same(items)
	for h := range f.running {
		if h != f.evaluators[1] { // its lines wait for Elasticsearch, which is down
			f.stop(h)
		}
	}
	f.audit()
}

// audit holds the ledgers of the hosts to what they have logged.
func (f *fleetRig) audit() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	for _, h := range f.hosts {
		logs, err := filepath.Glob(filepath.Join(h.Dir, "logs", "*", "*.log"))
		if err != nil {
			f.t.Fatal(err)
		}
		books := rig.Books{Documents: make(map[string]int)}
		for _, name := range logs {
			data, err := os.ReadFile(name)
			if err != nil {
				f.t.Fatal(err)
			}
			books.Written += int64(len(data))
			books.Documents["queue"] += bytes.Count(data, []byte("\n"))
		}
		if err := h.Balanced(ctx, books); err != nil {
			f.t.Errorf("%s: %v", h.Dir, err)
		}
	}
}

// settings checks what the topics are that the agents have made.
func (f *fleetRig) settings() {
	f.t.Helper()
	for topic, want := range map[string]string{
		f.topic:            "cleanup.policy=delete message.timestamp.type=LogAppendTime",
		f.topic + "-state": "cleanup.policy=compact message.timestamp.type=CreateTime",
		f.topic + "-beat":  "cleanup.policy=delete message.timestamp.type=LogAppendTime",
	} {
		if got := topicSettings(f.t, topic, "cleanup.policy", "message.timestamp.type"); got != want {
			f.t.Errorf("topic %s: %v, want %s", topic, got, want)
		}
	}
}

// topicSettings are those of a topic, in the order of their names.
func topicSettings(t *testing.T, topic string, names ...string) string {
	t.Helper()
	resp, err := admin().DescribeConfigs(t.Context(), &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: names}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Resources[0].Error; err != nil {
		return err.Error()
	}
	var got []string
	for _, e := range resp.Resources[0].ConfigEntries {
		got = append(got, e.ConfigName+"="+e.ConfigValue)
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

// replay appends all counts to their partitions once more.
func (f *fleetRig) replay() {
	f.t.Helper()
	f.again(f.topic, func(kafkago.Message) bool { return true })
}

// again appends those records of a topic to their partitions once more.
func (f *fleetRig) again(topic string, which func(kafkago.Message) bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	client := &kafkago.Client{Addr: kafkago.TCP(f.broker)}
	for p, messages := range readTopic(f.t, []string{f.broker}, topic) {
		var again []kafkago.Record
		for _, m := range messages {
			if which(m) {
				again = append(again, kafkago.Record{Key: kafkago.NewBytes(m.Key), Value: kafkago.NewBytes(m.Value), Time: time.Now()})
			}
		}
		if len(again) == 0 {
			continue
		}
		resp, err := client.Produce(ctx, &kafkago.ProduceRequest{Topic: topic, Partition: p, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(again...)})
		if err != nil || resp.Error != nil {
			f.t.Fatal(err, resp)
		}
	}
}

// Kafka dies: the hosts decide, each for itself, and say so. It comes back, and what
// was told is not told again.
func TestFleetWithoutKafka(t *testing.T) {
	torture(t)
	own := startOwn(t, "SERVICES=kafka")
	f := newFleetRig(t, "alone", own.Brokers("KAFKA_BROKERS"), 3, 1, appErrors)
	f.start(f.evaluators...)
	f.start(f.hosts...)
	f.decided(60 * time.Second)
	f.errors(0, "before", 10)
	f.told("before", 1, 20*time.Second)
	f.counted("later") // by then a heartbeat has said that it was told
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := own.Kill(ctx, "kafka-1"); err != nil {
		t.Fatal(err)
	}
	f.errors(0, "pay", 10)
	f.errors(1, "sum", 6)
	f.errors(2, "sum", 6)
	it := f.told("pay", 1, 40*time.Second)[0]
	if note := it.Incident.Note; !strings.Contains(note, "web-0 alone") || !strings.Contains(note, "Kafka") {
		t.Errorf("the notice does not say who has counted: %q", note)
	}
	f.errors(1, "own", 10)
	f.told("own", 1, 10*time.Second)
	if err := own.Up(ctx); err != nil {
		t.Fatal(err)
	}
	f.decided(60 * time.Second)
	if note := f.told("sum", 1, 30*time.Second)[0].Incident.Note; note != "" {
		t.Errorf("the fleet has counted, and says %q", note)
	}
	f.poll(30*time.Second, "the hosts to leave it to the evaluators", func() error {
		for _, h := range f.hosts {
			if n := f.alerts(h).Fleet.Node; n == nil || len(n.Alone) > 0 {
				return fmt.Errorf("%s decides alone", h.Dir)
			}
		}
		return nil
	})
	f.counted("after")
	for _, project := range []string{"before", "pay", "sum", "own"} {
		f.untold(project, 1)
	}
	f.audit()
}
