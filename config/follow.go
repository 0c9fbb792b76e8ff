package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// pemFile is a file that a section names, as it was when the configuration was read: two
// sections that name the same file are equal only with the same contents, and what is
// made of one does not depend on what has become of the file since.
type pemFile struct {
	text []byte
	err  error
}

func (f *pemFile) read(path string) {
	if path != "" {
		f.text, f.err = os.ReadFile(path)
	}
}

// authorities are the certificates in the file; nil where path is "".
func (f *pemFile) authorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	if f.err != nil {
		return nil, fmt.Errorf("ca: %w", f.err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(f.text) {
		return nil, fmt.Errorf("ca: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

// clients are the sections that say how tailwater encrypts what it sends.
func (c *Config) clients() (all []*TLS) {
	if k := c.Fleet.Kafka; k != nil {
		all = append(all, k.TLS)
	}
	for _, in := range c.Inputs {
		if in.Kafka != nil {
			all = append(all, in.Kafka.TLS)
		}
	}
	for _, out := range c.Outputs {
		if out.Kafka != nil {
			all = append(all, out.Kafka.TLS)
		}
	}
	for _, n := range c.Notify {
		switch {
		case n.SMTP != nil:
			all = append(all, n.SMTP.TLS)
		case n.Alertmanager != nil:
			all = append(all, n.Alertmanager.TLS)
		}
	}
	return slices.DeleteFunc(all, func(t *TLS) bool { return t == nil })
}

// Follows are the files beside the configuration itself whose contents are part of it:
// those of ${file:..}, and the authorities and certificates of what tailwater connects to.
// When one of them changes the configuration is to be read again.
func (c *Config) Follows() []string {
	paths := slices.Clone(c.expanded)
	for _, t := range c.clients() {
		paths = append(paths, t.CA, t.Cert, t.Key)
	}
	for _, out := range c.Outputs {
		if out.Elasticsearch != nil {
			paths = append(paths, out.Elasticsearch.CA)
		}
	}
	slices.Sort(paths)
	return slices.DeleteFunc(slices.Compact(paths), func(path string) bool { return path == "" })
}

// Usable tells what is wrong with the authorities and certificates: one of a pair may have
// been replaced and the other not yet.
func (c *Config) Usable() (wrong error) {
	for _, t := range c.clients() {
		_, err := t.Config()
		wrong = errors.Join(wrong, err)
	}
	for _, out := range c.Outputs {
		if out.Elasticsearch != nil {
			_, err := out.Elasticsearch.Authorities()
			wrong = errors.Join(wrong, err)
		}
	}
	return wrong
}
