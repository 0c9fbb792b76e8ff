package tail

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"
)

// judge finds out what an unknown file is: the bytes of a known generation, something
// that cannot be told yet, or a new generation.
func (s *Source) judge(d *dir, in *input, c *candidate, familyKnown bool) {
	if o := d.others[otherKey{in.Name, c.name}]; o != nil && !o.changed(&c.st) && !o.due(s.now) {
		o.scan = d.scans // as before
		return
	}
	if c.st.size == 0 {
		s.note(d, in, c.name, c.st, empty, nil)
		return
	}
	fd, st, err := openRegular(c.path)
	if err != nil {
		s.unopened(d, in, c, err)
		return
	}
	defer fd.Close()
	if !st.sameInode(&c.st) {
		d.dirty = true // it was replaced just now
		return
	}
	c.st = st
	var content compared
	if c.gzip {
		content = s.inflated(fd)
	} else {
		content = s.plain(fd, st.size)
	}
	switch {
	case content.why != "":
		s.note(d, in, c.name, st, content.why, nil)
	case s.isKnown(d, in, c, fd, &content):
	default:
		delete(d.others, otherKey{in.Name, c.name})
		skip := !c.named && s.beforeOurTime(in, c, familyKnown)
		s.mint(in, c, fd, content.head, skip)
	}
}

func (s *Source) unopened(d *dir, in *input, c *candidate, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, errNotRegular):
		d.dirty = true
		return
	}
	key := otherKey{in.Name, c.name}
	if was := d.others[key]; c.named && (was == nil || was.why != unreadable) {
		s.log.Warn("file cannot be opened; other files go on, and it is tried again", "file", c.path, "error", err,
			"again_in", unreadableRetry.String())
	}
	s.note(d, in, c.name, c.st, unreadable, nil)
}

// compared is the content of a file that is to be compared with the known ones.
type compared struct {
	head []byte
	size int64 // decompressed; -1 when it takes a full decompression to know
	why  verdict
	// at reads plain content; zip compressed.
	at  io.ReaderAt
	zip func() (*inflate, error)
}

func (s *Source) plain(fd *os.File, size int64) compared {
	head, err := readHead(fd, size)
	if err != nil || len(head) == 0 {
		return compared{why: unfinished}
	}
	return compared{head: head, size: size, at: fd}
}

func (s *Source) inflated(fd *os.File) compared {
	zip := func() (*inflate, error) { return newInflate(fd) }
	z, err := zip()
	if err != nil {
		return compared{why: unfinished}
	}
	head, more, err := z.head()
	switch {
	case more && !s.settled(fd):
		return compared{why: unfinished}
	case err != nil && len(head) == 0:
		return compared{why: damaged}
	case len(head) == 0:
		return compared{why: empty}
	}
	return compared{head: head, size: -1, zip: zip}
}

// settled reports whether nobody has written to a file for so long that it will not
// get the end that it lacks.
func (s *Source) settled(fd *os.File) bool {
	st, err := statOf(fd)
	return err == nil && s.since(st.ctime) > gzipGrace
}

// isKnown reports whether the file has the content of a known generation: it is then
// that one's new home, when it has none, and else a copy of it that is not read. It
// also says so when that cannot be told yet.
func (s *Source) isKnown(d *dir, in *input, c *candidate, fd *os.File, content *compared) bool {
	for _, f := range s.relatives(c) {
		switch s.compare(f, c, content) {
		case different:
		case same:
			if f.homeless() {
				s.rehome(f, c, fd)
			} else {
				s.note(d, in, c.name, c.st, copied, f)
				s.noteCopy(f, content)
			}
			return true
		case cannotTell:
			s.note(d, in, c.name, c.st, unfinished, nil)
			if s.now.Sub(d.others[otherKey{in.Name, c.name}].since) < tellWithin {
				return true
			}
		}
	}
	return false
}

// tellWithin is how long a file that does not change may stay undecided: after that it
// is rather read twice than never.
const tellWithin = time.Minute

