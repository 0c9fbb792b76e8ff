package sink

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// LetterFile is one file of dead letters.
type LetterFile struct {
	Path    string
	Output  string
	Created time.Time // by its name, to the second, UTC
	Size    int64     // in bytes
}

// ListLetters returns the dead-letter files of a directory, the oldest first. A
// directory that does not exist has none.
func ListLetters(dir string) ([]LetterFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var files []LetterFile
	for _, e := range entries {
		output, at, ok := splitDeadName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil { // deleted just now
			continue
		}
		files = append(files, LetterFile{Path: filepath.Join(dir, e.Name()), Output: output, Created: at, Size: info.Size()})
	}
	slices.SortFunc(files, func(a, b LetterFile) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(len(a.Path), len(b.Path)), cmp.Compare(a.Path, b.Path))
	})
	return files, nil
}

// taken is what the line of a letter begins with whose document has been delivered
// since. One byte is overwritten for it, in place: there is no moment at which a crash
// would lose the letter or leave half of it.
const taken = '#'

// ReadLetters calls f for each letter of a file that has not been taken since, until f
// returns an error, which it returns. Lines that are no letters are counted in bad: a
// torn last line is what a crash leaves, and its document was not acknowledged.
func ReadLetters(path string, f func(Letter) error) (bad int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 256<<10)
	for at := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 && line[0] != taken {
			l := Letter{at: at}
			if json.Unmarshal(line, &l) != nil || len(l.Document) == 0 || l.Output == "" {
				bad++
			} else if err := f(l); err != nil {
				return bad, err
			}
		}
		at += int64(len(line))
		if errors.Is(err, io.EOF) {
			return bad, nil
		}
		if err != nil {
			return bad, fmt.Errorf("read dead letters: %w", err)
		}
	}
}

// Bytes returns the document as it was sent.
func (l *Letter) Bytes() []byte {
	var text string
	if len(l.Document) > 0 && l.Document[0] == '"' && json.Unmarshal(l.Document, &text) == nil {
		return []byte(text)
	}
	return l.Document
}

// countLetters counts those that have not been taken.
func countLetters(path string) (n int, err error) {
	_, err = ReadLetters(path, func(Letter) error { n++; return nil })
	return n, err
}
