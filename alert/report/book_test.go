package report

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/record"
)

// shop is a book whose clock and journal the test owns.
type shop struct {
	*Book
	t       testing.TB
	now     time.Time
	reports []*Report
	journal map[string]json.RawMessage
	sent    []string // reports and notes, in one line each
	last    *notify.Report
}

// newShop opens a book on that day at noon, in Shanghai's time.
func newShop(t testing.TB, reports ...Config) *shop {
	t.Helper()
	s := &shop{t: t, now: shanghai("2026-03-04 12:00"), journal: make(map[string]json.RawMessage)}
	s.configure(reports...)
	s.restart()
	return s
}

func (s *shop) configure(reports ...Config) {
	s.t.Helper()
	s.reports = nil
	for _, c := range reports {
		r, err := New(c)
		if err != nil {
			s.t.Fatal(err)
		}
		s.reports = append(s.reports, r)
	}
}

var zone = location("Asia/Shanghai")

func location(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return l
}

func shanghai(s string) time.Time { return clock(s, zone) }

func clock(s string, zone *time.Location) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, zone)
	if err != nil {
		panic(err)
	}
	return t
}

// warnings is the reference report: the warnings of each project, at nine.
func warnings() Config {
	return Config{Name: "daily-warn", Count: "warn", Per: []string{"project"}, At: 9 * time.Hour, Zone: zone, Over: 5, MaxGroups: 4}
}

// save does what a checkpoint does.
func (s *shop) save() {
	s.t.Helper()
	change, err := s.Changes(false)
	if err != nil {
		s.t.Fatal(err)
	}
	for key, value := range change {
		if value == nil {
			delete(s.journal, key)
		} else {
			s.journal[key] = value
		}
	}
}

// restart makes a new process, which knows only the journal.
func (s *shop) restart() {
	s.Book = NewBook(func() time.Time { return s.now })
	s.Configure(s.reports)
	s.Load(func(f func(string, []byte)) {
		for key, value := range s.journal {
			f(key, value)
		}
	}, slog.New(slog.DiscardHandler))
}

// to lets time pass up to a moment and notes what is told meanwhile.
func (s *shop) to(at time.Time) {
	for s.now.Before(at) {
		s.now = s.now.Add(min(at.Sub(s.now), 5*time.Minute))
		s.tick()
	}
}

func (s *shop) tick() {
	for _, n := range s.Due("web-1") {
		if n.Report != nil {
			s.last = n.Report
			s.sent = append(s.sent, fmt.Sprintf("%s %d of %d", n.Report.ID, n.Report.Total, n.Report.Before))
		} else {
			s.sent = append(s.sent, n.Item.Headline())
		}
		s.Done(n)
	}
}

func (s *shop) want(want ...string) {
	s.t.Helper()
	if fmt.Sprint(s.sent) != fmt.Sprint(want) {
		s.t.Errorf("told %q, want %q", s.sent, want)
	}
	s.sent = nil
}

func (s *shop) chain(project string) *Tap {
	return s.Tap("gen-"+project, "apps", false, record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "web-1", Input: "apps", File: "/log/" + project, Project: project}))
}

func line(l record.Level, message string) *record.Record {
	r := new(record.Record)
	r.Reset()
	r.Level = l
	r.Put("message", []byte(message), record.Text)
	return r
}

// lines has the tap observe n warnings of that moment.
func lines(t *Tap, n int, at time.Time, message string) {
	for range n {
		t.Observe(line(record.LevelWarn, message), at.UnixMilli(), []byte(message))
	}
}

