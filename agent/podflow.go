package agent

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/kube"
	"github.com/tailwater/tailwater/source/tail"
)

// podFlow is what a flow keeps of the pod whose log it reads. All but notes is the
// worker's.
type podFlow struct {
	place  kube.Place
	wrap   string          // cri or docker; "" until the log's first byte was seen
	waited bool            // long enough for the metadata
	noted  *kube.Pod       // what notes tell of
	notes  json.RawMessage // the pod, as it is kept with the file; guarded by flow.mu
}

// openPod prepares a flow of a container's log; notes is what an earlier life has kept
// with the file.
func (f *flow) openPod(notes json.RawMessage) {
	if f.in.pods == nil {
		return
	}
	place, _ := kube.ParsePath(f.file.Watched())
	f.pod = &podFlow{place: place, notes: notes}
	if prev := f.prev(); notes == nil && prev != nil {
		notes = prev.Progress().Notes // it is of the same container
	}
	var was kube.Pod
	if notes != nil && json.Unmarshal(notes, &was) == nil && was.UID == place.UID {
		f.in.pods.Recall(&was)
	}
}

// podView is the way in which the flow's log is read by what is known of its pod now.
func (f *flow) podView() *view {
	pod, _ := f.in.pods.Find(f.pod.place.UID, f.file.ModTime())
	return f.in.podView(f.pod.place, pod, f.pod.wrap)
}

// meetPod takes up what is known of the pod now. It reports false while the log is not
// to be read: its first lines wait for the metadata, or none of them are wanted.
func (f *flow) meetPod(now time.Time) (read bool) {
	p := f.pod
	pod, until := f.in.pods.Find(p.place.UID, f.file.ModTime())
	if pod == nil {
		pod = f.view.pod // forgotten there, and known here
	}
	if pod == nil && !p.waited && now.Before(until) {
		f.due.Store(until.UnixNano())
		return false
	}
	p.waited = true
	if p.wrap == "" {
		p.wrap = f.wrapper()
	}
	if p.wrap == "docker" && f.view.wrap != p.wrap || !reflect.DeepEqual(pod, f.view.pod) {
		f.see(f.in.podView(p.place, pod, p.wrap))
	}
	f.note(pod)
	if f.view.excluded {
		f.passOver()
	}
	return !f.view.excluded
}

// wrapper tells the form of the runtime's lines by the first byte: docker writes JSON,
// and the others a time. It is "" while there is none.
func (f *flow) wrapper() string {
	var first [1]byte
	switch n, _ := f.file.ReadAt(first[:], record.Pos{}); {
	case n == 0:
		return ""
	case first[0] == '{':
		return "docker"
	}
	return "cri"
}

// note keeps the pod with the file: when the file is read again, after a restart and with
// the API server away or the pod gone, its documents are what they were.
func (f *flow) note(pod *kube.Pod) {
	if pod == nil || pod == f.pod.noted {
		return
	}
	f.pod.noted = pod
	notes, err := json.Marshal(pod)
	if err != nil {
		return // strings and maps of them always have a form
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if string(notes) != string(f.pod.notes) {
		f.pod.notes = notes
		f.dirty.Store(true)
	}
}

// passOver takes a file that is not wanted for read and delivered up to its present end.
func (f *flow) passOver() {
	end, from := f.file.Size(), f.lead.pos.Off
	if strings.HasSuffix(f.file.CurrentPath(), ".gz") {
		end = f.endOfGzip(from) // its size is a guess until then
	}
	f.due.Store(0)
	if end <= from && len(f.lags) == 0 {
		return
	}
	to := record.Pos{Off: max(end, from), Time: f.lead.pos.Time, Skip: !f.lineEndsAt(end)}
	for _, c := range append([]*chain{f.lead}, f.lags...) {
		for _, t := range c.members {
			t.Exclude(to.Off - c.pos.Off)
		}
		f.advance(c.members, to)
		c.pos, c.prev, c.pending, c.unsent, c.framer = to, c.prev[:0], c.pending[:0], 0, nil
	}
	f.rejoin()
	f.readTo.Store(max(to.Off, f.readTo.Load()))
	if n := to.Off - f.shipped.Load(); n > 0 {
		f.in.metrics.excluded.Add(n)
		f.shipped.Store(to.Off)
	}
	f.seen.Store(to.Off)
	f.file.Reached(to.Off)
}

// lineEndsAt reports whether a line of the file ends there: should the file be wanted
// again later, it is read from there on.
func (f *flow) lineEndsAt(off int64) bool {
	var last [1]byte
	if off <= 0 {
		return true
	}
	n, _ := f.file.ReadAt(last[:], record.Pos{Off: off - 1})
	return n == 0 || last[0] == '\n'
}

// endOfGzip reads a compressed file to its end, or as far as it can be.
func (f *flow) endOfGzip(from int64) int64 {
	buf := make([]byte, readBytes)
	for {
		n, err := f.file.ReadAt(buf, record.Pos{Off: from})
		from += int64(n)
		gone := (*tail.GoneError)(nil)
		switch {
		case errors.As(err, &gone):
			return gone.To
		case err != nil && err != io.EOF, n == 0:
			return from
		}
	}
}
