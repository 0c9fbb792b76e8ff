package services

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// tortureTime is how long a tortured part of a test runs: TAILWATER_TORTURE as a
// duration.
func tortureTime(t *testing.T) time.Duration {
	t.Helper()
	torture(t)
	d, err := time.ParseDuration(os.Getenv("TAILWATER_TORTURE"))
	if err != nil {
		t.Fatalf("TAILWATER_TORTURE: %v", err)
	}
	return d
}

// seeded is chance that can be had again: TAILWATER_SEED is the seed that a failed run
// has printed.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TAILWATER_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TAILWATER_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("TAILWATER_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// writer is a program that logs, and whose log is rotated under it.
type writer struct {
	dir, name string
	chance    *rand.Rand
	file      *os.File
	lines     []string // all that was written
	rotations int
}

func newWriter(dir, name string, chance *rand.Rand) *writer {
	return &writer{dir: dir, name: name, chance: chance}
}

func (w *writer) path() string { return filepath.Join(w.dir, w.name+".log") }

// write appends a few lines.
func (w *writer) write(n int) error {
	if w.file == nil {
		f, err := os.OpenFile(w.path(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		w.file = f
	}
	var text strings.Builder
	for range n {
		words := strings.Repeat("some words ", 1+w.chance.IntN(30))
		sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "%s/%d/%s", w.name, len(w.lines), words))
		// Not "log" beside "time": those are Docker's.
		line := fmt.Sprintf(`{"time":"%s","level":"info","source":"%s","n":%d,"message":"%s","sum":"%08x"}`,
			time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), w.name, len(w.lines), words, sum)
		w.lines = append(w.lines, line)
		text.WriteString(line + "\n")
	}
	_, err := w.file.WriteString(text.String())
	return err
}

// rotate does what logrotate does, in one of its ways: by renaming, with the next
// rotation compressing what the one before left, or by copying and truncating.
func (w *writer) rotate() error {
	if w.file == nil {
		return nil
	}
	w.rotations++
	old := fmt.Sprintf("%s.%d", w.path(), w.rotations)
	if w.chance.IntN(4) == 0 {
		data, err := os.ReadFile(w.path())
		if err == nil {
			err = os.WriteFile(old, data, 0o644)
		}
		if err == nil {
			err = w.file.Truncate(0)
		}
		return err
	}
	if err := os.Rename(w.path(), old); err != nil {
		return err
	}
	err := w.file.Close()
	w.file = nil
	if before := fmt.Sprintf("%s.%d", w.path(), w.rotations-1); err == nil && w.chance.IntN(2) == 0 {
		err = compress(before)
	}
	return err
}

