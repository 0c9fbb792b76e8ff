package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// Input is one source of lines: exactly one of the kinds, and what all kinds share.
type Input struct {
	Name string `yaml:",name" check:"name"`

	Files []string `yaml:"files" kind:"input" min:"1" check:"glob" also:"paths path include globs file" doc:"Files to follow, as globs: * ? [a-z] within one path element, ** across directories, {a,b} for either, and {name}, which captures (a part of) one path element into a field. Rotated siblings of a file belong to it." example:"['/data/logs/{project}/*.log']"`

	Kafka *KafkaInput `yaml:"kafka" kind:"input" doc:"Kafka topics, read as a member of a consumer group: what other tailwaters have shipped goes on as it is, other JSON and text by way of format."`

	Kubernetes *KubernetesInput `yaml:"kubernetes" kind:"input" also:"k8s pods container" doc:"The logs of this node's pods, with what the API server tells of them. {} is a good one." example:"{node: '${NODE_NAME}', labels: [app]}"`

	HTTP    *HTTPInput    `yaml:"http" kind:"input" doc:"Lines that are posted over HTTP: POST /v1/logs/{project} with JSON, NDJSON or plain lines."`
	Forward *ForwardInput `yaml:"forward" kind:"input" also:"fluentd fluent" doc:"Lines that Fluentd, Fluent Bit and others send by Fluentd's forward protocol."`
	Syslog  *SyslogInput  `yaml:"syslog" kind:"input" doc:"Syslog messages, of RFC 5424 and RFC 3164, over TCP, TLS and UDP."`
	OTLP    *OTLPInput    `yaml:"otlp" kind:"input" also:"opentelemetry otel" doc:"OpenTelemetry's logs over HTTP (OTLP): POST /v1/logs with protobuf or JSON."`

	Exclude     []string      `yaml:"exclude" only:"files kubernetes" check:"exclude" also:"exclude_files ignore" doc:"Globs of files to leave out; one without a slash is held against the file's name." example:"['*.bak']"`
	Project     string        `yaml:"project" unset:"the capture {project} or the pod's, else the input's name" also:"service app" doc:"The documents' project, where neither the path nor the pod names one." example:"gateway"`
	Format      Format        `yaml:"format" default:"auto" also:"parser codec type" doc:"How a line is split into fields."`
	Keep        []string      `yaml:"keep" unset:"all levels" min:"1" oneof:"debug info warn error fatal" also:"levels level" doc:"Levels that are shipped; lines of other levels are still counted and watched by alerts. A line of unknown level is kept." example:"[warn, error, fatal]"`
	Fields      []Field       `yaml:"fields" also:"labels tags add_fields" doc:"Constant fields of every document." example:"{env: prod}"`
	To          []string      `yaml:"to" unset:"every output" min:"1" ref:"outputs" also:"outputs output sinks" doc:"Names of the outputs." example:"[local]"`
	Multiline   Multiline     `yaml:"multiline" default:"auto" doc:"Which lines are joined to one event."`
	Start       string        `yaml:"start" only:"files kubernetes" default:"beginning" oneof:"beginning end" also:"read_from start_position" doc:"Where files that are found at the very first start are read from; end skips what they hold."`
	IgnoreOlder time.Duration `yaml:"ignore_older" only:"files kubernetes" default:"0s" doc:"Files not written for this long when they are found are left alone; 0s: never."`
	LineTimeout time.Duration `yaml:"line_timeout" only:"files kubernetes" default:"5s" min:"10ms" max:"1d" doc:"How long an unfinished last line may stand still before it is sent as it is, marked partial."`
	MaxLine     units.Bytes   `yaml:"max_line" default:"1MiB" min:"64" max:"64MiB" also:"max_bytes max_line_size" doc:"Length at which a line, or an event of joined lines, is cut and marked truncated."`
	Encoding    string        `yaml:"encoding" default:"utf-8" check:"encoding" also:"charset" doc:"Character encoding, by its name on the web: utf-8, utf-16le, gbk, shift_jis, windows-1252, .."`
	Zone        string        `yaml:"zone" default:"Local" check:"zone" also:"timezone time_zone tz" doc:"Zone of times that do not name theirs: Local, UTC, or a name such as Asia/Shanghai."`
}

