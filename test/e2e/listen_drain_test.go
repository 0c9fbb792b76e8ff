package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

// TestDrainShipsWhatWasReceived: a drain refuses what is new, ships the rest to its end,
// and the agent stops.
func TestDrainShipsWhatWasReceived(t *testing.T) {
	t.Parallel()
	w, r := startReceiving(t)
	s := &sender{Lines: &rig.Lines{ID: "x"}, w: w, url: "http://" + r.http + "/v1/logs/shop", kind: "application/x-ndjson", want: 202}
	for range 20 {
		s.send(1000, 100)
	}
	w.check(w.agent.Drain(w.ctx))
	tally, err := rig.Count(w.path("out.ndjson"))
	w.check(err)
	if err := tally.Exact(nil, s.Lines); err != nil {
		t.Error(err)
	}
	if status, answer := r.post(w, "shop", "text/plain", "late"); status != 0 {
		t.Errorf("after the drain: %d %s", status, answer)
	}
}

// TestDrainShipsTheLastMessagesOfSyslog: nobody answers for them, and the last ones are not on
// disk yet, or not complete, when the drain begins.
func TestDrainShipsTheLastMessagesOfSyslog(t *testing.T) {
	t.Parallel()
	w, r := startReceiving(t)
	const senders = 20
	want := make(map[string]int)
	for i := range senders {
		c, err := net.Dial("tcp", r.syslog)
		w.check(err)
		defer c.Close()
		fmt.Fprintf(c, "<11>whole %[1]d\n<11>unfinished %[1]d", i)
		want[fmt.Sprint("whole ", i)], want[fmt.Sprint("unfinished ", i)] = 1, 1
	}
	w.check(rig.Poll(w.ctx, "the senders", func() error {
		m, err := w.agent.Metrics()
		if err == nil && m[`tailwater_listen_connections{input="sys"}`] < senders {
			err = errors.New("not all are connected")
		}
		return err
	}))
	w.check(w.agent.Drain(w.ctx))
	data, err := os.ReadFile(w.path("out.ndjson"))
	w.check(err)
	got := make(map[string]int)
	for line := range bytes.Lines(data) {
		var doc struct{ Message string }
		w.check(json.Unmarshal(line, &doc))
		got[doc.Message]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d messages of %d: %v", len(got), len(want), got)
	}
}
