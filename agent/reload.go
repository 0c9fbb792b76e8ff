package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/record"
)

// Reload reads the configuration again and takes it over. A configuration with
// problems is refused, with all of them in the error, and the old one runs on.
// Unchanged outputs and files do not notice.
func (a *Agent) Reload() error {
	ctx, cancel := context.WithTimeout(context.Background(), a.config().ShutdownTimeout)
	defer cancel()
	var refused error
	if err := a.onDriver(ctx, func() { refused = a.reload() }); err != nil {
		return fmt.Errorf("reload: %w; nothing was changed", err)
	}
	return refused
}

func (a *Agent) config() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// reload runs on the driver: nobody else makes or ends flows meanwhile.
func (a *Agent) reload() error {
	a.files.look(a.followed()) // or the driver would take the change for another one
	cfg, problems := config.Load(a.path)
	var refused error
	for _, p := range problems {
		refused = errors.Join(refused, errors.New(p.String()))
	}
	if refused == nil {
		refused = cfg.Usable()
	}
	if refused == nil {
		refused = a.takeOver(cfg)
		a.openReceivers()
	}
	a.metrics.reloaded(refused == nil)
	if refused != nil {
		a.log.Error("the new configuration is refused; the old one runs on", "config", a.path, "error", refused)
		return refused
	}
	for _, w := range cfg.Warnings {
		a.log.Warn("configuration", "warning", w.String())
	}
	a.log.Info("configuration reloaded", "config", a.path, "inputs", len(cfg.Inputs), "outputs", len(cfg.Outputs))
	return nil
}

// takeOver puts cfg in the place of the running configuration.
func (a *Agent) takeOver(cfg *config.Config) error {
	was := a.config()
	for _, fixed := range []struct {
		key     string
		differs bool
	}{
		{"state", cfg.State != was.State}, {"listen", cfg.Listen != was.Listen},
		{"host", cfg.Host != was.Host}, {"limits", cfg.Limits != was.Limits},
		{"metadata", cfg.Metadata != was.Metadata},
	} {
		if fixed.differs {
			a.log.Warn("a changed key takes effect with the next start only", "config", a.path, "key", fixed.key)
		}
	}
	cfg.State, cfg.Listen, cfg.Host, cfg.Limits, cfg.Metadata = was.State, was.Listen, was.Host, was.Limits, was.Metadata

	alerts, err := a.alerts.prepare(cfg)
	if err != nil {
		return err
	}
	ending := a.endOutputs(cfg)
	if a.haltConsumers(was, cfg) {
		defer func() {
			if err := a.startConsumers(); err != nil {
				a.log.Error("kafka inputs do not run; correct the configuration", "error", err)
			}
		}()
	}
	a.sched.pause()
	defer a.sched.resume()
	outputs, err := a.changeOutputs(cfg, ending)
	if err != nil {
		return err
	}
	inputs, err := a.newInputs(cfg, outputs)
	if err != nil {
		return err // config.Load has tried the same; there is nothing half done but outputs
	}
	if err := a.alerts.change(cfg, alerts); err != nil {
		return err // as above
	}
	a.use(cfg, inputs, outputs)
	a.watchPods()
	a.changeReceivers(inputs, outputs)
	for _, f := range a.allFlows() {
		if f.received() {
			continue
		}
		in := inputs[f.in.name]
		if in == nil {
			f.left.Store(true) // what is under way still counts; then the driver lets it go
			f.closeTap()
			continue
		}
		f.change(in)
		a.sched.wake(f)
	}
	return a.source.Configure(tailInputs(cfg))
}

// endOutputs lets the outputs that are gone or have changed deliver what they have,
// for a while, during which the others go on.
func (a *Agent) endOutputs(cfg *config.Config) (ending map[string]*output) {
	ending = make(map[string]*output)
	for _, out := range a.allOutputs() {
		ending[out.name] = out
	}
	for _, c := range cfg.Outputs {
		if out := ending[c.Name]; out != nil && reflect.DeepEqual(out.cfg, c) {
			delete(ending, c.Name)
		}
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), min(reloadTimeout, a.config().ShutdownTimeout), errors.New("its output was changed by a reload"))
	defer cancel()
	if left := finishAll(ctx, ending); left > 0 {
		a.log.Info("a changed output has lines undelivered; its successor sends them", "undelivered", left)
	}
	return ending
}

// reloadTimeout is how long a reload waits for an output that it changes. No file is
// looked at meanwhile.
const reloadTimeout = 3 * time.Second

