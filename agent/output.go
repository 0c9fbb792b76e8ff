package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/queue"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/sink/kafka"
)

// output is one configured output: its waiting room, its deliverer and its sink.
type output struct {
	name      string
	cfg       *config.Output
	sink      sink.Sink
	queue     *queue.Memory
	deliverer *sink.Deliverer
	agent     *Agent

	mu     sync.Mutex
	parked map[*flow]struct{} // flows that wait for room
	room   chan struct{}      // closed when there is, for those that wait on their own; nil when nobody does

	ending  atomic.Bool // nothing more is taken
	cancel  context.CancelCauseFunc
	stopped chan struct{} // closed when the deliverer has returned
	meter   meter
}

// meter counts what an output's deliverer does.
type meter struct {
	mu             sync.Mutex
	given          int64 // documents put into the queue
	underWay       int64 // of them, neither taken nor refused yet
	lines, bytes   int64
	retries        int64
	errors, parked map[string]int64 // by reason
	lost           map[loss]int64
}

// loss names bytes of an input's files that were gone before the output had them.
type loss struct{ input, reason string }

func (o *output) lose(input, reason string, bytes int64) {
	o.meter.mu.Lock()
	defer o.meter.mu.Unlock()
	if o.meter.lost == nil {
		o.meter.lost = make(map[loss]int64)
	}
	o.meter.lost[loss{input, reason}] += bytes
}

// give puts a parcel into the queue, and says false when the output has ended.
func (o *output) give(p record.Parcel) bool {
	n := int64(len(p.Block.Docs))
	o.meter.give(n) // before anything can come of it
	if o.queue.Put(p) {
		return true
	}
	o.meter.give(-n)
	return false
}

func (m *meter) give(lines int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given += lines
	m.underWay += lines
}

// Delivered counts documents that the output has taken.
func (m *meter) Delivered(lines, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underWay -= int64(lines)
	m.lines += int64(lines)
	m.bytes += int64(bytes)
}

// Failed counts a try after which so many documents are to be tried again.
func (m *meter) Failed(reason string, lines int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retries += int64(lines)
	add(&m.errors, reason, 1)
}

// Parked counts dead letters.
func (m *meter) Parked(reason string, lines int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underWay -= int64(lines)
	add(&m.parked, reason, int64(lines))
}

func add(counts *map[string]int64, reason string, n int64) {
	if *counts == nil {
		*counts = make(map[string]int64)
	}
	(*counts)[reason] += n
}

// taken is how many documents the output has taken, and how many it has refused.
func (m *meter) taken() (lines, refused int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.parked {
		refused += n
	}
	return m.lines, refused
}

// maxQueueBytes bounds what waits for one output, whatever limits.memory is: more
// would only make the others of a slow output wait longer.
const maxQueueBytes = 8 << 20

// longestWait bounds the back-off: an output that is back must be found soon, as its
// files may be about to be rotated away.
const longestWait = 5 * time.Second

// maxKafkaBatches are under way at once: the partitions take them apart, and one that
// is stuck holds only its own documents, of which each batch may have some.
const maxKafkaBatches = 64

// bulkLinger is how long little waits for more while other bulk requests are under way.
const bulkLinger = 25 * time.Millisecond

// newOutput makes the output and starts its deliverer.
func (a *Agent) newOutput(cfg *config.Output) (*output, error) {
	s, err := a.newSink(cfg)
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", cfg.Name, err)
	}
	if c, ok := s.(sink.Committer); ok {
		if err := c.Restore(a.outputState(cfg.Name)); err != nil {
			return nil, fmt.Errorf("output %s: %w", cfg.Name, err)
		}
	}
	out := &output{name: cfg.Name, cfg: cfg, sink: s, agent: a, parked: make(map[*flow]struct{}), stopped: make(chan struct{})}
	deliver := sink.DeliverConfig{
		Name: cfg.Name, Sink: s, Dead: a.dead, Meter: &out.meter, Log: a.log,
		Backoff: backoff.Policy{Cap: longestWait},
	}
	most := int64(maxQueueBytes)
	switch {
	case cfg.Kafka != nil:
		deliver.MaxInFlight = maxKafkaBatches
	case cfg.Elasticsearch != nil:
		// As many requests as may be under way, and one that waits for its turn.
		deliver.MaxInFlight, deliver.MaxBatchBytes = cfg.Elasticsearch.Requests+1, int(cfg.Elasticsearch.BulkBytes)
		deliver.MaxInFlightBytes = deliver.MaxInFlight * deliver.MaxBatchBytes
		deliver.Linger = bulkLinger
		most = max(most, int64(deliver.MaxInFlightBytes))
	}
	out.queue = queue.New(min(most, int64(a.cfg.Limits.Memory)/8), out.unpark)
	deliver.Queue = out.queue
	out.deliverer = sink.NewDeliverer(deliver)
	ctx, cancel := context.WithCancelCause(context.Background())
	out.cancel = cancel
	go func() {
		defer close(out.stopped)
		out.deliverer.Run(ctx) // what it leaves undelivered is in its State
	}()
	return out, nil
}

