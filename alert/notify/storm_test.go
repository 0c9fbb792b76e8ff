package notify

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/record"
)

// TestFiftyProjectsFail for half an hour: each is told once in a `repeat` and once when
// it is over, in few messages, by an engine and a dispatcher that are joined as in the
// agent. One channel answers errors all the time; a rule's annotation cannot be filled in.
func TestFiftyProjectsFail(t *testing.T) {
	for repeat, minutes := range map[time.Duration]int{time.Hour: 30, 4 * time.Minute: 10} {
		story(t, func(t *testing.T) {
			const projects = 50
			chat, mail, broken := newPhone(), newPhone(), newPhone()
			broken.be(func(*Message) error {
				return &Later{Err: errors.New("answered errcode 130101: send too fast"), After: time.Minute}
			})
			rule, err := alert.Compile(alert.RuleConfig{Name: "errors", Per: []string{"project"}, When: "error >= 10", Repeat: repeat,
				Annotations: map[string]string{"broken": `{{index .Group.project 1000}}`, "good": "{{.Group.project}} fails"}})
			if err == nil {
				t.Fatal("a template that cannot be filled in is taken at the start")
			}
			rule, err = alert.Compile(alert.RuleConfig{Name: "errors", Per: []string{"project"}, When: "error >= 10", Repeat: repeat,
				Annotations: map[string]string{"broken": `{{if .Numbers}}{{index .Group.project 1000}}{{end}}`, "good": "{{.Group.project}} fails"}})
			if err != nil {
				t.Fatal(err)
			}
			k := newDesk(t, new(disk))
			defer func() { k.end() }()
			k.rules.RouteOf = func(in *alert.Incident) Route {
				r := Route{Labels: map[string]string{"rule": in.Rule}, Channels: []string{"chat", "broken"}}
				r.Annotations, r.Links = rule.Expand(in)
				return r
			}
			k.Configure(k.rules, []Lane{{Name: "chat", Channel: chat}, {Name: "mail", Channel: mail}, {Name: "broken", Channel: broken, Fallback: "mail"}})
			engine := alert.New([]*alert.Rule{rule}, time.Now, k.Emit)
			var taps []*alert.Tap
			for i := range projects {
				o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Input: "apps", Project: fmt.Sprintf("p%02d", i)})
				taps = append(taps, engine.Tap(fmt.Sprint(i), "apps", false, o))
			}
			line := new(record.Record)
			line.Reset()
			line.Level = record.LevelError
			began := time.Now()
			for second := 0; second < (minutes+5)*60; second += 3 {
				for _, tap := range taps {
					if second < minutes*60 { // 20 a minute
						tap.Observe(line, time.Now().UnixMilli(), []byte("boom"))
					}
					tap.Flush(record.Pos{Off: int64(second)}, true)
				}
				engine.Tick()
				wait(3 * time.Second)
			}
			told := make(map[string]int)
			for _, l := range chat.taken() {
				told[strings.Fields(l)[0]]++
			}
			repeats := int(time.Duration(minutes) * time.Minute / repeat) // the last while the window still holds lines
			want := map[string]int{"opened": projects, "resolved": projects}
			if repeats > 0 {
				want["repeated"] = repeats * projects
			}
			if !maps.Equal(told, want) {
				t.Errorf("repeat %s: told %v, want %v", repeat, told, want)
			}
			lines := chat.taken()
			slices.Sort(lines)
			if repeats == 0 && len(slices.Compact(lines)) != 2*projects {
				t.Errorf("%d different notices", len(slices.Compact(lines)))
			}
			if n := len(chat.calls()); n > 3*(2+repeats) {
				t.Errorf("repeat %s: %d messages", repeat, n)
			}
			if first := chat.calls()[0].after; first > 31*time.Second { // the tenth line is written in second 27
				t.Errorf("the first message came after %s of %s", first, time.Since(began))
			}
			handedOn := map[string]int{}
			for _, l := range mail.taken() {
				handedOn[strings.Fields(l)[0]]++
			}
			if handedOn["opened"] != projects || k.count("broken", "delivered") != 0 {
				t.Errorf("the fallback of the broken channel was told %v", handedOn)
			}
			if n := len(broken.calls()); n > 40 {
				t.Errorf("the channel that is too fast already was tried %d times in 35 minutes", n)
			}
			for _, n := range k.History() {
				if n.Item != nil && n.Item.Kind == alert.Opened {
					a := n.Item.Annotations
					if !strings.HasPrefix(a["broken"], "(template broken: ") || !strings.HasSuffix(a["good"], " fails") {
						t.Errorf("annotations: %v", a)
					}
				}
			}
		})
	}
}
