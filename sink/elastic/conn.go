package elastic

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// conn sends the body of a request as it lies in memory. Without it net/http copies the
// body through a buffer of 32 KiB, with a call of the kernel for each.
type conn struct{ net.Conn }

// ReadFrom is how net/http sends a body whose length it knows: those of this package are
// no longer than they say.
func (c conn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(io.WriterTo); ok {
			n, err := body.WriteTo(c.Conn)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// newTransport is net/http's own with such connections.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn{c}, nil
	}
	return t
}
