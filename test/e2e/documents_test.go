package e2e

import (
	"bytes"
	"encoding/json"
	"os"
)

// tail is the end of data, for messages.
func tail(data []byte) []byte {
	if len(data) > 2000 {
		return data[len(data)-2000:]
	}
	return data
}

// documents reads the documents in a file.
func (w *world) documents(name string) []map[string]any {
	w.Helper()
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	w.check(err)
	var docs []map[string]any
	for line := range bytes.Lines(data) {
		if line[len(line)-1] != '\n' {
			break
		}
		var doc map[string]any
		if err := json.Unmarshal(line, &doc); err != nil {
			w.Fatalf("%s: %v: %s", name, err, line)
		}
		docs = append(docs, doc)
	}
	return docs
}
