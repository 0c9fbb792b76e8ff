package config

import (
	"path/filepath"
	"testing"
)

func TestExamplesAreGood(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		c, problems := Load(path)
		for _, p := range problems {
			t.Error(p)
		}
		if c != nil && len(c.Inputs)+len(c.Outputs) < 2 {
			t.Errorf("%s shows nothing", path)
		}
	}
}
