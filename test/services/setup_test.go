package services

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink/elastic"
	"github.com/tailwater/tailwater/test/rig"
)

// What setup makes is what the documents meet; running it again changes nothing, and
// what is the users' stays theirs.
func TestSetupMakesTypesAndTopics(t *testing.T) {
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	home := &rig.Home{Bin: bin, Dir: dir}
	err = home.WriteConfig(fmt.Sprintf(`
inputs: {app: {files: [$DIR/*.log], project: set}}
outputs:
  queue: {kafka: {brokers: ['%s'], topic: set-fixed}}
  many: {kafka: {brokers: ['%[1]s'], topic: 'set-{project}'}}
  search: {elasticsearch: {urls: ['%s'], index: 'setup-{project}-{date}'}}
`, servers.Brokers("KAFKA_BROKERS")[0], servers.Value("ELASTICSEARCH_URL")))
	if err != nil {
		t.Fatal(err)
	}
	setup := func() string {
		t.Helper()
		out, err := home.Command(t.Context(), "setup", "-c", filepath.Join(dir, "tailwater.yaml")).Output()
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out, err.(*exec.ExitError).Stderr)
		}
		return string(out)
	}
	first := setup()
	for _, want := range []string{"topic set-fixed: created, 3 partitions", "set-*", "no lifecycle management", "index template tailwater-search for setup-*-*"} {
		if !strings.Contains(first, want) {
			t.Errorf("it does not say %q:\n%s", want, first)
		}
	}
	es := plainServer()
	es.do(t, "PUT", "/_component_template/tailwater-custom", `{"template":{"mappings":{"properties":{"shop":{"type":"long"}}}}}`)
	if second := setup(); !strings.Contains(second, "topic set-fixed: exists") || !strings.Contains(second, "tailwater-custom: exists") {
		t.Errorf("the second time:\n%s", second)
	}
	f := newFile("set", "a")
	f.fields = func(r *record.Record, n int) {
		r.Put("status_code", []byte("200"), record.JSON)
		r.Put("request_time", []byte([]string{"1", "0.25"}[n%2]), record.JSON)
		r.Put("bytes_sent", []byte("5000000000"), record.JSON)
		r.Put("remote_addr", []byte([]string{"10.0.0.1", "unix:"}[n%2]), record.Text)
		r.Put("shop", []byte("7"), record.JSON)
		r.Put("when", []byte([]string{"2026-11-23", "yesterday"}[n%2]), record.Text)
	}
	mustTake(t, elasticSink(t, func(c *elastic.Config) { c.Index = "setup-{project}-{date}" }), batch(10, f))
	var indexes map[string]struct {
		Mappings struct {
			Properties map[string]struct{ Type string }
		}
	}
	if err := json.Unmarshal(es.do(t, "GET", "/setup-set-*/_mapping", ""), &indexes); err != nil || len(indexes) != 1 {
		t.Fatal(indexes, err)
	}
	for _, index := range indexes {
		for field, want := range map[string]string{"status_code": "integer", "request_time": "float", "bytes_sent": "long", "remote_addr": "ip",
			"message": "text", "id": "keyword", "@timestamp": "date", "offset": "long", "shop": "long", "when": "keyword", "file": "keyword"} {
			if got := index.Mappings.Properties[field].Type; got != want {
				t.Errorf("%s is %q, not %s", field, got, want)
			}
		}
	}
	es.do(t, "POST", "/setup-set-*/_refresh", "")
	var found struct {
		Hits struct{ Total struct{ Value int } }
	}
	query := `{"query":{"bool":{"filter":[{"range":{"request_time":{"lt":0.5}}},{"term":{"status_code":200}}]}}}`
	if err := json.Unmarshal(es.do(t, "POST", "/setup-set-*/_search", query), &found); err != nil || found.Hits.Total.Value != 5 {
		t.Errorf("the query finds %d of 5: %v", found.Hits.Total.Value, err)
	}
}

// The fleet's topics are made with what counting over hosts needs, and given it again
// when somebody has changed it; what cannot be mended is said.
func TestSetupMakesTheFleetsTopics(t *testing.T) {
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	home := &rig.Home{Bin: bin, Dir: dir}
	topic := fmt.Sprint("team-", time.Now().Unix())
	createTopic(t, topic, 5) // by somebody, for more evaluators
	configure := func(reports string) {
		t.Helper()
		if err := home.WriteConfig(fmt.Sprintf(`
inputs: {app: {files: [$DIR/*.log], project: set}}
outputs: {queue: {kafka: {brokers: ['%s'], topic: set-fixed}}}
alerts: {errors: {when: error >= 1, within: 2h}}
fleet: {topic: %s}
%s`, servers.Brokers("KAFKA_BROKERS")[0], topic, reports)); err != nil {
			t.Fatal(err)
		}
	}
	setup := func() (said string, err error) {
		t.Helper()
		out, err := home.Command(t.Context(), "setup", "-c", home.Config()).CombinedOutput()
		return string(out), err
	}
	wants := func(said string, err error, lines ...string) {
		t.Helper()
		if err != nil {
			t.Errorf("%v\n%s", err, said)
		}
		for _, want := range lines {
			if !strings.Contains(said, want) {
				t.Errorf("it does not say %q:\n%s", want, said)
			}
		}
	}
	names := []string{"cleanup.policy", "message.timestamp.type", "retention.ms"}
	counts := "cleanup.policy=delete message.timestamp.type=LogAppendTime retention.ms=15600000"
	are := func(want map[string]string) {
		t.Helper()
		for name, settings := range want { // the broker that is asked learns of it a little later
			pollFor(t, 20*time.Second, "the settings of "+topic+name, func() error {
				if got := topicSettings(t, topic+name, names...); !strings.HasPrefix(got, settings) {
					return fmt.Errorf("%s, want %s", got, settings)
				}
				return nil
			})
		}
	}

	configure("")
	said, err := setup()
	wants(said, err, "fleet: topic "+topic+": exists, its settings are as they must be; 5 partitions, delete",
		"fleet: topic "+topic+"-state: created; 5 partitions, compact", "fleet: topic "+topic+"-beat: created; 1 partitions, delete")
	are(map[string]string{"": counts, "-state": "cleanup.policy=compact", "-beat": "cleanup.policy=delete message.timestamp.type=LogAppendTime retention.ms=600000",
		"-days": kafkago.UnknownTopicOrPartition.Error()})

	alter := kafkago.IncrementalAlterConfigsRequestResource{ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic + "-state",
		Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: "cleanup.policy", Value: "delete", ConfigOperation: kafkago.ConfigOperationSet}}}
	if _, err := admin().IncrementalAlterConfigs(t.Context(), &kafkago.IncrementalAlterConfigsRequest{Resources: []kafkago.IncrementalAlterConfigsRequestResource{alter}}); err != nil {
		t.Fatal(err)
	}
	configure("reports: {daily: {count: warn}}")
	said, err = setup()
	wants(said, err, "fleet: topic "+topic+"-state: exists", "fleet: topic "+topic+"-days: created; 5 partitions, compact,delete")
	are(map[string]string{"": counts, "-state": "cleanup.policy=compact", "-days": "cleanup.policy=compact,delete message.timestamp.type=LogAppendTime retention.ms=1036800000"})

	topic += "-odd"
	createTopic(t, topic, 4)
	createTopic(t, topic+"-days", 2)
	configure("reports: {daily: {count: warn}}")
	if said, err := setup(); err == nil || !strings.Contains(said, topic+"-days has 2 partitions and "+topic+" has 4; give them as many") {
		t.Errorf("%v\n%s", err, said)
	}
}
