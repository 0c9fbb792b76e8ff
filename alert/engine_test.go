package alert

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

// world is an engine whose clock the test owns.
type world struct {
	t      testing.TB
	now    time.Time
	engine *Engine
	rules  []*Rule
	events []Event
	seen   int
}

// noon is where the tests begin; second 0 of their stories.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, rules ...*Rule) *world {
	w := &world{t: t, now: noon, rules: rules}
	w.start(nil)
	return w
}

// start makes a new process, which knows only the snapshot.
func (w *world) start(snapshot []byte) {
	w.t.Helper()
	w.engine = New(w.rules, func() time.Time { return w.now }, func(e Event) { w.events = append(w.events, e) })
	if snapshot != nil {
		if err := w.engine.Restore(snapshot); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) snapshot() []byte {
	w.t.Helper()
	s, err := w.engine.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func originOf(project, host string) *record.Origin {
	return record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: host, Input: "apps", File: "/log/" + project + ".log", Project: project})
}

func (w *world) tap(project, host string) *Tap {
	return w.engine.Tap(project+"-"+host, "apps", false, originOf(project, host))
}

// at puts the clock to a second of the story, with a Tick at each one between.
func (w *world) at(sec float64) {
	to := noon.Add(time.Duration(sec * float64(time.Second)))
	for w.now.Add(time.Second).Before(to) {
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
	}
	w.now = to
	w.engine.Tick()
}

// settled puts the clock to where a new engine trusts that it knows all inputs.
func (w *world) settled() { w.at(11) }

func milli(sec float64) int64 { return noon.UnixMilli() + int64(sec*1000) }

// lines has the tap observe n lines of one second.
func (w *world) lines(tap *Tap, n int, sec float64, r *record.Record) {
	for i := range n {
		tap.Observe(r, milli(sec), fmt.Appendf(nil, "line %d of second %v", i, sec))
	}
}

