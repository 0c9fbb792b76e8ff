package tail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// dir is a directory in which watched files are, or may come to be.
type dir struct {
	path     string
	root     bool    // a pattern's base: looked for even when it is not there
	states   []state // what the patterns want in it
	follows  []follow
	families []*family // that live here

	scans   uint64 // how often it was scanned
	ino     uint64
	mtime   int64
	there   bool
	dirty   bool      // to be scanned
	young   bool      // it had changed so lately that its time may not tell of the next change
	watched bool      // the system's events tell of its changes,
	shared  bool      // though not of what other machines do in it
	nextAt  time.Time // not to be scanned before
	// others are the names in it that patterns want and that are no generation's home.
	others map[otherKey]*other
	links  map[string]string // symbolic links that patterns name, and where they lead
}

// state is a pattern that applies to a directory's entries from its element on.
type state struct {
	in   *input
	glob int
	elem int
}

// follow is a file in this directory to which a symbolic link leads that a pattern
// names.
type follow struct {
	in   *input
	base string
	via  string
}

type otherKey struct{ input, name string }

// other is a name that is wanted and is no generation's home, and why.
type other struct {
	st    stat
	why   verdict
	of    *File     // of a copy: the generation whose content it has
	since time.Time // when it was first judged so
	again time.Time // when to judge it anew though it looks the same; zero: never
	scan  uint64    // the scan that met it last
}

type verdict string

const (
	empty      verdict = "empty"
	unreadable verdict = "unreadable"
	irregular  verdict = "irregular"  // a socket, a fifo, a device
	copied     verdict = "copied"     // another generation's content, plain or compressed
	unfinished verdict = "unfinished" // it is being written, and cannot be told yet
	damaged    verdict = "damaged"    // a .gz that is none
	padded     verdict = "padded"     // nothing but NULs, yet
	compressed verdict = "compressed" // under a name that does not say so
)

func (s *Source) dirAt(path string) *dir {
	d := s.dirs[path]
	if d == nil {
		d = &dir{path: path, dirty: true}
		s.dirs[path] = d
	}
	return d
}

// add makes a pattern apply to the directory.
func (d *dir) add(st state) {
	if slices.Contains(d.states, st) {
		return
	}
	d.states = append(d.states, st)
	d.dirty = true
	if e := st.in.globs[st.glob].elems[st.elem]; e.any {
		d.add(state{st.in, st.glob, st.elem + 1})
	}
}

// tells reports whether the system tells of all changes in it.
func (d *dir) tells() bool { return d.watched && !d.shared }

func (d *dir) addFamily(fam *family) {
	if !slices.Contains(d.families, fam) {
		d.families = append(d.families, fam)
	}
}

func (d *dir) removeFamily(fam *family) {
	d.families = slices.DeleteFunc(d.families, func(f *family) bool { return f == fam })
}

// wanted reports whether anything is left to look for in it.
func (d *dir) wanted() bool {
	return d.root || d.there && len(d.states)+len(d.follows) > 0 || len(d.families) > 0
}

// namesFile reports whether a pattern names this entry, and the path to tell of it.
func (d *dir) namesFile(in *input, name string) (via string, ok bool) {
	for _, fo := range d.follows {
		if fo.in == in && fo.base == name {
			return fo.via, true
		}
	}
	for _, st := range d.states {
		if st.in != in {
			continue
		}
		elems := in.globs[st.glob].elems
		if st.elem == len(elems)-1 && elems[st.elem].match(name, nil) {
			path := filepath.Join(d.path, name)
			return path, !in.exclude.match(path)
		}
	}
	return "", false
}

// look looks at the directory itself and reports whether it must be scanned.
func (d *dir) look() bool {
	st, err := statPath(d.path)
	switch {
	case err != nil || st.mode != fs.ModeDir:
		return d.there || d.dirty && !d.root
	case !d.there || st.ino != d.ino:
		d.watched = false // another directory of that name
		return true
	}
	return d.dirty || d.young || st.mtime != d.mtime
}

// manyEntries is the size from which on a directory is not scanned at every change,
// but often enough to see each within a second.
const (
	manyEntries = 1000
	maxScanGap  = 700 * time.Millisecond
)

// youngFor is how long after a change a directory's time is not trusted: file systems
// keep it in steps.
const youngFor = 50 * time.Millisecond

