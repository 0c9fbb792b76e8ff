package config

import (
	"strings"

	"github.com/tailwater/tailwater/alert/notify/mail"
	"github.com/tailwater/tailwater/alert/notify/webhook"
	"github.com/tailwater/tailwater/internal/schema"
	"github.com/tailwater/tailwater/internal/units"
)

// Channel is a way to tell people: exactly one of the kinds.
type Channel struct {
	Name string `yaml:",name" check:"name"`

	DingTalk     *DingTalk     `yaml:"dingtalk" kind:"channel" doc:"A group of DingTalk, through a custom robot."`
	SMTP         *SMTP         `yaml:"smtp" kind:"channel" also:"mail email" doc:"Mail, handed to a server by SMTP."`
	Alertmanager *Alertmanager `yaml:"alertmanager" kind:"channel" doc:"Alertmanager, which groups, silences and routes by itself; what fires is kept alive there."`
	Webhook      *Webhook      `yaml:"webhook" kind:"channel" also:"http slack feishu lark wecom" doc:"An address that takes a POST: with ready templates for Slack, Feishu and WeCom, or one of your own."`

	Fallback string `yaml:"fallback" unset:"none" ref:"notify" doc:"Channel that is told what this one could not deliver for a minute."`
}

// Kind returns which of the kinds the channel is, as its key in the file.
func (c *Channel) Kind() string { return schema.Kind(c) }

// Check looks at what concerns several keys at once.
func (c *Channel) Check(problem func(key, text string)) {
	if c.Fallback != "" && c.Fallback == c.Name {
		problem("fallback", "a channel cannot stand in for itself; name another one")
	}
}

// DingTalk is a custom robot.
type DingTalk struct {
	Webhook units.Secret `yaml:"webhook" required:"yes" check:"hook" also:"url" doc:"The robot's address with its access token." example:"'${DINGTALK_WEBHOOK}'"`
	Secret  units.Secret `yaml:"secret" unset:"no signature" also:"sign" doc:"The secret of the robot's additional signature (it begins with SEC)." example:"'${DINGTALK_SECRET}'"`
	Mobiles []string     `yaml:"mobiles" also:"at at_mobiles" doc:"Telephone numbers of members who are mentioned while something fires." example:"['13800000000']"`
	AtAll   bool         `yaml:"at_all" default:"false" doc:"Whether everybody is mentioned while something fires."`
}

// SMTP is a mail server and those who get mail through it.
type SMTP struct {
	Addr       string       `yaml:"addr" required:"yes" also:"address host server smarthost" doc:"The server, as HOST:PORT." example:"smtp.example.com:587"`
	User       string       `yaml:"user" unset:"no login" also:"username" doc:"User of the login."`
	Password   units.Secret `yaml:"password" unset:"no login" doc:"Password of the login." example:"${file:/run/secrets/smtp}"`
	From       string       `yaml:"from" required:"yes" doc:"Whom the mail is from." example:"tailwater@example.com"`
	To         []string     `yaml:"to" required:"yes" min:"1" doc:"Whom it goes to." example:"[oncall@example.com]"`
	Encryption string       `yaml:"encryption" default:"auto" oneof:"auto starttls implicit none" doc:"starttls and implicit (TLS from the first byte) insist on it; auto is implicit on port 465 and else starttls."`
	TLS        *TLS         `yaml:"tls" unset:"the system's authorities are trusted" doc:"Whom to trust, and who tailwater is."`
}

// Check looks at the addresses.
func (s *SMTP) Check(problem func(key, text string)) {
	if (s.User == "") != (s.Password == "") {
		problem("user", "user and password belong together; write both or none")
	}
	if _, err := mail.New(s.Mail()); err != nil {
		key, text, ok := strings.Cut(err.Error(), ": ")
		if !ok || key != "addr" && key != "from" && key != "to" {
			key, text = "", err.Error()
		}
		problem(key, text)
	}
}

// Mail returns what the channel wants, but for its TLS.
func (s *SMTP) Mail() mail.Config {
	return mail.Config{Addr: s.Addr, User: s.User, Password: s.Password.Reveal(), From: s.From, To: s.To, Encryption: s.Encryption}
}

// Alertmanager is one Alertmanager or a cluster of them.
type Alertmanager struct {
	URLs     []string     `yaml:"urls" required:"yes" min:"1" check:"url" also:"url hosts" doc:"Addresses of all members; each is told." example:"['http://alertmanager:9093']"`
	User     string       `yaml:"user" unset:"no authentication" also:"username" doc:"User of basic authentication."`
	Password units.Secret `yaml:"password" unset:"none" doc:"Its password."`
	TLS      *TLS         `yaml:"tls" unset:"the system's authorities are trusted" doc:"Whom to trust, and who tailwater is."`
}

// Check looks at what concerns several keys at once.
func (a *Alertmanager) Check(problem func(key, text string)) {
	if (a.User == "") != (a.Password == "") {
		problem("user", "user and password belong together; write both or none")
	}
}

// Webhook is an address that takes a POST.
type Webhook struct {
	URL      units.Secret `yaml:"url" required:"yes" check:"hook" doc:"The address." example:"'${WEBHOOK_URL}'"`
	Template string       `yaml:"template" default:"json" expand:"no" also:"body format style" doc:"json, slack, feishu or wecom, or a Go template of the body: {{title .}}, {{plain 4000 .}}, {{markdown 4000 .}} are texts, {{json X}} writes anything as JSON, and .Items, .Texts and .Host are the message." example:"'{\"text\": {{json (title .)}}}'"`
	Secret   units.Secret `yaml:"secret" unset:"no signature" doc:"Secret of the signature that Feishu's bots may ask for."`
	Headers  []Header     `yaml:"headers" doc:"Headers of the request; their values are secrets." example:"{Authorization: 'Bearer ${TOKEN}'}"`
}

// Header is a header of a request.
type Header struct {
	Name  string       `yaml:",name" check:"label"`
	Value units.Secret `yaml:",scalar" doc:"The header's value."`
}

// Check tries the template.
func (w *Webhook) Check(problem func(key, text string)) {
	if _, err := w.Hook(); err != nil {
		problem("template", err.Error())
	}
	if w.Secret != "" && w.Template != "feishu" {
		problem("secret", "only the template feishu signs; remove it")
	}
}

// Hook makes the channel.
func (w *Webhook) Hook() (*webhook.Hook, error) {
	headers := make(map[string]string, len(w.Headers))
	for _, h := range w.Headers {
		headers[h.Name] = h.Value.Reveal()
	}
	return webhook.New(w.URL.Reveal(), w.Template, w.Secret.Reveal(), headers)
}
