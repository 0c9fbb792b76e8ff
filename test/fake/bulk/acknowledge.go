package bulk

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
)

// Sponge is an Elasticsearch that stores nothing and says that it has created everything:
// for measuring who sends to it.
type Sponge struct {
	*httptest.Server
	bytes atomic.Int64
}

// Acknowledging starts one on a free port.
func Acknowledging() *Sponge {
	s := new(Sponge)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Bytes is how much the bodies of all requests had, the action lines among it.
func (s *Sponge) Bytes() int64 { return s.bytes.Load() }

func (s *Sponge) serve(w http.ResponseWriter, r *http.Request) {
	lines := 0
	for buf := make([]byte, 256<<10); ; {
		n, err := r.Body.Read(buf)
		lines += bytes.Count(buf[:n], []byte("\n"))
		s.bytes.Add(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return // its sender is gone
		}
	}
	const item = `{"create":{"status":201}},`
	answer := append([]byte(`{"errors":false,"items":[`), bytes.Repeat([]byte(item), lines/2)...)
	answer = append(bytes.TrimSuffix(answer, []byte(",")), "]}"...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.Write(answer) // a sender that does not wait for it sends again
}
