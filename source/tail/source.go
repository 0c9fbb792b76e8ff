package tail

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailwater/tailwater/internal/journal"
)

var errNotRegular = errors.New("not a regular file")

// Input is a set of files that are read alike.
type Input struct {
	Name string
	// Files are patterns of paths, see Glob. A file that several match is read once.
	Files []string
	// Exclude are patterns of what is left alone; one without a slash is matched with
	// a file's name.
	Exclude []string
	// FromEnd skips what the files hold that are there when a pattern is looked at for
	// the first time ever.
	FromEnd bool
	// IgnoreOlder skips what unknown files hold that were last written to longer ago; 0 reads
	// them.
	IgnoreOlder time.Duration
	// Wide says that they are in UTF-16, where a NUL may be half of a character.
	Wide bool
}

// Options are what a Source is made from.
type Options struct {
	Inputs []Input
	// Store keeps what is known of each file, under keys that begin with "file/",
	// "input/".
	Store *journal.Journal
	// HeldDeleted is the disk space, in bytes, that deleted files may occupy while they
	// are read to their end; 0 is no limit.
	HeldDeleted int64
	// Forget, when not nil, is told which generations the journal will not hold any more:
	// those that have been gone for a while and are delivered. What it returns is written
	// to the journal with that. It must not call the Source.
	Forget func([]Account) map[string]json.RawMessage
	// MaxOpen is the number of files held open; 0 derives it from the process's limit.
	MaxOpen int
	Log     *slog.Logger
}

// Stats are numbers for status and metrics.
type Stats struct {
	OpenFiles        int
	HeldDeletedBytes int64
	// Watched counts, by input, the files that can be read now.
	Watched map[string]int
	// Repaired counts files whose growth no event told of although the system's
	// events work.
	Repaired int64
	// Unreadable counts what the patterns name and cannot be read: for lack of
	// permission, or for being no file.
	Unreadable int
	Dirs       int
	// Polling is set when the system's events do not work for all directories.
	Polling bool
}

// Source finds files and tells of their growth. Its methods may be called from
// several goroutines; Poll is called by one at a time.
type Source struct {
	store       *journal.Journal
	log         *slog.Logger
	heldDeleted int64
	maxOpen     int
	forget      func([]Account) map[string]json.RawMessage
	began       time.Time

	open        atomic.Int64 // descriptors
	clock       atomic.Int64 // the time of the last Poll, Unix nanoseconds
	repaired    atomic.Int64
	wake        atomic.Pointer[func(urgent bool)]
	events      events
	streams     gzStreams
	descriptors descriptors

	// saving guards the list of files whose entries are to be written.
	saving    sync.Mutex
	unsaved   []*File
	removals  []string
	forgotten []Account // of the removals, for forget
	// committing is held while entries are encoded and written.
	committing sync.Mutex

	// mu is held by Poll and Configure, and guards what follows and all of File that
	// says so. It is taken before File.mu.
	mu           sync.Mutex
	now          time.Time // of the Poll under way
	inputs       []*input
	dirs         map[string]*dir
	families     map[familyKey]*family
	kin          map[familyKey][]*family // by the path that they may all be siblings of
	files        []*File                 // that have a home, for the sweep
	hot          []*File                 // that have changed lately
	byIno        map[uint64][]*File
	byPath       map[pathKey]*File
	held         []*File              // deleted, and still open
	lost         []*File              // without a home, for the moment
	tombs        []*File              // delivered, and gone
	births       []*File              // not in the journal yet
	waiting      map[*family]struct{} // with generations not handed out yet
	news         []*File
	emptied      []*family // that have lost a generation to another in this scan
	scanned      uint64    // number of the scan under way
	sweep        sweep
	all          bool // look at everything in the next Poll
	bornLate     bool // the journal refused the last births
	retryAt      time.Time
	sinceUnsaved bool
}

// input is an Input made ready.
type input struct {
	Input
	globs   []*Glob
	exclude excludes
	// since is when, in Unix milliseconds, each glob's files were first looked at;
	// 0 before the first look.
	since []int64
}

