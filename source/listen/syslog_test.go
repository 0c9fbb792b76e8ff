package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/source/listen/spool"
)

func TestSyslogMessages(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	berlin := time.FixedZone("CET", 3600)
	for _, c := range []struct{ msg, want string }{
		{"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed", "p: fatal 2003-10-11T22:14:15.003Z 'su root' failed facility=auth severity=crit hostname=mymachine.example.com app=su msgid=ID47"},
		{"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time", "p: info 2003-08-24T12:14:15.000Z %% It's time facility=local4 severity=notice hostname=192.0.2.1 app=myproc pid=8710"},
		{`<14>1 - h - - - [origin ip="192.0.2.1" ip="192.0.2.129" ip="\"3\"" sw="a"][origin ip="4"] repeated`,
			`p: info repeated facility=user severity=info hostname=h origin.ip=["192.0.2.1","192.0.2.129","\"3\""] origin.sw=a origin.ip=4`},
		{`<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="App\"li\]c\\" eventID="1011"][p@1 class="high"] msg`,
			`p: info 2003-10-11T22:14:15.003Z msg facility=local4 severity=notice hostname=h app=evntslog msgid=ID47 exampleSDID@32473.iut=3 exampleSDID@32473.eventSource=App"li]c\ exampleSDID@32473.eventID=1011 p@1.class=high`},
		{`<165>1 - - - - - [a b="c"]`, "p: info  facility=local4 severity=notice a.b=c"},
		{"<0>1 - - - - - -", "p: fatal  facility=kern severity=emerg"},
		{"<191>1 - h a x7 - no structured data", "p: debug no structured data facility=local7 severity=debug hostname=h app=a procid=x7"},
		{"<34>Oct 11 22:14:15 mymachine su: 'su root' failed", "p: fatal 2025-10-11T21:14:15.000Z 'su root' failed facility=auth severity=crit hostname=mymachine app=su"},
		{"<13>Jan  1 13:00:00 h app[12]: x", "p: info 2026-01-01T12:00:00.000Z x facility=user severity=notice hostname=h app=app pid=12"},
		{"<13>Dec 31 23:59:59 h app: x", "p: info 2025-12-31T22:59:59.000Z x facility=user severity=notice hostname=h app=app"},
		{"<13>Jan 1 13:00:00 h app: one blank", "p: info 2026-01-01T12:00:00.000Z one blank facility=user severity=notice hostname=h app=app"},
		{"<13>Jan  1 13:00:00 app[12]: no host", "p: info 2026-01-01T12:00:00.000Z no host facility=user severity=notice app=app pid=12"},
		{"<13>2026-01-01T10:00:00.5+01:00 h app: rsyslog's form", "p: info 2026-01-01T09:00:00.500Z rsyslog's form facility=user severity=notice hostname=h app=app"},
		{"<189>Jan  1 2026 13:00:00: %SYS-5-CONFIG_I: Configured", "p: info 2026-01-01T12:00:00.000Z %SYS-5-CONFIG_I: Configured facility=local7 severity=notice"},
		{"<13>Jan  1 13:00:00.250 h kernel: x", "p: info 2026-01-01T12:00:00.250Z x facility=user severity=notice hostname=h app=kernel"},
		{"<190>Jan  1 13:00:00 web nginx: 10.0.0.1 - - [x]", "p: info 2026-01-01T12:00:00.000Z 10.0.0.1 - - [x] facility=local7 severity=info hostname=web app=nginx"},
		{"<13>hello world", "p: info hello world facility=user severity=notice"},
		{"<13>app: hello", "p: info hello facility=user severity=notice app=app"},
		{"<13>http://x/y is down", "p: info http://x/y is down facility=user severity=notice"},
		{"no priority", "p: no priority"},
		{"<192>too high", "p: <192>too high"},
		{"<1a>x", "p: <1a>x"},
		{"<13>1 2026-13-41T00:00:00Z h a - - - a bad time", "p: info 1 2026-13-41T00:00:00Z h a - - - a bad time facility=user severity=notice"},
		{`<14>@cee: {"a":1}`, `p: info {"a":1} facility=user severity=info`},
		{"<11>1 - - - - - - trailing\r\n\x00", "p: error trailing facility=user severity=err"},
	} {
		var h syslogHead
		data := h.append(nil, []byte(c.msg), 0, now, berlin, "10.0.0.9")
		var r spool.Record
		if _, err := spool.ParseRecord(data, &r); err != nil {
			t.Errorf("%q: %v", c.msg, err)
			continue
		}
		if got := describe("p", &r); got != c.want {
			t.Errorf("%q\n  is %s\nwant %s", c.msg, got, c.want)
		}
	}
	var h syslogHead
	if data := h.append(nil, []byte(" \r\n"), 0, now, berlin, ""); len(data) > 0 {
		t.Errorf("a blank message is %q", data)
	}
}

func TestSyslogFraming(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxLine = 40 })
	addr := b.serve(Syslog(b.cfg, []string{"tcp://127.0.0.1:0"}))
	long := "<13>" + strings.Repeat("x", 60)
	input := "13 <13>counted\n!" + "<13>line one\r\n<13>line two\x00\n\n17 <13>17 in\nlines ab" +
		"<13>12 <13>is no length\n" + "5 is a line without a priority\n" +
		fmt.Sprintf("%d %s", len(long), long) + "11 <13>after 1" + long + "\n<13>after 2\n" + "<13>the last, unfinished"
	c := dial(t, addr)
	for i := range len(input) {
		if i%5 == 0 {
			c.Write([]byte(input[i:min(i+5, len(input))]))
		}
	}
	c.Close()
	head := "facility=user severity=notice"
	b.wants(
		"in: info counted\n! "+head, "in: info line one "+head, "in: info line two "+head, "in: info 17 in\nlines a "+head,
		"in: b<13>12 <13>is no length",
		"in: 5 is a line without a priority",
		"in: info truncated "+strings.Repeat("x", 36)+" "+head, "in: info after 1 "+head,
		"in: info truncated "+strings.Repeat("x", 36)+" "+head, "in: info after 2 "+head,
		"in: info the last, unfinished "+head,
	)
	if n := b.lost("overlong"); n != 2*24 {
		t.Errorf("%d bytes are counted as overlong, want %d", n, 2*24)
	}
	c = dial(t, addr)
	fmt.Fprint(c, "30 <13>half of a counted one")
	c.Close()
	if all := b.wait(12); all[11] != "in: info partial half of a counted one "+head {
		t.Errorf("the unfinished one is %q", all[11])
	}
}

