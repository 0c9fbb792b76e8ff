package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/alert/fleet"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/sink"
	"github.com/tailwater/tailwater/source/listen"
	"github.com/tailwater/tailwater/source/tail"
)

// Build is what was stamped into the binary.
type Build struct{ Version, Commit, GoVersion string }

// Options are what an Agent needs beside its configuration.
type Options struct {
	Config *config.Config
	// ConfigPath is the file that reload reads again.
	ConfigPath string
	Log        *slog.Logger
	// Stdout is where the stdout output writes.
	Stdout *os.File
	// Progress, when not nil, gets a line about the work every ten seconds.
	Progress io.Writer
	Build    Build
	// sinkFor, when not nil, makes the sinks in place of the real ones: for tests.
	sinkFor func(*config.Output) sink.Sink
	// channelFor, when not nil, makes the channels in place of the real ones: for tests.
	channelFor func(*config.Channel) notify.Channel
	// fleetLog, when not nil, stands in for Kafka's topics of the fleet: for tests.
	fleetLog func() fleet.Log
	// whereabouts, when not nil, is where the machine's marks are found: for tests.
	whereabouts *whereabouts
	// Drain has Run, when its ctx ends, first ship everything up to the files' ends, an
	// unfinished last line too, until none has grown for Quiet; within shutdown_timeout.
	Drain bool
	Quiet time.Duration
	// Profiling serves net/http/pprof on listen.
	Profiling bool
	// Started, when not nil, is called once the agent answers and its files are followed,
	// and Stopping when it begins to stop, with the time that may take at most.
	Started  func()
	Stopping func(within time.Duration)
}

// Agent is one running tailwater. Several fit into one process, each with its own
// state directory.
type Agent struct {
	cfg    *config.Config
	path   string
	log    *slog.Logger
	stdout *os.File
	build  Build
	opts   Options

	journal  *journal.Journal
	identity atomic.Pointer[identity]
	stranger bool // the journal has not taken the identity yet; the driver's
	asks     bool // the metadata service has not answered in this boot; set by New
	host     string
	source   *tail.Source
	dead     *sink.DeadLetters
	replays  replays
	alerts   *alerts
	sched    *scheduler
	saver    *saver
	saving   sync.Mutex // one checkpoint at a time; guards unsaved
	unsaved  map[string]json.RawMessage
	graves   graves
	blocks   *blocks
	metrics  *metrics
	started  time.Time
	memory   *listen.Memory // what senders may have under way

	mu        sync.Mutex // guards what follows
	inputs    map[string]*input
	outputs   map[string]*output
	order     []string // of the outputs, as configured
	consumers []*relay
	receivers map[string]*receiver // by the name of their inputs
	flows     map[feed]*flow
	watches   map[string]*podWatch // by the inputs' names
	routes    []string

	files    seenFiles   // the configuration's; the driver's
	arrivals arrivals    // the driver's
	crowded  atomic.Bool // there are more flows than may rest
	draining atomic.Bool
	stopping atomic.Bool   // the checkpoint to come is the last
	tasks    chan func()   // for the driver
	stopNow  chan struct{} // closed by a drain that has delivered everything
	stopOne  sync.Once
}

// ErrUndelivered is returned by Run when the time to stop was over before everything
// in flight had been delivered. The lines are sent after the next start.
var ErrUndelivered = errors.New("stopped with lines undelivered")

// New takes the state directory over and makes everything ready to run. The caller
// holds the directory's lock.
func New(o Options) (*Agent, error) {
	a := newAgent(o)
	a.setLimits()
	j, err := journal.Open(a.cfg.State, "checkpoint", a.log)
	if err != nil {
		return nil, err
	}
	a.journal = j
	if err := a.open(); err != nil {
		j.Close()
		return nil, err
	}
	return a, nil
}

// newAgent makes an agent that holds nothing yet.
func newAgent(o Options) *Agent {
	a := &Agent{
		cfg: o.Config, path: o.ConfigPath, log: o.Log, stdout: o.Stdout, build: o.Build, opts: o,
		sched: newScheduler(), saver: newSaver(), metrics: newMetrics(), started: time.Now(),
		flows: make(map[feed]*flow), unsaved: make(map[string]json.RawMessage), tasks: make(chan func()), files: make(seenFiles), stopNow: make(chan struct{}),
	}
	a.blocks = newBlocks(a.routeKeys)
	return a
}

