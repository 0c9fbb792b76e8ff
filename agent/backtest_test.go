package agent

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/config"
)

func TestBacktestMergesFilesByTimeAndReadsGzip(t *testing.T) {
	dir := t.TempDir()
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	line := func(second int, level string) string {
		return began.Add(time.Duration(second)*time.Second).Format("2006-01-02T15:04:05.000Z") + " " + level + " [main] shop.Cart - no stock request_id=r-1\n"
	}
	// Six errors in each of two files within the same minute; an hour of calm follows,
	// more than a buffer of it; then nine errors.
	var a, b strings.Builder
	for i := range 6 {
		a.WriteString(line(i*5, "ERROR"))
		b.WriteString(line(i*5+2, "ERROR"))
	}
	for i := range 36_000 {
		a.WriteString(line(120+i/10, "INFO"))
	}
	for range 9 {
		a.WriteString(line(4000, "ERROR"))
	}
	paths := []string{filepath.Join(dir, "pay", "a.log"), filepath.Join(dir, "pay", "b.log.1.gz")}
	if err := os.Mkdir(filepath.Join(dir, "pay"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths[0], []byte(a.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	z.Write([]byte(b.String()))
	if z.Close() != nil || f.Close() != nil {
		t.Fatal("not written")
	}
	cfg, problems := config.Parse("f.yml", fmt.Appendf(nil, `
inputs:
  apps: {files: ['%s/{project}/*.log'], format: app}
outputs: {out: {discard: {}}}
alerts:
  errors: {per: project, when: error >= 10}
`, dir))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	result, err := Backtest(cfg, "", paths, func(it *notify.Item) {
		got = append(got, fmt.Sprintf("%s %s %s", it.At.UTC().Format("15:04:05"), it.Kind, it.Group()))
	})
	if err != nil {
		t.Fatal(err)
	}
	// The tenth error, by time, is at 22 s; the condition is false for a whole window
	// after the tenth last one has left it.
	if len(got) != 2 || got[0] != "12:00:22 opened project=pay" || !strings.Contains(got[1], "resolved project=pay") {
		t.Errorf("%q", got)
	}
	if result.Lines != 36_021 || !result.First.Equal(began) || result.Untimed != 0 {
		t.Errorf("%+v", result)
	}
}

// TestBacktestOfACutArchive: what a damaged .gz has before its damage counts, and so do
// the other files; so it is when the archive is tried.
func TestBacktestOfACutArchive(t *testing.T) {
	dir := t.TempDir()
	var log, packed bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&log, "2026-03-01 12:00:%02d.000 ERROR [main] shop.Cart - no stock of %x\n", i/100, i*i)
	}
	z := gzip.NewWriter(&packed)
	z.Write(log.Bytes())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	cut, whole := filepath.Join(dir, "a.log.1.gz"), filepath.Join(dir, "a.log")
	if err := errors.Join(os.WriteFile(cut, packed.Bytes()[:packed.Len()/2], 0o644), os.WriteFile(whole, []byte("2026-03-01 11:00:00.000 ERROR [main] shop.Cart - alone\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	cfg, problems := config.Parse("f.yml", fmt.Appendf(nil, `
inputs: {apps: {files: ['%s/*.log'], format: app, zone: UTC}}
outputs: {out: {discard: {}}}
alerts: {errors: {per: project, when: error >= 1000, within: 1h}}
`, dir))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	notices := 0
	result, err := Backtest(cfg, "", []string{cut, filepath.Join(dir, "none.log"), whole}, func(*notify.Item) { notices++ })
	if err == nil || !strings.Contains(err.Error(), cut+": unexpected EOF") || !strings.Contains(err.Error(), "none.log: no such file") {
		t.Errorf("%v", err)
	}
	if notices != 1 || result.Lines < 1001 || result.First.Hour() != 11 || len(result.Rules) != 1 {
		t.Errorf("%d notices, %+v", notices, result)
	}
	tried, err := Try(cfg, "", cut, bytes.NewReader(packed.Bytes()[:packed.Len()/2]), io.Discard)
	if err == nil || tried.Parsed != int(result.Lines)-1 {
		t.Errorf("%v: %+v", err, tried)
	}
}

// TestRulesSeeWhatJSONStringsSay: PHP escapes slashes, Go ampersands, Python all that is not
// ASCII. It is one path, one word, and one group.
func TestRulesSeeWhatJSONStringsSay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	lines := `{"time":"2026-03-01T12:00:01Z","level":"error","msg":"\u8d85\u65f6","path":"\/api\/pay?a=1\u0026b=2","shop":"\u706b"}
{"time":"2026-03-01T12:00:02Z","level":"error","msg":"超时","path":"/api/pay?a=1&b=2","shop":"火"}
{"time":"2026-03-01T12:00:03Z","level":"error","msg":"cannot open \"x\"","path":"/api/pay?a=1&b=2","shop":"火"}
`
	if err := os.WriteFile(path, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, problems := config.Parse("f.yml", fmt.Appendf(nil, `
inputs: {apps: {files: '%s', format: json}}
outputs: {out: {discard: {}}}
alerts:
  groups: {per: shop, when: error >= 3}
  paths: {when: count(path =~ '^/api/.*&b=2') >= 3}
  quotes: {when: 'count(message == ''cannot open "x"'') >= 1'}
  words: {when: 'count(message == "超时") >= 2'}
`, path))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	if _, err := Backtest(cfg, "", []string{path}, func(it *notify.Item) {
		got = append(got, it.At.UTC().Format("05")+" "+it.Incident.Rule+" "+it.Group())
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"02 words ", "03 groups shop=火", "03 paths ", "03 quotes "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestBacktestOfALogWithALineFromTheFuture: one line whose time is broken does not make all
// that follow it too late.
func TestBacktestOfALogWithALineFromTheFuture(t *testing.T) {
	dir := t.TempDir()
	line := func(at, level string) string { return fmt.Sprintf(`{"time":%q,"level":%q,"msg":"x"}`+"\n", at, level) }
	a, b := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
	broken := line("2026-03-01T12:00:00Z", "info") + line("9999-12-31T23:59:59Z", "fatal") + strings.Repeat(line("2026-03-01T12:00:05Z", "error"), 6)
	if os.WriteFile(a, []byte(line("8888-01-01T00:00:00Z", "fatal")+broken), 0o644) != nil || os.WriteFile(b, []byte(strings.Repeat(line("2026-03-01T12:00:06Z", "error"), 4)), 0o644) != nil {
		t.Fatal("not written")
	}
	cfg, problems := config.Parse("f.yml", fmt.Appendf(nil, "inputs: {apps: {files: ['%s/*.log'], format: json}}\noutputs: {out: {discard: {}}}\nalerts: {errors: {when: error >= 10 or fatal >= 1}}\n", dir))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	result, err := Backtest(cfg, "", []string{a, b}, func(it *notify.Item) {
		got = append(got, fmt.Sprintf("%s %s %s", it.At.UTC().Format("15:04:05"), it.Kind, it.Numbers[0]))
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != "12:00:06 opened error = 10 (limit: >= 10)" || result.Future != 2 || result.Lines != 13 || result.Last.Year() != 2026 {
		t.Errorf("%q, %+v", got, result)
	}
}
