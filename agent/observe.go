package agent

import (
	"sync"

	"github.com/tailwater/tailwater/record"
)

// httpBuckets are the upper bounds, in seconds, of the request time histograms.
var httpBuckets = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// histogram counts seconds; the last place is what exceeds all bounds.
type histogram struct {
	counts [len(httpBuckets) + 1]uint64
	sum    float64
}

// observe counts one request. It compares with all bounds: a branch at the right one
// could not be predicted.
func (h *histogram) observe(seconds float64) {
	i := 0
	for _, bound := range &httpBuckets {
		over := 0
		if seconds > bound {
			over = 1
		}
		i += over
	}
	h.counts[i]++
	h.sum += seconds
}

func (h *histogram) add(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.sum += o.sum
}

// lineCounts is what a chain counts during a turn, on its own; flush adds it to the
// counters that everybody shares.
type lineCounts struct {
	bytes, lines, parseErrors int64
	// What framers passed over without an event.
	blankLines, nulBytes, restBytes int64
	headBytes, damagedBytes         int64
	levels, kept                    [record.Levels]int64
	statuses                        []statusCount
	request, upstream               histogram
	requests, upstreams             bool
}

type statusCount struct {
	code  int32
	count uint64
}

// observe counts one event.
func (n *lineCounts) observe(r *record.Record, kept bool) {
	n.lines++
	n.levels[r.Level]++
	if kept {
		n.kept[r.Level]++
	}
	if r.ParseError != "" {
		n.parseErrors++
	}
	if r.Status != 0 {
		n.status(r.Status)
	}
	if r.RequestTime >= 0 {
		n.requests = true
		n.request.observe(r.RequestTime)
	}
	if r.UpstreamTime >= 0 {
		n.upstreams = true
		n.upstream.observe(r.UpstreamTime)
	}
}

func (n *lineCounts) status(code int32) {
	for i := range n.statuses {
		if n.statuses[i].code == code {
			n.statuses[i].count++
			return
		}
	}
	n.statuses = append(n.statuses, statusCount{code, 1})
}

// flush adds the turn's counts to the input's and the project's, and starts anew.
func (n *lineCounts) flush(f *flow, project string) {
	if n.lines == 0 && n.bytes == 0 && n.blankLines == 0 && n.damagedBytes == 0 {
		return
	}
	f.in.metrics.add(n)
	if n.lines > 0 {
		f.agent.metrics.projects.add(project, n)
	}
	*n = lineCounts{statuses: n.statuses[:0]}
}

// projects counts lines and requests per project, for a bounded number of projects.
type projects struct {
	mu    sync.Mutex
	known map[string]*projectCounts
}

// maxProjects bounds the metrics' cardinality; what comes later is counted together
// under the name "other".
const maxProjects = 1000

// maxStatuses bounds the status codes of one project: nginx writes some 60 at most.
const maxStatuses = 100

type projectCounts struct {
	levels              [record.Levels]uint64
	statuses            map[int32]uint64
	request, upstream   histogram
	requests, upstreams bool
}

func (p *projects) add(project string, n *lineCounts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.known[project]
	if c == nil {
		if len(p.known) >= maxProjects {
			project = "other"
		}
		if c = p.known[project]; c == nil {
			c = &projectCounts{statuses: make(map[int32]uint64)}
			p.known[project] = c
		}
	}
	for l, count := range n.levels {
		c.levels[l] += uint64(count)
	}
	for _, s := range n.statuses {
		if _, known := c.statuses[s.code]; !known && len(c.statuses) >= maxStatuses {
			s.code = 0
		}
		c.statuses[s.code] += s.count
	}
	if n.requests {
		c.requests = true
		c.request.add(&n.request)
	}
	if n.upstreams {
		c.upstreams = true
		c.upstream.add(&n.upstream)
	}
}

// drop forgets a project.
func (p *projects) drop(project string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, project)
}
