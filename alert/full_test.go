package alert

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// TestPathsWithIdsInThem: a rule by path has its groups, and nearly every line is of yet
// another path. The lines of the known groups count, whichever chain brings them, those of
// the others are counted as such, without an allocation; when groups are gone others are
// admitted.
func TestPathsWithIdsInThem(t *testing.T) {
	for name, per := range map[string][]string{"path": {"path"}, "project and path": {"project", "path"}, "path and method": {"path", "method"}} {
		t.Run(name, func(t *testing.T) {
			const most = 100
			w := newWorld(t, mustCompile(t, RuleConfig{Name: "r", Per: per, When: "count() >= 3", MaxGroups: most}))
			w.settled()
			tap, other := w.tap("p", "h"), w.tap("p", "i")
			odd := []string{"", "/", "/seven7", "/" + strings.Repeat("long", 80), "/ü" + strings.Repeat("ü", 200)}
			r := lineOf(0, "path", "", "method", "GET")
			see := func(tap *Tap, path string) {
				r.Fields[0].Val = append(r.Fields[0].Val[:0], path...)
				tap.Observe(r, milli(11), nil)
			}
			for i := range most + 20 {
				if i < len(odd) {
					see(tap, odd[i])
				} else {
					see(tap, fmt.Sprint("/known/", i))
				}
			}
			tap.Flush(record.Pos{}, true)
			for i := range 5000 {
				see(tap, fmt.Sprint("/new/", i))
			}
			for _, path := range odd {
				see(tap, path)
				see(other, path) // has not seen it before
			}
			see(other, fmt.Sprint("/known/", most))
			tap.Flush(record.Pos{}, true)
			other.Flush(record.Pos{}, true)
			s := w.engine.Stats()[0]
			if s.Groups != most || s.Overflow != 20+5000+1 || s.Firing != len(odd) {
				t.Errorf("%+v", s)
			}
			i := 0
			path := []byte("/some/path/00000")
			if n := testing.AllocsPerRun(1000, func() {
				i++
				for j := range 5 {
					path[len(path)-1-j] = '0' + byte(i>>(3*j)&7)
				}
				r.Fields[0].Val = append(r.Fields[0].Val[:0], path...)
				tap.Observe(r, milli(11), nil)
			}); n > 0 {
				t.Errorf("%v allocations for a line that is left out", n)
			}
			tap.Flush(record.Pos{}, true)
			w.events = nil
			w.seen = 0
			w.at(11 + 600) // groups without lines make room
			w.events = nil
			for range 3 {
				r.Fields[0].Val = append(r.Fields[0].Val[:0], "/new/1"...)
				tap.Observe(r, milli(611), nil)
			}
			tap.Flush(record.Pos{}, true)
			if s := w.engine.Stats()[0]; s.Groups != 1 || s.Firing != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}