// compress replaces a file by its .gz, when it is there.
func compress(name string) error {
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Create(name + ".gz.tmp")
	if err != nil {
		return err
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.Rename(name+".gz.tmp", name+".gz"); err != nil {
		return err
	}
	return os.Remove(name)
}

// work writes and rotates until the end is closed.
func (w *writer) work(t *testing.T, perSecond int, end <-chan struct{}) {
	const step = 20 * time.Millisecond
	rotation := time.Now().Add(time.Second)
	for tick := time.NewTicker(step); ; {
		select {
		case <-end:
			tick.Stop()
			return
		case <-tick.C:
		}
		err := w.write(perSecond / int(time.Second/step))
		if err == nil && time.Now().After(rotation) {
			err = w.rotate()
			rotation = time.Now().Add(time.Second + time.Duration(w.chance.Int64N(int64(9*time.Second))))
		}
		if err != nil {
			t.Errorf("%s: %v", w.path(), err)
			return
		}
	}
}

// calamities are what befalls a pair and its servers.
type calamities struct {
	*pair
	ctx    context.Context
	chance *rand.Rand
	counts map[string]int
}

// strike does one of them, and sets it right again.
func (c *calamities) strike() {
	c.t.Helper()
	up := func() {
		if err := servers.Up(c.ctx); err != nil {
			c.t.Fatal(err)
		}
	}
	kill := func(names ...string) {
		for _, name := range names {
			if err := servers.Kill(c.ctx, name); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	stall := func(name string) {
		if err := servers.Signal(name, syscall.SIGSTOP); err != nil {
			c.t.Fatal(err)
		}
		c.pause(3*time.Second, 14*time.Second)
		if err := servers.Signal(name, syscall.SIGCONT); err != nil {
			c.t.Fatal(err)
		}
	}
	restart := func(h *rig.Home) {
		if code, err := c.running[h].Stop(c.ctx); err != nil || code != 0 && code != 3 {
			c.t.Fatalf("code %d, %v", code, err)
		}
		c.start(h)
	}
	again := func(homes ...*rig.Home) {
		for _, h := range homes {
			c.running[h].Kill()
		}
		c.pause(0, 2*time.Second)
		for _, h := range homes {
			c.start(h)
		}
	}
	all := []struct {
		name string
		do   func()
	}{
		{"agent killed", func() { again(c.agent) }},
		{"agent killed again and again", func() {
			for range 4 {
				again(c.agent)
			}
		}},
		{"indexer killed", func() { again(c.indexer) }},
		{"indexer killed again and again", func() {
			for range 4 {
				again(c.indexer)
			}
		}},
		{"both killed", func() { again(c.agent, c.indexer) }},
		{"agent stopped", func() { restart(c.agent) }},
		{"indexer stopped", func() { restart(c.indexer) }},
		{"kafka killed", func() { kill("kafka-1"); up() }},
		{"elasticsearch killed", func() { kill("elasticsearch"); up() }},
		{"everything killed", func() {
			kill("kafka-1", "elasticsearch")
			again(c.agent, c.indexer)
			up()
		}},
		{"agent killed while kafka is away", func() {
			kill("kafka-1")
			again(c.agent)
			up()
		}},
		{"indexer killed while elasticsearch is away", func() {
			kill("elasticsearch")
			again(c.indexer)
			up()
		}},
		{"kafka stalled", func() { stall("kafka-1") }},
		{"elasticsearch stalled", func() { stall("elasticsearch") }},
	}
	// Each once before any comes again.
	least := all[c.chance.IntN(len(all))]
	for _, i := range c.chance.Perm(len(all)) {
		if c.counts[all[i].name] < c.counts[least.name] {
			least = all[i]
		}
	}
	c.counts[least.name]++
	c.t.Logf("%s: %s", time.Now().Format("15:04:05"), least.name)
	least.do()
}

// pause waits for a time between two bounds.
func (c *calamities) pause(from, to time.Duration) {
	select {
	case <-time.After(from + time.Duration(c.chance.Int64N(int64(to-from)))):
	case <-c.ctx.Done():
	}
}

// shipped is a document as it is in Elasticsearch, with its _id.
type shipped struct {
	ID     string          `json:"_id"`
	Source json.RawMessage `json:"_source"`
	Sort   json.RawMessage `json:"sort"`
}

// each calls f for the documents of one writer, by their numbers.
func (e *elasticServer) each(t *testing.T, pattern, source string, f func(*shipped)) {
	t.Helper()
	for after := ""; ; {
		var page struct{ Hits struct{ Hits []*shipped } }
		body := fmt.Sprintf(`{"size":5000,"track_total_hits":false,"query":{"match":{"source":%q}},"sort":[{"n":"asc"}]%s}`, source, after)
		if err := json.Unmarshal(e.do(t, "POST", "/"+pattern+"/_search", body), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Hits.Hits) == 0 {
			return
		}
		for _, h := range page.Hits.Hits {
			f(h)
		}
		after = `,"search_after":` + string(page.Hits.Hits[len(page.Hits.Hits)-1].Sort)
	}
}

// verifyLines checks that the documents are the writers' lines, one for one, each
// under an _id of its own and each saying what its line says.
func (p *pair) verifyLines(writers ...*writer) {
	p.t.Helper()
	es := plainServer()
	pattern := "idx-" + p.name + "-*"
	want := 0
	left := make(map[string]map[string]any)
	for _, w := range writers {
		for n, line := range w.lines {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				p.t.Fatal(err)
			}
			left[fmt.Sprint(w.name, " ", n)] = fields
			want++
		}
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Minute)
	defer cancel()
	if err := rig.Poll(ctx, "all lines in Elasticsearch", func() error {
		time.Sleep(200 * time.Millisecond) // asking is work for it, too
		if _, err := es.try(ctx, "POST", "/"+pattern+"/_refresh", ""); err != nil {
			return err
		}
		got, err := es.try(ctx, "GET", "/"+pattern+"/_count?filter_path=count", "")
		if err != nil {
			return err
		}
		if got != fmt.Sprintf(`{"count":%d}`, want) {
			return fmt.Errorf("%s of %d%s", got, want, es.odd(ctx, pattern))
		}
		return nil
	}); err != nil {
		p.t.Error(err)
	}
	ids := make(map[string]bool)
	wrong := 0
	check := func(h *shipped) {
		var doc map[string]any
		if err := json.Unmarshal(h.Source, &doc); err != nil {
			p.t.Fatal(err)
		}
		key := fmt.Sprint(doc["source"], " ", doc["n"])
		line, missing := left[key]
		switch {
		case ids[h.ID]:
			p.t.Errorf("two documents have the _id %s", h.ID)
		case !missing:
			p.t.Errorf("line %s is there twice, or was never written: %s", key, h.Source)
		case doc["id"] != h.ID || doc["@timestamp"] != line["time"] || doc["level"] != line["level"] || doc["message"] != line["message"] || doc["sum"] != line["sum"]:
			p.t.Errorf("the document is not its line:\n%s\n%v", h.Source, line)
		default:
			ids[h.ID] = true
			delete(left, key)
			return
		}
		if wrong++; wrong > 10 {
			p.t.FailNow()
		}
	}
	for _, w := range writers { // that their number is right has been seen
		es.each(p.t, pattern, w.name, check)
	}
	if len(left) > 0 {
		var some []string
		for key := range left {
			if some = append(some, key); len(some) == 10 {
				break
			}
		}
		p.t.Errorf("%d of %d lines are missing, such as %v", len(left), want, some)
	}
	p.t.Logf("%d lines, %d documents", want, len(ids))
	written := 0
	for _, w := range writers {
		for _, line := range w.lines {
			written += len(line) + 1
		}
	}
	p.audit(int64(written), want)
}

// The promise of it all: every line is in Elasticsearch once, whatever dies on its
// way, while its file is rotated.
func TestEveryLineIsOneDocumentWhateverDies(t *testing.T) {
	d := tortureTime(t)
	chance := seeded(t)
	p := newPair(t, fmt.Sprint("torture", time.Now().Unix()))
	p.start(p.agent)
	p.start(p.indexer)
	end := make(chan struct{})
	var work sync.WaitGroup
	var writers []*writer
	for _, name := range []string{"orders", "users", "mail"} {
		w := newWriter(filepath.Join(p.agent.Dir, "logs"), name, rand.New(rand.NewPCG(chance.Uint64(), 2)))
		writers = append(writers, w)
		work.Go(func() { w.work(t, 300, end) })
	}
	stop := sync.OnceFunc(func() {
		close(end)
		work.Wait()
	})
	t.Cleanup(stop)
	c := &calamities{pair: p, ctx: t.Context(), chance: chance, counts: make(map[string]int)}
	for over := time.Now().Add(d); time.Now().Before(over); {
		c.pause(500*time.Millisecond, 5*time.Second)
		c.strike()
	}
	stop()
	t.Logf("what happened: %v", c.counts)
	p.verifyLines(writers...)
}
