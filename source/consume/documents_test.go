package consume

import (
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"

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

// own is a document as an agent ships it, with its headers.
func own(level record.Level) (string, []protocol.Header) {
	b := record.NewBlock(nil, nil, nil)
	r := new(record.Record)
	r.Reset()
	r.Level = level
	r.Add("request_id", []byte("r-7"), record.Text)
	b.Append(record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Host: "h1", Input: "in", Project: "shop"}), r, 1795464000123, true, 42)
	return string(b.JSON(0)), []protocol.Header{{Key: "id", Value: b.ID(0)}, {Key: "project", Value: []byte("shop")}, {Key: "time"}}
}

func message(offset int64, value string, headers []protocol.Header) *protocol.Record {
	return &protocol.Record{Offset: offset, Time: time.Unix(1795464005, 0), Value: protocol.NewBytes([]byte(value)), Headers: headers}
}

func TestOwnDocumentsPassAsTheyAre(t *testing.T) {
	d := testDocuments(all)
	text, headers := own(record.LevelError)
	if err := d.add(message(7, text, headers)); err != nil {
		t.Fatal(err)
	}
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
	text, headers := own(record.LevelError)
	for name, m := range map[string]*protocol.Record{
		"no headers":            message(7, text, nil),
		"another id":            message(7, text, []protocol.Header{{Key: "id", Value: []byte("x")}}),
		"two lines in a value":  message(7, text[:len(text)-1]+"\n}", headers),
		"torn":                  message(7, text[:len(text)-1], headers),
		"plain":                 message(7, "plain words", nil),
		"nothing but an id":     message(7, "", headers),
		"shorter than its head": message(7, `{"@timestamp":"`, headers),
	} {
		d := testDocuments(all)
		if err := d.add(m); err != nil {
			t.Fatal(err)
		}
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
	if err := d.add(&protocol.Record{Offset: 1}); err != nil || d.block != nil {
		t.Errorf("%v, %v", err, d.block)
	}
}

func TestKeepHoldsForWhatPasses(t *testing.T) {
	d := testDocuments(func(l record.Level) bool { return l != record.LevelInfo })
	for _, l := range []record.Level{record.LevelInfo, record.LevelError} {
		text, headers := own(l)
		if err := d.add(message(7, text, headers)); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.block.Docs) != 1 || d.block.Docs[0].Level != record.LevelError {
		t.Errorf("%d documents are kept", len(d.block.Docs))
	}
}

func TestOffsetsAreCommittedUpToTheFirstThatIsUnderWay(t *testing.T) {
	p := newPartition(&Source{Config: Config{NewParser: func() Parser { return words{} }}}, partitionID{"t", 0}, 0)
	first, second := p.begin(10), p.begin(20)
	p.pass(25)
	if _, moved := p.toCommit(); moved {
		t.Error("something is to be committed before anything is delivered")
	}
	second()
	if at, moved := p.toCommit(); moved {
		t.Errorf("committed to %d while 0 to 10 is under way", at)
	}
	first()
	if at, moved := p.toCommit(); !moved || at != 25 || p.busy() {
		t.Errorf("committed to %d", at)
	}
	p.committed(25)
	if _, moved := p.toCommit(); moved {
		t.Error("committed twice")
	}
}

// BenchmarkPass measures what the indexer does with a document of an agent.
func BenchmarkPass(b *testing.B) {
	d := testDocuments(all)
	text, headers := own(record.LevelError)
	text = text[:len(text)-1] + `,"message":"` + strings.Repeat("x", 400) + `"}`
	d.block = d.cfg.NewBlock()
	d.text = []byte(text)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if !d.pass(headers[0].Value, headers[1].Value) {
			b.Fatal("it does not pass")
		}
		if len(d.block.Docs) == 1000 {
			d.block.Renew(nil)
		}
	}
}
