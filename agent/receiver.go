package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen"
)

// receiver is an input that lines are sent to: its listener, its spool, and the flow
// that reads this. An input that is configured no more keeps spool and flow until every
// output has what was received.
type receiver struct {
	name string
	file *spoolFile
	flow atomic.Pointer[flow]  // nil until the driver has begun
	in   atomic.Pointer[input] // as the listener uses it

	// The driver's, and before it runs Run's.
	leaving bool // it is configured no more
	of      receiverConfig
	retryAt time.Time

	mu      sync.Mutex // guards what follows
	server  listen.Server
	trouble string
}

// receiverConfig is what a listener must be opened anew for when it changes.
type receiverConfig struct {
	kind    any
	project string
	maxLine int
	zone    string
}

func receiverConfigOf(cfg *config.Input) receiverConfig {
	c := receiverConfig{project: cfg.Project, maxLine: int(cfg.MaxLine), zone: cfg.Zone}
	switch {
	case cfg.HTTP != nil:
		c.kind = *cfg.HTTP
	case cfg.Forward != nil:
		c.kind = *cfg.Forward
	case cfg.Syslog != nil:
		c.kind = *cfg.Syslog
	case cfg.OTLP != nil:
		c.kind = *cfg.OTLP
	}
	return c
}

// reopenAfter is how often a listener that could not be opened is tried again.
const reopenAfter = 5 * time.Second

func (a *Agent) spoolDir(input string) string { return filepath.Join(a.cfg.State, "spool", input) }

