package listen

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Encoding MessagePack for the tests, in the forms that senders use.

func pack(v any) []byte {
	switch x := v.(type) {
	case nil:
		return []byte{0xc0}
	case bool:
		return packBoolean(nil, x)
	case int:
		b := []byte{0xd3}
		return binary.BigEndian.AppendUint64(b, uint64(int64(x)))
	case uint64:
		return binary.BigEndian.AppendUint64([]byte{0xcf}, x)
	case float64:
		return binary.BigEndian.AppendUint64([]byte{0xcb}, math.Float64bits(x))
	case string:
		return packText8(nil, x)
	case []byte:
		b := binary.BigEndian.AppendUint32([]byte{0xc6}, uint32(len(x)))
		return append(b, x...)
	case time.Time: // EventTime
		b := binary.BigEndian.AppendUint32([]byte{0xd7, 0x00}, uint32(x.Unix()))
		return binary.BigEndian.AppendUint32(b, uint32(x.Nanosecond()))
	case raw:
		return x
	case list:
		b := binary.BigEndian.AppendUint16([]byte{0xdc}, uint16(len(x)))
		for _, e := range x {
			b = append(b, pack(e)...)
		}
		return b
	case pairs:
		b := []byte{0x80 | byte(len(x)/2)}
		for _, e := range x {
			b = append(b, pack(e)...)
		}
		return b
	}
	panic(fmt.Sprintf("%T", v))
}

type (
	list  []any
	pairs []any
	raw   []byte
)

// acked reads one ack.
func acked(t testing.TB, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("no ack: %v", err)
	}
	v, rest, err := nextPack(buf[:n])
	if err != nil || v.kind != packMap || v.n != 1 {
		t.Fatalf("the ack is %q", buf[:n])
	}
	key, rest, _ := nextPack(rest)
	val, rest, err := nextPack(rest)
	if string(key.bytes) != "ack" || err != nil || len(rest) > 0 {
		t.Fatalf("the ack is %q", buf[:n])
	}
	return string(val.bytes)
}

var someTime = time.Date(2026, 11, 25, 10, 0, 0, 123_000_000, time.UTC)

func TestForwardModes(t *testing.T) {
	entry := func(n int) list { return list{someTime, pairs{"message", fmt.Sprint("m", n), "n", n}} }
	packed := append(pack(entry(5)), pack(entry(6))...)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(pack(entry(7)))
	z.Close()
	z = gzip.NewWriter(&zipped) // Fluentd puts several streams behind each other
	z.Write(pack(entry(8)))
	z.Close()
	var zstds bytes.Buffer
	for n := range 2 { // so it does with zstd
		z, _ := zstd.NewWriter(&zstds)
		z.Write(pack(entry(9 + n)))
		z.Close()
	}
	b := newBench(t)
	c := dial(t, b.serve(Forward(b.cfg, "127.0.0.1:0")))
	var all []byte
	for _, m := range []any{
		list{"app.message", int(someTime.Unix()), pairs{"message", "m0", "n", 0}},
		list{"app.message", someTime, pairs{"message", "m1", "n", 1}, pairs{"chunk", "c1"}},
		nil,
		list{"app.forward", list{entry(2), entry(3)}, pairs{"size", 2, "chunk", "c2"}},
		list{"app.fluentbit", list{list{list{someTime, pairs{"meta", 1}}, pairs{"message", "m4", "n", 4}}}},
		list{"app.packed", packed, pairs{"chunk", "c3", "size", 2}},
		list{"app.text", string(packed[:len(packed)/2])},
		list{"app.zip", zipped.Bytes(), pairs{"compressed", "gzip", "chunk", "c4"}},
		list{"app.zstd", zstds.Bytes(), pairs{"chunk", "c5", "compressed", "zstd"}},
	} {
		all = append(all, pack(m)...)
	}
	for chunk := range slices.Chunk(all, 7) { // in pieces of any length
		c.Write(chunk)
	}
	for _, want := range []string{"c1", "c2", "c3", "c4", "c5"} {
		var got string
		// Acks may come together.
		buf := make([]byte, 1+1+3+1+2)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		if got = string(buf[len(buf)-2:]); got != want {
			t.Fatalf("the ack is %q, want %q", buf, want)
		}
	}
	at := " 2026-11-25T10:00:00.123Z "
	b.wants(
		`in: 2026-11-25T10:00:00.000Z {"message":"m0","n":0} tag=app.message`,
		`in:`+at+`{"message":"m1","n":1} tag=app.message`,
		`in:`+at+`{"message":"m2","n":2} tag=app.forward`,
		`in:`+at+`{"message":"m3","n":3} tag=app.forward`,
		`in:`+at+`{"message":"m4","n":4} tag=app.fluentbit`,
		`in:`+at+`{"message":"m5","n":5} tag=app.packed`,
		`in:`+at+`{"message":"m6","n":6} tag=app.packed`,
		`in:`+at+`{"message":"m5","n":5} tag=app.text`,
		`in:`+at+`{"message":"m7","n":7} tag=app.zip`,
		`in:`+at+`{"message":"m8","n":8} tag=app.zip`,
		`in:`+at+`{"message":"m9","n":9} tag=app.zstd`,
		`in:`+at+`{"message":"m10","n":10} tag=app.zstd`,
	)
}

