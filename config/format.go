package config

import (
	"strings"

	"github.com/tailwater/tailwater/parser"
)

// Format is how a line is split into fields: a name, or one of the kinds.
type Format struct {
	Name string `yaml:",scalar" oneof:"auto nginx combined main upstreaminfo nginx-error json logfmt app plain cri docker" doc:"auto decides per file from its first lines; nginx is an access log in any of nginx's known formats, combined, main and upstreaminfo (ingress-nginx) are one of them; app is the text of logback, log4j, Python, Go, Ruby, syslog and their like; plain keeps the line as message."`

	Nginx  *NginxFormat `yaml:"nginx" kind:"format" also:"access log_format" doc:"An access log: the very log_format string of nginx.conf, or combined, main, upstreaminfo." example:"'$remote_addr [$time_local] \"$request\" $status $request_time $request_id'"`
	Conf   string       `yaml:"conf" kind:"format" expand:"no" doc:"An nginx.conf to read the log_format from (with its includes)." example:"/etc/nginx/nginx.conf"`
	Regex  string       `yaml:"regex" kind:"format" check:"captures" expand:"no" also:"regexp pattern grok" doc:"A regex whose named captures become fields; time, level, message and request_id mean what they say." example:"'^(?P<time>\\S+) (?P<level>\\w+) (?P<message>.*)'"`
	JSON   *JSONFormat  `yaml:"json" kind:"format" doc:"JSON lines, with the names of keys that are not among the well-known ones."`
	CRI    *Format      `yaml:"cri" kind:"format" doc:"Lines in a container runtime's wrapper; the value is the format inside." example:"app"`
	Docker *Format      `yaml:"docker" kind:"format" doc:"Lines in Docker's JSON wrapper; the value is the format inside." example:"json"`

	LogFormat string `yaml:"log_format" only:"conf" unset:"the only one defined there" expand:"no" doc:"Name of the log_format in conf." example:"main"`
}

// NginxFormat is the format of an nginx access log.
type NginxFormat struct {
	Format    string `yaml:"format,scalar" kind:"access log format" expand:"no" also:"log_format" doc:"The log_format string, or combined, main, upstreaminfo."`
	Conf      string `yaml:"conf" kind:"access log format" expand:"no" doc:"An nginx.conf to read the log_format from (with its includes)." example:"/etc/nginx/nginx.conf"`
	LogFormat string `yaml:"log_format" only:"conf" unset:"the only one defined there" expand:"no" doc:"Name of the log_format in conf." example:"main"`
	Escape    string `yaml:"escape" oneof:"default json none" unset:"default, or what conf says" doc:"The log_format's escape= parameter."`
}

// JSONFormat names the keys of JSON lines.
type JSONFormat struct {
	Time      string `yaml:"time" unset:"the well-known names" also:"timestamp time_key" doc:"Key of the time." example:"ts"`
	Level     string `yaml:"level" unset:"the well-known names" also:"severity level_key" doc:"Key of the level." example:"lvl"`
	Message   string `yaml:"message" unset:"the well-known names" also:"msg message_key" doc:"Key of the message." example:"text"`
	RequestID string `yaml:"request_id" unset:"the well-known names" also:"trace_id" doc:"Key of the request id." example:"rid"`
}

// Check compiles the format, whatever else is wrong with its input.
func (f *NginxFormat) Check(problem func(key, text string)) {
	if err := f.compile(); err != nil {
		problem("", strings.TrimPrefix(err.Error(), "nginx format: "))
	}
}

func (f *NginxFormat) compile() error {
	_, err := parser.Compile(parser.Config{Kind: "nginx", Nginx: f.Format, NginxConf: f.Conf, LogFormat: f.LogFormat, Escape: f.Escape})
	return err
}

// where is the path of the key below the format that its problems concern.
func (f *Format) where() string {
	switch {
	case f.Nginx != nil:
		return ".nginx"
	case f.Conf != "":
		return ".conf"
	case f.Regex != "":
		return ".regex"
	case f.JSON != nil:
		return ".json"
	case f.CRI != nil:
		return ".cri" + f.CRI.where()
	case f.Docker != nil:
		return ".docker" + f.Docker.where()
	}
	return ""
}

// parser returns the format as the parser package takes it.
func (f *Format) parser() parser.Config {
	switch {
	case f.Nginx != nil:
		return parser.Config{Kind: "nginx", Nginx: f.Nginx.Format, NginxConf: f.Nginx.Conf, LogFormat: f.Nginx.LogFormat, Escape: f.Nginx.Escape}
	case f.Conf != "":
		return parser.Config{Kind: "nginx", NginxConf: f.Conf, LogFormat: f.LogFormat}
	case f.Regex != "":
		return parser.Config{Kind: "regex", Regex: f.Regex}
	case f.JSON != nil:
		return parser.Config{Kind: "json", JSON: parser.JSONKeys(*f.JSON)}
	case f.CRI != nil:
		inner := f.CRI.parser()
		return parser.Config{Kind: "cri", Inner: &inner}
	case f.Docker != nil:
		inner := f.Docker.parser()
		return parser.Config{Kind: "docker", Inner: &inner}
	case f.Name == "combined" || f.Name == "main" || f.Name == "upstreaminfo":
		return parser.Config{Kind: "nginx", Nginx: f.Name}
	}
	return parser.Config{Kind: f.Name}
}

// ParserConfig returns all that the input says of its lines, for parser.Compile.
func (in *Input) ParserConfig() parser.Config {
	c := in.Format.parser()
	c.Zone = in.Location()
	c.Encoding = strings.ToLower(in.Encoding)
	c.Multiline = in.Multiline.Mode
	if in.Multiline.StartsWith != "" {
		c.Multiline, c.StartsWith = "starts_with", in.Multiline.StartsWith
	}
	c.MaxLine = int(in.MaxLine)
	c.MaxLines = in.Multiline.MaxLines
	c.LineTimeout = in.LineTimeout
	c.EventTimeout = in.Multiline.Timeout
	return c
}
