package elastic

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"github.com/tailwater/tailwater/internal/units"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/sink"
)

// Target is what the name of an index stands for.
type Target string

// The kinds of targets. A data stream and the index behind an alias roll over to a new
// one: there a document's id is unknown, and what is sent again then is there twice.
const (
	ToIndex      Target = "index"
	ToAlias      Target = "alias"
	ToDataStream Target = "data_stream"
)

// Config says where and how to write. Zero numbers are the defaults.
type Config struct {
	Name   string // the output's
	URLs   []string
	Index  string // a template
	Target Target // "": ToIndex
	Log    *slog.Logger

	Username string
	Password units.Secret
	APIKey   units.Secret // encoded, or ID:KEY
	// CACert is a PEM file's content; CAFingerprint the SHA-256 of a certificate of
	// the chain, in hexadecimal.
	CACert        []byte
	CAFingerprint string

	Gzip bool
	// Requests bounds how many are under way at once.
	Requests int
	// Timeout is how long one answer may take.
	Timeout time.Duration
}

// bulkPath asks for no more of an answer than is read of it, and that a request waits no
// minute for the primary shard of an index that is red: the other documents of the
// request would wait with it.
const bulkPath = "/_bulk?timeout=10s&filter_path=errors,items.*.status,items.*.error"

// The defaults of a Config.
const (
	DefaultRequests = 4
	DefaultTimeout  = 90 * time.Second
)

// Sink writes documents to Elasticsearch.
type Sink struct {
	name      string
	log       *slog.Logger
	index     *sink.Template
	target    Target
	path      string // of bulk requests
	nodes     int
	looked    atomic.Bool // for a template of the indexes
	transport *elastictransport.Client
	gate      *gate
	timeout   time.Duration
	bulks     sync.Pool // of *bulk
	underway  sync.WaitGroup
}

// New returns a sink; it does not connect yet.
func New(c Config) (*Sink, error) {
	index, err := sink.Compile(c.Index, sink.IndexNaming)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	var urls []*url.URL
	for _, s := range c.URLs {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("url %q: write http://HOST:PORT or https://HOST:PORT", s)
		}
		urls = append(urls, u)
	}
	// The Deliverer decides what is tried again, and when: not the transport.
	opts := []elastictransport.Option{elastictransport.WithURLs(urls...), elastictransport.WithTransport(newTransport()), elastictransport.WithDisableRetry(),
		elastictransport.WithUserAgent("tailwater")}
	if c.Username != "" {
		opts = append(opts, elastictransport.WithBasicAuth(c.Username, c.Password.Reveal()))
	}
	if c.APIKey != "" {
		opts = append(opts, elastictransport.WithAPIKey(encodedKey(c.APIKey.Reveal())))
	}
	if len(c.CACert) > 0 {
		opts = append(opts, elastictransport.WithCACert(c.CACert))
	}
	if c.CAFingerprint != "" {
		opts = append(opts, elastictransport.WithCertificateFingerprint(c.CAFingerprint))
	}
	if c.Gzip {
		opts = append(opts, elastictransport.WithCompression())
	}
	transport, err := elastictransport.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	if c.Requests <= 0 {
		c.Requests = DefaultRequests
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	s := &Sink{name: c.Name, log: c.Log, index: index, target: cmp.Or(c.Target, ToIndex), nodes: len(urls), transport: transport, gate: newGate(c.Requests), timeout: c.Timeout}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.path = bulkPath
	if s.target == ToAlias {
		s.path += "&require_alias=true"
	}
	s.bulks.New = func() any { return &bulk{names: index.Names()} }
	return s, nil
}

// encodedKey takes a key as Elasticsearch gives it out, encoded, or as ID:KEY, in which
// base64 has no colon.
func encodedKey(key string) string {
	if strings.Contains(key, ":") {
		return base64.StdEncoding.EncodeToString([]byte(key))
	}
	return key
}

// Fields are the route keys that the index template needs.
func (s *Sink) Fields() []string { return s.index.Fields() }

