package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxSocketPath is what every system's address of a unix socket can hold.
const maxSocketPath = 100

// socketAddr returns an address for the socket of that name in dir, good until release
// is called. A path too long for an address goes through the directory's descriptor.
func socketAddr(dir, name string) (addr string, release func(), err error) {
	path := filepath.Join(dir, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	addr = fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	return addr, func() { d.Close() }, nil
}

// DialSocket connects to the agent that uses the state directory.
func DialSocket(ctx context.Context, state string) (net.Conn, error) {
	addr, release, err := socketAddr(state, SocketName)
	if err != nil {
		return nil, err
	}
	defer release()
	return new(net.Dialer).DialContext(ctx, "unix", addr)
}

// listenPrivately opens a unix socket in dir that only the owner may use, from its
// first moment on: it is made under another name and moved once its mode is set.
func listenPrivately(dir string) (net.Listener, error) {
	addr, release, err := socketAddr(dir, SocketName+".new")
	if err != nil {
		return nil, err
	}
	defer release()
	temporary := filepath.Join(dir, SocketName+".new")
	os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, filepath.Join(dir, SocketName))
	}
	if err != nil {
		l.Close()
		os.Remove(temporary)
		return nil, err
	}
	return l, nil
}