type pathKey struct{ input, path string }

// New restores what the journal knows. Files are first looked at by Poll.
func New(o Options) (*Source, error) {
	s := &Source{
		store: o.Store, log: o.Log, forget: o.Forget, heldDeleted: o.HeldDeleted, maxOpen: o.MaxOpen,
		dirs: make(map[string]*dir), families: make(map[familyKey]*family), kin: make(map[familyKey][]*family),
		byIno: make(map[uint64][]*File), byPath: make(map[pathKey]*File), waiting: make(map[*family]struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.maxOpen <= 0 {
		s.maxOpen = defaultMaxOpen()
	}
	s.now = time.Now()
	s.began = s.now
	s.restore()
	return s, s.configure(o.Inputs)
}

// defaultMaxOpen leaves the better part of the process's limit to sockets and others.
func defaultMaxOpen() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	return int(min(max(limit.Cur/2, 16), 1024))
}

// Configure replaces the inputs. Files that none of them matches any more are left
// alone from now on, and what is known of them stays; so does everything when an
// input is wrong.
func (s *Source) Configure(inputs []Input) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configure(inputs)
}

func (s *Source) configure(inputs []Input) error {
	var next []*input
	for _, in := range inputs {
		made, err := newInput(in)
		if err != nil {
			return err
		}
		next = append(next, made)
	}
	s.inputs = next
	for _, in := range next {
		s.restoreSince(in)
	}
	// The directories are found anew; what they told of files without a name is lost,
	// and learned again.
	old := s.dirs
	s.dirs = make(map[string]*dir)
	for _, in := range next {
		for i, g := range in.globs {
			d := s.dirAt(g.base)
			d.root = true
			d.add(state{in, i, 0})
		}
	}
	for _, fam := range s.families {
		in := s.inputNamed(fam.input)
		stop := in == nil || !in.names(fam.via)
		for _, f := range fam.gens {
			s.setStopped(f, stop)
		}
		if !stop {
			s.dirAt(fam.dir).addFamily(fam)
		}
	}
	for path, d := range old {
		if now := s.dirs[path]; now != nil {
			now.watched, now.shared, now.ino = d.watched, d.shared, d.ino
		} else if d.watched {
			s.events.remove(path)
		}
	}
	s.all = true
	return nil
}

func newInput(in Input) (*input, error) {
	made := &input{Input: in}
	for _, pattern := range in.Files {
		g, err := ParseGlob(pattern)
		if err != nil {
			return nil, fmt.Errorf("input %s: files: %w", in.Name, err)
		}
		made.globs = append(made.globs, g)
	}
	var err error
	if made.exclude, err = parseExcludes(in.Exclude); err != nil {
		return nil, fmt.Errorf("input %s: exclude: %w", in.Name, err)
	}
	made.since = make([]int64, len(made.globs))
	return made, nil
}

func (s *Source) inputNamed(name string) *input {
	for _, in := range s.inputs {
		if in.Name == name {
			return in
		}
	}
	return nil
}

// since is how long ago a file system's time was at the last Poll.
func (s *Source) since(ns int64) time.Duration { return time.Duration(s.clock.Load() - ns) }

// names reports whether the input's patterns name the path.
func (in *input) names(path string) bool {
	_, ok := in.match(path)
	return ok
}

// match returns the first glob that matches the path.
func (in *input) match(path string) (glob int, ok bool) {
	if in.exclude.match(path) {
		return 0, false
	}
	for i, g := range in.globs {
		if _, ok := g.Match(path); ok {
			return i, true
		}
	}
	return 0, false
}

// firstLook is when the first of the globs that match the path was first looked at,
// in Unix nanoseconds; 0 when that is now.
func (in *input) firstLook(path string) int64 {
	first := int64(0)
	for i, g := range in.globs {
		if _, ok := g.Match(path); ok && in.since[i] != 0 && (first == 0 || in.since[i] < first) {
			first = in.since[i]
		}
	}
	return first * 1e6
}

// LookAtAll makes the next Poll look at every file and directory.
func (s *Source) LookAtAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
}

