package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert"
)

func wait(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

func TestFirstNoticeLeavesAtOnceAndAStormInFewMessages(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "oncall", Channel: p})
		defer k.end()
		k.fire("first")
		wait(time.Second)
		if c := p.calls(); len(c) != 1 || c[0].after > 500*time.Millisecond {
			t.Fatalf("the first notice: %+v", c)
		}
		for i := range 50 {
			k.fire(fmt.Sprint("storm-", i))
			wait(100 * time.Millisecond)
		}
		wait(30 * time.Second)
		if c := p.calls(); len(c) > 3 || len(p.taken()) != 51 {
			t.Errorf("%d messages with %d notices", len(c), len(p.taken()))
		}
		if n := k.count("oncall", "delivered"); n != 51 {
			t.Errorf("%d counted", n)
		}
	})
}

func TestChannelThatHangsHoldsNothingBack(t *testing.T) {
	story(t, func(t *testing.T) {
		good, bad := newPhone(), &hanging{}
		k := newDesk(t, new(disk), Lane{Name: "good", Channel: good}, Lane{Name: "bad", Channel: bad, Fallback: "good"})
		defer k.end()
		k.fire("a")
		wait(time.Second)
		wantLines(t, good.taken(), "opened a")
		wait(2 * time.Minute)
		wantLines(t, good.taken(), "opened a") // the fallback has it already
		if k.count("bad", "retried") == 0 {
			t.Error("no try failed")
		}
	})
}

// hanging never answers.
type hanging struct{ n int }

func (h *hanging) Send(ctx context.Context, _ *Message) error {
	h.n++
	<-ctx.Done()
	return ctx.Err()
}

func TestFallbackIsToldAfterAMinuteAndTheChannelLater(t *testing.T) {
	story(t, func(t *testing.T) {
		mail, ding := newPhone(), newPhone()
		ding.be(down)
		k := newDesk(t, new(disk), Lane{Name: "ding", Channel: ding, Fallback: "mail"}, Lane{Name: "mail", Channel: mail})
		defer k.end()
		k.fire("a", "to", "ding")
		wait(59 * time.Second)
		if n := len(ding.calls()); n < 3 || n > 30 {
			t.Errorf("%d tries in the first minute", n)
		}
		wantLines(t, mail.taken())
		wait(2 * time.Second)
		wantLines(t, mail.taken(), "opened a", "instead of ding")
		ding.be(nil)
		wait(time.Minute)
		wantLines(t, ding.taken(), "opened a")
		wantLines(t, mail.taken(), "opened a", "instead of ding")
	})
}

func TestRestartRepeatsNothingAndMissesNothing(t *testing.T) {
	story(t, func(t *testing.T) {
		p, q := newPhone(), newPhone()
		q.be(down)
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p}, Lane{Name: "q", Channel: q})
		defer func() { k.end() }()
		k.fire("a")
		wait(time.Second)
		k.kill()
		k.fire("a") // the engine goes over it again
		wait(time.Minute)
		wantLines(t, p.taken(), "opened a")
		q.be(nil)
		wait(time.Minute)
		wantLines(t, q.taken(), "opened a")
		if open := k.Open(); len(open) != 1 || open[0].Incident.ID != "a" {
			t.Errorf("open: %v", open)
		}
		k.emit(alert.Resolved, "a", 2)
		wait(time.Second)
		k.kill()
		k.emit(alert.Resolved, "a", 2)
		wait(time.Minute)
		wantLines(t, p.taken(), "opened a", "resolved a")
		wantLines(t, q.taken(), "opened a", "resolved a")
		if open := k.Open(); len(open) != 0 {
			t.Errorf("open: %v", open)
		}
	})
}

func TestKilledBetweenEventAndSending(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer func() { k.end() }()
		k.fire("a")
		if err := k.Persist(); err != nil { // what a checkpoint does before it writes the engine's state
			t.Fatal(err)
		}
		k.kill()
		wait(time.Minute)
		wantLines(t, p.taken(), "opened a")
	})
}

