package consume

import (
	"strings"
	"testing"

	"github.com/tailwater/tailwater/record"
)

// words is a parser that makes each text a message.
type words struct{}

func (words) Parse(text []byte, r *record.Record) { r.Add("message", text, record.Text) }

func testDocuments(keep func(record.Level) bool) *documents {
	c := &Config{Name: "relay", Project: "elsewhere", Host: "h2", NewParser: func() Parser { return words{} },
		NewBlock: func() *record.Block { return record.NewBlock(nil, []string{"request_id"}, nil) }}
	for l := range c.Keep {
		c.Keep[l] = keep(record.Level(l))
	}
	d := newDocuments(c, partitionID{"logs-shop", 2})
	return &d
}

func all(record.Level) bool { return true }

// own is a document as an agent ships it, with its id.
func own(level record.Level) (text, id string) {
	b := record.NewBlock(nil, nil, nil)
	r := new(record.Record)
	r.Reset()
	r.Level = level
	r.Add("request_id", []byte("r-7"), record.Text)
	b.Append(record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h1", Input: "in", Project: "shop"}), r, 1795464000123, true, 42)
	return string(b.JSON(0)), string(b.ID(0))
}

func received(offset int64, value, id string) *message {
	return &message{offset: offset, time: 1795464005_000, value: []byte(value), id: []byte(id), project: []byte("shop")}
}

func TestOwnDocumentsPassAsTheyAre(t *testing.T) {
	d := testDocuments(all)
	text, id := own(record.LevelError)
	d.add(received(7, text, id))
	doc := d.block.Docs[0]
	if string(d.block.JSON(0)) != text || string(d.block.ID(0)) != "m-g-42" || doc.Time != 1795464000123 || doc.Level != record.LevelError {
		t.Errorf("%s, %s, %+v", d.block.JSON(0), d.block.ID(0), doc)
	}
	for name, want := range map[string]string{"project": "shop", "host": "h1", "input": "in", "request_id": "r-7"} {
		if got := d.block.Value(0, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestOthersDocumentsAreParsed(t *testing.T) {
	text, id := own(record.LevelError)
	for name, m := range map[string]*message{
		"no headers":            received(7, text, ""),
		"another id":            received(7, text, "x"),
		"two lines in a value":  received(7, text[:len(text)-1]+"\n}", id),
		"torn":                  received(7, text[:len(text)-1], id),
		"plain":                 received(7, "plain words", ""),
		"nothing but an id":     received(7, "", id),
		"shorter than its head": received(7, `{"@timestamp":"`, id),
	} {
		d := testDocuments(all)
		d.add(m)
		got := string(d.block.JSON(0))
		if id := string(d.block.ID(0)); !strings.HasPrefix(id, "kafka-logs-shop.2.") || !strings.HasSuffix(id, "-7") {
			t.Errorf("%s: id %s", name, id)
		}
		if !strings.Contains(got, `"project":"elsewhere"`) || !strings.Contains(got, `"message":`) || strings.Contains(got, "\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestATombstoneIsNoDocument(t *testing.T) {
	d := testDocuments(all)
	if d.add(&message{offset: 1}); d.block != nil {
		t.Errorf("%v", d.block)
	}
}

func TestKeepHoldsForWhatPasses(t *testing.T) {
	d := testDocuments(func(l record.Level) bool { return l != record.LevelInfo })
	for _, l := range []record.Level{record.LevelInfo, record.LevelError} {
		text, id := own(l)
		d.add(received(7, text, id))
	}
	d.add(received(8, "plain words", ""))
	if len(d.block.Docs) != 2 || d.block.Docs[0].Level != record.LevelError {
		t.Errorf("%d documents are kept", len(d.block.Docs))
	}
	var counts Counts
	d.cfg.Count = func(n Counts) { counts = n }
	d.tell()
	if counts.Lines != 3 || counts.Kept != [record.Levels]int{record.LevelNone: 1, record.LevelError: 1} || d.counts != (Counts{}) {
		t.Errorf("%+v is told of 3 documents, of which one was not kept", counts)
	}
}

// BenchmarkPass measures what the indexer does with a document of an agent.
func BenchmarkPass(b *testing.B) {
	d := testDocuments(all)
	text, id := own(record.LevelError)
	text, id = strings.Replace(text, id, "k3v9x2ma-8f3kq09zt5mw-280042", 1), "k3v9x2ma-8f3kq09zt5mw-280042"
	text = text[:len(text)-1] + `,"message":"` + strings.Repeat("x", 400) + `"}`
	d.block = d.cfg.NewBlock()
	m := received(7, text, id)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if !d.pass(m) {
			b.Fatal("it does not pass")
		}
		if len(d.block.Docs) == 1000 {
			d.block.Renew(nil)
		}
	}
}
