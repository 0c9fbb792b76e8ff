package e2e

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/tailwater/tailwater/agent"
	fake "github.com/tailwater/tailwater/test/fake/kube"
	"github.com/tailwater/tailwater/test/rig"
)

// TestTheLedgerKnowsWhatPodsExclude: one container is never wanted, one not at first, one
// not any more. Every byte of theirs is accounted for: by the agent that runs, after a
// crash, and by the state of one that is stopped.
func TestTheLedgerKnowsWhatPodsExclude(t *testing.T) {
	t.Parallel()
	n := newNode(t, "", "    format: json\n")
	n.start()
	wish := func(which ...string) {
		pod := fake.Pod{Name: "web-1", UID: "uid-web-1", Namespace: "shop", Node: "node-a", Annotations: make(map[string]string)}
		for _, name := range which {
			pod.Annotations["tailwater/exclude."+name] = "true"
		}
		n.api.Put(pod)
	}
	wish("never", "later")
	all := make(map[string]*rig.Container)
	write := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if all[name] == nil {
				c, err := n.Start("shop", "web-1", "uid-web-1", name)
				n.check(err)
				all[name] = c
			}
			n.check(all[name].Write(50, 50))
		}
	}
	excluded := func(least int64) {
		t.Helper()
		n.check(rig.Poll(n.ctx, "what is excluded", func() error {
			if m, err := n.agent.Metrics(); err != nil || int64(m.Sum("excluded_bytes_total")) < least {
				return fmt.Errorf("%v bytes, want %d; %v", m.Sum("excluded_bytes_total"), least, err)
			}
			return nil
		}))
	}
	write("never", "later", "once")
	excluded(all["never"].Bytes + all["later"].Bytes)
	n.exactContainers(all["once"])
	n.stop(0) // on disk: what a crash has read again is judged by what is wanted then
	n.start()
	wish("never", "once")
	n.check(rig.Poll(n.ctx, "the change to be known", func() error {
		write("later")
		if c := all["later"]; !n.count().Has(c.ID, c.N-1) {
			return fmt.Errorf("its last line is not delivered")
		}
		return nil
	}))
	write("never", "later", "once")
	n.check(n.settled(all))
	n.stop(0)
	n.start()
	n.check(n.settled(all))
	n.agent.Kill()
	write("never", "later", "once")
	n.start()
	n.check(n.settled(all))
	n.stop(0)
	n.check(n.settled(all))
}

// settled waits until the ledger has of each container the lines that were delivered as
// such, and all its others as skipped.
func (n *node) settled(all map[string]*rig.Container) error {
	return rig.Poll(n.ctx, "the ledger", func() error {
		found := n.count()
		for name, c := range all {
			data, err := os.ReadFile(c.Path())
			if err != nil {
				return rig.Final(err)
			}
			var want agent.OutputShare
			i := 0
			for line := range bytes.Lines(data) {
				if found.Has(c.ID, i) {
					want.Delivered += int64(len(line))
					want.Documents++
				} else {
					want.Skipped += int64(len(line))
				}
				i++
			}
			l, err := n.Ledger(n.ctx, c.Path())
			if err != nil {
				return err
			}
			if len(l.Files) != 1 {
				return fmt.Errorf("%s: %d generations", name, len(l.Files))
			}
			g := l.Files[0]
			if g.Outputs["out"] != want || g.Written != c.Bytes || g.Skipped != want.Skipped || g.Read != want.Delivered {
				return fmt.Errorf("%s: %d bytes were written, and %+v; the ledger has %+v", name, c.Bytes, want, g.Share)
			}
			if name == "never" && want.Documents > 0 || name != "never" && (want.Documents == 0 || want.Skipped == 0) {
				return fmt.Errorf("%s: %+v", name, want)
			}
		}
		return nil
	})
}
