package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/internal/units"
)

// HTTPInput takes lines over HTTP.
type HTTPInput struct {
	Listen      string         `yaml:"listen" required:"yes" check:"address" also:"addr address bind" doc:"Address to listen on." example:"':9610'"`
	Tokens      []units.Secret `yaml:"tokens" unset:"everybody may send" min:"1" also:"token api_keys" doc:"Tokens, of which a sender has one: Authorization: Bearer TOKEN." example:"['${file:/run/secrets/sender}']"`
	TLS         *ServerTLS     `yaml:"tls" unset:"no encryption" doc:"The certificate to show."`
	MaxBody     units.Bytes    `yaml:"max_body" default:"16MiB" min:"1KiB" max:"32MiB" also:"max_size" doc:"Most that one request may hold, decompressed; never more than a quarter of spool and an eighth of limits.memory."`
	Connections int            `yaml:"connections" default:"1000" min:"1" max:"100000" also:"max_connections" doc:"Connections at once; more are turned away."`
	Spool       units.Bytes    `yaml:"spool" default:"1GiB" min:"1MiB" max:"1TiB" also:"buffer spool_size" doc:"Disk, below state, that what was received may occupy until every output has it; senders have to wait when it is full."`
}

// OTLPInput takes OpenTelemetry's logs over HTTP.
type OTLPInput struct {
	Listen      string         `yaml:"listen" required:"yes" check:"address" also:"addr address bind endpoint" doc:"Address to listen on." example:"':4318'"`
	Tokens      []units.Secret `yaml:"tokens" unset:"everybody may send" min:"1" also:"token api_keys" doc:"Tokens, of which a sender has one: Authorization: Bearer TOKEN." example:"['${file:/run/secrets/sender}']"`
	TLS         *ServerTLS     `yaml:"tls" unset:"no encryption" doc:"The certificate to show."`
	MaxBody     units.Bytes    `yaml:"max_body" default:"16MiB" min:"1KiB" max:"32MiB" also:"max_size" doc:"Most that one request may hold, decompressed; never more than a quarter of spool and an eighth of limits.memory."`
	Connections int            `yaml:"connections" default:"1000" min:"1" max:"100000" also:"max_connections" doc:"Connections at once; more are turned away."`
	Spool       units.Bytes    `yaml:"spool" default:"1GiB" min:"1MiB" max:"1TiB" also:"buffer spool_size" doc:"Disk, below state, that what was received may occupy until every output has it; senders have to wait when it is full."`
}

// ForwardInput takes what Fluentd and Fluent Bit forward.
type ForwardInput struct {
	Listen      string       `yaml:"listen" required:"yes" check:"address" also:"addr address bind" doc:"Address to listen on; heartbeats over UDP are answered there too." example:"':24224'"`
	SharedKey   units.Secret `yaml:"shared_key" unset:"everybody may send" doc:"The key that senders have, too." example:"${file:/run/secrets/forward}"`
	TLS         *ServerTLS   `yaml:"tls" unset:"no encryption" doc:"The certificate to show."`
	MaxBody     units.Bytes  `yaml:"max_body" default:"16MiB" min:"1KiB" max:"32MiB" also:"max_size chunk_limit_size" doc:"Most that one message (a chunk) may hold, decompressed; never more than a quarter of spool and an eighth of limits.memory."`
	Connections int          `yaml:"connections" default:"1000" min:"1" max:"100000" also:"max_connections" doc:"Connections at once; more are turned away."`
	Spool       units.Bytes  `yaml:"spool" default:"1GiB" min:"1MiB" max:"1TiB" also:"buffer spool_size" doc:"Disk, below state, that what was received may occupy until every output has it; senders have to wait when it is full."`
}

