package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/parser"
	"github.com/tailwater/tailwater/record"
)

var update = flag.Bool("update", false, "write what fires into docs/alerts.md")

// example is a rule, lines of a log, and what fires. Those of a fleet name the host before
// each line.
var example = regexp.MustCompile("(?s)<!-- (?:fleet )?example -->\n```yaml\n(.*?)```\n```\n(.*?)```\n```\n(.*?)```\n")

func TestExamplesOfTheAlertsPage(t *testing.T) {
	const path = "../alerts.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, fleets := 0, 0
	next := example.ReplaceAllStringFunc(string(page), func(text string) string {
		n++
		m := example.FindStringSubmatch(text)
		rule, lines, want := m[1], m[2], m[3]
		got := ""
		if strings.HasPrefix(text, "<!-- fleet") {
			fleets++
			got = firesOverHosts(t, rule, lines)
		} else {
			got = fires(t, rule, lines)
		}
		if *update {
			return strings.TrimSuffix(text, want+"```\n") + got + "```\n"
		}
		if got == "" || got != want {
			t.Errorf("%s\nfires\n%s\nthe page says\n%s", rule, got, want)
		}
		return text
	})
	if n < 9 || fleets < 1 {
		t.Errorf("only %d examples were found, %d of a fleet", n, fleets)
	}
	if *update {
		if err := os.WriteFile(path, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// configured is a configuration with the rule for the logs of a shop.
func configured(t *testing.T, rule, log, outputs string) *config.Config {
	t.Helper()
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n    ")
	text := fmt.Sprintf("inputs: {shop: {files: %s, format: logfmt}}\noutputs: %s\nalerts:\n  example:\n%s\n", log, outputs, indented)
	cfg, problems := config.Parse("example.yml", []byte(text))
	if len(problems) > 0 {
		t.Fatalf("%s: %v", rule, problems)
	}
	return cfg
}

// fires runs the rule over the lines and returns the notices.
func fires(t *testing.T, rule, lines string) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "shop.log")
	if err := os.WriteFile(log, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := configured(t, rule, log, "{out: {discard: {}}}")
	var out strings.Builder
	if _, err := agent.Backtest(cfg, "", []string{log}, func(it *notify.Item) {
		fmt.Fprintf(&out, "%s %s\n", it.At.UTC().Format("15:04:05"), it.Headline())
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// firesOverHosts has each host count its lines and publish its counts, and an evaluator
// decide over all of them.
func firesOverHosts(t *testing.T, text, lines string) string {
	t.Helper()
	cfg := configured(t, text, "/var/log/shop.log", "{out: {kafka: {brokers: ['k1:9092'], topic: logs}}}")
	rule, err := alert.Compile(cfg.Alerts[0].Rule())
	if err != nil || rule.Config().Scope != "fleet" {
		t.Fatalf("%v: %+v", err, rule)
	}
	format, err := parser.Compile(cfg.Inputs[0].ParserConfig())
	if err != nil {
		t.Fatal(err)
	}
	type host struct {
		engine *alert.Engine
		tap    *alert.Tap
		node   *alert.Node
	}
	var out strings.Builder
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	evaluator := alert.New([]*alert.Rule{rule}, clock, func(e alert.Event) {
		it := notify.NewItem(e.Kind, e.At, e.Incident, notify.Route{})
		var hosts []string
		for _, h := range e.Incident.Hosts {
			hosts = append(hosts, fmt.Sprintf("%s (%d)", h.Name, h.Lines))
		}
		fmt.Fprintf(&out, "%s %s; %s\n", it.At.UTC().Format("15:04:05"), it.Headline(), strings.Join(hosts, ", "))
	})
	hosts := make(map[string]*host)
	for line := range strings.Lines(lines) {
		name, line, _ := strings.Cut(strings.TrimSpace(line), " ")
		h := hosts[name]
		if h == nil {
			h = &host{engine: alert.New([]*alert.Rule{rule}, clock, func(e alert.Event) { t.Errorf("%s decides alone: %+v", name, e) }), node: evaluator.Node(name)}
			h.engine.Publish(name)
			h.tap = h.engine.Tap("log", "shop", false, record.NewOrigin(record.OriginFields{Machine: "m", Generation: "log", Host: name, Input: "shop", Project: "shop"}))
			hosts[name] = h
		}
		var r record.Record
		r.Reset()
		format.NewParser().Parse([]byte(line), &r)
		now = time.UnixMilli(r.Time)
		h.tap.Observe(&r, r.Time, []byte(line))
		h.tap.Flush(record.Pos{}, true)
		report := h.engine.Report()
		for i := range report.Partials {
			h.node.Merge(&report.Partials[i])
		}
		h.node.Mark(report.Marks)
		evaluator.Decide()
	}
	return out.String()
}
