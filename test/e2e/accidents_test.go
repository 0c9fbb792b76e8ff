package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAccidentsHaveTheirTests: what test/ACCIDENTS.md and docs/guarantees.md name is
// there.
func TestAccidentsHaveTheirTests(t *testing.T) {
	text, err := os.ReadFile("../ACCIDENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, found := range function.FindAllSubmatch(code, -1) {
			there[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, named := 0, 0
	for line := range strings.Lines(string(text)) {
		if !regexp.MustCompile(`^\| \d`).MatchString(line) {
			continue
		}
		rows++
		for _, name := range regexp.MustCompile("`([\\w-]+)`").FindAllStringSubmatch(line, -1) {
			_, err := os.Stat(filepath.Join("../../source/tail/testdata/rotate", name[1]+".txt"))
			if named++; !there[name[1]] && err != nil {
				t.Errorf("there is no test and no story %s", name[1])
			}
		}
	}
	if rows < 39 || named < 2*rows {
		t.Errorf("%d rows with %d tests", rows, named)
	}
	promises, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	proofs := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(promises), -1)
	for _, name := range proofs {
		if !there[name[1]] {
			t.Errorf("docs/guarantees.md names %s as a proof, which is no test", name[1])
		}
	}
	if len(proofs) < 60 {
		t.Errorf("docs/guarantees.md names %d proofs", len(proofs))
	}
}
