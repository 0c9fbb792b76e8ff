package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

const suffix = ".journal"

func (j *Journal) path(generation uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%s.%06d%s", j.name, generation, suffix))
}

// generations lists those that are there, the newest first, and removes what an
// interrupted replacement has left.
func (j *Journal) generations() ([]uint64, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), j.name+".")
		if !ok {
			continue
		}
		if strings.HasSuffix(number, suffix+atomicfile.TempSuffix) {
			if err := removeIfThere(filepath.Join(j.dir, e.Name())); err != nil {
				j.log.Warn("leftover of an interrupted write stays", "state", e.Name(), "error", err)
			}
			continue
		}
		number, ok = strings.CutSuffix(number, suffix)
		n, err := strconv.ParseUint(number, 10, 64)
		if !ok || err != nil || filepath.Base(j.path(n)) != e.Name() {
			continue
		}
		if e.IsDir() {
			j.log.Error("there is a directory in place of the state file; lines may be sent twice", "state", j.path(n))
			if err := j.putAside(j.path(n)); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, n)
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

// load reads the newest generation. Where it is damaged, the records of the one
// before it are read first and those of the newest played on top: that is all the
// newest held when it began.
func (j *Journal) load() error {
	generations, err := j.generations()
	if err != nil {
		return err
	}
	if len(generations) == 0 {
		return j.firstFile()
	}
	var read []content
	for i, g := range generations {
		j.generation = g
		c, err := j.readFile(g)
		if err != nil {
			return err
		}
		if c.version > version {
			return fmt.Errorf("it was written by a newer tailwater (format %d; this one knows up to %d): run that one, or move the state directory away, at the price of sending lines twice", c.version, version)
		}
		read = append(read, c)
		if c.complete {
			generations = generations[:i+1]
			break
		}
	}
	for i := len(read) - 1; i >= 0; i-- {
		read[i].applyTo(j.records)
	}
	for key, value := range j.records {
		j.live += recordSize(key, value)
	}
	return j.goOn(generations[0], read)
}

// firstFile makes an empty journal. A full disk is left to Commit to complain about.
func (j *Journal) firstFile() error {
	err := j.replace(nil)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		j.log.Error("state file not made; it is tried again with each checkpoint", "state", j.path(j.generation+1), "error", err)
	}
	return nil
}

func (j *Journal) readFile(generation uint64) (content, error) {
	data, err := os.ReadFile(j.path(generation))
	if err != nil && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
		return content{}, err
	}
	if err != nil {
		j.log.Error("state file is readable in part only", "state", j.path(generation), "bytes", len(data), "error", err)
	}
	c := read(data)
	if err != nil {
		c.complete = false
	}
	return c, nil
}

// goOn opens the newest generation for appending, or the next one where something of
// what was read is damaged. read are the contents, the newest first.
func (j *Journal) goOn(newest uint64, read []content) error {
	j.generation = newest
	c := read[0]
	f, err := os.OpenFile(j.path(newest), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	j.file, j.length = f, c.good
	j.nextCompact = compactBytes
	if c.whole() && len(read) == 1 {
		if c.size > c.good {
			j.log.Warn("the last write to the state did not end; it is cut off", "state", j.path(newest), "bytes", c.size-c.good)
			j.dirty = true
		}
		return nil
	}
	return j.setAside(read)
}

// setAside replaces a damaged generation by one with all that could be read. Where
// the disk has no room for that the damaged one is appended to.
func (j *Journal) setAside(read []content) error {
	c := read[0]
	damaged := j.path(j.generation)
	j.log.Error("state file is damaged; what is readable is used, and lines may be sent twice", "state", damaged,
		"bad_bytes", int64(c.bad)+c.size-c.good, "snapshot_complete", c.complete, "records", len(j.records))
	j.length = c.size
	if err := j.replace(nil); err != nil {
		j.log.Error("damaged state file could not be replaced; it goes on being used", "state", damaged, "error", err)
		j.ragged = true
		return nil
	}
	if err := j.putAside(damaged); err != nil {
		j.log.Warn("damaged state file keeps its name", "state", damaged, "error", err)
	}
	return nil
}

// putAside renames what is damaged, for whoever wants to look into it.
func (j *Journal) putAside(damaged string) error {
	base := strings.TrimSuffix(damaged, suffix) + ".corrupt-" + time.Now().UTC().Format("20060102T150405")
	aside := base
	for n := 1; exists(aside); n++ {
		aside = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(damaged, aside); err != nil {
		return err
	}
	j.log.Warn("damaged state file set aside; it may be deleted", "state", aside)
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
