// Package mail sends notices by SMTP.
package mail

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"net"
	"strconv"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/tailwater/tailwater/alert/notify"
)

// Config says where mail is handed in, and for whom.
type Config struct {
	// Addr is the server's HOST:PORT.
	Addr string
	// User and Password log in; "" for a server that wants no login.
	User, Password string
	From           string
	To             []string
	// Encryption is starttls, implicit (TLS from the first byte), none, or auto:
	// implicit on port 465 and else starttls. A server that does not offer what is
	// asked for is not used.
	Encryption string
	// TLS, when not nil, says whom to trust.
	TLS *tls.Config
	// Dial opens the connection; nil is the net package's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Mail is a mailbox that notices go to, or several.
type Mail struct {
	cfg  Config
	host string
	port int
}

// New checks the addresses.
func New(cfg Config) (*Mail, error) {
	host, port, err := net.SplitHostPort(cfg.Addr)
	m := &Mail{cfg: cfg, host: host}
	if m.port, _ = strconv.Atoi(port); err != nil || host == "" || m.port < 1 || m.port > 65535 {
		return nil, fmt.Errorf("addr: %q is not an address; write HOST:PORT, as in smtp.example.com:587", cfg.Addr)
	}
	if m.cfg.Encryption == "" || m.cfg.Encryption == "auto" {
		m.cfg.Encryption = "starttls"
		if m.port == 465 {
			m.cfg.Encryption = "implicit"
		}
	}
	if _, err := m.client(); err != nil {
		return nil, err
	}
	_, err = m.compose("", "", "")
	return m, err
}

func (m *Mail) client() (*gomail.Client, error) {
	opts := []gomail.Option{gomail.WithPort(m.port), gomail.WithoutNoop()}
	switch m.cfg.Encryption {
	case "implicit":
		opts = append(opts, gomail.WithSSL())
	case "none":
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	t := &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12}
	if m.cfg.TLS != nil {
		t = m.cfg.TLS.Clone()
		if t.ServerName == "" {
			t.ServerName = m.host
		}
	}
	opts = append(opts, gomail.WithTLSConfig(t))
	if m.cfg.Dial != nil {
		opts = append(opts, gomail.WithDialContextFunc(m.cfg.Dial))
	}
	if m.cfg.User != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(m.cfg.User), gomail.WithPassword(m.cfg.Password))
	}
	return gomail.NewClient(m.host, opts...)
}

// compose makes the mail; Subject and addresses cannot smuggle in headers, go-mail
// encodes them.
func (m *Mail) compose(subject, text, html string) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if err := msg.From(m.cfg.From); err != nil {
		return nil, fmt.Errorf("from: %q is not a mail address", m.cfg.From)
	}
	for _, to := range m.cfg.To {
		if err := msg.AddTo(to); err != nil {
			return nil, fmt.Errorf("to: %q is not a mail address", to)
		}
	}
	msg.Subject(subject)
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	return msg, nil
}

const maxText = 256 << 10

// Send sends one mail with the whole message.
func (m *Mail) Send(ctx context.Context, message *notify.Message) error {
	var html bytes.Buffer
	if err := page.Execute(&html, message); err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	return m.Mail(ctx, message.Title(), message.Plain(maxText)+"\n-- \ntailwater on "+message.Host+"\n", html.String())
}

// Mail sends one mail with a text and the same as HTML.
func (m *Mail) Mail(ctx context.Context, subject, text, html string) error {
	msg, err := m.compose(subject, text, html)
	if err != nil {
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	client, err := m.client()
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return m.explain(err)
	}
	defer client.Close() // the mail is accepted or not by then
	err = client.Send(msg)
	if msg.IsDelivered() {
		return nil // what went wrong came after the server had taken it
	}
	return m.explain(err)
}