// scan lists a directory, finds its subdirectories, and settles the files in it. The
// subdirectories to be scanned next are returned.
func (s *Source) scan(d *dir) []*dir {
	began := time.Now()
	d.dirty, d.young = false, false
	d.scans++
	s.watchDir(d) // before it is listed: nothing can come in between unseen
	st, err := statPath(d.path)
	var entries []os.DirEntry
	if err == nil && st.mode == fs.ModeDir {
		entries, err = os.ReadDir(d.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if d.there || d.mtime == 0 {
			s.log.Warn("directory cannot be listed; what is open is read on, and it is tried again", "file", d.path, "error", err)
		}
		d.there, d.mtime = true, 1 // its files are not gone for that
		d.ino, d.dirty = st.ino, true
		d.nextAt = s.now.Add(time.Second)
		return nil
	}
	d.there = err == nil && st.mode == fs.ModeDir
	d.ino, d.mtime = st.ino, st.mtime
	d.young = d.there && began.UnixNano()-st.mtime < int64(youngFor)

	children := s.children(d, entries)
	for _, in := range s.inputs {
		if d.concerns(in) {
			s.settle(d, in, entries)
		}
	}
	for key, o := range d.others {
		if o.scan != d.scans {
			delete(d.others, key)
		}
	}
	d.nextAt = s.now
	if len(entries) >= manyEntries {
		// A directory of very many files that change all the time must not take a core.
		d.nextAt = s.now.Add(min(20*time.Since(began), maxScanGap))
	}
	return children
}

func (d *dir) concerns(in *input) bool {
	for _, st := range d.states {
		if st.in == in {
			return true
		}
	}
	for _, fo := range d.follows {
		if fo.in == in {
			return true
		}
	}
	for _, fam := range d.families {
		if fam.input == in.Name {
			return true
		}
	}
	return false
}

// children makes the patterns apply to the subdirectories that they match, follows
// symbolic links, and returns what must be scanned.
func (s *Source) children(d *dir, entries []os.DirEntry) []*dir {
	var next []*dir
	links := make(map[string]string)
	for _, e := range entries {
		isDir, isLink := e.IsDir(), e.Type()&fs.ModeSymlink != 0
		if e.Type()&fs.ModeIrregular != 0 { // the file system does not tell
			if st, err := lstatPath(filepath.Join(d.path, e.Name())); err == nil {
				isDir, isLink = st.mode == fs.ModeDir, st.mode == fs.ModeSymlink
			}
		}
		if !isDir && !isLink {
			continue
		}
		path := filepath.Join(d.path, e.Name())
		if isLink {
			next = append(next, s.follow(d, e.Name(), links)...)
			st, err := statPath(path)
			isDir = err == nil && st.mode == fs.ModeDir
		}
		if !isDir {
			continue
		}
		for _, st := range d.states {
			elems := st.in.globs[st.glob].elems
			if st.elem == len(elems)-1 {
				continue
			}
			below := state{st.in, st.glob, st.elem + 1}
			if elems[st.elem].any {
				if isLink {
					continue // ** does not follow links: they may lead back
				}
				below.elem = st.elem
			} else if !elems[st.elem].match(e.Name(), nil) {
				continue
			}
			child := s.dirAt(path)
			child.add(below)
			if child.dirty && !slices.Contains(next, child) {
				next = append(next, child)
			}
		}
	}
	s.unfollow(d, links)
	return next
}

// follow notes where a symbolic link leads that a pattern names as a file. The file is
// then looked for, with its siblings, in the directory where it really is.
func (s *Source) follow(d *dir, name string, links map[string]string) []*dir {
	var next []*dir
	path := filepath.Join(d.path, name)
	for _, in := range s.inputs {
		via, ok := d.namesFile(in, name)
		if !ok || via != path {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			s.note(d, in, name, stat{}, unreadable, nil)
			d.others[otherKey{in.Name, name}].again = s.now.Add(time.Second)
			continue
		}
		if st, err := statPath(real); err != nil || !st.regular() {
			continue
		}
		links[name] = real
		home := s.dirAt(filepath.Dir(real))
		fo := follow{in, filepath.Base(real), path}
		known := slices.ContainsFunc(home.follows, func(f follow) bool { return f.in == in && f.base == fo.base })
		if !known {
			home.follows = append(home.follows, fo)
			home.dirty = true
		}
		if home != d && home.dirty {
			next = append(next, home)
		}
	}
	return next
}

// unfollow forgets the links that are gone or lead elsewhere now.
func (s *Source) unfollow(d *dir, links map[string]string) {
	for name, real := range d.links {
		if links[name] == real {
			continue
		}
		if home := s.dirs[filepath.Dir(real)]; home != nil {
			via := filepath.Join(d.path, name)
			home.follows = slices.DeleteFunc(home.follows, func(f follow) bool { return f.via == via && f.base == filepath.Base(real) })
			home.dirty = true // another link may lead there
		}
	}
	d.links = links
}

// note keeps why a name is no generation's home, and logs what needs somebody.
func (s *Source) note(d *dir, in *input, name string, st stat, why verdict, of *File) {
	if d.others == nil {
		d.others = make(map[otherKey]*other)
	}
	key := otherKey{in.Name, name}
	was := d.others[key]
	o := &other{st: st, why: why, of: of, scan: d.scans, since: s.now}
	if was != nil && was.why == why && !was.changed(&st) {
		o.since = was.since
	}
	d.others[key] = o
	switch why {
	case irregular:
		if was == nil || was.why != why {
			s.log.Warn("not a regular file; it is not read", "file", filepath.Join(d.path, name), "type", st.mode.Type().String())
		}
	case unreadable:
		o.again = s.now.Add(unreadableRetry)
	case damaged:
		if was == nil || was.why != why {
			s.log.Warn("nothing of it can be decompressed: it is not read. If it is plain text, name it without .gz", "file", filepath.Join(d.path, name))
		}
	case compressed:
		if (was == nil || was.why != why) && !strings.HasSuffix(name, ".tmp") { // which is about to get its name
			s.log.Warn("compressed, and not named .gz: it is not read. Name only plain files and .gz in files:, or exclude it", "file", filepath.Join(d.path, name))
		}
	case unfinished, padded:
		o.again = s.now.Add(time.Second)
	}
}

// unreadableRetry is when what could not be opened is tried again; a change of its
// permissions is seen before.
const unreadableRetry = 30 * time.Second

// lookAtOthers looks whether what is no generation's home has changed, and has the
// directory scanned when it has.
func (d *dir) lookAtOthers(now time.Time) {
	for key, o := range d.others {
		st, err := lstatPath(filepath.Join(d.path, key.name))
		if o.due(now) || err != nil && o.st != (stat{}) || err == nil && o.changed(&st) {
			d.dirty = true
			return
		}
	}
}

func (o *other) due(now time.Time) bool { return !o.again.IsZero() && !now.Before(o.again) }

func (o *other) changed(st *stat) bool {
	return o.st != (stat{}) && (st.ino != o.st.ino || st.size != o.st.size || st.mtime != o.st.mtime || st.ctime != o.st.ctime)
}
