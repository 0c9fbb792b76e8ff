package parser

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// traces returns the events of each file in testdata/traces: they are separated by a
// line of equals signs there, and follow each other directly in a log.
func traces(t testing.TB) map[string][]string {
	files, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no traces", err)
	}
	all := make(map[string][]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		all[name] = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n=====\n")
	}
	return all
}

func TestTracesStayInOnePiece(t *testing.T) {
	for name, events := range traces(t) {
		t.Run(name, func(t *testing.T) {
			wantTexts(t, frameAll(t, framerOptions{Multiline: joinAuto}, strings.Join(events, "\n")+"\n"), events...)
		})
	}
}

// A program that logs JSON or logfmt prints its trace as any other does when it dies.
func TestTracesAmongLinesOfOneFormStayInOnePiece(t *testing.T) {
	for kind, line := range map[string]string{"json": `{"level":"info","msg":"m"}`, "logfmt": `level=info msg="m"`} {
		f, err := Compile(Config{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		for name, events := range traces(t) {
			events = slices.DeleteFunc(events, func(ev string) bool { return strings.HasPrefix(ev, "}") })
			var want []string
			for _, ev := range events {
				want = append(want, line, ev, line)
			}
			t.Run(kind+" "+name, func(t *testing.T) {
				wantTexts(t, frameAll(t, f.frame, strings.Join(want, "\n")+"\n"), want...)
			})
		}
	}
}

// What a FastCGI server says in several lines is one event; what else stands among them is
// no part of it.
func TestNginxErrorsGoOnUntilNginxEndsThem(t *testing.T) {
	f, _ := Compile(Config{Kind: "nginx-error"})
	const head = "2026/11/23 20:00:00 [error] 1#1: *7 "
	events := []string{
		head + "FastCGI sent in stderr: \"PHP message: no stock\nStack trace:\n#0 {main}\" while reading response header from upstream, client: 10.0.0.1, server: x",
		"no line of nginx",
		"2026/11/23 20:00:00 [notice] 1#1: start worker process 7",
		"nor this",
		head + "connect() failed, client: 10.0.0.1, server: x",
		"nor this",
		head + "lua entry thread aborted: runtime error: x\nstack traceback:\ncoroutine 0:\n\t[C]: in function 'f', client: 10.0.0.1, server: x",
		strings.Replace(head, "error", "info", 1) + "client 10.0.0.1 closed keepalive connection",
		"nor this",
		head + "cut off at two",
		head + "connect() failed, client: 10.0.0.1, server: x\n and goes on",
	}
	wantTexts(t, frameAll(t, f.frame, strings.Join(events, "\n")+"\n"), events...)
}

// Objects that are written for people to read are events too.
func TestObjectsOverSeveralLines(t *testing.T) {
	f, _ := Compile(Config{Kind: "json"})
	events := []string{"{\n  \"level\": \"error\",\n  \"a\": {\n    \"b\": 1\n  }\n}", `{"level":"info"}`, ` {"level":"info"}`, "{\n\t\"a\": 1\n}"}
	wantTexts(t, frameAll(t, f.frame, strings.Join(events, "\n")+"\n"), events...)
}

// Two streams write traces into each other, and the runtime breaks the lines into
// parts: each trace has its own stream's lines only.
func TestTracesOfTwoStreamsInEachOther(t *testing.T) {
	all := traces(t)
	for name, events := range all {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			write := func(stream, line string) {
				for len(line) > 40 {
					fmt.Fprintf(&b, "2026-11-23T20:00:00.123456789Z %s P %s\n", stream, line[:40])
					line = line[40:]
				}
				fmt.Fprintf(&b, "2026-11-23T20:00:00.123456789Z %s F %s\n", stream, line)
			}
			other := strings.Split(strings.Join(all["java"], "\n"), "\n")
			for i, line := range strings.Split(strings.Join(events, "\n"), "\n") {
				write("stdout", line)
				write("stderr", other[i%len(other)])
			}
			var got []framed
			for _, ev := range frameAll(t, framerOptions{Multiline: joinAuto, Wrapper: wrapCRI}, b.String()) {
				if ev.Stream == 1 {
					got = append(got, ev)
				}
			}
			wantTexts(t, got, events...)
		})
	}
}

func TestEventsBeginWhereTheExpressionMatches(t *testing.T) {
	opt := framerOptions{Multiline: joinStartsWith, StartsWith: regexp.MustCompile(`^\d{4}-`)}
	wantTexts(t, frameAll(t, opt, "tail of one\nthat began earlier\n2026-11-23 a\n\nb\r\nc\n\n\n2026-11-23 d\n"),
		"tail of one\nthat began earlier", "2026-11-23 a\n\nb\nc", "2026-11-23 d")
}

// A trace of 500 lines, and of thousands, is one event; what is beyond the limit is
// in events of its own, and nothing is lost.
func TestATraceOfManyLines(t *testing.T) {
	lines := []string{"2026-11-23 20:00:00 ERROR deep"}
	for i := range 25_000 {
		lines = append(lines, fmt.Sprintf("\tat a.B.c(B.java:%d)", i))
	}
	opt := framerOptions{Multiline: joinAuto}
	one := strings.Join(lines[:501], "\n")
	wantTexts(t, frameAll(t, opt, one+"\nnext\n"), one, "next")
	got := frameAll(t, opt, strings.Join(lines, "\n")+"\n")
	wantTexts(t, got, strings.Join(lines[:10_000], "\n"), strings.Join(lines[10_000:20_000], "\n"), strings.Join(lines[20_000:], "\n"))
	if flags := []string{got[0].Flags, got[1].Flags, got[2].Flags}; !slices.Equal(flags, []string{"T", "T", ""}) {
		t.Errorf("flags %q", flags)
	}
}

func TestATraceLargerThanTheLimit(t *testing.T) {
	line := "\tat " + strings.Repeat("x", 100)
	data := "ERROR\n" + strings.Repeat(line+"\n", 100)
	got := frameAll(t, framerOptions{Multiline: joinAuto, MaxLine: 1000}, data)
	for i, ev := range got {
		if len(ev.Text) > 1000 || len(ev.Text) < 800 && i < len(got)-1 {
			t.Errorf("event %d has %d bytes", i, len(ev.Text))
		}
	}
	if all := strings.Join(texts(got), "\n") + "\n"; all != data {
		t.Errorf("%d bytes of %d", len(all), len(data))
	}
}
