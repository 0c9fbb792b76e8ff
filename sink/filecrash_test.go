package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// crashed is what the test panics with where the process is killed.
type crashed struct{}

// Whatever happens, and wherever the process is killed: after the last restart each
// line is in the files exactly once.
func TestRandomCrashesDoubleNothingAndLoseNothing(t *testing.T) {
	for seed := range uint64(150) {
		playCrashes(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func playCrashes(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	notes := &pad{}
	config := FileConfig{Path: filepath.Join(dir, "{project}.ndjson"), Notes: notes, Rotate: 2000, Gzip: seed%2 == 0, MaxOpen: 4, Fsync: FsyncNever}
	clock := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	projects := []string{"a", "b", "c", "d", "e", "f", "g"}[:1+rng.IntN(7)]

	var saved json.RawMessage // the checkpoint: the sink's state and the position
	savedAt := 0
	at := 0 // the next line
	var s *File
	begin := func() {
		s = restored(t, config, saved)
		s.now = func() time.Time { return clock }
		at = savedAt
	}
	write := func() {
		var blocks []*record.Block
		n := at
		for range 1 + rng.IntN(4) {
			b := docs(projects[rng.IntN(len(projects))], fmt.Sprint(n), fmt.Sprint(n+1))
			blocks, n = append(blocks, b), n+2
		}
		send(t, s, blocks...)
		at = n
	}
	step := func() (killed bool) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(crashed); !ok {
					panic(r)
				}
				killed = true
			}
		}()
		clock = clock.Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
		switch rng.IntN(10) {
		default:
			write()
		case 0, 1:
			state, atCommit := commit(t, s), at
			for range rng.IntN(3) { // deliveries go on while the checkpoint is saved
				write()
			}
			switch rng.IntN(4) {
			case 0: // the save fails
			case 1: // killed right after it
				saved, savedAt = state, atCommit
				return true
			default:
				saved, savedAt = state, atCommit
				s.Saved()
			}
		case 2:
			path := filepath.Join(dir, projects[rng.IntN(len(projects))]+".ndjson")
			if err := os.Rename(path, fmt.Sprintf("%s.old%d", path, rng.IntN(1000000))); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			clock = clock.Add(time.Second) // so that it is noticed
		case 3:
			return rng.IntN(3) == 0
		}
		return false
	}
	notes.crash = func(bool) {
		if rng.IntN(20) == 0 {
			panic(crashed{})
		}
	}
	begin()
	for range 60 {
		if step() {
			s.Close()
			begin()
		}
	}
	notes.crash = nil
	for range 2 {
		saved, savedAt = commit(t, s), at
		s.Saved()
	}
	s.zipping.Wait()
	s.Close()
	begin()
	s.Close()
	checkOnce(t, dir, at)
}

func checkOnce(t *testing.T, dir string, lines int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, e := range entries {
		for _, m := range messagesIn(t, filepath.Join(dir, e.Name())) {
			count[m]++
		}
	}
	for i := range lines {
		if n := count[fmt.Sprint(i)]; n != 1 {
			t.Errorf("line %d of %d is there %d times", i, lines, n)
		}
		delete(count, fmt.Sprint(i))
	}
	for _, m := range slices.Sorted(maps.Keys(count)) {
		t.Errorf("line %s is there although it was never acknowledged", m)
	}
}