func TestSyslogDatagrams(t *testing.T) {
	b := newBench(t)
	s, err := Syslog(b.cfg, []string{"127.0.0.1:0"}) // both, on one port
	b.serve(s, err)
	if n := len(s.Addrs()); n != 2 || s.Addrs()[0].String() != s.Addrs()[1].String() {
		t.Fatalf("it listens on %v", s.Addrs())
	}
	u, err := net.Dial("udp", s.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var want []string
	for i := range 300 {
		fmt.Fprintf(u, "<13>datagram\n%d", i)
		want = append(want, fmt.Sprintf("in: info datagram\n%d facility=user severity=notice", i))
		if i%50 == 0 {
			b.wait(i + 1) // the loopback has a small buffer where it may not be raised
		}
	}
	got := b.wait(300)
	if !slices.Equal(got, want) {
		t.Errorf("%d datagrams, the first %q", len(got), got[0])
	}
	b.cfg.Spool.SetLimit(1)
	fmt.Fprint(u, "<13>no room")
	deadline := time.Now().Add(10 * time.Second)
	for b.lost("spool_full") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("a datagram that was dropped is not counted")
		}
		time.Sleep(time.Millisecond)
	}
}

// certificate makes one for 127.0.0.1.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestSyslogOverTLS(t *testing.T) {
	cert, pool := certificate(t)
	b := newBench(t, func(c *Config) { c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })
	addr := b.serve(Syslog(b.cfg, []string{"tcp://127.0.0.1:0"}))
	plain := dial(t, addr)
	fmt.Fprint(plain, "<13>not encrypted\n")
	plain.Read(make([]byte, 16))
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "13 <13>encrypted")
	c.Close()
	b.wants("in: info encrypted facility=user severity=notice")
}

func TestClosingReadsWhatHasBeenSent(t *testing.T) {
	b := newBench(t)
	s, err := Syslog(b.cfg, []string{"tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Addrs()[0].String())
	fmt.Fprint(c, "<13>first\n")
	b.wait(1)
	for i := range 5000 {
		fmt.Fprintf(c, "<13>line %d\n", i)
	}
	begun := time.Now()
	s.Close()
	if n := len(b.lines()); n != 5001 {
		t.Errorf("%d of 5001 lines are there", n)
	}
	if took := time.Since(begun); took > closeTime+2*time.Second {
		t.Errorf("closing took %v", took)
	}
}

// FuzzSyslog: every message is one record, whose text is part of it, and framing reads a
// stream the same however it is cut.
func FuzzSyslog(f *testing.F) {
	f.Add([]byte(`<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [a@1 b="c\]"] msg`), uint8(3))
	f.Add([]byte("<34>Oct 11 22:14:15 mymachine su[1]: x\n12 <13>counted\n!"), uint8(1))
	f.Add([]byte("99999999 <1"), uint8(9))
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var h syslogHead
		record := h.append(nil, data, 0, now, time.UTC, "p")
		if len(record) > 0 {
			var r spool.Record
			if n, err := spool.ParseRecord(record, &r); err != nil || n != len(record) {
				t.Fatalf("%d of %d: %v", n, len(record), err)
			}
			if len(r.Text) > len(data) {
				t.Fatalf("%q has the text %q", data, r.Text)
			}
		}
		read := func(step int) (all []byte) {
			cfg := &Config{MaxLine: 100, Zone: time.UTC, Abandon: func(string, int64) {}}
			s := &syslogStream{cfg: cfg}
			out := spool.Begin(nil, spool.Records, "", spool.Key{}, 0)
			var buf []byte
			for rest := data; ; {
				n := min(step, len(rest))
				buf = append(buf, rest[:n]...)
				rest = rest[n:]
				for len(buf) > 0 {
					k, done := s.one(out, buf, now, len(rest) == 0)
					buf = buf[k:]
					if !done {
						break
					}
				}
				if len(rest) == 0 {
					return out.Payload()
				}
			}
		}
		whole, cut := read(len(data)+1), read(int(step)+1)
		if string(whole) != string(cut) {
			t.Fatalf("whole: %q\nin pieces of %d: %q", whole, int(step)+1, cut)
		}
	})
}

// TestWhatIsLostAtTheEndIsCounted: the spool is full when the input ends. The messages
// that were read from a connection by then have nobody who sends them again.
func TestWhatIsLostAtTheEndIsCounted(t *testing.T) {
	b := newBench(t)
	b.cfg.Spool.SetLimit(1)
	s, err := Syslog(b.cfg, []string{"tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.Addrs()[0].String())
	fmt.Fprint(c, "<11>one\n<11>two\n\n<11>three\n")
	for deadline := time.Now().Add(20 * time.Second); s.Stats().Answers["full"] == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the spool does not count as full")
		}
	}
	s.Close()
	if n := b.lost("spool_full"); n != 3 {
		t.Errorf("%d messages are counted as lost, want 3", n)
	}
	b.wants()
}
