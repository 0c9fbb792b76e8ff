package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// parse reads one YAML document. Where the syntax is wrong, it returns beside the
// problem what stands before it, so that the problems there are told too. The node
// is nil when there is nothing.
func parse(file string, data []byte) (root *yaml.Node, problems []Problem) {
	if problems := checkText(file, data); len(problems) > 0 {
		return nil, problems
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err == io.EOF {
		return nil, nil
	} else if err != nil {
		good, bad := lastGoodPrefix(data)
		return good, syntaxProblems(file, data, err, bad)
	}
	if err := dec.Decode(&second); err == nil {
		return content(&doc), []Problem{{File: file, Line: second.Line, Text: `a second YAML document begins here; write one document and remove the "---"`}}
	} else if err != io.EOF {
		_, bad := lastGoodPrefix(data)
		return content(&doc), syntaxProblems(file, data, err, bad)
	}
	return content(&doc), nil
}

func content(doc *yaml.Node) *yaml.Node {
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0]
	}
	return nil
}

// checkText finds what the YAML reader would name without a line: bytes that are not
// text.
func checkText(file string, data []byte) (problems []Problem) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return []Problem{{File: file, Line: 1, Text: "the file is UTF-16; save it as UTF-8"}}
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			problems = append(problems, Problem{File: file, Line: i + 1, Text: "bytes that are not UTF-8; save the file as UTF-8"})
			continue
		}
		for at, r := range string(line) {
			if r < ' ' && r != '\t' && r != '\r' || r == 0x7f {
				problems = append(problems, Problem{File: file, Line: i + 1, Col: utf8.RuneCount(line[:at]) + 1,
					Text: fmt.Sprintf(`a control character (0x%02x); remove it, or write it in double quotes as "\x%02x"`, r, r)})
				break
			}
		}
	}
	return problems
}

// maxSearched bounds, in bytes read, the search of lastGoodPrefix, whose work grows
// with the square of the file.
const maxSearched = 1 << 20

// lastGoodPrefix returns the longest run of whole lines at the head of data that is
// good YAML, and the number of the line after it: the reader names the line where
// the broken construct began, which can be a screen above the mistake. The number is
// 0 where the search would take too long.
func lastGoodPrefix(data []byte) (root *yaml.Node, bad int) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	end, searched := len(data), 0
	for n := len(lines); n > 0; n-- {
		end -= len(lines[n-1])
		if searched += end; searched > maxSearched {
			return nil, 0
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(data[:end], &doc); err == nil {
			return content(&doc), n
		}
	}
	return nil, 1
}

var (
	errorLine     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxAdvice maps what the YAML reader says to what helps.
var syntaxAdvice = []struct{ says, advice string }{
	{"mapping values are not allowed", `": " where no key can stand; put the value in quotes, or correct the indentation`},
	{"could not find expected ':'", `a line without "KEY: VALUE"; is the ":" missing, or the space after it?`},
	{"did not find expected key", "this does not fit in here; correct the indentation, or put the value in quotes"},
	{"did not find expected '-' indicator", `a list goes on here without "- "; correct the indentation`},
	{"did not find expected ',' or ']'", "the list that [ opens does not go on or end here; close it with ], and put values with { } or , in quotes"},
	{"did not find expected ',' or '}'", "the map that { opens does not go on or end here; close it with }, and put values with { } or , in quotes, as in '${VAR}'"},
	{"did not find expected node content", "[ or { is not closed"},
	{"did not find expected alphabetic or numeric character", "a value that begins with * or & must be in quotes, as in '*.log'"},
	{"found unexpected end of stream", "the quote that opens here is not closed"},
	{"found unknown escape character", `an unknown \ escape in double quotes; use single quotes, in which \ stands for itself`},
	{"cannot start any token", "a value cannot begin with this character; put it in quotes"},
	{"found a tab", "a tab in the indentation; write spaces"},
}

func syntaxProblems(file string, data []byte, err error, bad int) []Problem {
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	m := errorLine.FindStringSubmatch(strings.ReplaceAll(err.Error(), "\n", " "))
	if m == nil {
		m = []string{"", "", err.Error()}
	}
	says := m[2]
	line, _ := strconv.Atoi(m[1])
	line = min(max(line, bad, 1), len(lines))
	if strings.Contains(says, "tab") || strings.Contains(says, "cannot start any token") {
		if tabs := tabProblems(file, lines); len(tabs) > 0 {
			return tabs
		}
	}
	if anchor := unknownAnchor.FindStringSubmatch(says); anchor != nil {
		for i, l := range lines {
			if strings.Contains(l, "*"+anchor[1]) {
				return []Problem{{File: file, Line: i + 1, Text: fmt.Sprintf(`*%s refers to no &%[1]s; put a value that begins with * in quotes`, anchor[1])}}
			}
		}
	}
	if n := colonWithoutSpace(lines, line); n > 0 && strings.Contains(says, "':'") || n > 0 && strings.Contains(says, "mapping values") {
		return []Problem{{File: file, Line: n, Text: `a ":" without a space after it; write KEY: VALUE`}}
	}
	for _, a := range syntaxAdvice {
		if strings.Contains(says, a.says) {
			return []Problem{{File: file, Line: line, Text: a.advice}}
		}
	}
	return []Problem{{File: file, Line: line, Text: "not YAML: " + says}}
}

var keyGlued = regexp.MustCompile(`^\s*(?:- )?[A-Za-z_][\w.-]*:[^\s/:]`)

// colonWithoutSpace returns the line, the given one or the one before, whose key is
// glued to its value; 0 when neither is.
func colonWithoutSpace(lines []string, line int) int {
	for n := line; n > 0 && n >= line-1; n-- {
		if keyGlued.MatchString(lines[n-1]) {
			return n
		}
	}
	return 0
}

// tabProblems names every line that is indented with a tab.
func tabProblems(file string, lines []string) (problems []Problem) {
	for i, l := range lines {
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		if at := strings.IndexByte(indent, '\t'); at >= 0 && len(indent) < len(l) {
			problems = append(problems, Problem{File: file, Line: i + 1, Col: at + 1, Text: "a tab in the indentation; write spaces"})
		}
	}
	return problems
}

var errTooLarge = errors.New("larger than 4 MiB; a configuration is a small file")

// ReadLimited reads r to its end, which is a configuration and not a log.
func ReadLimited(r io.Reader) ([]byte, error) {
	const most = 4 << 20
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(data) > most {
		err = errTooLarge
	}
	return data, err
}
