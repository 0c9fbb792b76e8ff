package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/record"
)

const small = `
inputs:
  apps: {files: '/data/logs/{project}/*.log'}
outputs:
  screen: {stdout: {}}
`

// load parses a configuration that must be good.
func load(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := Parse("tailwater.yml", []byte(text))
	for _, p := range problems {
		t.Error(p)
	}
	if c == nil {
		t.FailNow()
	}
	return c
}

func TestSmallestFileHasAllDefaults(t *testing.T) {
	c := load(t, small)
	c.Sum = ""
	want := &Config{
		State: "/var/lib/tailwater", Metadata: "auto", Listen: "127.0.0.1:9600", ShutdownTimeout: 25 * time.Second,
		Limits: Limits{Memory: 256 * units.MiB, CPUs: 2, HeldDeleted: units.GiB},
		Inputs: []*Input{{
			Name: "apps", Files: []string{"/data/logs/{project}/*.log"}, Format: Format{Name: "auto"}, To: []string{"screen"},
			Multiline: Multiline{Mode: "auto", MaxLines: 10000, Timeout: time.Second},
			Start:     "beginning", LineTimeout: 5 * time.Second, MaxLine: units.MiB, Encoding: "utf-8", Zone: "Local",
		}},
		Outputs: []*Output{{Name: "screen", Stdout: &StdoutOutput{Format: "auto"}}},
		Fleet:   Fleet{Topic: "tailwater-alerts"},
		Path:    "tailwater.yml",
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("it is\n%+v\n%+v\nwant\n%+v\n%+v", c, c.Inputs[0], want, want.Inputs[0])
	}
}

func TestInputsAndOutputsKeepTheFilesOrder(t *testing.T) {
	c := load(t, `
inputs:
  zebra: {files: [z]}
  ape: {files: [a], to: [two]}
  mole: {files: [m], to: one, fields: {z: 1, a: true, m: no}}
outputs:
  two: {discard: }
  one: {discard: {}}
`)
	var got []string
	for _, in := range c.Inputs {
		got = append(got, in.Name+":"+strings.Join(in.To, ","))
	}
	if s := strings.Join(got, " "); s != "zebra:two,one ape:two mole:one" {
		t.Error(s)
	}
	if f := c.Input("mole").Constants(); !reflect.DeepEqual(f, []record.KeyValue{{Key: "z", Value: "1"}, {Key: "a", Value: "true"}, {Key: "m", Value: "no"}}) {
		t.Error(f)
	}
	if c.Input("nobody") != nil || c.Output("nobody") != nil || c.Output("one").Kind() != "discard" || c.Input("ape").Kind() != "files" {
		t.Error("names are looked up wrongly")
	}
}

func TestKeepLeavesUnknownLevelsIn(t *testing.T) {
	in := load(t, strings.Replace(small, "}\nout", ", keep: [warn, fatal]}\nout", 1)).Inputs[0]
	if got := in.Keeps(); got != [record.Levels]bool{record.LevelNone: true, record.LevelWarn: true, record.LevelFatal: true} {
		t.Error(got)
	}
	if got := load(t, small).Inputs[0].Keeps(); got != [record.Levels]bool{true, true, true, true, true, true} {
		t.Error("without keep not all are kept:", got)
	}
}

func TestValuesExpand(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOKEN_FILE", secret)
	t.Setenv("EMPTY", "")
	t.Setenv("GRACE", "90s")
	c := load(t, `
state: /x/${EMPTY}/$${NOT}/$HOME/${NOBODY:-a{b}c}/${NOBODY:-${NOBODY:-d}}
host: ${EMPTY:-fallback}
listen: "${EMPTY}"
listen_token: ${file:`+secret+`}
shutdown_timeout: ${GRACE}
inputs:
  a:
    files: [/x]
    multiline: {starts_with: '^${x}'}
    format: {nginx: '$remote_addr ${request}'}
outputs: {o: {discard: {}}}
`)
	if c.State != "/x//${NOT}/$HOME/a{b}c/d" || c.Host != "fallback" || c.Listen != "" || c.ListenToken.Reveal() != "s3cret" || c.ShutdownTimeout != 90*time.Second {
		t.Errorf("%+v, %q", c, c.ListenToken.Reveal())
	}
	if in := c.Inputs[0]; in.Multiline.StartsWith != "^${x}" || in.Format.Nginx.Format != "$remote_addr ${request}" {
		t.Errorf("expanded where $ has its own meaning: %+v", in)
	}
}

func TestSumFollowsTheFileAndWhatItNames(t *testing.T) {
	text := small + "host: ${WHERE}\n"
	t.Setenv("WHERE", "a")
	first := load(t, text).Sum
	if again := load(t, text).Sum; again != first {
		t.Error("the sum changes by itself")
	}
	if other := load(t, text+"# more\n").Sum; other == first {
		t.Error("the sum does not see the file's change")
	}
	t.Setenv("WHERE", "b")
	if other := load(t, text).Sum; other == first {
		t.Error("the sum does not see the variable's change")
	}
}

func TestAnchorsAndMergesSaveTyping(t *testing.T) {
	c := load(t, `
inputs:
  a: &base
    files: [/a]
    keep: [error]
    zone: UTC
  b:
    <<: *base
    files: [/b]
outputs: {o: {discard: {}}}
`)
	if b := c.Input("b"); b.Files[0] != "/b" || b.Zone != "UTC" || b.Keep[0] != "error" {
		t.Errorf("%+v", b)
	}
}

func TestEmptyIsLeftOutWhereAKindHasNoKeys(t *testing.T) {
	c := load(t, "inputs:\n  a:\n    files: /a\noutputs:\n  o:\n    stdout:\n  p:\n    discard:\n")
	if c.Output("o").Stdout.Format != "auto" || c.Output("p").Discard == nil {
		t.Errorf("%+v", c.Outputs)
	}
}

func TestLogFormatIsReadFromNginxConf(t *testing.T) {
	for _, format := range []string{"{conf: testdata/nginx.conf, log_format: main}", "{nginx: {conf: testdata/nginx.conf, log_format: main}}"} {
		got := load(t, strings.Replace(small, "}\nout", ", format: "+format+"}\nout", 1)).Inputs[0].ParserConfig()
		if got.Kind != "nginx" || got.NginxConf != "testdata/nginx.conf" || got.LogFormat != "main" {
			t.Errorf("%s is %+v", format, got)
		}
	}
}

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yml")
	c, problems := Load(path)
	if c != nil || len(problems) != 1 || problems[0].String() != path+":1: there is no such file; name the configuration with -c FILE" {
		t.Error(problems)
	}
}
