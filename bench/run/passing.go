package main

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/test/fake/bulk"
)

// passing sets an indexer whose Elasticsearch only acknowledges against the agent, which
// parses the same lines, and against bench/carry, which brings the same bytes the same way
// without a look at them, on one core each.
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
	b.report.section("Passing through", "512 MiB of nginx lines, from a topic of three partitions to an Elasticsearch that only acknowledges, in another process; the agent's parse speed is that from the file to discard; bench/carry is the bound: a loop that only fetches, unpacks and writes to a socket; one core for each; megabytes of log per CPU second; medians of three",
		"what", "passing", "MB of documents per CPU second", "parsing", "times the parsing", "wanted", "carrying", "of the carrying", "peak resident MiB")
	for _, codec := range []string{"snappy", "lz4", "none"} {
		topic := "bench-pass-" + codec
		if _, err := b.ship(formats[0].format, files, 2, fmt.Sprintf("kafka: {brokers: ['%s'], topic: %s, compression: %s}", broker, topic, codec)); err != nil {
			return err
		}
		type round struct{ parse, pass, documents, carry pass }
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
			if r.carry, err = b.carryAll(broker, topic, lines); err != nil {
				return err
			}
			r.documents.bytes = fake.Bytes() - before
			r.pass.bytes, r.carry.bytes = r.parse.bytes, r.parse.bytes
			rounds = append(rounds, r)
		}
		of := func(f func(round) float64) string { return fmt.Sprintf("%.0f", median(rounds, f)) }
		ratio := func(f func(round) float64) string { return fmt.Sprintf("%.2f", median(rounds, f)) }
		b.report.row("Kafka → acknowledgements, "+codec, of(func(r round) float64 { return r.pass.perCPU() }),
			of(func(r round) float64 { return r.documents.perCPU() }), of(func(r round) float64 { return r.parse.perCPU() }),
			ratio(func(r round) float64 { return r.pass.perCPU() / r.parse.perCPU() }), "3.00",
			of(func(r round) float64 { return r.carry.perCPU() }), ratio(func(r round) float64 { return r.pass.perCPU() / r.carry.perCPU() }),
			mib(median(rounds, func(r round) float64 { return float64(r.pass.peak) })))
	}
	return nil
}

var carryLine = regexp.MustCompile(`^\d+ MB per CPU second \((\d+) bytes, (\d+) records, ([0-9.a-zµ]+) CPU\)`)

// carryAll runs the hand-written loop over a topic of so many records once, into a socket
// that swallows.
func (b *bench) carryAll(broker, topic string, records int64) (p pass, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, err
	}
	defer listener.Close()
	swallowed := make(chan int64, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return // it never came
		}
		defer c.Close()
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10)) // as the fake reads
		swallowed <- n
	}()
	start := time.Now()
	out, err := exec.CommandContext(b.ctx, b.carry, broker, topic, listener.Addr().String()).CombinedOutput()
	if err != nil {
		return p, fmt.Errorf("carry: %w: %s", err, out)
	}
	p.wall = time.Since(start)
	m := carryLine.FindSubmatch(out)
	if m == nil || string(m[2]) != fmt.Sprint(records) {
		return p, fmt.Errorf("carry was to bring %d records and says %q", records, out)
	}
	if p.bytes, err = strconv.ParseInt(string(m[1]), 10, 64); err != nil {
		return p, err
	}
	if n := <-swallowed; n != p.bytes {
		return p, fmt.Errorf("carry says that it wrote %d bytes, %d came", p.bytes, n)
	}
	p.cpu, err = time.ParseDuration(string(m[3]))
	return p, err
}