func TestFullDiskStopsNoNotice(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		store := &disk{broken: errors.New("no space left on device")}
		k := newDesk(t, store, Lane{Name: "p", Channel: p})
		k.fire("a")
		wait(time.Second)
		wantLines(t, p.taken(), "opened a")
		store.mu.Lock()
		store.broken = nil
		store.mu.Unlock()
		k.end()
		if len(store.records) != 1 {
			t.Errorf("after there was room: %d records", len(store.records))
		}
	})
}

func TestRefusedNoticeDoesNotSpoilTheOthers(t *testing.T) {
	story(t, func(t *testing.T) {
		p, mail := newPhone(), newPhone()
		p.be(func(m *Message) error {
			for i := range m.Items {
				if m.Items[i].Incident.ID == "bad" {
					return fmt.Errorf("%w: answered 400", ErrRefused)
				}
			}
			return nil
		})
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p, Fallback: "mail"}, Lane{Name: "mail", Channel: mail})
		defer k.end()
		k.fire("good", "to", "p")
		k.fire("bad", "to", "p")
		k.fire("fine", "to", "p")
		wait(time.Minute)
		wantLines(t, p.taken(), "opened good", "opened fine")
		wantLines(t, mail.taken(), "opened bad", "instead of p")
		if n := k.count("p", "refused"); n != 1 {
			t.Errorf("%d refused", n)
		}
	})
}

// TestWhatASilenceKeptBackIsRememberedToItsEnd: of the incidents that go on those whose last
// notice nobody has seen are to be told when the last silence for them has ended.
func TestWhatASilenceKeptBackIsRememberedToItsEnd(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer func() { k.end() }()
		silence := func(project string, d time.Duration) {
			if _, err := k.AddSilence(Silence{Matchers: []Matcher{{"project", "=~", project}}, Author: "me", Until: time.Now().Add(d)}); err != nil {
				t.Fatal(err)
			}
		}
		k.fire("told", "project", "shop")
		silence("pay|shop", 10*time.Minute)
		silence("shop", 20*time.Minute)
		k.fire("hidden", "project", "pay")
		k.fire("over", "project", "pay")
		k.emit(alert.Resolved, "over", 2, "project", "pay")
		k.fire("gone", "project", "pay")
		k.End("gone")
		k.fire("longer", "project", "shop")
		wait(9 * time.Minute)
		if ids := k.Unsilenced(); len(ids) != 0 {
			t.Errorf("while the silences hold: %q", ids)
		}
		k.Persist()
		k.kill()
		k.End("gone") // the engine does not know it
		wait(2 * time.Minute)
		if ids := k.Unsilenced(); fmt.Sprint(ids) != "[hidden]" {
			t.Errorf("when the first has ended: %q", ids)
		}
		k.emit(alert.Repeated, "hidden", 2, "project", "pay")
		if ids := k.Unsilenced(); len(ids) != 0 {
			t.Errorf("when it was told: %q", ids)
		}
		wait(10 * time.Minute)
		if ids := k.Unsilenced(); fmt.Sprint(ids) != "[longer]" {
			t.Errorf("when the second has ended: %q", ids)
		}
		wantLines(t, p.taken(), "opened told", "repeated hidden")
	})
}

func TestSilenceHoldsThroughRestartAndEnds(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer func() { k.end() }()
		m, err := ParseMatcher("project=~pay.*")
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.AddSilence(Silence{Matchers: []Matcher{m}, Author: "me", Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		k.kill()
		if all := k.Silences(); len(all) != 1 || all[0].ID != s.ID {
			t.Fatalf("after the restart: %v", all)
		}
		k.fire("a", "project", "payments")
		k.fire("b", "project", "shop")
		k.emit(alert.Resolved, "a", 2, "project", "payments")
		wait(time.Minute)
		wantLines(t, p.taken(), "opened b")
		k.fire("c", "project", "payments")
		wait(time.Hour)
		k.emit(alert.Repeated, "c", 2, "project", "payments") // goes on after the silence
		wait(time.Minute)
		k.emit(alert.Resolved, "c", 3, "project", "payments")
		wait(time.Minute)
		wantLines(t, p.taken(), "opened b", "repeated c", "resolved c")
		if n := k.count("p", "silenced"); n != 3 {
			t.Errorf("%d silenced", n)
		}
	})
}

