package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/tailwater/tailwater/internal/atomicfile"
	"github.com/tailwater/tailwater/record"
)

// Pick says which letters are meant. The zero value means all.
type Pick struct {
	Output string    // "" is every output
	Reason string    // "" is every reason
	ID     string    // "" is every document
	Since  time.Time // refused at this time or later
}

// Takes reports whether the letter is meant.
func (p Pick) Takes(l *Letter) bool {
	return (p.Output == "" || l.Output == p.Output) && (p.Reason == "" || l.Reason == p.Reason) &&
		(p.ID == "" || l.ID == p.ID) && !l.Time.Before(p.Since)
}

// EachLetter calls f for the letters of a directory that are meant, file by file, the
// oldest first, until f returns an error, which it returns. bad counts lines that are
// no letters.
func EachLetter(dir string, pick Pick, f func(*Letter) error) (bad int, err error) {
	files, err := ListLetters(dir)
	for _, file := range files {
		if err != nil {
			return bad, err
		}
		var n int
		n, err = ReadLetters(file.Path, func(l Letter) error {
			if !pick.Takes(&l) {
				return nil
			}
			return f(&l)
		})
		if errors.Is(err, fs.ErrNotExist) { // taken, or deleted, since it was listed
			err = nil
		}
		bad += n
	}
	return bad, err
}

// Replayed is what has become of letters that were sent again.
type Replayed struct {
	Output string `json:"output"`
	// Letters counts those that were meant; Delivered those that the output has taken
	// this time, which are dead letters no more; Refused those that it has refused once
	// more, which stay; Unusable those whose document is not one of tailwater's, which
	// stay, too; Waiting those without an answer yet.
	Letters   int `json:"letters"`
	Delivered int `json:"delivered"`
	Refused   int `json:"refused"`
	Unusable  int `json:"unusable,omitempty"`
	Waiting   int `json:"waiting,omitempty"`
	// Why is what the output said of the last one that it refused.
	Why string `json:"why,omitempty"`
	// Trouble is what ended the replay before its end.
	Trouble string `json:"trouble,omitempty"`
}

// Replay sends letters of one output again, under the ids that they had.
type Replay struct {
	dead *DeadLetters
	pick Pick
	put  func(context.Context, record.Parcel) error
	keys []string

	answers chan *lot
	origins record.Origins
	// fates are what became of the ids that were sent: where a crash came between a
	// letter and the position behind it, there is a second one.
	fates map[string]fate

	mu    sync.Mutex // guards what follows
	state Replayed
}

// lot is a parcel of letters of one file.
type lot struct {
	file    *replayFile
	block   *record.Block
	letters []int64 // where each begins in the file
	fates   []fate  // delivered, or refused once more
}

// replayFile is a file of letters of which lots are under way.
type replayFile struct {
	path  string
	open  int            // lots without an answer
	twice []secondLetter // not sent
}

// secondLetter is one of a document that has been sent already.
type secondLetter struct {
	id string
	at int64
}

const (
	lotBytes = 256 << 10
	maxLots  = 32      // under way
	maxFates = 100_000 // ids that are remembered
)

// NewReplay prepares to send the picked letters of pick.Output to put, which waits
// for room and takes the parcel over. keys are the route keys that the output's
// templates need.
func (d *DeadLetters) NewReplay(pick Pick, keys []string, put func(context.Context, record.Parcel) error) *Replay {
	return &Replay{dead: d, pick: pick, put: put, keys: keys, answers: make(chan *lot, maxLots),
		fates: make(map[string]fate), state: Replayed{Output: pick.Output}}
}

// State tells how far it has come. Any goroutine may call it.
func (r *Replay) State() Replayed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *Replay) note(change func(*Replayed)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.state)
}

// Run sends the letters, the oldest first, and returns when each has its answer, or
// ctx has ended. Letters that are delivered are marked in their file, on disk, so that
// they are never sent again; a file of which nothing is left is removed. What is not
// marked when the process dies is sent again by the next Replay, with the same id.
func (r *Replay) Run(ctx context.Context) error {
	files, err := ListLetters(r.dead.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Output != string(PathNaming.appendValue(nil, r.pick.Output)) {
			continue
		}
		if err := r.file(ctx, f.Path); err != nil {
			return fmt.Errorf("replay %s: %w", f.Path, err)
		}
	}
	return nil
}

