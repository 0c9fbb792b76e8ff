package parser

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

var update = flag.Bool("update", false, "write the golden documents anew")

// goldenConfig is the format in which a sample is read: of testdata/nginx, the
// log_format of the sample's name in the nginx.conf beside it; of the rest, auto.
func goldenConfig(path string) Config {
	name := strings.TrimSuffix(filepath.Base(path), ".log")
	if filepath.Base(filepath.Dir(path)) == "nginx" {
		return Config{Kind: "nginx", NginxConf: filepath.Join(filepath.Dir(path), "nginx.conf"), LogFormat: name, Zone: time.UTC}
	}
	return Config{Zone: time.UTC}
}

// documents runs a whole file through a format as the agent does: a line without a time
// takes that of the line before.
func documents(t *testing.T, f *Format, data []byte) []byte {
	t.Helper()
	framer, err := f.NewFramer()
	if err != nil {
		t.Fatal(err)
	}
	p, r, last := f.NewParser(), new(record.Record), int64(0)
	var out []byte
	look := &Look{Data: data, AtEnd: true, Flush: true, Now: time.Unix(0, 0)}
	for {
		ev, ok := framer.Next(look)
		if !ok {
			return out
		}
		r.Reset()
		p.Parse(ev.Text, r)
		checkRecord(t, r)
		switch {
		case r.HasTime:
			last = r.Time
		case ev.HasTime:
			last = ev.Time
		}
		out, _ = testOrigin.AppendDoc(out, r, last, ev.Off)
	}
}

// samples are the files of real lines below testdata, each with its documents beside it.
func samples(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/*.log")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	return paths
}

func TestSamplesBecomeTheirDocuments(t *testing.T) {
	for _, path := range samples(t) {
		t.Run(path, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Compile(goldenConfig(path))
			if err != nil {
				t.Fatal(err)
			}
			f, _ = f.Detect(data)
			checkGolden(t, strings.TrimSuffix(path, ".log")+".ndjson", documents(t, f, data))
		})
	}
}

// TestFormatsOfSamples holds what auto makes of each sample, and whether it is sure.
func TestFormatsOfSamples(t *testing.T) {
	var found bytes.Buffer
	for _, path := range samples(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		auto, err := Compile(Config{Zone: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		f, sure := auto.Detect(data[:min(len(data), 32<<10)])
		fmt.Fprintf(&found, "%-36s %-6v %s\n", strings.TrimPrefix(path, "testdata/"), sure, f.Name())
		if restored, ok := auto.Restore(f.Name()); f.Decided() && (restored != f || !ok) {
			t.Errorf("%s: %q is not restored", path, f.Name())
		}
	}
	checkGolden(t, "testdata/formats.txt", found.Bytes())
}

func checkGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	was, is := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(was), len(is)) {
		a, b := slices.Concat(was, make([]string, len(is)))[i], slices.Concat(is, make([]string, len(was)))[i]
		if a != b {
			t.Errorf("%s:%d\n got %s\nwant %s\n(go test -update writes it anew)", path, i+1, b, a)
			return
		}
	}
}
