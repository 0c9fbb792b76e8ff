package schema

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/internal/units"
)

// reservoir has a field of each class.
type reservoir struct {
	Name    string        `yaml:"name" required:"yes" doc:"Name."`
	Depth   float64       `yaml:"depth" min:"0.5" max:"100" doc:"Depth."`
	Gates   int           `yaml:"gates" default:"2" min:"0" max:"8" doc:"Gates."`
	Open    bool          `yaml:"open" doc:"Open."`
	Volume  units.Bytes   `yaml:"volume" default:"1MiB" doc:"Volume."`
	Every   time.Duration `yaml:"every" default:"10s" doc:"Every."`
	Key     units.Secret  `yaml:"key" doc:"Key."`
	Tags    []string      `yaml:"tags" default:"a b" oneof:"a b c" doc:"Tags."`
	Ports   []int         `yaml:"ports" max:"65535" doc:"Ports."`
	Outlet  *outlet       `yaml:"outlet" doc:"Outlet."`
	Outlets []outlet      `yaml:"outlets" doc:"Outlets."`
	Mode    mode          `yaml:"mode" default:"slow" doc:"Mode."`
	Rivers  []*river      `yaml:"rivers" doc:"Rivers."`
	Feeds   []string      `yaml:"feeds" ref:"rivers" doc:"Feeds."`
}

type outlet struct {
	Width int `yaml:"width" default:"3" min:"1" doc:"Width."`
}

type mode struct {
	Word  string `yaml:",scalar" oneof:"slow fast" doc:"Word."`
	Pump  string `yaml:"pump" kind:"mode" doc:"Pump."`
	Wheel *mode  `yaml:"wheel" kind:"mode" doc:"Wheel."`
	Power int    `yaml:"power" only:"pump" default:"7" doc:"Power."`
}

type river struct {
	Name string `yaml:",name"`
	Flow int    `yaml:"flow" doc:"Flow."`
}

func (r *river) Check(problem func(key, text string)) {
	if r.Flow == 13 {
		problem("flow", "13 brings bad luck")
	}
}

func decode(t *testing.T, text string) (*reservoir, string) {
	t.Helper()
	r := new(reservoir)
	_, problems := Decode("r", []byte(text), r, Options{Env: func(name string) (string, bool) { return "value of " + name, name == "SET" }})
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return r, strings.Join(out, "\n")
}

func TestEachClassOfValue(t *testing.T) {
	r, problems := decode(t, `
name: ${SET}
depth: 2.5
gates: 0
open: true
volume: 2KiB
every: 1d
key: abc
tags: c
ports: [80, 443]
outlet:
outlets: [{width: 1}, {}]
mode: {pump: p}
rivers:
  zambezi: {flow: 2}
  amazon:
feeds: amazon
`)
	want := &reservoir{Name: "value of SET", Depth: 2.5, Open: true, Volume: 2048, Every: 24 * time.Hour, Key: "abc", Tags: []string{"c"}, Ports: []int{80, 443},
		Outlet: &outlet{3}, Outlets: []outlet{{1}, {3}}, Mode: mode{Pump: "p", Power: 7}, Rivers: []*river{{"zambezi", 2}, {"amazon", 0}}, Feeds: []string{"amazon"}}
	if problems != "" || !reflect.DeepEqual(r, want) {
		t.Errorf("%s\n got %+v\nwant %+v", problems, r, want)
	}
}

func TestAbsentKeysHaveTheirDefaults(t *testing.T) {
	r, problems := decode(t, "name: x\n")
	want := &reservoir{Name: "x", Gates: 2, Volume: units.MiB, Every: 10 * time.Second, Tags: []string{"a", "b"}, Mode: mode{Word: "slow", Power: 7}}
	if problems != "" || !reflect.DeepEqual(r, want) {
		t.Errorf("%s\n got %+v\nwant %+v", problems, r, want)
	}
}