// noteCopy remembers how far a copy goes of a file that lives. When the file is
// truncated the copy is known by that, compressed or not, though more has been seen of
// the file meanwhile.
func (s *Source) noteCopy(f *File, content *compared) {
	if content.at == nil {
		return
	}
	if m, ok := markAt(content.at, content.size); ok {
		f.mu.Lock()
		known := f.copyMark == m
		f.copyMark = m
		f.mu.Unlock()
		if !known {
			s.births = append(s.births, f) // on disk before more is read of the file
		}
	}
}

// relatives are the generations, the newest first, whose content the candidate may
// have.
func (s *Source) relatives(c *candidate) []*File {
	var all []*File
	for _, fam := range s.kin[c.fam.kinKey()] {
		// What stands under the watched name is rarely what was there before; but a
		// name that could be a rotated one is only the watched one for lack of another.
		base := c.base() && (fam == c.fam || c.name == fam.kin)
		for _, f := range slices.Backward(fam.gens) {
			if !base || s.replaced(f, c) {
				all = append(all, f)
			}
		}
	}
	return all
}

// replaced reports whether the watched name may hold a known generation under another
// inode. A new file with the same first bytes as the one before it is the rule rather
// than the exception, so this takes a whole fingerprint, and a file system that gives
// no birth times, or one that says that the file was there before the old one went.
func (s *Source) replaced(f *File, c *candidate) bool {
	if !f.homeless() || f.head.N < headBytes || f.lostAs == reasonTruncated {
		return false
	}
	return c.st.birth == 0 || c.st.birth <= f.id.mtime
}

type likeness int

const (
	different likeness = iota
	same
	cannotTell
)

// compare tells whether the content is that of f, or a part of it from its begin on.
func (s *Source) compare(f *File, c *candidate, content *compared) likeness {
	if f.head.N == 0 {
		return different
	}
	if !f.gzip && f.id.birth != 0 && c.st.birth != 0 && c.st.birth < f.id.birth {
		return different // a copy is younger than what it is of
	}
	own, closeOwn := f.reader()
	defer closeOwn()
	if int64(len(content.head)) < f.head.N {
		// Shorter than what is known of f: a copy that is being made of it, or another
		// file with few bytes.
		if own == nil {
			return f.shorterCopy(content)
		}
		begin, err := readHead(own, int64(len(content.head)))
		if err != nil || !bytes.Equal(begin, content.head) {
			return different
		}
	} else if !f.head.matches(content.head) {
		return different
	}
	if content.zip != nil {
		return f.compareZip(own, content)
	}
	if own == nil {
		return f.hasMark(content)
	}
	// Heads are often alike without the files being so: the bytes at the shorter one's
	// end tell.
	end := f.plainEnd()
	at := min(content.size, end)
	a, errA := readBefore(own, at)
	b, errB := readBefore(content.at, at)
	switch {
	case errA != nil || errB != nil:
		return cannotTell
	case bytes.Equal(a, b) && content.size <= end:
		return same
	case bytes.Equal(a, b) && s.since(c.st.mtime) < copyGrace:
		// It holds more than was seen of f: f has grown meanwhile, or is not it.
		return cannotTell
	}
	return different
}

// plainEnd is where its own plain bytes end: before its size in a copy that lacks what
// was written after it was made.
func (f *File) plainEnd() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.copied {
		return min(f.size, f.id.size)
	}
	return f.size
}

// copyGrace is how long a file that may be a copy in the making is not judged.
const copyGrace = 2 * time.Second

// hasMark compares with what is remembered of a generation whose plain bytes are
// nowhere.
func (f *File) hasMark(content *compared) likeness {
	m := f.learnMark()
	if m.Off == 0 {
		return f.sameSize(content.size)
	}
	if content.size < m.Off {
		return f.hasOlderMark(content.size, func(m mark) (bool, error) { return m.holds(content.at) })
	}
	if ok, err := m.holds(content.at); err != nil || !ok {
		return different
	}
	return same
}

