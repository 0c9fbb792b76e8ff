package listen

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/tailwater/tailwater/source/listen/spool"
)

// Forward listens for Fluentd's forward protocol, version 1, and answers the heartbeats
// that come as datagrams to the same port.
func Forward(cfg Config, addr string) (Server, error) {
	s := newStreams(&cfg, func(c *stream) { (&forwarded{stream: c, cfg: &cfg}).run() })
	l, err := listenTCP(&cfg, addr, &s.open)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		p, err := net.ListenPacket("udp", net.JoinHostPort(host, fmt.Sprint(tcp.Port)))
		if err != nil {
			cfg.Log.Info("heartbeats over UDP are not answered: the port is taken. Those over TCP are", "input", cfg.Name, "error", err)
		} else {
			s.packets = append(s.packets, p)
			s.work.Go(func() { s.heartbeats(p) })
		}
	}
	s.serve(l)
	return s, nil
}

// heartbeats answers each datagram with one byte, as Fluentd does.
func (s *streams) heartbeats(p net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || err != nil && s.stopping() {
			return
		}
		if err == nil {
			p.WriteTo([]byte{0}, from)
		}
	}
}

// forwarded is one sender's connection.
type forwarded struct {
	*stream
	cfg  *Config
	buf  []byte
	held int // of Memory, for buf
	used int // and for the message that is taken
}

// run serves the connection to its end.
func (f *forwarded) run() {
	defer func() { f.cfg.Memory.give(f.held + f.used) }()
	err := f.greet()
	for err == nil {
		var n int
		if n, err = f.message(); err == nil {
			err = f.take(f.buf[:n])
			f.pass(n)
		}
	}
	if errors.Is(err, io.EOF) && len(f.buf) == 0 || errors.Is(err, os.ErrDeadlineExceeded) && f.from.stopping() {
		return
	}
	f.add("failed")
	f.cfg.Log.Warn("a forward connection was ended; what had no ack is to be sent again", "input", f.cfg.Name, "from", f.RemoteAddr().String(), "error", err)
}

func (f *forwarded) add(name string) { f.from.answers.add(name) }

// message reads until a whole value stands at the head of the buffer, and returns its
// length.
func (f *forwarded) message() (int, error) {
	var s packScan
	for {
		if len(f.buf) > 0 {
			done, err := s.scan(f.buf, f.cfg.MaxBody)
			if err != nil {
				return 0, err
			}
			if done {
				return s.at, nil
			}
		}
		if err := f.more(max(s.at-len(f.buf), 1)); err != nil {
			return 0, err
		}
	}
}

// pass takes a message of n bytes off the buffer, and gives back what the message alone
// has needed: connections stay, and most of them say nothing most of the time.
func (f *forwarded) pass(n int) {
	f.cfg.Memory.give(f.used)
	f.used = 0
	rest := f.buf[n:]
	if len(rest) > readAtOnce || cap(f.buf) <= 2*readAtOnce {
		f.buf = f.buf[:copy(f.buf, rest)]
		return
	}
	f.buf = append(make([]byte, 0, readAtOnce), rest...)
	f.cfg.Memory.give(f.held - readAtOnce)
	f.held = readAtOnce
}

// readAtOnce is how much room there is at least for what comes next, in bytes.
const readAtOnce = 32 << 10

