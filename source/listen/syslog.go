package listen

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
)

// Syslog listens for syslog messages on tcp://, tls:// and udp:// addresses. An address
// without a scheme is both, TCP and UDP.
func Syslog(cfg Config, addrs []string) (Server, error) {
	plain := cfg
	plain.TLS = nil
	s := newStreams(&cfg, func(c *stream) { newSyslogStream(c).run() })
	for _, addr := range addrs {
		scheme, at, ok := strings.Cut(addr, "://")
		if !ok {
			scheme, at = "", addr
		}
		if scheme != "udp" {
			use := &cfg
			if scheme == "tcp" && cfg.TLS == nil {
				use = &plain
			}
			l, err := listenTCP(use, at, &s.open)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.serve(l)
			if tcp, ok := l.Addr().(*net.TCPAddr); ok && scheme == "" {
				host, _, _ := net.SplitHostPort(at)
				at = net.JoinHostPort(host, itoa(tcp.Port))
			}
		}
		if scheme == "udp" || scheme == "" {
			p, err := net.ListenPacket("udp", at)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.datagrams(p)
		}
	}
	return s, nil
}

// syslogStream is one sender's connection.
type syslogStream struct {
	*stream
	cfg  *Config
	buf  []byte
	peer string
	skip int  // bytes of an overlong message that are still to come
	line bool // and whether it ends at a newline instead
	head syslogHead
	took int64 // messages that are in the frame
}

func newSyslogStream(c *stream) *syslogStream {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	return &syslogStream{stream: c, cfg: c.from.cfg, peer: host}
}

