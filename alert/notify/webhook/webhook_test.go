package webhook

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
)

func message(text string) *notify.Message {
	return &notify.Message{Host: "web-1", Items: []notify.Item{{Kind: alert.Opened, Incident: alert.Incident{ID: "i1", Rule: "slow",
		Samples: []alert.Sample{{Text: text}}}}}}
}

// post sends to a server that gives the answer, and returns the body that it got.
func post(t *testing.T, form, secret string, status int, answer string) (string, http.Header, error) {
	t.Helper()
	var got []byte
	var header http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		header = r.Header
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer s.Close()
	h, err := New(s.URL+"/hook/0123456789abcdef0123", form, secret, map[string]string{"X-Token": "t"})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Send(t.Context(), message("<!channel> \"quoted\" <at user_id=\"all\">"))
	if err != nil && strings.Contains(err.Error(), "0123456789abcdef0123") {
		t.Errorf("the token is told: %v", err)
	}
	return string(got), header, err
}

func TestReadyTemplates(t *testing.T) {
	for form, answer := range map[string]string{
		"json": "", "": "ok", "slack": "ok", "feishu": `{"code":0,"msg":"success"}`, "wecom": `{"errcode":0,"errmsg":"ok"}`,
		`{"text": {{json (title .)}}, "host": {{json .Host}}, "all": {{json (plain 400 .)}}}`: "",
	} {
		body, header, err := post(t, form, "", 200, answer)
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		var any map[string]any
		if json.Unmarshal([]byte(body), &any) != nil || !strings.Contains(body, "slow") {
			t.Errorf("%s: %s", form, body)
		}
		if form == "slack" && strings.Contains(body, "<!channel>") || form == "feishu" && strings.Contains(body, `<at`) {
			t.Errorf("%s: a log line mentions somebody: %s", form, body)
		}
		if header.Get("X-Token") != "t" || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %v", form, header)
		}
	}
}

func TestAnswers(t *testing.T) {
	later := (*notify.Later)(nil)
	if _, _, err := post(t, "json", "", 400, "no such field /hook/0123456789abcdef0123"); !errors.Is(err, notify.ErrRefused) {
		t.Errorf("400: %v", err)
	}
	if _, _, err := post(t, "json", "", 404, ""); err == nil || errors.Is(err, notify.ErrRefused) {
		t.Errorf("404: %v", err)
	}
	if _, _, err := post(t, "json", "", 302, ""); err == nil {
		t.Error("302 is success")
	}
	if _, _, err := post(t, "feishu", "", 200, `{"code":9499,"msg":"too many request"}`); !errors.As(err, &later) || later.After < time.Minute {
		t.Errorf("too many: %v", err)
	}
	if _, _, err := post(t, "wecom", "", 200, `{"errcode":93000,"errmsg":"invalid webhook url"}`); err == nil || !strings.Contains(err.Error(), "93000") {
		t.Errorf("wecom: %v", err)
	}
	if _, _, err := post(t, "feishu", "", 200, `{}`); err == nil {
		t.Error("no code is success")
	}
}

func TestFeishuSignature(t *testing.T) {
	b, err := writeFeishu(message("x"), "demo", time.Unix(1599360473, 0))
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Timestamp, Sign string }
	// The value is that of: printf '' | openssl dgst -sha256 -hmac $'1599360473\ndemo' -binary | base64
	if err := json.Unmarshal(b, &got); err != nil || got.Timestamp != "1599360473" || got.Sign != "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=" {
		t.Errorf("%s: %v", b, err)
	}
}

func TestWrongTemplates(t *testing.T) {
	for _, form := range []string{"slak", "{{", "{{.Nonsense}}", "{{nonsense .}}"} {
		if _, err := New("http://x", form, "", nil); err == nil {
			t.Errorf("%s is taken", form)
		}
	}
}
