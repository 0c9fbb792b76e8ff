package tail

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// candidate is a file in a directory that may be, or become, a generation.
type candidate struct {
	name, path string
	via        string // the path to tell of it, when the patterns name it
	named      bool   // the patterns name it; else it is a rotated sibling, or known
	watched    bool   // it is named or a sibling: fam is its family by its name
	fam        *family
	st         stat
	gzip       bool
}

// base reports whether it stands under the family's watched name.
func (c *candidate) base() bool { return c.name == c.fam.base }

// settle finds out which generation each file of the directory is: known ones are
// recognised first, wherever they have been moved to, then what is left is compared
// with what is known, and only then something is new.
func (s *Source) settle(d *dir, in *input, entries []os.DirEntry) {
	s.scanned++
	var unknown []*candidate
	known := make(map[*family]bool)
	for _, c := range s.candidates(d, in, entries) {
		known[c.fam] = len(c.fam.gens) > 0
		if !s.recognise(d, in, c) {
			unknown = append(unknown, c)
		}
	}
	s.findVanished(d, in, entries)
	// The watched name first, so that a copy of it is known as such; then what is
	// plain, so that its .gz is.
	slices.SortStableFunc(unknown, func(a, b *candidate) int { return before(a, b) })
	for _, c := range unknown {
		if c.st.links > 1 && s.recognise(d, in, c) {
			continue // another name of one that was judged just now
		}
		s.judge(d, in, c, known[c.fam])
	}
	for fam := range known {
		if len(fam.gens) == 0 {
			s.dropFamily(fam)
		} else {
			d.addFamily(fam)
		}
	}
	for _, fam := range s.emptied {
		if len(fam.gens) == 0 && s.families[familyKey{fam.input, fam.path()}] == fam {
			s.dropFamily(fam)
		}
	}
	s.emptied = s.emptied[:0]
}

// before orders candidates for judging.
func before(a, b *candidate) int {
	rank := func(c *candidate) int {
		switch {
		case c.base() && c.name == c.fam.kin:
			return 0
		case c.base():
			return 1
		case !c.gzip:
			return 2
		}
		return 3
	}
	switch {
	case rank(a) != rank(b):
		return rank(a) - rank(b)
	case a.st.mtime != b.st.mtime:
		if a.st.mtime < b.st.mtime {
			return -1
		}
		return 1
	case a.name == b.name:
		return 0
	case olderName(a.name, b.name):
		return -1
	}
	return 1
}

// candidates picks the files that the patterns name, their rotated siblings, and
// those that are known under an odd name.
func (s *Source) candidates(d *dir, in *input, entries []os.DirEntry) []*candidate {
	listed := make(map[string]bool, len(entries))
	for _, e := range entries {
		listed[e.Name()] = true
	}
	var all []*candidate
	for _, e := range entries {
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 {
			continue
		}
		c := s.candidate(d, in, e.Name(), listed)
		if c == nil {
			continue
		}
		var err error
		if c.st, err = lstatPath(c.path); err != nil {
			continue // gone since it was listed
		}
		if c.st.regular() {
			all = append(all, c)
		} else if c.named && c.st.mode != fs.ModeDir && c.st.mode != fs.ModeSymlink {
			s.note(d, in, c.name, c.st, irregular, nil)
		}
	}
	return all
}

func (s *Source) candidate(d *dir, in *input, name string, listed map[string]bool) *candidate {
	c := &candidate{name: name, path: filepath.Join(d.path, name), gzip: isGzip(name)}
	f := s.byPath[pathKey{in.Name, c.path}]
	c.via, c.named = d.namesFile(in, name)
	if !c.named && (f == nil && in.exclude.match(c.path)) {
		return nil
	}
	root, via := name, c.via
	sibling := roots(name, func(r string) bool {
		v, ok := d.namesFile(in, r)
		known := s.families[familyKey{in.Name, filepath.Join(d.path, r)}]
		if !ok && known != nil {
			v, ok = known.via, true
		}
		// Of two names that are both named, one is the other's sibling only when there
		// is such a file.
		if !ok || c.named && known == nil && !listed[r] {
			return false
		}
		root, via = r, v
		return true
	})
	switch {
	case f != nil && f.stopped && !c.named && !sibling:
		return nil
	case c.named || sibling:
		c.fam, c.watched = s.familyAt(in.Name, filepath.Join(d.path, root), via), true
	case f != nil:
		c.fam = f.family
	default:
		return nil
	}
	if !c.named {
		c.via = c.path
	}
	return c
}

