package alert

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func TestRestartBetweenTheNinthAndTheTenthError(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.lines(tap, 9, 20, anError)
	w.at(20)
	tap.Flush(record.Pos{Off: 900, Tail: 7}, true)
	snap := w.snapshot()
	w.now = noon.Add(30 * time.Second)
	w.start(snap)
	if at, ok := w.engine.Counted("pay-h"); !ok || at.Off != 900 || at.Tail != 7 {
		t.Fatalf("counted up to %+v, %v", at, ok)
	}
	tap = w.tap("pay", "h")
	w.lines(tap, 1, 30, anError)
	tap.Flush(record.Pos{Off: 1000}, true)
	w.want("opened app-errors [pay] 30-30")
	if in := w.events[0].Incident; len(in.Samples) != MaxSamples || in.Hosts[0].Lines != 10 {
		t.Errorf("%+v", in)
	}
	w.engine.Forget("pay-h")
	if _, ok := w.engine.Counted("pay-h"); ok {
		t.Error("the position was not forgotten")
	}
}

func TestRestartWhileItFires(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.at(20)
	w.lines(tap, 1, 20, aFatal)
	tap.Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 20-20")
	for range 20 { // again and again
		w.at(w.now.Sub(noon).Seconds() + 1)
		w.start(w.snapshot())
		w.engine.Tick()
		tap = w.tap("pay", "h")
		tap.Flush(record.Pos{}, true)
	}
	w.lines(tap, 1, 41, aFatal)
	tap.Flush(record.Pos{}, true)
	w.want()
	if firing := w.engine.Firing(); len(firing) != 1 || firing[0].ID != w.events[0].Incident.ID {
		t.Errorf("%+v", firing)
	}
	w.at(400)
	w.want("resolved app-errors [pay] 20-100")
}

// An agent is killed after it sent a notice and before it saved its state: what it
// reads again must not send another.
func TestKilledBetweenTheNoticeAndTheSnapshot(t *testing.T) {
	for _, adopt := range []bool{true, false} {
		w := newWorld(t, appErrors(t))
		w.settled()
		tap := w.tap("pay", "h")
		w.at(20)
		snap := w.snapshot()
		w.lines(tap, 1, 20, aFatal)
		tap.Flush(record.Pos{Off: 1}, true)
		w.want("opened app-errors [pay] 20-20")
		sent := w.events[0]
		w.now = noon.Add(25 * time.Second)
		w.start(snap)
		if adopt && !w.engine.Adopt(sent.Incident, sent.At) {
			t.Fatal("not adopted")
		}
		tap = w.tap("pay", "h")
		w.lines(tap, 1, 20, aFatal) // again
		tap.Flush(record.Pos{Off: 1}, true)
		if adopt {
			w.want()
		} else { // without its record of it, the same name says that it is the same
			w.want("opened app-errors [pay] 20-20")
			if w.events[1].Incident.ID != sent.Incident.ID {
				t.Errorf("two ids: %s, %s", w.events[1].Incident.ID, sent.Incident.ID)
			}
		}
		w.at(200)
		w.want("resolved app-errors [pay] 20-79")
		if id := w.events[len(w.events)-1].Incident.ID; id != sent.Incident.ID {
			t.Errorf("resolved %s, opened %s", id, sent.Incident.ID)
		}
	}
}

// TestKillNineLosesNoIncident plays in-order files that die at any moment and are read
// again from the last snapshot: the incidents, by id, are those of an undisturbed run.
func TestKillNineLosesNoIncident(t *testing.T) {
	for seed := range uint64(200) {
		calm := killedRun(t, seed, false)
		killed := killedRun(t, seed, true)
		if strings.Join(calm, "\n") != strings.Join(killed, "\n") {
			t.Fatalf("seed %d:\nundisturbed\n%s\nkilled\n%s", seed, strings.Join(calm, "\n"), strings.Join(killed, "\n"))
		}
	}
}

