package sink

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// docs returns a block of documents of one project, with a message each, at noon.
func docs(project string, messages ...string) *record.Block {
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h", Input: "apps", File: "/var/log/" + project + ".log", Project: project})
	b := record.NewBlock(nil, nil, nil)
	var r record.Record
	for i, m := range messages {
		r.Reset()
		r.Level = record.LevelInfo
		r.Put("message", []byte(m), record.Text)
		b.Append(o, &r, noon.UnixMilli(), true, int64(i*100))
	}
	return b
}

func refs(blocks ...*record.Block) []record.Ref {
	var all []record.Ref
	for _, b := range blocks {
		for i := range b.Docs {
			all = append(all, record.Ref{Block: b, Index: i})
		}
	}
	return all
}

func mustCompile(t testing.TB, text string, naming Naming) *Template {
	t.Helper()
	tpl, err := Compile(text, naming)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestValuesCannotLeaveTheDirectory(t *testing.T) {
	tpl := mustCompile(t, "out/{project}.ndjson", PathNaming)
	for _, c := range [][2]string{
		{"pay", "out/pay.ndjson"},
		{"..", "out/--.ndjson"},
		{"../../etc/passwd", "out/---..-etc-passwd.ndjson"},
		{"/etc/passwd", "out/-etc-passwd.ndjson"},
		{".hidden", "out/-hidden.ndjson"},
		{"a.b", "out/a.b.ndjson"},
		{"a\x00b\nc\x1bd", "out/a-b-c-d.ndjson"},
		{"\xff\xfe", "out/--.ndjson"},
		{"支付", "out/支付.ndjson"},
		{"", "out/none.ndjson"},
	} {
		r := refs(docs(c[0], "x"))[0]
		if got := string(tpl.Append(nil, r, noon.UnixMilli())); got != c[1] {
			t.Errorf("project %q: %q, want %q", c[0], got, c[1])
		}
	}
}

func TestNamesThatTheDestinationTakes(t *testing.T) {
	long := strings.Repeat("x", 500)
	for _, c := range []struct {
		naming            Naming
		template, project string
		want              string
	}{
		{TopicNaming, "logs-{project}", "Pay Service/eu", "logs-Pay-Service-eu"},
		{TopicNaming, "{project}", "..", "--"},
		{TopicNaming, "logs-{project}", "支付", "logs---"},
		{IndexNaming, "logs-{project}-{date}", "Pay:Service", "logs-pay-service-2026.11.23"},
		{IndexNaming, "{project}", "_internal", "x_internal"},
		{IndexNaming, "{project}", "..", "x--"},
		{IndexNaming, "{project}", `A\B/C*D?E"F<G>H|I J,K#L`, "a-b-c-d-e-f-g-h-i-j-k-l"},
		{IndexNaming, "{project}{project}{project}", long, ""},
		{TopicNaming, "{project}{project}{project}", long, ""},
		{PathNaming, "a/{project}{project}{project}/b.ndjson", long, ""},
	} {
		tpl := mustCompile(t, c.template, c.naming)
		got := string(tpl.Append(nil, refs(docs(c.project, "x"))[0], noon.UnixMilli()))
		if c.want != "" && got != c.want {
			t.Errorf("%s of %q: %q, want %q", c.template, c.project, got, c.want)
		}
		if limit := [...]int{255, 249, 255}[c.naming]; len(got) > limit {
			t.Errorf("%s: %d bytes", c.template, len(got))
		}
	}
}

func TestLongValuesStayDistinctAndKeepTheExtension(t *testing.T) {
	tpl := mustCompile(t, "out/{project}.ndjson", PathNaming)
	name := func(project string) string { return string(tpl.Append(nil, refs(docs(project, "x"))[0], 0)) }
	long := strings.Repeat("é", 150)
	a, b := name(long+"a"), name(long+"b")
	if a == b || !strings.HasSuffix(a, ".ndjson") || len(filepath.Base(a)) > maxElementBytes || !utf8.ValidString(a) {
		t.Errorf("%q and %q", a, b)
	}
}

func TestAbsurdTimesAreUndated(t *testing.T) {
	tpl := mustCompile(t, "logs-{date}", IndexNaming)
	names := tpl.Names()
	r := refs(docs("p", "x"))[0]
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{noon, "logs-2026.11.23"},
		{noon.Add(-12 * time.Hour), "logs-2026.11.23"},
		{noon.Add(-12*time.Hour - time.Millisecond), "logs-2026.11.22"},
		{noon.Add(-30 * 24 * time.Hour), "logs-2026.10.24"},
		{noon.Add(-30*24*time.Hour - time.Millisecond), "logs-undated"},
		{noon.Add(24 * time.Hour), "logs-2026.11.24"},
		{noon.Add(24*time.Hour + time.Millisecond), "logs-undated"},
		{time.Unix(0, 0), "logs-undated"},
		{time.UnixMilli(-1), "logs-undated"},
		{noon, "logs-2026.11.23"},
	} {
		r.Doc().Time = c.at.UnixMilli()
		for range 2 { // the second time out of the memo
			if got := names.Of(r, noon.UnixMilli()); got != c.want {
				t.Errorf("%v: %q, want %q", c.at, got, c.want)
			}
		}
	}
}