// hasOlderMark compares with a copy that lacks the last bytes which were seen of a
// generation: they were written between copy and truncation. A file with the same head
// and no more in common is another one.
func (f *File) hasOlderMark(size int64, holds func(mark) (bool, error)) likeness {
	f.mu.Lock()
	marks := append([]mark{f.copyMark}, f.marks[:]...)
	f.mu.Unlock()
	for _, m := range marks {
		if m.Off == 0 || m.Off > size {
			continue
		}
		if ok, err := holds(m); err == nil && ok {
			return same
		}
		break
	}
	return different // nothing of its own was seen of it: twice is better than never
}

// shorterCopy is hasOlderMark for what is even shorter than the fingerprint.
func (f *File) shorterCopy(content *compared) likeness {
	if !f.homeless() {
		return different
	}
	head := bytes.NewReader(content.head)
	return f.hasOlderMark(head.Size(), func(m mark) (bool, error) { return m.holds(head) })
}

// zipHasOlderMark is hasOlderMark for the .gz of such a copy.
func (f *File) zipHasOlderMark(content *compared, newest mark) likeness {
	z, err := content.zip()
	if err != nil {
		return cannotTell
	}
	end, err := z.end()
	if err != nil || end.Off >= newest.Off {
		return different
	}
	return f.hasOlderMark(end.Off, func(m mark) (bool, error) {
		z, err := content.zip()
		if err != nil {
			return false, err
		}
		return z.holds(m)
	})
}

// learnMark is the mark; that of a .gz which was never read is made by decompressing
// it.
func (f *File) learnMark() mark {
	m := f.markNow()
	if m.Off != 0 || !f.gzip || f.home == "" {
		return m
	}
	fd, st, err := openRegular(f.home)
	if err != nil {
		return m
	}
	defer fd.Close()
	if z, err := newInflate(fd); err == nil && st.sameInode(&f.id) {
		if end, err := z.end(); err == nil {
			m = end
			f.mu.Lock()
			f.mark = m
			f.mu.Unlock()
		}
	}
	return m
}

// sameSize is for a .gz that was never read and is gone: nothing else is known of it.
func (f *File) sameSize(size int64) likeness {
	if size == f.Size() {
		return same
	}
	return different
}

func (f *File) compareZip(own io.ReaderAt, content *compared) likeness {
	z, err := content.zip()
	if err != nil {
		return cannotTell
	}
	if own == nil {
		m := f.learnMark()
		if m.Off == 0 {
			size, _ := gzipSize(z.z.fd, z.z.disk)
			return f.sameSize(size)
		}
		ok, err := z.holds(m)
		switch {
		case ok:
			return same
		case err != nil && isUnfinished(err):
			return cannotTell
		case err != nil:
			return different
		}
		return f.zipHasOlderMark(content, m)
	}
	end, err := z.end()
	if err != nil && isUnfinished(err) {
		return cannotTell
	}
	if err != nil || end.Off > f.plainEnd() {
		return different
	}
	if ok, err := end.holds(own); err != nil || !ok {
		return different
	}
	return same
}

// reader gives access to the generation's own plain bytes, nil when there are none.
func (f *File) reader() (at io.ReaderAt, done func()) {
	if f.gzip {
		return nil, func() {}
	}
	f.mu.Lock()
	fd, home := f.fd, f.home
	f.mu.Unlock()
	if fd != nil {
		return fd, func() {}
	}
	if home == "" {
		return nil, func() {}
	}
	fd, st, err := openRegular(home)
	if err != nil {
		return nil, func() {}
	}
	if !st.sameInode(&f.id) {
		fd.Close()
		return nil, func() {}
	}
	return fd, func() { fd.Close() }
}

// beforeOurTime reports whether an unknown sibling was rotated before anybody asked
// for its family, or before the oldest of its generations that is still known: then
// somebody has put an old one back. One between known ones is read: a listing that is
// taken in the midst of a rotation may miss one and show the next.
func (s *Source) beforeOurTime(in *input, c *candidate, familyKnown bool) bool {
	if in.IgnoreOlder > 0 && c.st.mtime < s.now.Add(-in.IgnoreOlder).UnixNano() {
		return true
	}
	since := in.firstLook(c.fam.via)
	if since == 0 && !familyKnown || c.st.mtime < since-int64(clockSlack) {
		return true
	}
	oldest := int64(math.MaxInt64)
	for _, f := range c.fam.gens {
		if !f.skip && f.home != c.fam.path() && (f.scan != s.scanned || f.durable) {
			oldest = min(oldest, f.id.mtime)
		}
	}
	return oldest != math.MaxInt64 && c.st.mtime < oldest
}

