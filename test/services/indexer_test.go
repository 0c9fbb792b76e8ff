package services

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/test/rig"
)

// pair is an agent that ships to Kafka and an indexer that brings it to Elasticsearch.
type pair struct {
	t              *testing.T
	name           string
	agent, indexer *rig.Home
	running        map[*rig.Home]*rig.Agent
}

func newPair(t *testing.T, name string) *pair {
	t.Helper()
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, name: name, running: make(map[*rig.Home]*rig.Agent)}
	home := func(short, config string) *rig.Home {
		h := &rig.Home{Bin: bin, Dir: filepath.Join(dir, short)}
		if err := os.MkdirAll(filepath.Join(h.Dir, "logs"), 0o755); err != nil {
			t.Fatal(err)
		}
		config = strings.NewReplacer("$NAME", name, "$BROKER", servers.Brokers("KAFKA_BROKERS")[0], "$ES", servers.Value("ELASTICSEARCH_URL")).Replace(config)
		if err := h.WriteConfig(config); err != nil {
			t.Fatal(err)
		}
		return h
	}
	p.agent = home("a", `
inputs: {app: {files: [$DIR/logs/*.log], project: $NAME, format: json}}
outputs: {queue: {kafka: {brokers: ['$BROKER'], topic: 'piped-{project}'}}}
`)
	p.indexer = home("i", `
inputs: {relay: {kafka: {brokers: ['$BROKER'], topics: ['piped-$NAME', 'foreign-$NAME'], group: $NAME}}}
outputs: {search: {elasticsearch: {urls: ['$ES'], index: 'idx-{project}-{date}'}}}
`)
	t.Cleanup(func() {
		for _, a := range p.running {
			a.Kill()
		}
		if t.Failed() {
			t.Logf("agent:\n%s\nindexer:\n%s", p.agent.LogTail(), p.indexer.LogTail())
		}
	})
	return p
}