func TestDayIsReportedOnceAtItsTimeWithTheChange(t *testing.T) {
	s := newShop(t, warnings())
	pay, cart := s.chain("pay"), s.chain("cart")
	lines(pay, 3, shanghai("2026-03-03 23:59"), "yesterday")
	pay.Flush(record.Pos{Off: 1}, true)
	lines(pay, 4, shanghai("2026-03-04 00:00"), "order 17 of 0af3bd12-aaaa-bbbb-cccc-0123456789ab failed")
	lines(pay, 1, shanghai("2026-03-04 10:00"), "order 18 of 9b21bd12-aaaa-bbbb-cccc-0123456789ab failed")
	lines(cart, 2, shanghai("2026-03-04 11:00"), "no stock")
	cart.Observe(line(record.LevelError, "not a warning"), s.now.UnixMilli(), nil)
	pay.Flush(record.Pos{Off: 2}, true)
	cart.Flush(record.Pos{Off: 1}, true)
	s.to(shanghai("2026-03-05 08:59"))
	s.want()
	s.to(shanghai("2026-03-05 09:05"))
	s.want("daily-warn/2026-03-04 7 of 3")
	m := notify.Message{Report: s.last}
	text := m.Plain(10_000)
	for _, want := range []string{"warn on 2026-03-04 (Asia/Shanghai), host web-1", "    5           3    +67%  pay", "2           0     new  cart", "       5  order * of * failed", "7           3   +133%  total"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if title := m.Title(); title != "[REPORT] daily-warn of 2026-03-04 on web-1: 7 warn (+133%)" {
		t.Error(title)
	}
	s.to(shanghai("2026-03-05 23:00"))
	s.want()
	s.to(shanghai("2026-03-06 09:10")) // nothing was written: that is told, too
	s.want("daily-warn/2026-03-05 0 of 7")
	if len(s.last.Rows) != 2 || s.last.Rows[0].Before != 5 || s.last.Rows[0].Change() != "-100%" {
		t.Errorf("what has fallen silent: %+v", s.last.Rows)
	}
}

func TestGroupGoesOverOnceADay(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	lines(pay, 5, s.now, "x")
	pay.Flush(record.Pos{Off: 1}, true)
	s.to(s.now.Add(time.Minute))
	s.want()
	lines(pay, 1, s.now, "x")
	pay.Flush(record.Pos{Off: 2}, true)
	s.tick()
	s.want("[OVER] daily-warn project=pay: warn = 6 on 2026-03-04 (limit: > 5)")
	s.save()
	s.restart()
	pay = s.chain("pay")
	lines(pay, 100, s.now, "x")
	pay.Flush(record.Pos{Off: 3}, true)
	s.to(s.now.Add(time.Hour))
	s.want()
	lines(pay, 6, shanghai("2026-03-05 00:10"), "x")
	pay.Flush(record.Pos{Off: 4}, true)
	s.to(shanghai("2026-03-05 00:15"))
	s.want("[OVER] daily-warn project=pay: warn = 6 on 2026-03-05 (limit: > 5)")
}

func TestMissedReportIsSentLateAndOnce(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	lines(pay, 2, s.now, "x")
	pay.Flush(record.Pos{Off: 1}, true)
	s.save()
	s.now = shanghai("2026-03-06 15:00") // the agent was down for two days
	s.restart()
	pay = s.chain("pay")
	lines(pay, 1, shanghai("2026-03-04 18:00"), "x")
	pay.Flush(record.Pos{Off: 2}, false)
	s.to(s.now.Add(30 * time.Minute))
	s.want() // the rest of that day may still come
	lines(pay, 1, shanghai("2026-03-04 19:00"), "x")
	lines(pay, 4, shanghai("2026-03-05 19:00"), "x")
	pay.Flush(record.Pos{Off: 3}, true)
	s.tick()
	s.tick()
	s.want("daily-warn/2026-03-04 4 of -1", "daily-warn/2026-03-05 4 of 4")
	s.save()
	s.restart()
	s.to(s.now.Add(time.Hour))
	s.want()
}

func TestReportWaitsForSlowFilesButNotForEver(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	lines(pay, 2, s.now, "x")
	pay.Flush(record.Pos{Off: 1}, false)
	s.to(shanghai("2026-03-05 09:55"))
	s.want()
	s.to(shanghai("2026-03-05 10:05"))
	s.want("daily-warn/2026-03-04 2 of -1")
	if !strings.Contains(fmt.Sprint(s.last.Remarks), "files not read to the end of the day when this was written: 1") {
		t.Errorf("remarks: %q", s.last.Remarks)
	}
}

func TestGroupsBeyondTheLimitAreCountedAndNamed(t *testing.T) {
	s := newShop(t, warnings())
	for i := range 6 {
		c := s.chain(fmt.Sprint("p", i))
		lines(c, 1, s.now, "x")
		c.Flush(record.Pos{Off: 1}, true)
	}
	s.to(shanghai("2026-03-05 09:05"))
	if s.last.Total != 6 || len(s.last.Rows) != 4 || !strings.Contains(fmt.Sprint(s.last.Remarks), "2 lines are of groups beyond max_groups 4, such as [p4 p5]") {
		t.Errorf("%+v", s.last)
	}
}

// TestClocksAreChanged: a day of the zone has 23 or 25 hours then, and each is reported
// once.
func TestClocksAreChanged(t *testing.T) {
	berlin := location("Europe/Berlin")
	c := warnings()
	c.Zone, c.At, c.Over = berlin, 2*time.Hour+30*time.Minute, 0
	for _, first := range []string{"2026-03-28", "2026-10-24"} { // the clocks change in the night after
		s := newShop(t)
		s.now = clock(first+" 12:00", berlin)
		s.configure(c)
		s.restart()
		pay := s.chain("pay")
		day, err := parseDay(first)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		before := -1
		for d := day; d < day+4; d++ {
			hours := 0
			for at := d.at(berlin, 0); at.Before((d + 1).at(berlin, 0)); at = at.Add(time.Hour) {
				if !at.Before(s.now) {
					lines(pay, 1, at, "x")
					hours++
				}
			}
			pay.Flush(record.Pos{Off: int64(d)}, true)
			s.to((d + 1).at(berlin, 0))
			want = append(want, fmt.Sprintf("daily-warn/%s %d of %d", d, hours, before))
			before = hours
		}
		s.to((day + 4).at(berlin, 12*time.Hour))
		s.want(want...)
		if !strings.Contains(fmt.Sprint(want), " 23 of") && !strings.Contains(fmt.Sprint(want), " 25 of") {
			t.Errorf("no day of 23 or 25 hours: %q", want)
		}
	}
}

func TestDaysOfZones(t *testing.T) {
	for _, c := range []struct{ zone, day, at, want string }{
		{"Asia/Shanghai", "2026-03-05", "09:00", "2026-03-05T01:00:00Z"},
		{"Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T01:00:00Z"},     // skipped: at once when the clocks have been put forward
		{"Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T00:30:00Z"},     // twice: the first time
		{"America/Sao_Paulo", "2018-11-04", "00:00", "2018-11-04T03:00:00Z"}, // the day began at one
		{"Pacific/Apia", "2011-12-31", "00:00", "2011-12-30T10:00:00Z"},      // the 30th was left out
		{"UTC", "2026-03-05", "00:00", "2026-03-05T00:00:00Z"},
	} {
		d, err := parseDay(c.day)
		if err != nil {
			t.Fatal(err)
		}
		at, err := ParseAt(c.at)
		if err != nil {
			t.Fatal(err)
		}
		zone := location(c.zone)
		if got := d.at(zone, at).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s %s in %s is %s, want %s", c.day, c.at, c.zone, got, c.want)
		}
		var b dayBounds
		for h := -30; h < 60; h++ {
			x := d.at(zone, 0).Add(time.Duration(h) * time.Hour)
			if got, want := b.of(x.UnixMilli(), zone), dayOf(x.In(zone)); got != want || got.String() != x.In(zone).Format(dayLayout) {
				t.Errorf("%s is of %s, want %s", x.In(zone), got, want)
			}
		}
	}
}

