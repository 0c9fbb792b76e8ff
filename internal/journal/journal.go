package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

const (
	// A journal is compacted when it is larger than both.
	compactBytes  = 256 << 10
	compactFactor = 2

	// preallocate is the room that is claimed ahead of the end, so that a disk that
	// fills up does not stop the small commits at once.
	preallocate = 512 << 10

	snapshotLineBytes = 64 << 10 // about: one damaged line must not cost much
)

// Journal is a set of records, in memory and on disk. All methods may be called from
// several goroutines.
type Journal struct {
	dir, name string
	log       *slog.Logger

	// commit is held while the file is written to. It guards what follows.
	commit     sync.Mutex
	file       *os.File // nil until one could be made
	generation uint64
	length     int64 // where the last good line ends
	claimed    int64 // what is preallocated, from the file's start
	dirty      bool  // the file may hold bytes after length
	ragged     bool  // the file may end within an unreadable line
	// nextCompact is the length at which compaction is tried next.
	nextCompact int64
	// owed are the changes of commits that failed, for the next one to carry.
	owed map[string]json.RawMessage

	// mu guards the records. It is not held while the disk is waited for.
	mu      sync.RWMutex
	records map[string]json.RawMessage
	live    int64 // about the size of a snapshot, in bytes
}

// Open reads the records of the journal name in dir, which must exist, and makes an
// empty one where there is none. Damage is repaired as far as possible, logged, and
// the damaged files are kept beside it as NAME.GENERATION.corrupt-..; a journal of a
// newer version is an error. With a full disk it opens all the same, and Commit fails
// until there is room. The caller holds the directory's lock.
func Open(dir, name string, log *slog.Logger) (*Journal, error) {
	j := &Journal{dir: dir, name: name, log: log, records: make(map[string]json.RawMessage), nextCompact: compactBytes}
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("state %s: %w", j.path(j.generation), err)
	}
	return j, nil
}

// Get returns the record of that key. The caller must not change it.
func (j *Journal) Get(key string) (json.RawMessage, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	value, ok := j.records[key]
	return value, ok
}

// Range calls f for each record, in no particular order. f must neither keep nor
// change value, nor call the journal.
func (j *Journal) Range(f func(key string, value []byte)) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	for key, value := range j.records {
		f(key, value)
	}
}

// Commit sets the given records, and deletes those whose value is nil: all of them or
// none, and on disk when it returns nil. When it returns an error the records are as
// before, and the next Commit tries to bring this change to disk, too, before its own.
// The values must be JSON and belong to the journal from now on.
func (j *Journal) Commit(change map[string]json.RawMessage) error {
	j.commit.Lock()
	defer j.commit.Unlock()
	all := change
	if len(j.owed) > 0 {
		all = make(map[string]json.RawMessage, len(j.owed)+len(change))
		for key, value := range j.owed {
			all[key] = value
		}
		for key, value := range change {
			all[key] = value
		}
	}
	if len(all) == 0 {
		return nil
	}
	raw, err := appendChange(nil, all, false)
	if err != nil {
		return err
	}
	if err := j.append(raw); err != nil {
		j.owe(all)
		return fmt.Errorf("state %s: %w", j.path(j.generation), err)
	}
	j.owed = nil
	j.apply(all)
	if j.length >= j.nextCompact {
		j.compact()
	}
	return nil
}

// owe keeps a change that did not reach the disk. The caller may go on using its map.
func (j *Journal) owe(change map[string]json.RawMessage) {
	j.owed = make(map[string]json.RawMessage, len(change))
	for key, value := range change {
		j.owed[key] = value
	}
}

func (j *Journal) apply(change map[string]json.RawMessage) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, value := range change {
		if old, ok := j.records[key]; ok {
			j.live -= recordSize(key, old)
		}
		if value == nil {
			delete(j.records, key)
			continue
		}
		j.records[key] = value
		j.live += recordSize(key, value)
	}
}

func recordSize(key string, value []byte) int64 { return int64(len(key) + len(value) + 4) }

// append writes whole lines and brings them to disk. On an error the file is cut back
// to what it was, now or before the next append.
func (j *Journal) append(raw []byte) error {
	if j.file == nil {
		return j.replace(raw)
	}
	if _, err := os.Stat(j.path(j.generation)); errors.Is(err, fs.ErrNotExist) {
		return j.resurrect(raw)
	}
	if err := j.repair(); err != nil {
		return err
	}
	if j.ragged {
		// What is appended must not become part of an unreadable line.
		raw = append([]byte("\n"), raw...)
	}
	j.claim(int64(len(raw)))
	j.dirty = true
	_, err := j.file.WriteAt(raw, j.length)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// After a failed fsync the kernel takes the pages for clean, though they may
		// not be on disk: writing them anew is what makes the next fsync mean something.
		return errors.Join(err, j.repair())
	}
	j.dirty, j.ragged = false, false
	j.length += int64(len(raw))
	return nil
}

