package rig

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Kubelet does to real files what kubelet and a container runtime do below
// /var/log/pods, step by step as pkg/kubelet/logs of Kubernetes 1.37 has them.
type Kubelet struct {
	Root string
	// Keep is the number of files of one container, the one that is written included;
	// 0 is kubelet's default of 5.
	Keep int
	// Docker has the lines written as docker's json-file driver does.
	Docker bool
}

// Container is one container's logs. One goroutine uses it.
type Container struct {
	*Lines
	Namespace, Pod, UID, Name string
	// Before are the streams before the container's last restart.
	Before []*Lines
	// Bytes is how many were written.
	Bytes int64

	kubelet  *Kubelet
	restarts int
	rotated  time.Time // the stamp of the last rotation
	file     *os.File
}

// Start makes the directories of a pod's container and opens its first log. The lines'
// stream has the container's name in it.
func (k *Kubelet) Start(namespace, pod, uid, name string) (*Container, error) {
	c := &Container{Lines: &Lines{ID: namespace + "/" + pod + "/" + name}, Namespace: namespace, Pod: pod, UID: uid, Name: name,
		kubelet: k, rotated: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	if err := os.MkdirAll(c.Dir(), 0o755); err != nil {
		return nil, err
	}
	return c, c.open()
}

// PodDir is the pod's directory, and Dir the container's in it.
func (c *Container) PodDir() string {
	return filepath.Join(c.kubelet.Root, c.Namespace+"_"+c.Pod+"_"+c.UID)
}

// Dir is the container's directory.
func (c *Container) Dir() string { return filepath.Join(c.PodDir(), c.Name) }

// Path is the log that is written now.
func (c *Container) Path() string { return filepath.Join(c.Dir(), fmt.Sprint(c.restarts, ".log")) }

func (c *Container) open() (err error) {
	c.file, err = os.OpenFile(c.Path(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	return err
}

// Line is how the runtime writes a text of a stream; part says that the stream's next
// text goes on with it.
func (c *Container) Line(stream, text string, part bool) string {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if c.kubelet.Docker {
		end := `\n`
		if part {
			end = ""
		}
		quoted := fmt.Sprintf("%q", text)
		return fmt.Sprintf(`{"log":%s%s","stream":"%s","time":"%s"}`+"\n", quoted[:len(quoted)-1], end, stream, now)
	}
	tag := "F"
	if part {
		tag = "P"
	}
	return now + " " + stream + " " + tag + " " + text + "\n"
}

// Write writes the next count of the numbered lines to stdout.
func (c *Container) Write(count, pad int) error {
	var all strings.Builder
	for range count {
		all.WriteString(c.Line("stdout", strings.TrimSuffix(string(c.Append(nil, 1, pad)), "\n"), false))
	}
	return c.WriteString(all.String())
}

// WriteString appends bytes as they are.
func (c *Container) WriteString(s string) error {
	n, err := c.file.WriteString(s)
	c.Bytes += int64(n)
	return err
}

// Rotate does what kubelet does when a log is too large: it removes what is too old,
// compresses what was rotated before, renames the log, and has the runtime open it anew.
func (c *Container) Rotate() error {
	log := c.Path()
	all, err := filepath.Glob(log + ".*")
	if err != nil {
		return err
	}
	keep := c.kubelet.Keep
	if keep == 0 {
		keep = 5
	}
	slices.Sort(all)
	for len(all) > keep-2 {
		if err := os.Remove(all[0]); err != nil {
			return err
		}
		all = all[1:]
	}
	for _, old := range all {
		if !strings.HasSuffix(old, ".gz") {
			if err := compress(old); err != nil {
				return err
			}
		}
	}
	c.rotated = c.rotated.Add(10 * time.Second)
	if err := os.Rename(log, log+"."+c.rotated.Format("20060102-150405")); err != nil {
		return err
	}
	old := c.file
	return errors.Join(c.open(), old.Close())
}

// compress makes LOG.gz of LOG, by way of LOG.tmp.
func compress(log string) error {
	data, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(log+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(f)
	_, err = io.Copy(zip, bytes.NewReader(data))
	if err := errors.Join(err, zip.Close(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(log+".tmp", log+".gz"), os.Remove(log))
}

// Restart ends the container and starts it again: the next log has the next number.
func (c *Container) Restart() error {
	old := c.file
	c.restarts++
	c.Before = append(c.Before, c.Lines)
	c.Lines = &Lines{ID: fmt.Sprint(c.Before[0].ID, "/", c.restarts)}
	return errors.Join(c.open(), old.Close())
}

// Stop ends the container; its logs stay.
func (c *Container) Stop() error { return c.file.Close() }

// Remove ends the container and removes its pod's directory.
func (c *Container) Remove() error { return errors.Join(c.file.Close(), os.RemoveAll(c.PodDir())) }