// want compares the events since the last call with their short forms:
// "opened rule [values] from-to".
func (w *world) want(want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.events[w.seen:] {
		got = append(got, short(e))
	}
	w.seen = len(w.events)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Fatalf("at %v: events:\n  %s\nwant:\n  %s", w.now.Sub(noon), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func short(e Event) string {
	var values []string
	for _, g := range e.Incident.Group {
		values = append(values, g.Value)
	}
	return fmt.Sprintf("%s %s %v %d-%d", e.Kind, e.Incident.Rule, values, e.Incident.Began.Unix()-noon.Unix(), e.Incident.Last.Unix()-noon.Unix())
}

func appErrors(t testing.TB) *Rule {
	return mustCompile(t, RuleConfig{Name: "app-errors", Per: []string{"project"}, When: "error >= 10 or fatal >= 1"})
}

var (
	anError = lineOf(record.LevelError, "request_id", "req-1")
	aFatal  = lineOf(record.LevelFatal)
	anInfo  = lineOf(record.LevelInfo)
)

func TestTheTenthErrorFiresAtOnce(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	var taps []*Tap
	for i := range 5 {
		taps = append(taps, w.tap("pay", fmt.Sprint("host-", i)))
	}
	for i := range 9 {
		w.lines(taps[i%5], 1, 20+float64(i), anError)
		w.lines(taps[i%5], 3, 20+float64(i), anInfo)
		w.at(20 + float64(i))
		taps[i%5].Flush(record.Pos{}, true)
	}
	w.want()
	w.lines(taps[4], 1, 29.2, anError)
	w.now = noon.Add(29500 * time.Millisecond)
	taps[4].Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 29-29")
	in := w.events[0].Incident
	if len(in.Samples) != MaxSamples || in.Samples[0].RequestID != "req-1" || in.Samples[0].Text != "line 0 of second 29.2" || in.Samples[0].Host != "host-4" {
		t.Errorf("samples: %+v", in.Samples)
	}
	if len(in.Hosts) != 5 || in.Hosts[0].Lines != 2 || len(in.Files) != 1 || in.Files[0].Lines != 10 {
		t.Errorf("hosts %v, files %v", in.Hosts, in.Files)
	}
	if got := in.Numbers[0].String(); got != "error = 10 (limit: >= 10)" {
		t.Errorf("number: %s", got)
	}
	// It held until 78 (the line of second 20 had left at 80: 29..79), and then not for a minute.
	w.at(200)
	w.want("resolved app-errors [pay] 29-79")
	if got := w.events[1].Incident.Resolved; !got.Equal(noon.Add(139 * time.Second)) {
		t.Errorf("resolved at %v", got)
	}
}

func TestOneFatalFiresAndNineErrorsDoNot(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	pay, shop := w.tap("pay", "h"), w.tap("shop", "h")
	w.lines(pay, 9, 12, anError)
	w.lines(shop, 1, 12, aFatal)
	pay.Flush(record.Pos{}, true)
	shop.Flush(record.Pos{}, true)
	w.at(12)
	w.want("opened app-errors [shop] 12-12")
}

func TestALineFortySecondsLateCountsInItsOwnSecond(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.lines(tap, 9, 12, anError)
	tap.Flush(record.Pos{}, true)
	w.at(100) // the window of 12 is long over
	w.want()
	w.lines(tap, 1, 60, anError)
	tap.Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 60-71") // what was true is true
	w.at(100 + 60)
	w.want("resolved app-errors [pay] 60-71")
	// A second late line of that time tells nothing new.
	w.lines(tap, 1, 61, anError)
	tap.Flush(record.Pos{}, true)
	w.at(200)
	w.want()
}

func TestTooLateAndFutureLinesAreCountedAsSuch(t *testing.T) {
	w := newWorld(t, appErrors(t))
	tap := w.tap("pay", "h")
	tap.Flush(record.Pos{}, true)
	w.at(1000)
	w.lines(tap, 20, 1000-121, anError)
	w.lines(tap, 20, 1000+121, anError)
	w.lines(tap, 20, 86400, anError)
	tap.Flush(record.Pos{}, true)
	w.want()
	if s := w.engine.Stats()[0]; s.Late != 20 || s.Future != 40 || s.Groups != 0 {
		t.Errorf("%+v", s)
	}
	w.at(2000)
	w.want()
}

func TestADaysBacklogPagesOnlyForWhatIsFreshAtItsEnd(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.now = noon.Add(24 * time.Hour)
	w.engine.Tick()
	tap := w.tap("pay", "h")
	day := 24 * 3600.0
	for sec := 0.0; sec < day-300; sec += 100 { // a fatal every 100 s, then quiet
		w.lines(tap, 1, sec, aFatal)
		if int(sec)%5000 == 0 {
			tap.Flush(record.Pos{}, false)
			w.now = w.now.Add(100 * time.Millisecond)
			w.engine.Tick()
		}
	}
	w.want()
	w.lines(tap, 1, day-60, anInfo)
	tap.Flush(record.Pos{}, true)
	if len(w.events) != 2 || w.events[0].Kind != Opened || w.events[1].Kind != Resolved {
		t.Fatalf("%d events, want the one incident that ended 4 minutes ago", len(w.events))
	}
}

func TestAnHourOldBacklogIsOnlyCounted(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.now = noon.Add(time.Hour)
	w.engine.Tick()
	tap := w.tap("pay", "h")
	w.lines(tap, 1, 0, aFatal)
	tap.Flush(record.Pos{}, false)
	w.lines(tap, 1, 300, anInfo)
	tap.Flush(record.Pos{}, true)
	w.at(3600 + 30)
	w.want()
	if s := w.engine.Stats()[0]; s.Stale != 1 {
		t.Errorf("%+v", s)
	}
}

func TestTheSlowFileAfterAnOutageOfFiveMinutes(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	a, b := w.tap("pay", "h1"), w.tap("shop", "h1")
	a.Flush(record.Pos{}, true)
	b.Flush(record.Pos{}, true)
	snap := w.snapshot()
	w.now = noon.Add(311 * time.Second)
	w.start(snap)
	w.engine.Tick()
	a, b = w.tap("pay", "h1"), w.tap("shop", "h1")
	w.lines(a, 1, 310, anInfo)
	a.Flush(record.Pos{}, true) // a is at its end at once
	w.lines(b, 10, 60, anError) // b is read later: 250 s before the newest line
	b.Flush(record.Pos{}, false)
	w.want("opened app-errors [shop] 60-119")
}

func TestAShareWaitsForTheSecondToEnd(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "5xx", Per: []string{"project"}, When: "share(status_code >= 500) > 5% and count() >= 50"}))
	w.settled()
	tap := w.tap("gw", "h")
	bad, good := lineOf(0, "status_code", "=502"), lineOf(0, "status_code", "=200")
	w.lines(tap, 3, 20, bad)
	w.lines(tap, 47, 20, good)
	w.at(20.1)
	tap.Flush(record.Pos{}, true)
	w.want()
	w.at(22.9)
	w.want()
	w.at(23)
	w.want("opened 5xx [gw] 20-20")
	if got := w.events[0].Incident.Numbers[0].String(); got != "share(status_code >= 500) = 6% (limit: > 5%)" {
		t.Error(got)
	}
	// In a backlog the next lines decide, not the clock.
	w2 := newWorld(t, w.rules...)
	w2.now = noon.Add(120 * time.Second)
	w2.engine.Tick()
	tap = w2.tap("gw", "h")
	w2.lines(tap, 3, 20, bad) // 100 % for a moment, but only 3 lines
	w2.lines(tap, 47, 20, bad)
	tap.Flush(record.Pos{}, false)
	w2.want() // second 20 may go on in the next block
	w2.lines(tap, 1000, 20, good)
	w2.lines(tap, 1, 22, good)
	tap.Flush(record.Pos{}, false)
	w2.at(150)
	w2.want()
}

