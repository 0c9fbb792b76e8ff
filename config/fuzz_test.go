package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad: whatever the file holds, there is either a Config or problems, and each
// problem is one line about a line of the file and tells no secret.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	good, _ := filepath.Glob("../examples/*.yaml")
	for _, path := range append(files, good...) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	const secret = "hunter2-hunter2"
	f.Setenv("TAILWATER_TEST_SECRET", secret)
	f.Add([]byte("x: &a {<<: [*a, *a], y: *a}\n"))
	f.Add([]byte("inputs: {a: &a {files: &b [*b], format: &c {cri: &d {docker: *c}}}, b: *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Parse("f.yml", data)
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("a config %v and %d problems", c, len(problems))
		}
		lines := max(1, bytes.Count(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))+1)
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.File != "f.yml" {
				t.Errorf("%s is not in a file of %d lines", p, lines)
			}
			if p.Text == "" || strings.ContainsAny(p.Text, "\n\r") || strings.Contains(p.Text, secret) {
				t.Errorf("%q is no problem's text", p.Text)
			}
		}
	})
}