// The heap is small and its garbage smaller: memory over cycles, and all the more so
// while very many files are read at once.
const (
	gcPercent = 50
	gcCrowded = 20
)

// setLimits holds the Go runtime to the configured share of the machine.
func (a *Agent) setLimits() {
	runtime.GOMAXPROCS(a.cfg.Limits.CPUs)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(int64(a.cfg.Limits.Memory) / 10 * 9)
}

// hostOf is what the documents have as host.
func hostOf(cfg *config.Config) (string, error) {
	if cfg.Host != "" {
		return cfg.Host, nil
	}
	return os.Hostname()
}

func (a *Agent) open() (err error) {
	a.recognise()
	if a.host, err = hostOf(a.cfg); err != nil {
		return fmt.Errorf("host: %w; set host: in the configuration", err)
	}
	a.openDead()
	a.alerts = newAlerts(a)
	if err := a.alerts.open(a.cfg); err != nil {
		return err
	}
	outputs, err := a.newOutputs(a.cfg)
	if err != nil {
		return err
	}
	inputs, err := a.newInputs(a.cfg, outputs)
	if err != nil {
		discardAll(outputs)
		return err
	}
	a.use(a.cfg, inputs, outputs)
	a.graves.open(a.journal, a.log)
	if err := a.openSpools(); err != nil {
		discardAll(outputs)
		return err
	}
	a.source, err = tail.New(tail.Options{
		Inputs: tailInputs(a.cfg), Store: a.journal,
		HeldDeleted: int64(a.cfg.Limits.HeldDeleted), Log: a.log, Forget: a.graves.bury,
	})
	return err
}

func (a *Agent) newOutputs(cfg *config.Config) (map[string]*output, error) {
	outputs := make(map[string]*output)
	for _, c := range cfg.Outputs {
		out, err := a.newOutput(c)
		if err != nil {
			discardAll(outputs)
			return nil, err
		}
		outputs[c.Name] = out
	}
	return outputs, nil
}

func (a *Agent) newInputs(cfg *config.Config, outputs map[string]*output) (map[string]*input, error) {
	inputs := make(map[string]*input)
	for _, c := range cfg.Inputs {
		in, err := a.newInput(c, outputs)
		if err != nil {
			return nil, err
		}
		in.observed = watched(cfg, c)
		inputs[c.Name] = in
	}
	return inputs, nil
}

// use makes a configuration's parts the current ones.
func (a *Agent) use(cfg *config.Config, inputs map[string]*input, outputs map[string]*output) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg, a.inputs, a.outputs = cfg, inputs, outputs
	a.order, a.routes = a.order[:0:0], nil
	for _, c := range cfg.Outputs {
		a.order = append(a.order, c.Name)
		if r, ok := outputs[c.Name].sink.(interface{ Fields() []string }); ok {
			a.routes = append(a.routes, r.Fields()...)
		}
	}
	slices.Sort(a.routes)
	a.routes = slices.Compact(a.routes)
}

// tailInputs are the inputs that read files. A pattern that names everything below some
// directory must not name the agent's own state: each line of it would make another.
func tailInputs(cfg *config.Config) []tail.Input {
	var own []string
	for _, name := range []string{"checkpoint.*", "*.corrupt-*", "lock", SocketName + "*", "dead/**/*", "spool/**/*"} {
		own = append(own, tail.Quote(cfg.State)+"/"+name)
	}
	var all []tail.Input
	for _, in := range cfg.Inputs {
		if in.Kafka != nil || in.Listens() {
			continue
		}
		files, exclude := in.Patterns()
		all = append(all, tail.Input{
			Name: in.Name, Files: files, Exclude: slices.Concat(exclude, own), FromEnd: in.Start == "end", IgnoreOlder: in.IgnoreOlder,
			Wide: parser.IsWide(in.Encoding),
		})
	}
	return all
}

