// Loggen writes the logs of a small shop: the access log of its gateway and the
// application logs of three services behind it, whose lines share request_ids.
//
//	go run ./bench/loggen -dir out/live -rate 200 -rotate 30s
//
// writes live traffic, with bursts of errors, of 5xx and of slow upstreams, until it
// is interrupted or -duration has passed:
//
//	DIR/nginx/access.log            nginx, the format of the gateway example
//	DIR/apps/orders/app.log         Java, logback, with stack traces
//	DIR/apps/payments/app.log       Go, zap JSON
//	DIR/apps/catalog/app.log        Python logging, with tracebacks; rotated by copytruncate
//
//	go run ./bench/loggen -kind nginx -size 1GiB -o access.log
//
// writes one file for a benchmark as fast as it can: nginx (279 bytes a line on
// average), json (451) or app (text with stack traces). The same seed gives the same
// bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	var (
		dir      = flag.String("dir", "", "write live traffic below this directory")
		rate     = flag.Float64("rate", 100, "requests per second at the gateway")
		duration = flag.Duration("duration", 0, "stop after this time; 0: when interrupted")
		rotate   = flag.Duration("rotate", 0, "rotate the live files this often; 0: never")
		keep     = flag.Int("keep", 3, "rotated files that are kept of each")
		seed     = flag.Uint64("seed", 1, "the same seed gives the same traffic")
		kind     = flag.String("kind", "", "write one file for a benchmark: nginx, json or app")
		out      = flag.String("o", "", "the file that -kind writes")
		numbers  = flag.Int("numbers", 900_000, "how many different numbers of orders, payments and products there are")
		size     = flag.String("size", "256MiB", "the size of the file that -kind writes, to the next whole event")
	)
	flag.Parse()
	var err error
	switch {
	case *kind != "" && *out != "":
		err = writeStatic(*out, *kind, *size, *seed, *numbers)
	case *dir != "":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if *duration > 0 {
			ctx, stop = context.WithTimeout(ctx, *duration)
			defer stop()
		}
		err = writeLive(ctx, live{dir: *dir, rate: *rate, rotateEvery: *rotate, keep: *keep, seed: *seed})
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loggen:", err)
		os.Exit(1)
	}
}

// parseSize reads 1000, 64KiB, 256MiB or 2GiB.
func parseSize(s string) (int64, error) {
	factor := int64(1)
	digits := s
	for unit, f := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(s, unit); ok {
			digits, factor = d, f
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("-size %q: want a number of bytes such as 64MiB", s)
	}
	return n * factor, nil
}

// staticStart is the time of the first line of every file for benchmarks.
var staticStart = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