func TestForwardChunkIsNotDoubledAfterALostAck(t *testing.T) {
	b := newBench(t)
	addr := b.serve(Forward(b.cfg, "127.0.0.1:0"))
	m := pack(list{"t", list{list{someTime, pairs{"n", 1}}}, pairs{"chunk", "YWJj"}})
	for range 3 {
		c := dial(t, addr)
		c.Write(m)
		if got := acked(t, c); got != "YWJj" {
			t.Errorf("the ack is %q", got)
		}
		c.Close()
	}
	other := pack(list{"t", list{list{someTime, pairs{"n", 2}}}, pairs{"chunk", "YWJj"}})
	c := dial(t, addr)
	c.Write(other) // another chunk under the same id is another
	acked(t, c)
	b.wants(`in: 2026-11-25T10:00:00.123Z {"n":1} tag=t`, `in: 2026-11-25T10:00:00.123Z {"n":2} tag=t`)
}

func TestForwardHandshake(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SharedKey = "sesame" })
	addr := b.serve(Forward(b.cfg, "127.0.0.1:0"))
	greet := func(key string) (c net.Conn, ok bool) {
		c = dial(t, addr)
		buf := make([]byte, 1024)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		helo := buf[:n]
		i := bytes.Index(helo, []byte("nonce")) + len("nonce")
		nonce, _, err := nextPack(bytes.Clone(helo[i:]))
		if err != nil || len(nonce.bytes) != 16 || !bytes.Contains(helo, []byte("HELO")) {
			t.Fatalf("HELO is %q", helo)
		}
		salt := []byte("0123456789abcdef")
		c.Write(pack(list{"PING", "web-1", salt, sharedDigest(salt, "web-1", nonce.bytes, key), "", ""}))
		n, err = c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		pong, _, _ := appendPackJSON(nil, buf[:n], packLimits{most: 1 << 20})
		var said []any
		if err := json.Unmarshal(pong, &said); err != nil || len(said) != 5 || said[0] != "PONG" {
			t.Fatalf("PONG is %s", pong)
		}
		if said[1] == true && said[4] != sharedDigest(salt, "here", nonce.bytes, key) {
			t.Errorf("the server does not prove that it has the key: %s", pong)
		}
		return c, said[1] == true
	}
	if c, ok := greet("wrong"); ok {
		t.Error("a wrong key is let in")
	} else if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
	c, ok := greet("sesame")
	if !ok {
		t.Fatal("the right key is refused")
	}
	c.Write(pack(list{"t", someTime, pairs{"n", 1}, pairs{"chunk", "x"}}))
	acked(t, c)
	// Without a PING nothing is taken.
	rude := dial(t, addr)
	rude.Read(make([]byte, 1024))
	rude.Write(pack(list{"t", someTime, pairs{"n", 2}, pairs{"chunk", "y"}}))
	if data, err := io.ReadAll(rude); err == nil && bytes.Contains(data, []byte("ack")) {
		t.Errorf("a sender without the key has an ack: %q", data)
	}
	b.wants(`in: 2026-11-25T10:00:00.123Z {"n":1} tag=t`)
}

