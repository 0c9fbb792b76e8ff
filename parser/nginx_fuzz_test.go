package parser

import (
	"os"
	"testing"

	"github.com/tailwater/tailwater/record"
)

var hostileLines = []string{
	`1.2.3.4 - - [23/Nov/2026:20:00:00 +0000] "GET /a?b HTTP/1.1" 200 1 "-" "a" 0.1 0.1, 0.2 : - abc`,
	`"\x16\x03" \xFF\`, `-`, ``, ` `, `, : , : `, `0.1, `, ` : `, `::::`, "\xff\xfe\x00", `"\"\\"`, `99999999999999999999`, `.`, `0.`, `.5`, `-1`, `1e5`, `00`,
	`23/Nov/2026:20:00:60 +0000`, `0000-00-00T00:00:00+00:00`, `http://`, `GET  HTTP/1.1`, ` HTTP/1.1`, `GET  `, `{"a":"b\u12`,
}

func FuzzNginxCompile(f *testing.F) {
	for _, format := range []string{"combined", "main", "upstreaminfo", gatewayFormat, "$", "${", "${a}", "$a$b$c", "$id $orig_id $path $request",
		"$scheme$host$uri$is_args$args$pipe", "$msec$time_local$time_iso8601$status", "x$", "é$é", "$upstream_addr, $upstream_status : $upstream_response_time", `{"a":$b,"c":"$d"}`} {
		for _, escape := range []string{"", "json", "none"} {
			f.Add(format, escape)
		}
	}
	f.Fuzz(func(t *testing.T, format, escape string) {
		compiled, err := Compile(Config{Kind: "nginx", Nginx: format, Escape: escape})
		if err != nil {
			return
		}
		p, r := compiled.NewParser(), new(record.Record)
		for _, line := range append(hostileLines, format) {
			r.Reset()
			p.Parse([]byte(line), r)
			checkRecord(t, r)
		}
	})
}

func FuzzNginxLine(f *testing.F) {
	for _, format := range []string{"combined", "upstreaminfo", gatewayFormat, "$http_a$request_time $upstream_addr$host$request_uri $status", "$upstream_response_time:$upstream_status,$http_x_forwarded_for $request $msec"} {
		for _, line := range hostileLines {
			f.Add(format, line, byte(len(line)))
		}
	}
	f.Fuzz(func(t *testing.T, format, line string, escape byte) {
		compiled, err := Compile(Config{Kind: "nginx", Nginx: format, Escape: []string{"default", "json", "none"}[escape%3]})
		if err != nil {
			return
		}
		p, r := compiled.NewParser(), new(record.Record)
		text := []byte(line)
		text = text[:len(text):len(text)] // to append to it, or to read on, is to leave it
		for range 2 {                     // the second time with a warm clock
			r.Reset()
			p.Parse(text, r)
			checkRecord(t, r)
			if string(text) != line {
				t.Fatal("the line was written to")
			}
		}
	})
}

func FuzzDetect(f *testing.F) {
	for _, path := range []string{"testdata/cri/nginx.log", "testdata/docker/spring.log", "testdata/json/logstash-after-banner.log", "testdata/logfmt/containerd.log", "testdata/access/common.log", "testdata/app/python-after-json.log"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 2000)], byte(0))
	}
	for i, line := range hostileLines {
		f.Add([]byte(line+"\n"+line+"\n{\"log\":\""+line), byte(i))
	}
	confs := []Config{{}, {Kind: "nginx"}, {Kind: "cri"}, {Kind: "docker"}, {Encoding: "utf-16le"}, {Multiline: "starts_with", StartsWith: "^[0-9{]"}}
	f.Fuzz(func(t *testing.T, head []byte, conf byte) {
		compiled, err := Compile(confs[int(conf)%len(confs)])
		if err != nil {
			t.Fatal(err)
		}
		decided, _ := compiled.Detect(head)
		if again, _ := compiled.Detect(head); again != decided {
			t.Fatalf("%s, then %s", decided.Name(), again.Name())
		}
		if restored, ok := compiled.Restore(decided.Name()); decided != compiled && (!ok || restored != decided) {
			t.Fatalf("%s is not restored", decided.Name())
		}
		documents(t, decided, head)
	})
}
