package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// TestAFleetOfMoreGroupsThanFit: hosts count more projects than the evaluators have memory
// for, also when another one takes over and reads all counts at once. What fires goes on,
// what does not count is counted and named, and when it is calm again all is as before.
func TestAFleetOfMoreGroupsThanFit(t *testing.T) {
	const memory = 200 << 10
	seconds := 30
	if slow {
		seconds = 8
	}
	bubble(t, 1, func(w *world) {
		w.memory = memory
		w.hosts(3)
		a := w.evaluate("a")
		w.after(settled)
		w.nodes[0].write(errorsNow(10, "pay")...)
		w.after(2 * time.Second)
		w.want(alert.Opened)
		for range seconds {
			for i := range 300 {
				w.nodes[i%3].write(errorsNow(1, fmt.Sprint("p", i))...)
			}
			w.nodes[1].write(errorsNow(1, "pay")...)
			w.after(time.Second)
			within(t, a, memory)
		}
		a.kill()
		b := w.evaluate("b")
		w.after(20 * time.Second)
		within(t, b, memory)
		s := b.evaluator.Stats()[0]
		if s.Overflow < 100 || len(s.Overflowed) == 0 || !s.Tight || s.Groups < 10 || s.Groups > 200 || s.Firing == 0 {
			t.Errorf("%+v", s)
		}
		w.after(5 * time.Minute)
		told := w.channel.opened()
		w.nodes[2].write(errorsNow(10, "p299")...)
		w.after(3 * time.Second)
		if n := w.channel.opened(); n != told+1 {
			t.Errorf("%d incidents more when there is room again", n-told)
		}
	}, appErrors)
}

// within wants that the evaluator keeps to its memory; what fires may take somewhat more.
func within(t *testing.T, p *process, memory int64) {
	t.Helper()
	for _, s := range p.evaluator.Stats() {
		if s.Bytes > memory && (s.Groups > s.Firing || s.Bytes > memory*5/4) {
			t.Errorf("%d KiB are used, of %d: %+v", s.Bytes>>10, memory>>10, s)
		}
	}
}
