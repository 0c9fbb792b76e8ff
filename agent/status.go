package agent

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Status is what /api/v1/status and `tailwater status` tell.
type Status struct {
	Version string         `json:"version"`
	Host    string         `json:"host"`
	Machine string         `json:"machine"`
	State   string         `json:"state"`
	PID     int            `json:"pid"`
	Uptime  float64        `json:"uptime_seconds"`
	Inputs  []InputStatus  `json:"inputs"`
	Outputs []OutputStatus `json:"outputs"`
	// Files are those that are furthest behind, at most topFiles.
	Files []FileStatus `json:"files"`
	// FilesBehind counts all that have undelivered bytes.
	FilesBehind int  `json:"files_behind"`
	Draining    bool `json:"draining,omitempty"`
	// Firing are the alerts that fire now.
	Firing []FiringStatus `json:"firing"`
}

// FiringStatus is an incident that goes on.
type FiringStatus struct {
	Rule    string `json:"rule"`
	Group   string `json:"group,omitempty"`
	Since   string `json:"since"`
	Numbers string `json:"numbers"`
}

// InputStatus sums up one input.
type InputStatus struct {
	Name        string  `json:"name"`
	Kind        string  `json:"kind"`
	Watched     int     `json:"watched_files"`
	Bytes       int64   `json:"read_bytes"`
	Lines       int64   `json:"read_lines"`
	ParseErrors int64   `json:"parse_errors"`
	LagBytes    int64   `json:"lag_bytes"`
	LagSeconds  float64 `json:"lag_seconds"`
	// LagRecords and Trouble are a kafka input's: what the output does not have yet of
	// the partitions that are read here, and what keeps them from being read.
	LagRecords int64  `json:"lag_records,omitempty"`
	Trouble    string `json:"trouble,omitempty"`
	// Listening, Connections and SpoolBytes are a listening input's: its addresses, how
	// many senders are connected, and the disk that its spool occupies.
	Listening   []string `json:"listening,omitempty"`
	Connections int      `json:"connections,omitempty"`
	SpoolBytes  int64    `json:"spool_bytes,omitempty"`
}

// Behind is how far the input is behind, for people.
func (s InputStatus) Behind() string {
	if s.Kind == "kafka" {
		return fmt.Sprint(s.LagRecords, " records")
	}
	return fmt.Sprint(s.LagBytes, " B")
}

// OutputStatus sums up one output.
type OutputStatus struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	State       string `json:"state"` // "up" or "retrying"
	Since       string `json:"since,omitempty"`
	LastError   string `json:"last_error,omitempty"`
	Delivered   int64  `json:"delivered"`
	DeadLetters int64  `json:"dead_letters"`
	QueueBytes  int64  `json:"queue_bytes"`
}

// FileStatus is one file with what each output still has to get of it.
type FileStatus struct {
	Path    string  `json:"path"`
	Input   string  `json:"input"`
	Format  string  `json:"format,omitempty"`
	Size    int64   `json:"size"`
	Read    int64   `json:"read"`
	Bytes   int64   `json:"lag_bytes"`
	Seconds float64 `json:"lag_seconds"`
	// Delivered is the safe position of each output.
	Delivered map[string]int64 `json:"delivered"`
	Stalled   bool             `json:"stalled,omitempty"`
}

const topFiles = 50

// lag is how far an input is behind.
type lag struct {
	bytes   int64
	seconds float64
	stalled int
}

// behind is how far the slowest output of the flow is behind: bytes that it does not
// have, and the age of the oldest of them, taken from the line before it.
func (f *flow) behind(now time.Time) (bytes int64, seconds float64) {
	size := f.file.Size()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		safe := t.Safe()
		if size <= safe.Off {
			continue
		}
		bytes = max(bytes, size-safe.Off)
		since, known := f.growth.since(safe.Off)
		if written := cmp.Or(safe.Time, f.firstTime.Load()); !known && written != 0 {
			if safe.Off == t.start { // the line before may be of another day
				written = cmp.Or(f.firstTime.Load(), written)
			}
			since = time.UnixMilli(written)
		}
		seconds = max(seconds, now.Sub(since).Seconds())
	}
	return bytes, seconds
}

