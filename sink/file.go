package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tailwater/tailwater/record"
)

// Fsync says when a file output's documents are forced to the disk.
type Fsync string

const (
	// FsyncCheckpoint forces them out before each checkpoint: what a checkpoint
	// counts as delivered survives a loss of power.
	FsyncCheckpoint Fsync = "checkpoint"
	// FsyncAlways forces each batch out before it is acknowledged.
	FsyncAlways Fsync = "always"
	// FsyncNever leaves it to the kernel: a loss of power may lose lines.
	FsyncNever Fsync = "never"
)

// Notes is a durable map for what must be known after a crash although no
// checkpoint has it yet: which files were begun. A journal is one, and may be shared;
// the keys begin with output/NAME/.
type Notes interface {
	Range(f func(key string, value []byte))
	// Commit stores the entries durably and all together; a nil value deletes.
	Commit(entries map[string]json.RawMessage) error
}

// FileConfig describes a file output. Zero values are the defaults.
type FileConfig struct {
	Name string // the output's; part of the keys of its notes
	// Path is the template of the files' paths: out/{project}-{date}.ndjson.
	Path string
	// Rotate is the size in bytes beyond which a file is renamed to
	// PATH.YYYYMMDDTHHMMSS and a new one begun; 0 is never.
	Rotate int64
	// RotateEvery is the age at which that is done; 0 is never.
	RotateEvery time.Duration
	// Gzip compresses rotated files, once a checkpoint has them.
	Gzip bool
	// Fsync is FsyncCheckpoint when empty.
	Fsync Fsync
	// MaxOpen bounds the open files; 0 is 64.
	MaxOpen int
	// Notes may be nil where nothing has to survive: then Restore does not know the
	// files that were begun after the last checkpoint, and leaves them as they are.
	Notes Notes
	Log   *slog.Logger
	// Lost is called with the number of acknowledged lines that are gone because
	// somebody deleted or cut a file before a checkpoint had them; nil is nobody.
	Lost func(lines int, reason string)
}

const (
	defaultMaxOpen = 64
	leastMaxOpen   = 4                // a file and the one that takes its place, with some room
	lookAgainAfter = time.Second      // a file's path is compared with what is open
	closeIdleAfter = 10 * time.Minute // files that are not written to
	directBytes    = 64 << 10         // a run of this size is written from where it is
	gatherBytes    = 256 << 10        // smaller ones are copied together up to this size
	fileMode       = 0o640
	dirMode        = 0o750
)

// File appends documents to files, one line each. It writes a batch whole or not at
// all, and can cut its files back to a checkpoint.
//
// The life of a file: begun (a note tells its inode and length before the first
// write), appended to, listed with its length in each checkpoint as long as it
// changes or is open, rotated, and forgotten when it has not changed since the last
// checkpoint.
type File struct {
	FileConfig
	now    func() time.Time
	fields []string // of the path's template

	mu    sync.Mutex // guards what follows
	names *Names
	files map[string]*outFile // by path, the files that are appended to
	left  []*outFile          // renamed since the last checkpoint: never appended to again
	open  int                 // files with a descriptor
	clock uint64              // counts uses, for the choice of whom to close
	batch []*outFile          // those that the batch under way goes to
	buf   []byte              // small runs are gathered here
	dirs  map[string]bool     // directories with new names that are not fsynced

	// period counts checkpoints: notes and changes carry the period they were made
	// in, and a state that covers period n makes all up to n needless.
	period    uint64
	saved     uint64 // the newest state that is known to be on disk covers it
	noteSeq   uint64
	notes     map[string]uint64 // the keys that are stored, with their periods
	pending   []string          // rotated files to be compressed
	zipping   sync.WaitGroup
	zipActive bool
	zipStop   context.CancelFunc
	zipCtx    context.Context
}

// NewFile returns a file output. Call Restore before the first Send.
func NewFile(c FileConfig) (*File, error) {
	if _, err := Compile(c.Path, PathNaming); err != nil {
		return nil, err
	}
	// Where the process stands must not matter to a state that outlives it.
	abs, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", c.Name, err)
	}
	tpl, err := Compile(abs, PathNaming)
	if err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxOpen <= 0 {
		c.MaxOpen = defaultMaxOpen
	}
	c.MaxOpen = max(c.MaxOpen, leastMaxOpen)
	if c.Fsync == "" {
		c.Fsync = FsyncCheckpoint
	}
	if c.Lost == nil {
		c.Lost = func(int, string) {}
	}
	s := &File{
		FileConfig: c, now: time.Now, names: tpl.Names(), fields: tpl.Fields(),
		files: make(map[string]*outFile), dirs: make(map[string]bool),
		period: 1, notes: make(map[string]uint64),
	}
	s.zipCtx, s.zipStop = context.WithCancel(context.Background())
	return s, nil
}

// Fields returns the names in the path that blocks need as route keys.
func (s *File) Fields() []string { return s.fields }