// SyslogInput takes syslog messages.
type SyslogInput struct {
	Listen      []string    `yaml:"listen" required:"yes" min:"1" check:"syslog" also:"addr address bind" doc:"Addresses to listen on: tcp://:6514 (with tls encrypted), udp://:514, or :514 for both." example:"['tcp://:6514', 'udp://:514']"`
	TLS         *ServerTLS  `yaml:"tls" unset:"no encryption" doc:"The certificate to show over TCP."`
	Connections int         `yaml:"connections" default:"1000" min:"1" max:"100000" also:"max_connections" doc:"Connections at once; more are turned away."`
	Spool       units.Bytes `yaml:"spool" default:"1GiB" min:"1MiB" max:"1TiB" also:"buffer spool_size" doc:"Disk, below state, that what was received may occupy until every output has it; senders have to wait when it is full."`
}

// ServerTLS is what a listener shows, and whom it lets in.
type ServerTLS struct {
	Cert string `yaml:"cert" required:"yes" also:"cert_file certificate" doc:"PEM file of the certificate, with those between it and the authority. It is read again when it changes." example:"/etc/tailwater/cert.pem"`
	Key  string `yaml:"key" required:"yes" also:"key_file" doc:"PEM file of its key." example:"/etc/tailwater/key.pem"`
	CA   string `yaml:"ca" unset:"senders need no certificate" also:"ca_file client_ca" doc:"PEM file of authorities; senders must have a certificate of one of them. It is read again when it changes." example:"/etc/tailwater/senders.pem"`
}

// SpoolLimit is the disk, in bytes, that a listening input's spool may occupy.
func (in *Input) SpoolLimit() int64 {
	switch {
	case in.HTTP != nil:
		return int64(in.HTTP.Spool)
	case in.Forward != nil:
		return int64(in.Forward.Spool)
	case in.Syslog != nil:
		return int64(in.Syslog.Spool)
	case in.OTLP != nil:
		return int64(in.OTLP.Spool)
	}
	return 0
}

// Listens tells whether lines are sent to the input.
func (in *Input) Listens() bool {
	return in.HTTP != nil || in.Forward != nil || in.Syslog != nil || in.OTLP != nil
}

// Check looks at what concerns several keys at once.
func (s *SyslogInput) Check(problem func(key, text string)) {
	for _, addr := range s.Listen {
		switch {
		case strings.HasPrefix(addr, "tls://") && s.TLS == nil:
			problem("listen", fmt.Sprintf("%s needs a certificate to show; write tls: {cert: .., key: ..}", addr))
		case s.TLS != nil && !slices.ContainsFunc(s.Listen, func(a string) bool { return !strings.HasPrefix(a, "udp://") }):
			problem("tls", "datagrams cannot be encrypted; remove tls, or listen on tcp:// too")
			return
		}
	}
}

// Config reads the files and returns what the standard library wants. It follows them:
// senders that come after a file was replaced meet what is in it then.
func (t *ServerTLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	pair := &keyPair{cert: t.Cert, key: t.Key}
	if _, err := pair.get(nil); err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	if t.CA != "" {
		trusted := &senders{path: t.CA, base: c.Clone()}
		if _, err := trusted.get(nil); err != nil {
			return nil, err
		}
		c.GetConfigForClient = trusted.get
	}
	return c, nil
}

// lookAgain is how often files are looked at that may have been replaced.
const lookAgain = 10 * time.Second

// followed tells when a file is another than it was.
type followed struct {
	of     os.FileInfo // the file that was taken
	looked time.Time
}

// due tells whether it is time to look at the file again.
func (f *followed) due() bool {
	if f.of != nil && time.Since(f.looked) < lookAgain {
		return false
	}
	f.looked = time.Now()
	return true
}

// differs tells whether info is of another file than the one that was taken.
func (f *followed) differs(info os.FileInfo) bool {
	return f.of == nil || !os.SameFile(f.of, info) || !f.of.ModTime().Equal(info.ModTime()) || f.of.Size() != info.Size()
}

