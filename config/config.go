package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
	_ "time/tzdata" // zones are checked, and times read, on machines without zone files too

	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/internal/units"
)

// Config is a whole configuration file. What Load returns without a problem has every
// default filled in; it is not changed afterwards.
type Config struct {
	State           string        `yaml:"state" default:"/var/lib/tailwater" required:"yes" doc:"Directory of the checkpoint, the dead letters and the socket; one running agent has it for itself."`
	Host            string        `yaml:"host" unset:"the host's name" doc:"The documents' host." example:"${NODE_NAME:-}"`
	Metadata        string        `yaml:"metadata" default:"auto" check:"metadata" doc:"Where the cloud's name of this instance comes from, which tells a clone of a disk image from the original: auto asks the metadata service of the cloud that the host belongs to (AWS, Alibaba Cloud, Google Cloud, Azure; hosts of none ask nobody), none asks nobody, and http://HOST:PORT asks there."`
	Listen          string        `yaml:"listen" default:"127.0.0.1:9600" check:"listen" doc:"Address of health, metrics, status page and API; '' turns them off."`
	ListenToken     units.Secret  `yaml:"listen_token" unset:"nothing can be changed over HTTP" doc:"Token for what changes something over HTTP (drain, reload, silences)." example:"${file:/run/secrets/tailwater-token}"`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" default:"25s" max:"1d" also:"grace_period" doc:"How long a stopping agent goes on delivering what it has read; the rest is sent after the next start."`
	Limits          Limits        `yaml:"limits" doc:"What the agent may use of its machine."`
	Inputs          []*Input      `yaml:"inputs" required:"yes" min:"1" example:"{apps: {files: ['/data/logs/{project}/*.log']}}" also:"sources source input filebeat.inputs" doc:"Where lines come from, by a name of your choice, which the documents carry as input."`
	Outputs         []*Output     `yaml:"outputs" required:"yes" min:"1" example:"{local: {file: {path: 'out/{project}-{date}.ndjson'}}}" also:"sinks sink output" doc:"Where documents go, by a name of your choice."`
	Alerts          []*Alert      `yaml:"alerts" also:"rules alerting" doc:"Rules, by a name of your choice: when somebody is told of what the lines say." example:"{app-errors: {per: project, when: 'error >= 10 or fatal >= 1'}}"`
	Fleet           Fleet         `yaml:"fleet" doc:"How rules of scope fleet are counted over all hosts."`
	Reports         []*Report     `yaml:"reports" also:"daily" doc:"Reports, by a name of your choice: how many lines of a day counted, sent the day after." example:"{daily-warn: {count: warn, per: project, notify: [mail]}}"`
	Watchdog        *Watchdog     `yaml:"watchdog" unset:"nobody is told" also:"heartbeat deadman" doc:"Who is told regularly that the alerts are alive; when it stops, they are not."`
	Notify          []*Channel    `yaml:"notify" also:"channels receivers contacts" unset:"what fires is written to tailwater's own log" doc:"Channels to the people who are told, by a name of your choice." example:"{oncall: {dingtalk: {webhook: '${DINGTALK_WEBHOOK}'}}}"`

	// Path is the file's name as Load was given it.
	Path string `yaml:"-"`
	// Sum differs when the file, or the value of an expansion in it, differs.
	Sum string `yaml:"-"`
	// Warnings are what is allowed and not advisable.
	Warnings []Problem `yaml:"-"`

	expanded []string // the files whose contents are values
}

// Limits bounds what the agent uses.
type Limits struct {
	Memory      units.Bytes `yaml:"memory" default:"256MiB" min:"16MiB" max:"1TiB" doc:"Memory, whatever the files and the outputs do."`
	CPUs        int         `yaml:"cpus" default:"2" min:"1" max:"1024" also:"cpu workers" doc:"Processors that work at once."`
	HeldDeleted units.Bytes `yaml:"held_deleted" default:"1GiB" doc:"Disk that deleted files may occupy while they are read to their end; beyond it the oldest are given up, counted and logged."`
}

// Problem is one thing that is wrong with a configuration file.
type Problem = schema.Problem

// Load reads and checks a configuration file. With problems the Config is not to be
// used; they are sorted by line.
func Load(path string) (*Config, []Problem) {
	data, err := read(path)
	if err != nil {
		return nil, []Problem{{File: path, Line: 1, Text: readAdvice(err)}}
	}
	return Parse(path, data)
}

