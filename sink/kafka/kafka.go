package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/tailwater/tailwater/sink"
)

// Sink writes documents to Kafka. Unlike other sinks it tries again itself what the
// brokers may have stored already: such a batch must come again with the same
// sequence and before those after it, or it would be stored twice or not at all.
type Sink struct {
	cfg     Config
	cluster cluster
	close   func()

	ctx     context.Context
	cancel  context.CancelCauseFunc
	lanes   sync.WaitGroup
	batches sync.Pool // of *batch

	// Owned by Send.
	names  *sink.Names
	topics map[string]*topic

	producing sync.Mutex // held while the first producer is asked for
	shared    *producer

	mu     sync.Mutex // guards report and errors
	report func(error)
	errors map[any]error
}

// New returns a sink; it does not connect yet.
func New(c Config) *Sink {
	s := newSink(c, nil)
	b := newBrokers(s.cfg)
	s.cluster, s.close = b, b.close
	return s
}

func newSink(c Config, cl cluster) *Sink {
	if c.BatchBytes <= 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	s := &Sink{cfg: c, cluster: cl, close: func() {}, topics: make(map[string]*topic), errors: make(map[any]error), report: func(error) {}}
	s.names = c.Topic.Names()
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Fields are the route keys that topic, key and spread need.
func (s *Sink) Fields() []string {
	fields := s.cfg.Topic.Fields()
	if s.cfg.Key != nil {
		fields = append(fields, s.cfg.Key.Fields()...)
	}
	if s.cfg.Spread == ByRequest {
		fields = append(fields, "request_id")
	}
	return fields
}

// OnTrouble implements sink.Troubled.
func (s *Sink) OnTrouble(f func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = f
}

// Send gives the documents to their topics.
func (s *Sink) Send(_ context.Context, batch *sink.Batch, done func(sink.Result)) {
	of := &shipment{left: len(batch.Refs), done: done}
	now := time.Now().UnixMilli()
	from, name := 0, ""
	for i, ref := range batch.Refs {
		n := s.names.Of(ref, now)
		if i > from && n != name {
			s.topic(name).add(run{batch.Refs[from:i], of, from})
			from = i
		}
		name = n
	}
	s.topic(name).add(run{batch.Refs[from:], of, from})
}

// topic finds a topic, and starts with it the first time.
func (s *Sink) topic(name string) *topic {
	t := s.topics[name]
	if t == nil {
		t = &topic{sink: s, name: name}
		s.topics[name] = t
		s.lanes.Go(func() { t.find(s.ctx) })
	}
	return t
}

// firstProducer is one for all lanes: sequences are counted by partition. A lane that
// loses it gets one of its own.
func (s *Sink) firstProducer(ctx context.Context) (producer, error) {
	s.producing.Lock()
	defer s.producing.Unlock()
	if s.shared == nil {
		p, err := s.cluster.newProducer(ctx)
		if err != nil {
			return p, err
		}
		s.shared = &p
	}
	return *s.shared, nil
}

// Up tells of each broker that was written to whether it could be reached last.
func (s *Sink) Up() map[string]bool { return s.cluster.up() }

func (s *Sink) startLane(name string, partition int) *lane {
	l := newLane(s.cluster, &s.cfg, name, partition)
	l.report, l.first, l.batches = func(err error) { s.trouble(l, err) }, s.firstProducer, &s.batches
	s.lanes.Go(func() { l.run(s.ctx) })
	return l
}

// trouble keeps which lanes and topics are in trouble, tells of each error, and when
// there is none any more.
func (s *Sink) trouble(of any, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errors[of] = err
		s.report(err)
		return
	}
	if _, was := s.errors[of]; was {
		delete(s.errors, of)
		if len(s.errors) == 0 {
			s.report(nil)
		}
	}
}

// Close ends the lanes; what they hold is answered as not delivered.
func (s *Sink) Close() error {
	s.cancel(errClosed)
	s.lanes.Wait()
	s.close()
	return nil
}
