// Package atomicfile replaces a small file so that a reader, and a machine that
// loses power at any moment, finds the old content or the new, never a mixture.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// TempSuffix ends the name under which the new content is written before it takes
// the file's name. One that is found was left by a crash and may be deleted.
const TempSuffix = ".tmp"

// Write replaces path with data: written beside it, fsynced, renamed, and the
// directory fsynced. On an error path is what it was before. The temporary name is
// fixed, so that crashes cannot leave many of them: path has one writer at a time.
func Write(path string, data []byte, perm fs.FileMode) error {
	temp := path + TempSuffix
	if err := writeSynced(temp, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), removeIfThere(temp))
	}
	return Rename(temp, path)
}

func writeSynced(path string, data []byte, perm fs.FileMode) error {
	// Not O_TRUNC: what a crash left is removed, with its permissions.
	if err := removeIfThere(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // content before name
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename gives from, whose content is already on disk, the name to in the same
// directory, replacing what had it, and makes that last. When the name cannot be
// given, from is removed: it is a temporary file.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return errors.Join(err, removeIfThere(from))
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes the names in dir last through a loss of power.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
