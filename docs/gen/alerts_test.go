package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
)

var update = flag.Bool("update", false, "write what fires into docs/alerts.md")

// example is a rule, lines of a log, and what fires.
var example = regexp.MustCompile("(?s)<!-- example -->\n```yaml\n(.*?)```\n```\n(.*?)```\n```\n(.*?)```\n")

func TestExamplesOfTheAlertsPage(t *testing.T) {
	const path = "../alerts.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	next := example.ReplaceAllStringFunc(string(page), func(text string) string {
		n++
		m := example.FindStringSubmatch(text)
		rule, lines, want := m[1], m[2], m[3]
		got := fires(t, rule, lines)
		if *update {
			return strings.TrimSuffix(text, want+"```\n") + got + "```\n"
		}
		if got == "" || got != want {
			t.Errorf("%s\nfires\n%s\nthe page says\n%s", rule, got, want)
		}
		return text
	})
	if n < 8 {
		t.Errorf("only %d examples were found", n)
	}
	if *update {
		if err := os.WriteFile(path, []byte(next), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fires runs the rule over the lines and returns the notices.
func fires(t *testing.T, rule, lines string) string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "shop.log")
	if err := os.WriteFile(log, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n    ")
	text := fmt.Sprintf("inputs: {shop: {files: %s, format: logfmt}}\noutputs: {out: {discard: {}}}\nalerts:\n  example:\n%s\n", log, indented)
	cfg, problems := config.Parse("example.yml", []byte(text))
	if len(problems) > 0 {
		t.Fatalf("%s: %v", rule, problems)
	}
	var out strings.Builder
	if _, err := agent.Backtest(cfg, "", []string{log}, func(it *notify.Item) {
		fmt.Fprintf(&out, "%s %s\n", it.At.UTC().Format("15:04:05"), it.Headline())
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