func (p *pair) start(h *rig.Home) {
	p.t.Helper()
	a, err := h.Start()
	if err != nil {
		p.t.Fatal(err)
	}
	p.running[h] = a
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	if err := a.Ready(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// lines are what the agent is given to read.
func (p *pair) lines(log string, from, n int) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(p.agent.Dir, "logs", log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"level":"info","message":"line %d of %s","n":%d,"log":%q}`+"\n", from+i, log, from+i, log)
	}
	if _, err := f.WriteString(b.String()); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until Elasticsearch has so many documents of the pair's project, and
// checks that they are those lines, one for one.
func (p *pair) await(logs []string, each int) {
	p.t.Helper()
	es := plainServer()
	ctx, cancel := context.WithTimeout(p.t.Context(), 4*time.Minute)
	defer cancel()
	pattern := "idx-" + p.name + "-*"
	if err := rig.Poll(ctx, "all lines in Elasticsearch", func() error {
		es.do(p.t, "POST", "/"+pattern+"/_refresh", "")
		got, err := es.try(p.t.Context(), "GET", "/"+pattern+"/_count?filter_path=count", "")
		if err != nil { // a new index has no shard for a moment
			return err
		}
		if got != fmt.Sprintf(`{"count":%d}`, each*len(logs)) {
			return fmt.Errorf("%s of %d%s", got, each*len(logs), es.odd(p.t.Context(), pattern))
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	seen := es.numbered(p.t, pattern)
	for _, log := range logs {
		for n := range each {
			if c := seen[fmt.Sprint(log, " ", n)]; c != 1 {
				p.t.Fatalf("line %d of %s is there %d times", n, log, c)
			}
		}
	}
	written := int64(0)
	for _, log := range logs {
		info, err := os.Stat(filepath.Join(p.agent.Dir, "logs", log))
		if err != nil {
			p.t.Fatal(err)
		}
		written += info.Size()
	}
	p.audit(written, each*len(logs))
}

// audit holds both ledgers to what the test knows: the agent's to the bytes and lines
// that were written, the indexer's to the records that Kafka says it has. Whoever was
// killed may have sent lines again, which counts in Kafka and nowhere else.
func (p *pair) audit(written int64, lines int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	if err := p.agent.Balanced(ctx, rig.Books{Written: written, Documents: map[string]int{"queue": lines}}); err != nil {
		p.t.Errorf("the agent's ledger: %v", err)
	}
	if err := rig.Poll(ctx, "the ledger to agree with Kafka", func() error {
		l, err := p.indexer.Ledger(ctx)
		if err != nil {
			return rig.Final(err)
		}
		// Asked each time: the client hears of new topics only every few seconds.
		records := recordsIn(p.t, "piped-"+p.name, "foreign-"+p.name)
		return (rig.Books{Input: "relay", Written: records, Documents: map[string]int{"search": int(records)}}).Agree(l)
	}); err != nil {
		p.t.Errorf("the indexer's ledger: %v", err)
	}
}

// recordsIn are how many offsets the partitions of those of the topics have given away
// that are there.
func recordsIn(t *testing.T, topics ...string) (n int64) {
	t.Helper()
	meta, err := admin().Metadata(t.Context(), &kafkago.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ask := make(map[string][]kafkago.OffsetRequest)
	for _, topic := range meta.Topics {
		for _, p := range topic.Partitions {
			if slices.Contains(topics, topic.Name) {
				ask[topic.Name] = append(ask[topic.Name], kafkago.LastOffsetOf(p.ID))
			}
		}
	}
	resp, err := admin().ListOffsets(t.Context(), &kafkago.ListOffsetsRequest{Topics: ask})
	if err != nil {
		t.Fatal(err)
	}
	for topic, parts := range resp.Topics {
		for _, p := range parts {
			if p.Error != nil {
				t.Fatalf("topic %s: %v", topic, p.Error)
			}
			n += p.LastOffset
		}
	}
	return n
}

// numbered counts the documents of each log and number.
func (e *elasticServer) numbered(t *testing.T, pattern string) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for after := ""; ; {
		var page struct {
			Hits struct {
				Hits []struct {
					Source struct {
						Log string
						N   int
					} `json:"_source"`
					Sort json.RawMessage `json:"sort"`
				}
			}
		}
		body := `{"size":5000,"_source":["log","n"],"sort":[{"n":"asc"},{"log.keyword":"asc"}]` + after + `}`
		if err := json.Unmarshal(e.do(t, "POST", "/"+pattern+"/_search", body), &page); err != nil {
			t.Fatal(err)
		}
		for _, h := range page.Hits.Hits {
			seen[fmt.Sprint(h.Source.Log, " ", h.Source.N)]++
			after = `,"search_after":` + string(h.Sort)
		}
		if len(page.Hits.Hits) == 0 {
			return seen
		}
	}
}

func TestLinesReachElasticsearchByWayOfKafka(t *testing.T) {
	p := newPair(t, "way")
	p.start(p.agent)
	p.lines("a.log", 0, 1000)
	p.start(p.indexer)
	p.lines("b.log", 0, 1000)
	p.await([]string{"a.log", "b.log"}, 1000)
	t.Run("foreign", func(t *testing.T) {
		// Without RequireAll the writer itself loses what it writes while the topic comes
		// into being.
		w := &kafkago.Writer{Addr: kafkago.TCP(servers.Brokers("KAFKA_BROKERS")...), Topic: "foreign-" + p.name, AllowAutoTopicCreation: true,
			BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafkago.RequireAll}
		defer w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := rig.Poll(ctx, "the topic", func() error {
			return w.WriteMessages(ctx, kafkago.Message{Value: []byte(`{"level":"error","msg":"from elsewhere","request_id":"r1"}`)},
				kafkago.Message{Value: []byte("2026-11-23T20:00:00Z WARN plain words")},
				kafkago.Message{Value: []byte(`{"@timestamp":"2026-11-23T20:00:01.000Z","@metadata":{"beat":"filebeat"},"message":"filebeat says","log":{"offset":7},"host":{"name":"h9"}}`)},
				kafkago.Message{Value: []byte(`{"message":"vector says","timestamp":"2026-11-23T20:00:02Z","source_type":"file","file":"/var/log/y.log"}`)})
		}); err != nil {
			t.Fatal(err)
		}
		if err := rig.Poll(ctx, "what others wrote", func() error {
			got, err := plainServer().try(ctx, "POST", "/idx-relay-*/_search", `{"query":{"match_all":{}}}`)
			if err != nil {
				return err
			}
			for _, want := range []string{"from elsewhere", `"request_id":"r1"`, `"level":"error"`, `"level":"warn"`, "plain words", `"file":"kafka:foreign-way/`,
				`"@timestamp":"2026-11-23T20:00:01.000Z"`, "filebeat says", `"orig_host.name":"h9"`, `"@timestamp":"2026-11-23T20:00:02.000Z"`, "vector says", `"orig_file":"/var/log/y.log"`} {
				if !strings.Contains(got, want) {
					return fmt.Errorf("no %s in %s", want, got)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, h := range []*rig.Home{p.agent, p.indexer} {
		if code, err := p.running[h].Stop(ctx); code != 0 || err != nil {
			t.Errorf("code %d, %v", code, err)
		}
		delete(p.running, h)
	}
	// What was committed at the stop is not read again.
	p.start(p.indexer)
	p.lines("a.log", 1000, 10)
	p.lines("b.log", 1000, 10)
	p.start(p.agent)
	p.await([]string{"a.log", "b.log"}, 1010)
	body, err := p.running[p.indexer].Get("/metrics")
	if err != nil || !strings.Contains(string(body), "tailwater_read_lines_total{input=\"relay\"} 20\n") {
		t.Errorf("%v; it read again:\n%s", err, grep(string(body), "read_lines_total"))
	}
}

func TestKilledAgentAndIndexerDoubleAndLoseNothing(t *testing.T) {
	p := newPair(t, "kills")
	p.start(p.agent)
	p.start(p.indexer)
	written := 0
	for range 4 {
		p.lines("a.log", written, 2500)
		p.lines("b.log", written, 2500)
		written += 2500
		time.Sleep(rand.N(700 * time.Millisecond)) // a moment that nobody has chosen
		for _, h := range []*rig.Home{p.agent, p.indexer} {
			p.running[h].Kill()
			p.start(h)
		}
	}
	p.await([]string{"a.log", "b.log"}, written)
}

func grep(text, word string) (found string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found += line
		}
	}
	return found
}