func TestTwoReportsAndAReload(t *testing.T) {
	all := warnings()
	all.Name, all.Count, all.Per, all.At, all.Over = "all", "", nil, 10*time.Hour, 0
	s := newShop(t, warnings(), all)
	pay := s.chain("pay")
	lines(pay, 2, s.now, "x")
	pay.Observe(line(record.LevelInfo, "y"), s.now.UnixMilli(), nil)
	pay.Flush(record.Pos{Off: 1}, true)
	s.save()
	errors := warnings()
	errors.Count = "error"
	s.configure(errors, all) // counts something else under the same name: it begins anew
	s.Configure(s.reports)
	pay.Close()
	pay = s.chain("pay")
	pay.Observe(line(record.LevelError, "z"), s.now.UnixMilli(), nil)
	pay.Flush(record.Pos{Off: 2}, true)
	s.save()
	s.restart()
	s.to(shanghai("2026-03-05 10:05"))
	s.want("daily-warn/2026-03-04 1 of -1", "all/2026-03-04 4 of -1")
	s.configure(all)
	s.Configure(s.reports)
	s.save()
	for key := range s.journal {
		if strings.Contains(key, "daily-warn") {
			t.Errorf("%s is kept", key)
		}
	}
}

func TestLinesOfTheWrongCenturyAreOnlyCounted(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	lines(pay, 1, s.now.AddDate(-30, 0, 0), "x")
	lines(pay, 2, s.now.AddDate(30, 0, 0), "x")
	pay.Flush(record.Pos{Off: 1}, true)
	got := fmt.Sprint(s.Skipped())
	if got != "[{daily-warn early 1} {daily-warn future 2} {daily-warn max_groups 0}]" {
		t.Error(got)
	}
	s.save()
	if len(s.pages[0].days) != 0 {
		t.Errorf("%d days", len(s.pages[0].days))
	}
}

