package rig

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Metrics are the agent's, by name and labels as /metrics writes them.
type Metrics map[string]float64

// Metrics asks the agent for its metrics.
func (a *Agent) Metrics() (Metrics, error) {
	body, err := a.Get("/metrics")
	if err != nil {
		return nil, err
	}
	m := make(Metrics)
	for line := range bytes.Lines(body) {
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(text, ' ')
		if i < 0 {
			return nil, fmt.Errorf("metrics: %q", text)
		}
		v, err := strconv.ParseFloat(text[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", text, err)
		}
		m[text[:i]] = v
	}
	return m, nil
}

// Sum adds up all series of the metric tailwater_NAME that have every one of the
// labels, each given as name="value".
func (m Metrics) Sum(name string, labels ...string) float64 {
	total := 0.0
series:
	for key, v := range m {
		family, rest, _ := strings.Cut(key, "{")
		if family != "tailwater_"+name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue series
			}
		}
		total += v
	}
	return total
}

// Proc is what the kernel knows of the running process.
type Proc struct {
	RSS   int64 // bytes
	Peak  int64 // bytes
	Files int   // open descriptors
	Ticks int64 // CPU time in hundredths of a second
}

// Proc reads /proc.
func (a *Agent) Proc() (Proc, error) {
	var p Proc
	dir := fmt.Sprintf("/proc/%d/", a.PID())
	status, err := os.Open(dir + "status")
	if err != nil {
		return p, err
	}
	defer status.Close()
	for s := bufio.NewScanner(status); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			p.RSS = kib << 10
		case "VmHWM":
			p.Peak = kib << 10
		}
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return p, err
	}
	// The command's name, in brackets, may hold blanks; utime and stime are the 14th
	// and 15th field.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return p, fmt.Errorf("%sstat: %w", dir, err)
		}
		p.Ticks += n
	}
	fds, err := os.ReadDir(dir + "fd")
	p.Files = len(fds)
	return p, err
}
