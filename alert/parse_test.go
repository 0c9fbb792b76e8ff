package alert

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func mustCompile(t testing.TB, cfg RuleConfig) *Rule {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "r"
	}
	r, err := Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMistakesInConditionsAreLocatedAndExplained(t *testing.T) {
	for _, c := range []struct{ key, expr, want string }{
		{"when", "cuont() > 1", `when:1:1: unknown function "cuont", did you mean count?`},
		{"when", "eror >= 10", `when:1:1: unknown term "eror", did you mean error?`},
		{"when", "error >= 10 and\n  fatl >= 1", `when:2:3: unknown term "fatl", did you mean fatal?`},
		{"when", "bananas > 1", `when:1:1: unknown term "bananas"; known are count`},
		{"when", "error", `when:1:6: error is a number: compare it, as in error >= 10`},
		{"when", "count() = 3", `when:1:9: "=" is not known here; write ==`},
		{"when", "count() => 3", `when:1:9: "=>" is not known here; write >=`},
		{"when", "or error > 3", `when:1:1: expected a term such as count(..) or error, not "or"`},
		{"when", "count() > 3 && error > 1", `when:1:13: "&&" is not known here; write and`},
		{"when", "share() > 5%", "when:1:1: share needs a predicate: share(status_code >= 500)"},
		{"when", "share(status_code >= 500) > 5", "when:1:29: share is between 0% and 100%; write 5%"},
		{"when", "count() > 5s", "when:1:11: count is a plain number of lines, without a unit"},
		{"when", "p99() > 1s", "when:1:5: p99 needs one field: p99(request_time)"},
		{"when", "p99(level) > 1s", "when:1:5: level is not a number"},
		{"when", "p99(request_time) > 1KiB", "when:1:21: request_time is a time; write 1s or 500ms"},
		{"when", "p99(balance) < -1", "when:1:16: a percentile is of numbers from 0 to 1e15; compare max(balance), avg(balance) or count(balance > ..)"},
		{"when", "p99(unix_nanos) > 1700000000000000000", "when:1:19: a percentile is of numbers from 0 to 1e15"},
		{"when", "p99(request_time) > 1x", `when:1:22: unknown unit "x"`},
		{"when", "count(level == eror) > 1", `when:1:16: no level is called "eror"; did you mean error?`},
		{"when", "count(method < POST) > 1", `when:1:16: < compares numbers, and "POST" is none`},
		{"when", "count(path =~ '(') > 1", `when:1:15: "(" is not a regular expression: missing closing ): ` + "`(`"},
		{"when", "count(path == 'x) > 1", "when:1:15: the text that begins here has no closing '"},
		{"when", "count(id == 'x') > 1", "when:1:7: id names one line; a rule cannot compare it"},
		{"when", "count( > 1", `when:1:8: expected a field, not ">"`},
		{"when", "(count() > 1", "when:1:13: expected ) before the end"},
		{"when", "count() > 1 fatal > 2", `when:1:13: the condition does not go on with "fatal"; join conditions with and, or`},
		{"when", "error(path == '/') > 2", "when:1:6: error is a number already"},
		{"when", "count() >= 0", "when:1:1: the condition is always true"},
		{"when", "  ", "when:1:1: the rule needs a condition, such as error >= 10"},
		{"when", "größe > 1 ö", `when:1:1: unknown term "größe"`},
		{"when", "count(größe > 1) § 1", `when:1:18: unexpected '§'`},
		{"where", "status_code >= big", "where:1:16: status_code is a number; write status_code >= 500"},
		{"where", "path", "where:1:5: expected a comparison of path, as in path == \"text\""},
		{"where", "path == 'a' or", "where:1:15: expected a field, not the end"},
		{"when", strings.Repeat("(", 100) + "count() > 1", "when:1:65: more than 64 levels of parentheses"},
	} {
		cfg := RuleConfig{Name: "r", When: "error > 1"}
		if c.key == "when" {
			cfg.When = c.expr
		} else {
			cfg.Where = c.expr
		}
		_, err := Compile(cfg)
		if err == nil {
			t.Errorf("%s: no error; want %s", c.expr, c.want)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "alert r: "+c.want) {
			t.Errorf("%s:\n got  %v\n want alert r: %s", c.expr, err, c.want)
		}
	}
}

