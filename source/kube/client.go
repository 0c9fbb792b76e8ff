package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// connectTimeout bounds the way to the API server, and answerTimeout the time until
	// it begins to answer.
	connectTimeout = 5 * time.Second
	answerTimeout  = 30 * time.Second
	// pingAfter is how long a connection may be silent before it is asked whether it
	// still lives: a partition is found within pingAfter and pingTimeout.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// client talks to the API server. One goroutine uses it.
type client struct {
	server    string
	tokenFile string
	caFile    string

	http *http.Client
	ca   string // what the CA file held when http was made
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d %s", e.code, e.text) }

// gone reports whether the API server has forgotten what was asked for: then there is
// only a list anew.
func gone(err error) bool {
	status := (*statusError)(nil)
	return errors.As(err, &status) && status.code == http.StatusGone
}

// get asks for the node's pods. The token and the authority are read each time: both
// are replaced while the agent runs. The caller closes the body.
func (c *client) get(ctx context.Context, query url.Values) (io.ReadCloser, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+"/api/v1/pods?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "tailwater")
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, short(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, statusOf(resp)
	}
	return resp.Body, nil
}

// short leaves the URL out of an error: it is long, and the log names the server.
func short(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// statusOf makes an error of what the API server says.
func statusOf(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var said struct{ Message string }
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		text = said.Message
	}
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	switch resp.StatusCode {
	case http.StatusForbidden:
		text += "; bind the service account to a ClusterRole that may list and watch pods (deploy/daemonset/base/rbac.yaml)"
	case http.StatusUnauthorized:
		text += "; the token is not accepted: look at token_file and at the service account"
	}
	return &statusError{resp.StatusCode, text}
}

// prepare makes the HTTP client, anew when the authority has changed.
func (c *client) prepare() error {
	ca := ""
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		ca = string(pem)
	}
	if c.http != nil && ca == c.ca {
		return nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return fmt.Errorf("ca: %s holds no certificate in PEM form", c.caFile)
		}
	}
	c.close()
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connectTimeout, KeepAlive: pingAfter}).DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: answerTimeout,
		MaxIdleConns:          1,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	c.http, c.ca = &http.Client{Transport: transport, CheckRedirect: refuseRedirect}, ca
	return nil
}

// refuseRedirect keeps the token from going anywhere else.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (c *client) close() {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}
