package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/internal/lock"
	"github.com/tailwater/tailwater/source/listen/spool"
	"github.com/tailwater/tailwater/source/tail"
)

// ImageOptions says what becomes of what is not plainly the image's or the machine's.
type ImageOptions struct {
	// ForgetPositions has every clone read the logs that the image holds from their
	// beginning, as at a very first start.
	ForgetPositions bool
	// Undelivered accepts that every clone sends what was not delivered here.
	Undelivered bool
	// RemoveDeadLetters deletes the dead letters.
	RemoveDeadLetters bool
}

// ImageReport is what PrepareImage did to a state directory.
type ImageReport struct {
	// Removed and Kept are in words, for people.
	Removed, Kept []string
}

// PrepareImage removes from a state directory what must not be on two machines. It
// refuses, with all reasons in the error and nothing changed, while an agent uses the
// directory, and when something is there that would be lost or sent by every clone.
func PrepareImage(state string, o ImageOptions, log *slog.Logger) (*ImageReport, error) {
	report := new(ImageReport)
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return report, nil // the agent has never run here
	}
	once, cancel := context.WithCancel(context.Background())
	cancel()
	release, err := lock.Acquire(once, state)
	if taken := (*lock.TakenError)(nil); errors.As(err, &taken) {
		return nil, fmt.Errorf("the agent runs (pid %d); have it deliver everything and stop first: tailwater drain --state %s", taken.Pid, state)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := journal.Open(state, "checkpoint", log)
	if err != nil {
		return nil, err
	}
	dead, err := filepath.Glob(filepath.Join(state, "dead", "*"))
	var received []tail.Left
	if err == nil {
		received, err = leftInSpools(state, j)
	}
	if err == nil {
		err = refuse(state, o, tail.Backlog(j), received, dead)
	}
	if err == nil {
		err = removeSpools(state, received, report)
	}
	if err == nil {
		err = j.Commit(notForClones(state, j, o, report))
	}
	if err == nil {
		err = j.Compact()
	}
	if err = errors.Join(err, j.Close()); err != nil {
		return nil, err
	}
	if o.RemoveDeadLetters && len(dead) > 0 {
		if err := os.RemoveAll(filepath.Join(state, "dead")); err != nil {
			return nil, err
		}
		report.Removed = append(report.Removed, fmt.Sprintf("%d files of dead letters", len(dead)))
	}
	return report, errors.Join(removeLeftovers(state), giveBack(state))
}

// refuse says all that speaks against an image of this state.
func refuse(state string, o ImageOptions, backlog, received []tail.Left, dead []string) error {
	var why []error
	if len(backlog) > 0 && !o.Undelivered && !o.ForgetPositions {
		var bytes int64
		var examples []string
		for i, b := range backlog {
			bytes += b.Bytes
			if i < 3 {
				examples = append(examples, b.Path)
			}
		}
		why = append(why, fmt.Errorf("%d bytes of %d logs are not delivered (%s), and every clone would send them: start the agent and have it deliver them with tailwater drain --state %s, or delete the logs, or accept it with --undelivered",
			bytes, len(backlog), strings.Join(examples, ", "), state))
	}
	if len(received) > 0 && !o.Undelivered {
		var bytes int64
		for _, r := range received {
			bytes += r.Bytes
		}
		why = append(why, fmt.Errorf("%d bytes that were received are not delivered (%s), and every clone would send them: start the agent and have it deliver them with tailwater drain --state %s, or accept it with --undelivered",
			bytes, received[0].Path, state))
	}
	if len(dead) > 0 && !o.RemoveDeadLetters {
		why = append(why, fmt.Errorf("%d files of dead letters are in %s, and every clone would have them: move them away, or delete them with --remove-dead-letters", len(dead), filepath.Join(state, "dead")))
	}
	return errors.Join(why...)
}

// leftInSpools are the spools that hold what an output does not have yet.
func leftInSpools(state string, j *journal.Journal) (left []tail.Left, err error) {
	dirs, err := filepath.Glob(filepath.Join(state, spoolPrefix, "*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		var e spoolEntry
		if raw, ok := j.Get(spoolPrefix + filepath.Base(dir)); ok {
			if err := json.Unmarshal(raw, &e); err != nil {
				e = spoolEntry{} // all of it is sent again
			}
		}
		from := int64(-1)
		for _, p := range e.Pos {
			if from < 0 || p.Off < from {
				from = p.Off
			}
		}
		generation, bytes, err := spool.Left(dir, from)
		if err == nil && generation != e.Generation {
			_, bytes, err = spool.Left(dir, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		if bytes > 0 {
			left = append(left, tail.Left{Path: dir, Bytes: bytes})
		}
	}
	return left, nil
}

// removeSpools deletes the spools of which every output has all, with the keys of the
// requests that this machine has answered.
func removeSpools(state string, left []tail.Left, report *ImageReport) error {
	dirs, err := filepath.Glob(filepath.Join(state, spoolPrefix, "*"))
	if err != nil {
		return err
	}
	removed := 0
	for _, dir := range dirs {
		if slices.ContainsFunc(left, func(l tail.Left) bool { return l.Path == dir }) {
			report.Kept = append(report.Kept, fmt.Sprintf("what was received and is not delivered, in %s: every clone sends it", dir))
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		removed++
	}
	if removed > 0 {
		report.Removed = append(report.Removed, fmt.Sprintf("the spools of %d inputs that lines were sent to: all of it is delivered", removed))
	}
	return nil
}

// notForClones is the change that removes what belongs to this machine alone.
func notForClones(state string, j *journal.Journal, o ImageOptions, report *ImageReport) map[string]json.RawMessage {
	change := ofTheOriginal(j)
	notices, silences, files := len(change), 0, 0
	j.Range(func(key string, _ []byte) {
		switch {
		case key == identityKey:
			change[key] = nil
			report.Removed = append(report.Removed, "the machine's identity: each clone gets ids of its own")
		case notify.IsSilence(key):
			change[key] = nil
			silences++
		case tail.IsFile(key):
			files++
			if o.ForgetPositions {
				change[key] = nil
			}
		case strings.HasPrefix(key, spoolPrefix):
			if _, err := os.Stat(filepath.Join(state, key)); errors.Is(err, fs.ErrNotExist) {
				change[key] = nil
			}
		case o.ForgetPositions:
			change[key] = nil
		}
	})
	if notices > 0 {
		report.Removed = append(report.Removed, "what fired and was counted, and the notices")
	}
	if silences > 0 {
		report.Removed = append(report.Removed, fmt.Sprintf("%d silences", silences))
	}
	if o.ForgetPositions {
		report.Removed = append(report.Removed, fmt.Sprintf("the read positions of %d logs: a clone sends what the image has of them", files))
	} else if files > 0 {
		report.Kept = append(report.Kept, fmt.Sprintf("the read positions of %d logs: what was delivered of them is not sent again by a clone (--forget-positions removes them)", files))
	}
	return change
}

// removeLeftovers deletes what an agent has left beside the journal: its socket, and
// damaged journals, which may hold an identity.
func removeLeftovers(state string) error {
	damaged, err := filepath.Glob(filepath.Join(state, "*.corrupt-*"))
	for _, name := range append(damaged, filepath.Join(state, SocketName), filepath.Join(state, SocketName+".new")) {
		if gone := os.Remove(name); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// giveBack makes the directory's owner the owner of all in it: root prepares the image,
// and the agent is somebody else.
func giveBack(state string) error {
	info, err := os.Stat(state)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return filepath.WalkDir(state, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
