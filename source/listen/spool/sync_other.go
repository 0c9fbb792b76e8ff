//go:build !linux

package spool

import "os"

// syncData makes the file's bytes durable, and its length.
func syncData(f *os.File) error { return f.Sync() }