// more reads once, with room for about as much as is wanted.
func (f *forwarded) more(want int) error {
	if cap(f.buf)-len(f.buf) < min(want, readAtOnce) {
		grow := max(readAtOnce, min(want, max(len(f.buf), 256<<10))) // a length is soon said
		if err := f.reserve(grow, &f.held); err != nil {
			return err
		}
		f.buf = slices.Grow(f.buf, grow)
	}
	n, err := f.read(f.buf[len(f.buf):cap(f.buf)], len(f.buf) > 0)
	f.buf = f.buf[:len(f.buf)+n]
	if n > 0 {
		return nil
	}
	if err == io.EOF && len(f.buf) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// reserve takes memory, for which it waits a while, and adds it to what is held.
func (f *forwarded) reserve(n int, held *int) error {
	for tries := 0; !f.cfg.Memory.take(n); tries++ {
		if tries == 500 || !f.wait(10*time.Millisecond) {
			return errors.New("too much is being sent at once")
		}
	}
	*held += n
	return nil
}

// room reserves the memory for so many bytes of one thing that is being made.
func (f *forwarded) room(bytes int, have *int) error {
	for *have < bytes {
		if err := f.reserve(memoryStep, &f.used); err != nil {
			return err
		}
		*have += memoryStep
	}
	return nil
}

// greet is the handshake, where there is a shared key.
func (f *forwarded) greet() error {
	if f.cfg.SharedKey == "" {
		return nil
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	helo := packText8([]byte{0x92}, "HELO")
	helo = append(helo, 0x83)
	helo = packBytes(packText8(helo, "nonce"), nonce)
	helo = packBytes(packText8(helo, "auth"), nil)
	helo = packBoolean(packText8(helo, "keepalive"), true)
	f.SetDeadline(time.Now().Add(handshakeTime))
	defer f.SetDeadline(time.Time{})
	if _, err := f.Write(helo); err != nil {
		return err
	}
	n, err := f.firstMessage()
	if err != nil {
		return err
	}
	host, salt, err := checkPing(f.buf[:n], nonce, f.cfg.SharedKey)
	f.buf = f.buf[:copy(f.buf, f.buf[n:])]
	pong := packText8([]byte{0x95}, "PONG")
	pong = packBoolean(pong, err == nil)
	if err != nil {
		f.add("unauthorized")
		f.Write(packText8(packText8(packText8(pong, "shared_key mismatch"), ""), ""))
		return fmt.Errorf("handshake of %q: %w", host, err)
	}
	pong = packText8(packText8(pong, ""), f.cfg.Host)
	_, err = f.Write(packText8(pong, sharedDigest(salt, f.cfg.Host, nonce, f.cfg.SharedKey)))
	return err
}

// firstMessage is message within the time of the handshake, and without trust.
func (f *forwarded) firstMessage() (int, error) {
	var s packScan
	f.buf = slices.Grow(f.buf, 4096)
	for {
		n, err := f.Conn.Read(f.buf[len(f.buf):cap(f.buf)])
		if f.buf = f.buf[:len(f.buf)+n]; n == 0 && err != nil {
			return 0, err
		}
		done, err := s.scan(f.buf, 4096)
		if err != nil {
			return 0, err
		}
		if done {
			return s.at, nil
		}
		if len(f.buf) == cap(f.buf) {
			return 0, errPackLarge
		}
	}
}

// checkPing checks a PING: ["PING", host, salt, digest, user, password].
func checkPing(data, nonce []byte, key string) (host string, salt []byte, err error) {
	v, rest, err := nextPack(data)
	if err != nil || v.kind != packArray || v.n < 4 {
		return "", nil, errors.New("no PING came")
	}
	var parts [4][]byte
	for i := range parts {
		if v, rest, err = nextPack(rest); err != nil || v.kind != packText {
			return "", nil, errors.New("no PING came")
		}
		parts[i] = v.bytes
	}
	host, salt = string(parts[1]), bytes.Clone(parts[2])
	if string(parts[0]) != "PING" {
		return host, salt, errors.New("no PING came")
	}
	want := sharedDigest(salt, host, nonce, key)
	if subtle.ConstantTimeCompare(parts[3], []byte(want)) != 1 {
		return host, salt, errors.New("it has another shared_key")
	}
	return host, salt, nil
}

func sharedDigest(salt []byte, host string, nonce []byte, key string) string {
	h := sha512.New()
	h.Write(salt)
	io.WriteString(h, host)
	h.Write(nonce)
	io.WriteString(h, key)
	return hex.EncodeToString(h.Sum(nil))
}

// take spools one message and acknowledges it.
func (f *forwarded) take(data []byte) error {
	if data[0] == 0xc0 { // nil: a heartbeat
		return nil
	}
	m, err := parseForward(data)
	if err != nil {
		return err
	}
	if m.compressed != "" && m.compressed != "text" {
		if m.packed, err = f.decompress(m.compressed, m.packed); err != nil {
			return err
		}
	}
	// Senders draw chunk ids at random; the data are part of the key all the same, so that
	// two that happen to have one id are two.
	sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(data))
	for part := 0; part == 0 || len(m.packed) > 0; part++ {
		if err := f.takePart(&m, sum, part); err != nil {
			return err
		}
	}
	f.add("ok")
	if len(m.chunk) == 0 {
		return nil
	}
	ack := packText8([]byte{0x81}, "ack")
	f.SetWriteDeadline(time.Now().Add(messageTime))
	_, err = f.Write(packText8(ack, string(m.chunk)))
	return err
}

// partBytes is about the most of a message that becomes one frame of the spool, and an
// eighth of what all senders may hold where that is less: a tag in each record, and what
// JSON writes at greater length, make much of a small message.
const partBytes = 8 << 20

// takePart spools as many of the message's entries as are one frame. Each part has a key
// of its own, so that of a message that comes again only what is missing is taken.
func (f *forwarded) takePart(m *forwardMessage, sum string, part int) error {
	var key spool.Key
	if len(m.chunk) > 0 {
		if part > 0 {
			sum = fmt.Sprintf("%s/%d", sum, part)
		}
		key = keyOf("forward", sum, string(m.chunk))
	}
	frame := spool.Begin(buffer(), spool.Records, f.cfg.Project, key, time.Now().UnixMilli())
	defer func() { giveBuffer(frame.Buf) }()
	before := f.used
	defer func() { f.cfg.Memory.give(f.used - before); f.used = before }()
	lost, have, err := 0, 0, error(nil)
	upTo := int(min(partBytes, f.cfg.Memory.bytes/8))
	frame.Buf, lost, err = m.appendRecords(frame.Buf, f.cfg.MaxLine, upTo, func(n int) error { return f.room(n, &have) })
	if err != nil {
		return err
	}
	if lost > 0 {
		f.cfg.Drop("malformed", int64(lost))
		f.cfg.Log.Warn("records of a forward message are malformed and are left out", "input", f.cfg.Name, "from", f.RemoteAddr().String(), "records", lost)
	}
	if m.cut > 0 {
		f.cfg.Abandon("overlong", m.cut)
		m.cut = 0
	}
	if len(frame.Payload()) == 0 {
		return nil
	}
	err = f.append(frame, len(m.chunk) > 0)
	if err != nil && len(m.chunk) == 0 {
		f.lose(err, m.took)
	}
	return err
}

// decompress is bounded by MaxBody. What senders may come to use besides is an error, and not
// what is malformed: without an ack they keep it.
func (f *forwarded) decompress(encoding string, data []byte) ([]byte, error) {
	if encoding != "gzip" && encoding != "zstd" {
		return nil, fmt.Errorf("a chunk is compressed as %q; have the sender use gzip, zstd or none", encoding)
	}
	body, done, err := decompressed(encoding, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("a compressed chunk: %w", err)
	}
	defer done()
	var out []byte
	for have := 0; ; {
		if len(out) == cap(out) {
			grow := min(max(len(out), memoryStep), 2<<20)
			if err := f.room(len(out)+grow, &have); err != nil {
				return nil, err
			}
			out = slices.Grow(out, grow)
		}
		n, err := body.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > f.cfg.MaxBody:
			return nil, fmt.Errorf("a compressed chunk: %w", errPackLarge)
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("a compressed chunk: %w", err)
		}
	}
}