// file sends the letters of one file that were there when it began, and waits for all
// answers: the file is not deleted for its size meanwhile.
func (r *Replay) file(ctx context.Context, path string) (err error) {
	r.dead.setBusy(path)
	defer r.dead.setBusy("")
	f := &replayFile{path: path}
	l := r.newLot(f)
	_, err = ReadLetters(path, func(letter Letter) error {
		if !r.pick.Takes(&letter) {
			return nil
		}
		if !r.add(l, &letter) || len(l.block.Data) < lotBytes {
			return nil
		}
		full := l
		l = r.newLot(f)
		return r.send(ctx, full)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(l.letters) > 0 {
		err = r.send(ctx, l)
	}
	for f.open > 0 && err == nil {
		err = r.await(ctx)
	}
	return errors.Join(err, r.second(f), r.dead.tidy(path))
}

// second marks the second letters of documents that were delivered.
func (r *Replay) second(f *replayFile) error {
	var at []int64
	for _, l := range f.twice {
		if r.fates[l.id] == delivered {
			at = append(at, l.at)
		}
	}
	return r.dead.take(f.path, at)
}

func (r *Replay) newLot(f *replayFile) *lot {
	return &lot{file: f, block: record.NewBlock(nil, r.keys, nil)}
}

// add puts the letter's document into the lot, and says false when that is none of
// tailwater's.
func (r *Replay) add(l *lot, letter *Letter) bool {
	if _, twice := r.fates[letter.ID]; twice {
		l.file.twice = append(l.file.twice, secondLetter{letter.ID, letter.at})
		return false
	}
	doc := letter.Bytes()
	at, ok := record.EncodedTime(doc, []byte(letter.ID), new(record.Stamp))
	if !ok || bytes.IndexByte(doc, '\n') >= 0 {
		r.note(func(s *Replayed) { s.Letters++; s.Unusable++ })
		return false
	}
	level, _ := record.LevelNamed(string(record.EncodedValue(doc, "level")))
	l.block.AppendEncoded(r.origins.Of(doc, []byte(letter.Project)), doc, len(letter.ID), level, at)
	l.letters = append(l.letters, letter.at)
	l.fates = append(l.fates, delivered)
	if len(r.fates) >= maxFates {
		clear(r.fates)
	}
	r.fates[letter.ID] = again
	return true
}

// send puts the lot on its way, when few enough are.
func (r *Replay) send(ctx context.Context, l *lot) error {
	for l.file.open >= maxLots {
		if err := r.await(ctx); err != nil {
			return err
		}
	}
	n := len(l.letters)
	r.note(func(s *Replayed) { s.Letters += n; s.Waiting += n })
	l.file.open++
	return r.put(ctx, record.Parcel{
		Block: l.block, Parked: true,
		Refused: func(i int, reason, detail string) {
			l.fates[i] = refusedFate
			r.note(func(s *Replayed) { s.Why = reason + ": " + detail })
		},
		Done: func() { r.answers <- l },
	})
}

// await waits for the answer to one lot and marks what was delivered of it.
func (r *Replay) await(ctx context.Context) error {
	select {
	case l := <-r.answers:
		l.file.open--
		return r.settle(l)
	case <-ctx.Done():
	}
	select {
	case l := <-r.answers: // that came before the end
		l.file.open--
		return r.settle(l)
	default:
		return context.Cause(ctx)
	}
}

func (r *Replay) settle(l *lot) error {
	var gone []int64
	for i, at := range l.letters {
		r.fates[string(l.block.ID(i))] = l.fates[i]
		if l.fates[i] == delivered {
			gone = append(gone, at)
		}
	}
	if err := r.dead.take(l.file.path, gone); err != nil {
		return fmt.Errorf("mark %d letters as delivered: %w; they would be sent again, under the same ids", len(gone), err)
	}
	n := len(l.letters)
	r.note(func(s *Replayed) { s.Waiting -= n; s.Delivered += len(gone); s.Refused += n - len(gone) })
	return nil
}

func (d *DeadLetters) setBusy(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = path
}

// take marks the letters that begin there as delivered.
func (d *DeadLetters) take(path string, at []int64) error {
	if len(at) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody has deleted it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for _, off := range at {
		if _, err := f.WriteAt([]byte{taken}, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// tidy removes the file when no letter is left in it.
func (d *DeadLetters) tidy(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := 0
	bad, err := ReadLetters(path, func(Letter) error { left++; return nil })
	if err != nil || left+bad > 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	for output, df := range d.open {
		if df.path == path {
			df.f.Close()
			delete(d.open, output)
		}
	}
	d.known = false // counted anew with the next letter
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(d.Dir)
}
