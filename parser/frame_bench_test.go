package parser

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// frameThrough frames all of look from its beginning and returns the number of
// events.
func frameThrough(f *framer, look *Look) (n int) {
	f.Reset(record.Pos{Off: look.Base}, nil)
	for {
		if _, ok := f.Next(look); !ok {
			return n
		}
		n++
	}
}

// framerLoads are the inputs of benchmarks and of the allocation test, about 256 KiB
// each: what one read gives.
func framerLoads() map[string]struct {
	opt  framerOptions
	data []byte
} {
	type load = struct {
		opt  framerOptions
		data []byte
	}
	fill := func(lines ...string) []byte {
		var b bytes.Buffer
		for i := 0; b.Len() < 256<<10; i++ {
			b.WriteString(lines[i%len(lines)])
			b.WriteByte('\n')
		}
		return b.Bytes()
	}
	app := func(level, word string) string {
		return "2026-11-23 20:00:00,123 [http-nio-8080-exec-7] " + level + " c.example.shop.cart.CartService - [req-4f7a9d2c1b] " +
			word + strings.Repeat(" and more of it", 5)
	}
	levelFirst := "INFO  2026-11-23 20:00:00.123 [worker-3] com.example.shop.CartService: order 12345 of customer 67890 was paid in 123 ms, request_id=4f7a9d2c1b"
	access := `203.0.113.9 - - [23/Nov/2026:20:00:00 +0000] "GET /api/v1/orders/12345?expand=items HTTP/1.1" 200 5120 "https://shop.example.com/cart" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36" 0.123 0.120 4f7a9d2c1b8e6f3a`
	trace := []string{app("ERROR", "it broke"), "java.lang.IllegalStateException: closed"}
	for i := range 30 {
		trace = append(trace, fmt.Sprintf("\tat com.example.shop.cart.CartService.method%d(CartService.java:%d)", i, i))
	}
	var cri, docker []string
	for i := range 20 {
		stream := []string{"stdout", "stdout", "stdout", "stderr"}[i%4]
		cri = append(cri, "2026-11-23T20:00:00.123456789Z "+stream+" F "+app("INFO", "paid"))
		docker = append(docker, `{"log":"`+app("INFO", "paid")+`\n","stream":"`+stream+`","time":"2026-11-23T20:00:00.123456789Z"}`)
	}
	return map[string]load{
		"plain":      {framerOptions{}, fill(access)},
		"auto":       {framerOptions{Multiline: joinAuto}, fill(app("INFO", "paid"), app("WARN", "slow"))},
		"auto-level": {framerOptions{Multiline: joinAuto}, fill(levelFirst)},
		"auto-trace": {framerOptions{Multiline: joinAuto}, fill(trace...)},
		"json":       {framerOptions{Multiline: joinOthers, Whole: wholeObject}, fill(`{"time":"2026-11-23T20:00:00.123Z","level":"INFO","msg":"` + app("INFO", "paid") + `"}`)},
		"cri":        {framerOptions{Wrapper: wrapCRI}, fill(cri...)},
		"cri-auto":   {framerOptions{Multiline: joinAuto, Wrapper: wrapCRI}, fill(cri...)},
		"docker":     {framerOptions{Multiline: joinAuto, Wrapper: wrapDocker}, fill(docker...)},
		"gbk":        {framerOptions{Multiline: joinAuto, Encoding: "gbk"}, fill(app("INFO", "\xc4\xe3\xba\xc3"))},
		"utf-16":     {framerOptions{Encoding: "utf-16"}, wide(fill(access)[:256<<9])},
	}
}

// wide returns ASCII as UTF-16LE.
func wide(text []byte) []byte {
	out := make([]byte, 0, 2*len(text))
	for _, c := range text {
		out = append(out, c, 0)
	}
	return out
}

func BenchmarkFramer(b *testing.B) {
	for name, load := range framerLoads() {
		b.Run(name, func(b *testing.B) {
			f := mustFramer(b, load.opt)
			look := Look{Data: load.data, Base: 1 << 20, Now: noon}
			b.SetBytes(int64(len(load.data)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = frameThrough(f, &look)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
		})
	}
}

func TestFramerDoesNotAllocate(t *testing.T) {
	for name, load := range framerLoads() {
		f := mustFramer(t, load.opt)
		look := Look{Data: load.data, Base: 1 << 20, Now: noon}
		run := func() {
			if n := frameThrough(f, &look); n < 100 && name != "auto-trace" {
				t.Fatalf("%s: %d events", name, n)
			}
		}
		run()
		if a := testing.AllocsPerRun(5, run); a != 0 {
			t.Errorf("%s: %v allocations per run", name, a)
		}
	}
}
