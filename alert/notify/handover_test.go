package notify

import (
	"slices"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// A report of the fleet is taken back when another is to send it, goes to the channels
// that have not had it when it comes here again, and is not sent on its own by a process
// that comes back.
func TestReportOfTheFleetIsHandedOver(t *testing.T) {
	story(t, func(t *testing.T) {
		up, other := newPhone(), newPhone()
		other.be(down)
		store := new(disk)
		k := newDesk(t, store, Lane{Name: "up", Channel: up}, Lane{Name: "other", Channel: other}, Lane{Name: "third", Channel: newPhone()})
		day := &Note{Report: &Report{ID: "daily/2026-03-04", Name: "daily", Rows: []ReportRow{{Lines: 1}}}, Channels: []string{"up", "other"}}
		over := &Note{Item: new(NewItem(alert.Noted, time.Now(), alert.Incident{ID: "pay", Rule: "daily", Notices: 1}, Route{})), Channels: []string{"up"}}
		if done, waits := k.PostedNote(day); len(done) != 0 || !waits {
			t.Errorf("before it is posted: %v, %v", done, waits)
		}
		k.PostNote(day, nil)
		k.PostNote(over, nil)
		time.Sleep(5 * time.Second)
		if done, waits := k.PostedNote(day); !slices.Equal(done, []string{"up"}) || !waits {
			t.Errorf("answered: %v, waits %v", done, waits)
		}
		if done, waits := k.PostedNote(over); !slices.Equal(done, []string{"up"}) || waits {
			t.Errorf("answered: %v, waits %v", done, waits)
		}
		if done := k.WithdrawNote(t.Context(), day); !slices.Equal(done, []string{"up"}) {
			t.Errorf("withdrawn after %v", done)
		}
		k.end()
		other.be(nil)
		k.open()
		time.Sleep(time.Minute)
		if n := len(other.taken()); n != 0 {
			t.Errorf("sent on its own: %v", other.taken())
		}
		k.PostNote(day, []string{"up"})
		time.Sleep(time.Minute)
		if done, waits := k.PostedNote(day); !slices.Equal(done, []string{"other", "up"}) || waits {
			t.Errorf("answered: %v, waits %v", done, waits)
		}
		if got := other.taken(); !slices.Equal(got, []string{"daily/2026-03-04 with 1 rows"}) || len(up.taken()) != 2 {
			t.Errorf("%v, %v", got, up.taken())
		}
		k.end()
	})
}
