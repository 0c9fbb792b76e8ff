package tail

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
)

var zeroTime time.Time

// newGeneration draws a name: sixty bits, so that no two are ever the same.
func newGeneration() string { return strings.ToLower(rand.Text()[:12]) }

// vanish is called when a generation is not where it was. An open one is followed, to
// another directory or into its deletion; one that is not is lost, unless a copy
// turns up.
func (s *Source) vanish(f *File) {
	fd := f.openNow()
	if fd == nil {
		s.lose(f, reasonDeleted)
		return
	}
	st, err := statOf(fd)
	if err != nil {
		s.lose(f, reasonDeleted)
		return
	}
	if f.rewritten(fd, &st) {
		s.succeed(f, &st) // before it went away
		return
	}
	if path := nowAt(fd, &st); path != "" && path != f.home {
		s.move(f, path)
		return
	}
	s.unsettle(f)
	if !f.gzip {
		f.trim(fd, &st) // after an error it counts as it is
	}
	f.mu.Lock()
	f.home = ""
	if !f.gzip {
		f.size = max(f.size, st.size)
		f.known = f.size
	}
	f.id = st
	f.mu.Unlock()
	f.deleted = s.now
	s.held = append(s.held, f)
	s.touch(f)
	s.mustSave(f)
}

// nowAt is the present path of an open file, "" when it has none that can be looked at.
func nowAt(fd *os.File, st *stat) string {
	if st.links == 0 {
		return ""
	}
	path := nameOf(fd)
	if path == "" {
		return ""
	}
	if now, err := lstatPath(path); err != nil || !now.sameInode(st) {
		return ""
	}
	return path
}

// rewritten reports whether an open file does not hold the generation's bytes any more.
func (f *File) rewritten(fd *os.File, st *stat) bool {
	if f.gzip {
		return false
	}
	ok, err := f.markNow().holds(fd)
	return err == nil && !ok || st.size < f.plainEnd()
}

// succeed is called when an open file without a name that is watched was truncated: what
// was written to it since is a generation of its own, which has nothing but the
// descriptor.
func (s *Source) succeed(f *File, st *stat) {
	fd := f.takeFd()
	s.lose(f, reasonTruncated)
	st.trim(fd, 0, 0)
	head, err := readHead(fd, st.size)
	if err != nil || len(head) == 0 || f.skip || f.stopped {
		fd.Close()
		return
	}
	g := &File{
		source: s, gen: newGeneration(), path: f.path, captures: f.captures, input: f.input, family: f.family, order: f.order + 1,
		racy: true, id: *st, head: fingerprintOf(head), size: st.size, known: st.size,
	}
	if m, ok := g.markAt(fd, st.size); ok {
		g.mark = m
	}
	g.mu.Lock()
	g.setFd(fd)
	g.mu.Unlock()
	g.family.insert(g)
	s.births = append(s.births, g)
	s.waiting[g.family] = struct{}{}
	if g.home = nowAt(fd, st); g.home != "" {
		s.settleIn(g)
	} else {
		g.deleted = s.now
		s.held = append(s.held, g)
	}
	s.touch(g)
}

// lose is called when a generation's bytes are nowhere any more. A copy or a .gz that
// is there, or turns up soon, brings it back.
func (s *Source) lose(f *File, reason string) {
	s.unsettle(f)
	f.closeFile()
	f.mu.Lock()
	f.home = ""
	f.mu.Unlock()
	f.deleted = s.now
	f.lostAs = reason
	s.unmatch(f)
	if f.readOut() && f.delivered() {
		s.bury(f)
		return
	}
	f.lostAt = s.now
	s.lost = append(s.lost, f)
	s.waiting[f.family] = struct{}{}
	s.mustSave(f)
}

// bury ends a generation that is gone and delivered. It is remembered for a while,
// should its .gz be seen only now.
func (s *Source) bury(f *File) {
	f.closeFile()
	f.lostAt, f.deleted = zeroTime, zeroTime
	f.mu.Lock()
	f.tombAt = s.now
	f.mu.Unlock()
	s.tombs = append(s.tombs, f)
	s.waiting[f.family] = struct{}{}
	s.unmatch(f)
	s.mustSave(f)
}

// unmatch has the files judged anew that were told to be copies of f.
func (s *Source) unmatch(f *File) {
	d := s.dirs[f.family.dir]
	if d == nil {
		return
	}
	for key, o := range d.others {
		if o.of == f {
			delete(d.others, key)
			d.dirty = true
		}
	}
}