func TestAPercentileOverTheWindow(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "slow", Per: []string{"project", "path"}, When: "p99(request_time) > 1s or count(upstream_time > 3s) >= 10"}))
	w.settled()
	tap := w.tap("gw", "h")
	fast, slow := lineOf(0, "path", "/a", "request_time", "=0.1"), lineOf(0, "path", "/a", "request_time", "=1.5")
	w.lines(tap, 99, 20, fast)
	w.lines(tap, 1, 20, slow)
	tap.Flush(record.Pos{}, true)
	w.at(30)
	w.want()
	w.lines(tap, 1, 31, slow)
	tap.Flush(record.Pos{}, true)
	w.at(40)
	w.want("opened slow [gw /a] 34-34") // the slot 30..34 has ended
	in := w.events[0].Incident
	if v := in.Numbers[0].Value; v < 1.48 || v > 1.52 || in.Samples[0].Text != "line 0 of second 31" {
		t.Errorf("%+v", in)
	}
}

func TestMaxFiresAtOnceAndAvgWaits(t *testing.T) {
	w := newWorld(t,
		mustCompile(t, RuleConfig{Name: "max", When: "max(request_time) > 3s"}),
		mustCompile(t, RuleConfig{Name: "avg", When: "avg(request_time) > 2s"}))
	w.settled()
	tap := w.tap("gw", "h")
	w.lines(tap, 1, 20, lineOf(0, "request_time", "=4"))
	w.lines(tap, 1, 20, lineOf(0, "request_time", "=1"))
	w.at(20)
	tap.Flush(record.Pos{}, true)
	w.want("opened max [] 20-20")
	w.at(24)
	w.want("opened avg [] 20-20")
}

func TestForMakesAConditionHold(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", When: "fatal >= 1", Within: 5 * time.Second, For: 10 * time.Second}))
	w.settled()
	tap := w.tap("p", "h")
	w.lines(tap, 1, 12, aFatal) // holds 12..16
	tap.Flush(record.Pos{}, true)
	w.at(30)
	w.want()
	for sec := 30.0; sec <= 39; sec += 3 {
		w.at(sec)
		w.lines(tap, 1, sec, aFatal)
		tap.Flush(record.Pos{}, true)
	}
	w.want()
	w.at(40)
	w.want("opened r [] 40-40")
	w.at(60)
	w.want("resolved r [] 40-43")
}

