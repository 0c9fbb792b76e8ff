package tail

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/tailwater/tailwater/internal/journal"
)

// Left is a file of which an output has not got everything.
type Left struct {
	Path string
	// Bytes are those from the position of the output that is furthest behind.
	Bytes int64
}

// IsFile tells whether the journal's record of that key is what is known of a file.
func IsFile(key string) bool { return strings.HasPrefix(key, filePrefix) }

// Backlog lists what a journal, which no Source uses, has of files that could still be
// read on. What came into being since is not known here.
func Backlog(store *journal.Journal) (all []Left) {
	store.Range(func(key string, value []byte) {
		var e entry
		if !IsFile(key) || json.Unmarshal(value, &e) != nil || e.Home == "" || e.Skip || e.Tomb != 0 {
			return
		}
		info, err := os.Stat(e.Home)
		if err != nil {
			return // nothing that a clone could send
		}
		size := e.Size
		if !e.Gzip {
			size = max(size, info.Size())
		}
		var start int64
		if e.Start != nil {
			start = e.Start.Off
		}
		if n := size - e.Progress.least(start); n > 0 {
			all = append(all, Left{e.Path, n})
		}
	})
	return all
}
