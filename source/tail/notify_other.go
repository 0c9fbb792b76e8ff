//go:build unix && !linux

package tail

import (
	"errors"
	"os"

	"github.com/fsnotify/fsnotify"
)

// notifier hears from the system of changes in directories.
type notifier struct {
	watcher *fsnotify.Watcher
	first   chan fsnotify.Event // what a wait has ended with
}

func newNotifier() (*notifier, error) {
	w, err := fsnotify.NewBufferedWatcher(1024)
	return &notifier{w, make(chan fsnotify.Event, 1)}, err
}

func (n *notifier) add(path string) error { return n.watcher.Add(path) }

func (n *notifier) remove(path string) { n.watcher.Remove(path) }

// wait waits until there is something for next. One goroutine at a time calls it. The
// error is os.ErrClosed after stop.
func (n *notifier) wait() error {
	e, open := <-n.watcher.Events
	if !open {
		return os.ErrClosed
	}
	n.first <- e
	return nil
}

// next tells of the changes that are there, and does not wait: of each path, and whether
// it has done more than grow. lost is set when there were too many.
func (n *notifier) next(changed func(path string, more bool), _ func(string)) (lost bool, err error) {
	for {
		var e fsnotify.Event
		open := true
		select {
		case e = <-n.first:
		case e, open = <-n.watcher.Events:
		case err, open = <-n.watcher.Errors:
			if open && errors.Is(err, fsnotify.ErrEventOverflow) {
				lost, err = true, nil
			}
			if open && err == nil {
				continue
			}
		default:
			return lost, nil
		}
		if !open {
			return lost, os.ErrClosed
		}
		if err != nil {
			return lost, err
		}
		changed(e.Name, e.Op&^(fsnotify.Write|fsnotify.Chmod) != 0)
	}
}

func (n *notifier) stop() { n.watcher.Close() }
