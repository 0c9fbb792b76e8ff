package tail

import (
	"cmp"
	"slices"
	"time"
)

// attendLost gives up what no copy has turned up of.
func (s *Source) attendLost(now time.Time) {
	s.lost = slices.DeleteFunc(s.lost, func(f *File) bool { return f.lostAt.IsZero() })
	for _, f := range s.lost {
		switch {
		case f.delivered() && (f.gone != "" || now.Sub(f.lostAt) >= lostGrace):
			s.bury(f)
		case f.gone == "" && now.Sub(f.lostAt) >= lostGrace:
			f.mu.Lock()
			f.gone = cmp.Or(f.lostAs, reasonDeleted)
			f.goneFrom = f.least
			f.sizeGuess, f.ended = false, true
			f.mu.Unlock()
			s.mustSave(f)
			s.tell(f)
			s.waiting[f.family] = struct{}{}
		}
	}
}

// attendHeld follows the deleted files that are open, closes those that have been
// delivered, and gives the oldest up when they hold too much of the disk.
func (s *Source) attendHeld(now time.Time) {
	s.held = slices.DeleteFunc(s.held, func(f *File) bool { return f.deleted.IsZero() || f.openNow() == nil })
	for _, f := range s.held {
		st, err := statOf(f.openNow())
		if err != nil {
			s.lose(f, reasonDeleted)
			continue
		}
		same := st.size == f.id.disk() && st.mtime == f.id.mtime
		if !same || f.id.padding > 0 {
			if f.rewritten(f.openNow(), &st) {
				s.succeed(f, &st)
				continue
			}
			err = f.trim(f.openNow(), &st)
			same = same && (err != nil || st.size == f.id.size)
		}
		if !same {
			f.mu.Lock()
			if !f.gzip {
				f.size, f.ended = max(f.size, st.size), false
				f.known = f.size
				if m, ok := f.markAt(f.fd, st.size); ok {
					f.remarkLocked(m)
				}
			}
			f.id = st
			f.mu.Unlock()
			f.askedAt = zeroTime
			s.touch(f)
			continue
		}
		f.mu.Lock()
		f.id.blocks = st.blocks
		f.mu.Unlock()
		if now.Sub(f.changed) < deletedIdle {
			continue
		}
		// What a program still has open may get the rest of its last line.
		over := f.isOver(now)
		if !f.Ended() && !f.gzip && (over || now.Sub(f.changed) >= endedIdle) {
			s.end(f)
		}
		if f.skip || f.stopped || over && f.readOut() && f.delivered() {
			s.bury(f)
		}
	}
	for total := s.heldBytes(); s.heldDeleted > 0 && total > s.heldDeleted; total = s.heldBytes() {
		s.giveUpOldest()
	}
}

// isOver reports whether nobody can write to a deleted file any more. As long as a program
// has it open, to close it here would give no disk back, and lose what the program writes.
// Source.mu is held.
func (f *File) isOver(now time.Time) bool {
	if now.Sub(f.askedAt) >= writerEvery {
		f.askedAt = now
		open, known := openForWriting(f.openNow())
		f.over = !open && (known || now.Sub(f.changed) >= endedIdle)
	}
	return f.over
}

func (s *Source) heldBytes() (total int64) {
	for _, f := range s.held {
		f.mu.Lock()
		if f.fd != nil && f.home == "" && f.least < f.size { // else a program has it open
			total += max(f.id.blocks, 0)
		}
		f.mu.Unlock()
	}
	return total
}

// giveUpOldest closes the deleted file that was the first to be deleted. Its .gz, if
// there is one, is read instead.
func (s *Source) giveUpOldest() {
	var oldest *File
	for _, f := range s.held {
		if f.openNow() != nil && f.home == "" && !f.delivered() && (oldest == nil || f.deleted.Before(oldest.deleted)) {
			oldest = f
		}
	}
	if oldest == nil {
		return
	}
	s.log.Error("deleted files hold more of the disk than they may; the one that was deleted first is given up", "file", oldest.path,
		"bytes", oldest.id.blocks, "limit", s.heldDeleted, "unread", oldest.Size()-oldest.reached.Load())
	s.lose(oldest, reasonHeldDeleted)
}

// attendTombs forgets the generations that are gone and delivered after a while.
func (s *Source) attendTombs(now time.Time) {
	s.tombs = slices.DeleteFunc(s.tombs, func(f *File) bool { return f.tombAt.IsZero() })
	kept := s.tombs[:0]
	for i, f := range s.tombs {
		d := s.dirs[f.family.dir]
		keep := tombFor
		if d == nil || !d.there && d.scans > 0 {
			keep = nowhereFor
		}
		if len(s.tombs)-i > maxTombs || now.Sub(f.tombAt) > keep {
			s.remove(f)
			continue
		}
		kept = append(kept, f)
	}
	clear(s.tombs[len(kept):])
	s.tombs = kept
}

// closeIdle closes files that are not needed now.
func (s *Source) closeIdle() {
	open := s.descriptors.all()
	named := open[:0]
	for _, f := range open {
		if f.home == "" {
			continue
		}
		idle := s.now.Sub(f.changed) > closeIdle && s.since(f.used.Load()) > closeIdle
		if idle && f.readOut() && f.delivered() || f.stopped || f.skip {
			f.closeFile()
			continue
		}
		named = append(named, f)
	}
	excess := int(s.open.Load()) - s.maxOpen
	if excess <= 0 {
		return
	}
	slices.SortFunc(named, func(a, b *File) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	for _, f := range named[:min(excess, len(named))] {
		f.closeFile()
	}
}
