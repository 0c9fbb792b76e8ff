package tail

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

const (
	dirEvery   = 500 * time.Millisecond // how often directories are looked at
	dirTold    = 2 * time.Second        // the same, where the system tells of changes
	hotEvery   = 100 * time.Millisecond // and files that have changed lately
	hotTold    = 500 * time.Millisecond // the same, where the system tells of changes
	hotFor     = 10 * time.Second
	maxHot     = 500              // so many of them at once
	sweepEvery = 10 * time.Second // all files, where the system tells of changes
	// sweepPace is for each of them when there are very many: a look at a file that nobody
	// has looked at for long costs some ten microseconds.
	sweepPace = 4 * time.Millisecond
	// doubtPace is the same for doubtFor after a change that the system had not told of.
	doubtPace  = time.Millisecond
	doubtFor   = 10 * time.Minute
	blindSweep = time.Second // all files, where it does not
	otherEvery = time.Second // what is wanted and cannot be read yet

	lostGrace   = 2 * time.Second        // how long a copy of what is gone is waited for
	deletedIdle = 700 * time.Millisecond // a deleted file that does not grow has ended, and is closed, when nobody can write to it
	endedIdle   = 5 * time.Second        // a rotated one has, and a deleted one to which somebody can write, or may: the system does not always tell
	writerEvery = time.Second            // how often that is asked
	closeIdle   = 5 * time.Second        // a file that has been read and delivered is closed
	tombFor     = 24 * time.Hour
	maxTombs    = 500
	nowhereFor  = 10 * time.Second // as tombFor, where the directory is gone as well
)

// sweep remembers how far the regular looks have come.
type sweep struct {
	at, hotAt, othersAt, fdsAt time.Time
	dirsAt, toldAt             time.Time // of directories, and of those that are told of
	repairedAt                 time.Time // when the sweep has last found what had not been told
	cursor, hotCursor          int
	owed                       float64 // looks
}

// Poll takes one look at what is due, and returns the files with news: new ones,
// grown ones, those that have ended, and those whose bytes are gone. What it returns
// is in the journal. One goroutine at a time calls it, a few times a second; now only
// moves forward.
func (s *Source) Poll(now time.Time) []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	s.clock.Store(now.UnixNano())
	s.hearAll()
	all := s.all
	s.all = false
	if s.events.overflowed() {
		all = true
	}
	suspects := s.checkSuspects()
	s.lookAtEvents()
	s.lookAtHot(now)
	s.lookAtAllFiles(now, all)
	s.lookAtDirs(now, all)
	s.looked(time.Now()) // to be compared with the times of files
	s.attendLost(now)
	s.attendHeld(now)
	s.attendTombs(now)
	if now.Sub(s.sweep.fdsAt) >= time.Second || all {
		s.sweep.fdsAt = now
		s.closeIdle()
	}
	s.bringForth(now)
	for _, f := range suspects {
		if f.lostAt.IsZero() || f.gone != "" {
			s.tell(f)
		}
	}
	s.handOut()
	return s.takeNews()
}

// look looks at a file by its name, and reports whether it has changed.
func (s *Source) look(f *File, thoroughly bool) (changed bool) {
	if f.home == "" || f.stopped {
		return false
	}
	f.lookedAt = s.now
	st, err := lstatPath(f.home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return false // a file system in trouble tells nothing
	}
	if err != nil || !st.sameInode(&f.id) {
		s.dirtyHome(f)
		return true
	}
	same := st.size == f.id.disk() && st.mtime == f.id.mtime
	if same && !thoroughly && !(f.racy && !f.gzip) {
		return false
	}
	if s.inspect(f, st, thoroughly) {
		return !same
	}
	if d := s.dirs[f.family.dir]; d != nil {
		d.dirty, d.nextAt = true, zeroTime
	}
	return true
}

// dirtyHome has the directory scanned where a file is not what it was any more. A file
// that had left the watched directories is dealt with at once.
func (s *Source) dirtyHome(f *File) {
	if d := s.dirs[filepath.Dir(f.home)]; d != nil && filepath.Dir(f.home) == f.family.dir {
		d.dirty = true
		return
	}
	if d := s.dirs[f.family.dir]; d != nil {
		d.dirty = true // it may have come back
	}
	s.vanish(f)
}

// touch notes that something has happened to a file: it is watched more closely for a
// while, and its reader is told.
func (s *Source) touch(f *File) {
	f.changed = s.now
	if !f.inHot && f.home != "" {
		f.inHot = true
		s.hot = append(s.hot, f)
	}
	if f.next.Load() != nil {
		s.waiting[f.family] = struct{}{}
	}
	s.tell(f)
}

// tell puts a file among the news.
func (s *Source) tell(f *File) {
	if !f.inNews {
		f.inNews = true
		s.news = append(s.news, f)
	}
}

func (s *Source) takeNews() []*File {
	var news []*File
	for _, f := range s.news {
		f.inNews = false
		f.mu.Lock()
		tell := f.released && f.durable && !f.skip && !f.stopped && f.tombAt.IsZero()
		f.mu.Unlock()
		if tell {
			news = append(news, f)
		}
	}
	clear(s.news)
	s.news = s.news[:0]
	return news
}

