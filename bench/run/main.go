// Run measures the agent against bench/limit, the loop written by hand, and against
// its promises, and appends what it found to bench/results/DATE.md.
//
//	go run ./bench/run                 everything, about ten minutes
//	go run ./bench/run -only speed     one part: speed, rules, memory, latency, idle, pods, start;
//	                                   kafka: to a real broker and back, with each codec;
//	                                   passing: an indexer before an Elasticsearch that only acknowledges, beside
//	                                   bench/carry, the loop written by hand that only carries, two minutes;
//	                                   elastic: both ways to a real Elasticsearch, whose CPU is measured too, two minutes
//	go run ./bench/run -only peers     other agents on the same file: bench/peers/README.md
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the benchmarks.
type bench struct {
	ctx    context.Context
	bin    string // the agent
	limit  string // the hand-written loop
	carry  string // and that of the indexer's way
	loggen string
	cache  string // the files to read, kept between runs
	work   string // everything else, removed afterwards
	rounds int
	// patience is how long nobody asks an agent how far it is: asking is work for it, too.
	patience time.Duration
	report   report
}

// parts are the measurements, in their order.
var parts = []struct {
	name string
	run  func(*bench) error
}{
	{"start", (*bench).startUp},
	{"latency", (*bench).latency},
	{"idle", (*bench).idleFiles},
	{"pods", (*bench).pods},
	{"speed", (*bench).speed},
	{"rules", (*bench).rules},
	{"memory", (*bench).memory},
	{"kafka", (*bench).kafka},
	{"passing", (*bench).passing},
	{"elastic", (*bench).elastic},
	{"peers", (*bench).peers}, // measures others: only by name
}

func main() {
	only := flag.String("only", "", "measure only these, separated by commas: speed, rules, memory, latency, idle, pods, start, kafka, passing, elastic; or peers")
	rounds := flag.Int("rounds", 5, "rounds of each speed measurement; the median counts")
	keep := flag.Bool("n", false, "print only, do not append to bench/results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *rounds, !*keep); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, rounds int, save bool) error {
	work, err := os.MkdirTemp("", "tw-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{ctx: ctx, work: work, rounds: rounds}
	if err := b.build(); err != nil {
		return err
	}
	if err := b.report.begin(ctx); err != nil {
		return err
	}
	for _, p := range parts {
		if !strings.Contains(","+cmp.Or(only, "start,latency,idle,pods,speed,rules,memory,kafka,passing,elastic")+",", ","+p.name+",") {
			continue
		}
		if err := p.run(b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if !save {
		return nil
	}
	return b.report.save("bench/results")
}

// build compiles what is measured. The agent is built as `make build` does, unless
// $TAILWATER_BIN names one.
func (b *bench) build() error {
	for _, p := range []struct {
		bin *string
		pkg string
	}{{&b.limit, "./bench/limit"}, {&b.carry, "./bench/carry"}, {&b.loggen, "./bench/loggen"}, {&b.bin, "./cmd/tailwater"}} {
		if given := os.Getenv("TAILWATER_BIN"); given != "" && p.bin == &b.bin {
			b.bin = given
			continue
		}
		*p.bin = filepath.Join(b.work, filepath.Base(p.pkg))
		cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", *p.bin, p.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s (run it from the project's root): %w\n%s", p.pkg, err, out)
		}
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	b.cache = filepath.Join(base, "tailwater-bench")
	if dir := os.Getenv("TAILWATER_BENCH_CACHE"); dir != "" {
		b.cache = dir
	}
	return os.MkdirAll(b.cache, 0o755)
}

// fileSize is that of each file that is read: large enough that starting and stopping
// do not count.
const fileSize = "512MiB"

// file returns a file of the kind, made with that seed unless a former run did.
func (b *bench) file(kind string, seed int) (string, error) {
	return b.make(fmt.Sprintf("%s-%s-v1-%d.log", kind, fileSize, seed), "-kind", kind, "-size", fileSize, "-seed", fmt.Sprint(seed))
}

// gateway returns a file of nginx lines with so many different numbers in their paths.
func (b *bench) gateway(numbers int) (string, error) {
	return b.make(fmt.Sprintf("nginx-%s-v1-numbers-%d.log", fileSize, numbers), "-kind", "nginx", "-size", fileSize, "-numbers", fmt.Sprint(numbers))
}

// make has loggen make a file, unless it is there.
func (b *bench) make(base string, args ...string) (string, error) {
	name := filepath.Join(b.cache, base)
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	fmt.Fprintf(os.Stderr, "making %s\n", base)
	cmd := exec.CommandContext(b.ctx, b.loggen, append(args, "-o", name+".part")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, os.Rename(name+".part", name)
}