// clockSlack is by how much a file's time may be behind the clock that wrote it.
const clockSlack = 100 * time.Millisecond

// inspect compares a generation's home with what is known of it, and takes what is
// new. It reports false when the file there holds something else now: then the
// generation has been lost, and the caller has the directory scanned. thoroughly
// looks at the content though the metadata say that nothing has changed.
func (s *Source) inspect(f *File, st stat, thoroughly bool) bool {
	same := st.size == f.id.size && st.mtime == f.id.mtime
	if same && !thoroughly && !(f.racy && !f.gzip) {
		if st != f.id {
			f.mu.Lock()
			f.id = st
			f.mu.Unlock()
		}
		return true
	}
	if f.gzip {
		return s.inspectGzip(f, st)
	}
	if known := f.Size(); st.size < known {
		// A reader may have been further than that look: only one after it counts.
		again, err := lstatPath(f.home)
		if err != nil || !again.sameInode(&st) {
			s.dirtyHome(f)
			return true
		}
		if again.size < known {
			s.lose(f, reasonTruncated)
			return false
		}
		st = again
	}
	at, done := f.reader()
	defer done()
	if at == nil {
		// It cannot be opened now. What the metadata say is passed on; the reader will
		// meet the trouble, and the content is compared when it can be.
		if fd, _, err := openRegular(f.home); err == nil {
			fd.Close()
		} else if errors.Is(err, fs.ErrPermission) {
			f.stuck = true
		}
		s.grown(f, st, f.head, f.markNow(), false)
		return true
	}
	f.stuck = false
	// What is written after this may get the same time.
	f.racy = time.Now().UnixNano()-st.mtime < int64(youngFor)
	m := f.markNow()
	ok, err := m.holds(at)
	head := f.head
	if ok && err == nil && f.head.N < headBytes {
		var now []byte
		if now, err = readHead(at, st.size); err == nil {
			if ok = f.head.matches(now); ok {
				head = fingerprintOf(now)
			}
		}
	}
	if err != nil {
		s.grown(f, st, f.head, m, false)
		return true
	}
	if !ok {
		s.lose(f, reasonTruncated)
		return false
	}
	if same {
		return true
	}
	if now, ok := markAt(at, st.size); ok {
		m = now
	}
	s.grown(f, st, head, m, true)
	return true
}

// grown takes what a look at a generation has told. Where the content could not be
// compared the metadata are not taken for seen.
func (s *Source) grown(f *File, st stat, head fingerprint, m mark, compared bool) {
	f.mu.Lock()
	f.size = max(f.size, st.size)
	f.known = f.size
	f.head = head
	f.remarkLocked(m)
	if compared {
		f.id = st
	}
	if !f.copied {
		f.ended = false
	}
	f.mu.Unlock()
	s.keepOpen(f)
	s.touch(f)
	s.mustSave(f)
}

func (s *Source) inspectGzip(f *File, st stat) bool {
	fd, _, err := openRegular(f.home)
	if err != nil {
		s.touch(f)
		return true
	}
	defer fd.Close()
	z, err := newInflate(fd)
	if err == nil {
		head, more, _ := z.head()
		if !more && !f.head.matches(head) || int64(len(head)) >= f.head.N && !f.head.matches(head) {
			s.lose(f, reasonTruncated) // or its inode was given to another file
			return false
		}
		if m := f.markNow(); m.Off > 0 && !more {
			if ok, err := z.holds(m); !ok && (err == nil || !isUnfinished(err)) {
				s.lose(f, reasonTruncated)
				return false
			}
		}
	}
	f.mu.Lock()
	if st.size != f.id.size {
		f.sizeGuess, f.ended = !f.skip, false
		if size, ok := gzipSize(fd, st.size); ok {
			f.size = max(f.size, size)
		}
	}
	f.id = st
	f.mu.Unlock()
	s.touch(f)
	s.mustSave(f)
	return true
}