func TestProblemsByClass(t *testing.T) {
	for text, want := range map[string]string{
		"name: x\ndepth: 0.1\n":                                `r:2: depth: "0.1" is too small; write at least 0.5`,
		"name: x\ndepth: .nan\n":                               `r:2: depth: ".nan" is not a number`,
		"name: x\ndepth: 1e9\n":                                `r:2: depth: "1e9" is too large; write at most 100`,
		"name: x\ngates: 9\n":                                  `r:2: gates: "9" is too large; write at most 8`,
		"name: x\ngates: 1.5\n":                                `r:2: gates: "1.5" is not a whole number`,
		"name: x\ngates: -1\n":                                 `r:2: gates: "-1" is too small; write at least 0`,
		"name: x\nports: [1, 65536]\n":                         `r:2: ports[1]: "65536" is too large; write at most 65535`,
		"name: x\nrivers: {nile: {flow: 13}}\n":                `r:2: rivers.nile.flow: 13 brings bad luck`,
		"name: x\nrivers: {n: }\nfeeds: [m, n, o]":             "r:3: feeds[0]: there is no river \"m\"; known rivers: n\nr:3: feeds[2]: there is no river \"o\"; known rivers: n",
		"name: x\nmode: {wheel: quick}":                        `r:2: mode.wheel: "quick" is not known; write one of slow, fast`,
		"name: x\nmode: {wheel: slow, power: 1}":               `r:2: mode.power belongs to pump alone, and this is wheel; remove it`,
		"name: x\noutlets: [3]\n":                              `r:2: outlets[0] is a single value; write a map with the keys width`,
		"name: x\nrivers: 3\n":                                 `r:2: rivers is a single value; write a map of names, as in rivers: {NAME: ..}`,
		"nmae: x\n":                                            `r:1: unknown key "nmae" at the top level; did you mean "name"?`,
		"name: ''\n":                                           `r:1: name: empty; write a value`,
		"name: ${UNSET}\n":                                     `r:1: name: the environment variable UNSET is not set; set it, or write ${UNSET:-default}`,
		"name: ${file:/}\n":                                    `r:1: name: ${file:/}: not a regular file`,
		"name: x\nkey: ${a b}\n":                               "r:2: key: \"${\" without a variable's name; write ${VAR}, ${VAR:-default} or ${file:/path}, or $${ for a literal ${",
		"name: x\n? [complex]\n: 1\n":                          `r:2: a key at the top level is not a text; write KEY: VALUE`,
		"name: x\nrivers: {a: &a {flow: 1}, b: {<<: [*a, 5]}}": `r:2: << in rivers.b merges a single value; write << with the alias of a map`,
	} {
		if _, got := decode(t, text); got != want {
			t.Errorf("%q\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestSyntaxErrorHidesNothingAboveIt(t *testing.T) {
	_, got := decode(t, "nmae: x\ngates: many\n  outlets: {\n")
	want := "r:1: unknown key \"nmae\" at the top level; did you mean \"name\"?\nr:2: gates: \"many\" is not a whole number\n"
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "\nr:3: ") {
		t.Error(got)
	}
}

func TestAnchorsCannotMultiply(t *testing.T) {
	var b strings.Builder
	b.WriteString("name: x\nrivers:\n  r0: &a0 {flow: 1}\n")
	for i := 1; i < 60; i++ {
		fmt.Fprintf(&b, "  r%d: &a%d {<<: [*a%d, *a%[3]d]}\n", i, i, i-1)
	}
	b.WriteString("mode: &m {wheel: *m}\n")
	start := time.Now()
	if _, got := decode(t, b.String()); !strings.Contains(got, "anchor that holds itself") || strings.Count(got, "\n") > 0 {
		t.Error(got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestSuggestionsAreWhatWasMeant(t *testing.T) {
	known := []string{"files", "exclude", "line_timeout", "ignore_older", "to", "keep", "max_line", "zone", "project"}
	for name, want := range map[string]string{
		"fiels": "files", "file": "files", "Files": "files", "lineTimeout": "line_timeout", "line-timeout": "line_timeout", "timeout_line": "line_timeout",
		"line_tiemout": "line_timeout", "ignore": "ignore_older", "ignore_odler": "ignore_older", "maxline": "max_line", "max_lines": "max_line",
		"zones": "zone", "projcet": "project", "kep": "keep", "projects_of_mine": "project",
		"kafka": "", "x": "", "t": "", "bananas": "", "": "", strings.Repeat("files", 100): "",
	} {
		got, ok := Nearest(name, known)
		if want == "" && strings.HasPrefix(name, "files") {
			continue // anything goes, but it ends
		}
		if got != want || ok != (want != "") {
			t.Errorf("%.20q was taken for %q, want %q", name, got, want)
		}
	}
}
