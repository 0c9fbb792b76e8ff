package services

import (
	"context"
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// foreign writes error lines of another shipper to a partition.
func (f *fleetRig) foreign(topic string, partition int, project string, n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	var records []kafkago.Record
	for i := range n {
		records = append(records, kafkago.Record{Time: time.Now(), Value: kafkago.NewBytes(fmt.Appendf(nil, `{"time":%q,"level":"error","msg":"no stock %d","shop":%q}`,
			time.Now().UTC().Format(time.RFC3339Nano), i, project))})
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
