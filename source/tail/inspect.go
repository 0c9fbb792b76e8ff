package tail

import (
	"errors"
	"io/fs"
	"time"
)

// inspect compares a generation's home with what is known of it, and takes what is
// new. It reports false when the file there holds something else now: then the
// generation has been lost, and the caller has the directory scanned. thoroughly
// looks at the content though the metadata say that nothing has changed.
func (s *Source) inspect(f *File, st stat, thoroughly bool) bool {
	same := st.size == f.id.disk() && st.mtime == f.id.mtime
	if same && !thoroughly && !(f.racy && !f.gzip) {
		st.size, st.padding = f.id.size, f.id.padding
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
	ok, now, marked, err := f.nextMark(m, at, st.size)
	if ok && err == nil && !marked {
		if err = f.trim(at, &st); st.padding > 0 {
			f.racy = true
			now, marked = f.markAt(at, st.size)
		}
	}
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
	if same && st.size == f.id.size {
		return true
	}
	if marked {
		m = now
	}
	s.grown(f, st, head, m, true)
	return true
}

// grown takes what a look at a generation has told. Where the content could not be
// compared the metadata are not taken for seen.
func (s *Source) grown(f *File, st stat, head fingerprint, m mark, compared bool) {
	if !compared && st.size == f.id.disk() {
		st.size, st.padding = f.id.size, f.id.padding
	}
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
	if f.zipEnd != 0 && (st.size < f.id.size || gzipEnd(fd, f.id.size) != f.zipEnd) {
		s.lose(f, reasonTruncated) // its inode was given to another file
		return false
	}
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
	f.id, f.zipEnd = st, gzipEnd(fd, st.size)
	f.mu.Unlock()
	s.touch(f)
	s.mustSave(f)
	return true
}
