package notify_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/notify/alertmanager"
	"github.com/tailwater/tailwater/alert/notify/dingtalk"
	"github.com/tailwater/tailwater/alert/notify/mail"
	"github.com/tailwater/tailwater/alert/notify/webhook"
	"github.com/tailwater/tailwater/record"
)

// nowhere is a Store that keeps nothing.
type nowhere struct{}

func (nowhere) Commit(map[string]json.RawMessage) error { return nil }
func (nowhere) Range(func(key string, value []byte))    {}

// receiver is what stands at the other end of a channel, of any kind: it takes messages,
// as the robot of DingTalk 20 a minute, and keeps their text.
type receiver struct {
	mu    sync.Mutex
	texts []string
	times []time.Time
}

func (r *receiver) take(text string) (tooFast bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if n := len(r.times); n >= 20 && now.Sub(r.times[n-20]) < time.Minute {
		return true
	}
	r.texts, r.times = append(r.texts, text), append(r.times, now)
	return false
}

// client hands what is posted to the receiver, without a network.
func (r *receiver) client() *http.Client { return &http.Client{Transport: r} }

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	answer := `{"errcode":0,"code":0}`
	if r.take(string(body)) {
		answer = `{"errcode":130101,"code":9499}`
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(answer)), Header: make(http.Header), Request: req}, nil
}

// dial is a connection to a mail server that takes everything.
func (r *receiver) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		c := textproto.NewConn(theirs)
		c.PrintfLine("220 mail.test")
		for {
			line, err := c.ReadLine()
			switch verb := strings.ToUpper(strings.Fields(line + " -")[0]); {
			case err != nil:
				return
			case verb == "QUIT":
				c.PrintfLine("221 bye")
				return
			case verb == "DATA":
				c.PrintfLine("354 go on")
				text, err := io.ReadAll(quotedprintable.NewReader(c.DotReader()))
				if err != nil {
					return
				}
				plain, _, _ := strings.Cut(string(text), "text/html")
				r.take(plain)
				fallthrough
			default:
				c.PrintfLine("250 mail.test")
			}
		}
	}()
	return ours, nil
}

// kinds makes a channel of each kind to a receiver.
var kinds = map[string]func(r *receiver) (notify.Channel, error){
	"dingtalk": func(r *receiver) (notify.Channel, error) {
		return &dingtalk.Robot{Webhook: "http://robot.test/robot/send?access_token=x", Secret: "y", Client: r.client()}, nil
	},
	"smtp": func(r *receiver) (notify.Channel, error) {
		return mail.New(mail.Config{Addr: "mail.test:25", From: "a@example.com", To: []string{"b@example.com"}, Encryption: "none", Dial: r.dial})
	},
	"json": hook("json"), "slack": hook("slack"), "feishu": hook("feishu"), "wecom": hook("wecom"), "template": hook("{{plain 20000 .}}"),
	"alertmanager": func(r *receiver) (notify.Channel, error) {
		return &alertmanager.Cluster{URLs: []string{"http://am.test"}, Client: r.client()}, nil
	},
}

func hook(form string) func(r *receiver) (notify.Channel, error) {
	return func(r *receiver) (notify.Channel, error) {
		h, err := webhook.New("http://hook.test/", form, "", nil)
		if err == nil {
			h.Client = r.client()
		}
		return h, err
	}
}

// told counts the notices in a message, by project and word, and those that it says it
// leaves out.
func told(text string, into map[string]int) (leftOut int) {
	for line := range bufioLines(text) {
		if m := headline.FindStringSubmatch(line); m != nil {
			into[m[2]+" "+m[1]]++
		}
		if m := more.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			leftOut += n
		}
	}
	return leftOut
}

var (
	headline = regexp.MustCompile(`[\[(](FIRING|STILL FIRING|RESOLVED)[\])] errors project=(p\d\d)`)
	more     = regexp.MustCompile(`and (\d+) more`)
)

