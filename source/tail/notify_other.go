//go:build unix && !linux

package tail

import (
	"errors"
	"os"

	"github.com/fsnotify/fsnotify"
)

// notifier hears from the system of changes in directories.
type notifier struct{ watcher *fsnotify.Watcher }

func newNotifier() (*notifier, error) {
	w, err := fsnotify.NewBufferedWatcher(1024)
	return &notifier{w}, err
}

func (n *notifier) add(path string) error { return n.watcher.Add(path) }

func (n *notifier) remove(path string) { n.watcher.Remove(path) }

// next waits for a change and tells of it: of the path, and whether it has done more than
// grow. lost is set when there were too many.
func (n *notifier) next(changed func(path string, more bool), _ func(string)) (lost bool, err error) {
	select {
	case e, ok := <-n.watcher.Events:
		if !ok {
			return false, os.ErrClosed
		}
		changed(e.Name, e.Op&^(fsnotify.Write|fsnotify.Chmod) != 0)
	case err, ok := <-n.watcher.Errors:
		if !ok {
			return false, os.ErrClosed
		}
		if errors.Is(err, fsnotify.ErrEventOverflow) {
			return true, nil
		}
		return false, err
	}
	return false, nil
}

func (n *notifier) stop() { n.watcher.Close() }

func (n *notifier) free() {}
