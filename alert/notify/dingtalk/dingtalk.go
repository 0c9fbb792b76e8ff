// Package dingtalk sends notices to a group of DingTalk through a custom robot.
package dingtalk

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
)

// Robot is a custom robot of a group. It takes 20 messages a minute; the pace of people
// keeps below it.
type Robot struct {
	// Webhook is the robot's address with its access token.
	Webhook string
	// Secret is what the robot's "additional signature" is made with; "" for a robot
	// that is secured otherwise.
	Secret string
	// Mobiles are the telephone numbers of members who are mentioned when something
	// fires, All mentions everybody.
	Mobiles []string
	All     bool
	// Client sends; nil is one of its own.
	Client *http.Client
}

// maxText keeps the body below the 20,000 bytes that a robot takes, with room for what
// JSON escapes.
const maxText = 12_000

type body struct {
	Type     string   `json:"msgtype"`
	Markdown markdown `json:"markdown"`
	At       at       `json:"at"`
}

type markdown struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

type at struct {
	Mobiles []string `json:"atMobiles,omitempty"`
	All     bool     `json:"isAtAll"`
}

// Send sends the message as Markdown.
func (r *Robot) Send(ctx context.Context, m *notify.Message) error {
	b := body{Type: "markdown", Markdown: markdown{Title: m.Title(), Text: m.Markdown(maxText)}}
	if mentions(m) {
		b.At = at{r.Mobiles, r.All}
		for _, mobile := range r.Mobiles { // who is not in the text is not told
			b.Markdown.Text += "@" + mobile + " "
		}
	}
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	address, err := r.signed(time.Now())
	if err != nil {
		return err
	}
	client := r.Client
	if client == nil {
		client = plain
	}
	answer, err := notify.Post(ctx, client, address, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, data)
	if err != nil {
		return err
	}
	if err := answer.Err(); err != nil {
		return err
	}
	return verdict(answer)
}

var plain = notify.NewClient(http.DefaultTransport.(*http.Transport).Clone())

// mentions tells whether somebody is to be called: not for what is over, nor for a
// report.
func mentions(m *notify.Message) bool {
	for i := range m.Items {
		if m.Items[i].Firing() {
			return true
		}
	}
	return len(m.Texts) > 0
}

// signed is the address with the signature of the moment: the time in milliseconds and
// the base64 of HMAC-SHA256(secret, time + "\n" + secret).
func (r *Robot) signed(now time.Time) (string, error) {
	u, err := url.Parse(r.Webhook)
	if err != nil {
		return "", errors.New("the webhook is not a URL")
	}
	if r.Secret == "" {
		return r.Webhook, nil
	}
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(r.Secret))
	mac.Write([]byte(stamp + "\n" + r.Secret))
	q := u.Query()
	q.Set("timestamp", stamp)
	q.Set("sign", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// The codes of answers that ask for something of their own.
const (
	tooFast  = 130101 // more than 20 messages a minute
	overLoad = 90030  // the webhook's quota
	insecure = 310000 // signature, keyword or address do not fit; the text says which
	noToken  = 300001
)

// verdict reads the error code of an answer, which has the status 200 whatever happened.
func verdict(a notify.Answer) error {
	var said struct {
		Code    *int   `json:"errcode"`
		Message string `json:"errmsg"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil || said.Code == nil {
		return fmt.Errorf("answered what no robot answers: %s; is the webhook right?", a.Excerpt())
	}
	err := fmt.Errorf("answered errcode %d: %s", *said.Code, notify.Answer{Body: []byte(said.Message)}.Excerpt())
	switch *said.Code {
	case 0:
		return nil
	case tooFast, overLoad:
		return &notify.Later{Err: err, After: time.Minute}
	case insecure:
		return fmt.Errorf("%w; compare the robot's security settings with secret: in the configuration", err)
	case noToken:
		return fmt.Errorf("%w; compare the robot's address with webhook: in the configuration", err)
	}
	return err
}