// TestAnInterruptionOfSecondsEndsNothingThatHasToHold: the condition is false for two seconds,
// then true again, but not for long enough to open an incident of its own.
func TestAnInterruptionOfSecondsEndsNothingThatHasToHold(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", When: "fatal >= 1", Within: 5 * time.Second, For: 10 * time.Second}))
	w.settled()
	tap := w.tap("p", "h")
	for _, sec := range []float64{20, 24, 28, 32, 39, 43, 47} { // holds 20..36 and 39..51
		w.at(sec)
		w.lines(tap, 1, sec, aFatal)
		tap.Flush(record.Pos{}, true)
	}
	w.want("opened r [] 30-30")
	w.at(53)
	w.want()
	w.at(70)
	w.want("resolved r [] 30-51")
}

func TestSilenceFiresOnceAndResolvesOnce(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "quiet", Per: []string{"project"}, When: "count() == 0", Within: 60 * time.Second, Repeat: 24 * time.Hour}))
	w.settled()
	tap := w.tap("pay", "h")
	w.lines(tap, 1, 12, anInfo)
	tap.Flush(record.Pos{}, true)
	w.at(74)
	w.want()
	w.at(75) // second 72 is the first whose window is empty
	w.want("opened quiet [pay] 72-72")
	w.at(3600)
	w.want()
	w.lines(tap, 1, 3600, anInfo)
	tap.Flush(record.Pos{}, true)
	w.at(3700) // 3600..3659 is not silent; then it is again
	w.want("resolved quiet [pay] 72-3599", "opened quiet [pay] 3660-3660")
	w.now = noon.Add(20 * time.Hour)
	w.at(25 * 3600)
	w.seen = len(w.events)
	w.at(25*3600 + 7300)
	if w.engine.Stats()[0].Groups != 0 {
		t.Error("the group was not forgotten after 24 h")
	}
}

func TestABusyFileThatIsBehindIsNotSilent(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "quiet", Per: []string{"project"}, When: "count() == 0"}))
	w.settled()
	pay, shop := w.tap("pay", "h"), w.tap("shop", "h")
	w.lines(pay, 1, 12, anInfo)
	w.lines(shop, 1, 12, anInfo)
	pay.Flush(record.Pos{}, true)
	shop.Flush(record.Pos{}, true)
	for sec := 20.0; sec < 200; sec++ { // pay's file grows faster than it is read
		w.lines(pay, 1, 12+sec/100, anInfo)
		pay.Flush(record.Pos{}, false)
		w.lines(shop, 1, sec, anInfo)
		shop.Flush(record.Pos{}, true)
		w.at(sec)
	}
	w.want()
	pay.Flush(record.Pos{}, true) // its end: it was silent indeed
	w.at(201)
	w.want("opened quiet [pay] 73-198")
}

func TestASuspendedMachineDoesNotReportItsOwnSilence(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "quiet", When: "count() == 0"}))
	w.settled()
	tap := w.tap("p", "h")
	w.lines(tap, 1, 12, anInfo)
	tap.Flush(record.Pos{}, true)
	w.at(20)
	w.now = noon.Add(300 * time.Second) // nobody ticked: asleep
	w.engine.Tick()
	w.want()
	for sec := 13.0; sec <= 300; sec++ { // what others wrote meanwhile
		w.lines(tap, 1, sec, anInfo)
	}
	tap.Flush(record.Pos{}, true)
	w.at(330)
	w.want()
}

func TestTheClockJumpsBackAnHour(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.now = noon.Add(time.Hour) // wrong
	w.engine.Tick()
	w.lines(tap, 9, 3600, anError)
	tap.Flush(record.Pos{}, true)
	w.at(3620)
	w.now = noon.Add(30 * time.Second) // right again
	w.engine.Tick()
	w.lines(tap, 9, 30, anError)
	tap.Flush(record.Pos{}, true)
	w.want()
	w.lines(tap, 1, 31, anError)
	w.at(31)
	tap.Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 31-31")
	w.at(3700) // over the hour that was counted in the future
	w.want("resolved app-errors [pay] 31-89")
}

