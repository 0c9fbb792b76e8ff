package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fake "github.com/tailwater/tailwater/test/fake/kube"
	"github.com/tailwater/tailwater/test/rig"
)

// TestTracesInARuntimesParts: stack traces of one stream in parts of 16 KiB, with lines
// of the other between them; the agent is restarted in the midst of one trace, and the
// log rotated in the midst of another and of a line.
func TestTracesInARuntimesParts(t *testing.T) {
	t.Parallel()
	traces := longestTraces(t)
	for _, docker := range []bool{false, true} {
		n := newNode(t, "", "    format: app\n")
		n.Docker = docker
		c := n.container(fake.Pod{Name: "web-7d9c6b5f4-x2x4z"}, "app")
		beside := func() { n.check(c.WriteString(c.Line("stdout", "2026-11-25 12:00:00.000 INFO beside", false))) }
		beside()
		n.start()
		n.docs(1)
		// write writes a line as a runtime does, with the other stream's lines between parts.
		write := func(line string, between func()) {
			const part = 16 << 10
			for ; len(line) > part; line = line[part:] {
				n.check(c.WriteString(c.Line("stderr", line[:part], true)))
				between()
			}
			n.check(c.WriteString(c.Line("stderr", line, false)))
		}
		for i, trace := range traces {
			for j, line := range strings.Split(trace, "\n") {
				write(line, beside)
				switch {
				case i < 2:
					beside()
				case j == 2:
					n.check(c.Rotate())
				}
				if i == 1 && j == 2 {
					n.stop(0)
					n.start()
				}
			}
			write("2026-11-25 12:00:00.000 ERROR one line", beside)
		}
		parts := 0
		wide := strings.Repeat("v", 40<<10)
		write("2026-11-25 12:00:00.000 ERROR wide "+wide, func() {
			beside()
			if parts++; parts == 2 {
				n.check(c.Rotate())
			}
		})
		last := time.Now()
		for _, want := range append(traces, "wide "+wide) {
			n.check(rig.Poll(n.ctx, "an event as a whole", func() error {
				for _, d := range n.documents(n.path("out.ndjson")) {
					if text, _ := d["message"].(string); strings.HasSuffix(want, text) && len(text) > len(want)-60 {
						return nil
					}
				}
				return fmt.Errorf("no document holds %.200q", want)
			}))
		}
		if waited := time.Since(last); waited > 5*time.Second {
			t.Errorf("the last event left after %v", waited)
		}
		for _, d := range n.documents(n.path("out.ndjson")) {
			if text, _ := d["message"].(string); strings.Contains(text, "beside") && text != "beside" || d["partial"] != nil {
				t.Errorf("a document is torn or glued: partial %v, %d bytes at %v of %v: %.100q", d["partial"], len(text), d["offset"], d["file"], text)
			}
		}
		n.stop(0)
	}
}

// longestTraces are real traces of Java, with a first line of 40 KiB, of Go and Python.
func longestTraces(t *testing.T) (traces []string) {
	t.Helper()
	for _, name := range []string{"java", "go", "python"} {
		data, err := os.ReadFile(filepath.Join("../../parser/testdata/traces", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		longest := ""
		for event := range strings.SplitSeq(string(data), "=====\n") {
			if event = strings.TrimRight(event, "\n"); len(event) > len(longest) {
				longest = event
			}
		}
		if name == "java" {
			longest = strings.Replace(longest, "\n", " "+strings.Repeat("w", 40<<10)+"\n", 1)
		}
		traces = append(traces, longest)
	}
	return traces
}
