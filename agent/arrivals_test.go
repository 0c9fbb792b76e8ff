package agent

import (
	"testing"
	"time"

	"github.com/tailwater/tailwater/source/tail"
)

// TestAStartWithVeryManyFilesTakesThemBitByBit: flows are made at a bounded rate, but
// for files that have one, and in the order in which the files came.
func TestAStartWithVeryManyFilesTakesThemBitByBit(t *testing.T) {
	files := make([]*tail.File, 20_000)
	place := make(map[*tail.File]int)
	for i := range files {
		files[i] = new(tail.File)
		place[files[i]] = i
	}
	busy := files[len(files)-1]
	hasFlow := func(f *tail.File) bool { return f == busy }
	var q arrivals
	q.add(files)
	q.add(files[:100]) // told of again
	now := time.Now()
	first := q.take(now, hasFlow)
	if len(first) != arrivalsBurst+1 || first[len(first)-1] != busy {
		t.Fatalf("%d files are taken at once", len(first))
	}
	seen, next := len(first), arrivalsBurst
	for took := time.Duration(0); seen < len(files); took += 100 * time.Millisecond {
		now = now.Add(100 * time.Millisecond)
		some := q.take(now, hasFlow)
		if len(some) > arrivalsEach/10+1 {
			t.Fatalf("%d files are taken after 100 ms", len(some))
		}
		for _, f := range some {
			if place[f] != next {
				t.Fatalf("file %d comes before file %d", place[f], next)
			}
			next++
		}
		seen += len(some)
		if took > 20*time.Second {
			t.Fatalf("%d files were taken in %v", seen, took)
		}
	}
	if len(q.waiting()) != 0 {
		t.Error("some wait for ever")
	}
}
