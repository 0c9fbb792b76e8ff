package tail

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          string // the captures, or "no"
	}{
		{"/var/log/nginx/*access.log", "/var/log/nginx/access.log", "[]"},
		{"/var/log/nginx/*access.log", "/var/log/nginx/shop-access.log", "[]"},
		{"/var/log/nginx/*access.log", "/var/log/nginx/a/access.log", "no"},
		{"/var/log/nginx/*access.log", "/var/log/nginx/access.log.1", "no"},
		{"/data/logs/{project}/*.log", "/data/logs/shop/a.log", "[{project shop}]"},
		{"/data/logs/{project}/*.log", "/data/logs//a.log", "no"},
		{"/data/{app}-{env}/x.log", "/data/pay-prod/x.log", "[{app pay} {env prod}]"},
		{"/data/**/*.log", "/data/a.log", "[]"},
		{"/data/**/*.log", "/data/a/b/c.log", "[]"},
		{"/data/**/{pod}/*.log", "/data/a/b/c.log", "[{pod b}]"},
		{"/data/{a,b*}/x", "/data/bcd/x", "[]"},
		{"/data/{a,b*}/x", "/data/c/x", "no"},
		{"/data/[a-c]?.log", "/data/bx.log", "[]"},
		{"/data/[!a-c]?.log", "/data/bx.log", "no"},
		{`/data/\[x\]*`, "/data/[x]y", "[]"},
		{"/data/a.log", "/data/aXlog", "no"},
		{"/*.log", "/a.log", "[]"},
		{"/data/*.log", "/data/line\nbreak.log", "[]"},
		{"/data/*.log", "/data/\xff.log", "[]"},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		got := "no"
		if captures, ok := g.Match(c.path); ok {
			got = fmt.Sprint(captures)
		}
		if got != c.want {
			t.Errorf("%s on %q: %s, want %s", c.pattern, c.path, got, c.want)
		}
	}
}

func TestAQuotedPathMatchesItself(t *testing.T) {
	for _, path := range []string{"/data/logs", `/a*?[b]{c}\d/e`, "/{x}", "/**/x", "/a b/\xff\n"} {
		g, err := ParseGlob(Quote(path) + "/*.log")
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if _, ok := g.Match(path + "/a.log"); !ok {
			t.Errorf("%q is not matched by %s", path, g)
		}
	}
}

func TestWrongGlobsSayWhatToWrite(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "write a path", "/var/log/": "/var/log/*", "/data/**": "/data/**/*", "/a/x**": "whole directories",
		"/{a}/{a}": "twice", "/{a b}": "no name for a field", "/[ab": "not closed", "/{ab": "not closed", "/a}": "nothing opened", `/a\`: "escapes nothing",
	} {
		if _, err := ParseGlob(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", pattern, err, want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	for _, s := range []string{"/a/*.log", "/{p}/**/[a-z]?{x,y}*", `/\*`, "/[]a]", "/[!]", "/[^a-", "/{,}", "/[[:alpha:]]", "/a[z-a]"} {
		f.Add(s, "/a/b.log")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		g, err := ParseGlob(pattern)
		if err != nil {
			if strings.Contains(err.Error(), "\n") && !strings.Contains(pattern, "\n") {
				t.Errorf("%q: not one line: %v", pattern, err)
			}
			return
		}
		if captures, ok := g.Match(path); ok && len(captures) != len(g.Names()) {
			t.Errorf("%q on %q: %v", pattern, path, captures)
		}
	})
}

func TestRotatedNames(t *testing.T) {
	for rest, want := range map[string]bool{
		".1": true, ".1.gz": true, "-20261123": true, "-20261123.gz": true, ".20261123-200000": true, ".2026-11-23T20": true, ".2026-11-23_20-00-00": true,
		".old": true, ".bak": true, "~": true, ".gz": true, ".prev": true, "-Nov23": true, ".2026-11-23T20:00:00Z": true,
		"": false, ".tmp": false, ".1.tmp": false, ".gz.tmp": false, ".swp": false, ".audit2": false, "2": false, ".log": false, ".json": false, ".1.zst": false,
	} {
		if looksRotated(rest) != want {
			t.Errorf("%q: %v", rest, !want)
		}
	}
}

func TestOrderOfRotatedNames(t *testing.T) {
	for _, c := range [][2]string{
		{"a.log.2", "a.log.1"}, {"a.log.10", "a.log.9"}, {"a.log.2.gz", "a.log.1"}, {"a.log-20261122", "a.log-20261123"},
		{"0.log.20261123-200000.gz", "0.log.20261123-200100"},
	} {
		if !olderName(c[0], c[1]) || olderName(c[1], c[0]) {
			t.Errorf("%s is not older than %s", c[0], c[1])
		}
		// Whatever the times say: that of a .gz may be the time of its compression.
		if !olderRotation(c[0], 2, c[1], 1) || olderRotation(c[1], 1, c[0], 2) {
			t.Errorf("by their times, %s is not older than %s", c[0], c[1])
		}
	}
}

// TestManyDoubleStarsAreNotSlow matched in exponential time.
func TestManyDoubleStarsAreNotSlow(t *testing.T) {
	for _, pattern := range []string{"/" + strings.Repeat("**/", 30) + "x", "/" + strings.Repeat("**/a/", 30) + "x"} {
		g, err := ParseGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan bool, 1)
		go func() { _, ok := g.Match("/" + strings.Repeat("a/", 60) + "y"); done <- ok }()
		select {
		case ok := <-done:
			if ok {
				t.Errorf("%s matches", pattern)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: still matching", pattern)
		}
	}
}
