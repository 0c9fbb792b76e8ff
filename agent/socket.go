package agent

import (
	"net"
	"os"
)

// listenPrivately opens a unix socket that only the owner may use, from its first
// moment on: it is made under another name and moved once its mode is set.
func listenPrivately(path string) (net.Listener, error) {
	temporary := path + ".new"
	os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, 0o600)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		l.Close()
		os.Remove(temporary)
		return nil, err
	}
	return l, nil
}