// Parse checks a configuration from memory; path is its name in problems.
func Parse(path string, data []byte) (*Config, []Problem) {
	c := &Config{Path: path}
	var problems []Problem
	c.Sum, problems = schema.Decode(path, data, c, schema.Options{Checks: checks, Warnings: &c.Warnings, Files: &c.expanded})
	if len(problems) > 0 {
		return nil, problems
	}
	for _, in := range c.Inputs {
		if in.To == nil {
			for _, out := range c.Outputs {
				in.To = append(in.To, out.Name)
			}
		}
	}
	for _, a := range c.Alerts {
		a.Scope = c.scopeOf(a.Scope)
	}
	for _, r := range c.Reports {
		r.Scope = c.scopeOf(r.Scope)
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return schema.ReadLimited(f)
}

func readAdvice(err error) string {
	why := err
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		why = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file; name the configuration with -c FILE"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("the file cannot be read: %v; the agent runs as uid %d", why, os.Getuid())
	}
	return fmt.Sprintf("the file cannot be read: %v", why)
}

// Check looks at what concerns several sections at once. Sections with problems of
// their own may be missing.
func (c *Config) Check(problem func(key, text string)) {
	c.checkMemory(problem)
	c.checkFileOutputs(problem)
	c.checkKafkaInputs(problem)
	c.checkListeners(problem)
	c.checkKubernetes(problem)
	c.checkFleet(problem)
	c.checkWatchdog(problem)
	for _, a := range c.Alerts {
		if len(a.Notify) > 0 && len(c.Notify) == 0 {
			problem("alerts."+a.Name+".notify", noChannels)
		}
	}
	for _, r := range c.Reports {
		if len(r.Notify) > 0 && len(c.Notify) == 0 {
			problem("reports."+r.Name+".notify", noChannels)
		}
		for _, a := range c.Alerts {
			if a.Name == r.Name {
				problem("reports."+r.Name, "an alert has the same name; give each its own, as notices and silences name it")
			}
		}
	}
}

const noChannels = "there is no section notify that defines channels; write one, or leave this out to have notices in tailwater's own log"

func (c *Config) checkMemory(problem func(key, text string)) {
	if c.Limits.Memory < 16*units.MiB {
		return // told already
	}
	// A line, the buffer it is read into and its document are in memory together, in
	// each of the workers.
	most := c.Limits.Memory / 8
	for _, in := range c.Inputs {
		if in.MaxLine > most && in.MaxLine <= 64*units.MiB { // more is told already
			problem("inputs."+in.Name+".max_line", fmt.Sprintf("%s is too large for limits.memory %s; write at most %s, or raise limits.memory to %s",
				in.MaxLine, c.Limits.Memory, most, in.MaxLine*8))
		}
	}
}

// checkFileOutputs refuses two outputs that write one file, and an input that reads
// what its own output writes: each line would make another, for ever.
func (c *Config) checkFileOutputs(problem func(key, text string)) {
	writer := make(map[string]string)
	for _, out := range c.Outputs {
		if out.File == nil {
			continue
		}
		path := absolute(out.File.Path)
		if other, taken := writer[path]; taken {
			problem("outputs."+out.Name+".file.path", fmt.Sprintf("output %q writes the same files; give each output its own", other))
		}
		writer[path] = out.Name
		for _, in := range c.Inputs {
			if in.To != nil && !slices.Contains(in.To, out.Name) {
				continue
			}
			if i := in.reads(path); i >= 0 {
				problem(fmt.Sprintf("inputs.%s.files[%d]", in.Name, i), fmt.Sprintf(
					"it matches the files that output %q writes, and each line would come back for ever; exclude them, or leave %[1]q out of to:", out.Name))
			}
		}
	}
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Input returns the input of that name, nil when there is none.
func (c *Config) Input(name string) *Input {
	if i := slices.IndexFunc(c.Inputs, func(in *Input) bool { return in.Name == name }); i >= 0 {
		return c.Inputs[i]
	}
	return nil
}

// Output returns the output of that name, nil when there is none.
func (c *Config) Output(name string) *Output {
	if i := slices.IndexFunc(c.Outputs, func(out *Output) bool { return out.Name == name }); i >= 0 {
		return c.Outputs[i]
	}
	return nil
}
