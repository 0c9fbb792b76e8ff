package agent

import (
	"cmp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/consume"
)

// inputMetrics are the counters of one input. They outlive a reload.
type inputMetrics struct {
	bytes, lines, parseErrors atomic.Int64
	excluded                  atomic.Int64 // bytes
	nulBytes                  atomic.Int64
	kept                      [record.Levels]atomic.Int64
	mu                        sync.Mutex
	abandoned, dropped        map[string]int64 // by reason
}

// consumed counts what came from Kafka.
func (m *inputMetrics) consumed(n consume.Counts) {
	m.lines.Add(int64(n.Lines))
	m.bytes.Add(int64(n.Bytes))
	m.parseErrors.Add(int64(n.ParseErrors))
	for l, kept := range n.Kept {
		m.kept[l].Add(int64(kept))
	}
}

func (m *inputMetrics) add(n *lineCounts) {
	// What an overlong line is cut of is lost: a byte is counted as one of both.
	m.bytes.Add(n.bytes - n.restBytes - n.headBytes - n.damagedBytes)
	if n.damagedBytes > 0 {
		m.abandon("spool_damaged", n.damagedBytes)
	}
	m.nulBytes.Add(n.nulBytes)
	if n.restBytes > 0 {
		m.abandon("overlong", n.restBytes)
	}
	if n.blankLines > 0 {
		m.drop("blank", n.blankLines)
	}
	m.lines.Add(n.lines)
	m.parseErrors.Add(n.parseErrors)
	for l := range n.kept {
		if n.kept[l] > 0 {
			m.kept[l].Add(n.kept[l])
		}
	}
}

// abandon counts bytes that were gone before they were read.
func (m *inputMetrics) abandon(reason string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.abandoned, reason, n)
}

// expect has the counters of these losses there from the start: the increase() of one
// that appears with the first loss is none.
func (m *inputMetrics) expect(abandoned, dropped []string) {
	for _, reason := range abandoned {
		m.abandon(reason, 0)
	}
	for _, reason := range dropped {
		m.drop(reason, 0)
	}
}

// drop counts lines that were not made into events, such as blank ones.
func (m *inputMetrics) drop(reason string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.dropped, reason, n)
}

// metrics is what the agent counts beside its inputs and outputs.
type metrics struct {
	projects   projects
	mu         sync.Mutex
	inputs     map[string]*inputMetrics
	lostDead   map[string]int64 // by output; guarded by mu
	saveErrors atomic.Int64
	lastSave   atomic.Int64 // Unix ns
	reloadOK   atomic.Bool
	reloadedAt atomic.Int64 // Unix s
}

func newMetrics() *metrics {
	m := &metrics{inputs: make(map[string]*inputMetrics)}
	m.projects.known = make(map[string]*projectCounts)
	m.reloadOK.Store(true)
	m.reloadedAt.Store(time.Now().Unix())
	return m
}

func (m *metrics) input(name string) *inputMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inputs[name] == nil {
		m.inputs[name] = new(inputMetrics)
	}
	return m.inputs[name]
}

// droppedLetters counts dead letters that were deleted because there were too many.
func (m *metrics) droppedLetters(output string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.lostDead, output, int64(n))
}

func (m *metrics) saved(err error) {
	if err != nil {
		m.saveErrors.Add(1)
		return
	}
	m.lastSave.Store(time.Now().UnixNano())
}

func (m *metrics) reloaded(ok bool) {
	m.reloadOK.Store(ok)
	if ok {
		m.reloadedAt.Store(time.Now().Unix())
	}
}

// collector gives Prometheus the agent's numbers as they are when it asks.
type collector struct{ agent *Agent }

// Describe sends nothing: the metrics come and go with inputs, outputs and projects.
func (collector) Describe(chan<- *prometheus.Desc) {}

