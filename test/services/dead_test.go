package services

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/test/rig"
)

// deadHome is an agent whose two outputs refuse some lines: Elasticsearch those with a
// field that its strict index does not know, Kafka those that are too large for their
// topic.
func deadHome(t *testing.T) *rig.Home {
	t.Helper()
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &rig.Home{Bin: bin, Dir: dir}
	err = h.WriteConfig(fmt.Sprintf(`
inputs: {app: {files: [$DIR/app.log], project: dead, format: json}}
outputs:
  search: {elasticsearch: {urls: ['%s'], index: 'refuses-{project}'}}
  queue: {kafka: {brokers: ['%s'], topic: 'refuses-{project}', compression: none}}
`, servers.Value("ELASTICSEARCH_URL"), servers.Brokers("KAFKA_BROKERS")[0]))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// output runs a command of the binary and returns what it prints and its exit code.
func output(t *testing.T, h *rig.Home, args ...string) (string, int) {
	t.Helper()
	cmd := h.Command(t.Context(), append(args, "-c", h.Config())...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Logf("%s: exit %d: %s", strings.Join(args, " "), exit.ExitCode(), exit.Stderr)
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func replay(t *testing.T, h *rig.Home, wantCode int, more ...string) (all []sink.Replayed) {
	t.Helper()
	out, code := output(t, h, append([]string{"dead", "replay", "--json"}, more...)...)
	if code != wantCode {
		t.Errorf("dead replay %v: exit code %d, want %d\n%s", more, code, wantCode, out)
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return all
}

func TestWhatOutputsRefusedIsReplayedOnceItsCauseIsGone(t *testing.T) {
	es, h := plainServer(), deadHome(t)
	es.do(t, "PUT", "/refuses-dead", `{"mappings":{"dynamic":"strict","properties":{"@timestamp":{"type":"date"},"message":{"type":"text"},
		"n":{"type":"long"},"offset":{"type":"long"},"id":{"type":"keyword"},"host":{"type":"keyword"},"input":{"type":"keyword"},"file":{"type":"text","fields":{"keyword":{"type":"keyword"}}},"project":{"type":"keyword"}}}}`)
	broker := &kafkago.Client{Addr: kafkago.TCP(servers.Brokers("KAFKA_BROKERS")...)}
	made, err := broker.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{Topic: "refuses-dead", NumPartitions: 1,
		ReplicationFactor: 1, ConfigEntries: []kafkago.ConfigEntry{{ConfigName: "max.message.bytes", ConfigValue: "3000"}}}}})
	if err = errors.Join(err, made.Errors["refuses-dead"]); err != nil {
		t.Fatal(err)
	}
	const n, odd, large = 300, 7, 11 // every 7th line has a new field, every 11th is large
	var text strings.Builder
	odds, larges := 0, 0
	for i := range n {
		fmt.Fprintf(&text, `{"n":%d,"message":"line %d`, i, i)
		if i%large == 0 {
			larges++
			text.WriteString(strings.Repeat(" and on", 600))
		}
		text.WriteString(`"`)
		if i%odd == 0 {
			odds++
			fmt.Fprintf(&text, `,"extra":%d`, i)
		}
		text.WriteString("}\n")
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "app.log"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, h)
	deadCount := func(m rig.Metrics, output string) int { return int(m.Sum("dead_letters_total", `output="`+output+`"`)) }
	awaitMetrics(t, a, "both outputs to be through", func(m rig.Metrics) bool {
		return m.Sum("output_lines_total", `output="search"`) == float64(n-odds) && deadCount(m, "search") == odds &&
			m.Sum("output_lines_total", `output="queue"`) == float64(n-larges) && deadCount(m, "queue") == larges
	})
	// What is refused is accounted for as such, also when it is replayed later.
	books := rig.Books{Written: int64(text.Len()), Documents: map[string]int{"search": n - odds, "queue": n - larges}}
	balanced := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := h.Balanced(ctx, books); err != nil {
			t.Error(err)
		}
	}
	balanced()
	out, _ := output(t, h, "dead", "list")
	for _, want := range []string{"search", "strict_dynamic_mapping_exception", fmt.Sprint(odds), "queue", fmt.Sprint(larges), "extra"} {
		if !strings.Contains(out, want) {
			t.Errorf("dead list does not say %q:\n%s", want, out)
		}
	}
	var letter sink.Letter
	out, _ = output(t, h, "dead", "show", "--output", "search", "--limit", "1")
	if err := json.Unmarshal([]byte(out), &letter); err != nil || letter.Output != "search" || letter.ID == "" || letter.File != filepath.Join(h.Dir, "app.log") || !strings.Contains(string(letter.Document), `"extra":0`) {
		t.Errorf("%v: the letter is %s", err, out)
	}
	if _, code := output(t, h, "dead", "show", "nobody's"); code != 1 {
		t.Errorf("an unknown id: exit code %d", code)
	}

	// Nothing has been mended: all are refused again, and stay.
	if all := replay(t, h, 3); len(all) != 2 || all[0].Delivered+all[1].Delivered != 0 || all[0].Refused+all[1].Refused != odds+larges {
		t.Errorf("%+v", all)
	}
	// One of the two causes is removed; the running agent sends.
	es.do(t, "PUT", "/refuses-dead/_mapping", `{"properties":{"extra":{"type":"long"}}}`)
	if all := replay(t, h, 0, "--output", "search"); len(all) != 1 || all[0].Delivered != odds || all[0].Refused != 0 {
		t.Errorf("%+v", all)
	}
	if all := replay(t, h, 0, "--output", "search"); len(all) != 1 || all[0].Letters != 0 {
		t.Errorf("a second replay sent again: %+v", all)
	}
	if out, code := output(t, h, "dead", "replay", "--output", "nowhere"); code != 1 {
		t.Errorf("an unknown output: exit code %d\n%s", code, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, err := a.Stop(ctx); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	// The other; nobody runs.
	altered, err := broker.IncrementalAlterConfigs(ctx, &kafkago.IncrementalAlterConfigsRequest{Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: "refuses-dead", Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "100000"}}}}})
	if err != nil || altered.Resources[0].Error != nil {
		t.Fatal(err, altered)
	}
	if all := replay(t, h, 0); len(all) != 1 || all[0].Output != "queue" || all[0].Delivered != larges {
		t.Errorf("%+v", all)
	}
	if out, code := output(t, h, "dead", "list"); code != 0 || out != "there are no dead letters\n" {
		t.Errorf("at the end: %s", out)
	}
	if out, code := output(t, h, "dead", "replay"); code != 0 || out != "there are no dead letters\n" {
		t.Errorf("at the end: %s", out)
	}
	for id, times := range es.ids(t, "refuses-dead") {
		if times != 1 {
			t.Errorf("%s is there %d times", id, times)
		}
	}
	balanced() // as the state directory tells it
	if got := len(es.ids(t, "refuses-dead")); got != n {
		t.Errorf("%d documents of %d lines in Elasticsearch", got, n)
	}
	ids := make(map[string]int)
	stored := readTopic(t, servers.Brokers("KAFKA_BROKERS"), "refuses-dead")
	for _, m := range stored[0] {
		ids[header(m, "id")]++
	}
	if len(ids) != n || stored.count() != n {
		t.Errorf("%d records of %d lines in Kafka", len(ids), n)
	}
}

// startAgent starts the home's agent, which ends with the test, and waits until it is
// ready.
func startAgent(t *testing.T, h *rig.Home) *rig.Agent {
	t.Helper()
	a, err := h.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Kill()
		if t.Failed() {
			t.Log(h.LogTail())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := a.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

// awaitMetrics waits until the agent's metrics are so.
func awaitMetrics(t *testing.T, a *rig.Agent, what string, so func(rig.Metrics) bool) rig.Metrics {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last rig.Metrics
	if err := rig.Poll(ctx, what, func() error {
		m, err := a.Metrics()
		if err != nil {
			return err
		}
		if last = m; !so(m) {
			return fmt.Errorf("delivered %v, dead %v", m.Sum("output_lines_total"), m.Sum("dead_letters_total"))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return last
}
