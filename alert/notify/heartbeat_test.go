package notify

import (
	"errors"
	"testing"
	"time"
)

func TestHeartbeatStopsWhenTheAlertsAreDead(t *testing.T) {
	story(t, func(t *testing.T) {
		p, q := newPhone(), newPhone()
		dead := ErrStarting
		k := newDesk(t, new(disk))
		defer k.end()
		k.rules.Alive = func() error { return dead }
		lanes := []Lane{{Name: "am", Channel: p, Beat: time.Minute}, {Name: "q", Channel: q}}
		k.Configure(k.rules, lanes)
		wait(3 * time.Second)
		if n := k.count("am", "heartbeat") + k.count("am", "heartbeat_missed"); n != 0 {
			t.Errorf("%d heartbeats before the rules are evaluated", n)
		}
		dead = nil
		k.Configure(k.rules, lanes)
		wait(5*time.Minute + 2*time.Second)
		if n := k.count("am", "heartbeat"); n != 6 || len(p.calls()) != 6 || len(q.calls()) != 0 {
			t.Errorf("%d heartbeats, %d and %d messages", n, len(p.calls()), len(q.calls()))
		}
		dead = errors.New("the rules were last evaluated 1m ago")
		k.Configure(k.rules, lanes)
		wait(5 * time.Minute)
		if n := k.count("am", "heartbeat"); n != 6 || k.count("am", "heartbeat_missed") != 5 {
			t.Errorf("%d heartbeats of dead alerts", n-6)
		}
		dead = nil
		k.fire("a", "to", "am")
		wait(2 * time.Minute)
		wantLines(t, p.taken(), "opened a") // beside those without lines
		lanes[0].Beat = 0
		k.Configure(k.rules, lanes)
		was := k.count("am", "heartbeat")
		wait(5 * time.Minute)
		if n := k.count("am", "heartbeat"); n != was {
			t.Errorf("%d heartbeats after it was turned off", n-was)
		}
	})
}

func TestReportsComeAloneAndOnce(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "mail", Channel: p})
		defer func() { k.end() }()
		k.fire("a")
		day := Report{ID: "r/2026-03-01", Name: "r", Rows: []ReportRow{{Lines: 7}}}
		k.Report(day, nil)
		k.fire("b")
		wait(time.Minute)
		if n := len(p.calls()); n != 3 {
			t.Errorf("%d messages", n)
		}
		wantLines(t, p.taken(), "opened a", "r/2026-03-01 with 1 rows", "opened b")
		k.kill()
		k.Report(day, nil) // the process died before it knew that it had been told
		k.Report(Report{ID: "r/2026-03-02", Name: "r"}, []string{"nobody"})
		wait(time.Minute)
		if n := len(p.calls()); n != 3 {
			t.Errorf("%d messages after the restart", n)
		}
		for _, n := range k.History() {
			if n.Report != nil && n.Report.Rows != nil {
				t.Errorf("the rows of %s are kept", n.Report.ID)
			}
		}
	})
}

func TestNoteIsToldOnceAndSilenced(t *testing.T) {
	story(t, func(t *testing.T) {
		p := newPhone()
		k := newDesk(t, new(disk), Lane{Name: "p", Channel: p})
		defer func() { k.end() }()
		note := func(id, project string) Item {
			it := sampleItem("noted", "")
			it.Incident.ID, it.Labels = id, map[string]string{"project": project}
			return it
		}
		k.Note(note("n1", "pay"), nil)
		k.Note(note("n1", "pay"), nil)
		wait(time.Minute)
		k.kill()
		k.Note(note("n1", "pay"), nil)
		if _, err := k.AddSilence(Silence{Matchers: []Matcher{{"project", "=", "shop"}}, Author: "me", Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		k.Note(note("n2", "shop"), nil)
		wait(time.Minute)
		wantLines(t, p.taken(), "noted n1")
		if open := k.Open(); len(open) != 0 {
			t.Errorf("open: %v", open)
		}
	})
}