// explain adds what to do about an error.
func (m *Mail) explain(err error) error {
	if err == nil {
		return errors.New("the server did not take the mail")
	}
	text := err.Error()
	if m.cfg.Password != "" {
		text = strings.ReplaceAll(text, m.cfg.Password, "***")
	}
	said := errors.New(m.cfg.Addr + ": " + text)
	if m.cfg.Encryption == "starttls" && strings.Contains(strings.ToLower(text), "starttls") {
		return fmt.Errorf("%w; write encryption: implicit for a server that speaks TLS at once, or encryption: none for one that cannot encrypt", said)
	}
	if se := (*gomail.SendError)(nil); errors.As(err, &se) && (se.ErrorCode() == 552 || se.ErrorCode() == 554) {
		return fmt.Errorf("%w: %w", notify.ErrRefused, said) // too large, or taken for spam
	}
	return said
}

var page = template.Must(template.New("mail").Parse(`<!doctype html><html><body style="font:14px sans-serif;color:#222">
{{if .Instead}}<p>Sent here because {{range $i, $n := .Instead}}{{if $i}}, {{end}}{{$n}}{{end}} does not deliver.</p>{{end}}
{{with .Report}}{{template "report" .}}{{end}}
{{range .Texts}}<p style="white-space:pre-wrap">{{.}}</p>{{end}}
{{range .Items}}<h3 style="color:{{if .Firing}}#b00{{else}}#070{{end}}">{{.Headline}}</h3>
<table cellpadding="3">
<tr><td>began</td><td>{{.Incident.Began.Local.Format "2006-01-02 15:04:05 MST"}}</td></tr>
{{range $k, $v := .Annotations}}<tr><td>{{$k}}</td><td>{{$v}}</td></tr>{{end}}
{{if .Incident.Hosts}}<tr><td>hosts</td><td>{{range $i, $t := .Incident.Hosts}}{{if $i}}, {{end}}{{$t.Name}} ({{$t.Lines}}){{end}}</td></tr>{{end}}
{{if .Incident.Files}}<tr><td>files</td><td>{{range $i, $t := .Incident.Files}}{{if $i}}, {{end}}{{$t.Name}} ({{$t.Lines}}){{end}}</td></tr>{{end}}
{{range $k, $v := .Links}}<tr><td>{{$k}}</td><td><a href="{{$v}}">{{$v}}</a></td></tr>{{end}}
<tr><td>incident</td><td>{{.Incident.ID}}</td></tr></table>
{{if .Firing}}{{range .Incident.Samples}}<pre style="background:#f4f4f4;padding:4px;white-space:pre-wrap">{{.Time.Local.Format "15:04:05.000"}} {{.Host}} {{if .RequestID}}request_id={{.RequestID}} {{end}}
{{.Text}}</pre>{{end}}{{end}}
{{end}}<p style="color:#777">tailwater on {{.Host}}</p></body></html>
{{define "report"}}<h3>{{.Name}}: {{.Count}} on {{.Day}} ({{.Zone}}){{with .Host}}, host {{.}}{{end}}</h3>
<table cellpadding="4" style="border-collapse:collapse">
<tr style="background:#eee"><th align="left">{{.What}}</th><th align="right">lines</th><th align="right">day before</th><th align="right">change</th></tr>
{{$over := .Over}}{{range .Rows}}<tr style="border-top:1px solid #ddd"><td>{{.Label}}{{if .Over}} <b style="color:#b00">over {{$over}}</b>{{end}}</td><td align="right">{{.Lines}}</td><td align="right">{{.Yesterday}}</td><td align="right">{{.Change}}</td></tr>
{{range .Top}}<tr><td colspan="4" style="color:#555;font:12px monospace;padding-left:24px">{{.Lines}} × {{.Text}}</td></tr>
{{end}}{{end}}<tr style="border-top:2px solid #999"><td><b>total</b></td><td align="right"><b>{{.Total}}</b></td><td align="right">{{.Yesterday}}</td><td align="right">{{.Change}}</td></tr></table>
{{if .More}}<p>and {{.More}} more groups</p>{{end}}{{range .Remarks}}<p style="color:#777">{{.}}</p>{{end}}{{end}}
`))
