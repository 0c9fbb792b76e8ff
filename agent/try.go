package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// TryResult says what became of sample lines.
type TryResult struct {
	Input, Format  string
	Events, Parsed int
	// Errors are the first events that did not parse, at most maxTryErrors.
	Errors []TryError
}

// TryError is an event that did not parse.
type TryError struct {
	Line         int // of the event's beginning, from 1
	Reason, Text string
}

const (
	maxTryErrors = 20
	maxTryText   = 200
)

// Try parses lines, compressed ones too, as the named input would (none: the one whose
// files match path, else the first) and writes the documents to out.
func Try(cfg *config.Config, name, path string, lines io.Reader, out io.Writer) (TryResult, error) {
	in, err := tryInput(cfg, name, path)
	if err != nil {
		return TryResult{}, err
	}
	t := &try{out: bufio.NewWriter(out)}
	if err := t.begin(lines); err != nil {
		return TryResult{}, err
	}
	format, err := parser.Compile(tryFormat(in, t.buf))
	if err != nil {
		return TryResult{}, err
	}
	format, _ = format.Detect(t.buf[:min(len(t.buf), headBytes)])
	t.parser, t.result = format.NewParser(), TryResult{Input: in.Name, Format: format.Name()}
	project := in.Project
	captures, _ := matches(in, path, true)
	t.origin, t.rec = tryOrigin(cfg, in, project, path, captures)
	if t.framer, err = format.NewFramer(); err != nil {
		return TryResult{}, err
	}
	err = errors.Join(t.run(), t.out.Flush())
	return t.result, err
}

// tryFormat is the format of the sample. That of a kubernetes input may be what kubelet
// has, with the runtime's form around it, or the container's own output.
func tryFormat(in *config.Input, data []byte) parser.Config {
	c := in.ParserConfig()
	if in.Kubernetes == nil || c.Kind == "auto" {
		return c
	}
	for _, wrap := range []string{"cri", "docker"} {
		around := wrapped(c, wrap)
		around.Inner = &parser.Config{Kind: "plain"}
		format, err := parser.Compile(around)
		if err != nil {
			continue
		}
		if framer, err := format.NewFramer(); err == nil {
			ev, ok := framer.Next(&parser.Look{Data: data, AtEnd: true, Flush: true, Now: time.Now()})
			if ok && ev.Stream != record.StreamNone {
				return wrapped(c, wrap)
			}
		}
	}
	return c
}

// tryInput is the input to be tried.
func tryInput(cfg *config.Config, name, path string) (*config.Input, error) {
	var known []string
	for _, in := range cfg.Inputs {
		if in.Name == name {
			return in, nil
		}
		known = append(known, in.Name)
	}
	if name != "" {
		return nil, fmt.Errorf("there is no input %q; known inputs: %s", name, strings.Join(known, ", "))
	}
	for _, rotated := range []bool{false, true} {
		for _, in := range cfg.Inputs {
			if _, ok := matches(in, path, rotated); ok {
				return in, nil
			}
		}
	}
	if len(cfg.Inputs) == 0 {
		return nil, errors.New("the configuration has no inputs")
	}
	return cfg.Inputs[0], nil
}

// matches says whether the input's globs name the path, or what it is a rotated sibling
// of, and what they capture of it.
func matches(in *config.Input, path string, rotated bool) (captures []record.KeyValue, ok bool) {
	names := []string{path}
	if rotated {
		names = append(names, tail.Unrotated(path)...)
	}
	files, _ := in.Patterns()
	for _, name := range names {
		for _, pattern := range files {
			g, err := tail.ParseGlob(pattern)
			if err != nil {
				continue
			}
			if captures, ok = g.Match(name); ok {
				return captures, true
			}
		}
	}
	return nil, false
}

func tryOrigin(cfg *config.Config, in *config.Input, project, path string, captures []record.KeyValue) (*record.Origin, record.Record) {
	host, _ := hostOf(cfg)
	f := record.OriginFields{Machine: "try", Generation: "sample", Host: host, Input: in.Name, File: path, Project: project}
	var names []string
	add := func(kv record.KeyValue) {
		if kv.Key == "project" {
			f.Project = kv.Value
			return
		}
		f.Extra = append(f.Extra, kv)
		names = append(names, kv.Key)
	}
	for _, kv := range append(in.Constants(), captures...) {
		add(kv)
	}
	if f.Project == "" {
		f.Project = in.Name
	}
	var rec record.Record
	rec.Reserve(record.NewKeys(names...))
	return record.NewOrigin(f), rec
}

// try is one run over sample lines.
type try struct {
	sample
	out    *bufio.Writer
	parser parser.Parser
	origin *record.Origin
	rec    record.Record
	last   int64 // the time of the event before
	result TryResult
}

func (t *try) run() error {
	t.framer.Reset(record.Pos{}, nil)
	var doc []byte
	for {
		ev, ok := t.framer.Next(&t.look)
		if !ok {
			if t.look.AtEnd {
				return t.broken
			}
			t.fill()
			continue
		}
		r := &t.rec
		r.Reset()
		t.parser.Parse(ev.Text, r)
		r.Partial, r.Truncated = ev.Partial, ev.Truncated
		switch {
		case r.HasTime:
			t.last = r.Time
		case ev.HasTime:
			t.last = ev.Time
		case t.last == 0:
			t.last = time.Now().UnixMilli()
		}
		doc, _ = t.origin.AppendDoc(doc[:0], r, t.last, ev.Off)
		if _, err := t.out.Write(doc); err != nil {
			return err
		}
		t.count(&ev)
	}
}

func (t *try) count(ev *parser.Event) {
	t.result.Events++
	if t.rec.ParseError == "" {
		t.result.Parsed++
		return
	}
	if len(t.result.Errors) < maxTryErrors {
		text := fmt.Sprintf("%q", ev.Text[:min(len(ev.Text), maxTryText)])
		t.result.Errors = append(t.result.Errors, TryError{t.lineOf(ev.Off), t.rec.ParseError, text})
	}
}