// keyPair is a certificate that is renewed by replacing its files.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	file   followed
	loaded *tls.Certificate
}

// get returns the certificate. When the new one cannot be read the old one is shown.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.file.due() {
		return p.loaded, nil
	}
	info, err := os.Stat(p.cert)
	if err == nil && !p.file.differs(info) {
		return p.loaded, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(p.cert, p.key)
	}
	switch {
	case err == nil:
		p.loaded, p.file.of = &pair, info
	case p.loaded == nil:
		return nil, fmt.Errorf("tls: %w", err)
	}
	return p.loaded, nil
}

// senders are those who are let in: who has a certificate of an authority of the file.
type senders struct {
	path string
	base *tls.Config // without them

	mu     sync.Mutex
	file   followed
	loaded *tls.Config
}

// get returns the configuration with the authorities that the file has. When the new
// ones cannot be read the old ones are asked for.
func (s *senders) get(*tls.ClientHelloInfo) (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.file.due() {
		return s.loaded, nil
	}
	info, err := os.Stat(s.path)
	if err == nil && !s.file.differs(info) {
		return s.loaded, nil
	}
	var pem []byte
	if err == nil {
		pem, err = os.ReadFile(s.path)
	}
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate in PEM", s.path)
	}
	switch {
	case err == nil:
		// Another configuration has other session tickets, too: who was let in by the
		// former authorities does not come back without a certificate of these.
		s.loaded, s.file.of = s.base.Clone(), info
		s.loaded.ClientCAs, s.loaded.ClientAuth = pool, tls.RequireAndVerifyClientCert
	case s.loaded == nil:
		return nil, fmt.Errorf("tls: ca: %w", err)
	}
	return s.loaded, nil
}

// checkAddress is checkListen for what must be there.
func checkAddress(s string) error {
	if s == "" {
		return errors.New("it is empty; write HOST:PORT, or :PORT for all of the host's addresses")
	}
	return checkListen(s)
}

// checkSyslogAddress: an address, with or without a scheme.
func checkSyslogAddress(s string) error {
	scheme, addr, ok := strings.Cut(s, "://")
	if !ok {
		return checkAddress(s)
	}
	if !slices.Contains([]string{"tcp", "udp", "tls"}, scheme) {
		return fmt.Errorf("%q: %s:// is not known; write tcp://, tls:// or udp://", s, scheme)
	}
	return checkAddress(addr)
}

// checkListeners refuses two inputs that listen on one address.
func (c *Config) checkListeners(problem func(key, text string)) {
	taken := make(map[string]string)
	claim := func(in *Input, key, network, addr string) {
		if strings.HasSuffix(addr, ":0") {
			return // any that is free
		}
		id := network + " " + strings.TrimPrefix(addr, "0.0.0.0")
		if other, ok := taken[id]; ok {
			problem("inputs."+in.Name+"."+key, fmt.Sprintf("%s is %s's already; choose another port", addr, other))
			return
		}
		taken[id] = "input " + in.Name
	}
	if c.Listen != "" {
		taken["tcp "+c.Listen] = "the status page (listen)"
	}
	for _, in := range c.Inputs {
		switch {
		case in.HTTP != nil:
			claim(in, "http.listen", "tcp", in.HTTP.Listen)
		case in.Forward != nil:
			claim(in, "forward.listen", "tcp", in.Forward.Listen)
		case in.OTLP != nil:
			claim(in, "otlp.listen", "tcp", in.OTLP.Listen)
		case in.Syslog != nil:
			for i, addr := range in.Syslog.Listen {
				scheme, at, ok := strings.Cut(addr, "://")
				if !ok {
					scheme, at = "", addr
				}
				key := fmt.Sprintf("syslog.listen[%d]", i)
				if scheme != "udp" {
					claim(in, key, "tcp", at)
				}
				if scheme == "udp" || scheme == "" {
					claim(in, key, "udp", at)
				}
			}
		}
	}
}
