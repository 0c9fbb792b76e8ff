package main

import (
	"fmt"
	"time"

	"github.com/tailwater/tailwater/test/fake/bulk"
)

// passing sets an indexer whose Elasticsearch only acknowledges against the agent, which
// parses the same lines, on one core each.
func (b *bench) passing() error {
	b.patience = 100 * time.Millisecond
	defer func() { b.patience = 0 }()
	files, err := b.files("nginx", 1)
	if err != nil {
		return err
	}
	lines, err := countLines(files)
	if err != nil {
		return err
	}
	broker, stop, err := b.broker()
	if err != nil {
		return err
	}
	defer stop()
	fake := bulk.Acknowledging()
	defer fake.Close()
	b.report.section("Passing through", "512 MiB of nginx lines, from a topic of three partitions to an Elasticsearch that only acknowledges, in another process; the agent's parse speed is that from the file to discard; limits.cpus: 1 for both; medians of three",
		"what", "MB of log per CPU second", "MB of documents per CPU second", "the agent's MB of log per CPU second", "times the agent's parse speed", "wanted", "peak resident MiB")
	for _, codec := range []string{"snappy", "lz4", "none"} {
		topic := "bench-pass-" + codec
		if _, err := b.ship(formats[0].format, files, 2, fmt.Sprintf("kafka: {brokers: ['%s'], topic: %s, compression: %s}", broker, topic, codec)); err != nil {
			return err
		}
		type round struct{ parse, pass, documents pass }
		var rounds []round
		for range 3 {
			var r round
			if r.parse, err = b.pass(formats[0].format, files, 1); err != nil {
				return err
			}
			before := fake.Bytes()
			r.pass, err = b.index(broker, topic, lines, 1, fmt.Sprintf("elasticsearch: {urls: ['%s'], index: 'bench-{date}'}", fake.URL))
			if err != nil {
				return err
			}
			r.documents = r.pass
			r.pass.bytes, r.documents.bytes = r.parse.bytes, fake.Bytes()-before
			rounds = append(rounds, r)
		}
		of := func(f func(round) float64) string { return fmt.Sprintf("%.0f", median(rounds, f)) }
		b.report.row("Kafka → acknowledgements, "+codec, of(func(r round) float64 { return r.pass.perCPU() }),
			of(func(r round) float64 { return r.documents.perCPU() }), of(func(r round) float64 { return r.parse.perCPU() }),
			fmt.Sprintf("%.2f", median(rounds, func(r round) float64 { return r.pass.perCPU() / r.parse.perCPU() })), "3.00",
			mib(median(rounds, func(r round) float64 { return float64(r.pass.peak) })))
	}
	return nil
}
