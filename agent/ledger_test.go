package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// ledger is the running agent's.
func (r *rig) ledger() *Ledger {
	r.t.Helper()
	l := r.agent.Ledger()
	for _, p := range l.Problems {
		r.t.Error(p)
	}
	return l
}

// stoppedLedger is what the state directory says.
func (r *rig) stoppedLedger() *Ledger {
	r.t.Helper()
	l, err := ReadLedger(filepath.Join(r.dir, "state"), slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range l.Problems {
		r.t.Error(p)
	}
	return l
}

func TestTheLedgerCountsWhatIsRefusedByFileAndOutput(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, picky: {discard: {}}}
`)
	r.basin("picky").refuses = func(ref record.Ref) bool { return strings.Contains(string(ref.JSON()), "line 7") }
	r.start()
	r.append("a.log", lines("a", 0, 100))
	r.append("b.log", lines("b", 0, 10))
	want := func(l *Ledger) bool {
		if len(l.Files) != 2 {
			return false
		}
		for i, c := range []struct {
			bytes         int
			docs, refused int64
		}{{len(lines("a", 0, 100)), 100, 11}, {len(lines("b", 0, 10)), 10, 1}} {
			well, picky := l.Files[i].Outputs["well"], l.Files[i].Outputs["picky"]
			if well != (OutputShare{Delivered: int64(c.bytes), Documents: c.docs}) || picky != (OutputShare{Delivered: int64(c.bytes), Documents: c.docs, Refused: c.refused}) {
				return false
			}
		}
		return true
	}
	r.eventually("the ledger", func() bool { return want(r.ledger()) })
	r.stop()
	if l := r.stoppedLedger(); !want(l) {
		t.Errorf("the stopped agent's: %+v", l.Files)
	}
	r.start()
	r.append("a.log", lines("a", 100, 108))
	r.eventually("one more", func() bool {
		o := r.ledger().Files[0].Outputs["picky"]
		return o.Documents == 108 && o.Refused == 11
	})
}

func TestTheLedgerNamesTheRangesThatAreLost(t *testing.T) {
	r := newRig(t)
	r.configure(`
inputs: {app: {files: [$DIR/*.log], format: plain, multiline: none}}
outputs: {well: {discard: {}}, dead: {discard: {}}}
`)
	r.basin("dead").broke(errors.New("connection refused"))
	r.start()
	text := lines("a", 0, 50)
	r.append("a.log", text)
	r.exact(r.basin("well"), "a", 50)
	r.stop()
	r.append("a.log", lines("a", 50, 80)) // nobody will read these
	seen := int64(len(text))
	r.start()
	r.basin("well").broke(errors.New("connection refused"))
	r.eventually("the agent to see the rest", func() bool {
		l := r.ledger()
		return len(l.Files) == 1 && l.Files[0].Written > seen
	})
	written := int64(len(lines("a", 0, 80)))
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "a.log")); err != nil {
		t.Fatal(err)
	}
	r.basin("dead").broke(nil)
	r.basin("well").broke(nil)
	r.start()
	var g Generation
	r.eventually("both losses", func() bool {
		l := r.ledger()
		if len(l.Files) != 1 {
			return false
		}
		g = l.Files[0]
		return g.Outputs["well"].Abandoned > 0 && g.Outputs["dead"].Abandoned > 0
	})
	if g.Written != written || g.Read != seen || g.Abandoned != written-seen || g.Unread != 0 {
		t.Errorf("of %d bytes, the first %d of which were read: %+v", written, seen, g.Share)
	}
	if o := g.Outputs["well"]; o.Delivered != seen || o.Abandoned != written-seen || o.Waiting != 0 {
		t.Errorf("well: %+v", o)
	}
	if o := g.Outputs["dead"]; o.Delivered != 0 || o.Abandoned != written || o.Waiting != 0 {
		t.Errorf("dead: %+v", o)
	}
	unread := int64(0)
	for _, lost := range g.Ranges {
		unread += lost.Unread
		if lost.To != written || lost.Reason != "deleted" {
			t.Errorf("range %+v", lost)
		}
	}
	if unread != written-seen {
		t.Errorf("ranges %+v", g.Ranges)
	}
	r.stop()
	if l := r.stoppedLedger(); len(l.Files) != 1 || fmt.Sprint(l.Files[0].Share) != fmt.Sprint(g.Share) {
		t.Errorf("the stopped agent's: %+v, the running one's: %+v", l.Files, g.Share)
	}
}

// The generations that are gone are kept one by one up to a number, and summed up then.
func TestTheLedgerSumsUpWhatIsLongGone(t *testing.T) {
	r := newRig(t)
	r.configure(oneOutput)
	r.start()
	const n = keptGone + 100
	whole := Share{Outputs: map[string]OutputShare{"out": {}}}
	agrees := func(when string, l *Ledger) {
		t.Helper()
		if got := l.Inputs["app"]; fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Errorf("%s: %+v, want %+v", when, got, whole)
		}
	}
	for i := range n {
		a := tail.Account{Gen: fmt.Sprintf("g%03d", i), Input: "app", Path: "/gone.log", Size: 10, Gone: int64(1000 + i)}
		a.Sums = map[string]record.Sum{"out": {Bytes: 7, Lost: 3, Docs: 2, Refused: 1}}
		a.Lost = []record.Lost{{From: 7, To: 10, Unread: 3, Reason: "deleted", Outputs: []string{"out"}}}
		if err := r.agent.journal.Commit(r.agent.graves.bury([]tail.Account{a})); err != nil {
			t.Fatal(err)
		}
		whole.Add(Share{Written: 10, Read: 7, Abandoned: 3, Outputs: map[string]OutputShare{"out": {Delivered: 7, Abandoned: 3, Documents: 2, Refused: 1}}})
		if i%50 == 49 {
			agrees("while it sums up", r.ledger())
		}
	}
	r.stop()
	l := r.stoppedLedger()
	agrees("stopped", l)
	if len(l.Files) != keptGone || l.Older["app"].Generations != n-keptGone || l.Files[0].ID != "g100" {
		t.Errorf("%d are kept, %d are summed up", len(l.Files), l.Older["app"].Generations)
	}
	r.start()
	agrees("started again", r.ledger())
	if l.Of([]string{"/gone.*"}); len(l.Files) != keptGone || l.Older != nil {
		t.Error("the pattern does not find them")
	}
	if l.Of([]string{"/other.log"}); len(l.Files) != 0 {
		t.Error("another path finds them")
	}
}