// The memo must give what the template gives, whatever changes between neighbours.
func TestMemoAgreesWithTheTemplate(t *testing.T) {
	withConstant := record.NewOrigin(record.OriginFields{Project: "a", Extra: []record.KeyValue{{Key: "env", Value: "prod"}}})
	without := record.NewOrigin(record.OriginFields{Project: "a"})
	var all []record.Ref
	for _, keys := range [][]string{nil, {"env"}, {"vhost", "env"}} {
		b := record.NewBlock(nil, keys, nil)
		var r record.Record
		for i, env := range []string{"", "prod", "prod", "test", "test", ""} {
			for level := record.LevelNone; level <= record.LevelFatal; level += 2 {
				for _, o := range []*record.Origin{withConstant, without} {
					r.Reset()
					r.Level = level
					if env != "" {
						r.Put("env", []byte(env), record.Text)
					}
					b.Append(o, &r, noon.Add(time.Duration(i)*7*time.Hour).UnixMilli(), true, 0)
				}
			}
		}
		all = append(all, refs(b)...)
	}
	tpl := mustCompile(t, "{project}/{env}-{level}-{date}", PathNaming)
	names := tpl.Names()
	for _, r := range all {
		want := string(tpl.Append(nil, r, noon.UnixMilli()))
		if got := names.Of(r, noon.UnixMilli()); got != want {
			t.Fatalf("got %q, want %q for %s", got, want, r.JSON())
		}
	}
	if got := tpl.Fields(); !slices.Equal(got, []string{"env"}) {
		t.Errorf("fields %v", got)
	}
	if got := tpl.Pattern(); got != "*/*-*-*" {
		t.Errorf("pattern %q", got)
	}
}

func TestBadTemplatesSayWhatToWrite(t *testing.T) {
	for _, c := range []struct {
		naming         Naming
		template, want string
	}{
		{PathNaming, "", "empty"},
		{PathNaming, "out/{project", "brace"},
		{PathNaming, "out/project}", "brace"},
		{PathNaming, "out/{{project}}", "not a field's name"},
		{PathNaming, "out/{}", "names nothing"},
		{PathNaming, "out/", "directory"},
		{PathNaming, "out/{id}.ndjson", "every line"},
		{PathNaming, "a\x00b", "cannot stand"},
		{TopicNaming, "logs/{project}", "Kafka topic"},
		{IndexNaming, "Logs-{project}", `"logs-"`},
		{IndexNaming, "_logs", "begin"},
		{IndexNaming, "a b", "cannot stand"},
	} {
		if _, err := Compile(c.template, c.naming); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want something about %q", c.template, err, c.want)
		}
	}
}

func FuzzTemplateNames(f *testing.F) {
	f.Add("out/{project}-{date}.ndjson", "../x", int64(0))
	f.Add("{project}", "_\xff", int64(1<<62))
	f.Fuzz(func(t *testing.T, text, value string, at int64) {
		r := refs(docs(value, "x"))[0]
		r.Doc().Time = at
		for _, naming := range []Naming{PathNaming, TopicNaming, IndexNaming} {
			tpl, err := Compile(text, naming)
			if err != nil {
				continue
			}
			got := string(tpl.Append(nil, r, noon.UnixMilli()))
			if got == "" || !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
				t.Fatalf("%q", got)
			}
			if strings.Count(got, "/") != strings.Count(text, "/") {
				t.Fatalf("%q makes %q: another directory", text, got)
			}
		}
	})
}

func TestNamingADocumentDoesNotAllocate(t *testing.T) {
	names := mustCompile(t, "out/{project}-{level}-{date}.ndjson", PathNaming).Names()
	all := refs(docs("pay", "a", "b", "c"), docs("shop", "a", "b"))
	if a := testing.AllocsPerRun(100, func() {
		for _, r := range all {
			names.Of(r, noon.UnixMilli())
		}
	}); a != 0 {
		t.Errorf("%v allocations per run", a)
	}
}

func BenchmarkNames(b *testing.B) {
	names := mustCompile(b, "out/{project}-{date}.ndjson", PathNaming).Names()
	r := refs(docs("pay", "a"))[0]
	b.ReportAllocs()
	for b.Loop() {
		names.Of(r, noon.UnixMilli())
	}
}
