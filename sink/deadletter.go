package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
	"github.com/tailwater/tailwater/record"
)

// Letter is one refused document: one line of a dead-letter file.
type Letter struct {
	Time    time.Time `json:"time"` // of the refusal
	Output  string    `json:"output"`
	Reason  string    `json:"reason"`
	Detail  string    `json:"detail,omitempty"`
	ID      string    `json:"id"`
	File    string    `json:"file,omitempty"`
	Offset  int64     `json:"offset"`
	Project string    `json:"project,omitempty"`
	// Document is the document as it was sent; a JSON string of its bytes when it
	// is not a JSON object.
	Document json.RawMessage `json:"document"`

	at int64 // where its line begins in its file
}

// The defaults of a DeadConfig.
const (
	DefaultDeadFileBytes  = 64 << 20
	DefaultDeadTotalBytes = 1 << 30
)

// DeadConfig says where dead letters are kept, and how many. Zero numbers are the
// defaults.
type DeadConfig struct {
	Dir        string // one directory for all outputs; created when needed
	FileBytes  int64  // a file is ended at about this size
	TotalBytes int64  // of all files; beyond it the oldest file is deleted
	Log        *slog.Logger
	// Dropped is called with the number of letters in a file that was deleted
	// because of TotalBytes; nil is nobody.
	Dropped func(output string, lines int)
}

// DeadLetters keeps the documents that the outputs refused, each with the reason
// and the origin, in files OUTPUT-YYYYMMDDTHHMMSS[-n].ndjson. Nothing is appended to
// a file of an earlier run, whose last line a crash may have torn.
type DeadLetters struct {
	DeadConfig
	mu    sync.Mutex // guards what follows
	open  map[string]*deadFile
	total int64  // bytes of all files
	known bool   // total has been counted
	busy  string // the file that is being replayed
	buf   []byte
}

type deadFile struct {
	f    *os.File
	path string
	size int64
}

// NewDeadLetters returns a store in c.Dir; the directory is touched at the first
// letter.
func NewDeadLetters(c DeadConfig) *DeadLetters {
	if c.FileBytes <= 0 {
		c.FileBytes = DefaultDeadFileBytes
	}
	if c.TotalBytes <= 0 {
		c.TotalBytes = DefaultDeadTotalBytes
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &DeadLetters{DeadConfig: c, open: make(map[string]*deadFile)}
}

// Park implements Parker: all letters of a call are one write and one fsync.
func (d *DeadLetters) Park(output string, refs []record.Ref, refused []Refusal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.buf = d.buf[:0]
	now := time.Now().UTC()
	for _, r := range refused {
		d.buf = appendLetter(d.buf, output, now, refs[r.Index], r)
	}
	if err := d.writeLocked(output, now, d.buf); err != nil {
		return fmt.Errorf("park %d documents that output %s refused: %w; they wait in memory and are tried again", len(refused), output, err)
	}
	d.boundLocked()
	if cap(d.buf) > 1<<20 {
		d.buf = nil
	}
	return nil
}

// appendLetter writes a letter by hand, because its document must stay as it is,
// byte for byte.
func appendLetter(dst []byte, output string, now time.Time, ref record.Ref, r Refusal) []byte {
	doc := ref.JSON()
	var origin struct {
		File    string
		Offset  int64
		Project string
	}
	isJSON := len(doc) > 0 && doc[0] == '{' && json.Valid(doc)
	if isJSON {
		// Fields of other types than expected are no reason not to park.
		_ = json.Unmarshal(doc, &origin)
	}
	if o := ref.Doc().Origin; o != nil && origin.Project == "" {
		origin.Project = o.Project
	}
	text := func(key, value string) {
		dst = append(dst, key...)
		dst = append(record.AppendEscaped(append(dst, '"'), []byte(value)), '"')
	}
	dst = append(dst, `{"time":"`...)
	dst = append(now.AppendFormat(dst, "2006-01-02T15:04:05.000Z"), '"')
	text(`,"output":`, output)
	text(`,"reason":`, r.Reason)
	if r.Detail != "" {
		text(`,"detail":`, r.Detail)
	}
	text(`,"id":`, string(ref.ID()))
	if origin.File != "" {
		text(`,"file":`, origin.File)
	}
	dst = fmt.Appendf(dst, `,"offset":%d`, origin.Offset)
	if origin.Project != "" {
		text(`,"project":`, origin.Project)
	}
	if !isJSON {
		text(`,"document":`, string(doc))
		return append(dst, "}\n"...)
	}
	dst = append(dst, `,"document":`...)
	if bytes.ContainsAny(doc, "\n\r") { // a letter is a line
		var line bytes.Buffer
		_ = json.Compact(&line, doc)
		doc = line.Bytes()
	}
	return append(append(dst, doc...), "}\n"...)
}

func (d *DeadLetters) writeLocked(output string, now time.Time, data []byte) error {
	df := d.open[output]
	if df != nil && df.gone() {
		df.f.Close()
		df = nil
	}
	if df != nil && df.size > 0 && df.size+int64(len(data)) > d.FileBytes {
		if err := df.f.Close(); err != nil {
			d.Log.Warn("dead-letter file did not close well", "file", df.path, "error", err)
		}
		df = nil
	}
	if df == nil {
		delete(d.open, output)
		var err error
		if df, err = d.create(output, now); err != nil {
			return err
		}
		d.open[output] = df
	}
	_, err := df.f.WriteAt(data, df.size)
	if err == nil {
		err = df.f.Sync()
	}
	if err != nil {
		// Leave no torn line. After a failed fsync the file's pages are not to be
		// trusted: the next try begins a new one.
		delete(d.open, output)
		return errors.Join(err, df.f.Truncate(df.size), df.f.Close())
	}
	df.size += int64(len(data))
	d.total += int64(len(data))
	return nil
}

// gone reports whether somebody deleted or moved the file.
func (df *deadFile) gone() bool {
	at, err := os.Stat(df.path)
	if err != nil {
		return true
	}
	is, err := df.f.Stat()
	return err != nil || !os.SameFile(at, is)
}

func (d *DeadLetters) create(output string, now time.Time) (*deadFile, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(d.Dir, string(PathNaming.appendValue(nil, output))+"-"+now.Format(stampLayout))
	for n := 0; ; n++ {
		path := name + deadSuffix
		if n > 0 {
			path = fmt.Sprintf("%s-%d%s", name, n, deadSuffix)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := atomicfile.SyncDir(d.Dir); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(path))
		}
		return &deadFile{f: f, path: path}, nil
	}
}