// TestKilledAtAnyMoment has chains read lines of several days in random order, with
// processes that die at random moments and read again from what was saved: the sums are
// those of the lines, each once.
func TestKilledAtAnyMoment(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := warnings()
		c.Over, c.MaxGroups = 0, 100
		s := newShop(t, c)
		type event struct {
			day     Day
			project int
		}
		files := make([][]event, 3)
		want := make(map[string]int64)
		today := dayOf(s.now)
		for i := range files {
			for range 50 + rng.IntN(50) {
				e := event{today - Day(rng.IntN(5)), i}
				files[i] = append(files[i], e)
				want[fmt.Sprint(e.day, " p", i)]++
			}
		}
		done := func() bool {
			for i := range files {
				if at, _ := s.Counted(fmt.Sprint("gen-p", i)); int(at.Off) < len(files[i]) {
					return false
				}
			}
			return true
		}
		taps := make([]*Tap, len(files))
		for open := false; !done(); {
			if !open {
				for i := range taps {
					taps[i] = s.chain(fmt.Sprint("p", i))
				}
				open = true
			}
			i := rng.IntN(len(files))
			at, _ := s.Counted(fmt.Sprint("gen-p", i))
			next := min(int(at.Off)+rng.IntN(9), len(files[i]))
			for _, e := range files[i][at.Off:next] {
				lines(taps[i], 1, e.day.at(zone, 6*time.Hour), "x")
			}
			if rng.IntN(12) == 0 { // it dies with lines that were not flushed
				s.restart()
				open = false
				continue
			}
			taps[i].Flush(record.Pos{Off: int64(next)}, next == len(files[i]))
			if rng.IntN(3) == 0 {
				s.save()
			}
			if rng.IntN(40) == 0 {
				s.restart()
				open = false
			}
		}
		s.save()
		s.restart()
		got := make(map[string]int64)
		for day, c := range s.pages[0].days {
			for key, g := range c.groups {
				got[fmt.Sprint(day, " ", show(s.reports[0].selector.Group(key)))] = g.n
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}

func TestStateThatIsDamagedCostsOnlyItself(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	lines(pay, 3, s.now, "x")
	lines(pay, 2, s.now.AddDate(0, 0, -1), "x")
	pay.Flush(record.Pos{Off: 1}, true)
	s.save()
	for key := range s.journal {
		if strings.HasSuffix(key, "2026-03-03") {
			s.journal[key] = json.RawMessage(`{"groups":7}`)
		}
	}
	s.restart()
	s.to(shanghai("2026-03-05 09:05"))
	s.want("daily-warn/2026-03-04 3 of -1")
}

func TestObserveDoesNotAllocate(t *testing.T) {
	s := newShop(t, warnings())
	pay := s.chain("pay")
	r := line(record.LevelWarn, "order 17 of 0af3bd12-aaaa-bbbb-cccc-0123456789ab failed after 12.5 ms")
	at := s.now.UnixMilli()
	run := func() {
		for range 100 {
			pay.Observe(r, at, nil)
		}
		pay.Flush(record.Pos{Off: 1}, true)
	}
	run()
	if a := testing.AllocsPerRun(100, run); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkObserve(b *testing.B) {
	for name, l := range map[string]record.Level{"warn": record.LevelWarn, "info": record.LevelInfo} {
		b.Run(name, func(b *testing.B) {
			s := newShop(b, warnings())
			pay := s.chain("pay")
			text := []byte("order 17 of 0af3bd12-aaaa-bbbb-cccc-0123456789ab failed after 12.5 ms")
			r := line(l, string(text))
			at := s.now.UnixMilli()
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				pay.Observe(r, at, text)
				if i++; i&4095 == 0 {
					pay.Flush(record.Pos{Off: int64(i)}, true)
				}
			}
		})
	}
}
