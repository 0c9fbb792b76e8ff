package main

import (
	"bufio"
	"fmt"
	"os"
)

// writeStatic writes size bytes of one kind's lines to the file name, ending with a
// whole event. The same seed gives the same bytes.
func writeStatic(name, kind, size string, seed uint64, numbers int) error {
	limit, err := parseSize(size)
	if err != nil {
		return err
	}
	appendEvent, ok := map[string]func([]byte, *request) []byte{"nginx": appendNginx, "json": appendPayment, "app": appendStack}[kind]
	if !ok {
		return fmt.Errorf("-kind %q: want nginx, json or app", kind)
	}
	if numbers < 1 {
		return fmt.Errorf("-numbers %d: want 1 or more", numbers)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	t, at := newTraffic(seed, staticStart), staticStart
	var line []byte
	for n := int64(0); n < limit; n += int64(len(line)) {
		q := t.request(at)
		q.number = 1000 + (q.number-1000)%numbers
		line = appendEvent(line[:0], q)
		if _, err := w.Write(line); err != nil {
			f.Close()
			return fmt.Errorf("write %s: %w", name, err)
		}
		at = at.Add(tick)
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}