// checkSuspects looks at the files whose readers met other bytes than they knew.
func (s *Source) checkSuspects() []*File {
	var all []*File
	for _, q := range s.events.takeSuspects() {
		f := q.file
		all = append(all, f)
		if f.home == "" {
			s.suspectHeld(f, q.at)
			continue
		}
		before := f.home
		s.look(f, true)
		if f.home != before || q.at.Off == 0 || q.at.Sum == 0 || f.gzip && s.zipHolds(f, q.at) {
			continue
		}
		if !f.gzip {
			at, done := f.reader()
			ok, err := true, error(nil)
			if at != nil {
				ok, err = q.at.holds(at)
			}
			done()
			if ok || err != nil {
				continue
			}
		}
		// What is there agrees with the last look but not with what was read of it.
		f.mu.Lock()
		f.remarkLocked(q.at)
		f.size = max(f.size, q.at.Off)
		f.known = max(f.known, q.at.Off)
		f.mu.Unlock()
		s.lose(f, reasonTruncated)
		if d := s.dirs[f.family.dir]; d != nil {
			d.dirty, d.nextAt = true, zeroTime
		}
	}
	return all
}

// suspectHeld looks at a deleted file whose reader met other bytes than it knew, or none.
func (s *Source) suspectHeld(f *File, at mark) {
	fd := f.openNow()
	if fd == nil {
		if f.gone == "" && f.lostAt.IsZero() && f.tombAt.IsZero() {
			s.lose(f, reasonDeleted)
		}
		return
	}
	st, err := statOf(fd)
	if err != nil || f.gzip {
		return
	}
	other := f.rewritten(fd, &st)
	if !other && at.Sum != 0 {
		ok, err := at.holds(fd)
		other = err == nil && !ok
	}
	if other {
		s.succeed(f, &st)
	}
}

func (s *Source) zipHolds(f *File, m mark) bool {
	fd, _, err := openRegular(f.home)
	if err != nil {
		return true
	}
	defer fd.Close()
	z, err := newInflate(fd)
	if err != nil {
		return true
	}
	ok, err := z.holds(m)
	return ok || err != nil
}

// lookAtEvents looks at what the system's events have told of.
func (s *Source) lookAtEvents() {
	for _, path := range s.events.takeEnded() {
		if d := s.dirs[path]; d != nil { // another may be there by now, even with its inode
			d.watched, d.dirty = false, true
		}
	}
	for path := range s.events.take() {
		if d := s.dirs[path]; d != nil {
			d.dirty = true
		}
		d := s.dirs[filepath.Dir(path)]
		if d == nil {
			continue
		}
		known := false
		for _, in := range s.inputs {
			if f := s.byPath[pathKey{in.Name, path}]; f != nil {
				known = true
				s.look(f, false)
			} else if d.others[otherKey{in.Name, filepath.Base(path)}] != nil {
				d.dirty = true
			}
		}
		if !known {
			d.dirty = true
		}
	}
}

// lookAtHot looks at the files that have changed lately.
func (s *Source) lookAtHot(now time.Time) {
	if now.Sub(s.sweep.hotAt) < hotEvery {
		return
	}
	s.sweep.hotAt = now
	for range min(len(s.hot), maxHot) {
		if s.sweep.hotCursor >= len(s.hot) {
			s.sweep.hotCursor = 0
		}
		f := s.hot[s.sweep.hotCursor]
		quiet := now.Sub(f.changed)
		if f.home == "" || f.stopped || quiet > hotFor && f.id.padding == 0 {
			f.inHot = false
			last := len(s.hot) - 1
			s.hot[s.sweep.hotCursor] = s.hot[last]
			s.hot[last] = nil
			s.hot = s.hot[:last]
			continue
		}
		s.sweep.hotCursor++
		every := hotTold
		if f.id.padding > 0 { // nothing tells when text takes their place
			every = max(every, min(quiet/20, sweepEvery))
		}
		if now.Sub(f.lookedAt) >= every || !s.tells(f.home) {
			s.look(f, false)
		}
		s.noteEnd(f, now)
	}
}

// tells reports whether the system tells of changes of the file of that path.
func (s *Source) tells(path string) bool {
	d := s.dirs[filepath.Dir(path)]
	return d != nil && d.tells()
}

// noteEnd notes when a rotated file has stood still for long enough.
func (s *Source) noteEnd(f *File, now time.Time) {
	if f.Ended() || f.gzip || f.next.Load() == nil || now.Sub(f.changed) < endedIdle || f.home == f.family.path() {
		return
	}
	s.end(f)
}

func (s *Source) end(f *File) {
	f.mu.Lock()
	f.ended = true
	unread := f.least < f.size
	f.mu.Unlock()
	if unread {
		s.tell(f)
	}
}

