package rig

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Tally is what was found of the numbered lines in the documents that were delivered.
type Tally struct {
	streams map[string]*stream
	ids     map[string]int // documents by id
	// Documents counts all of them.
	Documents int
	// Broken are documents that are not JSON, or lines whose CRC is wrong.
	Broken []string
}

// stream is what was found of one Lines.
type stream struct {
	times      []int // how often line n was found
	last       int   // the number of the last one found
	outOfOrder int
}

// numbered is a document of a line that Lines made, whether it was parsed as JSON or
// carried as the message.
type numbered struct {
	ID      string  `json:"id"`
	F       *string `json:"f"`
	N       int     `json:"n"`
	P       string  `json:"p"`
	C       string  `json:"c"`
	Message string  `json:"message"`
}

// Count reads the documents of all files that the patterns match, those ending in .gz
// decompressed, oldest first.
func Count(patterns ...string) (*Tally, error) {
	t := &Tally{streams: make(map[string]*stream), ids: make(map[string]int)}
	var names []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	byAge(names)
	for _, name := range names {
		data, err := ReadAll(name)
		if err != nil {
			return nil, err
		}
		t.add(name, data)
	}
	return t, nil
}

// byAge sorts the oldest first: of a file and its rotated ones, it is the one with the
// bare name that is newest.
func byAge(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case strings.HasPrefix(b, a):
			return 1
		case strings.HasPrefix(a, b):
			return -1
		}
		return strings.Compare(a, b)
	})
}

// ReadAll reads a file, decompressed when its name ends in .gz.
func ReadAll(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(name, ".gz") {
		return io.ReadAll(f)
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return io.ReadAll(zip)
}

// add counts the documents of one file. A last line without its end is left out: it
// may be on its way.
func (t *Tally) add(name string, data []byte) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return
		}
		var doc numbered
		if err := json.Unmarshal(data[:end], &doc); err != nil {
			t.Broken = append(t.Broken, fmt.Sprintf("%s: %.200q: %v", name, data[:end], err))
		} else {
			t.document(&doc)
		}
		data = data[end+1:]
	}
}

func (t *Tally) document(doc *numbered) {
	t.Documents++
	t.ids[doc.ID]++
	if doc.F == nil {
		if !strings.HasPrefix(doc.Message, `{"f":`) {
			return
		}
		if err := json.Unmarshal([]byte(doc.Message), doc); err != nil {
			t.Broken = append(t.Broken, fmt.Sprintf("%.200q: %v", doc.Message, err))
			return
		}
	}
	if sum := fmt.Sprintf("%08x", lineSum(*doc.F, doc.N, doc.P)); sum != doc.C {
		t.Broken = append(t.Broken, fmt.Sprintf("line %d of %s: its CRC is %s, want %s", doc.N, *doc.F, doc.C, sum))
		return
	}
	s := t.streams[*doc.F]
	if s == nil {
		s = &stream{last: -1}
		t.streams[*doc.F] = s
	}
	for len(s.times) <= doc.N {
		s.times = append(s.times, 0)
	}
	if s.times[doc.N] == 0 && doc.N < s.last {
		s.outOfOrder++
	}
	s.times[doc.N]++
	s.last = doc.N
}

// Found counts the different lines of the stream that were found.
func (t *Tally) Found(id string) int {
	n := 0
	if s := t.streams[id]; s != nil {
		for _, times := range s.times {
			if times > 0 {
				n++
			}
		}
	}
	return n
}

// Has tells whether line n of the stream was found.
func (t *Tally) Has(id string, n int) bool {
	s := t.streams[id]
	return s != nil && n < len(s.times) && s.times[n] > 0
}

// Exact returns an error unless every line of the streams was found once, in order,
// but for those that mayMiss (nil: none) excuses.
func (t *Tally) Exact(mayMiss func(id string, n int) bool, streams ...*Lines) error {
	err := t.Clean(mayMiss, streams...)
	for _, l := range streams {
		s := t.streams[l.ID]
		if s == nil {
			continue
		}
		if twice := spans(len(s.times), func(n int) bool { return s.times[n] > 1 }); twice != "" {
			err = errors.Join(err, fmt.Errorf("stream %s: more than once: %s", l.ID, twice))
		}
		if s.outOfOrder > 0 {
			err = errors.Join(err, fmt.Errorf("stream %s: %d lines came after a later one", l.ID, s.outOfOrder))
		}
	}
	for id, times := range t.ids {
		if times > 1 {
			err = errors.Join(err, fmt.Errorf("%d documents have the id %q", times, id))
			break
		}
	}
	return err
}

// Clean returns an error when a line of the streams is missing, but for those that
// mayMiss excuses, or a document is broken.
func (t *Tally) Clean(mayMiss func(id string, n int) bool, streams ...*Lines) error {
	var err error
	for _, l := range streams {
		missing := spans(l.N, func(n int) bool {
			return !t.Has(l.ID, n) && (mayMiss == nil || !mayMiss(l.ID, n))
		})
		if missing != "" {
			err = errors.Join(err, fmt.Errorf("stream %s: missing of %d lines: %s", l.ID, l.N, missing))
		}
		if s := t.streams[l.ID]; s != nil && len(s.times) > l.N {
			err = errors.Join(err, fmt.Errorf("stream %s: has line %d, only %d were written", l.ID, len(s.times)-1, l.N))
		}
	}
	if len(t.Broken) > 0 {
		err = errors.Join(err, fmt.Errorf("%d broken documents, the first: %s", len(t.Broken), t.Broken[0]))
	}
	return err
}

// spans writes the numbers below n for which is holds as 3-7, 12.
func spans(n int, is func(int) bool) string {
	var parts []string
	count := 0
	for i := 0; i < n; i++ {
		if !is(i) {
			continue
		}
		first := i
		for i+1 < n && is(i+1) {
			i++
		}
		count += i - first + 1
		if len(parts) < 8 {
			parts = append(parts, fmt.Sprintf("%d-%d", first, i))
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d (%s)", count, strings.Join(parts, ", "))
}