// family is one metric and the labels it has.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) family {
	return family{prometheus.NewDesc("tailwater_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc("tailwater_"+name, help, labels, nil), prometheus.GaugeValue}
}

func (f family) send(ch chan<- prometheus.Metric, value float64, labels ...string) {
	if m, err := prometheus.NewConstMetric(f.desc, f.kind, value, labels...); err == nil {
		ch <- m
	}
}

var (
	readByteCount  = counter("read_bytes_total", "Bytes read from the input's files.", "input")
	abandonedBytes = counter("abandoned_bytes_total", "Bytes that no output can get any more.", "input", "reason")
	nulByteCount   = counter("nul_bytes_total", "Of the bytes read, those of holes: runs of NUL, which are no line.", "input")
	readLines      = counter("read_lines_total", "Events read, after joining.", "input")
	keptLines      = counter("kept_lines_total", "Events that keep let pass.", "input", "level")
	parseErrors    = counter("parse_errors_total", "Events that did not parse and were shipped with parse_error.", "input")
	excludedBytes  = counter("excluded_bytes_total", "Bytes of logs whose pods want them left alone.", "input")
	podsKnown      = gauge("kubernetes_pods", "Pods of the node that are known, those that ended within the last minute too.", "input")
	apiServerUp    = gauge("kubernetes_api_up", "1 while the API server tells of the pods.", "input")
	droppedLines   = counter("dropped_lines_total", "Lines that became no event.", "input", "reason")
	outputGiven    = counter("output_given_lines_total", "Documents that were put into the output's queue. They are output_lines_total, dead_letters_total and output_under_way_lines together.", "output")
	outputUnderWay = gauge("output_under_way_lines", "Documents that wait for the output or are under way to it.", "output")
	outputLines    = counter("output_lines_total", "Documents that the output has taken.", "output")
	outputBytes    = counter("output_bytes_total", "Bytes of documents that the output has taken.", "output")
	outputLost     = counter("output_lost_bytes_total", "Bytes of files that were gone before this output had them, also where another has got them.", "output", "input", "reason")
	outputErrors   = counter("output_errors_total", "Failed tries to deliver.", "output", "reason")
	outputRetries  = counter("output_retries_total", "Documents sent again.", "output")
	deadLetters    = counter("dead_letters_total", "Documents that the output refused.", "output", "reason")
	droppedLetters = counter("dead_letters_dropped_total", "Dead letters that were deleted because there were too many.", "output")
	queueBytes     = gauge("queue_bytes", "Bytes waiting for the output or under way to it.", "output")
	outputUp       = gauge("output_up", "1 while the output takes what is sent to it.", "output")
	lagBytes       = gauge("file_lag_bytes", "Bytes on disk that are not delivered to every output yet.", "input")
	lagSeconds     = gauge("file_lag_seconds", "Age of the oldest undelivered line.", "input")
	stalledFiles   = gauge("stalled_files", "Files that have grown and have not been read for a while.", "input")
	watchedFiles   = gauge("watched_files", "Files known under the input's globs.", "input")
	heldDeleted    = gauge("held_deleted_bytes", "Disk that deleted files occupy while they are read to their end.")
	openFiles      = gauge("open_files", "Log files open now.")
	repairedFiles  = counter("repaired_files_total", "Files whose growth no event had told, found by polling.")
	checkpointErrs = counter("checkpoint_errors_total", "Checkpoints that could not be written.")
	checkpointAt   = gauge("checkpoint_timestamp_seconds", "When the last checkpoint was written.")
	logLines       = counter("log_lines_total", "Events by project and level, before keep.", "project", "level")
	httpRequests   = counter("http_requests_total", "Access lines by project and status code.", "project", "status_code")
	consumerLag    = gauge("consumer_lag", "Records of a partition read here that the output does not have yet.", "input", "topic", "partition")
	spoolBytes     = gauge("spool_bytes", "Disk that received lines occupy until every output has them.", "input")
	spoolLimit     = gauge("spool_limit_bytes", "Disk that they may occupy.", "input")
	connections    = gauge("listen_connections", "Connections of senders.", "input")
	answered       = counter("listen_answers_total", "Requests and messages of senders, by how they were answered.", "input", "answer")
	brokerUp       = gauge("kafka_broker_up", "1 when the broker could be reached last.", "output", "broker")
	reloadSuccess  = gauge("config_last_reload_success", "1 when the last reload was taken over.")
	reloadTime     = gauge("config_last_reload_success_timestamp_seconds", "When the configuration was last taken over.")
	buildInfo      = gauge("build_info", "Always 1; the labels tell the build.", "version", "commit", "go_version")
	httpSeconds    = prometheus.NewDesc("tailwater_http_request_seconds", "Request times of access lines.", []string{"project"}, nil)
	upstreamSecs   = prometheus.NewDesc("tailwater_http_upstream_seconds", "Upstream times of access lines.", []string{"project"}, nil)
)

// Collect sends all metrics.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	a := c.agent
	m := a.metrics
	m.mu.Lock()
	for name, in := range m.inputs {
		in.collect(ch, name)
	}
	for output, n := range m.lostDead {
		droppedLetters.send(ch, float64(n), output)
	}
	m.mu.Unlock()
	for _, out := range a.allOutputs() {
		out.collect(ch)
	}
	for input, lag := range a.lags() {
		lagBytes.send(ch, float64(lag.bytes), input)
		lagSeconds.send(ch, lag.seconds, input)
		stalledFiles.send(ch, float64(lag.stalled), input)
	}
	for _, c := range a.allConsumers() {
		for _, l := range c.source.Lags() {
			consumerLag.send(ch, float64(l.Records), c.in.name, l.Topic, strconv.Itoa(l.Partition))
		}
	}
	a.collectPods(ch)
	a.collectReceivers(ch)
	m.projects.collect(ch)
	a.alerts.collect(ch)
	s := a.source.Stats()
	heldDeleted.send(ch, float64(s.HeldDeletedBytes))
	openFiles.send(ch, float64(s.OpenFiles))
	repairedFiles.send(ch, float64(s.Repaired))
	for input, n := range s.Watched {
		watchedFiles.send(ch, float64(n), input)
	}
	checkpointErrs.send(ch, float64(m.saveErrors.Load()))
	checkpointAt.send(ch, float64(m.lastSave.Load())/1e9)
	ok := 0.0
	if m.reloadOK.Load() {
		ok = 1
	}
	reloadSuccess.send(ch, ok)
	reloadTime.send(ch, float64(m.reloadedAt.Load()))
	buildInfo.send(ch, 1, a.build.Version, a.build.Commit, a.build.GoVersion)
}

