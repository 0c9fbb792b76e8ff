package listen

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// post sends a body; headers are pairs.
func post(t testing.TB, url string, body []byte, headers ...string) (status int, answer string, header http.Header) {
	t.Helper()
	r, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

func TestBodiesByContentType(t *testing.T) {
	for name, c := range map[string]struct {
		kind, body string
		want       []string
	}{
		"ndjson":                        {"application/x-ndjson", "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\"", []string{`shop: {"a":1}`, `shop: {"b":2}`, `shop: {"c"`}},
		"an object":                     {"application/json", "{\"a\":\n 1}", []string{`shop: {"a":1}`}},
		"an array":                      {"application/json; charset=utf-8", ` [ {"a":"],\"["} , {"b":[1,{"x":2}]},"text \u00e9", null ] `, []string{`shop: {"a":"],\"["}`, `shop: {"b":[1,{"x":2}]}`, "shop: text é", "shop: null"}},
		"an empty array":                {"application/json", "[]", nil},
		"nothing":                       {"application/json", " \n", nil},
		"lines under JSON's name":       {"application/json", "{\"a\":1}\n{\"b\":2}\n", []string{`shop: {"a":1}`, `shop: {"b":2}`}},
		"lines with a broken one":       {"application/json", "{\"a\":1}\n{\"b\"\n", []string{`shop: {"a":1}`, `shop: {"b"`}},
		"plain lines":                   {"text/plain", "one\ntwo", []string{"shop: one", "shop: two"}},
		"plain lines that look JSON":    {"text/plain", "{\"a\":1}\n[x", []string{`shop: {"a":1}`, "shop: [x"}},
		"sniffed array":                 {"", `[{"a":1},{"b":2}]`, []string{`shop: {"a":1}`, `shop: {"b":2}`}},
		"sniffed lines of JSON":         {"application/x-www-form-urlencoded", "{\"a\":1}\n{\"b\":2}", []string{`shop: {"a":1}`, `shop: {"b":2}`}},
		"sniffed text in brackets":      {"application/octet-stream", "[error] it broke\nmore", []string{"shop: [error] it broke", "shop: more"}},
		"sniffed text":                  {"", "hello", []string{"shop: hello"}},
		"a scalar":                      {"application/json", `"hello"`, []string{"shop: hello"}},
		"JSON behind a byte order mark": {"application/json", "\ufeff{\"a\":1}", []string{`shop: {"a":1}`}},
		"lines behind one":              {"application/x-ndjson", "\ufeff{\"a\":1}\n", []string{`shop: {"a":1}`}},
		"vendor JSON":                   {"application/vnd.x+json", `{"a":1}`, []string{`shop: {"a":1}`}},
		"a type that is not well made":  {"; ;", "hello", []string{"shop: hello"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
			status, answer, _ := post(t, "http://"+addr+"/v1/logs/shop", []byte(c.body), "Content-Type", c.kind)
			if want := fmt.Sprintf("{\"accepted\":%d,\"repeated\":false}\n", len(c.want)); status != 202 || answer != want {
				t.Errorf("%d %s, want 202 %s", status, answer, want)
			}
			b.wants(c.want...)
		})
	}
}

func TestWhatIsRefusedLeavesNothing(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Tokens = []string{"sesame", "open"}; c.MaxBody = 10_000 })
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	url := "http://" + addr + "/v1/logs/shop"
	bomb := func(write func(io.Writer)) []byte {
		var buf bytes.Buffer
		write(&buf)
		return buf.Bytes()
	}
	zeros := make([]byte, 4<<20)
	gz := bomb(func(w io.Writer) { z := gzip.NewWriter(w); z.Write(zeros); z.Close() })
	zl := bomb(func(w io.Writer) { z := zlib.NewWriter(w); z.Write(zeros); z.Close() })
	zs := bomb(func(w io.Writer) { z, _ := zstd.NewWriter(w); z.Write(zeros); z.Close() })
	good := []string{"Authorization", "Bearer sesame", "Content-Type", "application/json"}
	for name, c := range map[string]struct {
		body    []byte
		headers []string
		status  int
		says    string
	}{
		"no token":             {[]byte(`{}`), nil, 401, "no token"},
		"a wrong token":        {[]byte(`{}`), []string{"Authorization", "Bearer sesam"}, 401, "wrong"},
		"the token without it": {[]byte(`{}`), []string{"Authorization", "sesame"}, 401, "wrong"},
		"too large":            {make([]byte, 10_001), good, 413, "max_body"},
		"a gzip bomb":          {gz, append(good, "Content-Encoding", "gzip"), 413, "max_body"},
		"a deflate bomb":       {zl, append(good, "Content-Encoding", "deflate"), 413, "max_body"},
		"a zstd bomb":          {zs, append(good, "Content-Encoding", "zstd"), 413, "max_body"},
		"no gzip":              {[]byte(`{}`), append(good, "Content-Encoding", "gzip"), 400, "not gzip"},
		"gzip that ends early": {gz[:12], append(good, "Content-Encoding", "gzip"), 400, "unexpected EOF"},
		"an unknown encoding":  {[]byte(`{}`), append(good, "Content-Encoding", "br"), 415, "br"},
		"broken JSON":          {[]byte(`{"a":`), good, 400, "not JSON"},
		"a broken array":       {[]byte(`[{"a":1},{"b"]`), good, 400, "at byte 14"},
		"a long key":           {[]byte(`{}`), append(good, "Idempotency-Key", strings.Repeat("k", 300)), 400, "Idempotency-Key"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer, header := post(t, url, c.body, c.headers...)
			if status != c.status || !strings.Contains(answer, c.says) {
				t.Errorf("%d %q, want %d and %q", status, answer, c.status, c.says)
			}
			if status == 401 && header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without WWW-Authenticate")
			}
		})
	}
	for path, want := range map[string]int{"/v1/logs/": 404, "/": 404, "/v1/logs/a/b": 404, "/v1/logs/%00": 400, "/v1/logs/" + strings.Repeat("x", 300): 400} {
		if status, answer, _ := post(t, "http://"+addr+path, []byte("{}"), good...); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, answer, want)
		}
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("GET is answered with %d", resp.StatusCode)
	}
	b.wants()
	if status, _, _ := post(t, url, []byte(`{"ok":1}`), "Authorization", "Bearer open"); status != 202 {
		t.Errorf("the second token: %d", status)
	}
	if status, _, _ := post(t, url, []byte(`{"ok":1}`), "Authorization", "bearer  open"); status != 202 {
		t.Errorf("a token behind another spelling of Bearer: %d", status)
	}
	r, _ := http.NewRequest("POST", url, strings.NewReader(`{"ok":2}`))
	r.SetBasicAuth("anybody", "sesame")
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != 202 {
		t.Errorf("basic authentication: %v %v", resp, err)
	}
	b.wants(`shop: {"ok":1}`, `shop: {"ok":1}`, `shop: {"ok":2}`)
	if free := b.cfg.Memory.free.Load(); free != 64<<20 {
		t.Errorf("%d bytes of memory were not given back", 64<<20-free)
	}
}