// boundLocked deletes the oldest files while all together are too large.
func (d *DeadLetters) boundLocked() {
	if d.known && d.total <= d.TotalBytes {
		return
	}
	files, err := ListLetters(d.Dir)
	if err != nil {
		d.Log.Error("dead letters cannot be listed, so their size is not bounded", "dir", d.Dir, "error", err)
		return
	}
	d.known, d.total = true, 0
	for _, f := range files {
		d.total += f.Size
	}
	for _, f := range files { // oldest first
		if d.total <= d.TotalBytes {
			return
		}
		if d.isOpenLocked(f.Path) || f.Path == d.busy {
			continue
		}
		d.deleteLocked(f)
	}
}

func (d *DeadLetters) isOpenLocked(path string) bool {
	for _, df := range d.open {
		if df.path == path {
			return true
		}
	}
	return false
}

func (d *DeadLetters) deleteLocked(f LetterFile) {
	lines, err := countLetters(f.Path)
	if err == nil {
		err = os.Remove(f.Path)
	}
	if err != nil {
		d.Log.Error("dead letters are over their limit, and the oldest file cannot be deleted", "file", f.Path, "error", err)
		return
	}
	d.total -= f.Size
	d.Log.Error("dead letters were over their limit: the oldest file was deleted, its documents are lost", "file", f.Path, "documents", lines, "limit_bytes", d.TotalBytes)
	if d.Dropped != nil {
		d.Dropped(f.Output, lines)
	}
}

// Close closes the files.
func (d *DeadLetters) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for output, df := range d.open {
		errs = append(errs, df.f.Close())
		delete(d.open, output)
	}
	return errors.Join(errs...)
}

const (
	stampLayout = "20060102T150405"
	deadSuffix  = ".ndjson"
)

// splitDeadName takes OUTPUT-YYYYMMDDTHHMMSS[-n].ndjson apart.
func splitDeadName(name string) (output string, at time.Time, ok bool) {
	stem, ok := strings.CutSuffix(name, deadSuffix)
	if !ok {
		return "", time.Time{}, false
	}
	for range 2 { // with a number at its end, or without
		i := strings.LastIndexByte(stem, '-')
		if i <= 0 {
			break
		}
		if at, err := time.Parse(stampLayout, stem[i+1:]); err == nil {
			return stem[:i], at, true
		}
		stem = stem[:i]
	}
	return "", time.Time{}, false
}