func TestMistakesInTheOtherKeys(t *testing.T) {
	_, err := Compile(RuleConfig{
		Name: "r", When: "count(", Where: "x", Within: 1500 * time.Millisecond, For: 48 * time.Hour, Per: []string{"path", "path", "id"},
		MaxGroups: -1, Scope: "galaxy", Repeat: time.Millisecond, Links: map[string]string{"kibana": "{{.Nope}}", "x": "{{"},
	})
	for _, want := range []string{
		"within: 1.5s is not a whole number of seconds", "for: 48h0m0s is not between", `per: "path" stands twice`,
		`per: "id" is different for every line`, "max_groups: -1 is too few", `scope: "galaxy" is not known`, "where:1:2: ", "when:1:7: ",
		"links.kibana: kibana:1:2:", "links.x: x:1: unclosed action", "repeat: 1ms is too short",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// lineOf makes a record of fields; values that begin with = are JSON.
func lineOf(level record.Level, fields ...string) *record.Record {
	r := &record.Record{}
	r.Reset()
	r.Level = level
	for i := 0; i < len(fields); i += 2 {
		key, val, kind := fields[i], fields[i+1], record.Text
		if strings.HasPrefix(val, "=") {
			val, kind = val[1:], record.JSON
		}
		switch key {
		case "status_code":
			n, _ := parseNumber([]byte(val))
			r.Status = int32(n)
		case "request_time":
			r.RequestTime, _ = parseNumber([]byte(val))
		case "upstream_time":
			r.UpstreamTime, _ = parseNumber([]byte(val))
		}
		r.Put(key, []byte(val), kind)
	}
	return r
}

func TestPredicatesOnLines(t *testing.T) {
	origin := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h1", Input: "gateway", File: "/a.log", Project: "shop"})
	access := lineOf(record.LevelNone, "method", "GET", "path", "/cart/7", "status_code", "=502", "request_time", "=0.25", "bytes_sent", "=20480", "quoted", `="a\"b"`, "share_of", "=0.07")
	access.Put("uri", []byte(`\/cart\/7\u0026\ud83d\udd25`), record.Escaped)
	app := lineOf(record.LevelError, "message", "boom", "took", `="12.5"`, "ok", "=true")
	for _, c := range []struct {
		expr        string
		access, app bool
	}{
		{"status_code >= 500", true, false},
		{"status_code != 200", true, false},
		{"status_code == '502'", true, false},
		{"not status_code == 200", true, true},
		{"status_code =~ '^5'", true, false},
		{"request_time > 250ms", false, false},
		{"request_time >= 250ms", true, false},
		{"upstream_time < 10s", false, false},
		{"bytes_sent >= 20KiB", true, false},
		{"bytes_sent > 20KiB", false, false},
		{"share_of == 7%", true, false},
		{"method == GET and path =~ '^/cart/'", true, false},
		{"method == 'POST' or method == GET", true, false},
		{`quoted == 'a"b'`, true, false},
		{"uri == '/cart/7&🔥'", true, false},
		{"uri =~ '^/cart/[0-9]+&'", true, false},
		{"level == error", false, true},
		{"level >= warn", false, true},
		{"level != debug", false, true},
		{"message == 'boom'", false, true},
		{"message != 'bang'", false, true},
		{"took > 12", false, true},
		{"took > 12.5", false, false},
		{"ok == true", false, true},
		{"project == shop", true, true},
		{"project != shop", false, false},
		{"host =~ 'h[0-9]'", true, true},
		{"(project == other or level == fatal) and path == x", false, false},
		{"`method` == GET", true, false},
		{"partial == true", false, false},
	} {
		p, err := parsePredicate(c.expr)
		if err != nil {
			t.Errorf("%s: %v", c.expr, err)
			continue
		}
		again, err := parsePredicate(p.text)
		if err != nil || again.text != p.text {
			t.Errorf("%s is shown as %s, which is read as %v, %v", c.expr, p.text, again, err)
			continue
		}
		names := make(map[string]int)
		for _, p := range []*pred{p.bind(origin, names), again.bind(origin, names)} {
			h, scratch := make(hints, len(names)), []byte(nil)
			for range 2 { // the second time with hints
				if got := p.match(h, access, &scratch); got != c.access {
					t.Errorf("%s on the access line: %v", c.expr, got)
				}
				if got := p.match(h, app, &scratch); got != c.app {
					t.Errorf("%s on the application's line: %v", c.expr, got)
				}
			}
		}
	}
}

func TestWhatFiresAtOnceAndWhatWaits(t *testing.T) {
	for _, c := range []struct {
		when         string
		rising, calm bool // the first atom; the whole condition is quiet
	}{
		{"error >= 10", true, false},
		{"count() > 0", true, false},
		{"count() != 0", true, false},
		{"rate() > 5", true, false},
		{"max(request_time) > 3s", true, false},
		{"count() == 0", false, true},
		{"not count() > 0", false, true},
		{"not (not (error >= 10))", true, false},
		{"not (count() == 0 or error < 3)", true, false},
		{"share(status_code >= 500) > 5% and count() >= 50", false, false},
		{"share(status_code >= 500) < 5%", false, true},
		{"p99(request_time) > 1s", false, false},
		{"p99(request_time) <= 1s", false, false},
		{"not p99(request_time) > 1s", false, true},
		{"avg(bytes_sent) > 1MiB", false, false},
		{"max(request_time) != 0", false, false},
		{"count() < 5 and error > 0", false, false},
	} {
		r := mustCompile(t, RuleConfig{When: c.when})
		if r.atoms[0].rising != c.rising || r.quiet != c.calm {
			t.Errorf("%s: rising %v, quiet %v", c.when, r.atoms[0].rising, r.quiet)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]float64{
		"0": 0, "-0.5": -.5, "200": 200, "0.001": .001, "1.25e3": 1250, "123456789012345678901": 123456789012345678901, "0.1234567890123456789": 0.1234567890123456789,
	} {
		if got, ok := parseNumber([]byte(in)); !ok || got != want {
			t.Errorf("%s: %v %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "-", ".", "1.", ".5", "abc", "1x", "NaN", "Inf", "0x10", "1_000", "1e999", "--1", "true", "null", strings.Repeat("1", 99)} {
		if got, ok := parseNumber([]byte(in)); ok {
			t.Errorf("%q: %v", in, got)
		}
	}
	if a := testing.AllocsPerRun(100, func() { parseNumber([]byte("0.123")); parseNumber([]byte("12345678901234567890")) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"error >= 10 or fatal >= 1", "share(status_code >= 500) > 5% and count() >= 50", "p99(request_time) > 1s or count(upstream_time > 3s) >= 10",
		"not (count(a =~ \"x\\\"\") == 0)", "count(`a b` != 'x') > 1m30s", "max(x)>-1.5e3", "count(größe == 'ü') > 1µs", "\xff", "((((", "rate(a==b and(c==d or not e!=1))>1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Compile(RuleConfig{Name: "f", When: s})
		var e *Error
		if err != nil {
			if !errors.As(err, &e) || e.Line < 1 || e.Col < 1 {
				t.Fatalf("%q: not located: %v", s, err)
			}
			return
		}
		for _, p := range r.counters { // what is shown in notices can be written in rules
			if p == nil {
				continue
			}
			if q, err := parsePredicate(p.text); err != nil || q.text != p.text {
				t.Fatalf("%q: shown as %q: %v %v", s, p.text, q, err)
			}
		}
	})
}
