package services

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/tailwater/tailwater/test/fake/bulk"
)

// foreign writes error lines of another shipper to a partition.
func (f *fleetRig) foreign(topic string, partition int, project string, n int) {
	f.t.Helper()
	f.shipped(topic, partition, "error", project, "no stock", n)
}

// shipped writes lines of another shipper to a partition.
func (f *fleetRig) shipped(topic string, partition int, level, project, message string, n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var records []kafkago.Record
	for i := range n {
		records = append(records, kafkago.Record{Time: time.Now(), Value: kafkago.NewBytes(fmt.Appendf(nil, `{"time":%q,"level":%q,"msg":"%s %d","shop":%q}`,
			time.Now().UTC().Format(time.RFC3339Nano), level, message, i, project))})
	}
	client := &kafkago.Client{Addr: kafkago.TCP(f.broker)}
	resp, err := client.Produce(ctx, &kafkago.ProduceRequest{Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...)})
	if err != nil || resp.Error != nil {
		f.t.Fatal(err, resp)
	}
}

// A rule over a kafka input counts what other shippers bring, and what agents have
// shipped once, there where it was read; also when an indexer is killed, and when its
// partitions go to another.
func TestRulesCountWhatComesFromKafkaOnce(t *testing.T) {
	name := fmt.Sprint("relayed-", time.Now().Unix())
	f := newFleetRig(t, name, servers.Brokers("KAFKA_BROKERS"), 1, 2, fleetConfig{
		host: `
inputs: {apps: {files: ['$DIR/logs/{project}/*.log'], format: json, fields: {env: prod}}}
outputs: {queue: {kafka: {brokers: ['$BROKER'], topic: '$NAME-logs'}}}
`,
		evaluator: `
inputs: {relay: {kafka: {brokers: ['$BROKER'], topics: ['$NAME-logs'], group: $NAME}, format: json}}
outputs: {nowhere: {discard: {}}}
`,
		rules: `
alerts:
  everything: {input: [apps, relay], per: shop, when: error >= 100, within: 10m}
`,
	})
	topic := name + "-logs"
	createTopic(t, topic, 4)
	f.start(f.hosts[0], f.evaluators[0])
	f.decided(60 * time.Second)
	// markers are counted after all that was written before them.
	markers := func(name string) {
		t.Helper()
		for p := range 4 {
			f.foreign(topic, p, fmt.Sprint(name, p), 100)
		}
		for p := range 4 {
			f.toldOf("shop", fmt.Sprint(name, p), 1, 60*time.Second)
		}
	}
	f.errorsWith(0, "x", `"shop":"pay"`, 40)
	f.foreign(topic, 1, "pay", 20)
	f.foreign(topic, 2, "pay", 10)
	markers("first")
	f.kill(f.evaluators[0])
	f.foreign(topic, 3, "pay", 10)
	f.start(f.evaluators[0])
	f.decided(60 * time.Second)
	markers("second")
	f.start(f.evaluators[1])
	f.poll(60*time.Second, "both to read partitions", func() error {
		for _, h := range f.evaluators {
			if body, err := f.running[h].Get("/metrics"); err != nil || grep(string(body), `consumer_lag{`) == "" {
				return fmt.Errorf("%s reads none: %v", h.Dir, err)
			}
		}
		return nil
	})
	for p := range 4 {
		f.foreign(topic, p, "pay", 3)
	}
	markers("third")
	f.stop(f.evaluators[0])
	f.decided(60 * time.Second)
	f.foreign(topic, 0, "pay", 7)
	markers("fourth")
	if items, _ := f.pager.with("shop", "pay"); len(items) != 0 {
		t.Fatalf("told of 99 lines: %+v", items)
	}
	f.foreign(topic, 0, "pay", 1)
	f.toldOf("shop", "pay", 1, 30*time.Second)
}

