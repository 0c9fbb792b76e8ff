package tail

import "github.com/tailwater/tailwater/record"

// revive brings a generation back that was nowhere for a while and is here: a file that
// was moved to another directory while nobody had it open, or out of the watched ones
// and in again.
func (s *Source) revive(in *input, c *candidate) bool {
	for _, list := range [][]*File{s.lost, s.tombs} {
		for _, f := range list {
			nowhere := !f.lostAt.IsZero() || !f.tombAt.IsZero()
			if f.id.ino != c.st.ino || f.input != in.Name || !nowhere || !s.returned(f, c) {
				continue
			}
			if f.gone != "" && f.goneFrom < f.Size() {
				return s.readOn(in, c, f)
			}
			s.adopt(f, in, c.fam)
			f.mu.Lock()
			f.home, f.gone, f.goneFrom, f.ended, f.tombAt = c.path, "", 0, f.copied, zeroTime
			f.mu.Unlock()
			f.deleted, f.lostAt, f.lostAs = zeroTime, zeroTime, ""
			s.settleIn(f)
			f.scan = s.scanned
			if !f.gzip {
				s.grown(f, c.st, f.head, f.markNow(), false) // the next look takes what is new
			}
			s.touch(f)
			s.mustSave(f)
			s.waiting[f.family] = struct{}{}
			return true
		}
	}
	return false
}

// readOn makes a new generation of a file that was given up and is back: it goes on
// where the slowest output was then.
func (s *Source) readOn(in *input, c *candidate, f *File) bool {
	fd, st, err := openRegular(c.path)
	if err != nil || f.gzip {
		return false
	}
	defer fd.Close()
	if st.trim(fd, 0, 0) != nil {
		return false
	}
	head, err := readHead(fd, st.size)
	if err != nil {
		return false
	}
	c.st = st
	g := s.mint(in, c, fd, head, false)
	g.start = record.Pos{Off: f.goneFrom}
	g.least = f.goneFrom
	g.reached.Store(f.goneFrom)
	return true
}

// returned reports whether the candidate is the generation that was nowhere, with what
// was known of it.
func (s *Source) returned(f *File, c *candidate) bool {
	if !c.st.sameInode(&f.id) || c.gzip != f.gzip || f.head.N == 0 || c.st.size < f.id.size {
		return false
	}
	if f.gzip {
		// Many .gz begin alike. One that was not written to since is the same.
		return f.id.birth != 0 && c.st.birth != 0 && c.st.size == f.id.size && c.st.mtime == f.id.mtime
	}
	if (f.id.birth == 0 || c.st.birth == 0) && f.head.N < headBytes {
		return false // an inode alone says little, and so do a few bytes
	}
	fd, st, err := openRegular(c.path)
	if err != nil || !st.sameInode(&c.st) {
		return false
	}
	defer fd.Close()
	head, err := readHead(fd, f.head.N)
	if err != nil || !f.head.matches(head) {
		return false
	}
	ok, err := f.markNow().holds(fd)
	return err == nil && ok
}

// remounted reports whether the candidate is the file though its device has another
// number: same path, same inode, same content.
func (s *Source) remounted(f *File, c *candidate) bool {
	if f.home != c.path || f.id.dev == c.st.dev || f.id.birth != 0 && c.st.birth != 0 || c.st.size < f.id.size {
		return false
	}
	fd, _, err := openRegular(c.path)
	if err != nil {
		return false
	}
	defer fd.Close()
	if f.gzip {
		z, err := newInflate(fd)
		if err != nil {
			return false
		}
		if head, _, _ := z.head(); !f.head.matches(head) {
			return false
		}
		f.mu.Lock()
		f.id.dev = c.st.dev
		f.mu.Unlock()
		return true
	}
	head, err := readHead(fd, f.head.N)
	if err != nil || !f.head.matches(head) {
		return false
	}
	if ok, err := f.markNow().holds(fd); err != nil || !ok {
		return false
	}
	f.mu.Lock()
	f.id.dev = c.st.dev
	f.mu.Unlock()
	return true
}
