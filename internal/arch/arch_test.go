// Package arch holds the test that keeps the packages in their order: who may
// import whom, and where a third party may be used.
package arch

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tailwater/tailwater"

// layers is the order of the tree: a package imports only what stands before it. The
// stages share a layer, as none of them may know another; agent alone joins them.
var layers = [][]string{
	{"internal"},
	{"record"},
	{"ack", "alert", "parser", "queue", "route", "sink", "source"},
	{"config"},
	{"agent"},
	{"cmd"},
}

// outside are the trees that are not part of the agent: they may import anything,
// and nothing in it imports them.
var outside = []string{"bench", "docs", "examples", "test"}

// homes says for each third party where it may be used, with all that lies below.
// What is not listed may not be used at all: adopt a dependency by adding it here.
var homes = map[string][]string{
	"github.com/fsnotify/fsnotify":            {"source/tail"},
	"github.com/segmentio/kafka-go":           {"internal/kafka", "sink/kafka", "source/consume", "alert/fleet"},
	"github.com/pierrec/lz4":                  {"internal/kafka", "sink/kafka", "source/consume"},
	"github.com/elastic/go-elasticsearch":     {"sink/elastic"},
	"github.com/elastic/elastic-transport-go": {"sink/elastic"},
	"github.com/valyala/fastjson":             {"parser"},
	"github.com/klauspost/compress":           {"internal/kafka", "sink", "source", "alert", "cmd/tailwater", "agent"},
	"github.com/spf13/cobra":                  {"cmd/tailwater"},
	"github.com/prometheus/client_golang":     {"alert", "queue", "sink", "source", "agent"},
	"github.com/bmatcuk/doublestar":           {"config", "source/tail"},
	"github.com/DataDog/sketches-go":          {"alert"},
	"github.com/wneessen/go-mail":             {"alert/notify"},
	"golang.org/x/text":                       {"config", "parser"},
	"golang.org/x/sys":                        {"internal", "source/tail", "agent", "cmd/tailwater"},
	"go.opentelemetry.io/proto/slim/otlp":     {"source/listen"},
	"google.golang.org/protobuf":              {"source/listen"},
	"gopkg.in/yaml.v3":                        {"config", "internal/schema"},
}

// empty are names that say nothing of what is inside.
var empty = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "base"}

// file is a Go file of the module with what it imports.
type file struct {
	name    string // relative to the module's root
	pkg     string // its directory, relative too
	isTest  bool
	imports []string
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range files(t) {
		for _, imp := range f.imports {
			if to, own := strings.CutPrefix(imp, module+"/"); own {
				if why := wrongWay(f, to); why != "" {
					t.Errorf("%s imports %s: %s", f.name, to, why)
				}
			}
		}
	}
}

func TestThirdPartiesStayAtHome(t *testing.T) {
	for _, f := range files(t) {
		if f.isTest || slices.Contains(outside, top(f.pkg)) {
			continue
		}
		for _, imp := range f.imports {
			if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") || within(imp, module) {
				continue // the standard library and ourselves
			}
			if why := notAtHome(f.pkg, imp); why != "" {
				t.Errorf("%s imports %s: %s", f.name, imp, why)
			}
		}
	}
}

func TestNamesSayWhatIsInside(t *testing.T) {
	for _, f := range files(t) {
		for part := range strings.SplitSeq(f.pkg, "/") {
			if slices.Contains(empty, part) {
				t.Errorf("%s: a package named %q says nothing of what is inside", f.name, part)
			}
		}
	}
}

// wrongWay says why f may not import the module's package to, or "".
func wrongWay(f file, to string) string {
	from := f.pkg
	switch {
	case within(to, from) || within(from, to):
		return ""
	case slices.Contains(outside, top(from)):
		return ""
	case f.isTest && within(to, "test/fake"):
		return "" // servers in a mood, for whoever talks to such
	case slices.Contains(outside, top(to)):
		return "the agent's code does not depend on what tests and measures it"
	}
	a, b := layer(from), layer(to)
	switch {
	case a < 0:
		return fmt.Sprintf("%s has no layer; give it one in internal/arch", top(from))
	case b < 0:
		return fmt.Sprintf("%s has no layer; give it one in internal/arch", top(to))
	case top(from) == top(to):
		if top(from) == "sink" || top(from) == "source" {
			return "a destination or a source does not know its siblings"
		}
		return ""
	case a < b:
		return "a package does not know who uses it"
	case a == b:
		return "stages do not know each other; agent joins them"
	case top(from) == "record" && !f.isTest:
		return "record imports only the standard library"
	}
	return ""
}

// notAtHome says why pkg may not import the third party imp, or "".
func notAtHome(pkg, imp string) string {
	for party, at := range homes {
		if within(imp, party) {
			if slices.ContainsFunc(at, func(home string) bool { return within(pkg, home) }) {
				return ""
			}
			return "its home is " + strings.Join(at, ", ")
		}
	}
	return "it has no home; if it is worth adopting, name it in internal/arch"
}

func layer(pkg string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, top(pkg)) })
}

// top is the first element of a path.
func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// within tells whether p is dir or lies below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// files reads the import clauses of every Go file of the module.
func files(t *testing.T) []file {
	t.Helper()
	const root = "../.."
	var all []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "tools" || base == "out" || base == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(filepath.ToSlash(name), root+"/")
		f := file{name: rel, pkg: path.Dir(rel), isTest: strings.HasSuffix(rel, "_test.go")}
		for _, imp := range syntax.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: import %s: %w", rel, imp.Path.Value, err)
			}
			f.imports = append(f.imports, p)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files found: this test looks in the wrong place", len(all))
	}
	return all
}

// TestTheRuleItself holds the rule to what it is meant to refuse.
func TestTheRuleItself(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"agent", "source/tail", true},
		{"sink/kafka", "sink", true},
		{"sink/kafka", "internal/kafka", true},
		{"alert/fleet", "alert", true},
		{"test/e2e", "agent", true},
		{"sink", "queue", false},
		{"sink/kafka", "sink/elastic", false},
		{"source/tail", "source/consume", false},
		{"sink", "config", false},
		{"record", "internal/backoff", false},
		{"internal/backoff", "record", false},
		{"config", "agent", false},
		{"agent", "test/e2e", false},
		{"elsewhere", "record", false},
	} {
		if why := wrongWay(file{pkg: c.from}, c.to); (why == "") != c.ok {
			t.Errorf("%s → %s: %q, want allowed: %v", c.from, c.to, why, c.ok)
		}
	}
	if notAtHome("parser", "github.com/fsnotify/fsnotify") == "" || notAtHome("sink/kafka", "github.com/segmentio/kafka-go/sasl") != "" || notAtHome("agent", "example.org/new") == "" {
		t.Error("third parties are not held at home")
	}
}
