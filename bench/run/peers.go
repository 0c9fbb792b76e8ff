package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
)

// peer is another agent, as bench/peers/README.md tells.
type peer struct {
	name string // of its program and its configuration
	// files are those of bench/peers that it reads beside its configuration.
	files []string
	// debian is where its modules lie in the tree of its package in test/env/packages.
	debian string
	// source is its main package, of the module in the directory of bench/peers that has
	// its name.
	source string
	args   func(dir, modules string) []string
}

var peers = []peer{
	{name: "rsyslogd", files: []string{"nginx.rulebase"}, debian: "usr/lib/*/rsyslog", args: func(dir, modules string) []string {
		return []string{"-n", "-C", "-i", filepath.Join(dir, "pid"), "-M", modules, "-f", filepath.Join(dir, "rsyslogd.conf")}
	}},
	{name: "syslog-ng", debian: "usr/lib/syslog-ng/*", args: func(dir, modules string) []string {
		return []string{"-F", "--no-caps", "--module-path", modules, "-f", filepath.Join(dir, "syslog-ng.conf"), "-R", filepath.Join(dir, "persist"),
			"-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "control")}
	}},
	{name: "file.d", source: "github.com/ozontech/file.d/cmd/file.d", args: func(dir, _ string) []string {
		return []string{"--http=off", "--config=" + filepath.Join(dir, "file.d.conf")}
	}},
	{name: "otelcol", source: ".", args: func(dir, _ string) []string {
		return []string{"--config=" + filepath.Join(dir, "otelcol.conf")}
	}},
	{name: "filebeat", source: "github.com/elastic/beats/v7/filebeat", args: func(dir, _ string) []string {
		return []string{"--strict.perms=false", "-c", filepath.Join(dir, "filebeat.conf")}
	}},
}

// program is where the peer's program lies, fetched or built when it is not there yet,
// and its modules, when it has some.
func (b *bench) program(ctx context.Context, p peer) (command, modules string, err error) {
	if p.source != "" {
		command = filepath.Join(b.cache, "peers", p.name)
		build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join("bench/peers", p.name), "-o", command, p.source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("%w: %s", err, out)
		}
		return command, "", nil
	}
	out, err := exec.CommandContext(ctx, "test/env/fetch", p.name).Output()
	if err != nil {
		return "", "", fmt.Errorf("test/env/fetch: %w", err)
	}
	command = strings.TrimSpace(string(out))
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(command), "tree", p.debian))
	if len(found) == 0 {
		return "", "", errors.New("its modules are not in its packages")
	}
	return command, found[0], nil
}

// peerSize is that of the file that is read by all: the slow ones need a minute for it.
const peerSize = "128MiB"

// peers measures other agents on the same file, with the same broker as the agent.
func (b *bench) peers() error {
	file := filepath.Join(b.cache, "peers-"+peerSize+"-v1.log")
	if _, err := os.Stat(file); err != nil {
		cmd := exec.CommandContext(b.ctx, b.loggen, "-kind", "nginx", "-size", peerSize, "-seed", "7", "-o", file)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	lines, err := countLines([]string{file})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Minute)
	defer cancel()
	broker, stop, err := b.broker()
	if err != nil {
		return err
	}
	defer stop()
	b.report.section("Peers", fmt.Sprintf("%s of nginx lines split into typed fields; Kafka with lz4 and acks=all; one run each, see bench/peers/README.md", peerSize),
		"agent", "to", "CPU seconds per GB of log", "MB of log per CPU second", "MB of log per second", "peak resident MiB")
	row := func(name, to string, p pass) {
		b.report.row(name, to, fmt.Sprintf("%.2f", 1000/p.perCPU()), fmt.Sprintf("%.0f", p.perCPU()), fmt.Sprintf("%.0f", p.perWall()), mib(float64(p.peak)))
	}
	for _, there := range []struct{ to, output string }{
		{"null", "discard: {}"},
		{"kafka", fmt.Sprintf("kafka: {brokers: ['%s'], topic: peer-tailwater, compression: lz4}", broker)},
	} {
		p, err := b.ship(formats[0].format, []string{file}, 2, there.output)
		if err != nil {
			return err
		}
		row("tailwater", there.to, p)
	}
	for _, other := range peers {
		for _, to := range []string{"null", "kafka"} {
			p, err := b.peer(ctx, other, to, file, broker, lines)
			if err != nil {
				return fmt.Errorf("%s to %s: %w", other.name, to, err)
			}
			row(other.name, to, p)
		}
	}
	return nil
}

// peer has one read the file, and ends it when the topic has all lines, or, where
// nothing tells, when it does nothing any more.
func (b *bench) peer(ctx context.Context, other peer, to, file, broker string, lines int64) (p pass, err error) {
	dir, err := os.MkdirTemp(b.work, other.name)
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	topic := "peer-" + other.name
	for _, name := range append(other.files, other.name+".conf") {
		text, err := os.ReadFile(filepath.Join("bench/peers", name))
		if err != nil {
			return p, err
		}
		filled := strings.NewReplacer("$DIR", dir, "$FILE", file, "$BROKER", broker, "$TOPIC", topic, "#"+to, "").Replace(string(text))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(filled), 0o644); err != nil {
			return p, err
		}
	}
	command, modules, err := b.program(ctx, other)
	if err != nil {
		return p, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return p, err
	}
	defer log.Close()
	cmd := exec.Command(command, other.args(dir, modules)...)
	cmd.Stderr = log // what it writes to its standard output is for nobody
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return p, err
	}
	done := func() bool { return idle(ctx, cmd.Process.Pid) }
	if to == "kafka" {
		done = func() bool { return holds(ctx, broker, topic) >= lines }
	}
	for err == nil && !done() {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.wall = time.Since(start)
	cmd.Process.Kill() // not all of them end when they are asked to
	cmd.Wait()
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return p, fmt.Errorf("%w\n%s", err, said)
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		p.cpu, p.peak = time.Duration(u.Utime.Nano()+u.Stime.Nano()), u.Maxrss<<10
	}
	info, err := os.Stat(file)
	if err != nil {
		return p, err
	}
	p.bytes = info.Size()
	return p, nil
}

// idle tells whether a process does next to nothing for two seconds.
func idle(ctx context.Context, pid int) bool {
	before := ticks(pid)
	select {
	case <-ctx.Done():
		return true
	case <-time.After(2 * time.Second):
	}
	now := ticks(pid)
	return now > 0 && now-before <= 2
}

// ticks are the hundredths of a second that a process has used of the CPU.
func ticks(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// holds is how many records a topic has.
func holds(ctx context.Context, broker, topic string) (n int64) {
	client := &kafka.Client{Addr: kafka.TCP(broker), Timeout: 5 * time.Second}
	for partition := range 3 {
		resp, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}}})
		if err != nil {
			return n
		}
		for _, at := range resp.Topics[topic] {
			n += max(0, at.LastOffset)
		}
	}
	return n
}
