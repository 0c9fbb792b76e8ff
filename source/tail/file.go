package tail

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Progress is what a reader keeps with a file: where its outputs have got to, and
// what must be read again as it was read before.
type Progress struct {
	// Pos is, per output, the position before which it has everything.
	Pos map[string]record.Pos `json:"pos,omitempty"`
	// Sums are, per output, what lies before that position, and Lost the ranges that
	// some output will never have: for the ledger.
	Sums   map[string]record.Sum `json:"sums,omitempty"`
	Lost   []record.Lost         `json:"lost,omitempty"`
	Cuts   []record.Cut          `json:"cuts,omitempty"`
	Format string                `json:"format,omitempty"`
	// Head is the number of leading bytes that belong to the last event of the
	// generation before.
	Head int64 `json:"head,omitempty"`
	// Notes are whatever else the reader wants to find again with the file. They are not
	// changed once they are set.
	Notes json.RawMessage `json:"notes,omitempty"`
}

// GoneError says that bytes can never be read.
type GoneError struct {
	// From and To frame the bytes. To is the file's end as far as it was seen.
	From, To int64
	// Reason is one of Reasons.
	Reason string
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("the bytes from %d to %d are gone (%s)", e.From, e.To, e.Reason)
}

// The reasons of a GoneError.
const (
	reasonTruncated   = "truncated"
	reasonDeleted     = "deleted"
	reasonHeldDeleted = "held_deleted"
	reasonCorrupt     = "gzip_corrupt"
)

// Reasons are all of them.
var Reasons = []string{reasonTruncated, reasonDeleted, reasonHeldDeleted, reasonCorrupt}

// File is one generation of one log. Its bytes may move to another name, into a copy
// or a .gz; readers do not notice. Its methods may be called from any goroutine.
type File struct {
	source   *Source
	gen      string
	path     string
	captures []record.KeyValue
	start    record.Pos

	next    atomic.Pointer[File]
	prev    atomic.Pointer[File]
	reached atomic.Int64 // how far the first reader has come
	used    atomic.Int64 // when it was last read, Unix nanoseconds

	// What follows is guarded by Source.mu.

	order    int64 // places it among its family, Unix nanoseconds
	scan     uint64
	stopped  bool // of no input that is configured
	released bool // handed out
	listed   bool // it has a home
	inFiles  bool // in Source.files, from which it is dropped by the sweep
	inHot    bool
	inNews   bool
	racy     bool      // its time is too new to tell of the next change
	stuck    bool      // it cannot be opened, and must not hold up the next
	lookedAt time.Time // when its name was last looked at
	changed  time.Time // when it was last seen to grow or move
	deleted  time.Time // when it was seen to be deleted; zero when it is not
	askedAt  time.Time // when it was last asked who can write to it
	over     bool      // the answer: nobody
	lostAs   string    // the reason for that
	lostAt   time.Time // since when it has had no home and no descriptor; zero when it has

	// mu guards what follows, for readers and savers; it is written with Source.mu
	// held, too, but for fd, size, mark, ended and what belongs to saving.
	mu        sync.Mutex
	input     string
	family    *family
	skip      bool      // on disk when the family was first seen, and not to be read
	tombAt    time.Time // since when it has been gone and delivered
	durable   bool      // it is in the journal
	home      string    // where its bytes are; "" in a deleted file, or nowhere
	gzip      bool      // they are compressed there
	zipEnd    uint64    // the gzipEnd at the last look at its home; 0: not known
	copied    bool      // they are in a copy, which does not grow
	id        stat      // the last look at its home
	head      fingerprint
	mark      mark
	copyMark  mark    // how far a copy goes that was seen while it lived
	marks     [4]mark // those before it, the newest first
	size      int64   // the end as far as it was seen, in decompressed bytes
	known     int64   // as size, but never a guess: these bytes have been there
	solid     int64   // NULs before it are a hole: text follows them
	sizeGuess bool    // size is what the .gz says of itself
	ended     bool
	gone      string // the reason why it can never be read; "" when it can
	goneFrom  int64  // what the slowest output had of it then
	fd        *os.File
	conn      syscall.RawConn // fd's
	fdIndex   int             // in Source.descriptors, guarded by that
	told      bool            // that its .gz is damaged

	least    int64     // the least of the outputs' positions
	progress *Progress // when it differs from what the journal has
	dirty    bool      // in Source.unsaved; guarded by Source.saving
}

// Gen is the generation's name, minted at first sight: part of its lines' ids.
func (f *File) Gen() string { return f.gen }