// sweepPeriod is the time for all files.
func (s *Source) sweepPeriod(now time.Time) time.Duration {
	pace := sweepPace
	switch {
	case !s.events.complete():
		return blindSweep
	case now.Sub(s.sweep.repairedAt) < doubtFor:
		pace = doubtPace
	}
	return max(sweepEvery, time.Duration(len(s.files))*pace)
}

// lookAtAllFiles goes on with the sweep over all files. It repairs what lost events
// have left undone.
func (s *Source) lookAtAllFiles(now time.Time, all bool) {
	period := s.sweepPeriod(now)
	since := now.Sub(s.sweep.at)
	s.sweep.at = now
	s.sweep.owed += float64(len(s.files)) * float64(min(since, period)) / float64(period)
	if all {
		s.sweep.owed = float64(len(s.files))
	}
	n := min(int(s.sweep.owed), len(s.files))
	s.sweep.owed -= float64(n)
	for ; n > 0 && len(s.files) > 0; n-- {
		if s.sweep.cursor >= len(s.files) {
			s.sweep.cursor = 0
		}
		f := s.files[s.sweep.cursor]
		if !f.listed {
			f.inFiles = false
			last := len(s.files) - 1
			s.files[s.sweep.cursor] = s.files[last]
			s.files[last] = nil
			s.files = s.files[:last]
			continue
		}
		s.sweep.cursor++
		home, hot := f.home, f.inHot
		if s.look(f, false) && !hot && s.tells(home) {
			s.repaired.Add(1)
			s.sweep.repairedAt = now
		}
	}
}

// lookAtDirs looks at the directories, and scans those that have changed with all
// that is new below them.
func (s *Source) lookAtDirs(now time.Time, all bool) {
	due := all || now.Sub(s.sweep.dirsAt) >= s.dirsEvery(dirEvery)
	if due {
		s.sweep.dirsAt = now
	}
	dueTold := all || now.Sub(s.sweep.toldAt) >= s.dirsEvery(dirTold)
	if dueTold {
		s.sweep.toldAt = now
	}
	others := all || now.Sub(s.sweep.othersAt) >= otherEvery
	if others {
		s.sweep.othersAt = now
	}
	var queue []*dir
	for _, d := range s.dirs {
		if others {
			d.lookAtOthers(now)
		}
		d.dirty = d.dirty || all
		if (dueTold || due && !d.tells() || d.dirty || d.young) && (all || !now.Before(d.nextAt)) && d.look() {
			queue = append(queue, d)
		}
	}
	slices.SortFunc(queue, func(a, b *dir) int { return cmp.Compare(a.path, b.path) })
	done := make(map[*dir]bool)
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if done[d] || s.dirs[d.path] != d {
			continue
		}
		done[d] = true
		queue = append(queue, s.scan(d)...)
		if !d.wanted() {
			s.forgetDir(d)
		}
	}
}

// dirsEvery keeps very many directories from taking a core.
func (s *Source) dirsEvery(usually time.Duration) time.Duration {
	return max(usually, time.Duration(len(s.dirs))*100*time.Microsecond)
}

func (s *Source) forgetDir(d *dir) {
	s.unfollow(d, nil)
	if d.watched {
		s.events.remove(d.path)
	}
	delete(s.dirs, d.path)
}

// bringForth writes the new generations to the journal. Those that it does not take
// wait.
func (s *Source) bringForth(now time.Time) {
	s.births = slices.DeleteFunc(s.births, func(f *File) bool { return !f.tombAt.IsZero() && !f.durable })
	if len(s.births) == 0 && !s.sinceUnsaved || s.bornLate && now.Before(s.retryAt) {
		return
	}
	extra := make(map[string]json.RawMessage)
	err := error(nil)
	if s.sinceUnsaved {
		err = s.encodeSince(extra)
	}
	for err == nil {
		some := s.births[:min(len(s.births), maxBirths)]
		if err = s.save(extra, some, false); err != nil {
			break
		}
		extra, s.sinceUnsaved = nil, false
		for _, f := range some {
			s.tell(f)
		}
		if s.births = s.births[len(some):]; len(s.births) == 0 {
			s.births, s.bornLate = nil, false
			return
		}
	}
	if !s.bornLate {
		s.log.Error("new files cannot be noted in the state; they wait, known ones go on", "files", len(s.births), "error", err)
	}
	s.bornLate, s.retryAt = true, now.Add(time.Second)
}

// maxBirths bounds one change of the journal: it is made in memory, and a first start
// may find tens of thousands of files.
const maxBirths = 1000

// handOut releases the generations whose turn has come: each when the older ones of
// its family have been read.
func (s *Source) handOut() {
	for fam := range s.waiting {
		blocked := false
		for _, f := range fam.gens {
			if f.skip || f.stopped || !f.tombAt.IsZero() {
				continue
			}
			if !blocked && !f.released {
				f.released = true
				if f.unread() {
					s.tell(f)
				}
			}
			blocked = blocked || !f.readOut() || !f.released
		}
		if !blocked {
			delete(s.waiting, fam)
		}
	}
}

// unread reports whether there is something for its readers to do.
func (f *File) unread() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.least < f.size || f.reached.Load() < f.size || f.sizeGuess
}
