package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// elasticBytes is how much log the part elastic brings to Elasticsearch, each time: it
// takes a core of it some fifteen seconds.
const elasticBytes = 64 << 20

// elastic brings the same nginx lines to a real Elasticsearch by both ways, and sets the
// CPU that tailwater uses against what Elasticsearch does for them.
func (b *bench) elastic() error {
	b.patience = time.Second
	defer func() { b.patience = 0 }()
	whole, err := b.file("nginx", 1)
	if err != nil {
		return err
	}
	log := filepath.Join(b.work, "elastic.log")
	if err := head(whole, log, elasticBytes); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*rig.ServicesTime)
	defer cancel()
	servers, err := rig.StartServices(ctx, ".", "ES_HEAP=1g")
	if err != nil {
		return err
	}
	defer servers.Stop()
	pid, err := servers.PID("elasticsearch")
	if err != nil {
		return err
	}
	es := func(name string) string {
		return fmt.Sprintf("elasticsearch: {urls: ['%s'], index: 'bench-%s-{date}'}", servers.Value("ELASTICSEARCH_URL"), name)
	}
	if err := b.setup(ctx, es("{project}")); err != nil {
		return err
	}
	if _, err := b.ship(formats[0].format, []string{log}, 2, es("warm")); err != nil { // its JVM compiles what it runs
		return err
	}
	b.report.section("Elasticsearch", fmt.Sprintf("%d MiB of nginx lines to one real Elasticsearch on this machine, with tailwater setup's template, after as many to warm it up", elasticBytes>>20),
		"what", "tailwater's CPU seconds", "Elasticsearch's", "tailwater's of Elasticsearch's", "wanted")
	lines, err := countLines([]string{log})
	if err != nil {
		return err
	}
	const wanted = "10 %"
	row := func(what, wanted string, way func() (pass, error)) (pass, error) {
		before := ticks(pid)
		p, err := way()
		server := time.Duration(ticks(pid)-before) * 10 * time.Millisecond
		if err == nil {
			b.report.row(what, seconds(p.cpu), seconds(server), fmt.Sprintf("%.1f %%", 100*p.cpu.Seconds()/server.Seconds()), wanted)
		}
		return p, err
	}
	if _, err := row("file → Elasticsearch", wanted, func() (pass, error) { return b.ship(formats[0].format, []string{log}, 2, es("file")) }); err != nil {
		return err
	}
	broker := servers.Value("KAFKA_BROKERS")
	agent, err := b.ship(formats[0].format, []string{log}, 2, fmt.Sprintf("kafka: {brokers: ['%s'], topic: bench-elastic}", broker))
	if err != nil {
		return err
	}
	var both pass
	if _, err := row("Kafka → Elasticsearch, the indexer", wanted, func() (p pass, err error) {
		p, err = b.index(broker, "bench-elastic", lines, 2, es("kafka"))
		both.cpu = p.cpu + agent.cpu
		return p, err
	}); err != nil {
		return err
	}
	b.report.row("file → Kafka → Elasticsearch, the agent and the indexer", seconds(both.cpu), "as before", "", "")
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// setup makes what an output needs.
func (b *bench) setup(ctx context.Context, output string) error {
	home, err := b.home("setup")
	if err != nil {
		return err
	}
	if err := home.WriteConfig("inputs: {bench: {files: ['$DIR/none']}}\noutputs: {there: {" + output + "}}\n"); err != nil {
		return err
	}
	if out, err := home.Command(ctx, "setup", "-c", home.Config()).CombinedOutput(); err != nil {
		return fmt.Errorf("setup: %w\n%s", err, out)
	}
	return nil
}

// head copies the first whole lines of a file, of about so many bytes.
func head(from, to string, size int) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	text := make([]byte, size)
	n, err := f.ReadAt(text, 0)
	if n == 0 {
		return err
	}
	return os.WriteFile(to, text[:bytes.LastIndexByte(text[:n], '\n')+1], 0o644)
}
