package agent

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestALoudFlowTakesTurnsWithTheQuiet(t *testing.T) {
	s := newScheduler()
	loud, quiet := new(flow), new(flow)
	s.wake(loud)
	s.wake(quiet)
	var order []*flow
	for range 4 {
		f := s.next()
		order = append(order, f)
		s.ran(f, f == loud)
		if f == quiet {
			s.wake(quiet)
		}
	}
	if order[0] != loud || order[1] != quiet || order[2] != loud || order[3] != quiet {
		t.Fatal("the loud flow came twice in a row")
	}
}

func TestAWakeDuringTheTurnIsNotLost(t *testing.T) {
	s := newScheduler()
	f := new(flow)
	s.wake(f)
	s.next()
	s.wake(f)
	s.wake(f)
	s.ran(f, false)
	if s.next() != f {
		t.Fatal("not run again")
	}
	s.ran(f, false)
	if !s.retire(f) {
		t.Fatal("a resting flow cannot retire")
	}
	s.wake(f)
	s.close()
	if s.next() != nil {
		t.Fatal("a retired flow was run")
	}
}

func TestAPauseWaitsForTheTurnsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler()
		f := new(flow)
		s.wake(f)
		s.next()
		paused := false
		var wait sync.WaitGroup
		wait.Go(func() {
			s.pause()
			paused = true
		})
		synctest.Wait()
		if paused {
			t.Fatal("paused in the middle of a turn")
		}
		s.ran(f, true)
		wait.Wait()
		ran := false
		wait.Go(func() { ran = s.next() == f })
		synctest.Wait()
		if ran {
			t.Fatal("a turn began during the pause")
		}
		s.resume()
		wait.Wait()
		if !ran {
			t.Fatal("no turn after the pause")
		}
	})
}

// TestAFewShortTurnsAreOneWorkers: another comes when they take long, or when the first is
// held up.
func TestAFewShortTurnsAreOneWorkers(t *testing.T) {
	for _, c := range []struct {
		what  string
		turn  time.Duration
		urged bool
		want  int // workers
	}{
		{what: "short turns", turn: time.Microsecond, want: 1},
		{what: "long turns", turn: time.Millisecond, want: 2},
		{what: "a slow disk", turn: time.Minute, urged: true, want: 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newScheduler()
			var ran [2]int
			var workers sync.WaitGroup
			for i := range ran {
				workers.Go(func() {
					for f := s.next(); f != nil; f = s.next() {
						ran[i]++
						time.Sleep(c.turn)
						s.ran(f, false)
					}
				})
			}
			synctest.Wait()
			for range 10 {
				s.wake(new(flow))
			}
			if c.urged {
				time.Sleep(pollEvery)
				s.urge()
			}
			time.Sleep(time.Hour)
			s.close()
			workers.Wait()
			at := 0
			for _, n := range ran {
				at += min(n, 1)
			}
			if ran[0]+ran[1] != 10 || at != c.want {
				t.Errorf("%s: they run %v, want %d workers", c.what, ran, c.want)
			}
		})
	}
}
