// Package wire speaks to Kafka brokers: it makes connections that are ready for requests,
// knows the brokers of a cluster, and reads what kafka-go would read too slowly.
package wire

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

// Dialer makes connections to brokers.
type Dialer struct {
	// Dial opens a connection; nil is the network's own. Encryption comes on top of it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config    // nil: no encryption
	SASL sasl.Mechanism // nil: no login
}

// Conn is a connection that is ready for requests. One goroutine at a time uses it, and
// after an error nobody.
type Conn struct {
	Raw      net.Conn // for requests that are written by hand; nothing is held back between them
	Address  string
	Versions map[protocol.ApiKey]int16 // those that both sides speak

	kafka *protocol.Conn // speaks over Raw
	login bool
}

// Close ends the connection.
func (c *Conn) Close() error { return c.Raw.Close() }

// highest are the versions up to which kafka-go's messages are right. Of heartbeats it
// takes the first bytes of the throttle time, which later versions begin with, for the
// error: a member would never hear of a rebalance.
var highest = map[protocol.ApiKey]int16{protocol.JoinGroup: 5, protocol.SyncGroup: 3, protocol.Heartbeat: 0, protocol.LeaveGroup: 3}

// Connect dials, encrypts, asks for the versions that the broker speaks, and logs in.
// Its errors name the broker and say what to do.
func (d *Dialer) Connect(ctx context.Context, address string) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no answer within %v", dialTimeout))
	defer cancel()
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("broker %s cannot be reached: %w; is the address right, and the broker running?", address, cause(ctx, err))
	}
	c := &Conn{Raw: raw, Address: address, login: d.SASL != nil}
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

func (d *Dialer) prepare(ctx context.Context, c *Conn) error {
	if d.TLS != nil {
		config := d.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(c.Address)
		}
		secure := tls.Client(c.Raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("broker %s: tls: %w; %s", c.Address, cause(ctx, err), tlsAdvice(err))
		}
		c.Raw = secure
	}
	c.kafka = protocol.NewConn(c.Raw, "tailwater")
	m, err := c.kafka.RoundTrip(new(apiversions.Request))
	if err != nil {
		advice := "is it Kafka that listens there?"
		var alert *net.OpError
		switch {
		case errors.As(err, &alert) && alert.Op == "remote error": // TLS 1.3 tells of a certificate only now
			advice = "does it ask for a certificate? Name tailwater's own in cert: and key:"
		case errors.Is(err, syscall.ECONNRESET):
			advice = "is it starting, or stopping?"
		case d.TLS == nil:
			advice = "does this listener want tls:?"
		}
		return fmt.Errorf("broker %s does not answer the first request: %w; %s", c.Address, cause(ctx, err), advice)
	}
	resp := m.(*apiversions.Response)
	if resp.ErrorCode != 0 {
		return fmt.Errorf("broker %s: which versions it speaks: %w", c.Address, kafka.Error(resp.ErrorCode))
	}
	c.Versions = make(map[protocol.ApiKey]int16)
	for _, k := range resp.ApiKeys {
		key := protocol.ApiKey(k.ApiKey)
		c.Versions[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
		if most, ok := highest[key]; ok {
			c.Versions[key] = min(c.Versions[key], most)
		}
	}
	c.kafka.SetVersions(c.Versions)
	if d.SASL != nil {
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
func (d *Dialer) authenticate(ctx context.Context, c *Conn) error {
	m, err := c.kafka.RoundTrip(&saslhandshake.Request{Mechanism: d.SASL.Name()})
	if err != nil {
		return fmt.Errorf("broker %s: sasl: %w; is this a listener with sasl?", c.Address, cause(ctx, err))
	}
	shake := m.(*saslhandshake.Response)
	switch code := kafka.Error(shake.ErrorCode); code {
	case 0:
	case kafka.IllegalSASLState, kafka.UnsupportedSASLMechanism:
		return fmt.Errorf("broker %s: sasl: it does not take %s; it takes %v", c.Address, d.SASL.Name(), shake.Mechanisms)
	default:
		return fmt.Errorf("broker %s: sasl: %w", c.Address, code)
	}
	host, _, _ := net.SplitHostPort(c.Address)
	session, state, err := d.SASL.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host}))
	if err != nil {
		return fmt.Errorf("broker %s: sasl: %w", c.Address, err)
	}
	for done := false; !done; {
		m, err := c.kafka.RoundTrip(&saslauthenticate.Request{AuthBytes: state})
		if err != nil {
			return fmt.Errorf("broker %s: sasl: %w", c.Address, cause(ctx, err))
		}
		resp := m.(*saslauthenticate.Response)
		switch code := kafka.Error(resp.ErrorCode); code {
		case 0:
		case kafka.SASLAuthenticationFailed:
			return fmt.Errorf("broker %s: sasl: it does not know this user and password (%s)", c.Address, resp.ErrorMessage)
		default:
			return fmt.Errorf("broker %s: sasl: %w: %s", c.Address, code, resp.ErrorMessage)
		}
		if done, state, err = session.Next(ctx, resp.AuthBytes); err != nil {
			return fmt.Errorf("broker %s: sasl: %w", c.Address, err)
		}
	}
	return nil
}

// Ask sends one request and returns its answer. Its errors name the broker.
func (c *Conn) Ask(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	stop := context.AfterFunc(ctx, func() { c.Raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	m, err := c.kafka.RoundTrip(req)
	if err == nil {
		return m, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if !c.login {
			return nil, fmt.Errorf("broker %s closed the connection: %w; does this listener want sasl:?", c.Address, err)
		}
	}
	return nil, fmt.Errorf("broker %s: %w", c.Address, cause(ctx, err))
}

// cause is why an operation failed: the end of ctx, where that is it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}