// changeOutputs keeps the outputs that are not ending, closes those that are, and
// makes the new ones.
func (a *Agent) changeOutputs(cfg *config.Config, ending map[string]*output) (map[string]*output, error) {
	next := make(map[string]*output)
	for _, out := range a.allOutputs() {
		if ending[out.name] == nil {
			next[out.name] = out
		}
	}
	var fresh []*config.Output
	for _, c := range cfg.Outputs {
		if next[c.Name] == nil {
			fresh = append(fresh, c)
		}
	}
	if len(ending) > 0 {
		a.save() // it logs; what is not on disk stays in memory for the successor
		for _, out := range ending {
			out.close()
		}
	}
	for _, c := range fresh {
		out, err := a.newOutput(c)
		if err != nil {
			return a.goBack(next, ending, err)
		}
		next[c.Name] = out
	}
	return next, nil
}

// goBack makes the ended outputs anew when one of the new configuration could not
// be made, so that the old configuration runs on.
func (a *Agent) goBack(next, ended map[string]*output, cause error) (map[string]*output, error) {
	outputs := make(map[string]*output)
	for _, out := range a.allOutputs() {
		if ended[out.name] == nil {
			outputs[out.name] = out
			continue
		}
		if half := next[out.name]; half != nil {
			discardAll(map[string]*output{out.name: half})
		}
		again, err := a.newOutput(out.cfg)
		if err != nil {
			return nil, fmt.Errorf("%w; and the old output %s cannot be opened again: %w", cause, out.name, err)
		}
		outputs[out.name] = again
	}
	was := a.config()
	inputs, err := a.newInputs(was, outputs)
	if err != nil {
		return nil, errors.Join(cause, err)
	}
	a.use(was, inputs, outputs)
	a.changeReceivers(inputs, outputs)
	for _, f := range a.allFlows() {
		if !f.received() {
			f.change(inputs[f.in.name])
		}
	}
	return nil, cause
}

// change gives the flow another version of its input. Outputs that stay go on where
// they are; one of the same name that was made anew begins at its safe position.
func (f *flow) change(in *input) {
	f.mu.Lock()
	var tracks []*track
	saved, sums := make(map[string]record.Pos), make(map[string]record.Sum)
	stays := make(map[*output]bool)
	for _, out := range in.outputs {
		stays[out] = true
	}
	for _, t := range f.tracks {
		saved[t.out.name], sums[t.out.name] = t.savedSum()
		if stays[t.out] {
			tracks = append(tracks, t)
			delete(stays, t.out)
		}
	}
	f.tracks = tracks
	f.mu.Unlock()
	f.keepMembers(tracks)
	unknown := unknownPos(saved, f.start())
	for _, out := range in.outputs {
		if !stays[out] {
			continue
		}
		pos, known := saved[out.name]
		if !known {
			pos = unknown
		}
		t := newTrack(out, pos, sums[out.name])
		f.mu.Lock()
		f.tracks = append(f.tracks, t)
		f.mu.Unlock()
		f.join(t, pos)
	}
	clear(f.blocked)
	f.in = in
	f.left.Store(false)
	f.rejoin()
	f.see(f.viewNow())
	f.dirty.Store(true)
}

// keepMembers removes from the chains, and from the blocks that wait for a
// checkpoint, every output that does not stay.
func (f *flow) keepMembers(tracks []*track) {
	staying := make(map[*track]bool)
	for _, t := range tracks {
		staying[t] = true
	}
	only := func(members []*track) (kept []*track) {
		for _, t := range members {
			if staying[t] {
				kept = append(kept, t)
			}
		}
		return kept
	}
	for i := range f.sealed {
		f.sealed[i].members = only(f.sealed[i].members)
	}
	f.lead.members = only(f.lead.members)
	lags := f.lags[:0]
	for _, c := range f.lags {
		if c.members = only(c.members); len(c.members) > 0 {
			lags = append(lags, c)
		}
	}
	f.lags = lags
}

// followed are the files whose change is a reload: the configuration's, and those that
// it names.
func (a *Agent) followed() []string { return append(a.config().Follows(), a.path) }

// seenFiles are files as they were at the last look, by path.
type seenFiles map[string]os.FileInfo

// look reports whether a file is another than at the last call: its time, size or inode.
func (s seenFiles) look(paths []string) (changed bool) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue // being replaced, or unreadable: the old configuration runs on
		}
		was := s[path]
		s[path] = info
		changed = changed || was != nil && (!os.SameFile(was, info) || was.ModTime() != info.ModTime() || was.Size() != info.Size())
	}
	return changed
}