func TestCompressedBodies(t *testing.T) {
	b := newBench(t)
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	for round := range 2 { // the second with readers that were used before
		for _, encoding := range []string{"gzip", "deflate", "zstd", "identity"} {
			var buf bytes.Buffer
			var w io.WriteCloser
			switch encoding {
			case "gzip":
				w = gzip.NewWriter(&buf)
			case "deflate":
				w = zlib.NewWriter(&buf)
			case "zstd":
				w, _ = zstd.NewWriter(&buf)
			}
			text := fmt.Sprintf(`{"e":"%s","n":%d}`, encoding, round)
			if w != nil {
				io.WriteString(w, text)
				w.Close()
			} else {
				buf.WriteString(text)
			}
			if status, answer, _ := post(t, "http://"+addr+"/v1/logs", buf.Bytes(), "Content-Encoding", encoding, "Content-Type", "application/x-ndjson"); status != 202 {
				t.Fatalf("%s: %d %s", encoding, status, answer)
			}
		}
	}
	if lines := b.lines(); len(lines) != 8 || lines[0] != `in: {"e":"gzip","n":0}` {
		t.Errorf("%q", lines)
	}
}

func TestRepeatedRequestIsNotDoubled(t *testing.T) {
	b := newBench(t)
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	send := func(project, key, body string) (int, string) {
		status, answer, _ := post(t, "http://"+addr+"/v1/logs/"+project, []byte(body), "Content-Type", "application/json", "Idempotency-Key", key)
		return status, answer
	}
	for i, want := range []string{"false", "true", "true"} {
		if status, answer := send("shop", "k1", `[{"a":1},{"a":2}]`); status != 202 || !strings.Contains(answer, `"repeated":`+want) {
			t.Errorf("time %d: %d %s", i, status, answer)
		}
	}
	if status, answer := send("shop", "k1", `{"other":1}`); status != 422 {
		t.Errorf("another body under the key: %d %s", status, answer)
	}
	send("pay", "k1", `{"b":1}`) // another project's
	send("shop", "k2", `{"c":1}`)
	// Many at once: the second waits for the first.
	done := make(chan int)
	for range 16 {
		go func() {
			status, _ := send("shop", "k3", `{"d":1}`)
			done <- status
		}()
	}
	for range 16 {
		if status := <-done; status != 202 {
			t.Errorf("at the same time: %d", status)
		}
	}
	b.wants(`shop: {"a":1}`, `shop: {"a":2}`, `pay: {"b":1}`, `shop: {"c":1}`, `shop: {"d":1}`)
}

