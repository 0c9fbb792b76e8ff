package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// report collects the figures as Markdown, and shows them as they come.
type report struct {
	text bytes.Buffer
	at   time.Time
}

// begin writes the heading: when, of which commit, on what kind of machine.
func (r *report) begin(ctx context.Context) error {
	r.at = time.Now().UTC()
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	r.print("\n## %s UTC, commit %s\n\n%s, %d CPUs, %s memory, Linux %s, %s; load average before: %s\n", r.at.Format("15:04"), bytes.TrimSpace(commit),
		procValue("/proc/cpuinfo", "model name"), runtime.NumCPU(), procValue("/proc/meminfo", "MemTotal"), kernel(), runtime.Version(), load())
	return nil
}

// section begins a table.
func (r *report) section(title, about string, columns ...string) {
	r.print("\n### %s\n\n%s\n\n", title, about)
	r.row(columns...)
	r.print("|%s\n", strings.Repeat("---|", len(columns)))
}

// row adds a line to the table.
func (r *report) row(cells ...string) { r.print("| %s |\n", strings.Join(cells, " | ")) }

func (r *report) print(format string, args ...any) {
	fmt.Fprintf(&r.text, format, args...)
	fmt.Printf(format, args...)
}

// save appends everything to the day's file.
func (r *report) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, r.at.Format(time.DateOnly)+".md")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	var head string
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		head = "# Benchmarks of " + r.at.Format(time.DateOnly) + "\n"
	}
	if _, err := f.WriteString(head + r.text.String()); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// procValue is the value of the first line of a file in /proc that begins with key.
func procValue(name, key string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// kernel is the release's number without what the builder added.
func kernel() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-")
	return number
}

// load is the load average of the last minute: on a machine that others use, the
// figures per CPU second hold better than those per second.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}
