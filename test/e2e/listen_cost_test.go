package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// TestReceivingIsCheap sends NDJSON over eight connections, as fast as answers come, and
// wants more than 100 MB for each second of the agent's CPU time: from the socket over
// the spool to the encoded document. It tells how long answers took.
func TestReceivingIsCheap(t *testing.T) {
	if torture() == 0 {
		t.Skip("it measures: TAILWATER_TORTURE=1m on a quiet machine")
	}
	w := newBareWorld(t)
	addr := freeAddr(w)
	w.config(fmt.Sprintf("inputs:\n  web: {http: {listen: '%s'}}\noutputs:\n  out: {discard: {}}\n", addr))
	w.start()
	var text []byte
	for n := range 4000 {
		text = fmt.Appendf(text, `{"time":"2026-11-25T10:00:%02d.%03dZ","level":"info","msg":"order %d was paid","request_id":"6f1c2b9a%08x","user":"u-%d","ms":%d,"logger":"c.x.Orders"}`+"\n", n%60, n%1000, n, n, n%977, n%313)
	}
	const connections, requests = 8, 100
	var took []time.Duration
	var mu sync.Mutex
	var senders sync.WaitGroup
	begun := time.Now()
	for range connections {
		senders.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for range requests {
				for {
					at := time.Now()
					resp, err := client.Post("http://"+addr+"/v1/logs/shop", "application/x-ndjson", bytes.NewReader(text))
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode == 429 {
						w.pause(100 * time.Millisecond)
						continue
					}
					if resp.StatusCode != 202 {
						t.Error(resp.Status)
						return
					}
					mu.Lock()
					took = append(took, time.Since(at))
					mu.Unlock()
					break
				}
			}
		})
	}
	senders.Wait()
	wall := time.Since(begun)
	total := float64(len(text) * connections * requests)
	w.check(rig.Poll(w.ctx, "all lines to be read", func() error {
		if n := w.metrics().Sum("output_lines_total", `output="out"`); n != 4000*connections*requests {
			return fmt.Errorf("%v lines", n)
		}
		return nil
	}))
	p, err := w.agent.Proc()
	w.check(err)
	slices.Sort(took)
	rate := total / 1e6 / (float64(p.Ticks) / 100)
	t.Logf("%.0f MB in %.1f s; %.0f MB for a second of CPU; %d MiB of memory at most; answers: median %v, p99 %v, longest %v",
		total/1e6, wall.Seconds(), rate, p.Peak>>20, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	if rate < 100 {
		t.Errorf("%.0f MB for a second of CPU", rate)
	}
}
