package agent

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// input is one configured input, ready to be used by its flows.
type input struct {
	name   string
	cfg    *config.Input
	agent  *Agent
	format *parser.Format
	// json is for what senders say is JSON; structured, that the format reads no more of
	// it than json. They are a listening input's.
	json       *parser.Format
	structured bool
	keep       [record.Levels]bool
	outputs    []*output
	observed   bool // alerts watch it: its lead chain waits for no output
	metrics    *inputMetrics
	keys       sync.Map // *record.Keys by the names in them: thousands of files share one

	pods     *podWatch    // of a kubernetes input
	readings sync.Map     // reading by what pods have asked for
	distinct atomic.Int64 // of those

	mu      sync.Mutex
	formats map[string]map[string]bool // the paths that auto has decided on and that were told, by format
}

// tellFormat logs what auto has decided on for a file, for the first of each format: a
// start may find tens of thousands. What comes after a rotation is not told again.
func (in *input) tellFormat(file, format string) {
	in.mu.Lock()
	if in.formats == nil {
		in.formats = make(map[string]map[string]bool)
	}
	told := in.formats[format]
	if told == nil {
		told = make(map[string]bool)
		in.formats[format] = told
	}
	if told[file] || len(told) == toldFormats {
		in.mu.Unlock()
		return
	}
	told[file] = true
	last := len(told) == toldFormats
	in.mu.Unlock()
	if last {
		in.agent.log.Info("format found; more files of this format are not told of", "file", file, "input", in.name, "format", format)
		return
	}
	in.agent.log.Info("format found", "file", file, "input", in.name, "format", format)
}

// toldFormats is the number of files of one format and input that are logged.
const toldFormats = 20

// newInput compiles what the configuration says. outputs are those it may name.
func (a *Agent) newInput(cfg *config.Input, outputs map[string]*output) (*input, error) {
	in := &input{name: cfg.Name, cfg: cfg, agent: a, metrics: a.metrics.input(cfg.Name)}
	format, err := parser.Compile(cfg.ParserConfig())
	if err != nil {
		return nil, fmt.Errorf("input %s: %w", cfg.Name, err)
	}
	in.format = format
	switch {
	case cfg.Kafka != nil:
		in.metrics.expect(nil, []string{"retention", "damaged"})
	case cfg.Listens():
		in.metrics.expect([]string{"overlong", "spool_damaged", "spool_deleted"}, []string{"blank", "spool_full"})
	default:
		in.metrics.expect(append([]string{"overlong"}, tail.Reasons...), []string{"blank"})
	}
	if cfg.Listens() {
		if in.json, in.structured, err = jsonFormat(cfg, format); err != nil {
			return nil, fmt.Errorf("input %s: %w", cfg.Name, err)
		}
	}
	in.keep = cfg.Keeps()
	if cfg.Kubernetes != nil {
		in.pods = a.podWatchFor(cfg)
	}
	for _, name := range cfg.To {
		out := outputs[name]
		if out == nil {
			return nil, fmt.Errorf("input %s: to: there is no output %q", cfg.Name, name)
		}
		in.outputs = append(in.outputs, out)
	}
	return in, nil
}

// project is the path's capture of that name, else the input's, else its name.
func (in *input) project(f feed) string {
	for _, c := range f.Captures() {
		if c.Key == "project" {
			return c.Value
		}
	}
	if in.cfg.Project != "" {
		return in.cfg.Project
	}
	return in.name
}

// constants are the fields that all documents of the file have beside tailwater's
// own: the configuration's, then the path's captures.
func (in *input) constants(f feed) []record.KeyValue {
	all := in.cfg.Constants()
	for _, c := range f.Captures() {
		if c.Key != "project" {
			all = append(all, c)
		}
	}
	return all
}
