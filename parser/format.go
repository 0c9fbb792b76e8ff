package parser

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
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
	// 5 s. EventTimeout is how long an event waits for more lines that belong to it; 0
	// is 1 s. With multiline auto one of a single line waits three tenths of that.
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
	frame framerOptions
	parse func() Parser
	auto  *auto // nil when the lines of a file have nothing to decide
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
	f, err := c.compile()
	if err != nil {
		return nil, err
	}
	if _, err := newFramer(f.frame); err != nil {
		return nil, err
	}
	return f, nil
}

func (c *Config) compile() (f *Format, err error) {
	f = &Format{name: c.Kind}
	if f.frame, err = c.framing(); err != nil {
		return nil, err
	}
	zone, keys := c.Zone, c.JSON
	switch c.Kind {
	case "auto":
		f.auto = newAuto(*c, wrapAny)
		f.parse = f.auto.parser("app", nil)
	case "nginx":
		return f, f.compileNginx(c)
	case "nginx-error":
		f.parse = func() Parser { return newNginxError(zone) }
	case "json":
		f.parse = func() Parser { return newJSON(keys, zone) }
	case "logfmt":
		f.parse = func() Parser { return newLogfmt(zone) }
	case "app":
		f.parse = func() Parser { return newApp(zone) }
	case "plain":
		f.parse = newPlain
	case "regex":
		return f, f.compileRegex(c)
	case "cri", "docker":
		return f, f.compileWrapper(c)
	default:
		return nil, fmt.Errorf("unknown format %q; known are %s", c.Kind, strings.Join(kinds, ", "))
	}
	return f, nil
}

// framing returns how lines become events. What is written in one line by its very form
// is not joined with others unless the configuration says how; but what a program that
// logs so prints as it dies is a trace like any other.
func (c *Config) framing() (framerOptions, error) {
	o := framerOptions{MaxLine: c.MaxLine, MaxLines: c.MaxLines, LineTimeout: c.LineTimeout, EventTimeout: c.EventTimeout, Encoding: c.Encoding}
	switch c.Multiline {
	case "", "auto":
		// Long enough for a program that is not let run for a while between two lines,
		// and short enough for an alert on errors to be within its second.
		o.LoneTimeout = cmp.Or(max(c.EventTimeout, 0), time.Second) * 3 / 10
		switch c.Kind {
		case "nginx-error":
			o.Multiline, o.StartsWith = joinNginxErrors, nginxErrorStart
		case "auto", "app", "plain", "regex":
			o.Multiline = joinAuto
		case "json":
			o.Multiline, o.Whole = joinOthers, wholeObject
		case "logfmt":
			o.Multiline, o.Whole = joinOthers, looksLikeLogfmt
		}
	case "none":
	case "starts_with":
		re, err := regexp.Compile(c.StartsWith)
		if err != nil {
			return o, fmt.Errorf("starts_with %q: %s", c.StartsWith, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		if c.StartsWith != "" {
			o.Multiline, o.StartsWith = joinStartsWith, re
			break
		}
		return o, errors.New("multiline starts_with needs the regex that the first line of an event matches")
	default:
		return o, fmt.Errorf("unknown multiline %q; it is auto, none or starts_with", c.Multiline)
	}
	return o, nil
}

// compileWrapper makes a Format of lines inside a container runtime's.
func (f *Format) compileWrapper(c *Config) error {
	inner := Config{Kind: "auto"}
	if c.Inner != nil {
		inner = *c.Inner
	}
	if inner.Kind == "cri" || inner.Kind == "docker" {
		return fmt.Errorf("format %s cannot be inside of %s", inner.Kind, c.Kind)
	}
	inner = c.around(inner)
	in, err := inner.compile()
	if err != nil {
		return err
	}
	wrap := wrapCRI
	if c.Kind == "docker" {
		wrap = wrapDocker
	}
	*f = *in
	f.name = c.Kind + " " + in.name
	f.frame.Wrapper = wrap
	if f.auto != nil {
		f.auto.wrap = wrap
	}
	return nil
}

// around gives inner, the format of what is inside, all that does not concern the form
// of a line.
func (c *Config) around(inner Config) Config {
	if inner.Kind == "" {
		inner.Kind = "auto"
	}
	inner.Zone, inner.Encoding = c.Zone, c.Encoding
	inner.Multiline, inner.StartsWith = c.Multiline, c.StartsWith
	inner.MaxLine, inner.MaxLines = c.MaxLine, c.MaxLines
	inner.LineTimeout, inner.EventTimeout = c.LineTimeout, c.EventTimeout
	return inner
}

func (f *Format) compileRegex(c *Config) error {
	if _, err := newRegex(c.Regex, c.Zone); err != nil {
		return err
	}
	expr, zone := c.Regex, c.Zone
	f.parse = func() Parser {
		p, err := newRegex(expr, zone)
		if err != nil {
			panic(err) // it was compiled a moment ago
		}
		return p
	}
	return nil
}

// compileNginx makes a Format of a log_format; of no log_format, one that decides which of
// the known ones a file has.
func (f *Format) compileNginx(c *Config) error {
	if c.Nginx == "" && c.NginxConf == "" {
		f.auto = newAuto(*c, wrapNone)
		f.parse = f.auto.parser("nginx", nil)
		return nil
	}
	lf, err := c.nginxLogFormat()
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
	plan, err := compileNginxPlan(lf.text, escape)
	if err != nil {
		return fmt.Errorf("nginx format: %w", err)
	}
	zone := c.Zone
	f.parse = func() Parser { return newNginxAccess(plan) }
	if quoted, ok := nginxJSONShape(plan); ok {
		variables := nginxJSONVariables(lf.text)
		f.parse = func() Parser { return newNginxJSON(plan, quoted, newNginxLines(variables, zone)) }
	}
	return nil
}

// Name says what the format is, for logs and for the state: "nginx combined", "json".
func (f *Format) Name() string { return f.name }

// NewParser returns a parser for one file.
func (f *Format) NewParser() Parser { return f.parse() }

// NewFramer returns a framer for one file generation. The error is that of options which
// Compile would have refused.
func (f *Format) NewFramer() (Framer, error) { return newFramer(f.frame) }

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
