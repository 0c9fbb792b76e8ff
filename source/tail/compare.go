package tail

import (
	"bytes"
	"hash/crc32"
	"io"
	"time"
)

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
		return f.sameSum(content)
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

// sameSum is for plain content and a .gz that was never read and is gone: of that the
// checksum is known, and the length.
func (f *File) sameSum(content *compared) likeness {
	if content.size != int64(f.zipEnd>>32) {
		return different
	}
	sum := crc32.NewIEEE()
	if n, err := io.Copy(sum, io.NewSectionReader(content.at, 0, content.size)); err != nil || n < content.size {
		return cannotTell
	}
	if sum.Sum32() == uint32(f.zipEnd) {
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
			if f.zipEnd != 0 && f.zipEnd == gzipEnd(z.z.fd, z.z.disk) {
				return same
			}
			return different
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