// run serves the connection to its end. What stands there unfinished then is a message
// too, marked partial where its length was told.
func (s *syslogStream) run() {
	s.buf = make([]byte, 0, usualBuffer)
	for {
		if cap(s.buf)-len(s.buf) < 4<<10 {
			s.buf = slices.Grow(s.buf, min(len(s.buf)+16<<10, 256<<10))
		}
		n, err := s.read(s.buf[len(s.buf):cap(s.buf)], len(s.buf) > 0)
		s.buf = s.buf[:len(s.buf)+n]
		if n > 0 {
			if err := s.take(false); err != nil {
				return
			}
		}
		if err == nil {
			continue
		}
		if len(s.buf) > 0 {
			s.take(true)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !(errors.Is(err, os.ErrDeadlineExceeded) && s.from.stopping()) {
			s.cfg.Log.Info("a syslog connection has ended", "input", s.cfg.Name, "from", s.peer, "error", err)
		}
		return
	}
}

// take spools the messages that are complete; atEnd, all that is left.
func (s *syslogStream) take(atEnd bool) error {
	now := time.Now()
	f := spool.Begin(buffer(), spool.Records, s.cfg.Project, spool.Key{}, now.UnixMilli())
	defer func() { giveBuffer(f.Buf) }()
	s.took = 0
	data := s.buf
	for len(data) > 0 {
		n, done := s.one(f, data, now, atEnd)
		data = data[n:]
		if !done {
			break
		}
	}
	if len(f.Payload()) > 0 {
		if err := s.append(f, false); err != nil {
			s.lose(err, s.took)
			return err
		}
		s.from.answers.add("ok")
	}
	if cap(s.buf) > 4*usualBuffer && len(data) < usualBuffer/2 { // a long message has passed
		s.buf = append(make([]byte, 0, usualBuffer), data...)
	} else {
		s.buf = s.buf[:copy(s.buf, data)]
	}
	return nil
}

// usualBuffer is the room of a connection, in bytes, while its messages are not longer.
const usualBuffer = 16 << 10

// one takes the message at the head of data. It returns how many bytes it has passed,
// and false when more of them must come first.
func (s *syslogStream) one(f *spool.Frame, data []byte, now time.Time, atEnd bool) (n int, done bool) {
	if s.skip > 0 || s.line {
		return s.pass(data)
	}
	length, head := octets(data)
	switch {
	case head > 0: // its length is told
		if have := min(length, s.cfg.MaxLine); len(data)-head >= have {
			cut := length > have
			s.emit(f, data[head:head+have], now, cut, false)
			if cut {
				s.skip = length - have
				s.cfg.Abandon("overlong", int64(s.skip))
			}
			return head + have, true
		}
		if atEnd {
			s.emit(f, data[head:], now, false, true)
			return len(data), true
		}
		return 0, false
	case head < 0 && !atEnd: // too short to tell
		return 0, false
	}
	i := bytes.IndexByte(data, '\n')
	switch {
	case i > s.cfg.MaxLine || i < 0 && len(data) > s.cfg.MaxLine:
		s.emit(f, data[:s.cfg.MaxLine], now, true, false)
		s.line = true
		return s.cfg.MaxLine, true
	case i >= 0:
		s.emit(f, data[:i], now, false, false)
		return i + 1, true
	case atEnd:
		s.emit(f, data, now, false, false)
		return len(data), true
	}
	return 0, false
}

// pass passes over the rest of an overlong message.
func (s *syslogStream) pass(data []byte) (n int, done bool) {
	if s.skip > 0 {
		n = min(s.skip, len(data))
		s.skip -= n
		return n, s.skip == 0
	}
	if n = bytes.IndexByte(data, '\n'); n < 0 {
		s.cfg.Abandon("overlong", int64(len(data)))
		return len(data), false
	}
	s.cfg.Abandon("overlong", int64(n))
	s.line = false
	return n + 1, true
}

func (s *syslogStream) emit(f *spool.Frame, msg []byte, now time.Time, truncated, partial bool) {
	var flags spool.Flags
	if truncated {
		flags |= spool.Truncated
	}
	if partial {
		flags |= spool.Partial
	}
	before := len(f.Buf)
	if f.Buf = s.head.append(f.Buf, msg, flags, now, s.cfg.Zone, s.peer); len(f.Buf) > before {
		s.took++
	}
}

// octets reads the length in front of an octet-counted message (RFC 6587): digits and a
// blank, and then a priority. head is the length of that; 0 where there is none, -1
// where data is too short to tell.
func octets(data []byte) (length, head int) {
	for i, c := range data {
		switch {
		case c >= '0' && c <= '9' && i < 9 && (i > 0 || c != '0'):
			length = length*10 + int(c-'0')
		case c == ' ' && i > 0:
			if len(data) == i+1 {
				return 0, -1
			}
			if data[i+1] == '<' {
				return length, i + 1
			}
			return 0, 0
		default:
			return 0, 0
		}
	}
	return 0, -1
}

const (
	// maxDatagram is the longest datagram that there is.
	maxDatagram = 64 << 10
	// maxBatch bounds what waits to be spooled of datagrams, in bytes.
	maxBatch = 8 << 20
	// receiveBuffer is what the system is asked to hold of datagrams that come faster
	// than they are read, in bytes.
	receiveBuffer = 8 << 20
)

// batch gathers datagrams for the spool.
type batch struct {
	mu    sync.Mutex
	frame *spool.Frame
	lines int64
	ready chan struct{}
}

// datagrams serves a UDP socket. Each datagram is a message.
func (s *streams) datagrams(p net.PacketConn) {
	s.packets = append(s.packets, p)
	if u, ok := p.(*net.UDPConn); ok {
		u.SetReadBuffer(receiveBuffer) // as much as the system allows
	}
	b := &batch{ready: make(chan struct{}, 1)}
	s.work.Go(func() {
		defer close(b.ready)
		s.receive(p, b)
	})
	s.work.Go(func() {
		for range b.ready {
			s.flush(b)
		}
	})
}

// receive reads datagrams until the socket is to be closed and empty.
func (s *streams) receive(p net.PacketConn, b *batch) {
	buf := make([]byte, maxDatagram)
	var head syslogHead
	var end time.Time
	peers := make(map[string]string)
	for {
		n, from, err := p.ReadFrom(buf)
		if s.stopping() {
			now := time.Now()
			if end.IsZero() {
				end = now.Add(closeTime)
			}
			if now.After(end) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			p.SetReadDeadline(now.Add(quietTime))
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n == 0 {
			continue
		}
		s.put(b, &head, buf[:n], peerOf(from, peers))
	}
}

// peerOf is the sender's address without its port. Few send much: they are remembered.
func peerOf(from net.Addr, known map[string]string) string {
	u, ok := from.(*net.UDPAddr)
	if !ok {
		return ""
	}
	if host, ok := known[string(u.IP)]; ok {
		return host
	}
	if len(known) > 1000 {
		clear(known)
	}
	host := u.IP.String()
	known[string(u.IP)] = host
	return host
}

func (s *streams) put(b *batch, head *syslogHead, msg []byte, peer string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frame == nil {
		b.frame = spool.Begin(buffer(), spool.Records, s.cfg.Project, spool.Key{}, now.UnixMilli())
	}
	if len(b.frame.Buf) > maxBatch {
		s.drop("overload", 1)
		return
	}
	b.frame.Buf = head.append(b.frame.Buf, msg, 0, now, s.cfg.Zone, peer)
	b.lines++
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// flush spools what has been gathered. What does not go in is lost, and counted: nobody
// can be told.
func (s *streams) flush(b *batch) {
	b.mu.Lock()
	f, lines := b.frame, b.lines
	b.frame, b.lines = nil, 0
	b.mu.Unlock()
	if f == nil {
		return
	}
	defer giveBuffer(f.Buf)
	switch err := s.cfg.Spool.Append(f, false); {
	case err == nil:
		s.answers.add("ok")
	case errors.Is(err, spool.ErrFull):
		s.drop("spool_full", lines)
	default:
		s.cfg.Log.Error("datagrams cannot be spooled and are lost; make room on the disk or mend it", "input", s.cfg.Name, "error", err)
		s.drop("spool_failed", lines)
	}
}

func (s *streams) drop(reason string, lines int64) {
	s.cfg.Drop(reason, lines)
	s.cfg.Log.Warn("datagrams are lost, as there is no room for them and their senders cannot be told", "input", s.cfg.Name, "reason", reason, "lines", lines)
}

// field appends a field to the head's, unless it is empty or syslog's word for that.
func (h *syslogHead) field(key string, val []byte) {
	if len(val) > 0 && string(val) != "-" {
		h.fields = spool.AppendField(h.fields, key, val, record.Text)
	}
}
