package parser

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeTree writes files under a new directory and returns it.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var nginxTree = map[string]string{
	"nginx.conf": `
user nginx; # log_format commented '$status';
events { worker_connections 1024; }
stream {
    log_format main '$remote_addr [$time_local] $protocol $status';
    log_format tcp '$remote_addr $session_time';
}
http {
    include mime.types;
    include conf.d/*.conf;
    access_by_lua_block {
        -- don't } stop here
        ngx.log(ngx.ERR, "{ \" '") local t = {}
    }
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                      # a comment between the pieces
                      "$status \"$http_user_agent\" "
                      't=\'$request_time\''
                      ${scheme}x;
    server { listen 80; location ~ ^/a{1,2}$ { access_log /var/log/nginx/a.log main; } }
}
`,
	"conf.d/a.conf": "log_format json escape=json '{\"status\":\"$status\"}';\ninclude conf.d/*.conf;\n",
	"conf.d/b.conf": "server { log_format bad; }",
}

func TestLogFormatOfAnNginxConf(t *testing.T) {
	path := filepath.Join(writeTree(t, nginxTree), "nginx.conf")
	for _, c := range []struct{ name, text, escape string }{
		{"main", `$remote_addr - $remote_user [$time_local] "$request" $status "$http_user_agent" t='$request_time'${scheme}x`, ""},
		{"tcp", `$remote_addr $session_time`, ""},
		{"json", `{"status":"$status"}`, "json"},
		{"combined", nginxCombined, ""},
	} {
		f, err := loadNginxFormat(path, c.name)
		if err != nil || f.text != c.text || f.escape != c.escape {
			t.Errorf("%s: %v\n got %q %q\nwant %q %q", c.name, err, f.text, f.escape, c.text, c.escape)
		}
	}
}

func TestLogFormatsThatAreNotThere(t *testing.T) {
	dir := writeTree(t, nginxTree)
	alone := writeTree(t, map[string]string{
		"one.conf":   "log_format only '$status';",
		"none.conf":  "include gone.conf;",
		"torn.conf":  "http {\n log_format a '$status;\n}",
		"torn2.conf": "http {\n log_format a",
	})
	for _, c := range []struct{ path, name, want string }{
		{dir + "/nginx.conf", "mian", dir + `/nginx.conf has no log_format "mian"; it has json, main, tcp; not read: open ` + dir + `/mime.types: no such file or directory`},
		{dir + "/nginx.conf", "", dir + `/nginx.conf has more than one log_format; say which with log_format: one of json, main, tcp; not read`},
		{alone + "/none.conf", "x", alone + `/none.conf has no log_format "x"; not read: open ` + alone + `/gone.conf: no such file`},
		{alone + "/none.conf", "", alone + `/none.conf has no log_format; not read`},
		{alone + "/gone.conf", "", `open ` + alone + `/gone.conf: no such file`},
		{alone + "/torn.conf", "a", alone + `/torn.conf:2: a quoted text that begins "$status`},
		{alone + "/torn2.conf", "a", alone + `/torn2.conf:2: the file ends inside of "log_format"`},
	} {
		_, err := Compile(Config{Kind: "nginx", NginxConf: c.path, LogFormat: c.name})
		if err == nil || !strings.HasPrefix(err.Error(), "nginx format: "+c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %q:\n got %v\nwant %s", c.path, c.name, err, c.want)
		}
	}
	f, err := Compile(Config{Kind: "nginx", NginxConf: alone + "/one.conf"})
	if err != nil || f.Name() != "nginx only" {
		t.Errorf("the only one: %v", err)
	}
}

func TestWholeDirectivePastedAsFormat(t *testing.T) {
	p := nginxParser(t, "log_format  main escape=json '$status '\n   \"$request_time\" ;", "")
	if got, want := fieldsOf(t, p, "200 0.5"), "status_code=200 request_time=0.5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzNginxConf(f *testing.F) {
	for _, text := range nginxTree {
		f.Add(text)
	}
	f.Add("a_by_lua_block {\\")
	f.Add("log_format a '\\")
	f.Add("log_format $${ { x ${a}")
	f.Fuzz(func(t *testing.T, text string) {
		s := &nginxScanner{path: "nginx.conf", src: []byte(text), line: 1}
		for last := -1; ; {
			args, end, err := s.directive()
			if err != nil || len(args) == 0 && end == 0 {
				return
			}
			if s.at <= last {
				t.Fatalf("stands still at %d", s.at)
			}
			if last = s.at; end == '{' && len(args) > 0 {
				s.skipLua()
			}
			pastedLogFormat(strings.Join(args, " "))
		}
	})
}