// openSpools takes up the spools: those of the configured inputs, and what inputs have
// left that are configured no more.
func (a *Agent) openSpools() error {
	a.memory = listen.NewMemory(int64(a.cfg.Limits.Memory) / 4)
	for _, cfg := range a.cfg.Inputs {
		if !cfg.Listens() {
			continue
		}
		if err := a.newReceiver(a.inputs[cfg.Name], cfg.SpoolLimit()); err != nil {
			return fmt.Errorf("input %s: %w", cfg.Name, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(a.cfg.State, "spool"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("spool: %w", err)
	}
	for _, e := range left {
		if a.receivers[e.Name()] != nil || !e.IsDir() {
			continue
		}
		in := a.formerInput(e.Name(), nil, a.outputs)
		if in == nil {
			continue
		}
		if err := a.newReceiver(in, 1<<40); err != nil {
			a.log.Error("what an input has received that is configured no more cannot be read; it stays where it is", "input", e.Name(), "error", err)
			continue
		}
		a.receivers[e.Name()].leaving = true
	}
	return nil
}

// formerInput is an input that is configured no more, for what it has received: was, or
// one with the defaults, for the outputs that are left. It is nil when there is none of
// them, or the name is none.
func (a *Agent) formerInput(name string, was *config.Input, outputs map[string]*output) *input {
	cfg := was
	if cfg == nil {
		text := fmt.Sprintf("inputs: {%q: {http: {listen: ':0'}}}\noutputs: {x: {discard: {}}}\n", name)
		c, problems := config.Parse(name, []byte(text))
		if len(problems) > 0 {
			return nil
		}
		cfg = c.Inputs[0]
		cfg.To = nil
		for name := range outputs {
			cfg.To = append(cfg.To, name)
		}
	}
	left := *cfg
	left.To = slices.DeleteFunc(slices.Clone(left.To), func(name string) bool { return outputs[name] == nil })
	slices.Sort(left.To)
	if len(left.To) == 0 {
		a.log.Warn("an input is configured no more, and none of its outputs; what it has received stays in its spool", "input", name, "state", a.spoolDir(name))
		return nil
	}
	in, err := a.newInput(&left, outputs)
	if err != nil {
		a.log.Error("an input that is configured no more cannot be read to its end; what it has received stays in its spool", "input", name, "error", err)
		return nil
	}
	return in
}

// newReceiver opens the input's spool.
func (a *Agent) newReceiver(in *input, limit int64) error {
	r := &receiver{name: in.name}
	r.in.Store(in)
	file, err := a.openSpool(in.name, limit, func() {
		if f := r.flow.Load(); f != nil {
			a.sched.wake(f)
		}
	})
	if err != nil {
		return err
	}
	r.file = file
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.receivers == nil {
		a.receivers = make(map[string]*receiver)
	}
	a.receivers[in.name] = r
	return nil
}

func (a *Agent) allReceivers() []*receiver {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*receiver, 0, len(a.receivers))
	for _, r := range a.receivers {
		all = append(all, r)
	}
	return all
}

// startReceiving opens the listeners, all or none.
func (a *Agent) startReceiving() error {
	for _, r := range a.allReceivers() {
		if r.leaving {
			continue
		}
		if err := a.openReceiver(r); err != nil {
			a.stopReceiving()
			return err
		}
	}
	return nil
}

// beginReceived makes the flows of spools that have none. It runs on the driver, once
// the machine is known.
func (a *Agent) beginReceived() {
	for _, r := range a.allReceivers() {
		if r.flow.Load() != nil {
			continue
		}
		f := newFlow(a, r.file, r.in.Load())
		a.mu.Lock()
		a.flows[r.file] = f
		a.mu.Unlock()
		r.flow.Store(f)
		a.sched.wake(f)
	}
}

// openReceiver opens the listener.
func (a *Agent) openReceiver(r *receiver) error {
	in := r.in.Load()
	server, err := a.newServer(r, in.cfg)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = ""
	if err != nil {
		r.trouble = err.Error()
		r.retryAt = time.Now().Add(reopenAfter)
		return err
	}
	r.server, r.of = server, receiverConfigOf(in.cfg)
	for _, addr := range server.Addrs() {
		a.log.Info("listening", "input", r.name, "kind", in.cfg.Kind(), "address", addr.Network()+"://"+addr.String())
	}
	return nil
}

// maxBody bounds what one sender may hand over at once, in bytes.
func (a *Agent) maxBody(wanted, spool int64) int {
	return int(min(wanted, spool/4, int64(a.cfg.Limits.Memory)/8))
}

// newServer is the one place that knows all kinds of listeners.
func (a *Agent) newServer(r *receiver, cfg *config.Input) (listen.Server, error) {
	project := cfg.Project
	if project == "" {
		project = cfg.Name
	}
	m := a.metrics.input(cfg.Name)
	c := listen.Config{
		Name: cfg.Name, Project: project, Host: a.host, MaxLine: int(cfg.MaxLine), Zone: cfg.Location(),
		Spool: r.file.Log, Memory: a.memory, Split: r.split, Drop: m.drop, Abandon: m.abandon, Log: a.log,
	}
	encrypt := func(t *config.ServerTLS) (err error) {
		if c.TLS, err = t.Config(); err != nil {
			err = fmt.Errorf("input %s: %w", cfg.Name, err)
		}
		return err
	}
	switch {
	case cfg.HTTP != nil:
		for _, t := range cfg.HTTP.Tokens {
			c.Tokens = append(c.Tokens, t.Reveal())
		}
		c.MaxBody, c.MaxConns = a.maxBody(int64(cfg.HTTP.MaxBody), cfg.SpoolLimit()), cfg.HTTP.Connections
		if err := encrypt(cfg.HTTP.TLS); err != nil {
			return nil, err
		}
		return listen.HTTP(c, cfg.HTTP.Listen)
	case cfg.OTLP != nil:
		for _, t := range cfg.OTLP.Tokens {
			c.Tokens = append(c.Tokens, t.Reveal())
		}
		c.MaxBody, c.MaxConns = a.maxBody(int64(cfg.OTLP.MaxBody), cfg.SpoolLimit()), cfg.OTLP.Connections
		if err := encrypt(cfg.OTLP.TLS); err != nil {
			return nil, err
		}
		return listen.OTLP(c, cfg.OTLP.Listen)
	case cfg.Forward != nil:
		c.SharedKey = cfg.Forward.SharedKey.Reveal()
		c.MaxBody, c.MaxConns = a.maxBody(int64(cfg.Forward.MaxBody), cfg.SpoolLimit()), cfg.Forward.Connections
		if err := encrypt(cfg.Forward.TLS); err != nil {
			return nil, err
		}
		return listen.Forward(c, cfg.Forward.Listen)
	case cfg.Syslog != nil:
		c.MaxConns = cfg.Syslog.Connections
		if err := encrypt(cfg.Syslog.TLS); err != nil {
			return nil, err
		}
		return listen.Syslog(c, cfg.Syslog.Listen)
	}
	return nil, fmt.Errorf("input %s: nothing can be sent to its kind", cfg.Name)
}

// split cuts text into events as a file's is cut.
func (r *receiver) split(text []byte, emit func(event []byte, truncated bool)) (lost int64) {
	framer, err := r.in.Load().format.NewFramer()
	if err != nil {
		emit(text, false) // cannot be: the format was compiled
		return 0
	}
	framer.Reset(record.Pos{}, nil)
	look := parser.Look{Data: text, Now: time.Now(), AtEnd: true, Flush: true}
	for ev, ok := framer.Next(&look); ok; ev, ok = framer.Next(&look) {
		emit(ev.Text, ev.Truncated)
	}
	s := framer.Skipped()
	return s.RestBytes + s.NULBytes
}

// close closes the listener, if it is open. What has been received is in the spool.
func (r *receiver) close() {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// stopReceiving closes all listeners, side by side.
func (a *Agent) stopReceiving() {
	var wait sync.WaitGroup
	for _, r := range a.allReceivers() {
		wait.Go(r.close)
	}
	wait.Wait()
}

// syncSpools has what was received without an answer on disk, too: only then it counts as
// something that is to be delivered.
func (a *Agent) syncSpools() {
	var wait sync.WaitGroup
	for _, r := range a.allReceivers() {
		wait.Go(func() {
			if err := r.file.Sync(); err != nil {
				a.log.Error("a spool cannot be written; what was received last without an answer is lost", "input", r.name, "error", err)
			}
		})
	}
	wait.Wait()
}

// closeSpools closes the spools when nothing reads them any more.
func (a *Agent) closeSpools() {
	for _, r := range a.allReceivers() {
		if err := r.file.Close(); err != nil {
			a.log.Error("a spool did not close cleanly; what was acknowledged is on disk", "input", r.name, "error", err)
		}
	}
}

// changeReceivers gives the spools' flows another version of their inputs, and makes
// the spools of new ones. The scheduler is paused. The listeners follow with
// openReceivers.
func (a *Agent) changeReceivers(inputs map[string]*input, outputs map[string]*output) {
	for _, r := range a.allReceivers() {
		in := inputs[r.name]
		r.leaving = in == nil || !in.cfg.Listens()
		if r.leaving {
			if in = a.formerInput(r.name, r.in.Load().cfg, outputs); in == nil {
				continue
			}
		} else {
			r.file.SetLimit(in.cfg.SpoolLimit())
		}
		r.in.Store(in)
		if f := r.flow.Load(); f != nil {
			f.change(in)
			f.openTap()
			a.sched.wake(f)
		}
	}
	for name, in := range inputs {
		if !in.cfg.Listens() || a.receivers[name] != nil {
			continue
		}
		if err := a.newReceiver(in, in.cfg.SpoolLimit()); err != nil {
			a.log.Error("a new input cannot be begun; mend what the error says and reload", "input", name, "error", err)
		}
	}
}

// openReceivers closes and opens the listeners that a new configuration changes. The
// others stay open. It runs on the driver.
func (a *Agent) openReceivers() {
	for _, r := range a.allReceivers() {
		r.mu.Lock()
		open := r.server != nil
		r.mu.Unlock()
		same := open && reflect.DeepEqual(r.of, receiverConfigOf(r.in.Load().cfg))
		if open && (r.leaving || !same) {
			r.close()
		}
		if !r.leaving && !same && !a.draining.Load() {
			if err := a.openReceiver(r); err != nil {
				a.log.Error("a listener could not be opened; it is tried again", "input", r.name, "error", err)
			}
		}
	}
}

// tendReceivers opens listeners that could not be opened before, or were closed by a
// drain that was given up, and removes spools that are not needed any more. It runs on
// the driver.
func (a *Agent) tendReceivers(now time.Time) {
	for _, r := range a.allReceivers() {
		if r.leaving {
			a.letGo(r)
			continue
		}
		r.mu.Lock()
		open := r.server != nil
		r.mu.Unlock()
		if open || a.draining.Load() || now.Before(r.retryAt) {
			continue
		}
		if err := a.openReceiver(r); err != nil {
			a.log.Error("a listener could not be opened; it is tried again", "input", r.name, "error", err)
		}
	}
}

// letGo removes the spool of an input that is configured no more, when every output has
// all of it.
func (a *Agent) letGo(r *receiver) {
	f := r.flow.Load()
	if f == nil || f.dirty.Load() || !f.delivered() || f.underWay() || !a.sched.retire(f) {
		return
	}
	a.mu.Lock()
	delete(a.flows, feed(r.file))
	delete(a.receivers, r.name)
	a.mu.Unlock()
	f.closeTap()
	a.saving.Lock()
	a.unsaved[spoolPrefix+r.name] = nil
	a.saving.Unlock()
	if err := r.file.Remove(); err != nil {
		a.log.Error("a spool that is not needed any more cannot be removed", "input", r.name, "error", err)
		return
	}
	a.log.Info("every output has what an input received that is configured no more; its spool is removed", "input", r.name)
}

// receiverStatus adds what is known of the inputs that lines are sent to.
func (a *Agent) receiverStatus(inputs []InputStatus) {
	for _, r := range a.allReceivers() {
		for i := range inputs {
			if inputs[i].Name != r.name {
				continue
			}
			in := &inputs[i]
			in.SpoolBytes = r.file.Log.Size()
			r.mu.Lock()
			in.Trouble = r.trouble
			if r.server != nil {
				in.Connections = r.server.Stats().Connections
				for _, addr := range r.server.Addrs() {
					in.Listening = append(in.Listening, addr.Network()+"://"+addr.String())
				}
			}
			r.mu.Unlock()
		}
	}
}

func (a *Agent) collectReceivers(ch chan<- prometheus.Metric) {
	for _, r := range a.allReceivers() {
		spoolBytes.send(ch, float64(r.file.Log.Size()), r.name)
		spoolLimit.send(ch, float64(r.file.Limit()), r.name)
		r.mu.Lock()
		server := r.server
		r.mu.Unlock()
		if server == nil {
			continue
		}
		s := server.Stats()
		connections.send(ch, float64(s.Connections), r.name)
		for answer, n := range s.Answers {
			answered.send(ch, float64(n), r.name, answer)
		}
	}
}
