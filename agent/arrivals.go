package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/tailwater/tailwater/source/tail"
)

// arrivals are files with news that have no flow yet, the first come first. A start that
// finds tens of thousands gives them flows little by little, as the first ones are done:
// each has some ten kilobytes while it is read.
type arrivals struct {
	mu      sync.Mutex
	files   []*tail.File
	known   map[*tail.File]struct{}
	at      time.Time
	allowed float64 // flows that may be made now
}

const (
	arrivalsEach  = 2500 // flows made in a second
	arrivalsBurst = 1000 // and at once, after a rest
)

// add puts files at the end of the line.
func (q *arrivals) add(news []*tail.File) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range news {
		if _, waits := q.known[f]; waits {
			continue
		}
		if q.known == nil {
			q.known = make(map[*tail.File]struct{})
		}
		q.known[f] = struct{}{}
		q.files = append(q.files, f)
	}
}

// take returns those whose turn has come: all that has a flow, and as many others as may
// have one now.
func (q *arrivals) take(now time.Time, hasFlow func(*tail.File) bool) []*tail.File {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.at.IsZero() {
		q.allowed += now.Sub(q.at).Seconds() * arrivalsEach
	} else {
		q.allowed = arrivalsBurst
	}
	q.allowed = min(q.allowed, arrivalsBurst)
	q.at = now
	if len(q.files) == 0 {
		return nil
	}
	var taken []*tail.File
	rest := q.files[:0]
	for _, f := range q.files {
		switch {
		case hasFlow(f):
		case q.allowed >= 1:
			q.allowed--
		default:
			rest = append(rest, f)
			continue
		}
		delete(q.known, f)
		taken = append(taken, f)
	}
	clear(q.files[len(rest):])
	q.files = rest
	if len(rest) == 0 {
		q.files, q.known = nil, nil // there may have been very many
	}
	return taken
}

// waiting are those whose turn has not come.
func (q *arrivals) waiting() []*tail.File {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.files)
}

// withoutFlow are the files that have something for the outputs and wait for their turn:
// because older generations are being read, or because there are very many.
func (a *Agent) withoutFlow() []*tail.File {
	return slices.DeleteFunc(append(a.source.Waiting(), a.arrivals.waiting()...), func(f *tail.File) bool {
		return a.hasFlow(f) || f.Undelivered() <= 0
	})
}
