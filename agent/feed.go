package agent

import (
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/listen/spool"
	"github.com/tailwater/tailwater/source/tail"
)

// feed is what a flow reads: one of a log file, or the spool of an input that
// lines are sent to. See tail.File for what the methods mean.
type feed interface {
	Gen() string
	Path() string
	CurrentPath() string
	Watched() string
	Input() string
	Captures() []record.KeyValue
	Size() int64
	ModTime() time.Time
	HoleEnd(off int64) int64
	Ended() bool
	Start() record.Pos
	Reached(off int64)
	ReadAt(buf []byte, at record.Pos) (int, error)
	Progress() tail.Progress
	SetProgress(tail.Progress)
}

// next is the file generation that follows, nil when there is none.
func (f *flow) next() *tail.File {
	if file, ok := f.file.(*tail.File); ok {
		return file.Next()
	}
	return nil
}

// prev is the file generation before, nil when there is none.
func (f *flow) prev() *tail.File {
	if file, ok := f.file.(*tail.File); ok {
		return file.Prev()
	}
	return nil
}

// received tells that the flow is what senders have sent, and no file.
func (f *flow) received() bool {
	_, ok := f.file.(*spoolFile)
	return ok
}

// spoolFile is a spool as a flow reads it: one generation that never ends, whose
// beginning is deleted when every output has it.
type spoolFile struct {
	*spool.Log
	input string

	mu       sync.Mutex // guards what follows
	progress tail.Progress
	dirty    bool  // progress is not in the journal
	saved    int64 // the offset before which every output has everything, by the journal
}

// spoolEntry is what the journal has of a spool.
type spoolEntry struct {
	Generation string `json:"generation"`
	tail.Progress
}

const spoolPrefix = "spool/"

// openSpool opens the spool of an input, where the outputs left it.
func (a *Agent) openSpool(input string, limit int64, synced func()) (*spoolFile, error) {
	var entry spoolEntry
	if raw, ok := a.journal.Get(spoolPrefix + input); ok {
		if err := json.Unmarshal(raw, &entry); err != nil {
			a.log.Error("what the state holds of a spool is unreadable; all of it is sent again, with the same ids", "input", input, "error", err)
			entry = spoolEntry{}
		}
	}
	log, err := spool.Open(spool.Options{
		Dir: a.spoolDir(input), Limit: limit, Synced: synced, Log: a.log.With("input", input),
		NotBefore: func(generation string) int64 {
			most := int64(0)
			if generation == entry.Generation {
				for _, p := range entry.Pos {
					most = max(most, p.Off)
				}
			}
			return most
		},
	})
	if err != nil {
		return nil, err
	}
	f := &spoolFile{Log: log, input: input}
	if entry.Generation == log.Generation() {
		f.progress = entry.Progress
	}
	return f, nil
}

// Gen is the spool's name, part of the ids of its lines.
func (f *spoolFile) Gen() string { return f.Generation() }

// Path is the spool's directory.
func (f *spoolFile) Path() string { return f.Dir() }

// CurrentPath is the spool's directory.
func (f *spoolFile) CurrentPath() string { return f.Dir() }

// Watched is the spool's directory.
func (f *spoolFile) Watched() string { return f.Dir() }

// ModTime is nothing that matters: senders tell when something was sent.
func (f *spoolFile) ModTime() time.Time { return time.Now() }

// HoleEnd is off: there are no holes.
func (f *spoolFile) HoleEnd(off int64) int64 { return off }

// Input is the input that lines are sent to.
func (f *spoolFile) Input() string { return f.input }

// Captures are none.
func (f *spoolFile) Captures() []record.KeyValue { return nil }

// Size is the end of what is on disk for good.
func (f *spoolFile) Size() int64 { _, end := f.Bounds(); return end }

// Ended is false: more may always be sent.
func (f *spoolFile) Ended() bool { return false }

// Start is the beginning of what is there.
func (f *spoolFile) Start() record.Pos { first, _ := f.Bounds(); return record.Pos{Off: first} }

// Reached has nobody to tell.
func (f *spoolFile) Reached(int64) {}

// ReadAt reads as a file of a tail.Source does.
func (f *spoolFile) ReadAt(buf []byte, at record.Pos) (int, error) {
	n, err := f.Log.ReadAt(buf, at.Off)
	if gone := (*spool.GoneError)(nil); errors.As(err, &gone) {
		return n, &tail.GoneError{From: at.Off, To: gone.To, Reason: "spool_deleted"}
	}
	return n, err
}

// Progress is how far the outputs have got. It belongs to the caller.
func (f *spoolFile) Progress() tail.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.progress
	p.Pos, p.Sums, p.Lost = maps.Clone(p.Pos), maps.Clone(p.Sums), slices.Clone(p.Lost)
	return p
}

// SetProgress keeps p for the next checkpoint.
func (f *spoolFile) SetProgress(p tail.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress, f.dirty = p, true
}

// checkpointSpools adds the spools' entries to a checkpoint. What it returns may be
// deleted when that is on disk.
func (a *Agent) checkpointSpools(into map[string]json.RawMessage) (trims map[*spoolFile]int64) {
	for _, r := range a.allReceivers() {
		f := r.file
		f.mu.Lock()
		if f.dirty {
			raw, err := json.Marshal(spoolEntry{f.Generation(), f.progress})
			if err == nil {
				into[spoolPrefix+f.input], f.dirty = raw, false
			}
			least := int64(-1)
			for _, p := range f.progress.Pos {
				if least < 0 || p.Off < least {
					least = p.Off
				}
			}
			f.saved = max(f.saved, least)
		}
		if trims == nil {
			trims = make(map[*spoolFile]int64)
		}
		trims[f] = f.saved
		f.mu.Unlock()
	}
	return trims
}

// trimSpools deletes what every output has, by a checkpoint that is on disk.
func (a *Agent) trimSpools(trims map[*spoolFile]int64) {
	for f, off := range trims {
		if err := f.Trim(off); err != nil {
			a.log.Error("what every output has cannot be deleted from the spool; it is tried again", "input", f.input, "error", err)
		}
	}
}

// spoolAccounts are the spools' accounts for the ledger.
func (a *Agent) spoolAccounts() (all []tail.Account) {
	for _, r := range a.allReceivers() {
		f := r.file
		all = append(all, tail.Account{Gen: f.Gen(), Input: f.input, Path: f.Dir(), Home: f.Dir(), Size: f.Size(), Progress: f.Progress()})
	}
	return all
}

// readSpoolAccounts are those of an agent that does not run. Only the last checkpoint
// says how far its outputs had got.
func readSpoolAccounts(state string, records tail.Records) (all []tail.Account) {
	records.Range(func(key string, value []byte) {
		input, ok := strings.CutPrefix(key, spoolPrefix)
		var e spoolEntry
		if !ok || json.Unmarshal(value, &e) != nil {
			return
		}
		dir := filepath.Join(state, "spool", input)
		all = append(all, tail.Account{Gen: e.Generation, Input: input, Path: dir, Home: dir, Size: spool.End(dir), Progress: e.Progress})
	})
	return all
}
