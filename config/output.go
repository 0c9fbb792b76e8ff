package config

import (
	"time"

	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/internal/units"
)

// Output is one destination of documents: exactly one of the kinds.
type Output struct {
	Name string `yaml:",name" check:"name"`

	Kafka *KafkaOutput `yaml:"kafka" kind:"output" doc:"Kafka topics, as an idempotent producer: nothing is in them twice but what a crash has tailwater send again, under the same ids."`

	Elasticsearch *ElasticsearchOutput `yaml:"elasticsearch" kind:"output" also:"elastic es opensearch" doc:"Elasticsearch indexes: each line is one document, whatever fails in between."`

	File    *FileOutput    `yaml:"file" kind:"output" doc:"JSON lines in files on this host. After a crash they are cut back to the checkpoint: no line is in them twice."`
	Stdout  *StdoutOutput  `yaml:"stdout" kind:"output" also:"console screen" doc:"The agent's standard output."`
	Discard *DiscardOutput `yaml:"discard" kind:"output" also:"null blackhole none" doc:"Nothing is kept: for measuring, or where only alerts and metrics are wanted."`
}

// Kind returns which of the kinds the output is, as its key in the file: file, ..
func (o *Output) Kind() string { return schema.Kind(o) }

// FileOutput writes JSON lines to files.
type FileOutput struct {
	Path        string        `yaml:"path" required:"yes" check:"path" also:"file filename" doc:"File name with placeholders: {project}, {date} (the day of the event's own time in UTC, YYYY.MM.DD), {level} or any other field." example:"'out/{project}-{date}.ndjson'"`
	Rotate      units.Bytes   `yaml:"rotate" default:"0" max:"1TiB" also:"rotate_size max_size" doc:"Size at which a file is renamed and a new one begun; 0: never. Rotated files are kept." example:"1GiB"`
	RotateEvery time.Duration `yaml:"rotate_every" default:"0s" also:"rotate_age max_age" doc:"Age at which a file is renamed and a new one begun; 0s: never." example:"1h"`
	Gzip        bool          `yaml:"gzip" default:"false" also:"compress compression" doc:"Whether rotated files are compressed."`
	Fsync       string        `yaml:"fsync" default:"checkpoint" oneof:"checkpoint always never" also:"sync" doc:"When the file is forced to disk: before each checkpoint, so that a power cut loses nothing; after each batch; or never, which leaves it to the system."`
}

// StdoutOutput writes to the agent's standard output.
type StdoutOutput struct {
	Format string `yaml:"format" default:"auto" oneof:"auto json human" doc:"json: the documents, one a line; human: coloured lines for reading; auto: human on a terminal, else json."`
}

// DiscardOutput forgets what it gets.
type DiscardOutput struct{}

// Check looks at what concerns several keys at once.
func (o *FileOutput) Check(problem func(key, text string)) {
	if o.Rotate != 0 && o.Rotate < 4*units.KiB {
		problem("rotate", "\""+o.Rotate.String()+"\" is too small; write at least 4KiB, or 0 for never")
	}
	if o.RotateEvery != 0 && o.RotateEvery < time.Second {
		problem("rotate_every", "\""+units.FormatDuration(o.RotateEvery)+"\" is too short; write at least 1s, or 0s for never")
	}
	if o.Gzip && o.Rotate == 0 && o.RotateEvery == 0 {
		problem("gzip", "only rotated files are compressed, and nothing rotates these; write rotate: or rotate_every: too")
	}
}
