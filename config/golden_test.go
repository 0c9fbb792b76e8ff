package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the problems that are found beside the lines of testdata/bad")

// want is an expected problem beside its line, or, with a number, of another line.
var want = regexp.MustCompile(`# want(?: (\d+))?: (.*?)(?:$|\s+# want)`)

// wants reads a golden file's expectations as LINE: TEXT.
func wants(data []byte) (out []string) {
	for i, line := range strings.Split(string(data), "\n") {
		for {
			m := want.FindStringSubmatchIndex(line)
			if m == nil {
				break
			}
			n := i + 1
			if m[2] >= 0 {
				n, _ = strconv.Atoi(line[m[2]:m[3]])
			}
			out = append(out, fmt.Sprintf("%d: %s", n, strings.TrimSpace(line[m[4]:m[5]])))
			line = line[m[5]:]
		}
	}
	return out
}

func TestBadFilesAreToldAllTheirProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	const secret = "hunter2-hunter2"
	t.Setenv("TAILWATER_TEST_SECRET", secret)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, problems := Load(path)
			if c != nil || len(problems) == 0 {
				t.Fatal("it is taken for good")
			}
			if *update {
				rewrite(t, path, data, problems)
				return
			}
			var got []string
			for _, p := range problems {
				got = append(got, fmt.Sprintf("%d: %s", p.Line, p.Text))
				if strings.Contains(p.Text, secret) {
					t.Errorf("a secret is told: %s", p)
				}
			}
			expected := wants(data)
			slices.Sort(got)
			slices.Sort(expected)
			for _, g := range got {
				if !slices.Contains(expected, g) {
					t.Errorf("not expected:\n  %s", g)
				}
			}
			for _, e := range expected {
				if !slices.Contains(got, e) {
					t.Errorf("missing:\n  %s", e)
				}
			}
		})
	}
}

// rewrite puts the problems beside their lines, or at the file's end where a comment
// would change what is read.
func rewrite(t *testing.T, path string, data []byte, problems []Problem) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for len(lines) > 1 && strings.HasPrefix(lines[len(lines)-1], "# want ") {
		lines = lines[:len(lines)-1]
	}
	for i, line := range lines {
		before, _, _ := strings.Cut(line, " # want")
		lines[i] = strings.TrimRight(before, " ")
	}
	beside, below := slices.Clone(lines), slices.Clone(lines)
	for _, p := range problems {
		beside[p.Line-1] += " # want: " + p.Text
		below = append(below, fmt.Sprintf("# want %d: %s", p.Line, p.Text))
	}
	for _, text := range [][]string{beside, below} {
		data = []byte(strings.Join(text, "\n") + "\n")
		_, again := Parse(path, data)
		same := len(again) == len(problems)
		for i := range again {
			same = same && i < len(problems) && again[i].Line == problems[i].Line && again[i].Text == problems[i].Text
		}
		if same {
			break
		}
	}
	if old, _ := os.ReadFile(path); !bytes.Equal(old, data) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
