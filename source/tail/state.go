package tail

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

const (
	filePrefix  = "file/"
	inputPrefix = "input/"
)

// entry is what the journal has of a file: all that is needed to recognise it, and
// its Progress.
type entry struct {
	Input string `json:"input"`
	Path  string `json:"path"`
	// Root is the watched path that it belongs to, symbolic links resolved, and Via the
	// path that the pattern names, where they are not Path.
	Root     string      `json:"root,omitempty"`
	Via      string      `json:"via,omitempty"`
	Home     string      `json:"home,omitempty"` // "" when its bytes are nowhere
	Captures [][2]string `json:"captures,omitempty"`
	Order    int64       `json:"order"`
	Dev      uint64      `json:"dev"`
	Ino      uint64      `json:"ino"`
	Birth    int64       `json:"birth,omitempty"`
	Mtime    int64       `json:"mtime"`
	Disk     int64       `json:"disk"` // its length on disk at the last look
	Size     int64       `json:"size"`
	Guess    bool        `json:"guess,omitempty"`
	Head     fingerprint `json:"print"`
	Mark     mark        `json:"mark"`
	CopyMark *mark       `json:"copy,omitempty"`
	Start    *record.Pos `json:"start,omitempty"`
	Skip     bool        `json:"skip,omitempty"`
	Gzip     bool        `json:"gzip,omitempty"`
	ZipEnd   uint64      `json:"zip_end,omitempty"`
	Copied   bool        `json:"copied,omitempty"`
	Gone     string      `json:"gone,omitempty"`
	GoneFrom int64       `json:"gone_from,omitempty"`
	Tomb     int64       `json:"tomb,omitempty"` // Unix milliseconds
	Progress
}

func (f *File) key() string { return filePrefix + f.gen }

// encodeLocked makes the file's entry with that Progress; mu is held.
func (f *File) encodeLocked(p Progress) (json.RawMessage, error) {
	e := entry{
		Input: f.input, Path: f.path, Home: f.home, Order: f.order, Dev: f.id.dev, Ino: f.id.ino, Birth: f.id.birth,
		Mtime: f.id.mtime, Disk: f.id.size, Size: f.size, Guess: f.sizeGuess, Head: f.head, Mark: f.mark, Skip: f.skip,
		Gzip: f.gzip, ZipEnd: f.zipEnd, Copied: f.copied, Gone: f.gone, GoneFrom: f.goneFrom, Progress: p,
	}
	if root := f.family.path(); root != f.path {
		e.Root = root
	}
	if f.family.via != f.path {
		e.Via = f.family.via
	}
	for _, c := range f.captures {
		e.Captures = append(e.Captures, [2]string{c.Key, c.Value})
	}
	if f.copyMark.Off != 0 {
		e.CopyMark = &f.copyMark
	}
	if f.start != (record.Pos{}) {
		e.Start = &f.start
	}
	if !f.tombAt.IsZero() {
		e.Tomb = f.tombAt.UnixMilli()
	}
	return json.Marshal(e)
}

// restore reads the journal's entries.
func (s *Source) restore() {
	s.store.Range(func(key string, value []byte) {
		gen, ok := strings.CutPrefix(key, filePrefix)
		if !ok {
			return
		}
		var e entry
		if err := json.Unmarshal(value, &e); err != nil || e.Path == "" {
			s.log.Error("what the state holds of a file is unreadable; the file counts as new", "file", e.Path, "error", err)
			s.removals = append(s.removals, key)
			return
		}
		s.restoreFile(gen, &e)
	})
}

func (s *Source) restoreFile(gen string, e *entry) {
	f := &File{
		source: s, gen: gen, path: e.Path, input: e.Input, order: e.Order, skip: e.Skip, durable: true,
		home: e.Home, gzip: e.Gzip, zipEnd: e.ZipEnd, copied: e.Copied, head: e.Head, mark: e.Mark, size: e.Size, sizeGuess: e.Guess, gone: e.Gone, goneFrom: e.GoneFrom,
		id: stat{dev: e.Dev, ino: e.Ino, birth: e.Birth, mtime: e.Mtime, size: e.Disk},
	}
	for _, c := range e.Captures {
		f.captures = append(f.captures, record.KeyValue{Key: c[0], Value: c[1]})
	}
	if e.CopyMark != nil {
		f.copyMark = *e.CopyMark
	}
	if e.Start != nil {
		f.start = *e.Start
	}
	if !e.Guess {
		f.known = e.Size
	}
	f.least = e.Progress.least(f.start.Off)
	f.reached.Store(f.least)
	f.ended = e.Copied
	via := cmp.Or(e.Via, e.Path)
	f.family = s.familyAt(e.Input, cmp.Or(e.Root, e.Path), via)
	f.family.insert(f)
	switch {
	case e.Tomb != 0:
		f.tombAt = time.UnixMilli(e.Tomb)
		s.tombs = append(s.tombs, f)
	case f.home == "":
		f.lostAt = s.now
		s.lost = append(s.lost, f)
	default:
		s.settleIn(f)
	}
}

// settleIn lists a file under its home. s.mu is held.
func (s *Source) settleIn(f *File) {
	s.byPath[pathKey{f.input, f.home}] = f
	if known := s.byIno[f.id.ino]; !slices.Contains(known, f) {
		s.byIno[f.id.ino] = append(known, f)
	}
	f.listed = true
	if !f.inFiles {
		f.inFiles = true
		s.files = append(s.files, f)
	}
}

