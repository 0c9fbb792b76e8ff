package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/test/rig"
)

// authority signs certificates, for servers on 127.0.0.1 and for senders.
type authority struct {
	w    *world
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // the serial number
}

func newAuthority(w *world, name string) *authority {
	w.Helper()
	a := &authority{w: w, last: 1}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	w.check(err)
	a.cert, err = x509.ParseCertificate(der)
	w.check(err)
	w.check(os.WriteFile(w.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// sign writes DIR/NAME.pem and DIR/NAME.key, and returns the pair.
func (a *authority) sign(name string, use x509.ExtKeyUsage, until time.Time) tls.Certificate {
	a.w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.w.check(err)
	a.last++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{use}},
		a.cert, &key.PublicKey, a.key)
	a.w.check(err)
	raw, err := x509.MarshalECPrivateKey(key)
	a.w.check(err)
	a.w.check(os.WriteFile(a.w.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600))
	a.w.check(os.WriteFile(a.w.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// trusting is a client that trusts the authority's servers and shows the certificates.
func (a *authority) trusting(show ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, Certificates: show}
}

// encrypted is a world whose four listeners show server.pem and want a certificate of
// the authority ours; open wants none.
type encrypted struct {
	*world
	receiving
	open         string
	ours, theirs *authority
	known        *tls.Config // of a sender that is let in
}

func newEncrypted(t *testing.T) *encrypted {
	t.Helper()
	w := newBareWorld(t)
	e := &encrypted{world: w, receiving: newReceiving(w), open: freeAddr(w), ours: newAuthority(w, "ours"), theirs: newAuthority(w, "theirs")}
	later := time.Now().Add(time.Hour)
	e.ours.sign("server", x509.ExtKeyUsageServerAuth, later)
	e.known = e.ours.trusting(e.ours.sign("sender", x509.ExtKeyUsageClientAuth, later))
	w.config(fmt.Sprintf(`
inputs:
  web: {http: {listen: '%s', tokens: [sesame], max_body: 20KiB, tls: &tls {cert: $DIR/server.pem, key: $DIR/server.key, ca: $DIR/ours.pem}}}
  open: {http: {listen: '%s', tls: {cert: $DIR/server.pem, key: $DIR/server.key}}}
  fwd: {forward: {listen: '%s', max_body: 20KiB, tls: *tls}}
  sys: {syslog: {listen: 'tls://%s', tls: *tls}}
  otel: {otlp: {listen: '%s', tokens: [sesame], max_body: 20KiB, tls: *tls}}
`, e.http, e.open, e.forward, e.syslog, e.otlp) + fileOutput)
	w.start()
	return e
}

// listeners are those that want a certificate.
func (e *encrypted) listeners() map[string]string {
	return map[string]string{"web": e.http, "fwd": e.forward, "sys": e.syslog, "otel": e.otlp}
}

// post sends a body with a token and returns the status, 0 where there was no answer.
func (e *encrypted) post(url, token, body string, as *tls.Config) (status int, err error) {
	e.Helper()
	transport := &http.Transport{TLSClientConfig: as} // no close: the server would not wait for the rest of a body
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(e.ctx, "POST", url, strings.NewReader(body))
	e.check(err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// turnedAway wants a client not to come further than the handshake. What it says then
// must not be taken.
func (e *encrypted) turnedAway(what, addr string, as *tls.Config) {
	e.Helper()
	raw, err := net.DialTimeout("tcp", addr, 10*time.Second)
	e.check(err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := net.Conn(raw)
	if as != nil {
		as = as.Clone()
		as.ServerName = "127.0.0.1"
		c = tls.Client(raw, as)
	}
	// With TLS 1.3 a client learns only after its handshake that it is not let in. Each
	// listener would take one of these.
	_, err = fmt.Fprintf(c, "<11>uninvited\nPOST /v1/logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: 9\r\n\r\nuninvited")
	for err == nil {
		buf, n := make([]byte, 512), 0
		if n, err = c.Read(buf); n > 0 && !bytes.Contains(buf[:n], []byte("400 Bad Request")) && as != nil {
			e.Errorf("%s at %s is answered with %q", what, addr, buf[:n])
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.Errorf("%s at %s: the connection stays open", what, addr)
	}
}

// TestListenersLetInWhoHasACertificate: each of the four shows its certificate and lets
// nobody in who has none of the right authority, or speaks in plain.
func TestListenersLetInWhoHasACertificate(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t)
	later := time.Now().Add(time.Hour)
	old := e.ours.trusting(e.known.Certificates...)
	old.MaxVersion = tls.VersionTLS11
	for what, as := range map[string]*tls.Config{
		"plain text": nil, "nobody": e.ours.trusting(), "a stranger": e.ours.trusting(e.theirs.sign("stranger", x509.ExtKeyUsageClientAuth, later)),
		"one whose time is over": e.ours.trusting(e.ours.sign("expired", x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Hour))),
		"a server":               e.ours.trusting(e.ours.sign("another", x509.ExtKeyUsageServerAuth, later)), "TLS 1.1": old,
	} {
		for _, addr := range e.listeners() {
			e.turnedAway(what, addr, as)
		}
	}
	for name, addr := range e.listeners() {
		var unknown x509.UnknownAuthorityError
		if _, err := tls.Dial("tcp", addr, e.theirs.trusting(e.known.Certificates...)); !errors.As(err, &unknown) {
			t.Errorf("%s shows a certificate of whom? %v", name, err)
		}
		if n := e.metrics().Sum("listen_answers_total", `input="`+name+`"`, `answer="handshake"`); n < 6 {
			t.Errorf("%s: %v handshakes are counted as failed", name, n)
		}
	}

	// Who is known is let in, over HTTP only with the token, and with no more than max_body.
	huge := `{"message":"` + strings.Repeat("x", 30<<10) + `"}`
	for _, c := range []struct {
		url, token, body string
		as               *tls.Config
		want             int
	}{
		{"https://" + e.http + "/v1/logs/shop", "sesame", `{"message":"by http"}`, e.known, 202},
		{"https://" + e.http + "/v1/logs/shop", "wrong", `{"message":"uninvited"}`, e.known, 401},
		{"https://" + e.http + "/v1/logs/shop", "sesame", huge, e.known, 413},
		{"https://" + e.open + "/v1/logs/shop", "", `{"message":"by open"}`, e.ours.trusting(), 202},
		{"https://" + e.otlp + "/v1/logs", "sesame", string(otlpBody([]byte("by otlp\n"))), e.known, 200},
		{"https://" + e.otlp + "/v1/logs", "wrong", string(otlpBody([]byte("uninvited\n"))), e.known, 401},
		{"https://" + e.otlp + "/v1/logs", "sesame", string(otlpBody([]byte(strings.Repeat("x", 30<<10) + "\n"))), e.known, 413},
	} {
		if status, err := e.post(c.url, c.token, c.body, c.as); status != c.want {
			t.Errorf("%s with the token %s and %d bytes: %d %v, want %d", c.url, c.token, len(c.body), status, err, c.want)
		}
	}
	fwd := &chunks{Lines: &rig.Lines{ID: "fwd"}, w: e.world, addr: e.forward, tls: e.known}
	fwd.send(3)
	large, err := tls.Dial("tcp", e.forward, e.known)
	e.check(err)
	large.SetDeadline(time.Now().Add(20 * time.Second))
	large.Write(append([]byte{0x92, 0xa1, 't', 0xc6, 0, 0, 0x80, 0}, make([]byte, 0x8000)...)) // it may be closed before the end
	if said, err := io.ReadAll(large); len(said) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a chunk beyond max_body is answered with %q, %v", said, err)
	}
	large.Close()
	fwd.send(3) // over the connection that it has
	if fwd.repeats > 0 {
		t.Errorf("a chunk had to be repeated")
	}
	sys, err := tls.Dial("tcp", e.syslog, e.known)
	e.check(err)
	_, err = fmt.Fprint(sys, "<11>by syslog\n")
	e.check(errors.Join(err, sys.Close()))

	want := map[string]bool{"by http": true, "by open": true, "by otlp": true, "by syslog": true}
	docs := e.received(len(want) + fwd.N)
	for _, doc := range docs {
		if message, _ := doc["message"].(string); want[message] {
			delete(want, message)
		} else if doc["input"] != "fwd" {
			t.Errorf("nobody sent %v", doc)
		}
	}
	if len(want) > 0 || len(docs) != 4+fwd.N {
		t.Errorf("of %d documents, these are missing: %v", len(docs), want)
	}
	e.stop(0)
}

// TestARenewedCertificateIsShown: on every listener, without a reload, and the connections
// that are open stay so.
func TestARenewedCertificateIsShown(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t)
	serial := func(addr string) int64 {
		c, err := tls.Dial("tcp", addr, e.known)
		e.check(err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	was := serial(e.http)
	sys, err := tls.Dial("tcp", e.syslog, e.known)
	e.check(err)
	defer sys.Close()
	_, err = fmt.Fprint(sys, "<11>before\n")
	e.check(err)
	e.received(1)
	e.ours.sign("server", x509.ExtKeyUsageServerAuth, time.Now().Add(time.Hour))
	for name, addr := range e.listeners() {
		e.check(rig.Poll(e.ctx, "the new certificate of "+name, func() error {
			if got := serial(addr); got == was {
				return fmt.Errorf("it shows number %d", got)
			}
			return nil
		}))
	}
	_, err = fmt.Fprint(sys, "<11>after\n")
	e.check(err)
	if docs := e.received(2); docs[1]["message"] != "after" {
		t.Errorf("%v", docs[1])
	}
	e.stop(0)
}

// TestAReplacedAuthorityIsFollowed: senders of the new one are let in on every listener,
// those of the former are not any more, without a reload.
func TestAReplacedAuthorityIsFollowed(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t)
	next := e.ours.trusting(e.theirs.sign("next", x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour)))
	url := "https://" + e.http + "/v1/logs/shop"
	if status, err := e.post(url, "sesame", `{"message":"too early"}`, next); status != 0 {
		t.Errorf("the new authority's sender is let in before: %d %v", status, err)
	}
	if status, err := e.post(url, "sesame", `{"message":"before"}`, e.known); status != 202 {
		t.Errorf("the former authority's sender before: %d %v", status, err)
	}
	e.check(os.Rename(e.path("theirs.pem"), e.path("ours.pem")))
	e.check(rig.Poll(e.ctx, "the new authority's sender to be let in", func() error {
		if status, err := e.post(url, "sesame", `{"message":"after"}`, next); status != 202 {
			return fmt.Errorf("%d %v", status, err)
		}
		return nil
	}))
	for name, addr := range e.listeners() {
		e.check(rig.Poll(e.ctx, name+" to turn the former away", func() error {
			c, err := tls.Dial("tcp", addr, e.known)
			if err != nil {
				return nil
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !strings.Contains(fmt.Sprint(err), "remote error") {
				return fmt.Errorf("it is let in: %v", err)
			}
			return nil
		}))
		e.turnedAway("who was known", addr, e.known)
	}
	docs := e.received(2)
	e.has(docs[0], "message", "before")
	for _, doc := range docs[1:] {
		e.has(doc, "message", "after")
	}
	e.stop(0)
}

// TestRealSendersEncrypted: Fluent's client and OpenTelemetry's exporter, over TLS.
func TestRealSendersEncrypted(t *testing.T) {
	t.Parallel()
	if _, err := senders(); err != nil { // before the clock runs
		t.Fatal(err)
	}
	e := newEncrypted(t)
	e.realSender("otel", "-addr", e.otlp, "-token", "sesame", "-count", "50", "-ca", e.path("ours.pem"), "-cert", e.path("sender.pem"), "-key", e.path("sender.key"))
	e.received(50)
	// Its client shows no certificate.
	e.config(fmt.Sprintf("inputs:\n  fwd: {forward: {listen: '%s', tls: {cert: $DIR/server.pem, key: $DIR/server.key}}}\n", e.forward) + fileOutput)
	e.stop(0)
	e.start()
	_, port, _ := net.SplitHostPort(e.forward)
	e.realSender("fluent", "-port", port, "-count", "50", "-tls")
	byInput := make(map[any]int)
	for _, doc := range e.received(100) {
		byInput[doc["input"]]++
	}
	if byInput["otel"] != 50 || byInput["fwd"] != 50 {
		t.Errorf("%v", byInput)
	}
	e.stop(0)
}
