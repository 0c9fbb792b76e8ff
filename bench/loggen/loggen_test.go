package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

// TestFilesForBenchmarksDoNotChange holds the benchmark files to their promised form:
// figures are compared over months.
func TestFilesForBenchmarksDoNotChange(t *testing.T) {
	for kind, average := range map[string]float64{"nginx": 279, "json": 451.5, "app": 179} {
		one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
		for _, name := range []string{one, two} {
			if err := writeStatic(name, kind, "8MiB", 1, 900_000); err != nil {
				t.Fatal(err)
			}
		}
		a, err := os.ReadFile(one)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(two)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s: one seed gave two files", kind)
		}
		if got := float64(len(a)) / float64(bytes.Count(a, []byte("\n"))); math.Abs(got-average) > average/50 {
			t.Errorf("%s: lines of %.1f bytes on average, want about %v", kind, got, average)
		}
	}
}

// TestTheFirstMinuteHasAnIncident holds what `make run` promises: within a minute one
// service writes the ten errors at which its rule fires.
func TestTheFirstMinuteHasAnIncident(t *testing.T) {
	for seed := range uint64(100) {
		start := time.Unix(1_800_000_000, 0)
		live := newLiveTraffic(seed, start)
		errors := make([]int, len(services))
		for n := range 4500 { // 45 seconds of `make run`
			if q := live.request(start.Add(time.Duration(n) * 10 * time.Millisecond)); q.trouble == exception {
				errors[q.service]++
			}
		}
		if slices.Max(errors) < 10 {
			t.Errorf("seed %d: the services wrote %v errors", seed, errors)
		}
	}
}

// TestRotationLosesNoRequest reads back what was written through several rotations:
// whatever an agent misses of it is the agent's fault.
func TestRotationLosesNoRequest(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer stop()
	if err := writeLive(ctx, live{dir: dir, rate: 2000, rotateEvery: 100 * time.Millisecond, keep: 50, seed: 7}); err != nil {
		t.Fatal(err)
	}
	gateway := ids(t, filepath.Join(dir, "nginx", "access.log*"))
	apps := ids(t, filepath.Join(dir, "apps", "*", "app.log*"))
	if len(gateway) < 500 {
		t.Fatalf("only %d requests at the gateway", len(gateway))
	}
	for id := range apps {
		if !gateway[id] {
			t.Errorf("a service saw request %s and the gateway did not", id)
		}
	}
	// What the gateway answered itself is in no service's log, but that is rare.
	if len(apps)*10 < len(gateway)*9 {
		t.Errorf("%d of %d requests are in the services' logs", len(apps), len(gateway))
	}
}

var hexID = regexp.MustCompile(`(?m)(?:request_id["=:]+| )([0-9a-f]{32})(?:[\]" ]|$)`)

func ids(t *testing.T, glob string) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(glob)
	if err != nil || len(names) < 3 {
		t.Fatalf("%s: %d files, %v", glob, len(names), err)
	}
	found := make(map[string]bool)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range hexID.FindAllSubmatch(data, -1) {
			found[string(m[1])] = true
		}
	}
	return found
}