func TestRateLimitedChannelIsLeftAlone(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		p.be(func(*Message) error { return &Later{Err: errors.New("too fast"), After: time.Minute} })
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer k.end()
		k.fire("a")
		wait(59 * time.Second)
		if n := len(p.calls()); n != 1 {
			t.Errorf("%d tries within the minute", n)
		}
	})
}

func TestChannelIsRemovedWhileItIsDown(t *testing.T) {
	story(t, func(t *testing.T) {
		p, q := newPhone(), newPhone()
		p.be(down)
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p}, Lane{Name: "q", Channel: q})
		defer k.end()
		k.fire("a", "to", "p")
		wait(10 * time.Second)
		k.Configure(k.rules, []Lane{{Name: "q", Channel: q}})
		wait(10 * time.Second)
		wantLines(t, q.taken(), "opened a", "instead of p")
	})
}

func TestChannelThatPanicsIsRetried(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		p.be(func(*Message) error { panic("oh") })
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer k.end()
		k.fire("a")
		wait(time.Second)
		p.be(nil)
		wait(time.Minute)
		wantLines(t, p.taken(), "opened a")
	})
}

func TestLineByHand(t *testing.T) {
	story(t, func(t *testing.T) {
		p, q := newPhone(), newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p}, Lane{Name: "q", Channel: q})
		defer k.end()
		if _, err := k.Say("x", []string{"r"}); err == nil || !strings.Contains(err.Error(), "known channels: p, q") {
			t.Errorf("unknown channel: %v", err)
		}
		seq, err := k.Say("release 7 is out", []string{"p"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := k.Wait(ctx, seq)
		if n.Sent["p"].State != Delivered || n.Sent["q"] != nil {
			t.Errorf("%+v", n)
		}
		wantLines(t, p.taken(), "release 7 is out")
		wantLines(t, q.taken())
	})
}

func TestHistoryIsBoundedAndKeepsWhatIsOpen(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer func() { k.end() }()
		k.fire("open")
		for i := range 300 {
			id := fmt.Sprint("n", i)
			k.fire(id)
			k.emit(alert.Resolved, id, 2)
			wait(time.Second)
		}
		wait(time.Minute)
		k.Say("the last", nil)
		wait(time.Minute)
		if n := len(k.History()); n < 100 || n > 102 {
			t.Errorf("%d notices kept", n)
		}
		k.kill()
		if n := len(k.History()); n < 100 || n > 102 {
			t.Errorf("%d notices on disk", n)
		}
		if open := k.Open(); len(open) != 1 || open[0].Incident.ID != "open" {
			t.Errorf("open: %v", open)
		}
		if got := len(p.taken()); got != 602 {
			t.Errorf("%d notices sent", got)
		}
	})
}

// keeping is a Channel that wants to be reminded.
type keeping struct {
	phone
	kept []int
}

func (k *keeping) Keep(_ context.Context, firing []Item) error {
	k.kept = append(k.kept, len(firing))
	return nil
}

func (k *keeping) Pace() Pace { return Pace{} }

func TestKeeperIsRemindedEachMinute(t *testing.T) {
	story(t, func(t *testing.T) {
		c := &keeping{}
		k := newDesk(t, new(disk))
		defer k.end()
		k.rules.Firing = func() []alert.Incident { return []alert.Incident{{ID: "a", Rule: "r"}} }
		k.Configure(k.rules, []Lane{{Name: "am", Channel: c}})
		wait(5*time.Minute + time.Second)
		if n := len(c.kept); n != 6 {
			t.Errorf("reminded %d times in 5 minutes", n)
		}
	})
}