func TestAnOpenIncidentSurvivesTheJump(t *testing.T) {
	w := newWorld(t, appErrors(t))
	w.settled()
	tap := w.tap("pay", "h")
	w.now = noon.Add(time.Hour)
	w.engine.Tick()
	w.lines(tap, 1, 3600, aFatal)
	tap.Flush(record.Pos{}, true)
	w.want("opened app-errors [pay] 3600-3600")
	w.now = noon.Add(30 * time.Second)
	w.engine.Tick()
	w.at(120)
	w.want("resolved app-errors [pay] 30-30")
}

func TestRepeatWhileItGoesOn(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", When: "fatal >= 1", Repeat: 10 * time.Minute}))
	w.settled()
	tap := w.tap("p", "h")
	for sec := 20.0; sec < 1800; sec += 10 {
		w.at(sec)
		w.lines(tap, 1, sec, aFatal)
		tap.Flush(record.Pos{}, true)
	}
	w.want("opened r [] 20-20", "repeated r [] 20-620", "repeated r [] 20-1220")
	ids := map[string]bool{}
	for _, e := range w.events {
		ids[e.Incident.ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("ids: %v", ids)
	}
}

// TestRemindedOnceWhileTheConditionHolds: a silence has ended, and ends again after the condition.
func TestRemindedOnceWhileTheConditionHolds(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", When: "fatal >= 1", Within: 30 * time.Second}))
	w.settled()
	tap := w.tap("p", "h")
	w.at(20)
	w.lines(tap, 1, 20, aFatal) // holds 20..49
	tap.Flush(record.Pos{}, true)
	w.at(30)
	w.want("opened r [] 20-20")
	ids := []string{w.engine.Firing()[0].ID, "another"}
	w.engine.Remind(ids)
	w.at(31)
	w.at(40)
	w.want("repeated r [] 20-31")
	w.at(60)
	w.engine.Remind(ids)
	w.at(90)
	w.want("resolved r [] 20-49")
}

// TestNothingIsToldToGoOnWhileItWaitsForItsEnd: `repeat` passes in the window after the last
// second at which the condition held.
func TestNothingIsToldToGoOnWhileItWaitsForItsEnd(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", When: "fatal >= 1", Within: 30 * time.Second, Repeat: 40 * time.Second}))
	w.settled()
	tap := w.tap("p", "h")
	w.at(20)
	w.lines(tap, 1, 20, aFatal) // holds 20..49
	tap.Flush(record.Pos{}, true)
	for sec := 21.0; sec < 70; sec++ {
		w.at(sec)
	}
	w.want("opened r [] 20-20")
	w.at(70)
	w.lines(tap, 1, 70, aFatal)
	tap.Flush(record.Pos{}, true)
	w.want("repeated r [] 20-70")
}

func TestMaxGroupsAreBoundedAndTheRestIsNamed(t *testing.T) {
	w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", Per: []string{"path"}, When: "count() >= 3", MaxGroups: 100}))
	w.at(20)
	tap := w.tap("p", "h")
	for i := range 10000 {
		w.lines(tap, 1, 20, lineOf(0, "path", fmt.Sprint("/", i)))
	}
	tap.Flush(record.Pos{}, true)
	s := w.engine.Stats()[0]
	if s.Groups != 100 || s.Overflow != 9900 || len(s.Overflowed) != maxOverflowed || s.Overflowed[0] != "path=/100" {
		t.Errorf("%+v", s)
	}
	w.lines(tap, 3, 20, lineOf(0, "path", "/7"))
	tap.Flush(record.Pos{}, true)
	w.want("opened r [/7] 20-20")
	w.at(20 + 600) // groups without lines make room
	w.lines(tap, 3, 620, lineOf(0, "path", "/new"))
	tap.Flush(record.Pos{}, true)
	w.want("resolved r [/7] 20-79", "opened r [/new] 620-620")
	if n := len(w.engine.idle.free[0].groupings[0].keys); n > ledgerGroups+100 {
		t.Errorf("a ledger remembers %d groups", n)
	}
}

func TestRulesForOtherInputsAndTheirLines(t *testing.T) {
	w := newWorld(t,
		mustCompile(t, RuleConfig{Name: "all", When: "count() >= 1"}),
		mustCompile(t, RuleConfig{Name: "gw", Inputs: []string{"gateway"}, When: "count() >= 1"}),
		mustCompile(t, RuleConfig{Name: "narrow", Where: "level == info", When: "count() >= 1"}),
		mustCompile(t, RuleConfig{Name: "relay", Inputs: []string{"relay"}, When: "count() >= 1"}))
	w.at(20)
	tap := w.tap("p", "h")
	w.lines(tap, 1, 20, anError)
	tap.Flush(record.Pos{}, true)
	w.want("opened all [] 20-20")
	relay := w.engine.Tap("k", "relay", true, originOf("p", "h"))
	w.lines(relay, 1, 20, anInfo)
	relay.Flush(record.Pos{}, true)
	w.want("opened relay [] 20-20")
	relay.Close()
	tap.Close()
	if n := len(w.engine.binding.inUse); n != 0 {
		t.Errorf("%d bindings are left", n)
	}
}

func TestTheFirstLineIsFromTheNextSeconds(t *testing.T) {
	w := newWorld(t, appErrors(t), mustCompile(t, RuleConfig{Name: "quiet", When: "count() == 0", Within: 5 * time.Second}))
	tap := w.tap("pay", "h")
	w.lines(tap, 1, 15, aFatal) // its clock is ahead of ours
	tap.Flush(record.Pos{}, true)
	w.at(14)
	w.want()
	w.at(15)
	w.want("opened app-errors [pay] 15-15")
	w.at(22)
	w.want()
	w.at(30)
	w.want("opened quiet [] 20-20")
}

func TestChainsSnapshotsAndTicksAtOnce(t *testing.T) {
	rules := referenceRules(t)
	events := 0 // guarded by the engine's lock
	e := New(rules, time.Now, func(Event) { events++ })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for turn := range 20 {
				tap := e.Tap(fmt.Sprint(i), "gateway", false, originOf("p", "h"))
				for _, r := range gatewayLines(200) {
					tap.Observe(r, time.Now().UnixMilli(), gatewayLine)
				}
				tap.Observe(aFatal, time.Now().UnixMilli(), gatewayLine)
				tap.Flush(record.Pos{Off: int64(turn)}, turn%2 == 0)
				tap.Close()
			}
		})
	}
	for range 20 {
		e.Tick()
		if _, err := e.Snapshot(); err != nil {
			t.Error(err)
		}
		e.Stats()
		e.Firing()
	}
	wg.Wait()
	e.Tick()
	if s := e.Stats()[1]; s.Groups != 1 || e.watches[1].groups[joinKey([]string{"p"})].base.at == 0 {
		t.Errorf("%+v", s)
	}
	sum := uint32(0)
	for _, g := range e.watches[1].groups {
		for i := range g.secs {
			sum += g.counts(i)[1]
		}
	}
	if sum != 4*20*201 || events == 0 {
		t.Errorf("%d lines counted, %d events", sum, events)
	}
}

