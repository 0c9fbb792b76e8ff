package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/source/tail"
)

// basin is a sink that a test looks into, with moods.
type basin struct {
	mu     sync.Mutex
	docs   []map[string]any
	ids    map[string]int
	broken error // every try fails with it
	// putsOff, when not nil, says which documents are to be tried again.
	putsOff func(record.Ref) bool
	refuses func(record.Ref) bool
}

func (b *basin) Send(_ context.Context, batch *sink.Batch, done func(sink.Result)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		done(sink.Result{Err: b.broken, Reason: "broken"})
		return
	}
	var again []int
	var refused []sink.Refusal
	for i, ref := range batch.Refs {
		if b.refuses != nil && b.refuses(ref) {
			refused = append(refused, sink.Refusal{Index: i, Reason: "mapping", Detail: "does not fit"})
			continue
		}
		if b.putsOff != nil && b.putsOff(ref) {
			again = append(again, i)
			continue
		}
		var doc map[string]any
		if err := json.Unmarshal(ref.JSON(), &doc); err != nil {
			panic(fmt.Sprintf("%v in %s", err, ref.JSON()))
		}
		b.docs = append(b.docs, doc)
		if b.ids == nil {
			b.ids = make(map[string]int)
		}
		b.ids[string(ref.ID())]++
	}
	done(sink.Result{Retry: again, Refused: refused, Reason: "put_off"})
}

func (b *basin) Close() error { return nil }

func (b *basin) broke(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = err
}

func (b *basin) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.docs)
}

func (b *basin) messages() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, d := range b.docs {
		m, _ := d["message"].(string)
		all = append(all, m)
	}
	return all
}

// rig is an agent in a directory of its own.
type rig struct {
	t      *testing.T
	dir    string
	basins map[string]*basin
	// channelFor makes the alerts' channels; nil makes the real ones.
	channelFor func(*config.Channel) notify.Channel
	// host is the machine it seems to run on; nil: this one.
	host *host

	agent  *Agent
	cancel context.CancelFunc
	ended  chan error
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), basins: make(map[string]*basin)}
	t.Cleanup(func() {
		if r.cancel != nil {
			r.stop()
		}
	})
	return r
}

// configure writes the configuration; $DIR stands for the rig's directory.
func (r *rig) configure(text string) {
	r.t.Helper()
	if !strings.Contains(text, "metadata:") {
		text += "\nmetadata: none\n"
	}
	text = "state: $DIR/state\nlisten: ''\nshutdown_timeout: 2s\n" + text
	r.write("tailwater.yml", strings.ReplaceAll(text, "$DIR", r.dir))
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) append(name, text string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) basin(name string) *basin {
	if r.basins[name] == nil {
		r.basins[name] = new(basin)
	}
	return r.basins[name]
}

func (r *rig) start() {
	r.t.Helper()
	path := filepath.Join(r.dir, "tailwater.yml")
	cfg, problems := config.Load(path)
	if len(problems) > 0 {
		r.t.Fatal(problems)
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		r.t.Fatal(err)
	}
	var out io.Writer = io.Discard
	if testing.Verbose() {
		out = r.t.Output()
	}
	a, err := New(Options{Config: cfg, ConfigPath: path, Log: slog.New(slog.NewTextHandler(out, nil)),
		sinkFor: func(c *config.Output) sink.Sink { return r.basin(c.Name) }, channelFor: r.channelFor, whereabouts: r.whereabouts()})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.agent, r.cancel, r.ended = a, cancel, make(chan error, 1)
	go func() { r.ended <- a.Run(ctx) }()
}

func (r *rig) whereabouts() *whereabouts {
	if r.host == nil {
		return nil
	}
	return &r.host.at
}

func (r *rig) stop() error {
	r.cancel()
	r.cancel = nil
	return <-r.ended
}

// eventually waits for what must become true.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("in vain: %s", what)
		}
	}
}

// lines are numbered lines of a file.
func lines(name string, from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%s line %d\n", name, i)
	}
	return b.String()
}

// exact checks that a basin has each line of the file once.
func (r *rig) exact(b *basin, name string, n int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d lines of %s", n, name), func() bool { return b.count() >= n })
	got := b.messages()
	if len(got) != n {
		r.t.Errorf("%d lines, want %d", len(got), n)
	}
	seen := make(map[string]bool, n)
	for _, line := range got {
		seen[line] = true
	}
	for i := range n {
		if want := fmt.Sprintf("%s line %d", name, i); !seen[want] {
			r.t.Fatalf("%q is missing", want)
		}
	}
	for id, n := range b.ids {
		if n != 1 {
			r.t.Fatalf("%s came %d times", id, n)
		}
	}
}