// lags sums up the inputs' files; an input without any undelivered byte is at 0.
func (a *Agent) lags() map[string]lag {
	now := time.Now()
	all := make(map[string]lag)
	a.mu.Lock()
	for name := range a.inputs {
		all[name] = lag{}
	}
	a.mu.Unlock()
	for _, f := range a.withoutFlow() {
		l := all[f.Input()]
		l.bytes += f.Undelivered()
		all[f.Input()] = l
	}
	for _, f := range a.allFlows() {
		if f.left.Load() {
			continue
		}
		bytes, seconds := f.behind(now)
		l := all[f.in.name]
		l.bytes += bytes
		l.seconds = max(l.seconds, seconds)
		if f.stalled.Load() {
			l.stalled++
		}
		all[f.in.name] = l
	}
	return all
}

// Status takes stock.
func (a *Agent) Status() Status {
	now := time.Now()
	a.mu.Lock()
	cfg := a.cfg
	a.mu.Unlock()
	s := Status{Version: a.build.Version, Host: a.host, Machine: a.who().Name, State: cfg.State,
		PID: os.Getpid(), Uptime: now.Sub(a.started).Seconds(), Draining: a.draining.Load(), Files: []FileStatus{}}
	watched := a.source.Stats().Watched
	lags := a.lags()
	for _, in := range cfg.Inputs {
		m := a.metrics.input(in.Name)
		s.Inputs = append(s.Inputs, InputStatus{Name: in.Name, Kind: in.Kind(), Watched: watched[in.Name], Bytes: m.bytes.Load(), Lines: m.lines.Load(),
			ParseErrors: m.parseErrors.Load(), LagBytes: lags[in.Name].bytes, LagSeconds: lags[in.Name].seconds})
	}
	a.consumerStatus(s.Inputs)
	a.receiverStatus(s.Inputs)
	a.podStatus(s.Inputs)
	for _, out := range a.allOutputs() {
		s.Outputs = append(s.Outputs, out.status())
	}
	s.Firing = []FiringStatus{}
	for _, it := range a.alerts.firing() {
		s.Firing = append(s.Firing, FiringStatus{it.Incident.Rule, it.Group(), it.Incident.Began.UTC().Format(time.RFC3339), strings.Join(it.Numbers, ", ")})
	}
	for _, f := range a.allFlows() {
		if fs := f.status(now); fs.Bytes > 0 && !f.left.Load() {
			s.FilesBehind++
			s.Files = append(s.Files, fs)
		}
	}
	slices.SortFunc(s.Files, func(x, y FileStatus) int { return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(x.Path, y.Path)) })
	s.Files = s.Files[:min(len(s.Files), topFiles)]
	return s
}

func (f *flow) status(now time.Time) FileStatus {
	fs := FileStatus{Path: f.file.CurrentPath(), Input: f.in.name, Size: f.file.Size(), Read: f.readTo.Load(),
		Delivered: make(map[string]int64), Stalled: f.stalled.Load()}
	fs.Bytes, fs.Seconds = f.behind(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tracks {
		fs.Delivered[t.out.name] = t.Safe().Off
	}
	return fs
}

func (o *output) status() OutputStatus {
	state := o.deliverer.State()
	s := OutputStatus{Name: o.name, Kind: o.cfg.Kind(), State: "up"}
	waiting, inFlight := o.queue.Bytes()
	s.QueueBytes = waiting + inFlight
	s.Delivered, s.DeadLetters = o.meter.taken()
	if !state.Up {
		s.State = "retrying"
		s.Since = state.Since.UTC().Format(time.RFC3339)
		s.LastError = state.LastError
	}
	return s
}

// ready says why the agent is not ready, or nil. An output that is down does not
// make it so while there is room to wait in: the files are the buffer.
func (a *Agent) ready() error {
	if a.source == nil {
		return fmt.Errorf("starting")
	}
	if !a.alerts.begun.Load() {
		return fmt.Errorf("starting: the files are looked at for the first time")
	}
	if a.draining.Load() {
		return fmt.Errorf("draining")
	}
	return nil
}
