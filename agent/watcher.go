package agent

import (
	"fmt"
	"strings"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/consume"
)

// watcher shows the rules and the reports what one partition of a kafka input holds,
// each record once: how far the counting has come is in the engine and in the book under
// the partition's name, as it is for a file. One goroutine at a time uses it.
type watcher struct {
	alerts *alerts
	input  string
	name   string

	passed, listed int64 // the offsets before which rules and reports have counted
	// others is for what is made here; own, by the input by which another tailwater has
	// read them, for its documents.
	others  *taps
	own     map[string]*taps
	current *taps // of those, for the input before
	before  string

	rules []*alert.Tap // room for Flush
	days  []*report.Tap

	rec     record.Record
	text    []byte
	strings map[string]string // of hosts, files and inputs
}

const (
	// watchedPrefix begins the names of partitions, as a file has its generation's.
	watchedPrefix = "kafka:"
	// maxBefore bounds the inputs whose documents have entrances of their own; those of
	// others are taken for what no rule has counted yet.
	maxBefore = 64
	// maxStrings bounds what hostile documents can have remembered.
	maxStrings = 4096
)

// watch makes the watcher of a partition, of which everything before the offset counted
// was counted by members of the group, here or elsewhere.
func (al *alerts) watch(in *input, topic string, partition int, counted int64) consume.Watcher {
	w := &watcher{alerts: al, input: in.name, name: fmt.Sprint(watchedPrefix, in.name, "/", topic, "/", partition),
		own: make(map[string]*taps), strings: make(map[string]string)}
	project := in.cfg.Project
	if project == "" {
		project = in.name
	}
	w.others = new(taps)
	o := record.NewOrigin(record.OriginFields{Machine: "kafka", Host: al.agent.host, Input: in.name, Project: project,
		File: fmt.Sprintf("kafka:%s/%d", topic, partition), Extra: in.cfg.Constants()})
	al.mu.Lock()
	engine, watched := al.engine, al.watches(in.name, true)
	if watched {
		al.counted[w.name] = struct{}{}
	}
	al.mu.Unlock()
	if watched {
		w.others.rules = engine.Tap(w.name, in.name, true, o)
		pos, _ := engine.Counted(w.name)
		w.passed = max(pos.Off, counted)
	}
	if w.others.days = al.book.Tap(w.name, in.name, true, o); w.others.days != nil {
		pos, _ := al.book.Counted(w.name)
		w.listed = max(pos.Off, counted)
	}
	return w
}

// tapsOf are the entrances for documents that came to Kafka by that input.
func (w *watcher) tapsOf(before string) *taps {
	if w.current != nil && w.before == before {
		return w.current
	}
	t := w.own[before]
	if t == nil && len(w.own) >= maxBefore {
		before = ""
		t = w.own[before]
	}
	if t == nil {
		t = new(taps)
		o := record.NewOrigin(record.OriginFields{Input: before})
		if w.others.rules != nil {
			t.rules = w.alerts.current().TapPassing(w.name, w.input, before, o)
		}
		t.days = w.alerts.book.TapPassing(w.name, w.input, before, o)
		w.own[before] = t
	}
	w.current, w.before = t, before
	return t
}

// Document shows a document that another tailwater has shipped.
func (w *watcher) Document(offset int64, doc []byte, idLen int, unixMilli int64) {
	if offset < min(w.passed, w.listed) {
		return
	}
	r := &w.rec
	r.Decode(doc, idLen)
	t := w.tapsOf(w.value("input"))
	text := w.textOf(doc)
	if t.rules != nil && offset >= w.passed {
		t.rules.From(w.value("host"), w.value("file"))
		t.rules.Observe(r, unixMilli, text)
	}
	if t.days != nil && offset >= w.listed {
		t.days.Observe(r, unixMilli, text)
	}
}

// textOf is what is shown of a document: its message, where it has one.
func (w *watcher) textOf(doc []byte) []byte {
	message, ok := w.rec.Get("message")
	if v := message.Val; ok && len(v) >= 2 && v[0] == '"' {
		w.text = record.AppendUnescaped(w.text[:0], v[1:len(v)-1])
		return w.text
	}
	return doc
}

// value is the text of a field that few documents have values of their own of.
func (w *watcher) value(key string) string {
	f, ok := w.rec.Get(key)
	v := f.Val
	if !ok || len(v) < 2 || v[0] != '"' {
		return ""
	}
	v = v[1 : len(v)-1]
	if s, known := w.strings[string(v)]; known {
		return s
	}
	if len(w.strings) >= maxStrings {
		clear(w.strings)
	}
	s := string(record.AppendUnescaped(nil, v))
	w.strings[string(v)] = s
	return s
}

// Record shows what was made of a record that is no document.
func (w *watcher) Record(offset int64, r *record.Record, unixMilli int64, text []byte) {
	if w.others.rules != nil && offset >= w.passed {
		w.others.rules.Observe(r, unixMilli, text)
	}
	if w.others.days != nil && offset >= w.listed {
		w.others.days.Observe(r, unixMilli, text)
	}
}

// Flush counts what was shown.
func (w *watcher) Flush(next int64, atEnd bool) {
	further := next > w.passed
	w.passed, w.listed = max(w.passed, next), max(w.listed, next)
	w.rules, w.days = w.rules[:0], w.days[:0]
	w.each(func(t *taps) {
		if t.rules != nil {
			w.rules = append(w.rules, t.rules)
		}
		if t.days != nil {
			w.days = append(w.days, t.days)
		}
	})
	w.alerts.current().FlushAll(w.rules, record.Pos{Off: w.passed}, atEnd)
	w.alerts.book.FlushAll(w.days, record.Pos{Off: w.listed}, atEnd)
	if further {
		w.alerts.changed.Store(true) // only now: a snapshot taken before may lack it
	}
}

// Begin counts from the beginning when the partition is shorter than what was counted:
// its topic was deleted and made anew.
func (w *watcher) Begin(end int64) {
	if end < w.passed {
		w.passed = 0
	}
	if end < w.listed {
		w.listed = 0
	}
}

// Close ends the part in the engine and the book; what has been counted stays.
func (w *watcher) Close() { w.each((*taps).close) }

func (w *watcher) each(do func(*taps)) {
	do(w.others)
	for _, t := range w.own {
		do(t)
	}
}

// isPartition tells whether what was counted under that name is a partition, of which
// nobody can tell when it is gone for good.
func isPartition(name string) bool { return strings.HasPrefix(name, watchedPrefix) }