// resurrect is append when somebody has deleted the file, or all of the directory: what
// was appended to it would be gone with the process.
func (j *Journal) resurrect(raw []byte) error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	if err := j.replace(raw); err != nil {
		return err
	}
	j.log.Error("the state was deleted while it was in use; it is written anew from memory. Stop the agent before deleting it, and restart it now: its lock and socket may be gone",
		"state", j.path(j.generation))
	return nil
}

// repair cuts off what a failed append has left.
func (j *Journal) repair() error {
	if !j.dirty {
		return nil
	}
	if err := j.file.Truncate(j.length); err != nil {
		return fmt.Errorf("cut back to %d bytes: %w", j.length, err)
	}
	j.dirty = false
	j.claimed = 0 // truncating gives the claim back
	return nil
}

// claim sees to it that the disk has room for what will be appended.
func (j *Journal) claim(n int64) {
	if j.length+n+preallocate/4 <= j.claimed {
		return
	}
	if allocate(j.file, j.length+n+preallocate) == nil {
		j.claimed = j.length + n + preallocate
	}
}

// slim compacts what has grown before a rest, the predecessor which is kept, too: twice,
// so that both are small. An error leaves a journal that is whole.
func (j *Journal) slim() {
	j.mu.RLock()
	live := j.live
	j.mu.RUnlock()
	size := j.length
	if info, err := os.Stat(j.path(j.generation - 1)); err == nil {
		size = max(size, info.Size())
	}
	if size < compactBytes || size < live*compactFactor {
		return
	}
	if j.replace(nil) == nil {
		j.replace(nil)
	}
}

// Close gives the file back. Commit must not be called any more.
func (j *Journal) Close() error {
	j.commit.Lock()
	defer j.commit.Unlock()
	if len(j.owed) > 0 {
		j.log.Error("state records could not be written before the end", "state", j.dir, "records", len(j.owed))
	}
	if j.file == nil {
		return nil
	}
	j.slim()
	err := j.repair()
	if err == nil && j.claimed > 0 {
		err = j.file.Truncate(j.length) // gives the claimed room back
	}
	err = errors.Join(err, j.file.Close())
	j.file = nil
	return err
}

// compact begins the next generation with nothing but the present records. When that
// fails the present one goes on growing.
func (j *Journal) compact() {
	j.mu.RLock()
	live := j.live
	j.mu.RUnlock()
	if j.length < live*compactFactor {
		j.nextCompact = max(compactBytes, live*compactFactor)
		return
	}
	if err := j.replace(nil); err != nil {
		j.nextCompact = j.length + compactBytes/2
		j.log.Warn("state not compacted; it grows until that works", "state", j.path(j.generation), "bytes", j.length, "error", err)
	}
}

// Compact leaves nothing but the present records on disk: what was deleted is in no
// file any more.
func (j *Journal) Compact() error {
	j.commit.Lock()
	defer j.commit.Unlock()
	if err := j.replace(nil); err != nil { // beside it, its predecessor is kept
		return err
	}
	return j.replace(nil)
}

// replace writes the next generation, the records and the lines in raw, and goes on
// in it. The present generation is kept, the one before it removed.
func (j *Journal) replace(raw []byte) error {
	next := j.generation + 1
	path := j.path(next)
	temp := path + atomicfile.TempSuffix
	data := append(j.snapshot(next), raw...)
	f, err := j.writeNew(temp, data)
	if err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	if err := atomicfile.Rename(temp, path); err != nil {
		// The name may be there and not last: it must not be found beside a present
		// generation that goes on without it.
		return errors.Join(err, f.Close(), removeIfThere(path))
	}
	if j.file != nil {
		j.file.Close()
	}
	old := j.generation
	j.file, j.generation, j.length, j.claimed, j.dirty, j.ragged = f, next, int64(len(data)), 0, false, false
	j.claim(0)
	j.nextCompact = max(compactBytes, j.length*compactFactor)
	j.removeBefore(old)
	return nil
}

// removeBefore removes the generations that are older than the given one.
func (j *Journal) removeBefore(kept uint64) {
	all, err := j.generations()
	for _, g := range all {
		if g < kept {
			err = errors.Join(err, removeIfThere(j.path(g)))
		}
	}
	if err != nil {
		j.log.Warn("old state files stay", "state", j.dir, "error", err)
	}
}

func (j *Journal) writeNew(path string, data []byte) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync() // content before name
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// snapshot is the head of a generation: header, all records, end.
func (j *Journal) snapshot(generation uint64) []byte {
	head, err := json.Marshal(line{Version: version, Generation: generation})
	if err != nil {
		panic(err) // numbers always marshal
	}
	data := appendLine(nil, head)
	lines := 0
	some := make(map[string]json.RawMessage)
	bytes := int64(0)
	flush := func() {
		if len(some) == 0 {
			return
		}
		if data, err = appendChange(data, some, true); err != nil {
			panic(err) // each was checked when it was committed
		}
		lines++
		clear(some)
		bytes = 0
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	for key, value := range j.records {
		some[key] = value
		if bytes += recordSize(key, value); bytes >= snapshotLineBytes {
			flush()
		}
	}
	flush()
	end, err := json.Marshal(line{Snapshot: lines + 1})
	if err != nil {
		panic(err)
	}
	return appendLine(data, end)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
