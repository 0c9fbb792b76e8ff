// Package webhook posts notices to an address in a form of the user's choice.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
)

// Hook is an address that takes a message in one POST.
type Hook struct {
	// Client sends; New gives it one of its own.
	Client *http.Client

	url    string
	secret string
	header http.Header
	form   form
	pace   notify.Pace
}

// form is how a message is written, and how the answer is read.
type form struct {
	write func(m *notify.Message, secret string, now time.Time) ([]byte, error)
	read  func(notify.Answer) error
}

// Ready are the names of the forms that are built in.
func Ready() []string { return slices.Sorted(maps.Keys(ready)) }

var ready = map[string]form{
	"json":   {writeJSON, notify.Answer.Err},
	"slack":  {writeSlack, notify.Answer.Err},
	"feishu": {writeFeishu, readCode},
	"wecom":  {writeWecom, readCode},
}

// New returns a hook. form is the name of a ready one (Ready; "" is json), or a Go
// template for the body, which sees the notify.Message and has the functions json,
// which writes a value as JSON, plain and markdown, which write the message as text of
// at most that many bytes, and title. Secret signs messages to Feishu.
func New(url, form, secret string, headers map[string]string) (*Hook, error) {
	h := &Hook{url: url, secret: secret, header: make(http.Header), pace: notify.ForPeople, Client: plain}
	h.header.Set("Content-Type", "application/json; charset=utf-8")
	for key, value := range headers {
		h.header.Set(key, value)
	}
	if form == "" {
		form = "json"
	}
	if form == "json" {
		h.pace = notify.ForPrograms
	}
	var known bool
	if h.form, known = ready[form]; known {
		return h, nil
	}
	if !strings.Contains(form, "{{") {
		return nil, fmt.Errorf("%q is neither a ready template nor a text with {{..}}; ready ones are %s", form, strings.Join(Ready(), ", "))
	}
	write, err := parse(form)
	h.form.write, h.form.read = write, notify.Answer.Err
	return h, err
}

var plain = notify.NewClient(http.DefaultTransport.(*http.Transport).Clone())

// parse makes a form of a template, and tries it on an empty message.
func parse(text string) (func(*notify.Message, string, time.Time) ([]byte, error), error) {
	tpl, err := template.New("template").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"plain":    func(limit int, m *notify.Message) string { return m.Plain(limit) },
		"markdown": func(limit int, m *notify.Message) string { return m.Markdown(limit) },
		"title":    func(m *notify.Message) string { return m.Title() },
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "template: "))
	}
	write := func(m *notify.Message, _ string, _ time.Time) ([]byte, error) {
		var b strings.Builder
		err := tpl.Execute(&b, m)
		return []byte(b.String()), err
	}
	if _, err := write(&notify.Message{Host: "host", Items: []notify.Item{{}}, Texts: []string{"text"}}, "", time.Time{}); err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "template: "))
	}
	return write, nil
}

// Pace is that of programs for JSON, else that of people.
func (h *Hook) Pace() notify.Pace { return h.pace }

// Send posts the message.
func (h *Hook) Send(ctx context.Context, m *notify.Message) error {
	data, err := h.form.write(m, h.secret, time.Now())
	if err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	answer, err := notify.Post(ctx, h.Client, h.url, h.header, data)
	if err != nil {
		return err
	}
	return h.form.read(answer)
}

func writeJSON(m *notify.Message, _ string, _ time.Time) ([]byte, error) {
	return json.Marshal(struct {
		Title string `json:"title"`
		Text  string `json:"text"`
		*notify.Message
	}{m.Title(), m.Plain(16 << 10), m})
}

// writeSlack: an incoming webhook takes {"text": ..}; & < > are escaped so that no log
// line mentions or links anything.
func writeSlack(m *notify.Message, _ string, _ time.Time) ([]byte, error) {
	text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(m.Plain(12_000))
	return json.Marshal(map[string]string{"text": text})
}

// writeFeishu: a custom bot takes {"msg_type": "text", ..}, and, if it wants a
// signature, the time in seconds and the base64 of HMAC-SHA256(time + "\n" + secret, "").
func writeFeishu(m *notify.Message, secret string, now time.Time) ([]byte, error) {
	type content struct {
		Text string `json:"text"`
	}
	b := struct {
		Timestamp string  `json:"timestamp,omitempty"`
		Sign      string  `json:"sign,omitempty"`
		Type      string  `json:"msg_type"`
		Content   content `json:"content"`
	}{Type: "text", Content: content{strings.NewReplacer("<at", "‹at").Replace(m.Plain(12_000))}}
	if secret != "" {
		b.Timestamp = strconv.FormatInt(now.Unix(), 10)
		mac := hmac.New(sha256.New, []byte(b.Timestamp+"\n"+secret))
		b.Sign = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return json.Marshal(b)
}

// writeWecom: a group robot takes Markdown of at most 4,096 bytes.
func writeWecom(m *notify.Message, _ string, _ time.Time) ([]byte, error) {
	return json.Marshal(map[string]any{"msgtype": "markdown", "markdown": map[string]string{"content": m.Markdown(4000)}})
}

// The codes for too many messages: Feishu's, and WeCom's.
var tooMany = []int{9499, 11232, 45009}

// readCode reads an answer that has the status 200 whatever happened, and a code.
func readCode(a notify.Answer) error {
	if err := a.Err(); err != nil {
		return err
	}
	var said struct {
		Code    *int   `json:"code"`
		Errcode *int   `json:"errcode"`
		Status  *int   `json:"StatusCode"` // how Feishu's older bots answer
		Msg     string `json:"msg"`
		Errmsg  string `json:"errmsg"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil {
		return fmt.Errorf("answered what no robot answers: %s; is the url right?", a.Excerpt())
	}
	for _, code := range []*int{said.Code, said.Errcode, said.Status} {
		switch {
		case code == nil:
			continue
		case *code == 0:
			return nil
		}
		err := fmt.Errorf("answered code %d: %s", *code, notify.Answer{Body: []byte(said.Msg + said.Errmsg)}.Excerpt())
		if slices.Contains(tooMany, *code) {
			return &notify.Later{Err: err, After: time.Minute}
		}
		return err
	}
	return fmt.Errorf("answered without a code: %s; is the url right?", a.Excerpt())
}