// Run works until ctx ends, a drain has finished, or the agent cannot go on. It then
// stops reading, delivers what is in flight within shutdown_timeout, and writes the
// last checkpoint.
func (a *Agent) Run(ctx context.Context) error {
	server, err := a.listen()
	if err != nil {
		a.abandonStart()
		return err
	}
	if err := a.startReceiving(); err != nil {
		server.close()
		a.abandonStart()
		return err
	}
	if err := a.startConsumers(); err != nil {
		a.stopReceiving()
		server.close()
		a.abandonStart()
		return err
	}
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	var work sync.WaitGroup
	cfg := a.config()
	for range cfg.Limits.CPUs {
		work.Go(newWorker(a).run)
	}
	a.alerts.begin()
	a.watchPods()
	work.Go(func() { a.drive(reading) })
	work.Go(func() { a.alerts.run(reading) })
	saving, stopSaving := context.WithCancel(context.Background())
	var savers sync.WaitGroup
	savers.Go(func() { a.saver.loop(saving, func() { a.save() }) })
	savers.Go(func() { a.report(saving) })
	savers.Go(func() { a.askOn(saving) })
	a.log.Info("running", "version", a.build.Version, "inputs", len(cfg.Inputs), "outputs", len(cfg.Outputs), "state", cfg.State, "listen", cfg.Listen)
	if a.opts.Started != nil {
		a.opts.Started()
	}
	debug.FreeOSMemory() // what the configuration was read with is not needed again soon
	unmapStart()

	select {
	case <-ctx.Done():
	case <-a.stopNow:
	}
	if a.opts.Stopping != nil {
		a.opts.Stopping(a.config().ShutdownTimeout + stopSpare)
	}
	stopBy := time.Now().Add(a.config().ShutdownTimeout)
	drained := true
	if a.opts.Drain && ctx.Err() != nil {
		drained = a.lastWords(stopBy)
	}
	stopReading()
	a.stopReceiving()
	a.endPodWatches()
	a.stopConsuming()
	a.sched.close()
	work.Wait()
	stopSaving()
	savers.Wait()
	err = a.stop(server, stopBy)
	if err == nil && !drained {
		err = ErrUndelivered
	}
	return err
}

// stopSpare is what a stop may take beside delivering: the last notices, checkpoints on
// a slow disk.
const stopSpare = 20 * time.Second

// stop delivers what is in flight until shutdown_timeout has passed, which is at by, and
// writes the last checkpoint.
func (a *Agent) stop(server *server, by time.Time) error {
	timeout := a.config().ShutdownTimeout
	a.log.Info("stopping: reading has ended, what is in flight is delivered", "timeout", time.Until(by).Round(time.Millisecond))
	ctx, cancel := context.WithDeadlineCause(context.Background(), by, fmt.Errorf("shutdown_timeout of %v passed", timeout))
	defer cancel()
	if a.save() == nil { // what waited for a checkpoint may leave now
		for _, f := range a.allFlows() {
			f.unseal()
		}
	}
	left := 0
	for _, f := range a.allFlows() {
		for _, s := range f.sealed {
			left += len(s.block.Docs)
		}
	}
	left += finishAll(ctx, a.outputs)
	a.replays.wait()
	a.closeConsumers()
	a.alerts.close(ctx)
	a.stopping.Store(true)
	err := a.save()
	for _, out := range a.allOutputs() {
		out.close()
	}
	a.source.Close()
	a.closeSpools()
	server.close()
	err = errors.Join(err, a.journal.Close())
	delivered := a.summary()
	if left > 0 {
		a.log.Warn("stopped with lines undelivered; they are sent after the next start", "undelivered", left, "delivered", delivered)
		return ErrUndelivered
	}
	a.log.Info("stopped", "delivered", delivered)
	return err
}

// abandonStart undoes New when Run cannot begin.
func (a *Agent) abandonStart() {
	discardAll(a.outputs)
	a.source.Close()
	a.closeSpools()
	a.journal.Close()
}

// summary counts the documents that the outputs have taken.
func (a *Agent) summary() map[string]int64 {
	delivered := make(map[string]int64)
	for _, out := range a.allOutputs() {
		delivered[out.name], _ = out.meter.taken()
	}
	return delivered
}

func (a *Agent) allFlows() []*flow {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*flow, 0, len(a.flows))
	for _, f := range a.flows {
		all = append(all, f)
	}
	return all
}

// allOutputs are the outputs in the order of the configuration.
func (a *Agent) allOutputs() []*output {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*output, 0, len(a.order))
	for _, name := range a.order {
		all = append(all, a.outputs[name])
	}
	return all
}

// uses reports whether the output is one of the configuration's.
func (a *Agent) uses(out *output) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outputs[out.name] == out
}

func (a *Agent) routeKeys() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.routes
}

// State returns what the journal holds under a key; for the commands that look at a
// state directory.
func (a *Agent) State(key string) (json.RawMessage, bool) { return a.journal.Get(key) }
