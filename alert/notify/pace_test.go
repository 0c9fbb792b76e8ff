package notify

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// waits returns how long each notice of a desk took to its phone, which began together.
// The id of a notice is the time at which it was emitted.
func waits(t *testing.T, p *phone) (out []time.Duration) {
	t.Helper()
	for _, c := range p.calls() {
		for _, l := range c.lines {
			emitted, err := time.ParseDuration(strings.Fields(l)[1])
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c.after-emitted)
		}
	}
	return out
}

// fireNow emits a notice whose id says when.
func (k *desk) fireNow(p *phone) { k.fire(time.Since(p.start).String()) }

// TestANoticeThatComesAloneWaitsForNobody: for an hour something fires every few seconds,
// three times in a row at most, and each leaves at once.
func TestANoticeThatComesAloneWaitsForNobody(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "oncall", Channel: p})
		defer k.end()
		for range 300 {
			k.fireNow(p)
			wait(700 * time.Millisecond)
			k.fireNow(p)
			wait(900 * time.Millisecond)
			k.fireNow(p)
			wait(12 * time.Second)
		}
		for i, d := range waits(t, p) {
			if d > linger {
				t.Fatalf("the %d. notice waited %v", i+1, d)
			}
		}
		if n := len(p.calls()); n != 900 {
			t.Errorf("%d messages", n)
		}
	})
}

// TestProgramsAreToldOfFourASecond without a wait, where people get few messages.
func TestProgramsAreToldOfFourASecond(t *testing.T) {
	story(t, func(t *testing.T) {
		p, q := newPhone(), newPhone()
		k := newDesk(t, new(disk), Lane{Name: "hook", Channel: program{p}}, Lane{Name: "chat", Channel: q})
		defer k.end()
		for range 240 {
			k.fireNow(p)
			wait(250 * time.Millisecond)
		}
		wait(10 * time.Second)
		for i, d := range waits(t, p) {
			if d > linger {
				t.Fatalf("the %d. notice waited %v", i+1, d)
			}
		}
		if n := len(q.calls()); n > 9 || len(q.taken()) != 240 {
			t.Errorf("people got %d notices in %d messages in a minute", len(q.taken()), n)
		}
	})
}

// TestManyFireAtOnce, but are found within half a second: all are told within one, in few
// messages.
func TestManyFireAtOnce(t *testing.T) {
	for _, many := range []int{50, 180, 1000} {
		story(t, func(t *testing.T) {
			p, q := newPhone(), newPhone()
			k := newDesk(t, new(disk), Lane{Name: "hook", Channel: program{p}}, Lane{Name: "chat", Channel: q})
			defer k.end()
			for range many {
				k.fireNow(p)
				wait(500 * time.Millisecond / time.Duration(many))
			}
			wait(2 * time.Minute)
			for i, d := range waits(t, p) {
				if d > time.Second {
					t.Fatalf("of %d the %d. notice waited %v", many, i+1, d)
				}
			}
			if n, most := len(p.calls()), 2+many/mostItems; n > most || len(p.taken()) != many {
				t.Errorf("a program got %d notices in %d messages", len(p.taken()), n)
			}
			if n, most := len(q.calls()), 2+many/mostItems; n > most || len(q.taken()) != many {
				t.Errorf("people got %d notices in %d messages", len(q.taken()), n)
			}
		})
	}
}

// TestNoMinuteHasMoreMessagesThanARobotTakes: whatever fires when, DingTalk is not sent
// more than 20 messages in any minute, and nobody is kept waiting for longer than a
// storm's messages lie apart.
func TestNoMinuteHasMoreMessagesThanARobotTakes(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pauses := []time.Duration{100 * time.Millisecond, time.Second, 4 * time.Second, 11 * time.Second, 25 * time.Second}
		countMinutes(t, func() (pause time.Duration, times int) {
			return time.Duration(rng.Int64N(int64(pauses[rng.IntN(len(pauses))]))), 1 + rng.IntN(12)
		})
	}
	for period := 9 * time.Second; period < 14*time.Second; period += 250 * time.Millisecond {
		rest := false // four in a row, as fast as each has a message of its own, and a rest
		countMinutes(t, func() (pause time.Duration, times int) {
			if rest = !rest; rest {
				return linger + time.Millisecond, 4
			}
			return period - 5*linger, 1
		})
	}
}

// countMinutes emits notices for eight minutes with the pauses that next asks for, each so
// many times.
func countMinutes(t *testing.T, next func() (pause time.Duration, times int)) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "oncall", Channel: p})
		defer k.end()
		n := 0
		for time.Since(p.start) < 8*time.Minute {
			pause, times := next()
			for range times {
				k.fireNow(p)
				n++
				wait(pause)
			}
		}
		wait(20 * time.Second)
		calls := p.calls()
		for i := 20; i < len(calls); i++ {
			if calls[i].after-calls[i-20].after < time.Minute {
				t.Fatalf("21 messages from %v to %v", calls[i-20].after, calls[i].after)
			}
		}
		took := waits(t, p)
		for _, d := range took {
			if d > gatherFor {
				t.Fatalf("a notice waited %v", d)
			}
		}
		if len(took) != n {
			t.Errorf("%d notices of %d", len(took), n)
		}
	})
}