// bufioLines are the lines of a text, also of one that stands in JSON.
func bufioLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(strings.NewReader(strings.ReplaceAll(text, `\n`, "\n")))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// TestAStormOverEachKindOfChannel: fifty projects fail for ten minutes, with `repeat: 4m`.
// Each kind of channel tells of each project once in a `repeat`, and once when it is over,
// in few messages, and the first within a second of the tenth line.
func TestAStormOverEachKindOfChannel(t *testing.T) {
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := new(receiver)
				channel, err := open(r)
				if err != nil {
					t.Fatal(err)
				}
				storm(t, channel)
				if kind == "alertmanager" {
					r.wantAlerts(t)
					return
				}
				r.wantStorm(t)
			})
		})
	}
}

const (
	stormProjects = 50
	stormRepeats  = 2 // within ten minutes
	tenthLine     = 27 * time.Second
)

// storm has an engine and a dispatcher, joined as in the agent, go through it.
func storm(t *testing.T, channel notify.Channel) {
	rule, err := alert.Compile(alert.RuleConfig{Name: "errors", Per: []string{"project"}, When: "error >= 10", Repeat: 4 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	d := notify.New(notify.Options{Host: "web-1", Store: nowhere{}, Log: slog.New(slog.DiscardHandler)})
	engine := alert.New([]*alert.Rule{rule}, time.Now, d.Emit)
	route := func(in *alert.Incident) notify.Route {
		return notify.Route{Labels: map[string]string{"rule": in.Rule, "project": in.Group[0].Value}}
	}
	d.Configure(notify.Rules{RouteOf: route, Firing: engine.Firing}, []notify.Lane{{Name: "channel", Channel: channel}})
	var taps []*alert.Tap
	for i := range stormProjects {
		o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Input: "apps", Project: fmt.Sprintf("p%02d", i)})
		taps = append(taps, engine.Tap(fmt.Sprint(i), "apps", false, o))
	}
	line := new(record.Record)
	line.Reset()
	line.Level = record.LevelError
	for second := 0; second < 15*60; second += 3 {
		for _, tap := range taps {
			if second < 10*60 { // 20 a minute
				tap.Observe(line, time.Now().UnixMilli(), []byte("boom"))
			}
			tap.Flush(record.Pos{Off: int64(second)}, true)
		}
		engine.Tick()
		time.Sleep(3 * time.Second) // of the bubble's clock
		synctest.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (r *receiver) wantStorm(t *testing.T) {
	t.Helper()
	began := time.Now().Add(-15 * time.Minute)
	notices, leftOut := make(map[string]int), 0
	for _, text := range r.texts {
		leftOut += told(text, notices)
	}
	sum := leftOut
	for what, n := range notices {
		sum += n
		if most := map[bool]int{true: stormRepeats, false: 1}[strings.HasSuffix(what, "STILL FIRING")]; n > most {
			t.Errorf("%s is told %d times", what, n)
		}
	}
	if want := stormProjects * (2 + stormRepeats); sum != want {
		t.Errorf("%d notices, %d of them left out of the text; want %d", sum, leftOut, want)
	}
	if n := len(r.texts); n > 3*(2+stormRepeats) {
		t.Errorf("%d messages", n)
	}
	if first := r.times[0].Sub(began); first > tenthLine+time.Second {
		t.Errorf("the first message came after %v", first)
	}
}

// wantAlerts wants what Alertmanager needs to group and repeat by itself: each project as
// one alert, which is kept alive and then ended.
func (r *receiver) wantAlerts(t *testing.T) {
	t.Helper()
	ended := make(map[string]bool)
	for i, text := range r.texts {
		var all []struct {
			Labels map[string]string
			EndsAt time.Time
		}
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			project := a.Labels["project"]
			if ended[project] {
				t.Errorf("%s is told again after its end", project)
			}
			ended[project] = !a.EndsAt.After(r.times[i])
		}
	}
	for project, over := range ended {
		if !over {
			t.Errorf("%s is not ended", project)
		}
	}
	if len(ended) != stormProjects {
		t.Errorf("%d projects", len(ended))
	}
	if n := len(r.texts); n > 15+stormProjects {
		t.Errorf("%d requests in 15 minutes", n)
	}
}