const oneOutput = `
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {out: {discard: {}}}
`

func TestEachLineComesOnceOverRestarts(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	n := 0
	for range 5 {
		r.append("a.log", lines("a", n, n+1000))
		n += 1000
		r.start()
		r.append("a.log", lines("a", n, n+1000))
		n += 1000
		r.exact(r.basin("out"), "a", n)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADeadOutputHoldsNothingBackAndCatchesUp(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, dead: {discard: {}}}
`)
	r.basin("dead").broke(errors.New("connection refused"))
	r.start()
	// More than the queue of a dead output holds.
	const n = 12_000
	name := strings.Repeat("long", 250)
	r.append("a.log", lines(name, 0, n))
	r.exact(r.basin("well"), name, n)
	if got := r.basin("dead").count(); got != 0 {
		t.Fatalf("%d lines in a dead output", got)
	}
	r.basin("dead").broke(nil)
	r.exact(r.basin("dead"), name, n)
	r.append("a.log", lines(name, n, n+100))
	r.exact(r.basin("well"), name, n+100)
	r.exact(r.basin("dead"), name, n+100)
}

func TestADeadOutputCatchesUpAfterARestart(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, dead: {discard: {}}}
`)
	r.basin("dead").broke(errors.New("connection refused"))
	r.start()
	r.append("a.log", lines("a", 0, 5000))
	r.exact(r.basin("well"), "a", 5000)
	if err := r.stop(); !errors.Is(err, ErrUndelivered) {
		t.Fatalf("stopped with %v", err)
	}
	r.basin("dead").broke(nil)
	r.start()
	r.exact(r.basin("dead"), "a", 5000)
	r.exact(r.basin("well"), "a", 5000)
}

func TestKeepFiltersAndStillCounts(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: app, keep: [warn, error]}}
outputs: {out: {discard: {}}}
`)
	r.start()
	r.append("a.log", "2026-11-23 20:00:00 INFO one\n2026-11-23 20:00:01 ERROR two\n2026-11-23 20:00:02 DEBUG three\n2026-11-23 20:00:03 WARN four\n")
	r.eventually("two documents", func() bool { return r.basin("out").count() == 2 })
	m := r.agent.metrics.input("app")
	r.eventually("four lines counted", func() bool { return m.lines.Load() == 4 })
	for _, d := range r.basin("out").docs {
		if d["level"] != "warn" && d["level"] != "error" {
			t.Errorf("kept %v", d)
		}
	}
}

// TestLossesHaveACounterBeforeTheFirst: Prometheus sees no increase in a counter that
// appears with what it counts.
func TestLossesHaveACounterBeforeTheFirst(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{r.agent})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	reasons := make(map[string]int)
	for _, f := range families {
		if f.GetName() == "tailwater_abandoned_bytes_total" || f.GetName() == "tailwater_dropped_lines_total" {
			for _, m := range f.GetMetric() {
				reasons[m.GetLabel()[1].GetValue()] += 1 + int(m.GetCounter().GetValue())
			}
		}
	}
	for _, reason := range append([]string{"overlong", "blank"}, tail.Reasons...) {
		if reasons[reason] != 1 {
			t.Errorf("losses for the reason %s are not there at zero: %v", reason, reasons)
		}
	}
}

func TestDrainSendsAnUnfinishedLastLineAndEnds(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	r.append("a.log", lines("a", 0, 10)+"the end is not writ")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if left := r.agent.Drain(ctx); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	if err := <-r.ended; err != nil {
		t.Fatal(err)
	}
	r.cancel = nil
	b := r.basin("out")
	if got := b.messages(); len(got) != 11 || got[10] != "the end is not writ" || b.docs[10]["partial"] != true {
		t.Fatalf("%d lines; the last: %v", len(got), b.docs[len(got)-1])
	}
	r.append("a.log", "ten\nnext\n")
	r.start()
	r.eventually("the rest", func() bool { return b.count() == 13 })
	if got := b.messages(); got[11] != "ten" || b.docs[11]["partial"] != true || got[12] != "next" || b.docs[12]["partial"] != nil {
		t.Fatalf("the rest: %v", b.docs[11:])
	}
}

func TestDrainThatCannotFinishLetsTheAgentGoOn(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.basin("out").broke(errors.New("connection refused"))
	r.start()
	r.append("a.log", lines("a", 0, 10))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	left := r.agent.Drain(ctx)
	if len(left) != 1 || left[0].Bytes != int64(len(lines("a", 0, 10))) {
		t.Fatalf("left: %v", left)
	}
	r.basin("out").broke(nil)
	r.append("a.log", lines("a", 10, 20))
	r.exact(r.basin("out"), "a", 20)
}
