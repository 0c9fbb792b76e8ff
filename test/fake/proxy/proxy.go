// Package proxy stands between a client and a real server in tests, and does to their
// connections what networks do: it delays, cuts and stalls them, and loses the answers
// to requests that were carried out.
package proxy

import (
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to one server. Its methods may be called from any
// goroutine, at any time; what they set holds for all connections, old and new.
type Proxy struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // stalled or closed
	conns   map[net.Conn]struct{}
	swallow bool
	stalled bool
	delay   time.Duration
	closed  bool
	lost    int64
}

// Listen returns a proxy on a free port of 127.0.0.1 for the server at target, as
// HOST:PORT. It need not be there yet.
func Listen(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.changed.L = &p.mu
	p.work.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, as HOST:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Swallow(true) has requests reach the server and their answers reach nobody.
func (p *Proxy) Swallow(on bool) { p.set(func() { p.swallow = on }) }

// Stall(true) stops all bytes in both directions, without a word to either side, as a
// firewall does that forgets connections; Stall(false) lets them go on.
func (p *Proxy) Stall(on bool) { p.set(func() { p.stalled = on }) }

// Delay holds each piece of an answer back for d.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Swallowed is the number of bytes of answers that were lost so far.
func (p *Proxy) Swallowed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Cut resets all connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0) // a reset instead of an orderly end
		}
		c.Close()
	}
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() error {
	p.set(func() { p.closed = true })
	err := p.listener.Close()
	p.Cut()
	p.work.Wait()
	return err
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client) })
	}
}

// serve passes one connection on until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.enter(client, server) {
		return
	}
	defer p.leave(client, server)
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, false) })
	both.Go(func() { p.copy(client, server, true) })
	both.Wait()
}

func (p *Proxy) enter(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) leave(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// copy moves bytes one way, and ends both ways when there are no more.
func (p *Proxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.pass(n, answers) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits as it is told and tells whether n bytes are to be handed on.
func (p *Proxy) pass(n int, answers bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled && !p.closed {
		p.changed.Wait()
	}
	if !answers {
		return true
	}
	if d := p.delay; d > 0 {
		p.mu.Unlock()
		time.Sleep(d)
		p.mu.Lock()
	}
	if p.swallow {
		p.lost += int64(n)
		return false
	}
	return true
}
