package rig

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"
)

// Lines numbers the lines of one stream, so that each can be told from every other
// wherever it turns up:
//
//	{"f":"orders","n":17,"p":"xxxx","c":"9ae0daaf"}
//
// f is the stream, n counts its lines from 0, p is padding, c is a CRC of the rest.
type Lines struct {
	ID string
	// N is the number of the next line.
	N int
}

// Append appends the next count lines, padded by pad bytes each.
func (l *Lines) Append(dst []byte, count, pad int) []byte {
	padding := strings.Repeat("x", pad)
	for range count {
		dst = fmt.Appendf(dst, `{"f":"%s","n":%d,"p":"%s","c":"%08x"}`+"\n", l.ID, l.N, padding, lineSum(l.ID, l.N, padding))
		l.N++
	}
	return dst
}

func lineSum(id string, n int, padding string) uint32 {
	return crc32.ChecksumIEEE(fmt.Appendf(nil, "%s/%d/%s", id, n, padding))
}

// Log is a file that a well-behaved program writes lines to.
type Log struct {
	*Lines
	// Name is the path that is written to.
	Name string
	// Bytes is how many were written.
	Bytes int64
	file  *os.File
}

// OpenLog opens the file for appending, creating it if need be.
func OpenLog(name, id string) (*Log, error) {
	l := &Log{Lines: &Lines{ID: id}, Name: name}
	return l, l.Reopen()
}

// Reopen opens the path anew, as programs do after a rotation by renaming.
func (l *Log) Reopen() error {
	if err := l.Close(); err != nil {
		return err
	}
	var err error
	l.file, err = os.OpenFile(l.Name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return err
}

// Write appends count lines to whatever file is open, in one write.
func (l *Log) Write(count, pad int) error {
	n, err := l.file.Write(l.Append(nil, count, pad))
	l.Bytes += int64(n)
	return err
}

// WriteString appends text that is nobody's line.
func (l *Log) WriteString(s string) error {
	n, err := l.file.WriteString(s)
	l.Bytes += int64(n)
	return err
}

// Truncate empties the file that is open.
func (l *Log) Truncate() error { return l.file.Truncate(0) }

// Close closes the file.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
