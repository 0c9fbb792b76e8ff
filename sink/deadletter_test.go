package sink

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

func deadLetters(t *testing.T, c DeadConfig) *DeadLetters {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "dead")
	}
	c.Log = slog.New(slog.DiscardHandler)
	d := NewDeadLetters(c)
	t.Cleanup(func() { d.Close() })
	return d
}

func letters(t *testing.T, dir string) (all []Letter, bad int) {
	t.Helper()
	files, err := ListLetters(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		n, err := ReadLetters(f.Path, func(l Letter) error {
			all = append(all, l)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		bad += n
	}
	return all, bad
}

func TestLetterSaysWhatWhyAndWhere(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	b := docs("pay", "first", `quotes " and <tags> and`+"\n newlines \xff")
	err := d.Park("es", refs(b), []Refusal{{Index: 1, Reason: "mapping", Detail: "field \"x\"\n\x1b[31m"}, {Index: 0, Reason: "too_large"}})
	if err != nil {
		t.Fatal(err)
	}
	all, bad := letters(t, d.Dir)
	if len(all) != 2 || bad != 0 {
		t.Fatalf("%d letters, %d bad lines", len(all), bad)
	}
	l := all[0]
	if l.Output != "es" || l.Reason != "mapping" || l.Detail != "field \"x\"\n\x1b[31m" || l.ID != "m-g-100" || l.Offset != 100 ||
		l.File != "/var/log/pay.log" || l.Project != "pay" || l.Time.IsZero() {
		t.Errorf("%+v", l)
	}
	if string(l.Bytes()) != string(b.JSON(1)) {
		t.Errorf("the document changed: %s, was %s", l.Bytes(), b.JSON(1))
	}
}

// What comes out of Kafka need not be what tailwater put into it.
func TestDocumentsThatAreNotJSONArePreserved(t *testing.T) {
	for _, raw := range []string{`not json "at all"`, `"a string"`, "{\n \"pretty\": [1,\r\n 2]}", `{"offset":"a text","file":7}`, "", `{"a":1}{"b":2}`} {
		d := deadLetters(t, DeadConfig{})
		b := docs("pay", "x")
		b.Data = append(b.Data[:0], raw+"\n"...)
		b.Docs[0] = record.Doc{End: uint32(len(raw)), Origin: b.Docs[0].Origin}
		if err := d.Park("es", refs(b), []Refusal{{Index: 0, Reason: "r"}}); err != nil {
			t.Fatal(err)
		}
		all, bad := letters(t, d.Dir)
		if len(all) != 1 || bad != 0 {
			t.Fatalf("%q: %d letters, %d bad lines", raw, len(all), bad)
		}
		if got := string(all[0].Bytes()); got != raw && got != `{"pretty":[1,2]}` {
			t.Errorf("got %q, want %q", got, raw)
		}
	}
}

func TestOldestDeadLettersGoWhenThereAreTooMany(t *testing.T) {
	dropped := 0
	d := deadLetters(t, DeadConfig{FileBytes: 2000, TotalBytes: 10000, Dropped: func(_ string, n int) { dropped += n }})
	const parked = 100
	for range parked {
		if err := d.Park("es", refs(docs("pay", "x")), []Refusal{{Index: 0, Reason: "r"}}); err != nil {
			t.Fatal(err)
		}
	}
	files, err := ListLetters(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range files {
		size += f.Size
		if f.Size > 2000 || f.Output != "es" {
			t.Errorf("%+v", f)
		}
	}
	all, _ := letters(t, d.Dir)
	if size > 10000 || len(files) < 4 || dropped == 0 || len(all)+dropped != parked {
		t.Errorf("%d bytes in %d files, %d letters, %d dropped", size, len(files), len(all), dropped)
	}
}

func TestTornLastLetterOfACrashIsCountedNotRead(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	park := func(d *DeadLetters) {
		if err := d.Park("es", refs(docs("pay", "x")), []Refusal{{Index: 0, Reason: "r"}}); err != nil {
			t.Fatal(err)
		}
	}
	park(d)
	park(d)
	files, _ := ListLetters(d.Dir)
	if err := os.Truncate(files[0].Path, files[0].Size-20); err != nil {
		t.Fatal(err)
	}
	next := deadLetters(t, DeadConfig{Dir: d.Dir}) // the next run begins a file of its own
	park(next)
	all, bad := letters(t, d.Dir)
	if len(all) != 2 || bad != 1 {
		t.Errorf("%d letters and %d bad lines, want 2 and 1", len(all), bad)
	}
}

func TestDeadLetterFileDeletedWhileInUse(t *testing.T) {
	d := deadLetters(t, DeadConfig{})
	for range 2 {
		if err := d.Park("es", refs(docs("pay", "x")), []Refusal{{Index: 0, Reason: "r"}}); err != nil {
			t.Fatal(err)
		}
		if all, _ := letters(t, d.Dir); len(all) != 1 {
			t.Fatalf("%d letters", len(all))
		}
		if err := os.RemoveAll(d.Dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := deadLetters(t, DeadConfig{Dir: filepath.Join(file, "dead")})
	err := d.Park("es", refs(docs("pay", "x")), []Refusal{{Index: 0, Reason: "r"}})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "es") {
		t.Error(err)
	}
}

func TestOutputNamesWithDashesAndDigits(t *testing.T) {
	for name, want := range map[string]string{
		"es-20261123T200000.ndjson":                "es",
		"es-20261123T200000-3.ndjson":              "es",
		"my-es-2-20261123T200000.ndjson":           "my-es-2",
		"a-20250101T000000-20261123T200000.ndjson": "a-20250101T000000",
		"es.ndjson":                                 "",
		"-20261123T200000.ndjson":                   "",
		"es-20261123T200000.ndjson.tmp":             "",
		"es-20261399T200000.ndjson":                 "",
		"es-20261123T200000-3-4.ndjson":             "",
		"tail-water-20261123T200000-12.ndjson":      "tail-water",
		"tail-water-20261123T200000-12.ndjson.part": "",
	} {
		got, _, ok := splitDeadName(name)
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", name, got, ok, want)
		}
	}
}

func FuzzLetter(f *testing.F) {
	f.Add([]byte(`{"file":"/a","offset":1,"project":"p"}`), "mapping", "detail")
	f.Add([]byte("\xff\n{"), "", "\x00")
	f.Fuzz(func(t *testing.T, raw []byte, reason, detail string) {
		b := docs("pay", "x")
		b.Data = append(append(b.Data[:0], raw...), '\n')
		b.Docs[0] = record.Doc{End: uint32(len(raw)), Origin: b.Docs[0].Origin}
		line := appendLetter(nil, "es", noon, refs(b)[0], Refusal{Reason: reason, Detail: detail})
		if strings.Count(string(line), "\n") != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one line: %q", line)
		}
		var l Letter
		if err := json.Unmarshal(line, &l); err != nil || len(l.Document) == 0 {
			t.Fatalf("%v: %q", err, line)
		}
	})
}
