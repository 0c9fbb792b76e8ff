package dingtalk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
)

const (
	token  = "0123456789abcdef0123456789abcdef"
	secret = "SECabcdef0123456789"
)

// group answers as the robot of a group does.
type group struct {
	answer string // in place of its own
	got    []body
}

func (g *group) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	say := func(code int, text string) { fmt.Fprintf(w, `{"errcode":%d,"errmsg":%q}`, code, text) }
	if g.answer != "" {
		io.WriteString(w, g.answer)
		return
	}
	if q.Get("access_token") != token {
		say(300001, "token is not exist")
		return
	}
	stamp, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
	if age := time.Since(time.UnixMilli(stamp)); age > time.Hour || age < -time.Hour {
		say(310000, "invalid timestamp")
		return
	}
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, q.Get("timestamp")+"\n"+secret)
	if q.Get("sign") != base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		say(310000, "sign not match")
		return
	}
	var b body
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil || b.Type != "markdown" || b.Markdown.Title == "" || b.Markdown.Text == "" {
		say(400, "missing parameter")
		return
	}
	g.got = append(g.got, b)
	say(0, "ok")
}

func firing(kind alert.Kind) *notify.Message {
	return &notify.Message{Items: []notify.Item{{Kind: kind, Incident: alert.Incident{ID: "i1", Rule: "slow"}}}}
}

func TestSignedMessageMentionsWhoIsOnCall(t *testing.T) {
	g := &group{}
	s := httptest.NewServer(g)
	defer s.Close()
	r := &Robot{Webhook: s.URL + "/robot/send?access_token=" + token, Secret: secret, Mobiles: []string{"13800000000"}}
	for _, kind := range []alert.Kind{alert.Opened, alert.Resolved} {
		if err := r.Send(t.Context(), firing(kind)); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.got) != 2 || !strings.Contains(g.got[0].Markdown.Text, "@13800000000") || len(g.got[0].At.Mobiles) != 1 {
		t.Errorf("firing: %+v", g.got)
	}
	if len(g.got[1].At.Mobiles) != 0 || strings.Contains(g.got[1].Markdown.Text, "@") {
		t.Errorf("what is over calls somebody: %+v", g.got[1])
	}
}

func TestAnswersOfTheRobot(t *testing.T) {
	g := &group{}
	s := httptest.NewServer(g)
	defer s.Close()
	send := func(r *Robot, answer string) error {
		g.answer = answer
		err := r.Send(t.Context(), firing(alert.Opened))
		if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), secret)) {
			t.Errorf("a secret is told: %v", err)
		}
		return err
	}
	good := &Robot{Webhook: s.URL + "/robot/send?access_token=" + token, Secret: secret}
	if err := send(&Robot{Webhook: good.Webhook, Secret: "wrong"}, ""); err == nil || !strings.Contains(err.Error(), "sign not match") || !strings.Contains(err.Error(), "secret:") {
		t.Errorf("wrong secret: %v", err)
	}
	if err := send(&Robot{Webhook: s.URL + "/robot/send?access_token=other", Secret: secret}, ""); err == nil || !strings.Contains(err.Error(), "300001") {
		t.Errorf("wrong token: %v", err)
	}
	later := (*notify.Later)(nil)
	if err := send(good, `{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}`); !errors.As(err, &later) || later.After < time.Minute {
		t.Errorf("too fast: %v", err)
	}
	if err := send(good, `{"errcode":-1,"errmsg":"system busy `+token+`"}`); err == nil || errors.Is(err, notify.ErrRefused) {
		t.Errorf("busy: %v", err)
	}
	if err := send(good, `<html>login</html>`); err == nil || !strings.Contains(err.Error(), "is the webhook right") {
		t.Errorf("a portal: %v", err)
	}
	s.Close()
	if err := send(good, ""); err == nil {
		t.Error("nobody is there, and it is sent")
	}
}