// unsettle takes a file off all lists of those with a home. s.mu is held.
func (s *Source) unsettle(f *File) {
	if key := (pathKey{f.input, f.home}); s.byPath[key] == f {
		delete(s.byPath, key)
	}
	rest := slices.DeleteFunc(s.byIno[f.id.ino], func(g *File) bool { return g == f })
	if len(rest) == 0 {
		delete(s.byIno, f.id.ino)
	} else {
		s.byIno[f.id.ino] = rest
	}
	f.listed = false // the sweep drops it from s.files
}

// mustSave has the file's entry written by the next Save.
func (s *Source) mustSave(f *File) {
	s.saving.Lock()
	defer s.saving.Unlock()
	if !f.dirty {
		f.dirty = true
		s.unsaved = append(s.unsaved, f)
	}
}

// Save writes what has changed of the files, and extra beside it, as one atomic
// change. On an error nothing is written, and the next Save tries again.
func (s *Source) Save(extra map[string]json.RawMessage) error {
	return s.save(extra, nil, true)
}

// save writes the files that have changed, those in births, and extra. Without moved
// the Progress of known files stays as it was: it comes to disk with what belongs to
// it, by Save, and a birth only writes where the files are.
func (s *Source) save(extra map[string]json.RawMessage, births []*File, moved bool) error {
	// One at a time: an older entry must not be written over a newer one.
	s.committing.Lock()
	defer s.committing.Unlock()
	s.saving.Lock()
	files := s.unsaved
	s.unsaved = nil
	for _, f := range files {
		f.dirty = false
	}
	removals, forgotten := s.removals, s.forgotten
	s.removals, s.forgotten = nil, nil
	s.saving.Unlock()
	if len(files)+len(births)+len(removals)+len(extra) == 0 {
		return nil
	}

	batch := make(map[string]json.RawMessage, len(files)+len(births)+len(extra))
	for key, value := range extra {
		batch[key] = value
	}
	wrote := make(map[*File]*Progress, len(files))
	var later []*File
	born := make(map[*File]struct{}, len(births))
	for _, f := range births {
		born[f] = struct{}{}
	}
	for _, f := range append(files[:len(files):len(files)], births...) {
		f.mu.Lock()
		progress := f.progress
		_, borne := born[f]
		unborn := !f.durable && !borne
		if !moved && f.durable && progress != nil {
			progress = nil
			later = append(later, f)
		}
		var p Progress
		if progress != nil {
			p = *progress // encoded before anybody can change it
		} else {
			p = f.savedProgress()
		}
		raw, err := f.encodeLocked(p)
		f.mu.Unlock()
		if err != nil {
			s.log.Error("what is known of a file cannot be written", "file", f.path, "error", err)
			continue
		}
		if unborn {
			continue // its birth writes it
		}
		batch[f.key()] = raw
		wrote[f] = progress
	}
	for _, key := range removals {
		batch[key] = nil
	}
	if len(forgotten) > 0 && s.forget != nil {
		for key, value := range s.forget(forgotten) {
			batch[key] = value
		}
	}
	if err := s.store.Commit(batch); err != nil {
		for _, f := range files {
			s.mustSave(f)
		}
		s.saving.Lock()
		s.removals = append(s.removals, removals...)
		s.saving.Unlock()
		return err
	}
	for _, f := range later {
		s.mustSave(f)
	}
	for f, progress := range wrote {
		f.mu.Lock()
		f.durable = true
		if f.progress == progress {
			f.progress = nil // the journal has it
		}
		f.mu.Unlock()
	}
	return nil
}

// remove forgets a file for good. s.mu is held.
func (s *Source) remove(f *File) {
	f.family.remove(f)
	if len(f.family.gens) == 0 {
		s.dropFamily(f.family)
		if d := s.dirs[f.family.dir]; d != nil && !d.wanted() {
			s.forgetDir(d)
		}
	}
	account, read := f.account()
	durable := f.isDurable()
	s.saving.Lock()
	defer s.saving.Unlock()
	if read && durable {
		s.forgotten = append(s.forgotten, account)
	}
	if f.dirty {
		f.dirty = false
		s.unsaved = slices.DeleteFunc(s.unsaved, func(g *File) bool { return g == f })
	}
	s.removals = append(s.removals, f.key())
}

// since of an input: when each pattern was first looked at, Unix milliseconds.
type sinces map[string]int64

func (s *Source) restoreSince(in *input) {
	var known sinces
	if raw, ok := s.store.Get(inputPrefix + in.Name); ok {
		if err := json.Unmarshal(raw, &known); err != nil {
			s.log.Error("what the state holds of an input is unreadable; its patterns count as new", "input", in.Name, "error", err)
		}
	}
	for i, g := range in.globs {
		in.since[i] = known[g.text]
	}
}

// looked notes that all patterns have been looked at. s.mu is held.
func (s *Source) looked(now time.Time) {
	for _, in := range s.inputs {
		for i := range in.since {
			if in.since[i] == 0 {
				in.since[i] = now.UnixMilli()
				s.sinceUnsaved = true
			}
		}
	}
}

// encodeSince adds the inputs' entries to the next births. s.mu is held.
func (s *Source) encodeSince(batch map[string]json.RawMessage) error {
	for _, in := range s.inputs {
		known := make(sinces)
		for i, g := range in.globs {
			known[g.text] = in.since[i]
		}
		raw, err := json.Marshal(known)
		if err != nil {
			return err
		}
		batch[inputPrefix+in.Name] = raw
	}
	return nil
}