// levelLabel names a level; lines without one, such as access lines, have "none".
func levelLabel(l int) string { return cmp.Or(record.Level(l).String(), "none") }

func (m *inputMetrics) collect(ch chan<- prometheus.Metric, name string) {
	readByteCount.send(ch, float64(m.bytes.Load()), name)
	readLines.send(ch, float64(m.lines.Load()), name)
	parseErrors.send(ch, float64(m.parseErrors.Load()), name)
	if n := m.excluded.Load(); n > 0 {
		excludedBytes.send(ch, float64(n), name)
	}
	nulByteCount.send(ch, float64(m.nulBytes.Load()), name)
	for l := range m.kept {
		if n := m.kept[l].Load(); n > 0 {
			keptLines.send(ch, float64(n), name, levelLabel(l))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for reason, n := range m.abandoned {
		abandonedBytes.send(ch, float64(n), name, reason)
	}
	for reason, n := range m.dropped {
		droppedLines.send(ch, float64(n), name, reason)
	}
}

func (p *projects) collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for project, c := range p.known {
		for l, n := range c.levels {
			if n > 0 {
				logLines.send(ch, float64(n), project, levelLabel(l))
			}
		}
		for code, n := range c.statuses {
			label := strconv.Itoa(int(code))
			if code == 0 {
				label = "other"
			}
			httpRequests.send(ch, float64(n), project, label)
		}
		if c.requests {
			c.request.send(ch, httpSeconds, project)
		}
		if c.upstreams {
			c.upstream.send(ch, upstreamSecs, project)
		}
	}
}

func (h *histogram) send(ch chan<- prometheus.Metric, desc *prometheus.Desc, project string) {
	buckets := make(map[float64]uint64, len(httpBuckets))
	var total uint64
	for i, bound := range httpBuckets {
		total += h.counts[i]
		buckets[bound] = total
	}
	total += h.counts[len(httpBuckets)]
	if m, err := prometheus.NewConstHistogram(desc, total, h.sum, buckets, project); err == nil {
		ch <- m
	}
}