func TestForwardHeartbeats(t *testing.T) {
	b := newBench(t)
	s, err := Forward(b.cfg, "127.0.0.1:0")
	addr := b.serve(s, err)
	dial(t, addr).Close() // over TCP: a connection and nothing else
	u, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(10 * time.Second))
	u.Write([]byte{0})
	if n, err := u.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("the heartbeat's answer has %d bytes: %v", n, err)
	}
	c := dial(t, addr)
	c.Write(pack(list{"t", someTime, pairs{"n", 1}, pairs{"chunk", "x"}}))
	acked(t, c)
	if s.Stats().Answers["failed"] != 0 {
		t.Errorf("%v", s.Stats().Answers)
	}
}

func TestForwardHostileMessagesEndTheirConnectionAlone(t *testing.T) {
	b := newBench(t)
	addr := b.serve(Forward(b.cfg, "127.0.0.1:0"))
	deep := bytes.Repeat([]byte{0x91}, 500)
	for name, m := range map[string][]byte{
		"no array":              pack("GET / HTTP/1.1\r\n"),
		"HTTP":                  []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a byte that is none":   {0xc1},
		"a text of 4 GiB":       {0x92, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"an array of 4 G":       {0xdd, 0xff, 0xff, 0xff, 0xff, 1, 1, 1},
		"a map of 4 G":          {0xdf, 0xff, 0xff, 0xff, 0xff, 1, 1, 1},
		"no tag":                pack(list{1, someTime, pairs{}}),
		"a short array":         pack(list{"t"}),
		"no record":             pack(list{"t", someTime}),
		"no gzip":               pack(list{"t", []byte("abc"), pairs{"compressed", "gzip"}}),
		"no zstd":               pack(list{"t", []byte("abc"), pairs{"compressed", "zstd"}}),
		"half of a zstd frame":  pack(list{"t", []byte("\x28\xb5\x2f\xfd"), pairs{"compressed", "zstd", "chunk", "y"}}),
		"compressed anyhow":     pack(list{"t", pack(list{someTime, pairs{"n", 0}}), pairs{"compressed", "br", "chunk", "x"}}),
		"more than max_body":    pack(list{"t", make([]byte, 2<<20)}),
		"a bomb":                pack(list{"t", zip(make([]byte, 8<<20)), pairs{"compressed", "gzip"}}),
		"an option that is bad": append([]byte{0x93, 0xa1, 't'}, append(pack(list{}), 0x81, 0xa5)...),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.Write(m)
			c.(*net.TCPConn).CloseWrite()
			if data, err := io.ReadAll(c); len(data) > 0 {
				t.Errorf("it is answered with %q, %v", data, err)
			}
		})
	}
	// Records that cannot be read are counted, those beside them are taken.
	c := dial(t, addr)
	hostile := list{
		list{someTime, pairs{"n", 1}}, list{someTime, pairs{"deep", raw(append(deep, 1))}}, list{someTime}, "text",
		list{someTime, pairs{"n", 3}}, 7, list{},
	}
	c.Write(pack(list{"t", hostile, pairs{"chunk", "z"}}))
	acked(t, c)
	want := []string{`in: 2026-11-25T10:00:00.123Z {"n":1} tag=t`, `in: 2026-11-25T10:00:00.123Z {"n":3} tag=t`}
	b.wants(want...)
	if n := b.lost("malformed"); n != 5 {
		t.Errorf("%d records are counted as malformed", n)
	}
}

func zip(data []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Write(data)
	z.Close()
	return buf.Bytes()
}

func TestForwardWaitsWhileTheSpoolIsFull(t *testing.T) {
	b := newBench(t)
	b.cfg.Spool.SetLimit(300_000)
	s, err := Forward(b.cfg, "127.0.0.1:0")
	c := dial(t, b.serve(s, err))
	const chunks = 30
	go func() {
		for i := range chunks {
			c.Write(pack(list{"t", someTime, pairs{"n", i, "pad", strings.Repeat("x", 20_000)}, pairs{"chunk", fmt.Sprintf("chunk%02d", i)}}))
		}
	}()
	acks := make(chan string, chunks)
	go func() {
		defer close(acks)
		buf := make([]byte, len("\x81\xa3ack\xa7chunk00"))
		for range chunks {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			acks <- string(buf[6:])
		}
	}()
	deadline := time.Now().Add(15 * time.Second)
	for s.Stats().Answers["full"] == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the spool is never full")
		}
		time.Sleep(time.Millisecond)
	}
	if n := len(acks); n == 0 || n > 15 {
		t.Errorf("%d chunks have an ack when the spool is full", n)
	}
	seen := make(map[string]bool)
	for len(seen) < chunks && time.Now().Before(deadline) {
		select {
		case ack := <-acks:
			seen[ack] = true
		case <-time.After(time.Millisecond):
			_, end := b.cfg.Spool.Bounds()
			b.cfg.Spool.Trim(end)
		}
	}
	if len(seen) != chunks {
		t.Errorf("%d of %d chunks have an ack", len(seen), chunks)
	}
}

