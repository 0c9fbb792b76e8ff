package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/source/listen/spool"
)

const (
	// handshakeTime is how long a sender may take for the handshakes.
	handshakeTime = 10 * time.Second
	// messageTime is how long a message that has begun may stand still.
	messageTime = time.Minute
	// quietTime is how long nothing must come before a connection is closed by this
	// side: what the sender has written must not be thrown away.
	quietTime = 100 * time.Millisecond
	// closeTime is how long closing may take in all.
	closeTime = 3 * time.Second
)

// streams serves connections that go on for ever: those of syslog and forward.
type streams struct {
	cfg    *Config
	handle func(*stream)
	open   atomic.Int64
	answers

	work sync.WaitGroup
	stop chan struct{}

	mu        sync.Mutex
	listeners []net.Listener
	packets   []net.PacketConn
	conns     map[net.Conn]struct{}
	closing   bool
}

// stream is one connection.
type stream struct {
	net.Conn
	from *streams
	end  time.Time // when a closing stream is to be done, zero before
}

func newStreams(cfg *Config, handle func(*stream)) *streams {
	return &streams{cfg: cfg, handle: handle, stop: make(chan struct{}), conns: make(map[net.Conn]struct{})}
}

// serve accepts from l until the streams are closed.
func (s *streams) serve(l net.Listener) {
	s.listeners = append(s.listeners, l)
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors, perhaps: later there may be some
				s.cfg.Log.Warn("no connection could be accepted; tried again", "input", s.cfg.Name, "error", err)
				select {
				case <-s.stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			if !s.add(c) {
				c.Close()
				return
			}
			s.work.Go(func() {
				defer s.remove(c)
				if t, ok := c.(*tls.Conn); ok {
					ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
					err := t.HandshakeContext(ctx)
					cancel()
					if err != nil {
						s.answers.add("handshake")
						s.cfg.Log.Warn("a sender's TLS handshake did not succeed", "input", s.cfg.Name, "from", c.RemoteAddr().String(), "error", err)
						return
					}
				}
				s.handle(&stream{Conn: c, from: s})
			})
		}
	})
}

func (s *streams) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.conns[c] = struct{}{}
	}
	return !s.closing
}

func (s *streams) remove(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Addrs implements Server.
func (s *streams) Addrs() (all []net.Addr) {
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	for _, p := range s.packets {
		all = append(all, p.LocalAddr())
	}
	return all
}

// Stats implements Server.
func (s *streams) Stats() Stats {
	return Stats{Connections: int(s.open.Load()), Answers: s.answers.all()}
}

// Close implements Server.
func (s *streams) Close() {
	s.mu.Lock()
	s.closing = true
	close(s.stop)
	for c := range s.conns {
		c.SetReadDeadline(time.Now().Add(quietTime))
	}
	s.mu.Unlock()
	for _, l := range s.listeners {
		l.Close()
	}
	for _, p := range s.packets {
		p.SetReadDeadline(time.Now().Add(quietTime))
	}
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(closeTime + time.Second):
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		<-done
	}
	for _, p := range s.packets {
		p.Close()
	}
}

func (s *streams) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// read reads what there is. Within a message (begun) the sender may not stand still for
// ever; between two it may. While the streams are closing it reads what has been sent
// and then says os.ErrDeadlineExceeded.
func (c *stream) read(buf []byte, begun bool) (int, error) {
	now := time.Now()
	switch {
	case c.from.stopping():
		if c.end.IsZero() {
			c.end = now.Add(closeTime)
		}
		if now.After(c.end) {
			return 0, os.ErrDeadlineExceeded
		}
		c.SetReadDeadline(now.Add(quietTime))
	case begun:
		c.SetReadDeadline(now.Add(messageTime))
	default:
		c.SetReadDeadline(time.Time{})
	}
	if c.from.stopping() && c.end.IsZero() { // it began to close between the two
		c.SetReadDeadline(now.Add(quietTime))
	}
	return c.Read(buf)
}

// wait lets a moment pass before a full spool is tried again, and says false when the
// streams are closed.
func (c *stream) wait(d time.Duration) bool {
	select {
	case <-c.from.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// append spools a frame, and waits while there is no room: the sender is not read from
// meanwhile.
func (c *stream) append(frame *spool.Frame, wait bool) error {
	cfg := c.from.cfg
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := cfg.Spool.Append(frame, wait)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, spool.ErrKnown):
			c.from.answers.add("repeated")
			return nil
		case errors.Is(err, spool.ErrOther):
			// A part of the same message, and other lines in it: with another max_line, or
			// version, it came in other parts. Rather some of it twice than none.
			frame.Forget()
			continue
		case errors.Is(err, spool.ErrFull):
			c.from.answers.add("full")
		default:
			c.from.answers.add("failed")
			cfg.Log.Error("what was received cannot be spooled; its sender has to wait. Make room on the disk or mend it", "input", cfg.Name, "error", err)
		}
		if !c.wait(delay) {
			return err
		}
	}
}

// lose counts messages for which there was no room when the input ended, and whose sender
// waits for no answer.
func (c *stream) lose(err error, lines int64) {
	reason := "spool_failed"
	if errors.Is(err, spool.ErrFull) {
		reason = "spool_full"
	}
	cfg := c.from.cfg
	cfg.Drop(reason, lines)
	cfg.Log.Warn("what was read when the input ended is lost, as there was no room for it and its sender cannot be told", "input", cfg.Name,
		"from", c.RemoteAddr().String(), "reason", reason, "lines", lines)
}
