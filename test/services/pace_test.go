package services

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink/kafka"
	"github.com/tailwater/tailwater/source/consume"
	"github.com/tailwater/tailwater/test/rig"
)

// A hundred partitions with much to read and an output that takes nothing: the indexer
// stays within limits.memory, is a member of its group, and knows how far it is behind.
func TestAHundredPartitionsAndADeadOutputStayWithinMemory(t *testing.T) {
	t.Parallel()
	topic := fmt.Sprint("wide-", rand.Uint32())
	createTopic(t, topic, 100)
	files := someFiles(200)
	l := newLine(t, kafkaSink(t, topic, func(c *kafka.Config) { c.Codec = kafka.Zstd }))
	for range 2 { // 30 MB as they are, much less as they are stored
		for _, f := range files {
			l.put(f.block(300))
		}
	}
	l.finish()
	dead, err := net.Listen("tcp", "127.0.0.1:0") // accepts by the backlog, never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dead.Close() })
	dir := t.TempDir()
	bin, err := rig.Build(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &rig.Home{Bin: bin, Dir: dir}
	const limit = 96 << 20
	if err := h.WriteConfig(fmt.Sprintf(`
limits: {memory: 96MiB}
inputs: {relay: {kafka: {brokers: ['%s'], topics: ['%s'], group: '%[2]s'}}}
outputs: {search: {elasticsearch: {urls: ['http://%s'], index: 'never-{date}'}}}
`, servers.Brokers("KAFKA_BROKERS")[0], topic, dead.Addr())); err != nil {
		t.Fatal(err)
	}
	a, err := h.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	total := 0.0
	for _, f := range files {
		total += float64(f.next)
	}
	pollFor(t, time.Minute, "the lag of all partitions", func() error {
		m, err := a.Metrics()
		if err != nil {
			return err
		}
		if lag := m.Sum("consumer_lag", `input="relay"`); lag != total {
			return fmt.Errorf("it is %v, not %v; %v were read\n%s", lag, total, m.Sum("read_lines_total"), h.LogTail())
		}
		if m.Sum("queue_bytes") < 1<<20 {
			return fmt.Errorf("only %v bytes wait for the output", m.Sum("queue_bytes"))
		}
		return nil
	})
	proc, err := a.Proc()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak memory %d MiB", proc.Peak>>20)
	if proc.Peak > limit {
		t.Errorf("memory has been %d MiB", proc.Peak>>20)
	}
	status, err := a.Get("/api/v1/status")
	if err != nil || !strings.Contains(string(status), fmt.Sprintf(`"lag_records": %.0f`, total)) && !strings.Contains(string(status), fmt.Sprintf(`"lag_records":%.0f`, total)) {
		t.Errorf("status does not say how far it is behind: %v\n%s", err, status)
	}
	ledger, err := h.Ledger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sum := ledger.Inputs["relay"]; sum.Generations != 100 || sum.Written != int64(total) || sum.Outputs["search"].Waiting != int64(total) || sum.Read == 0 {
		t.Errorf("the ledger has %+v", sum)
	}
}

// percentile of durations, which it sorts.
func percentile(all []time.Duration, p float64) time.Duration {
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[min(len(all)-1, int(float64(len(all))*p))]
}

// At 2,000 lines a second, 99 of 100 lines are with a Kafka consumer within 250 ms and
// can be searched within 2 s, for as long as it lasts, and memory stays what it was.
func TestLinesArriveSoonAndMemoryStaysFlat(t *testing.T) {
	d := tortureTime(t)
	p := newPair(t, fmt.Sprint("soak", time.Now().Unix()))
	p.start(p.agent)
	p.start(p.indexer)
	w := newWriter(filepath.Join(p.agent.Dir, "logs"), "steady", seeded(t))
	if err := w.write(100); err != nil {
		t.Fatal(err)
	}
	p.verifyLines(w) // topic and index are there

	var mu sync.Mutex
	var toKafka []time.Duration
	startMember(t, p.name+"-watch", newTaker(), []string{"piped-" + p.name}, func(c *consume.Config) {
		c.Deliver = func(_ context.Context, p record.Parcel) error {
			now := time.Now().UnixMilli()
			mu.Lock()
			for _, doc := range p.Block.Docs {
				toKafka = append(toKafka, time.Duration(now-doc.Time)*time.Millisecond)
			}
			mu.Unlock()
			p.Block.Release()
			p.Done()
			return nil
		}
	})
	pollFor(t, 20*time.Second, "the watcher", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(toKafka) == 0 {
			return fmt.Errorf("it sees nothing yet")
		}
		toKafka = nil
		return nil
	})
	end := make(chan struct{})
	var work sync.WaitGroup
	var written []time.Time // when line n was, from 100 on
	work.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-end:
				tick.Stop()
				return
			case <-tick.C:
			}
			if err := w.write(20); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			written = append(written, slices.Repeat([]time.Time{time.Now()}, 20)...)
			mu.Unlock()
		}
	})
	var toSearch []time.Duration
	var early, late [2]rig.Proc
	es := plainServer()
	began := time.Now()
	for sampled := false; time.Since(began) < d; {
		es.do(t, "POST", "/idx-"+p.name+"-*/_refresh", "")
		var found struct {
			Aggregations struct{ Newest struct{ Value float64 } }
		}
		if err := json.Unmarshal(es.do(t, "POST", "/idx-"+p.name+"-*/_search", `{"size":0,"aggs":{"newest":{"max":{"field":"n"}}}}`), &found); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		mu.Lock()
		for n := len(toSearch); n <= int(found.Aggregations.Newest.Value)-100 && n < len(written); n++ {
			toSearch = append(toSearch, now.Sub(written[n]))
		}
		mu.Unlock()
		if !sampled && time.Since(began) > d/5 {
			sampled, early = true, p.memory()
		}
		time.Sleep(100 * time.Millisecond) // asking is work for it, too
	}
	late = p.memory()
	close(end)
	work.Wait()
	p.verifyLines(w)
	mu.Lock()
	defer mu.Unlock()
	kafka99, search99 := percentile(toKafka, 0.99), percentile(toSearch, 0.99)
	t.Logf("%d lines; to the consumer: p50 %v, p99 %v; searchable: p50 %v, p99 %v", len(w.lines), percentile(toKafka, 0.5), kafka99, percentile(toSearch, 0.5), search99)
	if kafka99 > 250*time.Millisecond || search99 > 2*time.Second {
		t.Errorf("too late")
	}
	for i, name := range []string{"agent", "indexer"} {
		t.Logf("%s: %d MiB after a fifth of the time, %d MiB at the end, %d MiB at most", name, early[i].RSS>>20, late[i].RSS>>20, late[i].Peak>>20)
		if late[i].RSS > early[i].RSS+early[i].RSS/4+(16<<20) {
			t.Errorf("the %s grows", name)
		}
	}
}