// Elasticsearch answers nothing for as long as it takes: rules over what comes from Kafka
// are evaluated all the same, and count each record once, whoever is killed, reloads, joins
// or leaves meanwhile; so does the catching up when Elasticsearch is back.
func TestRulesOverKafkaGoOnWhileElasticsearchIsSilent(t *testing.T) {
	es := bulk.New()
	t.Cleanup(es.Close)
	es.Set(bulk.Mood{Hang: true})
	name := fmt.Sprint("silent-", time.Now().Unix())
	f := newFleetRig(t, name, servers.Brokers("KAFKA_BROKERS"), 1, 2, fleetConfig{
		evaluator: `
shutdown_timeout: 3s
inputs: {relay: {kafka: {brokers: ['$BROKER'], topics: ['$NAME-logs'], group: $NAME}, format: json}}
outputs: {search: {elasticsearch: {urls: ['` + es.URL + `'], index: 'logs-{date}'}}}
`,
		rules: `
alerts:
  everything: {input: [relay], per: shop, when: error >= 100, within: 10m}
`,
	})
	topic, written := name+"-logs", 0
	createTopic(t, topic, 4)
	f.start(f.evaluators[0])
	f.decided(60 * time.Second)
	errors := func(partition int, shop string, n int) {
		written += n
		f.foreign(topic, partition, shop, n)
	}
	// flood is more than the queue takes, by far.
	flood := func() {
		for range 6 {
			for p := range 4 {
				f.shipped(topic, p, "info", "quiet", strings.Repeat("all is well ", 50), 1200)
				written += 1200
			}
		}
	}
	// markers are counted after all that was written before them.
	markers := func(name string) {
		t.Helper()
		for p := range 4 {
			errors(p, fmt.Sprint(name, p), 100)
		}
		for p := range 4 {
			f.toldOf("shop", fmt.Sprint(name, p), 1, 60*time.Second)
		}
	}
	flood()
	errors(1, "pay", 40)
	markers("first")

	f.kill(f.evaluators[0])
	errors(3, "pay", 8)
	f.start(f.evaluators[0])
	f.decided(60 * time.Second)
	markers("second")

	errors(2, "pay", 1)
	if err := f.running[f.evaluators[0]].Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	errors(2, "pay", 1)
	f.poll(60*time.Second, "the configuration to be read again", func() error {
		if !strings.Contains(f.evaluators[0].LogTail(), "configuration reloaded") {
			return fmt.Errorf("%s", f.evaluators[0].LogTail())
		}
		return nil
	})
	f.start(f.evaluators[1])
	f.poll(60*time.Second, "both to read partitions", func() error {
		for _, h := range f.evaluators {
			if body, err := f.running[h].Get("/metrics"); err != nil || grep(string(body), `consumer_lag{`) == "" {
				return fmt.Errorf("%s reads none: %v", h.Dir, err)
			}
		}
		return nil
	})
	flood()
	for p := range 4 {
		errors(p, "pay", 8)
	}
	markers("third")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code, err := f.running[f.evaluators[0]].Stop(ctx); code != 3 || err != nil {
		t.Fatalf("code %d, %v: it has lines that nobody takes", code, err)
	}
	delete(f.running, f.evaluators[0])
	f.decided(60 * time.Second)
	errors(0, "pay", 17)
	markers("fourth")
	if items, _ := f.pager.with("shop", "pay"); len(items) != 0 {
		t.Fatalf("told of 99 lines: %+v", items)
	}
	if proc, err := f.running[f.evaluators[1]].Proc(); err != nil || proc.Peak > 64<<20 {
		t.Errorf("memory has been %d MiB, %v", proc.Peak>>20, err)
	}
	if n := len(es.Docs()); n != 0 {
		t.Fatalf("Elasticsearch has %d documents, and was to be silent", n)
	}
	errors(0, "pay", 1)
	f.toldOf("shop", "pay", 1, 30*time.Second)

	es.Set(bulk.Mood{})
	f.poll(2*time.Minute, "all documents", func() error {
		if n := len(es.Docs()); n != written {
			return fmt.Errorf("%d of %d", n, written)
		}
		return nil
	})
	markers("fifth")
	for _, shop := range []string{"pay", "second1", "third2", "fourth3", "fifth0"} {
		if items, _ := f.pager.with("shop", shop); len(items) != 1 {
			t.Errorf("%d notices of %s: %+v", len(items), shop, items)
		}
	}
	items, _ := f.pager.with("shop", "first0")
	f.same(items)
}
