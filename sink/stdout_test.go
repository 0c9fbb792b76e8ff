package sink

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tailwater/tailwater/record"
)

func document(fields ...string) *record.Block {
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Project: "pay"})
	b := record.NewBlock(nil, nil, nil)
	var r record.Record
	r.Reset()
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "level":
			r.Level, _ = record.LevelNamed(fields[i+1])
		case "status_code", "request_time":
			r.Put(fields[i], []byte(fields[i+1]), record.JSON)
		default:
			r.Put(fields[i], []byte(fields[i+1]), record.Text)
		}
	}
	b.Append(o, &r, noon.UnixMilli(), true, 0)
	return b
}

func TestLinesForPeople(t *testing.T) {
	for _, c := range []struct {
		doc  *record.Block
		want string
	}{
		{document("level", "error", "message", "payment failed", "request_id", "r1"), "2026-11-23 12:00:00.000 ERROR pay payment failed request_id=r1\n"},
		{document("method", "GET", "path", "/a", "query", "b=1", "status_code", "502", "request_time", "0.012"), "2026-11-23 12:00:00.000       pay GET /a?b=1 502 0.012s\n"},
		{document("level", "warn", "message", "java.lang.X: y\n\tat z"), "2026-11-23 12:00:00.000 WARN  pay java.lang.X: y\n    \tat z\n"},
		{document("message", "\x1b]0;title\a\x1b[2J\r\u009b31m\u202e\x7f"), `2026-11-23 12:00:00.000       pay \u001b]0;title\u0007\u001b[2J\u000d\u009b31m\u202e\u007f` + "\n"},
		{document("other", "x"), "2026-11-23 12:00:00.000       pay " + string(document("other", "x").JSON(0)) + "\n"},
	} {
		if got := string(appendHuman(nil, c.doc.JSON(0), time.UTC, false)); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
	got := string(appendHuman(nil, document("level", "error", "message", "m").JSON(0), time.UTC, true))
	if !strings.Contains(got, red+"ERROR"+plainly) {
		t.Errorf("no colour: %q", got)
	}
}

func TestPipeGetsTheDocumentsAsTheyAre(t *testing.T) {
	var out bytes.Buffer
	s := NewStdout("screen", &out, FormatAuto)
	b := document("message", "\u009b31m")
	send(t, s, b, docs("pay", strings.Repeat("x", 300<<10)), b)
	want := string(b.Data) + string(docs("pay", strings.Repeat("x", 300<<10)).Data) + string(b.Data)
	if out.String() != want {
		t.Errorf("%d bytes, want %d", out.Len(), len(want))
	}
}

func TestReaderOfAPipeHasEnded(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	res := trySend(NewStdout("screen", w, FormatJSON), refs(docs("pay", "a"))...)
	if res.Err == nil || res.Reason != "closed" || !strings.Contains(res.Err.Error(), "standard output is closed") {
		t.Errorf("%+v", res)
	}
}

func FuzzTerminalOutput(f *testing.F) {
	f.Add([]byte(`{"@timestamp":"2026-11-23T12:00:00.000Z","message":"\u001b[31m\u009b"}`))
	f.Add([]byte("{\"message\":7,\"level\":{},\"a\":\"\u009b\u202e\xff\"}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got := appendHarmlessJSON(nil, doc); json.Valid(doc) {
			if !bytes.ContainsAny(doc, "\n\r\t") && !json.Valid(got) {
				t.Fatalf("%q is not JSON any more", got)
			}
		}
		got := string(appendHuman(nil, doc, time.UTC, false))
		for _, r := range got {
			if r != '\n' && r != '\t' && unicode.IsControl(r) {
				t.Fatalf("%q", got)
			}
		}
		if !utf8.ValidString(got) || !strings.HasSuffix(got, "\n") || strings.Contains(strings.TrimSuffix(strings.ReplaceAll(got, "\n    ", ""), "\n"), "\n") {
			t.Fatalf("%q", got)
		}
	})
}
