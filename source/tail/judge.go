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
	} else if err := c.st.trim(fd, 0, 0); err != nil {
		content.why = unfinished
	} else if c.st.size == 0 {
		content.why = padded
	} else {
		content = s.plain(fd, c.st.size)
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
	for _, magic := range magics {
		switch {
		case bytes.HasPrefix(head, magic):
			return compared{why: compressed}
		case len(head) < len(magic) && bytes.HasPrefix(magic, head) && s.since(mtimeOf(fd)) < copyGrace:
			return compared{why: unfinished}
		}
	}
	return compared{head: head, size: size, at: fd}
}

// magics are how compressed files begin: gzip, zstd, xz, bzip2 and lz4. No log does.
var magics = [][]byte{
	{0x1f, 0x8b, 8}, {0x28, 0xb5, 0x2f, 0xfd}, {0xfd, '7', 'z', 'X', 'Z', 0}, []byte("BZh91AY&SY"), {4, 0x22, 0x4d, 0x18},
}

func mtimeOf(fd *os.File) int64 {
	st, err := statOf(fd)
	if err != nil {
		return 0
	}
	return st.mtime
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
	if m, ok := f.markAt(content.at, content.size); ok {
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

// beforeOurTime reports whether an unknown sibling was rotated before anybody asked
// for its family, or before the oldest of its generations that is still known: then
// somebody has put an old one back. One between known ones is read: a listing that is
// taken in the midst of a rotation may miss one and show the next.
func (s *Source) beforeOurTime(in *input, c *candidate, familyKnown bool) bool {
	if in.IgnoreOlder > 0 && c.st.mtime < s.now.Add(-in.IgnoreOlder).UnixNano() {
		return true
	}
	since := in.firstLook(c.fam.via)
	if since == 0 && !familyKnown {
		// One that has got its name since the start was there under the watched one.
		return c.st.ctime <= s.began.UnixNano()
	}
	if c.st.mtime < since-int64(clockSlack) {
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
