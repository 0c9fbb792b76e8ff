package journal

import (
	"bytes"
	"encoding/json"
)

// content is what the bytes of one generation say.
type content struct {
	version    int // 0: the header is unreadable
	generation uint64
	complete   bool // the snapshot is there, to its last line
	changes    []line
	good       int64 // where the last good line ends
	size       int64
	bad        int  // bytes in unreadable lines before good
	torn       bool // what follows good looks like one write that did not end
}

// read takes a generation apart. It finds its way back at the next newline after
// anything that it cannot read.
func read(data []byte) content {
	c := content{size: int64(len(data))}
	snapshot := 0
	badSince := 0
	for at := 0; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			break // the last write did not end
		}
		l, ok := parseLine(data[at : at+end])
		at += end + 1
		if !ok {
			continue
		}
		switch {
		case l.Version != 0:
			c.version, c.generation = l.Version, l.Generation
		case l.Snapshot != 0:
			c.complete = c.version != 0 && l.Snapshot == snapshot+1
		default:
			if !c.complete {
				snapshot++
			}
			c.changes = append(c.changes, l)
		}
		lineStart := at - end - 1
		c.bad += lineStart - badSince
		badSince = at
		c.good = int64(at)
	}
	rest := data[c.good:]
	newline := bytes.IndexByte(rest, '\n')
	c.torn = newline < 0 || newline == len(rest)-1
	return c
}

// whole reports whether nothing of the generation was damaged, but for an end that
// was torn off.
func (c *content) whole() bool { return c.complete && c.bad == 0 && c.torn }

// applyTo plays the changes into a map of records.
func (c *content) applyTo(records map[string]json.RawMessage) {
	for _, l := range c.changes {
		for key, value := range l.Set {
			records[key] = value
		}
		for _, key := range l.Del {
			delete(records, key)
		}
	}
}