// Send implements Sink: it appends the batch to its files, all of it or nothing.
func (s *File) Send(_ context.Context, batch *Batch, done func(Result)) {
	if err := s.write(batch); err != nil {
		done(Result{Err: err, Reason: reasonOf(err)})
		return
	}
	done(Result{})
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "disk_full"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "permission"
	}
	return "io"
}

// write groups the batch by file and writes each file's documents in as few calls
// as their memory allows.
func (s *File) write(batch *Batch) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.group(batch.Refs, now)
	defer s.forgetBatch()
	if err := s.prepare(now); err != nil {
		return fmt.Errorf("output %s: %w; nothing was written, the documents are tried again", s.Name, err)
	}
	for i, o := range s.batch {
		if err = s.append(o); err == nil && s.Fsync == FsyncAlways {
			err = o.f.Sync()
		}
		if err != nil {
			s.cutBack(s.batch[:i+1])
			return fmt.Errorf("output %s: %w; the files were cut back to their last whole batch, the documents are tried again", s.Name, err)
		}
	}
	for _, o := range s.batch {
		o.grow(s.period, now)
	}
	return nil
}

// group hands the documents to their files as runs: documents that follow each
// other in a block are one piece of memory.
func (s *File) group(refs []record.Ref, now time.Time) {
	milli := now.UnixMilli()
	var (
		o    *outFile
		name string
		run  record.Ref // the first of the run under way
		end  int        // the index after its last
	)
	flush := func() {
		if o != nil {
			docs := run.Block.Docs
			o.runs = append(o.runs, run.Block.Data[docs[run.Index].Start:docs[end-1].End+1])
			o.runLines += end - run.Index
		}
	}
	for _, ref := range refs {
		to := s.names.Of(ref, milli)
		if o != nil && to == name && ref.Block == run.Block && ref.Index == end {
			end++
			continue
		}
		flush()
		if o == nil || to != name {
			name, o = to, s.destination(to)
		}
		run, end = ref, ref.Index+1
	}
	flush()
}

// destination returns the file of that path as one of the batch's.
func (s *File) destination(path string) *outFile {
	o := s.files[path]
	if o == nil {
		o = &outFile{path: path}
		s.files[path] = o
	}
	if !o.inBatch {
		o.inBatch = true
		s.batch = append(s.batch, o)
	}
	return o
}

func (s *File) forgetBatch() {
	for _, o := range s.batch {
		clear(o.runs)
		o.runs, o.runLines, o.inBatch = o.runs[:0], 0, false
		if o.ino == 0 { // could not be opened
			delete(s.files, o.path)
		}
	}
	clear(s.batch)
	s.batch = s.batch[:0]
}

// prepare opens, rotates and looks after the batch's files, and notes those that
// are new before a byte is written to them.
func (s *File) prepare(now time.Time) (err error) {
	var begun []*outFile
	defer func() {
		if err != nil { // they are begun, and noted, again the next time
			for _, o := range begun {
				s.forget(o)
			}
		}
	}()
	var notes []note
	for _, o := range s.batch {
		isNew, err := s.ready(o, now)
		if err == nil && !isNew && s.rotationDue(o, now) {
			if err = s.rotate(o, now); err == nil {
				isNew, err = s.ready(o, now)
			}
		}
		if err != nil {
			return err
		}
		if isNew {
			begun, notes = append(begun, o), append(notes, o.begun())
		}
	}
	return s.note(notes...)
}

// append writes the batch's documents for o, which grows only with the whole batch.
func (s *File) append(o *outFile) error {
	if err := s.reopen(o); err != nil {
		return err
	}
	o.rewind()
	s.buf = s.buf[:0]
	if o.needsNewline {
		s.buf = append(s.buf, '\n')
	}
	for _, run := range o.runs {
		if len(s.buf)+len(run) > gatherBytes {
			if err := o.write(s.buf); err != nil {
				return err
			}
			s.buf = s.buf[:0]
		}
		if len(s.buf) > 0 || len(run) < directBytes {
			s.buf = append(s.buf, run...)
			continue
		}
		if err := o.write(run); err != nil {
			return err
		}
	}
	return o.write(s.buf)
}

// cutBack takes a batch that failed out of the files that have a part of it.
func (s *File) cutBack(files []*outFile) {
	for _, o := range files {
		o.torn = true
		if err := s.mend(o); err != nil {
			s.Log.Error("a batch that failed cannot be taken out of a file yet; nothing more is written to it until it can", "output", s.Name, "file", o.path, "error", err)
		}
	}
}

// Close closes the files and ends a compression that is under way; it is begun
// again after the next start. Without a Commit before it, the next Restore takes
// back what was written since the last.
func (s *File) Close() error {
	s.zipStop()
	s.zipping.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, o := range s.files {
		errs = append(errs, s.closeFile(o))
	}
	for _, o := range s.left {
		errs = append(errs, s.closeFile(o))
	}
	return errors.Join(errs...)
}