// rehome brings a generation back whose bytes are in this file.
func (s *Source) rehome(f *File, c *candidate, fd *os.File) {
	f.mu.Lock()
	f.closeLocked()
	f.home, f.gzip, f.copied, f.id, f.gone = c.path, c.gzip, !c.gzip, c.st, ""
	f.tombAt = zeroTime
	f.zipEnd = 0
	if c.gzip {
		f.zipEnd = gzipEnd(fd, c.st.size)
		if size, ok := gzipSize(fd, c.st.size); ok {
			f.size = max(f.size, size)
			f.markWithinLocked(size)
		}
		f.sizeGuess, f.ended = f.least < f.size || f.reached.Load() < f.size, false
	} else {
		f.size, f.sizeGuess, f.ended = max(f.known, c.st.size), false, true
		f.known = f.size
		if m, ok := f.markAt(fd, c.st.size); ok {
			f.mark = m
		}
		if head, err := readHead(fd, f.head.N); err == nil && int64(len(head)) < f.head.N {
			f.head = fingerprintOf(head) // what was written after the copy is nowhere
		}
	}
	f.mu.Unlock()
	f.deleted, f.lostAt = zeroTime, zeroTime
	f.scan = s.scanned
	s.settleIn(f)
	s.touch(f)
	s.waiting[f.family] = struct{}{}
	s.mustSave(f)
}

// markWithinLocked sees to it that the mark lies within a copy that lacks the last
// bytes: else it would never be known again.
func (f *File) markWithinLocked(size int64) {
	if f.mark.Off <= size {
		return
	}
	f.mark = mark{}
	for _, m := range append([]mark{f.copyMark}, f.marks[:]...) {
		if m.Off > f.mark.Off && m.Off <= size {
			f.mark = m
		}
	}
}

// mint makes a new generation of what fd reads.
func (s *Source) mint(in *input, c *candidate, fd *os.File, head []byte, skip bool) *File {
	f := &File{
		source: s, gen: newGeneration(), path: c.via, input: in.Name, family: c.fam, order: s.now.UnixNano(), skip: skip,
		racy: true, home: c.path, gzip: c.gzip, id: c.st, head: fingerprintOf(head), size: c.st.size,
	}
	if !c.base() {
		f.order = c.fam.orderOf(c, f.order)
	}
	if i, ok := in.match(c.fam.via); ok {
		f.captures, _ = in.globs[i].Match(c.fam.via)
	}
	if c.gzip {
		f.zipEnd = gzipEnd(fd, c.st.size)
		f.size, _ = gzipSize(fd, c.st.size)
		f.size = max(f.size, int64(len(head)))
		f.sizeGuess = !skip
	} else {
		f.known = c.st.size
		if m, ok := f.markAt(fd, c.st.size); ok {
			f.mark = m
		}
	}
	if !skip && s.fromEnd(in, c) && !c.gzip {
		f.start = endOf(fd, c.st.size)
		f.least = f.start.Off
		f.reached.Store(f.least)
	}
	f.scan = s.scanned
	c.fam.insert(f)
	s.settleIn(f)
	s.touch(f)
	s.births = append(s.births, f)
	s.waiting[c.fam] = struct{}{}
	s.keepOpen(f)
	return f
}

// fewOpen is the number of descriptors above which files that have long been quiet are
// not opened ahead of their readers, nor those of a start that finds very many.
const (
	fewOpen   = 150
	longQuiet = time.Minute
)

// keepOpen opens a file that has not been read to its end: its name may be gone before
// its readers come to it.
func (s *Source) keepOpen(f *File) {
	open := int(s.open.Load())
	if f.skip || f.stopped || f.home == "" || f.openNow() != nil || open >= s.maxOpen || !f.unread() {
		return
	}
	if open >= fewOpen && (len(s.births) > fewOpen || s.now.UnixNano()-max(f.id.mtime, f.id.ctime) > int64(longQuiet)) {
		return // it has been there for so long that it will still be when its turn comes
	}
	f.openFile() // an error is its readers' to meet
}

// orderOf places an unknown rotated sibling among its family: behind what was last
// written to before it, and before what has the watched name.
func (fam *family) orderOf(c *candidate, now int64) int64 {
	pred, succ := int64(0), now
	for _, f := range fam.gens {
		older := olderRotation(filepath.Base(f.home), f.id.mtime, c.name, c.st.mtime)
		if older && f.home != fam.path() {
			pred = f.order
		} else if f.order > pred {
			succ = min(succ, f.order)
		}
	}
	if pred < c.st.mtime && c.st.mtime < succ {
		return c.st.mtime
	}
	return pred + (succ-pred)/2
}

// fromEnd reports whether what the file holds now is passed over.
func (s *Source) fromEnd(in *input, c *candidate) bool {
	if in.IgnoreOlder > 0 && c.st.mtime < s.now.Add(-in.IgnoreOlder).UnixNano() {
		return true
	}
	return in.FromEnd && in.firstLook(c.via) == 0
}

// endOf is the position after the last whole line.
func endOf(fd *os.File, size int64) record.Pos {
	buf := make([]byte, min(size, 64<<10))
	from := size - int64(len(buf))
	n, _ := fd.ReadAt(buf, from)
	off := size
	for i := n - 1; i >= 0; i-- {
		if buf[i] == '\n' {
			off = from + int64(i) + 1
			break
		}
	}
	before, err := readBefore(fd, off)
	if err != nil {
		return record.Pos{Off: off}
	}
	return record.Pos{Off: off, Tail: record.TailSum(before)}
}
