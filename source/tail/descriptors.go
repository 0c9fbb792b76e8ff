package tail

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

// descriptors knows the files that are open, to close one for another.
type descriptors struct {
	mu   sync.Mutex
	open []*File
}

// add is called with the file's mu held, like remove.
func (d *descriptors) add(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.fdIndex = len(d.open)
	d.open = append(d.open, f)
}

func (d *descriptors) remove(f *File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.open) - 1
	d.open[f.fdIndex] = d.open[last]
	d.open[f.fdIndex].fdIndex = f.fdIndex
	d.open[last] = nil
	d.open = d.open[:last]
}

// all are the open files; the slice is the caller's.
func (d *descriptors) all() []*File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.open)
}

// sample picks some open files at random.
func (d *descriptors) sample(n int) []*File {
	d.mu.Lock()
	defer d.mu.Unlock()
	var some []*File
	for range min(n, len(d.open)) {
		some = append(some, d.open[rand.IntN(len(d.open))])
	}
	return some
}

// makeRoom closes a file that was not read lately, when there are as many as may be
// open, and above a few one that is quiet. One that has no
// name any more is not closed. No File.mu is held.
func (s *Source) makeRoom() {
	open := int(s.open.Load())
	if open < min(fewOpen, s.maxOpen) {
		return
	}
	full := open >= s.maxOpen
	var victim *File
	var of *os.File
	for _, f := range s.descriptors.sample(8) {
		f.mu.Lock()
		fd, named := f.fd, f.home != ""
		quiet := f.reached.Load() >= f.size && !f.sizeGuess && s.since(f.id.mtime) > closeIdle ||
			f.next.Load() == nil && s.since(f.id.mtime) > longQuiet
		f.mu.Unlock()
		if fd != nil && named && (full || quiet) && (victim == nil || f.used.Load() < victim.used.Load()) {
			victim, of = f, fd
		}
	}
	if victim != nil {
		victim.dropFd(of)
	}
}
