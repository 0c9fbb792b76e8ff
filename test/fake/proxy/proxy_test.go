package proxy

import (
	"bufio"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// echo answers each line with itself and counts them.
func echo(t *testing.T, served *atomic.Int64) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					served.Add(1)
					fmt.Fprintln(c, s.Text())
				}
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) (ask func(string) (string, error)) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	return func(line string) (string, error) {
		if _, err := fmt.Fprintln(c, line); err != nil {
			return "", err
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		return r.ReadString('\n')
	}
}

func TestFaults(t *testing.T) {
	var served atomic.Int64
	p, err := Listen(echo(t, &served))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ask := dial(t, p)
	if got, err := ask("a"); got != "a\n" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	p.Swallow(true)
	if got, err := ask("b"); err == nil {
		t.Errorf("a swallowed answer came: %q", got)
	}
	if served.Load() != 2 || p.Swallowed() != 2 {
		t.Errorf("served %d, swallowed %d bytes", served.Load(), p.Swallowed())
	}
	p.Swallow(false)
	p.Stall(true)
	if _, err := ask("c"); err == nil || served.Load() != 2 {
		t.Errorf("a stalled request was served: %d, %v", served.Load(), err)
	}
	p.Stall(false)
	if got, err := ask("d"); got != "c\n" || err != nil {
		t.Errorf("after the stall: %q, %v", got, err)
	}
	p.Cut()
	for range 2 { // what was read ahead of the cut may still be there: one answer, no more
		_, err = ask("f")
	}
	if err == nil {
		t.Error("a cut connection answers")
	}
	if got, err := dial(t, p)("g"); got != "g\n" || err != nil {
		t.Errorf("a new connection: %q, %v", got, err)
	}
}
