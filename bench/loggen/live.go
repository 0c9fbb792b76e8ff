package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// live says how the live traffic is written.
type live struct {
	dir         string
	rate        float64 // requests a second
	rotateEvery time.Duration
	keep        int // rotated files of each log
	seed        uint64
}

// writeLive writes traffic at the wall clock's pace until ctx ends.
func writeLive(ctx context.Context, l live) (err error) {
	if l.rate <= 0 || l.rate > 100_000 {
		return fmt.Errorf("-rate %v: want more than 0 and at most 100000 requests a second", l.rate)
	}
	gateway, apps, err := l.open()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range append(apps, gateway) {
			err = errors.Join(err, f.Close())
		}
	}()
	start := time.Now()
	t := newLiveTraffic(l.seed, start)
	rotateAt := start.Add(l.rotateEvery)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	var line []byte
	for made := 0; ; {
		var now time.Time
		select {
		case now = <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		for due := int(now.Sub(start).Seconds() * l.rate); made < due; made++ {
			q := t.request(start.Add(time.Duration(float64(made) / l.rate * float64(time.Second))))
			if line = appendService(line[:0], q); len(line) > 0 {
				if _, err := apps[q.service].Write(line); err != nil {
					return err
				}
			}
			line = appendNginx(line[:0], q)
			if _, err := gateway.Write(line); err != nil {
				return err
			}
		}
		if l.rotateEvery > 0 && now.After(rotateAt) {
			rotateAt = now.Add(l.rotateEvery)
			for _, f := range append(apps, gateway) {
				if err := f.rotate(l.keep); err != nil {
					return err
				}
			}
		}
	}
}

// open opens the gateway's log and those of the services.
func (l *live) open() (gateway *logFile, apps []*logFile, err error) {
	if gateway, err = openLog(filepath.Join(l.dir, "nginx", "access.log"), false); err != nil {
		return nil, nil, err
	}
	for _, s := range services {
		f, err := openLog(filepath.Join(l.dir, "apps", s.name, "app.log"), s.name == "catalog")
		if err != nil {
			return nil, nil, err
		}
		apps = append(apps, f)
	}
	return gateway, apps, nil
}

// logFile is one log that is rotated as logrotate would.
type logFile struct {
	*os.File
	copyTruncate bool
}

func openLog(name string, copyTruncate bool) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return &logFile{f, copyTruncate}, nil
}

// rotate moves app.log to app.log.1, that to app.log.2 and so on, and keeps so many.
func (f *logFile) rotate(keep int) error {
	name := f.Name()
	for i := keep; i >= 1; i-- {
		older := fmt.Sprintf("%s.%d", name, i)
		newer := fmt.Sprintf("%s.%d", name, i-1)
		if i == 1 {
			newer = name
			if f.copyTruncate {
				return f.copyAndTruncate(older)
			}
		}
		if err := os.Rename(newer, older); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	next, err := openLog(name, f.copyTruncate)
	if err != nil {
		return err
	}
	old := f.File
	f.File = next.File
	return old.Close()
}

// copyAndTruncate loses no line, as nobody else writes to the file meanwhile.
func (f *logFile) copyAndTruncate(to string) error {
	src, err := os.Open(f.Name())
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return f.Truncate(0)
}