// recognise reports whether the candidate is the home of a known generation.
func (s *Source) recognise(d *dir, in *input, c *candidate) bool {
	for _, f := range slices.Clone(s.byIno[c.st.ino]) {
		if f.input != in.Name && s.inputNamed(f.input) != nil {
			continue
		}
		if !c.st.sameInode(&f.id) && !s.remounted(f, c) {
			continue
		}
		if f.home != c.path {
			if st, err := lstatPath(f.home); err == nil && st.sameInode(&c.st) {
				if f.input != in.Name {
					continue
				}
				return true // another name of the same file
			}
		}
		if f.input != in.Name || c.watched && filepath.Dir(f.home) != d.path {
			s.adopt(f, in, c.fam) // its siblings are here now
		}
		if f.home != c.path {
			s.move(f, c.path)
		}
		if f.stopped {
			s.setStopped(f, false)
		}
		if !s.inspect(f, c.st, false) {
			continue // it holds something else now
		}
		f.scan = s.scanned
		s.keepOpen(f)
		return true
	}
	return s.revive(in, c)
}

// adopt makes a file of an input that is gone one of this input: an input that was
// renamed does not read its files twice.
func (s *Source) adopt(f *File, in *input, fam *family) {
	s.unsettle(f)
	old := f.family
	old.remove(f)
	s.emptied = append(s.emptied, old)
	f.mu.Lock()
	f.input, f.family = in.Name, fam
	f.mu.Unlock()
	fam.insert(f)
	s.settleIn(f)
	s.mustSave(f)
}

func (s *Source) setStopped(f *File, stopped bool) {
	f.stopped = stopped
	if stopped {
		f.released = false
		if f.home != "" {
			f.closeFile()
		}
		return
	}
	s.waiting[f.family] = struct{}{}
}

// move notes that a generation has another name.
func (s *Source) move(f *File, path string) {
	if key := (pathKey{f.input, f.home}); s.byPath[key] == f {
		delete(s.byPath, key)
	}
	f.mu.Lock()
	f.home = path
	f.mu.Unlock()
	s.settleIn(f)
	s.touch(f)
	s.mustSave(f)
}

// findVanished looks for the generations that were in the directory and were not met
// in this scan: under any other name in it, or by their open descriptor.
func (s *Source) findVanished(d *dir, in *input, entries []os.DirEntry) {
	var here map[uint64]string // by inode, made when it is needed
	for _, fam := range d.families {
		if fam.input != in.Name {
			continue
		}
		for _, f := range slices.Clone(fam.gens) {
			if f.home == "" || f.scan == s.scanned || f.stopped || filepath.Dir(f.home) != d.path {
				continue
			}
			if st, err := lstatPath(f.home); err == nil && st.sameInode(&f.id) {
				continue // an entry that the listing has missed
			}
			if here == nil {
				here = inodes(d, entries)
			}
			if name, ok := here[f.id.ino]; ok && s.foundAs(f, filepath.Join(d.path, name)) {
				continue
			}
			s.vanish(f)
		}
	}
}

// inodes maps those of the directory's files to their names.
func inodes(d *dir, entries []os.DirEntry) map[uint64]string {
	all := make(map[uint64]string, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if st, err := lstatPath(filepath.Join(d.path, e.Name())); err == nil && st.regular() {
			all[st.ino] = e.Name()
		}
	}
	return all
}

// foundAs moves f to path if it is there.
func (s *Source) foundAs(f *File, path string) bool {
	st, err := lstatPath(path)
	if err != nil || !st.sameInode(&f.id) || s.byPath[pathKey{f.input, path}] != nil {
		return false
	}
	s.move(f, path)
	if !s.inspect(f, st, false) {
		return false
	}
	f.scan = s.scanned
	return true
}
