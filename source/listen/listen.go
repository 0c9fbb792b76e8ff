package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailwater/tailwater/source/listen/spool"
)

// Config is what all kinds of listeners need.
type Config struct {
	Name string // the input's
	// Project is that of lines whose sender names none.
	Project string
	// TLS, when not nil, encrypts what comes over TCP.
	TLS *tls.Config
	// Tokens are those that an HTTP sender must have one of; none let everybody send.
	Tokens []string
	// SharedKey is the forward protocol's; "" lets everybody send.
	SharedKey string
	// Host is the name by which the forward protocol calls this side.
	Host string
	// MaxBody is the most that one request or chunk may hold, in bytes, decompressed.
	MaxBody int
	// MaxLine is the length at which an event is cut, in bytes.
	MaxLine int
	// MaxConns is the number of connections at once.
	MaxConns int
	// Zone is that of times without one.
	Zone *time.Location

	Spool  *spool.Log
	Memory *Memory
	// Split cuts text into events, as the input's format and multiline say, and returns
	// how many bytes of it were cut off.
	Split func(text []byte, emit func(event []byte, truncated bool)) (lost int64)
	// Drop counts lines that are lost, Abandon bytes.
	Drop    func(reason string, lines int64)
	Abandon func(reason string, bytes int64)
	Log     *slog.Logger
}

// Server is a listener that is open.
type Server interface {
	// Addrs are the addresses that it listens on.
	Addrs() []net.Addr
	// Stats are its numbers.
	Stats() Stats
	// Close takes no more, answers for what has been read, and returns within a few
	// seconds.
	Close()
}

// Stats are numbers for metrics.
type Stats struct {
	Connections int
	// Answers counts requests and messages by how they were answered: ok, repeated,
	// refused, full, too_large, unauthorized, handshake, failed.
	Answers map[string]int64
}

// answers counts by a small set of names.
type answers struct {
	mu sync.Mutex
	n  map[string]int64
}

func (a *answers) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == nil {
		a.n = make(map[string]int64)
	}
	a.n[name]++
}

func (a *answers) all() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]int64, len(a.n))
	for name, n := range a.n {
		all[name] = n
	}
	return all
}

// Memory bounds what all listeners together hold of what is being sent to them.
type Memory struct {
	bytes int64
	free  atomic.Int64
}

// NewMemory returns a Memory of so many bytes.
func NewMemory(bytes int64) *Memory {
	m := &Memory{bytes: bytes}
	m.free.Store(bytes)
	return m
}

// take takes n bytes, and says whether they were there.
func (m *Memory) take(n int) bool {
	if m.free.Add(-int64(n)) >= 0 {
		return true
	}
	m.free.Add(int64(n))
	return false
}

func (m *Memory) give(n int) { m.free.Add(int64(n)) }

// maxUnfolded is how much may become of one request, in bytes: each line has something
// beside its text, each of OTLP's records its resource's attributes, and a small body may
// unfold to very much.
const maxUnfolded = 64 << 20

// unfolded is how much may become of a body of so many bytes: half of what all senders may
// hold, or twice the body where that is more.
func (m *Memory) unfolded(body int) int {
	return int(min(maxUnfolded, max(m.bytes/2, 2*int64(body))))
}

// limited is a listener that holds no more than a number of connections: more are
// closed as they come, so that their senders go elsewhere.
type limited struct {
	net.Listener
	cfg  *Config
	open *atomic.Int64
	max  int64
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			return &counted{Conn: c, open: l.open}, nil
		}
		l.open.Add(-1)
		c.Close()
		l.cfg.Log.Warn("a sender was turned away: there are as many connections as may be; raise connections: if they are all meant", "input", l.cfg.Name, "connections", l.max)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite ends the sending side, for servers that look for it.
func (c *counted) CloseWrite() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return errors.New("no TCP connection")
}

// listenTCP opens an address.
func listenTCP(cfg *Config, addr string, open *atomic.Int64) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("input %s: listen on %s: %w; choose another address, or end what has it", cfg.Name, addr, err)
	}
	l = &limited{l, cfg, open, int64(cfg.MaxConns)}
	if cfg.TLS != nil {
		l = tls.NewListener(l, cfg.TLS)
	}
	return l, nil
}

// buffers keeps the memory of frames of a usual size.
var buffers sync.Pool

const maxKeptBuffer = 2 << 20

func buffer() []byte {
	if b, ok := buffers.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, 64<<10)
}

func giveBuffer(b []byte) {
	if cap(b) <= maxKeptBuffer {
		buffers.Put(&b)
	}
}
