package rig

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Cluster is a real kube-apiserver with a real etcd, and nothing else: no node, no
// controller. It ends with this process.
type Cluster struct {
	URL string
	// CAFile is the authority of its certificate.
	CAFile string

	dir   string
	admin string // token
	http  *http.Client
	procs []*exec.Cmd
}

// StartCluster starts one in dir. root is the module's root; the first run on a machine
// builds both servers, which takes minutes.
func StartCluster(ctx context.Context, root, dir string) (c *Cluster, err error) {
	var said bytes.Buffer
	build := exec.CommandContext(ctx, filepath.Join(root, "test/env/kube-build"))
	build.Stderr = &said
	bins, err := build.Output()
	if err != nil {
		return nil, fmt.Errorf("kube-build: %w\n%s", err, said.Bytes())
	}
	bin := func(name string) string { return filepath.Join(strings.TrimSpace(string(bins)), name) }
	port, err := freePorts(0, 1, 2)
	if err != nil {
		return nil, err
	}
	c = &Cluster{URL: fmt.Sprintf("https://127.0.0.1:%d", port), CAFile: filepath.Join(dir, "server.crt"), dir: dir, admin: "admin-of-the-test"}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.keys(); err != nil {
		return nil, err
	}
	etcd, peer := fmt.Sprintf("http://127.0.0.1:%d", port+1), fmt.Sprintf("http://127.0.0.1:%d", port+2)
	if err := c.run(bin("etcd"), "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync"); err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := c.run(bin("kube-apiserver"), "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(port),
		"--tls-cert-file", c.CAFile, "--tls-private-key-file", in("server.key"), "--cert-dir", dir, "--service-cluster-ip-range", "10.0.0.0/24",
		"--service-account-key-file", in("server.crt"), "--service-account-signing-key-file", in("server.key"), "--service-account-issuer", "https://kubernetes.default.svc",
		"--authorization-mode", "RBAC", "--token-auth-file", in("tokens"), "--disable-admission-plugins", "ServiceAccount"); err != nil {
		return nil, err
	}
	err = Poll(ctx, "the API server to be ready", func() error {
		for _, p := range c.procs {
			if err := p.Process.Signal(syscall.Signal(0)); err != nil {
				return Final(fmt.Errorf("%s has ended; see %s", p.Path, dir))
			}
		}
		_, err := c.Do(ctx, http.MethodGet, "/readyz", nil)
		return err
	})
	return c, err
}

// keys makes a certificate that is its own authority, and the list of tokens.
func (c *Cluster) keys() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	c.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	return errors.Join(
		os.WriteFile(c.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(c.dir, "server.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600),
		os.WriteFile(filepath.Join(c.dir, "tokens"), []byte(c.admin+",admin,1,system:masters\n"), 0o600))
}

func (c *Cluster) run(bin string, args ...string) error {
	cmd := exec.Command(bin, args...)
	log, err := os.Create(filepath.Join(c.dir, filepath.Base(bin)+".log"))
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.procs = append(c.procs, cmd)
	return nil
}

// Transport speaks to the API server.
func (c *Cluster) Transport() http.RoundTripper { return c.http.Transport }

// Stop ends both servers.
func (c *Cluster) Stop() {
	for _, p := range c.procs {
		p.Process.Kill() // their data go with the test
		p.Wait()
	}
}

// StatusError is an answer that is not 2xx.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Body) }

// Do asks as the administrator, and As with a token of someone else's. body is sent as
// JSON when it is not nil.
func (c *Cluster) Do(ctx context.Context, method, path string, body any) ([]byte, error) {
	return c.As(ctx, c.admin, method, path, body)
}

// As is Do with another token.
func (c *Cluster) As(ctx context.Context, token, method, path string, body any) ([]byte, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = &StatusError{resp.StatusCode, string(answer)}
	}
	return answer, err
}
