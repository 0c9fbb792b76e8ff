package rig

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheTallySeesEveryFault: a verifier that overlooks something makes every test
// that trusts it worthless.
func TestTheTallySeesEveryFault(t *testing.T) {
	l := &Lines{ID: "a"}
	lines := bytes.SplitAfter(l.Append(nil, 10, 3), []byte("\n"))[:10]
	for name, c := range map[string]struct {
		order []int
		want  string
	}{
		"all":          {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, ""},
		"missing":      {[]int{0, 1, 2, 6, 7, 8, 9}, "missing of 10 lines: 3 (3-5)"},
		"last missing": {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8}, "missing of 10 lines: 1 (9-9)"},
		"twice":        {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9}, "more than once: 1 (9-9)"},
		"out of order": {[]int{0, 1, 3, 2, 4, 5, 6, 7, 8, 9}, "1 lines came after a later one"},
	} {
		var out []byte
		for _, n := range c.order {
			out = append(out, lines[n]...)
		}
		// Documents without ids would all share one.
		for i := range c.order {
			out = bytes.Replace(out, []byte(`{"f"`), []byte(`{"id":"`+strings.Repeat("i", i+1)+`","f"`), 1)
		}
		check(t, name, out, c.want, l)
	}
	check(t, "broken", []byte("{\"f\":\"a\",\"n\":0,\"p\":\"xxx\",\"c\":\"00000000\"}\n"), "its CRC", l)
	check(t, "torn", []byte("{\"f\":\"a\",\"n\n"), "broken documents", l)
	check(t, "one id", []byte("{\"id\":\"1\"}\n{\"id\":\"1\"}\n"), "have the id", l)
}

func check(t *testing.T, name string, out []byte, want string, l *Lines) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.ndjson")
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
	tally, err := Count(file)
	if err != nil {
		t.Fatal(err)
	}
	err = tally.Exact(nil, l)
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}
