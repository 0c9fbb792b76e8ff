package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// kafka ships nginx files to a real broker with each codec, and then has an indexer
// read them from there into discard.
func (b *bench) kafka() error {
	files, err := b.files("nginx", 2)
	if err != nil {
		return err
	}
	broker, stop, err := b.broker()
	if err != nil {
		return err
	}
	defer stop()
	// A broker that has just been started is slow until its code is compiled.
	if _, err := b.ship(formats[0].format, files, 2, fmt.Sprintf("kafka: {brokers: ['%s'], topic: bench-warm}", broker)); err != nil {
		return err
	}
	b.report.section("Kafka", "1 GiB of nginx lines to one broker on this machine, acks=all, a topic of three partitions; then the indexer's way from there to discard; medians of three",
		"what", "CPU seconds per GB of log", "CPU of the limit", "wanted", "MB of log per second", "peak resident MiB")
	for _, codec := range []string{"snappy", "lz4", "zstd", "none"} {
		if err := b.codec(files, broker, codec); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	return nil
}

// broker starts a real Kafka for as long as stop is not called.
func (b *bench) broker() (address string, stop func(), err error) {
	ctx, cancel := context.WithTimeout(b.ctx, 2*rig.ServicesTime)
	defer cancel()
	servers, err := rig.StartServices(ctx, ".", "SERVICES=kafka")
	if err != nil {
		return "", nil, err
	}
	return servers.Value("KAFKA_BROKERS"), func() { servers.Stop() }, nil
}

// codec measures one, on the way there and back.
func (b *bench) codec(files []string, broker, codec string) error {
	var there, back []hop
	for n := range 3 {
		limit, err := b.measureLimit()
		if err != nil {
			return err
		}
		topic := fmt.Sprintf("bench-%s-%d", codec, n)
		p, err := b.ship(formats[0].format, files, 2, fmt.Sprintf("kafka: {brokers: ['%s'], topic: %s, compression: %s}", broker, topic, codec))
		if err != nil {
			return err
		}
		there = append(there, hop{p, limit})
		lines, err := countLines(files)
		if err != nil {
			return err
		}
		q, err := b.index(broker, topic, lines, 2, "discard: {}")
		if err != nil {
			return fmt.Errorf("the indexer: %w", err)
		}
		q.bytes = p.bytes
		back = append(back, hop{q, limit})
	}
	wanted := ""
	if codec == "snappy" || codec == "lz4" {
		wanted = "4.5 times"
	}
	b.hop("file → Kafka, "+codec, there, wanted)
	b.hop("Kafka → discard, "+codec, back, "")
	return nil
}

// hop is a pass on the way through Kafka with the limit measured beside it.
type hop struct {
	pass
	limit float64
}

func (b *bench) hop(what string, hops []hop, wanted string) {
	of := func(f func(hop) float64) float64 { return median(hops, f) }
	b.report.row(what, fmt.Sprintf("%.2f", of(func(h hop) float64 { return 1000 / h.perCPU() })),
		fmt.Sprintf("%.1f times", of(func(h hop) float64 { return h.limit / h.perCPU() })), wanted,
		fmt.Sprintf("%.0f", of(func(h hop) float64 { return h.perWall() })), mib(of(func(h hop) float64 { return float64(h.peak) })))
}

// index has a new agent read a topic of so many documents into an output.
func (b *bench) index(broker, topic string, lines int64, cpus int, output string) (p pass, err error) {
	dir, err := os.MkdirTemp(b.work, "index")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	home := &rig.Home{Bin: b.bin, Dir: dir}
	err = home.WriteConfig(fmt.Sprintf("limits: {cpus: %d}\ninputs:\n  relay:\n    kafka: {brokers: ['%s'], topics: [%s], group: %s}\n    to: [there]\noutputs:\n  there: {%s}\n",
		cpus, broker, topic, filepath.Base(dir), output))
	if err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	a, err := home.Start()
	if err != nil {
		return p, err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return p, err
	}
	taken := func(n int64) error {
		return rig.Poll(ctx, "the documents to come", func() error {
			time.Sleep(b.patience)
			m, err := a.Metrics()
			if err != nil {
				return err
			}
			if got := m.Sum("output_lines_total"); got < float64(n) {
				return fmt.Errorf("%.0f of %d documents have come\n%s", got, n, home.LogTail())
			}
			return nil
		})
	}
	if err := taken(1); err != nil { // joining the group takes seconds
		return p, err
	}
	start := time.Now()
	if err := taken(lines); err != nil {
		return p, err
	}
	p.wall = time.Since(start)
	if _, err := a.Stop(ctx); err != nil {
		return p, err
	}
	p.cpu, p.peak = a.Usage()
	return p, nil
}
