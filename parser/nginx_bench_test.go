package parser

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// gatewayFormat is the log_format of a typical gateway: combined with the times and the
// request_id.
const gatewayFormat = nginxCombined + ` $request_time $upstream_response_time $request_id`

// gatewayLines returns lines of gatewayFormat of 279 bytes on average, a hundred to the
// second.
func gatewayLines(n int) [][]byte {
	agents := []string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
		"okhttp/4.12.0", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
	}
	lines := make([][]byte, n)
	for i := range lines {
		sec := i / 100
		lines[i] = fmt.Appendf(nil, `10.%d.%d.%d - - [23/Nov/2026:20:%02d:%02d +0000] "GET /api/v1/orders/%d/items?page=%d&size=50 HTTP/1.1" %d %d "https://shop.example.com/orders/%d" "%s" 0.%03d 0.%03d %032x`,
			i%250, i%7, i%199, sec/60%60, sec%60, i*31%99999, i%9, []int{200, 200, 200, 304, 404, 502}[i%6], 100+i*7919%90000, i%1000, agents[i%4], i%1000, i%997, i*2654435761)
	}
	return lines
}

func BenchmarkNginxAccess(b *testing.B) {
	lines := gatewayLines(2000)
	size := len(bytes.Join(lines, []byte("\n"))) + 1
	f, err := Compile(Config{Kind: "nginx", Nginx: gatewayFormat})
	if err != nil {
		b.Fatal(err)
	}
	o := record.NewOrigin(record.OriginFields{Machine: "k3v9x2ma", Generation: "8f3kq09zt5mw", Host: "gw-1", Input: "gateway", File: "/var/log/nginx/access.log", Project: "gateway"})
	report := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(lines)), "ns/line")
	}
	b.Run("parse", func(b *testing.B) {
		p, r := f.NewParser(), new(record.Record)
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			for _, line := range lines {
				r.Reset()
				p.Parse(line, r)
			}
		}
		if r.ParseError != "" {
			b.Fatal(r.ParseError)
		}
		report(b)
	})
	b.Run("document", func(b *testing.B) {
		p, r := f.NewParser(), new(record.Record)
		var buf []byte
		b.SetBytes(int64(size))
		b.ReportAllocs()
		for b.Loop() {
			buf = buf[:0]
			for _, line := range lines {
				r.Reset()
				p.Parse(line, r)
				buf, _ = o.AppendDoc(buf, r, r.Time, 1<<20)
			}
		}
		report(b)
	})
}

// BenchmarkDetect decides on the first 32 KiB of each sample.
func BenchmarkDetect(b *testing.B) {
	for _, path := range []string{"testdata/nginx/gateway.log", "testdata/access/unknown-tail.log", "testdata/cri/nginx.log", "testdata/json/logstash-after-banner.log", "testdata/plain/prose.log"} {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		f, err := Compile(Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Detect(data)
			}
		})
	}
}