// commitKey is the journal's key of what an output's sink last committed.
func commitKey(name string) string { return "commit/" + name }

// outputState is what the output's sink last committed: on disk, or waiting for the
// next checkpoint with the positions that go with it.
func (a *Agent) outputState(name string) json.RawMessage {
	a.saving.Lock()
	defer a.saving.Unlock()
	if state, ok := a.unsaved[commitKey(name)]; ok {
		return state
	}
	state, _ := a.journal.Get(commitKey(name))
	return state
}

// newSink is the one place that knows all kinds of outputs.
func (a *Agent) newSink(cfg *config.Output) (sink.Sink, error) {
	if a.opts.sinkFor != nil {
		return a.opts.sinkFor(cfg), nil
	}
	switch {
	case cfg.File != nil:
		c := cfg.File
		return sink.NewFile(sink.FileConfig{
			Name: cfg.Name, Path: c.Path, Rotate: int64(c.Rotate), RotateEvery: c.RotateEvery, Gzip: c.Gzip, Fsync: sink.Fsync(c.Fsync), Notes: a.journal, Log: a.log,
		})
	case cfg.Kafka != nil:
		return newKafka(cfg.Kafka)
	case cfg.Elasticsearch != nil:
		return newElastic(cfg.Name, cfg.Elasticsearch, a.log)
	case cfg.Stdout != nil:
		return sink.NewStdout(cfg.Name, a.stdout, sink.Format(cfg.Stdout.Format)), nil
	case cfg.Discard != nil:
		return sink.Discard{}, nil
	}
	return nil, fmt.Errorf("no kind of output is given")
}

// roomOrPark reports whether the queue takes another block; if not, f is woken when
// it does.
func (o *output) roomOrPark(f *flow) bool {
	if o.ending.Load() {
		return false // the reload that ends it wakes the flow
	}
	if o.queue.Room() {
		return true
	}
	o.mu.Lock()
	o.parked[f] = struct{}{}
	o.mu.Unlock()
	if !o.queue.Room() {
		return false
	}
	o.unpark() // room came in between
	return true
}

// unpark wakes the flows that wait for room.
func (o *output) unpark() {
	o.mu.Lock()
	parked := o.parked
	o.parked = make(map[*flow]struct{})
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	o.mu.Unlock()
	for f := range parked {
		o.agent.sched.wake(f)
	}
}

// finish lets the deliverer deliver what is queued until ctx ends. It returns how
// many documents were left undelivered. What was delivered is to be saved before
// close.
func (o *output) finish(ctx context.Context) (left int) {
	o.ending.Store(true)
	o.queue.Close()
	o.deliverer.Hurry(true)
	select {
	case <-o.stopped:
	case <-ctx.Done():
		o.cancel(context.Cause(ctx))
		<-o.stopped
	}
	return o.queue.Lines()
}

// close gives up what the sink holds.
func (o *output) close() {
	if err := o.sink.Close(); err != nil {
		o.agent.log.Error("output did not close cleanly", "output", o.name, "error", err)
	}
}

// finishAll finishes outputs side by side, so that they share the time there is.
func finishAll(ctx context.Context, outputs map[string]*output) (left int) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, out := range outputs {
		wait.Go(func() {
			n := out.finish(ctx)
			mu.Lock()
			left += n
			mu.Unlock()
		})
	}
	wait.Wait()
	return left
}

// discardAll ends outputs that have had nothing to do yet.
func discardAll(outputs map[string]*output) {
	finishAll(context.Background(), outputs)
	for _, out := range outputs {
		out.close()
	}
}

func (o *output) collect(ch chan<- prometheus.Metric) {
	m := &o.meter
	m.mu.Lock()
	outputGiven.send(ch, float64(m.given), o.name)
	outputUnderWay.send(ch, float64(m.underWay), o.name)
	outputLines.send(ch, float64(m.lines), o.name)
	outputBytes.send(ch, float64(m.bytes), o.name)
	outputRetries.send(ch, float64(m.retries), o.name)
	for reason, n := range m.errors {
		outputErrors.send(ch, float64(n), o.name, reason)
	}
	for l, n := range m.lost {
		outputLost.send(ch, float64(n), o.name, l.input, l.reason)
	}
	for reason, n := range m.parked {
		deadLetters.send(ch, float64(n), o.name, reason)
	}
	m.mu.Unlock()
	waiting, inFlight := o.queue.Bytes()
	queueBytes.send(ch, float64(waiting+inFlight), o.name)
	up := 0.0
	if o.deliverer.State().Up {
		up = 1
	}
	outputUp.send(ch, up, o.name)
	if k, ok := o.sink.(*kafka.Sink); ok {
		for broker, reached := range k.Up() {
			up := 0.0
			if reached {
				up = 1
			}
			brokerUp.send(ch, up, o.name, broker)
		}
	}
}