// Waiting returns the generations that Poll has not handed out yet, because older ones
// of their family are being read or the journal has not taken them.
func (s *Source) Waiting() []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	families := make(map[*family]struct{}, len(s.waiting))
	for fam := range s.waiting {
		families[fam] = struct{}{}
	}
	for _, f := range s.births {
		families[f.family] = struct{}{}
	}
	var all []*File
	for fam := range families {
		for _, f := range fam.gens {
			if !(f.released && f.isDurable()) && !f.skip && !f.stopped && f.tombAt.IsZero() {
				all = append(all, f)
			}
		}
	}
	return all
}

func (f *File) isDurable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable
}

// Stats takes stock.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{OpenFiles: int(s.open.Load()), HeldDeletedBytes: s.heldBytes()}
	st.Repaired = s.repaired.Load()
	st.Dirs = len(s.dirs)
	st.Polling = !s.events.complete()
	st.Watched = make(map[string]int, len(s.inputs))
	for _, in := range s.inputs {
		st.Watched[in.Name] = 0
	}
	for _, f := range s.files {
		if f.listed && !f.skip && !f.stopped {
			st.Watched[f.input]++
		}
	}
	for _, d := range s.dirs {
		for _, o := range d.others {
			if o.why == unreadable || o.why == irregular {
				st.Unreadable++
			}
		}
	}
	return st
}

// Close closes all files. Nothing may be called afterwards.
func (s *Source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fam := range s.families {
		for _, f := range fam.gens {
			f.closeFile()
		}
	}
	s.streams.close()
}

// familyKey names a family by its input and its watched path, symbolic links resolved.
type familyKey struct{ input, path string }

// family is a watched path with its rotated siblings.
type family struct {
	input string
	dir   string  // the directory they are in, without symbolic links in the last element
	base  string  // the watched name there
	via   string  // the path under which the input's patterns name it
	kin   string  // the shortest name that could be the watched one of all of them
	gens  []*File // the oldest first
}

// familyAt returns the family, and makes it if need be.
func (s *Source) familyAt(in, path, via string) *family {
	key := familyKey{in, path}
	fam := s.families[key]
	if fam == nil {
		fam = &family{input: in, dir: filepath.Dir(path), base: filepath.Base(path), via: via}
		fam.kin = fam.base
		roots(fam.base, func(r string) bool { fam.kin = r; return true })
		s.families[key] = fam
		kin := fam.kinKey()
		s.kin[kin] = append(s.kin[kin], fam)
	}
	return fam
}

// dropFamily forgets a family without generations.
func (s *Source) dropFamily(fam *family) {
	delete(s.families, familyKey{fam.input, fam.path()})
	key := fam.kinKey()
	s.kin[key] = slices.DeleteFunc(s.kin[key], func(f *family) bool { return f == fam })
	if len(s.kin[key]) == 0 {
		delete(s.kin, key)
	}
	if d := s.dirs[fam.dir]; d != nil {
		d.removeFamily(fam)
	}
}

// kinKey finds the families whose files may once have been siblings: where a pattern
// names app.log.1 as well as app.log, either may be seen alone at first.
func (fam *family) kinKey() familyKey { return familyKey{fam.input, filepath.Join(fam.dir, fam.kin)} }

func (fam *family) path() string { return filepath.Join(fam.dir, fam.base) }

// insert puts a generation to its place in time.
func (fam *family) insert(f *File) {
	at := len(fam.gens)
	for at > 0 && fam.gens[at-1].order > f.order {
		at--
	}
	fam.gens = slices.Insert(fam.gens, at, f)
	fam.link()
}

func (fam *family) remove(f *File) {
	fam.gens = slices.DeleteFunc(fam.gens, func(g *File) bool { return g == f })
	fam.link()
}

// link tells each generation its neighbours.
func (fam *family) link() {
	var prev *File
	for _, f := range fam.gens {
		f.prev.Store(prev)
		if !f.skip {
			prev = f
		}
	}
	var next *File
	for _, f := range slices.Backward(fam.gens) {
		f.next.Store(next)
		if !f.skip {
			next = f
		}
	}
}
