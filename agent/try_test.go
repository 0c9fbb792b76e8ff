package agent

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/config"
)

// A log of many gigabytes is tried bit by bit, and what is wrong with it is named by its
// line all the same.
func TestTryNamesTheLineInALogLargerThanItsBuffer(t *testing.T) {
	cfg, problems := config.Parse("f.yml", []byte("inputs: {app: {files: [/a.log], format: json}}\noutputs: {out: {discard: {}}}\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	const lines = 50_000
	good := `{"level":"info","msg":"` + strings.Repeat("x", 100) + "\"}\n"
	log := io.MultiReader(strings.NewReader(strings.Repeat(good, lines)), strings.NewReader("rubbish\n"), strings.NewReader(strings.Repeat(good, lines)))
	result, err := Try(cfg, "", "", log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if result.Events != 2*lines+1 || len(result.Errors) != 1 || result.Errors[0].Line != lines+1 {
		t.Errorf("%d events, %v; want %d, and line %d", result.Events, result.Errors, 2*lines+1, lines+1)
	}
}

// What is tried is the document that run would make, with all that says where it is from.
func TestTryShowsWhereALineIsFrom(t *testing.T) {
	cfg, problems := config.Parse("f.yml", []byte("inputs: {app: {files: ['/logs/{project}/*.log'], format: json, fields: {env: prod}}}\noutputs: {out: {discard: {}}}\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{host, "edge-1"} {
		var out strings.Builder
		if _, err := Try(cfg, "", "/logs/pay/a.log", strings.NewReader("{\"msg\":\"x\"}\n"), &out); err != nil {
			t.Fatal(err)
		}
		if all := fmt.Sprintf(`"host":%q,"input":"app","file":"/logs/pay/a.log","project":"pay","env":"prod"`, want); !strings.Contains(out.String(), all) {
			t.Errorf("%s lacks %s", out.String(), all)
		}
		cfg.Host = "edge-1"
	}
}
