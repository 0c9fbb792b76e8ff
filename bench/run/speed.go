package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
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
	wall  time.Duration // until the last byte was shipped
	peak  int64         // resident bytes
}

func (p pass) perCPU() float64  { return float64(p.bytes) / 1e6 / p.cpu.Seconds() }
func (p pass) perWall() float64 { return float64(p.bytes) / 1e6 / p.wall.Seconds() }

// round is the limit and the agent, measured right after each other: the machine may
// be slower in the next minute.
type round struct {
	limit    float64 // megabytes per CPU second
	both     float64 // of two limits at once, together: what the machine's second core is worth
	one, two pass    // on one core, on two
}

// speed compares megabytes per CPU second, and one core with two.
func (b *bench) speed() error {
	b.report.section("Speed", "discard, checkpoint, metrics and ids on; MB = 10^6 bytes; the limit is bench/limit on the nginx file, measured in each round; medians",
		"what", "MB per CPU second", "the limit's", "of the limit", "wanted", "MB per second", "peak resident MiB")
	for _, f := range formats {
		if err := b.compare(f.kind, f.format, f.share); err != nil {
			return fmt.Errorf("%s: %w", f.kind, err)
		}
	}
	return nil
}

// compare measures one format, on one core and on two, and prints both.
func (b *bench) compare(kind, format string, share float64) error {
	files, err := b.files(kind, 2)
	if err != nil {
		return err
	}
	var rounds []round
	for range b.rounds {
		var r round
		if r.limit, err = b.measureLimit(); err != nil {
			return err
		}
		if r.both, err = b.measureLimits(2); err != nil {
			return err
		}
		if r.one, err = b.pass(format, files, 1); err != nil {
			return err
		}
		if r.two, err = b.pass(format, files, 2); err != nil {
			return err
		}
		rounds = append(rounds, r)
	}
	of := func(what func(round) float64) float64 { return median(rounds, what) }
	limit := of(func(r round) float64 { return r.limit })
	b.report.row(kind+", 1 core", fmt.Sprintf("%.0f", of(func(r round) float64 { return r.one.perCPU() })), fmt.Sprintf("%.0f", limit),
		fmt.Sprintf("%.2f", of(func(r round) float64 { return r.one.perCPU() / r.limit })), fmt.Sprintf("%.2f", share),
		fmt.Sprintf("%.0f", of(func(r round) float64 { return r.one.perWall() })), mib(of(func(r round) float64 { return float64(r.one.peak) })))
	b.report.row(kind+", 2 cores", fmt.Sprintf("%.0f", of(func(r round) float64 { return r.two.perCPU() })), fmt.Sprintf("%.0f", limit),
		fmt.Sprintf("%.2f", of(func(r round) float64 { return r.two.perCPU() / r.limit })), "",
		fmt.Sprintf("%.0f: %.2f times one core's, wanted 1.70; two limits at once make %.2f times one's", of(func(r round) float64 { return r.two.perWall() }),
			of(func(r round) float64 { return r.two.perWall() / r.one.perWall() }), of(func(r round) float64 { return r.both / r.limit })), mib(of(func(r round) float64 { return float64(r.two.peak) })))
	return nil
}

// files are the first n files of the kind.
func (b *bench) files(kind string, n int) ([]string, error) {
	var files []string
	for seed := 1; seed <= n; seed++ {
		name, err := b.file(kind, seed)
		if err != nil {
			return nil, err
		}
		files = append(files, name)
	}
	return files, nil
}

// lastEvent bounds, in bytes, what a file's last event may hold back.
const lastEvent = 64 << 10

// pass has a new agent read the files into discard.
func (b *bench) pass(format string, files []string, cpus int) (pass, error) {
	return b.ship(format, files, cpus, "discard: {}")
}

// ship has a new agent read the files into an output, and waits until it has them.
func (b *bench) ship(format string, files []string, cpus int, output string) (pass, error) {
	return b.shipWatched(format, files, cpus, output, "")
}

// shipWatched is ship with the section `alerts` of the configuration.
func (b *bench) shipWatched(format string, files []string, cpus int, output, alerts string) (p pass, err error) {
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
	err = home.WriteConfig(fmt.Sprintf("limits: {cpus: %d}\ninputs:\n  bench:\n    files: ['%s']\n    format: %s\noutputs:\n  there: {%s}\n%s",
		cpus, strings.Join(files, "', '"), format, output, alerts))
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
		time.Sleep(b.patience)
		m, err := a.Metrics()
		if err != nil {
			return err
		}
		// The last event of a file waits for what may belong to it, which is no work.
		if got := m.Sum("read_bytes_total"); got < float64(p.bytes-int64(len(files))*lastEvent) {
			return fmt.Errorf("%.0f of %d bytes are read\n%s", got, p.bytes, home.LogTail())
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	read := time.Since(start)
	if err := a.Drain(ctx); err != nil {
		return p, err
	}
	// With discard what is read is shipped, and the agent's stopping does not count.
	if p.wall = time.Since(start); output == "discard: {}" {
		p.wall = read
	}
	p.cpu, p.peak = a.Usage()
	return p, nil
}

var limitLine = regexp.MustCompile(`^(\d+) MB per CPU second \(\d+ bytes, \d+ lines, 0 not of the format`)

// measureLimit runs the hand-written loop once, in megabytes per CPU second.
func (b *bench) measureLimit() (float64, error) {
	name, err := b.file("nginx", 1)
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(b.ctx, b.limit, name).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("limit: %w: %s", err, out)
	}
	m := limitLine.FindSubmatch(bytes.TrimSpace(out))
	if m == nil {
		return 0, fmt.Errorf("limit says %q", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// measureLimits runs so many of the loops at once, and returns the sum of what they make.
func (b *bench) measureLimits(n int) (sum float64, err error) {
	type result struct {
		speed float64
		err   error
	}
	results := make(chan result)
	for range n {
		go func() {
			speed, err := b.measureLimit()
			results <- result{speed, err}
		}()
	}
	for range n {
		r := <-results
		sum += r.speed
		err = cmp.Or(err, r.err)
	}
	return sum, err
}

// memory drains a backlog of 2 GB and looks at what stays resident.
func (b *bench) memory() error {
	files, err := b.files("nginx", 4)
	if err != nil {
		return err
	}
	p, err := b.pass(formats[0].format, files, 2)
	if err != nil {
		return err
	}
	b.report.section("Memory", "a backlog of 2 GB, nginx, two cores", "what", "measured", "wanted")
	b.report.row("peak resident MiB", mib(float64(p.peak)), "48")
	return nil
}

// median is that of what the rounds have measured.
func median[R any](rounds []R, what func(R) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, what(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// countLines is how many lines the files have together.
func countLines(files []string) (n int64, err error) {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		buf := make([]byte, 1<<20)
		for {
			m, err := f.Read(buf)
			n += int64(bytes.Count(buf[:m], []byte("\n")))
			if err == io.EOF {
				break
			}
			if err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func mib(n float64) string { return fmt.Sprintf("%.0f", n/(1<<20)) }

// write makes a file with its directories.
func write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