// Field is a constant field of an input's documents.
type Field struct {
	Name  string `yaml:",name" check:"field"`
	Value string `yaml:",scalar" doc:"The field's value."`
}

// Multiline says which lines make one event.
type Multiline struct {
	// Mode is auto or none; "" is auto, or StartsWith where that is given.
	Mode string `yaml:"mode,scalar" oneof:"auto none" unset:"auto, or starts_with where that is given" doc:"auto joins known stack traces and lines that begin with white space, but leaves whole lines of JSON and logfmt, and access lines, alone; none joins nothing."`

	StartsWith string `yaml:"starts_with" check:"regex" expand:"no" also:"pattern start first_line" doc:"Regex of the first line of an event; lines that do not match it belong to the event before." example:"'^\\d{4}-'"`

	MaxLines int           `yaml:"max_lines" default:"10000" min:"1" max:"1000000" doc:"Lines of one event at most."`
	Timeout  time.Duration `yaml:"timeout" default:"1s" min:"10ms" max:"1h" doc:"How long the last event of a file waits for lines that belong to it; with auto, while it is a single line, three tenths of that."`
}

// Kind returns which of the kinds the input is, as its key in the file: files, ..
func (in *Input) Kind() string { return schema.Kind(in) }

// Check looks at what concerns several keys at once.
func (in *Input) Check(problem func(key, text string)) {
	for i, f := range in.Fields {
		if slices.ContainsFunc(in.Fields[:i], func(g Field) bool { return g.Name == f.Name }) {
			problem("fields."+f.Name, "twice")
		}
	}
	if in.Format.Nginx != nil && in.Format.Nginx.compile() != nil {
		return // told already
	}
	if _, err := parser.Compile(in.ParserConfig()); err != nil {
		problem("format"+in.Format.where(), strings.TrimPrefix(err.Error(), "nginx format: "))
	}
}

// Check looks at what concerns several keys at once.
func (m *Multiline) Check(problem func(key, text string)) {
	if m.Mode != "" && m.StartsWith != "" {
		problem("mode", "starts_with is a mode of its own; remove one of the two")
	}
}

// reads returns which of the globs matches the files of a path template, which is
// absolute; -1 when none does.
func (in *Input) reads(template string) int {
	path := placeholder.ReplaceAllString(template, "x")
	for _, exclude := range in.Exclude {
		name := path
		if !strings.Contains(exclude, "/") { // it is matched with the last element
			exclude, name = "/"+exclude, "/"+filepath.Base(path)
		}
		if matches(exclude, name) {
			return -1
		}
	}
	return slices.IndexFunc(in.Files, func(glob string) bool { return matches(glob, path) })
}

func matches(glob, path string) bool {
	g, err := tail.ParseGlob(glob)
	if err != nil {
		return false // told already
	}
	_, ok := g.Match(path)
	return ok
}

// Keeps says for each level whether its lines are shipped.
func (in *Input) Keeps() (keep [record.Levels]bool) {
	if len(in.Keep) == 0 {
		for i := range keep {
			keep[i] = true
		}
		return keep
	}
	keep[record.LevelNone] = true
	for _, name := range in.Keep {
		if level, ok := record.LevelNamed(name); ok {
			keep[level] = true
		}
	}
	return keep
}

// Constants returns the input's fields as the documents have them.
func (in *Input) Constants() []record.KeyValue {
	var out []record.KeyValue
	for _, f := range in.Fields {
		out = append(out, record.KeyValue{Key: f.Name, Value: f.Value})
	}
	return out
}

// Location returns the zone of times that do not name theirs.
func (in *Input) Location() *time.Location {
	loc, err := loadZone(in.Zone)
	if err != nil {
		return time.Local // cannot be: the zone was checked
	}
	return loc
}

func loadZone(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return nil, fmt.Errorf("there is no zone %q; write Local, UTC or a name such as Asia/Shanghai", name)
	}
	return loc, nil
}
