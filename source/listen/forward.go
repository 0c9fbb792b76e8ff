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

	"github.com/klauspost/compress/gzip"

	"github.com/tailwater/tailwater/record"
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
	held int // of Memory
	zip  *gzip.Reader
}

// run serves the connection to its end.
func (f *forwarded) run() {
	defer func() {
		f.cfg.Memory.give(f.held)
	}()
	err := f.greet()
	for err == nil {
		var n int
		if n, err = f.message(); err == nil {
			err = f.take(f.buf[:n])
			f.buf = f.buf[:copy(f.buf, f.buf[n:])]
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

// more reads once, with room for about as much as is wanted.
func (f *forwarded) more(want int) error {
	if cap(f.buf)-len(f.buf) < min(want, 32<<10) {
		grow := max(32<<10, min(want, max(len(f.buf), 256<<10))) // a length is soon said
		for tries := 0; !f.cfg.Memory.take(grow); tries++ {
			if tries == 50 || !f.wait(100*time.Millisecond) {
				return errors.New("too much is being sent at once")
			}
		}
		f.held += grow
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
	if m.compressed {
		if m.packed, err = f.decompress(m.packed); err != nil {
			return err
		}
	}
	var key spool.Key
	if len(m.chunk) > 0 {
		// Senders draw chunk ids at random; the data are part of the key all the same, so
		// that two that happen to have one id are two.
		sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(data))
		key = keyOf("forward", sum, string(m.chunk))
	}
	frame := spool.Begin(buffer(), spool.Records, f.cfg.Project, key, time.Now().UnixMilli())
	defer func() { giveBuffer(frame.Buf) }()
	var lost int
	if frame.Buf, lost = m.appendRecords(frame.Buf); lost > 0 {
		f.cfg.Drop("malformed", int64(lost))
		f.cfg.Log.Warn("records of a forward message are malformed and are left out", "input", f.cfg.Name, "from", f.RemoteAddr().String(), "records", lost)
	}
	if len(frame.Payload()) > 0 {
		if err := f.append(frame, len(m.chunk) > 0); err != nil {
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

// decompress is bounded by MaxBody.
func (f *forwarded) decompress(data []byte) ([]byte, error) {
	var err error
	if f.zip == nil {
		f.zip, err = gzip.NewReader(bytes.NewReader(data))
	} else {
		err = f.zip.Reset(bytes.NewReader(data))
	}
	if err != nil {
		return nil, fmt.Errorf("a compressed chunk: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(f.zip, int64(f.cfg.MaxBody)+1))
	if err == nil && len(out) > f.cfg.MaxBody {
		err = errPackLarge
	}
	if err != nil {
		return nil, fmt.Errorf("a compressed chunk: %w", err)
	}
	return out, nil
}

// forwardMessage is one of the protocol's four modes.
type forwardMessage struct {
	tag []byte
	// packed are entries, one after the other; of the modes Message and Forward, too.
	packed     []byte
	entries    int  // how many those are, -1 for a packed mode
	single     bool // packed is a time and a record, without the array around them
	compressed bool
	chunk      []byte
}

// parseForward reads a message: [tag, time, record, option], [tag, [entry..], option] or
// [tag, packed entries, option].
func parseForward(data []byte) (m forwardMessage, err error) {
	v, rest, err := nextPack(data)
	if err != nil {
		return m, err
	}
	if v.kind != packArray || v.n < 2 {
		return m, errPackType
	}
	left := v.n - 2
	if v, rest, err = nextPack(rest); err != nil || v.kind != packText {
		return m, cmpErr(err)
	}
	m.tag = v.bytes
	second, after, err := nextPack(rest)
	if err != nil {
		return m, err
	}
	switch second.kind {
	case packText:
		m.packed, m.entries, rest = second.bytes, -1, after
	case packArray:
		var s packScan
		if done, err := s.scan(rest, len(rest)); err != nil || !done {
			return m, cmpErr(err)
		}
		m.packed, m.entries, rest = rest[headOf(rest):s.at], second.n, rest[s.at:]
	default:
		if left < 1 {
			return m, errPackType
		}
		left--
		end := 0
		for range 2 {
			var s packScan
			if done, err := s.scan(rest[end:], len(rest)); err != nil || !done {
				return m, cmpErr(err)
			}
			end += s.at
		}
		m.packed, m.entries, m.single, rest = rest[:end], 1, true, rest[end:]
	}
	if left > 0 {
		err = m.options(rest)
	}
	return m, err
}

func cmpErr(err error) error {
	if err == nil {
		return errPackType
	}
	return err
}

// headOf is the length of a value's head.
func headOf(data []byte) int {
	head, _, _, _ := packSize(data)
	return head
}

// options reads chunk and compressed from the option map; nil is none.
func (m *forwardMessage) options(data []byte) error {
	v, rest, err := nextPack(data)
	if err != nil {
		return err
	}
	if v.kind != packMap {
		return nil
	}
	for range v.n {
		var key, val packValue
		if key, rest, err = nextPack(rest); err != nil {
			return err
		}
		var s packScan
		if done, err := s.scan(rest, len(rest)); err != nil || !done {
			return cmpErr(err)
		}
		if val, _, err = nextPack(rest); err != nil {
			return err
		}
		rest = rest[s.at:]
		if key.kind != packText || val.kind != packText {
			continue
		}
		switch string(key.bytes) {
		case "chunk":
			m.chunk = val.bytes
		case "compressed":
			m.compressed = string(val.bytes) == "gzip" && m.entries < 0
		}
	}
	return nil
}

// appendRecords appends the entries as records. What comes after a malformed entry of a
// packed message cannot be read; it counts as one.
func (m *forwardMessage) appendRecords(dst []byte) (out []byte, lost int) {
	fields := spool.AppendField(nil, "tag", m.tag, record.Text)
	var text []byte
	for data, n := m.packed, 0; len(data) > 0 && (m.entries < 0 || n < m.entries); n++ {
		var r spool.Record
		var err error
		var rest []byte
		if r, text, rest, err = m.entry(data, text[:0]); err != nil {
			if m.entries > 0 {
				return dst, lost + m.entries - n
			}
			return dst, lost + 1
		}
		data = rest
		if len(r.Text) == 0 {
			continue
		}
		r.Fields = fields
		dst = spool.AppendRecord(dst, &r)
	}
	return dst, lost
}

// entry reads one: [time, record], or both without the array. The time may be a pair of
// itself and metadata, as Fluent Bit writes it.
func (m *forwardMessage) entry(data, text []byte) (r spool.Record, memory, rest []byte, err error) {
	more := 0
	if !m.single {
		var v packValue
		if v, data, err = nextPack(data); err != nil || v.kind != packArray || v.n < 2 {
			return r, text, nil, cmpErr(err)
		}
		more = v.n - 2
	}
	at, data, err := nextPack(data)
	if err == nil && at.kind == packArray && at.n > 0 {
		others := at.n - 1
		if at, data, err = nextPack(data); err == nil {
			data, err = skipPack(data, others)
		}
	}
	if err != nil {
		return r, text, nil, err
	}
	r.Flags = spool.IsJSON | spool.TimeIsFallback
	r.Time, _ = at.time()
	v, _, err := nextPack(data)
	if err != nil {
		return r, text, nil, err
	}
	if text, rest, err = appendPackJSON(text, data, 0); err != nil {
		return r, text, nil, err
	}
	r.Text = text
	if v.kind == packText { // not as the protocol says, but what it says is clear
		r.Flags &^= spool.IsJSON
		r.Text = v.bytes
	} else if v.kind != packMap {
		r.Flags &^= spool.IsJSON
	}
	rest, err = skipPack(rest, more)
	return r, text, rest, err
}

// skipPack passes over n values.
func skipPack(data []byte, n int) ([]byte, error) {
	for range n {
		var s packScan
		if done, err := s.scan(data, len(data)); err != nil || !done {
			return nil, cmpErr(err)
		}
		data = data[s.at:]
	}
	return data, nil
}
