package services

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