// Send writes the batch in one request, without waiting for the answer.
func (s *Sink) Send(ctx context.Context, batch *sink.Batch, done func(sink.Result)) {
	if err := s.gate.enter(ctx); err != nil {
		done(sink.Result{Err: err, Reason: "stopped"})
		return
	}
	s.underway.Go(func() {
		began := time.Now()
		result := s.write(ctx, batch.Refs)
		s.gate.leave(result, time.Since(began))
		done(result)
	})
}

// write sends refs, in halves where the server finds them too large together.
func (s *Sink) write(ctx context.Context, refs []record.Ref) sink.Result {
	result := s.request(ctx, refs)
	if !errors.Is(result.Err, errTooLarge) {
		return result
	}
	if len(refs) == 1 {
		return sink.Result{Refused: []sink.Refusal{{Reason: "too_large", Detail: "the server answered 413: the document is larger than http.max_content_length"}}}
	}
	half := len(refs) / 2
	return joinHalves(s.write(ctx, refs[:half]), s.write(ctx, refs[half:]), half, len(refs))
}

// joinHalves makes one result of those of two halves.
func joinHalves(a, b sink.Result, half, n int) sink.Result {
	if a.Err != nil && b.Err != nil {
		return a
	}
	whole := func(r sink.Result, from, to int) sink.Result {
		if r.Err != nil {
			for i := range to - from {
				r.Retry = append(r.Retry, i)
			}
			r.Why, r.Err = r.Err.Error(), nil
		}
		return r
	}
	a, b = whole(a, 0, half), whole(b, half, n)
	for _, i := range b.Retry {
		a.Retry = append(a.Retry, half+i)
	}
	for _, r := range b.Refused {
		r.Index += half
		a.Refused = append(a.Refused, r)
	}
	if a.Reason == "" {
		a.Reason = b.Reason
	}
	if a.Why == "" {
		a.Why = b.Why
	}
	return a
}

// request sends refs once.
func (s *Sink) request(ctx context.Context, refs []record.Ref) sink.Result {
	b := s.bulks.Get().(*bulk)
	defer func() {
		if b.end() {
			s.bulks.Put(b)
		}
	}()
	now := time.Now().UnixMilli()
	b.load(refs, now)
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %v", s.timeout))
	defer cancel()
	resp, err := s.perform(ctx, b)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return sink.Result{Err: fmt.Errorf("elasticsearch: %w; the documents are sent again, which stores none twice", cause), Reason: "timeout"}
		}
		return sink.Result{Err: unreachable(err), Reason: "unreachable"}
	}
	defer resp.Body.Close()
	result := judge(resp, len(refs), &b.answer)
	if result.Err == nil && !s.looked.Swap(true) {
		name := string(s.index.Append(nil, refs[0], now))
		s.underway.Go(func() { s.lookForTemplate(name) })
	}
	return result
}

// perform sends the bulk to a node, and to the others in turn while one after the other
// cannot be reached. The transport leaves those out for a while that could not.
func (s *Sink) perform(ctx context.Context, b *bulk) (resp *http.Response, err error) {
	for range s.nodes {
		var req *http.Request
		req, err = http.NewRequestWithContext(ctx, http.MethodPost, s.path, b.body())
		if err != nil {
			return nil, err
		}
		req.ContentLength = b.length
		req.GetBody = func() (io.ReadCloser, error) { return b.body(), nil }
		req.Header.Set("Content-Type", "application/x-ndjson")
		if resp, err = s.transport.Perform(req); err == nil || ctx.Err() != nil {
			return resp, err
		}
	}
	return nil, err
}

// unreachable puts what came instead of an answer in words for the person on call.
func unreachable(err error) error {
	advice := "is it running at the configured urls?"
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		advice = "name the file of the authority that signed its certificate in ca:, or the certificate's ca_fingerprint:"
	case strings.HasPrefix(err.Error(), "fingerprint mismatch"):
		advice = "no certificate of its chain has the configured ca_fingerprint:; is it the SHA-256 of the right one?"
	case errors.Is(err, io.EOF):
		advice = "it closed the connection; does it want https://?"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		advice = "it does not encrypt; write http:// in urls:"
	}
	return fmt.Errorf("elasticsearch cannot be reached: %w; %s", err, advice)
}

// Close waits for the answers that are under way and closes the connections.
func (s *Sink) Close() error {
	s.underway.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.transport.Close(ctx)
}