// Path is the path under which it was first seen.
func (f *File) Path() string { return f.path }

// Watched is the path that the input's pattern names: the file's own, and for a rotated
// sibling or what a symbolic link leads to that of the log it belongs to.
func (f *File) Watched() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.family.via
}

// Input is the name of the input that reads it.
func (f *File) Input() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.input
}

// Captures are the fields that the input's pattern takes from the path. They belong
// to the file.
func (f *File) Captures() []record.KeyValue { return f.captures }

// CurrentPath is where its bytes are now, and where they were last when they are gone.
func (f *File) CurrentPath() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.home == "" {
		return f.path
	}
	return f.home
}

// Size is the file's end as far as it is known, in decompressed bytes. Of a .gz that
// has not been read to its end it is an estimate, and more than what has been read.
func (f *File) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// Undelivered is the number of bytes before Size that some output has not got, as far as
// SetProgress has told.
func (f *File) Undelivered() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size - f.least
}

// ModTime is when it was last written to.
func (f *File) ModTime() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Unix(0, f.id.mtime)
}

// Ended reports whether no byte will be appended any more, as far as one can tell.
func (f *File) Ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// Next is the generation after it in its family, nil while there is none.
func (f *File) Next() *File { return f.next.Load() }

// Prev is the generation before it in its family, nil when there is none.
func (f *File) Prev() *File { return f.prev.Load() }

// Start is where an output without a position begins.
func (f *File) Start() record.Pos { return f.start }

// Reached tells how far the file has been read: the next generation is handed out
// when this one has been read to its end.
func (f *File) Reached(off int64) {
	for {
		was := f.reached.Load()
		if off <= was {
			return
		}
		if f.reached.CompareAndSwap(was, off) {
			break
		}
	}
	if f.next.Load() != nil && off >= f.Size() {
		f.source.wakeUp(true)
	}
}

// Progress returns what the reader keeps with the file. It belongs to the caller.
func (f *File) Progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progressLocked()
}

func (f *File) progressLocked() Progress {
	if f.progress != nil {
		return f.progress.clone()
	}
	return f.savedProgress()
}

// savedProgress is what the journal has of it.
func (f *File) savedProgress() Progress {
	var p Progress
	if raw, ok := f.source.store.Get(f.key()); ok {
		if err := json.Unmarshal(raw, &p); err != nil {
			f.source.log.Error("what the state holds of a file is unreadable; it is read from where it began", "file", f.path, "error", err)
		}
	}
	return p
}

// SetProgress keeps p with the file, to be written by the next Save, and by nothing
// before it. It belongs to the file from now on.
func (f *File) SetProgress(p Progress) {
	f.mu.Lock()
	f.progress = &p
	f.least = p.least(f.reached.Load())
	f.mu.Unlock()
	f.source.mustSave(f)
}

func (p *Progress) clone() Progress {
	c := *p
	c.Pos = make(map[string]record.Pos, len(p.Pos))
	for output, pos := range p.Pos {
		c.Pos[output] = pos
	}
	c.Sums = maps.Clone(p.Sums)
	c.Lost = slices.Clone(p.Lost)
	c.Cuts = append([]record.Cut(nil), p.Cuts...)
	return c
}

// least is the least of the outputs' positions, or otherwise where there are none.
func (p *Progress) least(otherwise int64) int64 {
	least := int64(-1)
	for _, pos := range p.Pos {
		if least < 0 || pos.Off < least {
			least = pos.Off
		}
	}
	if least < 0 {
		return otherwise
	}
	return least
}

// homeless reports whether its bytes are nowhere that is known. Source.mu is held.
func (f *File) homeless() bool { return f.home == "" && f.openNow() == nil }

// openNow is its descriptor, nil while it has none.
func (f *File) openNow() *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fd
}

// remarkLocked makes m the mark and keeps the one before it.
func (f *File) remarkLocked(m mark) {
	if f.mark.Off > 0 && f.mark != m {
		copy(f.marks[1:], f.marks[:])
		f.marks[0] = f.mark
	}
	f.mark = m
}

func (f *File) markNow() mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark
}

// readOut reports whether it has been read to its end, or cannot be. Source.mu is held.
func (f *File) readOut() bool {
	if f.skip || f.stopped || f.stuck || !f.tombAt.IsZero() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached.Load() >= f.size && !(f.sizeGuess && f.gone == "")
}

// delivered reports whether all outputs have all of it.
func (f *File) delivered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.skip || f.least >= f.size && !(f.sizeGuess && f.gone == "")
}