func TestFullSpoolAnswers429(t *testing.T) {
	b := newBench(t)
	b.cfg.Spool.SetLimit(200_000)
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	line := append(bytes.Repeat([]byte("x"), 20_000), '\n')
	accepted := 0
	for range 20 {
		status, answer, header := post(t, "http://"+addr+"/v1/logs/shop", line, "Content-Type", "text/plain")
		if status == 202 {
			accepted++
			continue
		}
		if status != 429 || header.Get("Retry-After") == "" || !strings.Contains(answer, "full") {
			t.Fatalf("%d %s, Retry-After %q", status, answer, header.Get("Retry-After"))
		}
	}
	if n := len(b.lines()); n != accepted || n == 0 || n == 20 {
		t.Errorf("%d were accepted, %d are in the spool", accepted, n)
	}
	_, end := b.cfg.Spool.Bounds()
	if err := b.cfg.Spool.Trim(end); err != nil {
		t.Fatal(err)
	}
	if status, answer, _ := post(t, "http://"+addr+"/v1/logs/shop", line, "Content-Type", "text/plain"); status != 202 {
		t.Errorf("when there is room again: %d %s", status, answer)
	}
}

func TestMemoryThatIsUsedUpAnswers429(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Memory = NewMemory(300 << 10) })
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	status, _, header := post(t, "http://"+addr+"/v1/logs/shop", make([]byte, 900<<10), "Content-Type", "text/plain")
	if status != 429 || header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", status, header.Get("Retry-After"))
	}
	if status, answer, _ := post(t, "http://"+addr+"/v1/logs/shop", []byte("small"), "Content-Type", "text/plain"); status != 202 {
		t.Errorf("a small one: %d %s", status, answer)
	}
}

// TestSendersThatStopInTheMiddleLockNobodyOut: hundreds begin a large body and say no more.
func TestSendersThatStopInTheMiddleLockNobodyOut(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxConns = 1000 })
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	const stuck = 300
	for range stuck {
		c := dial(t, addr)
		fmt.Fprintf(c, "POST /v1/logs/shop HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\nhalf")
	}
	for deadline := time.Now().Add(10 * time.Second); b.cfg.Memory.free.Load() > 64<<20-stuck*firstStep; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bodies have begun", (64<<20-b.cfg.Memory.free.Load())/firstStep)
		}
	}
	if status, answer, _ := post(t, "http://"+addr+"/v1/logs/shop", make([]byte, 900<<10), "Content-Type", "text/plain"); status != 202 {
		t.Errorf("%d %s", status, answer)
	}
}

func TestClosingAnswersWhatIsUnderWay(t *testing.T) {
	b := newBench(t)
	s, err := HTTP(b.cfg, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Post("http://"+s.Addrs()[0].String()+"/v1/logs/shop", "text/plain", r)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	io.WriteString(w, "half of ")
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	io.WriteString(w, "it\n")
	w.Close()
	if status := <-answered; status != 202 && status != 0 {
		t.Errorf("answered with %d", status)
	} else if status == 202 {
		b.wants("shop: half of it")
	}
	<-closed
}

// FuzzArray: the elements of an array are those that encoding/json finds.
func FuzzArray(f *testing.F) {
	f.Add([]byte(`[1,{"a":"]"},[2,[3]],"x,\"y",null]`))
	f.Add([]byte(` [ ] `))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := trimSpace(data)
		if len(text) == 0 || text[0] != '[' || !json.Valid(text) {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil {
			return
		}
		var got [][]byte
		eachElement(text, func(e []byte) { got = append(got, e) })
		if len(got) != len(want) {
			t.Fatalf("%d elements of %q, want %d", len(got), text, len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], trimSpace(want[i])) {
				t.Fatalf("element %d of %q is %q, want %q", i, text, got[i], want[i])
			}
		}
	})
}

