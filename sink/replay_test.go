package sink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// refuses is a sink's mood: documents whose message holds the word are refused.
func (m *moody) refuses(word string) func(context.Context, int, *Batch, func(Result)) {
	return func(_ context.Context, _ int, b *Batch, done func(Result)) {
		var r Result
		var except []int
		for i, ref := range b.Refs {
			if word != "" && strings.Contains(message(ref), word) {
				r.Refused = append(r.Refused, Refusal{Index: i, Reason: "mapping", Detail: "does not fit"})
				except = append(except, i)
			}
		}
		m.take(b, except...)
		done(r)
	}
}

// replayInto replays the output's letters through a Deliverer whose sink refuses
// documents with the word, and returns what became of them and what the sink got.
func replayInto(t *testing.T, d *DeadLetters, word string) (Replayed, []string) {
	t.Helper()
	r := newRig(t, nil, func(c *DeliverConfig) { c.Dead = d })
	r.sink.answer = r.sink.refuses(word)
	r.run(t)
	rp := d.NewReplay(Pick{Output: "es"}, nil, func(_ context.Context, p record.Parcel) error {
		r.lane.parcels <- p
		return nil
	})
	if err := rp.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.drain(t)
	return rp.State(), r.sink.got
}

func parkAll(t *testing.T, d *DeadLetters, b *record.Block) {
	t.Helper()
	var refused []Refusal
	for i := range b.Docs {
		refused = append(refused, Refusal{Index: i, Reason: "mapping", Detail: "as it was"})
	}
	if err := d.Park("es", refs(b), refused); err != nil {
		t.Fatal(err)
	}
}

func TestReplayTakesWhatIsDeliveredAndKeepsWhatIsRefused(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	parkAll(t, d, docs("pay", "a", "bad", "c"))
	was, _ := letters(t, d.Dir)
	s, got := replayInto(t, d, "bad")
	if s.Letters != 3 || s.Delivered != 2 || s.Refused != 1 || s.Waiting != 0 || s.Why != "mapping: does not fit" || len(got) != 2 {
		t.Errorf("%+v, delivered %q", s, got)
	}
	left, bad := letters(t, d.Dir)
	if len(left) != 1 || bad != 0 || string(left[0].Document) != string(was[1].Document) || left[0].ID != was[1].ID {
		t.Fatalf("left: %+v, %d bad lines", left, bad)
	}
	// The cause is removed; what was delivered is not sent again.
	s, got = replayInto(t, d, "")
	if s.Letters != 1 || s.Delivered != 1 || len(got) != 1 || got[0] != "bad" {
		t.Errorf("%+v, delivered %q", s, got)
	}
	if files, _ := ListLetters(d.Dir); len(files) != 0 {
		t.Errorf("empty files are left: %v", files)
	}
	// The file that was in use is gone: the next letter begins a new one.
	parkAll(t, d, docs("pay", "later"))
	if left, _ := letters(t, d.Dir); len(left) != 1 {
		t.Errorf("%d letters after the replay", len(left))
	}
}

// A crash between a letter and the position behind it has the line refused twice.
func TestReplayOfTwoLettersSendsTheirDocumentOnce(t *testing.T) {
	before := deadLetters(t, DeadConfig{})
	parkAll(t, before, docs("pay", "a", "b"))
	d := deadLetters(t, DeadConfig{Dir: before.Dir})
	parkAll(t, d, docs("pay", "a", "b"))
	parkAll(t, d, docs("pay", "a", "b"))
	if all, _ := letters(t, d.Dir); len(all) != 6 {
		t.Fatalf("%d letters", len(all))
	}
	s, got := replayInto(t, d, "b")
	if len(got) != 1 || s.Letters != 2 || s.Delivered != 1 || s.Refused != 1 {
		t.Errorf("%+v, delivered %q", s, got)
	}
	if left, _ := letters(t, d.Dir); len(left) != 3 {
		t.Errorf("of the refused document %d letters are left, of 3", len(left))
	}
	if _, got := replayInto(t, d, ""); len(got) != 1 || got[0] != "b" {
		t.Errorf("then delivered %q", got)
	}
	if left, _ := letters(t, d.Dir); len(left) != 0 {
		t.Errorf("%d letters are left", len(left))
	}
}

func TestReplayThatIsCutShortSendsTheRestTheNextTime(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	const n = 40
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i, strings.Repeat("x", 40<<10))) // several lots
	}
	parkAll(t, d, docs("pay", all...))
	stop := errors.New("the process dies")
	lots := 0
	var mine []string
	first := d.NewReplay(Pick{Output: "es"}, nil, func(_ context.Context, p record.Parcel) error {
		if lots++; lots > 2 {
			return stop
		}
		for i := range p.Block.Docs {
			mine = append(mine, message(record.Ref{Block: p.Block, Index: i}))
		}
		p.Done()
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := first.Run(ctx); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if len(mine) == 0 || len(mine) >= n {
		t.Fatalf("the first replay delivered %d of %d", len(mine), n)
	}
	_, got := replayInto(t, d, "")
	seen := make(map[string]int)
	for _, m := range append(mine, got...) {
		seen[m]++
	}
	for _, m := range all {
		if seen[m] == 0 {
			t.Errorf("document %.10s was never sent", m)
		}
	}
	if left, _ := letters(t, d.Dir); len(left) != 0 {
		t.Errorf("%d letters are left", len(left))
	}
}

func TestReplayLeavesWhatIsNoDocument(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	b := docs("pay", "x", "y")
	parkAll(t, d, b)
	files, _ := ListLetters(d.Dir)
	text, err := os.ReadFile(files[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), `"document":{"@timestamp"`, `"document":{"@time"`, 1) + "torn"
	if err := os.WriteFile(files[0].Path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	s, got := replayInto(t, d, "")
	if s.Letters != 2 || s.Unusable != 1 || s.Delivered != 1 || len(got) != 1 {
		t.Errorf("%+v, delivered %q", s, got)
	}
	if left, bad := letters(t, d.Dir); len(left) != 1 || bad != 1 {
		t.Errorf("%d letters and %d bad lines are left", len(left), bad)
	}
}
