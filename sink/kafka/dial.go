package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// dialTimeout bounds how long it takes until a connection is ready, its encryption
// and login included.
const dialTimeout = 10 * time.Second

// dialer makes connections to brokers.
type dialer struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config
	sasl sasl.Mechanism
}

// connection is one that is ready for requests.
type connection struct {
	raw      net.Conn
	kafka    *protocol.Conn // speaks over raw, and holds nothing back between requests
	versions map[protocol.ApiKey]int16
	address  string
	login    bool
}

func (c *connection) Close() error { return c.raw.Close() }

// connect dials, encrypts, asks for the versions that the broker speaks, and logs in.
// Its errors name the broker and say what to do.
func (d *dialer) connect(ctx context.Context, address string) (*connection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no answer within %v", dialTimeout))
	defer cancel()
	dial := d.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("broker %s cannot be reached: %w; is the address right, and the broker running?", address, cause(ctx, err))
	}
	c := &connection{raw: raw, address: address, login: d.sasl != nil}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	err = d.prepare(ctx, c)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

func (d *dialer) prepare(ctx context.Context, c *connection) error {
	if d.tls != nil {
		config := d.tls.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(c.address)
		}
		secure := tls.Client(c.raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("broker %s: tls: %w; %s", c.address, cause(ctx, err), tlsAdvice(err))
		}
		c.raw = secure
	}
	c.kafka = protocol.NewConn(c.raw, "tailwater")
	m, err := c.kafka.RoundTrip(new(apiversions.Request))
	if err != nil {
		advice := "is it Kafka that listens there?"
		switch {
		case errors.Is(err, syscall.ECONNRESET):
			advice = "is it starting, or stopping?"
		case d.tls == nil:
			advice = "does this listener want tls:?"
		}
		return fmt.Errorf("broker %s does not answer the first request: %w; %s", c.address, cause(ctx, err), advice)
	}
	resp := m.(*apiversions.Response)
	if resp.ErrorCode != 0 {
		return fmt.Errorf("broker %s: which versions it speaks: %w", c.address, kafka.Error(resp.ErrorCode))
	}
	c.versions = make(map[protocol.ApiKey]int16)
	for _, k := range resp.ApiKeys {
		key := protocol.ApiKey(k.ApiKey)
		c.versions[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
	}
	c.kafka.SetVersions(c.versions)
	if d.sasl != nil {
		return d.authenticate(ctx, c)
	}
	return nil
}

func tlsAdvice(err error) string {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return "name the file of the authority that signed its certificate in ca:"
	}
	return "is this a listener with tls?"
}

// authenticate proves who we are.
func (d *dialer) authenticate(ctx context.Context, c *connection) error {
	m, err := c.kafka.RoundTrip(&saslhandshake.Request{Mechanism: d.sasl.Name()})
	if err != nil {
		return fmt.Errorf("broker %s: sasl: %w; is this a listener with sasl?", c.address, cause(ctx, err))
	}
	shake := m.(*saslhandshake.Response)
	switch code := kafka.Error(shake.ErrorCode); code {
	case 0:
	case kafka.IllegalSASLState, kafka.UnsupportedSASLMechanism:
		return fmt.Errorf("broker %s: sasl: it does not take %s; it takes %v", c.address, d.sasl.Name(), shake.Mechanisms)
	default:
		return fmt.Errorf("broker %s: sasl: %w", c.address, code)
	}
	host, _, _ := net.SplitHostPort(c.address)
	session, state, err := d.sasl.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host}))
	if err != nil {
		return fmt.Errorf("broker %s: sasl: %w", c.address, err)
	}
	for done := false; !done; {
		m, err := c.kafka.RoundTrip(&saslauthenticate.Request{AuthBytes: state})
		if err != nil {
			return fmt.Errorf("broker %s: sasl: %w", c.address, cause(ctx, err))
		}
		resp := m.(*saslauthenticate.Response)
		switch code := kafka.Error(resp.ErrorCode); code {
		case 0:
		case kafka.SASLAuthenticationFailed:
			return fmt.Errorf("broker %s: sasl: it does not know this user and password (%s)", c.address, resp.ErrorMessage)
		default:
			return fmt.Errorf("broker %s: sasl: %w: %s", c.address, code, resp.ErrorMessage)
		}
		if done, state, err = session.Next(ctx, resp.AuthBytes); err != nil {
			return fmt.Errorf("broker %s: sasl: %w", c.address, err)
		}
	}
	return nil
}

// ask sends one request and returns its answer.
func (c *connection) ask(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m, err := c.kafka.RoundTrip(req)
	if err == nil {
		return m, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if !c.login {
			return nil, fmt.Errorf("broker %s closed the connection: %w; does this listener want sasl:?", c.address, err)
		}
	}
	return nil, fmt.Errorf("broker %s: %w", c.address, cause(ctx, err))
}

// cause is why an operation failed: the end of ctx, where that is it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}
