package mail

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/notify"
)

// postOffice speaks as much SMTP as a client needs, with moods.
type postOffice struct {
	net.Listener
	tls      *tls.Config // nil: it cannot encrypt
	implicit bool
	answer   string // to the end of DATA; "": 250
	hangUp   bool   // instead of answering QUIT

	mu   sync.Mutex
	got  []string
	to   []string
	auth []string
}

func (o *postOffice) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.implicit {
		l = tls.NewListener(l, o.tls)
	}
	o.Listener = l
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
}

func (o *postOffice) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 post office")
	encrypted := o.implicit
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-post office")
			if o.tls != nil && !encrypted {
				say("250-STARTTLS")
			}
			if encrypted {
				say("250-AUTH PLAIN LOGIN")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go on")
			s := tls.Server(c, o.tls)
			c, r, encrypted = s, bufio.NewReader(s), true
		case "AUTH":
			raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			o.note(&o.auth, string(raw))
			if strings.HasSuffix(string(raw), "\x00hunter2") {
				say("235 welcome")
			} else {
				say("535 5.7.8 wrong password %s", raw)
			}
		case "RCPT":
			o.note(&o.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(line)
			}
			if o.answer != "" {
				say("%s", o.answer)
				continue
			}
			o.note(&o.got, b.String())
			say("250 taken")
		case "QUIT":
			if o.hangUp {
				return
			}
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (o *postOffice) note(to *[]string, s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*to = append(*to, s)
}

// certificate is one for 127.0.0.1, and what trusts it.
func certificate(t *testing.T) (server, client *tls.Config) {
	s := httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: pool}
}

func notice() *notify.Message {
	return &notify.Message{Host: "web-1", Items: []notify.Item{{Kind: alert.Opened, Incident: alert.Incident{ID: "i1", Rule: "größe\r\nBcc: evil@example.com",
		Samples: []alert.Sample{{Text: "<script>alert(1)</script>\r\n.\r\nQUIT"}}}}}}
}

func TestMailOverStarttlsAndImplicitTLS(t *testing.T) {
	server, client := certificate(t)
	for _, implicit := range []bool{false, true} {
		o := &postOffice{tls: server, implicit: implicit, hangUp: true}
		o.open(t)
		cfg := Config{Addr: o.Addr().String(), User: "me", Password: "hunter2", From: "Tailwater <tw@example.com>", To: []string{"a@example.com", "b@example.com"}, TLS: client}
		if implicit {
			cfg.Encryption = "implicit"
		}
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Send(t.Context(), notice()); err != nil {
			t.Fatalf("implicit %v: %v", implicit, err)
		}
		o.mu.Lock()
		if len(o.got) != 1 || len(o.to) != 2 || len(o.auth) != 1 {
			t.Fatalf("%q, %q, %q", o.got, o.to, o.auth)
		}
		got, err := mail.ReadMessage(strings.NewReader(o.got[0]))
		o.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
		if err != nil || !strings.HasPrefix(subject, "[FIRING] größe") || got.Header.Get("Bcc") != "" {
			t.Errorf("subject %q: %v", subject, err)
		}
		body, _ := io.ReadAll(got.Body)
		if !strings.Contains(string(body), "text/plain") || !strings.Contains(string(body), "text/html") || strings.Contains(string(body), "<script>alert") && !strings.Contains(string(body), "&lt;script&gt;") {
			t.Errorf("%s", body)
		}
	}
}

func TestServerThatCannotEncryptGetsNoPassword(t *testing.T) {
	o := &postOffice{}
	o.open(t)
	m, err := New(Config{Addr: o.Addr().String(), User: "me", Password: "hunter2", From: "tw@example.com", To: []string{"a@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), notice()); err == nil || !strings.Contains(err.Error(), "encryption: none") {
		t.Error(err)
	}
	if len(o.auth)+len(o.got) > 0 {
		t.Errorf("%q, %q", o.auth, o.got)
	}
}

func TestMoodsOfTheServer(t *testing.T) {
	server, client := certificate(t)
	o := &postOffice{tls: server, answer: "451 4.7.1 try again later"}
	o.open(t)
	cfg := Config{Addr: o.Addr().String(), From: "tw@example.com", To: []string{"a@example.com"}, TLS: client}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), notice()); err == nil || errors.Is(err, notify.ErrRefused) {
		t.Errorf("451: %v", err)
	}
	o.answer = "552 5.3.4 message too big"
	if err := m.Send(t.Context(), notice()); !errors.Is(err, notify.ErrRefused) {
		t.Errorf("552: %v", err)
	}
	cfg.User, cfg.Password = "me", "wrong-password"
	if m, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := m.Send(t.Context(), notice()); err == nil || strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("wrong password: %v", err)
	}
	o.Close()
	if err := m.Send(t.Context(), notice()); err == nil {
		t.Error("nobody is there, and it is sent")
	}
}