// memory is that of the agent and the indexer.
func (p *pair) memory() (all [2]rig.Proc) {
	p.t.Helper()
	for i, h := range []*rig.Home{p.agent, p.indexer} {
		proc, err := p.running[h].Proc()
		if err != nil {
			p.t.Fatal(err)
		}
		all[i] = proc
	}
	return all
}

// An outage at 20 MB a second is caught up in a fifth of its time once the broker is
// back, within the agent's memory.
func TestAnOutageOfKafkaIsCaughtUpSoon(t *testing.T) {
	const perSecond = 20 << 20
	outage := min(tortureTime(t), 10*time.Minute)
	p := newPair(t, fmt.Sprint("outage", time.Now().Unix()))
	p.start(p.agent)
	log, err := rig.OpenLog(filepath.Join(p.agent.Dir, "logs", "a.log"), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	delivered := func() (float64, error) {
		m, err := p.running[p.agent].Metrics()
		return m.Sum("output_lines_total"), err
	}
	all := func() error {
		n, err := delivered()
		if err == nil && int(n) < log.N {
			err = fmt.Errorf("%.0f of %d lines", n, log.N)
		}
		return err
	}
	if err := log.Write(1000, 400); err != nil {
		t.Fatal(err)
	}
	pollFor(t, time.Minute, "the first lines", all)
	if err := servers.Kill(t.Context(), "kafka-1"); err != nil {
		t.Fatal(err)
	}
	for began, next := time.Now(), 0; time.Since(began) < outage; next++ {
		if err := log.Write(perSecond/10/450, 400); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(began.Add(time.Duration(next+1) * 100 * time.Millisecond)))
	}
	if err := servers.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	pollFor(t, 2*time.Minute+outage, "all lines", all)
	proc, err := p.running[p.agent].Proc()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(log.Name)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(back)
	t.Logf("%d MB caught up in %v, %.0f MB/s; peak memory %d MiB", info.Size()/1e6, took.Round(10*time.Millisecond), float64(info.Size())/1e6/took.Seconds(), proc.Peak>>20)
	if took > outage/5+5*time.Second { // the longest wait between tries
		t.Errorf("it took too long")
	}
	if proc.Peak > 256<<20 {
		t.Errorf("memory has been %d MiB", proc.Peak>>20)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.agent.Balanced(ctx, rig.Books{Written: info.Size(), Documents: map[string]int{"queue": log.N}}); err != nil {
		t.Error(err)
	}
}
