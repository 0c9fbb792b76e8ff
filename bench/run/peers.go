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
	name string // of its program, its package in test/env/packages and its configuration
	// files are those of bench/peers that it reads beside its configuration.
	files []string
	// modules is where its modules lie, in the tree of its packages.
	modules string
	args    func(dir, modules string) []string
}

var peers = []peer{
	{"rsyslogd", []string{"nginx.rulebase"}, "usr/lib/*/rsyslog", func(dir, modules string) []string {
		return []string{"-n", "-C", "-i", filepath.Join(dir, "pid"), "-M", modules, "-f", filepath.Join(dir, "rsyslogd.conf")}
	}},
	{"syslog-ng", nil, "usr/lib/syslog-ng/*", func(dir, modules string) []string {
		return []string{"-F", "--no-caps", "--module-path", modules, "-f", filepath.Join(dir, "syslog-ng.conf"), "-R", filepath.Join(dir, "persist"),
			"-p", filepath.Join(dir, "pid"), "-c", filepath.Join(dir, "control")}
	}},
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
	ctx, cancel := context.WithTimeout(b.ctx, 15*time.Minute)
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
	program, err := exec.CommandContext(ctx, "test/env/fetch", other.name).Output()
	if err != nil {
		return p, fmt.Errorf("test/env/fetch: %w", err)
	}
	command := strings.TrimSpace(string(program))
	modules, _ := filepath.Glob(filepath.Join(filepath.Dir(command), "tree", other.modules))
	if len(modules) == 0 {
		return p, errors.New("its modules are not in its packages")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return p, err
	}
	defer log.Close()
	cmd := exec.Command(command, other.args(dir, modules[0])...)
	cmd.Stdout, cmd.Stderr = log, log
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
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait() // its code says nothing here
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