// TestTheFatalLineAmongManyErrorsIsShown, whether they come in one look or in many, and
// before it or after it.
func TestTheFatalLineAmongManyErrorsIsShown(t *testing.T) {
	for _, flushes := range []bool{false, true} {
		for _, after := range []int{0, 40} {
			w := newWorld(t, appErrors(t))
			w.settled()
			tap := w.tap("pay", "h")
			write := func(r *record.Record, n int, text string) {
				for i := range n {
					tap.Observe(r, milli(11)+int64(i), fmt.Appendf(nil, "%s %d", text, i))
					if flushes {
						tap.Flush(record.Pos{}, true)
					}
				}
			}
			write(anError, 40, "error")
			write(aFatal, 1, "the fatal one")
			write(anError, after, "another error")
			tap.Flush(record.Pos{}, true)
			w.at(11.5)
			w.lines(tap, 1, 11.6, anError)
			tap.Flush(record.Pos{}, true)
			shown := 0
			for _, in := range w.engine.Firing() {
				for _, s := range in.Samples {
					if s.Text == "the fatal one 0" {
						shown++
					}
				}
				if len(in.Samples) != MaxSamples {
					t.Errorf("%d samples", len(in.Samples))
				}
			}
			if shown != 1 {
				t.Errorf("flushes %v, %d errors after it: it is not shown: %+v", flushes, after, w.engine.Firing())
			}
		}
	}
}
