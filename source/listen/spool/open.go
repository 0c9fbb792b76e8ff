package spool

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

// Open opens the spool in a directory, which is made if need be. What a crash has torn
// at its end is cut off.
func Open(o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	l := &Log{opt: o, segBytes: segmentBytes(o.Limit), sync: syncData, synced: make(chan struct{})}
	l.work.L = &l.mu
	if err := l.load(); err != nil {
		for _, s := range l.segments {
			s.file.Close()
		}
		l.keys.close()
		return nil, fmt.Errorf("spool %s: %w", o.Dir, err)
	}
	go l.syncer()
	return l, nil
}

// load takes up what is there.
func (l *Log) load() error {
	names, err := filepath.Glob(filepath.Join(l.opt.Dir, "*.spool"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	if err := l.keys.open(l.opt.Dir, l.opt.Now()); err != nil {
		return err
	}
	for i, path := range names {
		base, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(path), ".spool"), 10, 64)
		if err != nil || base < 0 {
			continue // nobody's
		}
		if err := l.loadSegment(path, base, i == len(names)-1); err != nil {
			return err
		}
	}
	return l.begin()
}

// loadSegment takes up one file. Of the last one every frame is checked, of the others
// only the heads are read, as far as they are good: what is wrong with the frames is met
// by whoever reads them.
func (l *Log) loadSegment(path string, base int64, last bool) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	s := &segment{base: base, end: base + info.Size(), file: file, path: path}
	if n := len(l.segments); n > 0 && l.segments[n-1].end > base {
		l.segments[n-1].end = base // it grew no further than its successor's beginning
	}
	l.segments = append(l.segments, s)
	end, err := l.scan(s, info.Size(), last)
	if err != nil || !last || end == info.Size() {
		return err
	}
	l.opt.Log.Warn("the end of the spool was torn by a crash and is cut off; nobody had an answer for it", "state", path, "bytes", info.Size()-end)
	if err := file.Truncate(end); err != nil {
		return err
	}
	s.end = base + end
	return nil
}

// scan passes the frames of a segment, notes their keys, and returns where the last good
// one ends.
func (l *Log) scan(s *segment, size int64, check bool) (end int64, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, size), 256<<10)
	var buf []byte
	for at := int64(0); at < size; {
		head, err := r.Peek(headBytes + len(Key{}))
		if len(head) < headBytes && err != nil && err != io.EOF {
			return end, err
		}
		v, n, ok := parseHead(head)
		if ok && at+int64(n) <= size {
			if check || v.Kind == kindSegment {
				if buf = slices.Grow(buf[:0], n)[:n]; true {
					if _, err := io.ReadFull(r, buf); err != nil {
						return end, err
					}
				}
				if v, _, err = Parse(buf); err != nil {
					ok = false
				}
			} else {
				copy(v.key[:], head[headBytes:])
				if _, err := r.Discard(n); err != nil {
					return end, err
				}
			}
			at += int64(n)
			if ok {
				end = at
				l.note(s, &v, end)
				continue
			}
			// Its head is good and its body is not: go on behind the head, where whole
			// frames may be.
			at -= int64(n)
		}
		next, err := l.nextFrame(s, at+1, size)
		if err != nil || next < 0 {
			return end, err
		}
		at = next
		r.Reset(io.NewSectionReader(s.file, at, size-at))
	}
	return end, nil
}

// nextFrame finds the next whole frame of a segment at or after the place; -1 when there
// is none.
func (l *Log) nextFrame(s *segment, at, size int64) (int64, error) {
	buf := make([]byte, 1<<20)
	for at < size {
		n, err := s.file.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return -1, err
		}
		for i := 0; i+headBytes <= n; {
			if _, length, ok := parseHead(buf[i:n]); ok && at+int64(i+length) <= size {
				whole := make([]byte, length)
				if _, err := s.file.ReadAt(whole, at+int64(i)); err != nil && err != io.EOF {
					return -1, err
				}
				if _, _, err := Parse(whole); err == nil {
					return at + int64(i), nil
				}
			}
			i += Resync(buf[i:n])
		}
		if at+int64(n) >= size || n < headBytes {
			break
		}
		at += int64(n - headBytes + 1)
	}
	return -1, nil
}

// note takes from a frame what is to be known of it.
func (l *Log) note(s *segment, v *View, end int64) {
	if v.Kind == kindSegment {
		if l.generation == "" {
			l.generation = string(v.Project)
		}
		return
	}
	if v.key == (Key{}) {
		return
	}
	k := kept{key: v.key, at: v.Time / 1000, sum: anySum}
	if v.Payload != nil {
		k.sum = sumOf(v.Payload)
	}
	l.keys.put(k.key, known{at: k.at, sum: k.sum, end: s.base + end})
	s.keys = append(s.keys, k)
}

// begin makes the log ready to be written to.
func (l *Log) begin() error {
	if l.generation == "" {
		l.generation = newGeneration()
	}
	first := int64(0)
	if n := len(l.segments); n > 0 {
		first = l.segments[n-1].end
	}
	if l.opt.NotBefore != nil {
		first = max(first, l.opt.NotBefore(l.generation))
	}
	if n := len(l.segments); n == 0 || l.segments[n-1].end < first || l.segments[n-1].end == l.segments[n-1].base {
		if n > 0 && l.segments[n-1].end == l.segments[n-1].base { // an empty file
			l.segments[n-1].file.Close()
			l.segments = l.segments[:n-1]
		}
		if _, err := l.newSegment(first); err != nil {
			return err
		}
	}
	l.written = l.segments[len(l.segments)-1].end
	l.durable = l.written
	for _, s := range l.segments { // what the process before this one wrote may lie in the system's memory
		if err := syncData(s.file); err != nil {
			return err
		}
		s.dirty = false
	}
	l.newNames = false
	return atomicfile.SyncDir(l.opt.Dir)
}

// End is the offset at which the spool in a directory ends that nobody has open, by the
// lengths of its files; 0 when there is none.
func End(dir string) (end int64) {
	names, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		return 0
	}
	for _, path := range names {
		base, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(path), ".spool"), 10, 64)
		if info, bad := os.Stat(path); err == nil && bad == nil {
			end = max(end, base+info.Size())
		}
	}
	return end
}

// Left is how many bytes of frames stand at or behind an offset in the spool of a
// directory that nobody has open. generation is the spool's name.
func Left(dir string, from int64) (generation string, bytes int64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.spool"))
	if err != nil {
		return "", 0, err
	}
	slices.Sort(names)
	for _, path := range names {
		base, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(path), ".spool"), 10, 64)
		if err != nil {
			continue // nobody's
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", 0, err
		}
		for at := base; len(data) > 0; {
			v, _, err := Parse(data)
			n := v.Size
			switch {
			case err != nil || n == 0: // damaged, or torn
				n = Resync(data)
			case v.IsSegment():
				generation = string(v.Project)
			case at >= from:
				bytes += int64(n)
			}
			data, at = data[n:], at+int64(n)
		}
	}
	return generation, bytes, nil
}
