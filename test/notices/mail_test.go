package notices

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mailpit is a real mail server that wants encryption and a login, and gives the mail
// back.
type mailpit struct {
	w          *world
	smtp, http int
}

type letter struct {
	ID, Subject string
}

// mailServer starts one. encryption is --smtp-require-starttls or --smtp-require-tls.
func (w *world) mailServer(encryption string) *mailpit {
	w.Helper()
	tool := goTool(w.T, "github.com/axllent/mailpit")
	cert, key := w.certificate()
	users := filepath.Join(w.Dir, "users")
	w.check(os.WriteFile(users, []byte("tw:hunter2-hunter2\n"), 0o600))
	m := &mailpit{w: w, smtp: w.port(), http: w.port()}
	w.serve(fmt.Sprintf("http://127.0.0.1:%d/api/v1/messages", m.http), tool, "--smtp", fmt.Sprint("127.0.0.1:", m.smtp), "--listen", fmt.Sprint("127.0.0.1:", m.http),
		"--smtp-tls-cert", cert, "--smtp-tls-key", key, encryption, "--smtp-auth-file", users, "--smtp-disable-rdns", "--disable-version-check", "--enable-chaos")
	return m
}

// certificate makes one for this host, which is its own authority.
func (w *world) certificate() (cert, key string) {
	w.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &private.PublicKey, private)
	w.check(err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	w.check(err)
	cert, key = filepath.Join(w.Dir, "cert.pem"), filepath.Join(w.Dir, "key.pem")
	w.check(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	w.check(os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key
}

// letters are the mails, the newest first.
func (m *mailpit) letters() (all []letter, err error) {
	var got struct{ Messages []letter }
	err = get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/messages", m.http), &got)
	return got.Messages, err
}

// read waits for a mail whose subject begins so, and returns its two bodies.
func (m *mailpit) read(subject string) (text, html string) {
	m.w.Helper()
	var full struct{ Text, HTML string }
	m.w.eventually("a mail "+subject, func() error {
		all, err := m.letters()
		if err != nil {
			return err
		}
		for _, l := range all {
			if strings.HasPrefix(l.Subject, subject) {
				return get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/message/%s", m.http, l.ID), &full)
			}
		}
		return fmt.Errorf("there are %+v", all)
	})
	return full.Text, full.HTML
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s: no %q in\n%s", what, part, text)
		}
	}
}

// quietZone is one in which it is about noon, so that no day ends during a test, with
// yesterday noon there.
func quietZone() (zone string, yesterday time.Time) {
	east := 12 - time.Now().UTC().Hour()
	noon := time.Now().UTC().Truncate(time.Hour).Add(-24 * time.Hour)
	return fmt.Sprintf("Etc/GMT%+d", -east), noon
}

// TestMailThatPeopleRead: an alert and a daily report come by mail over STARTTLS with a
// login, as text and as HTML that no line of a log can break.
func TestMailThatPeopleRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mailServer("--smtp-require-starttls")
	zone, yesterday := quietZone()
	configure := func(at string) {
		w.configure(fmt.Sprintf(`
inputs: {apps: {files: '$DIR/logs/{project}/*.log', format: json}}
alerts: {app-errors: {per: project, when: error >= 10 or fatal >= 1}}
reports: {daily-warn: {at: '%s', zone: '%s', count: warn, per: project, over: 5}}
notify:
  mail:
    smtp: {addr: '127.0.0.1:%d', user: tw, password: hunter2-hunter2, from: 'Tailwater <tw@example.com>', to: [oncall@example.com, sre@example.com], tls: {ca: $DIR/cert.pem}}
`, at, zone, m.smtp))
	}
	configure("23:59") // the report over yesterday is still to come
	w.log("pay", "warn", 6, yesterday)
	w.log("cart", "warn", 2, yesterday)
	w.log("cart", "warn", 1, yesterday.AddDate(0, 0, -1))
	w.start()
	w.log("shop", "error", 9, time.Now())
	w.log("shop", "fatal", 1, time.Now())
	text, html := m.read("[FIRING] app-errors project=shop")
	contains(t, "text", text, "error = 9 (limit: >= 10), fatal = 1 (limit: >= 1)", "web-1 (10)", "request_id=r-shop", "no stock of item 17 <b>", "incident: ")
	contains(t, "html", html, "no stock of item 17 &lt;b&gt;")
	text, _ = m.read("[OVER] daily-warn project=pay: warn = 6")
	contains(t, "text", text, "6 × no stock of item * <b>")
	configure("00:00") // its time is over
	day := yesterday.In(location(w, zone)).Format("2006-01-02")
	text, html = m.read(fmt.Sprintf("[REPORT] daily-warn of %s on web-1: 8 warn (+700%%)", day))
	contains(t, "text", text, "lines  day before  change", "6           0     new  pay  (over 5)", "2           1   +100%  cart", "8           1   +700%  total", "6  no stock of item * <b>")
	contains(t, "html", html, "<td>pay <b style=\"color:#b00\">over 5</b></td>", "6 × no stock of item * &lt;b&gt;")
	w.stop()
	w.start()
	w.command("notify", "-c", w.Config(), "--channel", "mail", "--text", "release 7 is out")
	m.read("release 7 is out")
	all, err := m.letters()
	w.check(err)
	if len(all) != 4 {
		t.Errorf("%d mails: %+v", len(all), all)
	}
}

// TestMailOverTLSThroughAServersMoods: a server that refuses for a while gets the mail
// when it does not any more, once, and its operator's log has no password.
func TestMailOverTLSThroughAServersMoods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mailServer("--smtp-require-tls")
	w.configure(fmt.Sprintf(`
inputs: {apps: {files: '$DIR/logs/{project}/*.log', format: json}}
alerts: {app-errors: {per: project, when: error >= 10}}
notify:
  mail:
    smtp: {addr: '127.0.0.1:%d', encryption: implicit, user: tw, password: hunter2-hunter2, from: tw@example.com, to: [oncall@example.com], tls: {ca: $DIR/cert.pem}}
`, m.smtp))
	chaos := func(probability int) {
		w.check(put(fmt.Sprintf("http://127.0.0.1:%d/api/v1/chaos", m.http), fmt.Sprintf(`{"Sender":{"ErrorCode":451,"Probability":%d}}`, probability)))
	}
	chaos(100)
	w.start()
	w.log("pay", "error", 10, time.Now())
	w.eventually("a try that fails", func() error {
		metrics, err := w.agent.Metrics()
		if err == nil && metrics.Sum("notices_total", `result="retried"`) == 0 {
			err = fmt.Errorf("none has failed")
		}
		return err
	})
	chaos(0)
	m.read("[FIRING] app-errors project=pay")
	all, err := m.letters()
	w.check(err)
	if len(all) != 1 {
		t.Errorf("%d mails: %+v", len(all), all)
	}
	w.secretless("hunter2-hunter2")
}
