package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// home makes a directory for an agent that reads DIR/logs/** to DIR/out.ndjson.
func (b *bench) home(name string) (*rig.Home, error) {
	h := &rig.Home{Bin: b.bin, Dir: filepath.Join(b.work, name)}
	if err := os.MkdirAll(filepath.Join(h.Dir, "logs"), 0o755); err != nil {
		return nil, err
	}
	return h, h.WriteConfig("inputs:\n  bench:\n    files: ['$DIR/logs/**/*.log']\n    format: plain\n    multiline: none\noutputs:\n  out: {file: {path: '$DIR/out.ndjson'}}\n")
}

// latency writes 1,000 lines a second and looks when each is in the output file.
func (b *bench) latency() error {
	home, err := b.home("latency")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	a, err := home.Start()
	if err != nil {
		return err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(home.Dir, "logs", "app.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	const lines = 10_000
	written := make(chan error, 1)
	go func() { written <- everyMillisecond(ctx, log, lines) }()
	delays, err := arrivals(ctx, filepath.Join(home.Dir, "out.ndjson"), lines)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, home.LogTail())
	}
	if err := <-written; err != nil {
		return err
	}
	slices.Sort(delays)
	b.report.section("Latency", "1,000 lines a second, from a line's writing to its document in the output file", "what", "measured", "wanted")
	for _, q := range []struct {
		name   string
		of1000 int
		want   string
	}{{"p50", 500, ""}, {"p99", 990, "200ms"}, {"max", 999, ""}} {
		b.report.row(q.name, delays[len(delays)*q.of1000/1000].Round(100*time.Microsecond).String(), q.want)
	}
	return nil
}

// everyMillisecond writes lines whose text is the time of their writing.
func everyMillisecond(ctx context.Context, w io.Writer, lines int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for n := 0; n < lines; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for due := int(time.Since(start) / time.Millisecond); n < min(due, lines); n++ {
			if _, err := fmt.Fprintf(w, "%d\n", time.Now().UnixNano()); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrivals reads the output file as it grows, and returns how old each line was.
func arrivals(ctx context.Context, name string, lines int) (delays []time.Duration, err error) {
	var f *os.File
	var held []byte
	block := make([]byte, 1<<20)
	for len(delays) < lines {
		if f == nil {
			if f, err = os.Open(name); err == nil {
				defer f.Close()
			}
		}
		n := 0
		if f != nil {
			n, _ = f.Read(block)
		}
		now := time.Now().UnixNano()
		if n == 0 {
			select {
			case <-time.After(time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("%d of %d lines arrived", len(delays), lines)
			}
		}
		held = append(held, block[:n]...)
		for {
			end := bytes.IndexByte(held, '\n')
			if end < 0 {
				break
			}
			var doc struct{ Message string }
			if err := json.Unmarshal(held[:end], &doc); err != nil {
				return nil, err
			}
			at, err := strconv.ParseInt(doc.Message, 10, 64)
			if err != nil {
				return nil, err
			}
			delays = append(delays, time.Duration(now-at))
			held = held[end+1:]
		}
	}
	return delays, nil
}

// idleFiles watches 20,000 files of which 10 are written to, 10 lines a second each.
func (b *bench) idleFiles() error {
	home, err := b.home("idle")
	if err != nil {
		return err
	}
	const files, active = 20_000, 10
	var busy []*os.File
	for i := range files {
		name := filepath.Join(home.Dir, "logs", fmt.Sprintf("d%03d", i%200), fmt.Sprintf("f%d.log", i))
		if err := write(name, fmt.Sprintf("the first line of file %d\n", i)); err != nil {
			return err
		}
		if i%(files/active) == 0 {
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			busy = append(busy, f)
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 3*time.Minute)
	defer cancel()
	a, err := home.Start()
	if err != nil {
		return err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return err
	}
	if err := lines(ctx, a, files); err != nil {
		return fmt.Errorf("%w\n%s", err, home.LogTail())
	}
	// What reading them all once left behind has ten seconds to be cleaned up.
	share, after, err := cost(a, 10*time.Second, 20*time.Second, func(long time.Duration) error { return trickle(ctx, busy, long) })
	if err != nil {
		return err
	}
	b.report.section("Idle files", "20,000 files watched, 10 of them written to", "what", "measured", "wanted")
	b.report.row("share of a core", share, "2 %")
	b.report.row("descriptors", fmt.Sprint(after.Files), "200")
	b.report.row("resident MiB", mib(float64(after.RSS)), "120")
	b.report.row("peak resident MiB", mib(float64(after.Peak)), "120")
	return nil
}

// cost has write go on for two spans, and says what share of a core the agent has taken in
// the second, and what it has in the end.
func cost(a *rig.Agent, warmUp, watched time.Duration, write func(time.Duration) error) (share string, after rig.Proc, err error) {
	if err = write(warmUp); err != nil {
		return "", after, err
	}
	before, err := a.Proc()
	if err != nil {
		return "", after, err
	}
	if err = write(watched); err != nil {
		return "", after, err
	}
	after, err = a.Proc()
	return fmt.Sprintf("%.1f %%", float64(after.Ticks-before.Ticks)/watched.Seconds()), after, err
}

// trickle writes ten lines a second to each file for so long.
func trickle(ctx context.Context, files []*os.File, long time.Duration) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, f := range files {
			if _, err := f.WriteString("one more line of a file that is not idle\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// lines waits until the agent has delivered so many.
func lines(ctx context.Context, a *rig.Agent, want int) error {
	return rig.Poll(ctx, "the lines to be delivered", func() error {
		m, err := a.Metrics()
		if err == nil && m.Sum("output_lines_total") < float64(want) {
			err = fmt.Errorf("%.0f of %d lines", m.Sum("output_lines_total"), want)
		}
		return err
	})
}

// startUp looks at the binary, and at a second start with 1,000 known files.
func (b *bench) startUp() error {
	home, err := b.home("start")
	if err != nil {
		return err
	}
	const files = 1000
	for i := range files {
		if err := write(filepath.Join(home.Dir, "logs", fmt.Sprintf("f%d.log", i)), fmt.Sprintf("the first line of file %d\n", i)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	a, err := home.Start()
	if err != nil {
		return err
	}
	defer a.Kill()
	if err := a.Ready(ctx); err != nil {
		return err
	}
	if err := lines(ctx, a, files); err != nil {
		return fmt.Errorf("%w\n%s", err, home.LogTail())
	}
	if _, err := a.Stop(ctx); err != nil {
		return err
	}
	begun := time.Now()
	again, err := home.Start()
	if err != nil {
		return err
	}
	defer again.Kill()
	if err := again.Ready(ctx); err != nil {
		return err
	}
	took := time.Since(begun)
	binary, err := os.Stat(b.bin)
	if err != nil {
		return err
	}
	b.report.section("Start", "the binary, and a start with 1,000 known files", "what", "measured", "wanted")
	b.report.row("binary, MiB", fmt.Sprintf("%.1f", float64(binary.Size())/(1<<20)), "32")
	b.report.row("until ready", took.Round(time.Millisecond).String(), "100ms")
	return nil
}
