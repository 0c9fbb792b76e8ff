package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// gatewayFormat is the log_format of the files that loggen makes.
const gatewayFormat = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_time $upstream_response_time $request_id`

// formats are what is measured: the kind of file, how the agent is told of it, and the
// share of the limit's speed that it is to reach.
var formats = []struct {
	kind, format string
	share        float64
}{
	{"nginx", "{nginx: '" + gatewayFormat + "'}", 0.5},
	{"json", "json", 0.4},
	{"app", "app", 0.4},
}

// pass is one reading of some files.
type pass struct {
	bytes int64
	cpu   time.Duration
	wall  time.Duration // until the last byte was read
	peak  int64         // resident bytes
}

func (p pass) perCPU() float64  { return float64(p.bytes) / 1e6 / p.cpu.Seconds() }
func (p pass) perWall() float64 { return float64(p.bytes) / 1e6 / p.wall.Seconds() }

// speed compares megabytes per CPU second, and one core with two.
func (b *bench) speed() error {
	limits, err := b.limits()
	if err != nil {
		return err
	}
	limit := median(limits)
	b.report.section("Speed", "discard, checkpoint, metrics and ids on; MB = 10^6 bytes; the limit is bench/limit on the nginx file",
		"what", "MB per CPU second", "of the limit", "wanted", "MB per second", "peak resident MiB")
	b.report.row("limit (nginx)", fmt.Sprintf("%.0f", limit), "1.00", "", "", "")
	for _, f := range formats {
		if err := b.compare(f.kind, f.format, f.share, limit); err != nil {
			return fmt.Errorf("%s: %w", f.kind, err)
		}
	}
	again, err := b.limits()
	if err != nil {
		return err
	}
	b.report.note(fmt.Sprintf("limit before and after, MB per CPU second: %.0f, %.0f", limits, again))
	return nil
}

// compare measures one format on one core, on two, and prints both.
func (b *bench) compare(kind, format string, share, limit float64) error {
	var files []string
	for seed := 1; seed <= 2; seed++ {
		name, err := b.file(kind, seed)
		if err != nil {
			return err
		}
		files = append(files, name)
	}
	var one, two []pass
	for range b.rounds {
		for cpus, to := range map[int]*[]pass{1: &one, 2: &two} {
			p, err := b.pass(format, files, cpus)
			if err != nil {
				return err
			}
			*to = append(*to, p)
		}
	}
	single, double := middle(one), middle(two)
	b.report.row(kind+", 1 core", fmt.Sprintf("%.0f", single.perCPU()), fmt.Sprintf("%.2f", single.perCPU()/limit), fmt.Sprintf("%.2f", share),
		fmt.Sprintf("%.0f", single.perWall()), mib(single.peak))
	b.report.row(kind+", 2 cores, 2 files", fmt.Sprintf("%.0f", double.perCPU()), fmt.Sprintf("%.2f", double.perCPU()/limit), "",
		fmt.Sprintf("%.0f (%.2f times one core's, wanted 1.70)", double.perWall(), double.perWall()/single.perWall()), mib(double.peak))
	return nil
}

// pass has a new agent read the files into discard.
func (b *bench) pass(format string, files []string, cpus int) (p pass, err error) {
	dir, err := os.MkdirTemp(b.work, "pass")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return p, err
		}
		p.bytes += info.Size()
	}
	home := &rig.Home{Bin: b.bin, Dir: dir}
	err = home.WriteConfig(fmt.Sprintf("limits: {cpus: %d}\ninputs:\n  bench:\n    files: ['%s']\n    format: %s\noutputs:\n  nowhere: {discard: {}}\n",
		cpus, strings.Join(files, "', '"), format))
	if err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	start := time.Now()
	a, err := home.Start()
	if err != nil {
		return p, err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return p, err
	}
	err = rig.Poll(ctx, "the files to be read", func() error {
		m, err := a.Metrics()
		if err != nil {
			return err
		}
		if got := m.Sum("read_bytes_total"); got < float64(p.bytes) {
			return fmt.Errorf("%.0f of %d bytes are read\n%s", got, p.bytes, home.LogTail())
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	p.wall = time.Since(start)
	if err := a.Drain(ctx); err != nil {
		return p, err
	}
	p.cpu, p.peak = a.Usage()
	return p, nil
}

var limitLine = regexp.MustCompile(`^(\d+) MB per CPU second \(\d+ bytes, \d+ lines, 0 not of the format`)

// limits measures the hand-written loop a few times.
func (b *bench) limits() ([]float64, error) {
	name, err := b.file("nginx", 1)
	if err != nil {
		return nil, err
	}
	var all []float64
	for range b.rounds {
		out, err := exec.CommandContext(b.ctx, b.limit, name).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("limit: %w: %s", err, out)
		}
		m := limitLine.FindSubmatch(bytes.TrimSpace(out))
		if m == nil {
			return nil, fmt.Errorf("limit says %q", out)
		}
		mb, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return nil, err
		}
		all = append(all, mb)
	}
	return all, nil
}

// memory drains a backlog of 2 GB and looks at what stays resident.
func (b *bench) memory() error {
	var files []string
	for seed := 1; seed <= 4; seed++ {
		name, err := b.file("nginx", seed)
		if err != nil {
			return err
		}
		files = append(files, name)
	}
	p, err := b.pass(formats[0].format, files, 2)
	if err != nil {
		return err
	}
	b.report.section("Memory", "a backlog of 2 GB, nginx, two cores", "what", "measured", "wanted")
	b.report.row("peak resident MiB", mib(p.peak), "48")
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// middle is the pass with the median CPU time.
func middle(passes []pass) pass {
	passes = slices.SortedFunc(slices.Values(passes), func(a, b pass) int { return int(a.cpu - b.cpu) })
	return passes[len(passes)/2]
}

func mib(n int64) string { return fmt.Sprintf("%.0f", float64(n)/(1<<20)) }

// write makes a file with its directories.
func write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