// TestASmallForwardMessageThatUnfoldsToMuch: a long tag in each of very many records, and
// bytes that JSON writes at six times their length. What was acknowledged can be read
// again, all of it and once.
func TestASmallForwardMessageThatUnfoldsToMuch(t *testing.T) {
	const entries = 200_000
	b := newBench(t, func(c *Config) { c.MaxLine = 1000 })
	b.cfg.Spool.SetLimit(1 << 30)
	addr := b.serve(Forward(b.cfg, "127.0.0.1:0"))
	empty := bytes.Repeat([]byte{0x92, 0x05, 0x80}, entries)
	message := pack(list{strings.Repeat("t", 5000), empty, pairs{"chunk", "many"}})
	long := pack(list{"long", list{list{5, pairs{"message", make([]byte, 1_000_000)}}, list{5, pairs{"message", "short"}}}, pairs{"chunk", "long"}})
	for range 2 { // the first ack is lost
		c := dial(t, addr)
		c.Write(message)
		if got := acked(t, c); got != "many" {
			t.Fatalf("the ack is of %q", got)
		}
		c.Write(long)
		if got := acked(t, c); got != "long" {
			t.Fatalf("the ack is of %q", got)
		}
	}
	all := b.lines()
	if len(all) != entries+2 {
		t.Fatalf("%d records, want %d", len(all), entries+2)
	}
	if want := "in: 1970-01-01T00:00:05.000Z {} tag=" + strings.Repeat("t", maxTag); all[0] != want || all[entries-1] != want {
		t.Errorf("the records are %q", all[0])
	}
	if cut, next := all[entries], all[entries+1]; !strings.Contains(cut, " truncated ") || len(cut) > 1200 || !strings.Contains(next, `{"message":"short"}`) {
		t.Errorf("behind each other are %q and %q", cut, next)
	}
	if n := b.lost("overlong"); n < 1_000_000-1000 {
		t.Errorf("%d bytes are counted as cut off", n)
	}
}

// TestConnectionsThatStayGiveTheirMemoryBack: each of many senders hands over a large chunk
// and keeps its connection. What they have needed is there for the others.
func TestConnectionsThatStayGiveTheirMemoryBack(t *testing.T) {
	const memory = 4 << 20
	b := newBench(t, func(c *Config) { c.Memory = NewMemory(memory) })
	addr := b.serve(Forward(b.cfg, "127.0.0.1:0"))
	entries := bytes.Repeat(pack(list{5, pairs{"message", strings.Repeat("m", 500)}}), 1000)
	const senders = 20
	for i := range senders {
		c := dial(t, addr)
		packed, option := entries, pairs{"chunk", fmt.Sprint("c", i)}
		if i%2 == 1 {
			packed, option = zip(entries), append(option, "compressed", "gzip")
		}
		c.Write(pack(list{"t", packed, option}))
		if got, want := acked(t, c), fmt.Sprint("c", i); got != want {
			t.Fatalf("the ack is of %q, want %q", got, want)
		}
	}
	if n := len(b.lines()); n != senders*1000 {
		t.Errorf("%d records, want %d", n, senders*1000)
	}
	for deadline := time.Now().Add(10 * time.Second); b.cfg.Memory.free.Load() < memory-senders*2*readAtOnce; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections that say nothing hold %d bytes", senders, memory-b.cfg.Memory.free.Load())
		}
	}
}

// TestAChunkInOtherPartsIsNotLost: its ack was lost, and when it comes again lines are cut
// elsewhere. It is taken again rather than waited for without end.
func TestAChunkInOtherPartsIsNotLost(t *testing.T) {
	b := newBench(t)
	message := pack(list{"t", list{list{5, pairs{"message", strings.Repeat("m", 200)}}}, pairs{"chunk", "c"}})
	for _, maxLine := range []int{1000, 100} {
		cfg := b.cfg
		cfg.MaxLine = maxLine
		c := dial(t, b.serve(Forward(cfg, "127.0.0.1:0")))
		c.Write(message)
		if got := acked(t, c); got != "c" {
			t.Fatalf("the ack is of %q", got)
		}
	}
	if all := b.lines(); len(all) != 2 || !strings.Contains(all[1], " truncated ") {
		t.Errorf("%q", all)
	}
}

