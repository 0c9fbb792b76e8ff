package parser

import (
	"fmt"
	"strings"
	"time"
)

// Config says of what format the lines of an input are and how they are cut.
type Config struct {
	// Kind is auto, nginx, nginx-error, json, logfmt, app, plain, regex, cri or
	// docker; "" is auto.
	Kind string

	// Nginx is, for Kind nginx, the text of a log_format or the name of one: combined,
	// main (as nginx.org packages it) or upstreaminfo (ingress-nginx's default).
	// Instead of it NginxConf may name an nginx.conf from which LogFormat is read; "" is
	// the only one that is defined there.
	Nginx     string
	NginxConf string
	LogFormat string
	// Escape is the escape= parameter of that log_format: default, json or none; "" is
	// default, or what NginxConf says.
	Escape string

	// Regex is, for Kind regex, an expression with named captures.
	Regex string
	// JSON names the keys of JSON lines that are not among the known ones.
	JSON JSONKeys
	// Inner is the format of the lines inside a cri or docker wrapper; nil is auto.
	Inner *Config

	// Zone is that of times which do not name theirs; nil is the local one.
	Zone *time.Location
	// Encoding is the character encoding of the file, by its name on the web; "" is
	// utf-8.
	Encoding string

	// Multiline is auto, none or starts_with; "" is auto. For starts_with, StartsWith is
	// the expression that the first line of an event matches.
	Multiline  string
	StartsWith string
	// MaxLine is the length in bytes at which a line, or an event of joined lines, is
	// cut; 0 is 1 MiB. MaxLines is the number of lines of one event; 0 is 10,000.
	MaxLine  int
	MaxLines int
	// LineTimeout is how long a last line without its newline waits for the rest; 0 is
	// 5 s. EventTimeout is how long a complete line waits for others that belong to
	// it; 0 is 1 s.
	LineTimeout  time.Duration
	EventTimeout time.Duration
}

// JSONKeys are the keys under which an input's JSON lines have what tailwater needs to
// know, where they are not among the well-known ones. An empty string adds none.
type JSONKeys struct{ Time, Level, Message, RequestID string }

// kinds are the values of Config.Kind, in the order in which errors list them.
var kinds = []string{"auto", "nginx", "nginx-error", "json", "logfmt", "app", "plain", "regex", "cri", "docker"}

// Format is a compiled Config. It may be used by many goroutines.
type Format struct {
	name  string
	kind  string
	nginx *nginxPlan
	conf  Config
}

// Compile checks c as a whole and returns the Format that it describes. Its errors are
// one line for the operator who wrote the configuration.
func Compile(c Config) (*Format, error) {
	if c.Kind == "" {
		c.Kind = "auto"
	}
	if c.Zone == nil {
		c.Zone = time.Local
	}
	f := &Format{name: c.Kind, kind: c.Kind, conf: c}
	switch c.Kind {
	case "nginx":
		if err := f.compileNginx(); err != nil {
			return nil, err
		}
		return f, nil
	case "auto", "nginx-error", "json", "logfmt", "app", "plain", "regex", "cri", "docker":
		return nil, fmt.Errorf("format %s is not in this version", c.Kind)
	}
	return nil, fmt.Errorf("unknown format %q; known are %s", c.Kind, strings.Join(kinds, ", "))
}

// Name says what the format is, for logs and for the state: "nginx combined", "json".
func (f *Format) Name() string { return f.name }

// NewParser returns a parser for one file.
func (f *Format) NewParser() Parser { return newNginxAccess(f.nginx) }

// compileNginx makes the plan of a log_format.
func (f *Format) compileNginx() error {
	lf, err := f.conf.nginxLogFormat()
	if err != nil {
		return fmt.Errorf("nginx format: %w", err)
	}
	if lf.name != "" {
		f.name = "nginx " + lf.name
	}
	escape, err := nginxEscapeNamed(lf.escape)
	if err != nil {
		return fmt.Errorf("nginx format: %w", err)
	}
	if f.nginx, err = compileNginxPlan(lf.text, escape); err != nil {
		return fmt.Errorf("nginx format: %w", err)
	}
	return nil
}

// nginxLogFormat finds the log_format that c means: by its name, in an nginx.conf, or as
// it stands.
func (c *Config) nginxLogFormat() (lf nginxLogFormat, err error) {
	if c.NginxConf != "" {
		if c.Nginx != "" {
			return lf, fmt.Errorf("there is a format and a conf to read it from; remove one of the two")
		}
		lf, err = loadNginxFormat(c.NginxConf, c.LogFormat)
	} else if text, named := nginxFormats[strings.TrimSpace(c.Nginx)]; named {
		lf = nginxLogFormat{name: strings.TrimSpace(c.Nginx), text: text}
	} else if pasted, ok := pastedLogFormat(c.Nginx); ok {
		lf = pasted
	} else {
		lf = nginxLogFormat{text: c.Nginx}
	}
	if c.Escape != "" {
		lf.escape = c.Escape
	}
	return lf, err
}
