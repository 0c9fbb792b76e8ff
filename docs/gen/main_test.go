package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/schema"
)

func TestConfigurationPageIsFresh(t *testing.T) {
	have, err := os.ReadFile("../configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, reference()) {
		t.Error("docs/configuration.md is stale; run go run ./docs/gen")
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	for _, s := range schema.Describe(config.Config{}) {
		for _, k := range s.Keys {
			if len(k.Doc) < 10 || !strings.HasSuffix(k.Doc, ".") {
				t.Errorf("%s %s: the doc tag %q is no sentence", s, k.Name, k.Doc)
			}
			if k.Default == "" && k.Example == "" && k.Unset == "" && k.Section == "" && !strings.HasPrefix(k.Type, "map") && k.Type != "text" {
				t.Errorf("%s %s: neither default nor example", s, k.Name)
			}
		}
	}
}

func TestLinksOfThePageLead(t *testing.T) {
	page := string(reference())
	for _, m := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		found := false
		for _, h := range regexp.MustCompile("(?m)^## `?([^`\n]*)`?$").FindAllStringSubmatch(page, -1) {
			found = found || anchor(h[1]) == m[1]
		}
		if !found {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
}