func TestPackValues(t *testing.T) {
	for _, c := range []struct {
		hex  string
		want string
	}{
		{"05", "5"}, {"ff", "-1"}, {"e0", "-32"}, {"cc80", "128"}, {"cd0100", "256"}, {"ce00010000", "65536"}, {"cfffffffffffffffff", "18446744073709551615"},
		{"d080", "-128"}, {"d17fff", "32767"}, {"d2ffffffff", "-1"}, {"d38000000000000000", "-9223372036854775808"},
		{"ca3fc00000", "1.5"}, {"cb7ff8000000000000", `"NaN"`}, {"cb4341c37937e08000", "10000000000000000"}, {"cb7e37e43c8800759c", "1e+300"},
		{"c0", "null"}, {"c2", "false"}, {"c3", "true"}, {"a161", `"a"`}, {"d90161", `"a"`}, {"c40161", `"a"`}, {"a2c328", "\"\ufffd(\""},
		{"920102", "[1,2]"}, {"dc000101", "[1]"}, {"8201a161c402", `{"1":"a`}, {"81a16b80", `{"k":{}}`}, {"81d7005f5e10000000000001", `{"2020-09-13`},
		{"d70065a0bc0007270e00", `"2024-01-12T`}, {"c7020501ff", `"01ff"`}, {"d4ff05", `"05"`},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := appendPackJSON(nil, data, packLimits{most: 1 << 20})
		if !strings.HasPrefix(string(got), c.want) || err == nil && len(rest) > 0 {
			t.Errorf("%s is %s, want %s (%v)", c.hex, got, c.want, err)
		}
	}
	for _, v := range []any{1.5, int(1767225600), uint64(1767225600000)} {
		p, _, _ := nextPack(pack(v))
		if ms, ok := p.time(); !ok || ms <= 0 {
			t.Errorf("%v as a time: %d, %v", v, ms, ok)
		}
	}
}

// FuzzPack: what is scanned in pieces ends where it ends as a whole; what becomes JSON
// is JSON; and nothing takes more than its bytes.
func FuzzPack(f *testing.F) {
	f.Add(pack(list{"t", list{list{someTime, pairs{"n", 1}}}, pairs{"chunk", "c"}}), uint8(3))
	f.Add(pack(list{"t", someTime, pairs{"a", list{1.5, nil, true, "x"}}}), uint8(1))
	f.Add(pack(list{"t", pack(list{someTime, pairs{"b", []byte("x")}}), pairs{"compressed", "gzip"}}), uint8(5))
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var whole, pieces packScan
		done, err := whole.scan(data, 1<<20)
		var inPieces bool
		var errPieces error
		for n := 0; n <= len(data) && !inPieces && errPieces == nil; n += int(step%16) + 1 {
			inPieces, errPieces = pieces.scan(data[:n], 1<<20)
		}
		if !inPieces && errPieces == nil {
			inPieces, errPieces = pieces.scan(data, 1<<20)
		}
		if done != inPieces || (err == nil) != (errPieces == nil) || done && whole.at != pieces.at {
			t.Fatalf("whole: %v %v at %d; in pieces: %v %v at %d", done, err, whole.at, inPieces, errPieces, pieces.at)
		}
		if text, rest, err := appendPackJSON(nil, data, packLimits{most: 1 << 30}); err == nil {
			if !json.Valid(text) {
				t.Fatalf("%q is no JSON", text)
			}
			if !done || len(data)-len(rest) != whole.at {
				t.Fatalf("read to %d, scanned to %d", len(data)-len(rest), whole.at)
			}
		}
		if !done {
			return
		}
		m, err := parseForward(data[:whole.at])
		if err != nil {
			return
		}
		for before := len(m.packed); before > 0; before = len(m.packed) {
			records, lost, _ := m.appendRecords(nil, 100, 1000, func(int) error { return nil })
			if lost < 0 || len(records) > 1000+100+2*maxTag || len(m.packed) >= before {
				t.Fatalf("%d bytes became %d, %d lost; %d of %d entries are left", len(data), len(records), lost, len(m.packed), before)
			}
		}
	})
}
