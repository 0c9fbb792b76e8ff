// Command gen writes docs/configuration.md from the structs of package config. Run it
// at the root of the repository: go run ./docs/gen
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/schema"
)

func main() {
	const path = "docs/configuration.md"
	if err := os.WriteFile(path, reference(), 0o644); err != nil {
		fmt.Fprintf(os.Stderr, "write %s: %v; run this at the root of the repository\n", path, err)
		os.Exit(1)
	}
}

const preface = `# Configuration

<!-- Made from the tags of package config by go run ./docs/gen; change it there. -->

tailwater reads one YAML file. ` + "`tailwater check -c FILE`" + ` tells everything that is wrong with it, each problem as
` + "`FILE:LINE: what is wrong, and what to write instead`" + `. A key that is not on this page is an error, and so is a key that
comes twice.

The smallest file that does something:

` + "```yaml" + `
inputs:
  apps: {files: '/var/log/apps/*.log'}
outputs:
  screen: {stdout: {}}
` + "```" + `

More to copy from is in [examples/](../examples). On SIGHUP, and when the file changes, or one of those whose contents it takes
(` + "`${file:..}`" + `, and ` + "`ca`, `cert`, `key`" + ` of what tailwater connects to), a running agent reads it again; a file with problems is
refused and the old one stays in force.

## How values are written

| type | written as |
|---|---|
| text | with quotes where YAML needs them: a value that begins with ` + "`* & { [ @ %`" + ` or has ` + "`: `" + ` or ` + "` #`" + ` in it. In single quotes, ` + "`\\`" + ` stands for itself |
| list | ` + "`[a, b]`" + `, or one element on each line after ` + "`- `" + `. A list of one may be written without brackets |
| duration | ` + "`250ms` `10s` `1m30s` `1h` `7d`" + `; a number without a unit is an error |
| size | ` + "`64KiB` `64MiB` `1.5GiB`" + ` (powers of 1024; ` + "`64Mi`" + ` means the same), ` + "`64MB`" + ` (powers of 1000), or a number of bytes; ` + "`64M`" + ` is an error |
| true or false | ` + "`true`, `false`" + ` |

Anchors (` + "`&x`, `*x`" + `) and merges (` + "`<<: *x`" + `) work.

## Variables and secrets

In values, after the YAML has been parsed, and never in keys:

| written | becomes |
|---|---|
| ` + "`${VAR}`" + ` | the environment variable; that it is not set is an error |
| ` + "`${VAR:-default}`" + ` | the variable, or the default where it is not set or empty |
| ` + "`${file:/run/secrets/x}`" + ` | the content of the file without its last newline |
| ` + "`$${`" + ` | a literal ` + "`${`" + ` |

In nginx formats and regexes, where ` + "`$`" + ` has a meaning of its own, nothing is expanded; such keys are marked *literal*. Between
` + "`{ }`" + ` and ` + "`[ ]`" + ` a variable must be in quotes: ` + "`{memory: '${MEMORY}'}`" + `. No problem, log line or status page shows an expanded
value or a secret.

`

// reference returns the text of docs/configuration.md.
func reference() []byte {
	var out bytes.Buffer
	out.WriteString(preface)
	for _, s := range schema.Describe(config.Config{}) {
		section(&out, s)
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n')
}

func section(out *bytes.Buffer, s schema.Section) {
	fmt.Fprintf(out, "## %s\n\n", s)
	if s.Doc != "" {
		fmt.Fprintf(out, "%s\n\n", prose(s.Doc))
	}
	if len(s.Also) > 0 {
		fmt.Fprintf(out, "The same can be written at %s.\n\n", codes(s.Also))
	}
	if s.KindOf != "" {
		var kinds []string
		for _, k := range s.Keys {
			if k.Kind {
				kinds = append(kinds, k.Name)
			}
		}
		verb := "Exactly one of the keys " + codes(kinds) + " says"
		if len(kinds) == 1 {
			verb = "The key " + codes(kinds) + " says"
		}
		fmt.Fprintf(out, "%s what kind of %s it is.\n\n", verb, s.KindOf)
	}
	if b := s.Bare; b != nil {
		fmt.Fprintf(out, "A bare value may stand for the map: %s.", kindOfValue(b))
		if b.Doc != "" {
			fmt.Fprintf(out, " %s", prose(b.Doc))
		}
		out.WriteString("\n\n")
	}
	out.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, k := range s.Keys {
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", k.Name, cell(kindOfValue(&k)), cell(absent(&k)), cell(meaning(&k)))
	}
	out.WriteString("\n")
}

func kindOfValue(k *schema.Key) string {
	if len(k.OneOf) == 0 {
		return k.Type
	}
	if strings.HasPrefix(k.Type, "list") {
		return "list of " + codes(k.OneOf)
	}
	return "one of " + codes(k.OneOf)
}

func absent(k *schema.Key) string {
	switch {
	case k.Required:
		return "*required*"
	case k.Default != "":
		return "`" + k.Default + "`"
	}
	if k.Unset == "" {
		return "–"
	}
	return k.Unset
}

func meaning(k *schema.Key) string {
	parts := []string{prose(k.Doc)}
	switch {
	case k.Min != "" && k.Max != "":
		parts = append(parts, fmt.Sprintf("From `%s` to `%s`.", k.Min, k.Max))
	case k.Min != "":
		parts = append(parts, fmt.Sprintf("At least `%s`.", k.Min))
	case k.Max != "":
		parts = append(parts, fmt.Sprintf("At most `%s`.", k.Max))
	}
	if len(k.Only) > 0 {
		parts = append(parts, "Only with "+codes(k.Only)+".")
	}
	if k.Literal {
		parts = append(parts, "*Literal.*")
	}
	if k.Example != "" {
		parts = append(parts, "Example: "+code(k.Name+": "+k.Example))
	}
	if k.Section != "" {
		parts = append(parts, fmt.Sprintf("See [`%s`](#%s).", k.Section, anchor(k.Section)))
	}
	return strings.Join(parts, " ")
}

// anchor is what Markdown readers make of a heading.
func anchor(path string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '`' {
			return -1
		}
		return r
	}, strings.ToLower(path))
}

// prose keeps the stars of globs from becoming emphasis.
func prose(s string) string { return strings.ReplaceAll(s, "*", `\*`) }

// cell keeps a text in its column.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func code(s string) string {
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}

func codes(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, code(s))
	}
	return strings.Join(out, ", ")
}