func killedRun(t *testing.T, seed uint64, kill bool) []string {
	rng := rand.New(rand.NewPCG(seed, 2))
	deaths := rand.New(rand.NewPCG(seed, 3))
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", Per: []string{"project"}, When: "error >= 3", Within: 5 * time.Second}))
	type file struct {
		project string
		times   []int64
	}
	files := []file{{project: "a"}, {project: "b"}}
	snap := w.snapshot()
	read := func() {
		for _, f := range files {
			tap := w.tap(f.project, "h")
			at, _ := w.engine.Counted(f.project + "-h")
			for _, ms := range f.times[at.Off:] {
				tap.Observe(anError, ms, []byte("x"))
			}
			tap.Flush(record.Pos{Off: int64(len(f.times))}, true)
			tap.Close()
		}
	}
	for range 150 {
		w.now = w.now.Add(500 * time.Millisecond)
		for i := range files {
			if rng.IntN(8) == 0 {
				for range 1 + rng.IntN(3) {
					files[i].times = append(files[i].times, w.now.UnixMilli())
				}
			}
		}
		if kill && deaths.IntN(10) == 0 {
			w.start(snap)
		}
		read()
		w.engine.Tick()
		if deaths.IntN(4) == 0 {
			snap = w.snapshot()
		}
	}
	w.at(w.now.Sub(noon).Seconds() + 60)
	ids := make(map[string]bool)
	for _, e := range w.events {
		ids[fmt.Sprint(e.Kind, " ", e.Incident.ID, " ", e.Incident.Began)] = true
	}
	var out []string
	for id := range ids {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func TestSnapshotOfARuleThatWasChanged(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.at(20)
	w.lines(tap, 1, 20, aFatal)
	tap.Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 20-20")
	snap := w.snapshot()
	// Another limit: the windows still hold.
	w.rules = []*Rule{mustCompile(t, RuleConfig{Name: "app-errors", Per: []string{"project"}, When: "error >= 1 or fatal >= 5"})}
	w.start(snap)
	w.at(200)
	w.want("resolved app-errors [pay] 20-20")
	// Another window: they do not.
	w.rules = []*Rule{mustCompile(t, RuleConfig{Name: "app-errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1", Within: time.Hour})}
	w.start(snap)
	if s := w.engine.Stats()[0]; s.Groups != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSnapshotKeepsPercentilesAndAverages(t *testing.T) {
	rules := []*Rule{
		mustCompile(t, RuleConfig{Name: "p", Per: []string{"path"}, When: "p50(request_time) > 1s"}),
		mustCompile(t, RuleConfig{Name: "a", Per: []string{"path"}, When: "avg(request_time) > 1s and max(request_time) > 2s", For: 3 * time.Second}),
	}
	w := newWorld(t, rules...)
	w.settled()
	tap := w.tap("gw", "h")
	w.at(20)
	for i := range 1000 {
		w.lines(tap, 1, 20, lineOf(0, "path", "/a", "request_time", fmt.Sprintf("=%d.%03d", i%3, i)))
		w.lines(tap, 1, 20, lineOf(0, "path", "/\xff", "request_time", "=0"))
	}
	tap.Flush(record.Pos{}, true)
	one := w.snapshot()
	w.start(one)
	two := w.snapshot()
	if len(one) != len(two) {
		t.Errorf("%d bytes became %d", len(one), len(two))
	}
	w.at(40)
	if len(w.events) != 2 || w.events[0].Incident.Began != noon.Add(24*time.Second) && w.events[1].Incident.Began != noon.Add(24*time.Second) {
		t.Errorf("%+v", w.events)
	}
}

func FuzzRestore(f *testing.F) {
	rules := []*Rule{mustCompile(f, RuleConfig{Name: "p", Per: []string{"path"}, When: "p50(request_time) > 1s or avg(request_time) > 1s or error > 5"})}
	now := noon
	e := New(rules, func() time.Time { return now }, func(Event) {})
	tap := e.Tap("x", "apps", false, originOf("p", "h"))
	for i := range 50 {
		tap.Observe(lineOf(record.LevelError, "path", fmt.Sprint("/", i%3), "request_time", fmt.Sprint("=", i)), now.UnixMilli()+int64(i*500), []byte("text"))
	}
	tap.Flush(record.Pos{Off: 5}, true)
	snap, err := e.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(snap)
	f.Add([]byte(`{"version":1,"rules":[{"name":"p","fingerprint":"` + rules[0].Fingerprint() + `","groups":[{"k":"","s":"AgEBAQ==","d":"/////w8="}]}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		now := noon
		var n int
		e := New(rules, func() time.Time { return now }, func(Event) { n++ })
		if e.Restore(data) != nil {
			return
		}
		tap := e.Tap("x", "apps", false, originOf("p", "h"))
		tap.Observe(anError, now.UnixMilli(), []byte("text"))
		tap.Flush(record.Pos{}, true)
		for range 3 {
			now = now.Add(4 * time.Second)
			e.Tick()
		}
		if _, err := e.Snapshot(); err != nil {
			t.Fatal(err)
		}
	})
}
