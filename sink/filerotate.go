package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tailwater/tailwater/internal/atomicfile"
)

const gzipSuffix = ".gz"

// rotationDue reports whether the file is to be ended before the batch under way.
func (s *File) rotationDue(o *outFile, now time.Time) bool {
	if o.size == 0 {
		return false
	}
	return s.Rotate > 0 && o.size+o.runBytes() > s.Rotate || s.aged(o, now)
}

func (s *File) aged(o *outFile, now time.Time) bool {
	return s.RotateEvery > 0 && !now.Before(o.since.Add(s.RotateEvery))
}

func (s *File) rotateIfAged(o *outFile, now time.Time) error {
	if o.ino == 0 || o.size == 0 || !s.aged(o, now) {
		return nil
	}
	if here, err := s.look(o, now); err != nil || !here {
		return err
	}
	return s.rotate(o, now)
}

// rotate renames the file and makes o blank. The crash that would hurt: after the
// rename and before the next checkpoint, the file must be cut back under its new
// name, and the new file of the old name emptied. Restore finds the first by its
// inode, among the names that begin with the old one.
func (s *File) rotate(o *outFile, now time.Time) error {
	to := rotatedName(o.path, now)
	if err := os.Rename(o.path, to); err != nil {
		return fmt.Errorf("rotate %s: %w", o.path, err)
	}
	s.dirs[filepath.Dir(to)] = true
	gone := o.detach(to)
	gone.rotated, gone.period = true, s.period
	s.left = append(s.left, gone)
	return nil
}

// rotatedName returns a free name for a file that is rotated now.
func rotatedName(path string, now time.Time) string {
	stem := path + "." + now.UTC().Format(stampLayout)
	for n := 0; ; n++ {
		name := stem
		if n > 0 {
			name = fmt.Sprintf("%s-%d", stem, n)
		}
		if !exists(name) && !exists(name+gzipSuffix) {
			return name
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(filepath.Clean(path))
	return err == nil
}

// isRotatedName reports whether rotatedName made name of path.
func isRotatedName(path, name string) bool {
	stamp, ok := strings.CutPrefix(name, path+".")
	if !ok || len(stamp) < len(stampLayout) {
		return false
	}
	_, err := time.Parse(stampLayout, stamp[:len(stampLayout)])
	return err == nil
}

// compressLocked starts compressing the files that wait for it: those that a saved
// checkpoint has as they are, and that are never cut again.
func (s *File) compressLocked() {
	if s.zipActive || s.zipCtx.Err() != nil || len(s.pending) == 0 {
		return
	}
	s.zipActive = true
	s.zipping.Go(s.compressAll)
}

// compressAll compresses one file after the other, until none is left or one fails:
// the next checkpoint tries that again.
func (s *File) compressAll() {
	for {
		s.mu.Lock()
		if len(s.pending) == 0 || s.zipCtx.Err() != nil {
			s.zipActive = false
			s.mu.Unlock()
			return
		}
		next := s.pending[0]
		s.mu.Unlock()

		err := compressFile(s.zipCtx, next)

		s.mu.Lock()
		if err == nil {
			s.pending = s.pending[1:]
			s.mu.Unlock()
			continue
		}
		s.zipActive = false
		if s.zipCtx.Err() == nil {
			s.Log.Error("a rotated file cannot be compressed; it stays as it is and is tried again", "output", s.Name, "file", next, "error", err)
		}
		s.mu.Unlock()
		return
	}
}

// compressFile replaces path by path.gz. The crashes that would hurt: a torn .gz is
// never seen, because it gets its name when it is on disk; and when both are there,
// the plain one is whole and is compressed again.
func compressFile(ctx context.Context, path string) error {
	src, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // done before a crash, or deleted
	}
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	temp := path + gzipSuffix + atomicfile.TempSuffix
	if err := gzipTo(ctx, temp, src, info); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := atomicfile.Rename(temp, path+gzipSuffix); err != nil {
		return err
	}
	return os.Remove(path)
}

func gzipTo(ctx context.Context, temp string, src io.Reader, info fs.FileInfo) error {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return err
	}
	dst, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(dst)
	buf := make([]byte, 256<<10)
	for err == nil {
		var n int
		n, err = src.Read(buf)
		if _, werr := zip.Write(buf[:n]); werr != nil {
			err = werr
		}
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	err = errors.Join(err, zip.Close())
	if err == nil {
		err = dst.Sync()
	}
	err = errors.Join(err, dst.Close())
	if err == nil {
		// Those who delete old files by age go by this.
		err = os.Chtimes(temp, time.Time{}, info.ModTime())
	}
	return err
}
