package services

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/test/rig"
)

// A silence that is given to one process holds on those that decide, whoever that is,
// and ends for all when any of them ends it.
func TestSilenceHoldsOverTheFleet(t *testing.T) {
	name := fmt.Sprint("hush-", time.Now().Unix())
	f := newFleetRig(t, name, servers.Brokers("KAFKA_BROKERS"), 1, 2, appErrors)
	f.start(f.hosts[0], f.evaluators[0])
	f.decided(60 * time.Second)
	silence := func(h *rig.Home, args ...string) string {
		t.Helper()
		out, err := h.Command(t.Context(), append([]string{"silence", args[0], "-c", h.Config()}, args[1:]...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	held := func(n int, homes ...*rig.Home) (all []notify.Silence) {
		t.Helper()
		for _, h := range homes {
			f.poll(30*time.Second, "the silences of "+h.Dir, func() error {
				all = nil
				body, err := f.running[h].Get("/api/v1/silences")
				if err == nil {
					err = json.Unmarshal(body, &all)
				}
				if err == nil && len(all) != n {
					err = fmt.Errorf("%d of %d", len(all), n)
				}
				return err
			})
		}
		return all
	}
	silence(f.hosts[0], "add", "--for", "1h", "--author", "me", "project=quiet")
	id := held(1, f.evaluators[0])[0].ID
	f.errors(0, "quiet", 10)
	f.counted("first")
	f.untold("quiet", 0)

	// Another one takes over, which was not there when the silence was added.
	f.start(f.evaluators[1])
	held(1, f.evaluators[1])
	f.kill(f.evaluators[0])
	f.decided(60 * time.Second)
	f.errors(0, "quiet", 1)
	f.counted("second")
	f.untold("quiet", 0)

	silence(f.evaluators[1], "expire", id)
	held(0, f.hosts[0])
	f.start(f.evaluators[0])
	held(0, f.evaluators[0])
}