// BenchmarkHTTP takes NDJSON over a connection into the spool, synced.
func BenchmarkHTTP(b *testing.B) {
	bb := newBench(b, func(c *Config) { c.MaxBody = 4 << 20 })
	bb.cfg.Spool.SetLimit(1 << 40)
	addr := bb.serve(HTTP(bb.cfg, "127.0.0.1:0"))
	line := `{"time":"2026-11-25T10:00:00.000Z","level":"info","msg":"order 4711 was paid","request_id":"6f1c2b9a","user":"u-193","ms":12}` + "\n"
	body := bytes.Repeat([]byte(line), 1<<20/len(line))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if status, answer, _ := post(b, "http://"+addr+"/v1/logs/shop", body, "Content-Type", "application/x-ndjson"); status != 202 {
			b.Fatal(status, answer)
		}
		if bb.cfg.Spool.Size() > 256<<20 {
			_, end := bb.cfg.Spool.Bounds()
			bb.cfg.Spool.Trim(end)
		}
	}
}

// TestARefusalReachesASenderThatWritesAllFirst: most look for the answer only when the
// whole body is out, and say whether the connection is to go on. A connection that is
// closed over what nobody has read would be reset, and the answer with it.
func TestARefusalReachesASenderThatWritesAllFirst(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Tokens = []string{"sesame"}; c.MaxBody = 10_000 })
	web := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	otlp := b.serve(OTLP(b.cfg, "127.0.0.1:0"))
	body := strings.Repeat(`{"message":"x"}`+"\n", 1<<20) // more than the system holds for them
	for _, addr := range []string{web, otlp} {
		path := map[string]string{web: "/v1/logs/shop", otlp: "/v1/logs"}[addr]
		for _, connection := range []string{"close", "keep-alive"} {
			for token, want := range map[string]int{"sesame": 413, "wrong": 401} {
				c := dial(t, addr)
				head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
					path, connection, token, len(body))
				if _, err := io.WriteString(c, head+body); err != nil {
					t.Errorf("%s, %d: the body could not be written: %v", connection, want, err)
				}
				r := bufio.NewReader(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("%s, %d: no answer: %v", connection, want, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
					t.Errorf("%s: %d %v, want %d", connection, resp.StatusCode, err, want)
				}
				if connection == "close" {
					continue
				}
				// The connection is good for more.
				fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
				if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
					t.Errorf("the next request on it: %v, %v", resp, err)
				}
			}
		}
	}
	// One who asks first whether to send the body is told, and nobody waits for it.
	c := dial(t, web)
	fmt.Fprintf(c, "POST /v1/logs/shop HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nAuthorization: Bearer sesame\r\nContent-Length: 1000000\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 413 {
		t.Errorf("who asks first is answered with %v, %v", resp, err)
	}
}

// TestWhatUnfoldsToMuchIsRefused: lines of one byte each need many times that in the
// spool and in memory.
func TestWhatUnfoldsToMuchIsRefused(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxBody = 16 << 20 })
	b.cfg.Spool.SetLimit(1 << 30)
	addr := b.serve(HTTP(b.cfg, "127.0.0.1:0"))
	for kind, body := range map[string]string{
		"text/plain": strings.Repeat("a\n", 5<<20), "application/json": "[1" + strings.Repeat(",1", 5<<20) + "]",
	} {
		status, answer, _ := post(t, "http://"+addr+"/v1/logs/shop", []byte(body), "Content-Type", kind)
		if status != 413 || !strings.Contains(answer, "fewer lines") {
			t.Errorf("%s: %d %q", kind, status, answer)
		}
	}
	b.wants()
	if free := b.cfg.Memory.free.Load(); free != 64<<20 {
		t.Errorf("%d bytes of the senders' memory are not given back", 64<<20-free)
	}
}
