package consume

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/kafka/wire"
	"github.com/tailwater/tailwater/record"
)

// Parser splits what is not a document of tailwater's own; parser.Parser is one.
type Parser interface {
	Parse(text []byte, r *record.Record)
}

// Config says what to read, and whom to give it to.
type Config struct {
	Name    string   // the input's
	Brokers []string // some of the cluster
	Topics  []string // globs: * and ? as in path.Match
	Except  []string // names of topics that are not read, whatever Topics says
	Group   string
	TLS     *tls.Config
	SASL    sasl.Mechanism

	// Project, Host and Extra are those of documents that are made here.
	Project, Host string
	Extra         []record.KeyValue
	// Keep says for each level whether its documents go on.
	Keep [record.Levels]bool

	// Workers is how many connections read from one broker side by side, and so how
	// many cores take part; 0 is 1.
	Workers int
	// MemoryBytes is how much the brokers' answers may occupy together; 0 is 16 MiB. The
	// documents made of them are in the blocks, which Deliver bounds.
	MemoryBytes int

	// Former is who a process was to the group that has surely ended, "" when nobody is
	// known: the group need not wait for it. Joined, when not nil, is told who this one is.
	Former string
	Joined func(member string)

	// NewParser makes a parser for one partition.
	NewParser func() Parser
	// NewBlock returns an empty block.
	NewBlock func() *record.Block
	// Deliver hands a block on, and waits while there is no room. The parcel's Done is
	// called when the output has taken charge of it all, Refused before that for each
	// document that it will never take. After an error the block is the caller's.
	Deliver func(ctx context.Context, p record.Parcel) error
	// Count is told of what was read. Any goroutine calls it.
	Count func(Counts)
	// Watch, when not nil, returns who is shown what a partition holds; counted is the
	// offset before which members of the group have been shown all of it, as far as is
	// known. Secure, called then before offsets are committed, makes durable what the
	// watchers hold; after an error they are not committed.
	Watch  func(topic string, partition int, counted int64) Watcher
	Secure func() error
	// Lost is told of records that cannot be read any more, and why: "retention" or
	// "damaged". Any goroutine calls it.
	Lost func(reason string, records int64)
	Log  *slog.Logger
}

// Counts are numbers of documents.
type Counts struct {
	Lines       int
	Bytes       int // of them all
	ParseErrors int // did not parse
	// Kept are those that go on, by their level.
	Kept [record.Levels]int
}

// Watcher is shown the records of one partition as they are read, also those that are
// not kept. While the output has no room the partition is read on for it alone. One
// goroutine at a time calls it; what it is given belongs to the caller.
type Watcher interface {
	// Document shows a document of tailwater's own, under an id of so many bytes.
	Document(offset int64, doc []byte, idLen int, unixMilli int64)
	// Record shows one that was made here of text.
	Record(offset int64, r *record.Record, unixMilli int64, text []byte)
	// Flush says that what was shown counts, and that the partition is read on at next;
	// atEnd that there is nothing more at the moment. What was shown and never flushed
	// will be shown again.
	Flush(next int64, atEnd bool)
	// Begin says that the partition is read from its beginning, and where it ends: it may
	// be another of the same name.
	Begin(end int64)
	// Close says that the partition is not read here any more.
	Close()
}

// Source is one input.
type Source struct {
	Config
	cluster wire.Cluster
	memory  *memory       // of what is read for the output
	spare   *memory       // of what is read ahead of it
	finish  chan struct{} // closed by Close: what could be delivered is
	ended   chan struct{} // closed when Run has returned
	once    sync.Once

	looking sync.Mutex      // held while the cluster is looked at; guards lookConn
	conn    *wire.Conn      // of looks, nil when there is none
	reading context.Context // Run's
	readers sync.WaitGroup  // the fetchers
	soon    chan struct{}   // has a token when a look is wanted before its time
	regroup chan struct{}   // has a token when the partitions are to be shared out anew
	offsets *offsets

	mu         sync.Mutex // guards what follows
	there      layout     // as was seen last
	partitions map[partitionID]*partition
	fetchers   map[fetcherID]*fetcher
	changed    chan struct{} // closed when partitions or their leaders have changed
	member     identity
	basis      layout // what was shared out, where this member did it
	shared     bool   // this member has had its share once
	gone       int    // looks in a row that missed some of it
	troubles   map[any]error
}

type partitionID struct {
	topic string
	index int
}

func (id partitionID) compare(with partitionID) int {
	return cmp.Or(cmp.Compare(id.topic, with.topic), id.index-with.index)
}

type fetcherID struct {
	broker int32
	lane   int
	ahead  bool // of the output, for the watchers
}

// identity is who this member is to the group at the moment.
type identity struct {
	id         string // "": not a member
	generation int32
}

const (
	// lookEvery is how often the topics and their leaders are looked at.
	lookEvery = 3 * time.Second
	// commitEvery is how often offsets are committed: so much is read again after a
	// crash.
	commitEvery = time.Second
	// lastAnswers is how long a partition that goes to another member waits for what
	// it has under way, so that the other does not read it again.
	lastAnswers = 3 * time.Second
	// farewell is how long the last commit and the leaving of the group may take.
	farewell = 5 * time.Second

	defaultMemoryBytes = 16 << 20
)

// New returns a source that Run starts.
func New(c Config) *Source {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Lost == nil {
		c.Lost = func(string, int64) {}
	}
	c.Workers = max(c.Workers, 1)
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = defaultMemoryBytes
	}
	memory, spare := c.MemoryBytes, 0
	if c.Watch != nil { // what waits for the output must not stop the reading ahead
		memory, spare = memory-memory/2, memory/2
	}
	s := &Source{
		Config: c, cluster: wire.Cluster{Dialer: wire.Dialer{TLS: c.TLS, SASL: c.SASL}, Seeds: c.Brokers}, memory: newMemory(memory), spare: newMemory(spare),
		finish: make(chan struct{}), ended: make(chan struct{}), soon: make(chan struct{}, 1), regroup: make(chan struct{}, 1),
		partitions: make(map[partitionID]*partition), fetchers: make(map[fetcherID]*fetcher), changed: make(chan struct{}), troubles: make(map[any]error),
	}
	s.offsets = &offsets{source: s}
	return s
}

// Run reads until ctx ends, and stays a member of the group until Close. It is called
// once.
func (s *Source) Run(ctx context.Context) {
	defer close(s.ended)
	s.reading = ctx
	life, die := context.WithCancel(context.Background())
	defer die()
	var work sync.WaitGroup
	work.Go(func() { s.keepLooking(life) })
	work.Go(func() { s.keepCommitting(life) })
	work.Go(func() { (&membership{source: s, former: s.Former}).run(life) })
	<-ctx.Done()
	s.mu.Lock() // whoever starts a fetcher has seen by now that it has ended
	//lint:ignore SA2001 it is waited for, not worked under
	s.mu.Unlock()
	s.readers.Wait()
	for _, p := range s.owned() {
		p.unwatch()
	}
	<-s.finish
	die()
	work.Wait()
	s.sayFarewell()
}

// sayFarewell commits what was delivered last and leaves the group.
func (s *Source) sayFarewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := s.commit(ctx); err != nil {
		s.Log.Warn("the last offsets could not be committed; what was delivered since the commit before is read again", "input", s.Name, "error", err)
	}
	if err := s.offsets.leave(ctx, s.who().id); err != nil {
		s.Log.Debug("leave the group", "input", s.Name, "error", err)
	}
	s.offsets.hangUp()
	if s.conn != nil {
		s.conn.Close()
	}
}

// Close commits what was delivered since Run's context ended, leaves the group and
// waits until Run has returned.
func (s *Source) Close() {
	s.once.Do(func() { close(s.finish) })
	<-s.ended
}

// Settle waits until all that was read is delivered, or ctx ends; the reading has
// been ended before.
func (s *Source) Settle(ctx context.Context) {
	for s.busy(s.owned()) && backoff.Sleep(ctx, 20*time.Millisecond) == nil {
	}
}

func (s *Source) busy(parts []*partition) bool {
	for _, p := range parts {
		if p.busy() {
			return true
		}
	}
	return false
}

// owned are the partitions that this member has.
func (s *Source) owned() (all []*partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		all = append(all, p)
	}
	return all
}

// dispatchLocked has each partition read from its leader, after a change of either, and
// read ahead for its watcher while whoever reads it for the output is stuck.
func (s *Source) dispatchLocked() {
	for id, p := range s.partitions {
		at := fetcherID{broker: s.there.leader(id), lane: p.lane}
		if at.broker < 0 || s.reading.Err() != nil {
			continue
		}
		s.startLocked(at)
		if p.lent == nil && s.fetchers[at].stuck {
			p.part()
		}
		if at.ahead = true; p.apart() {
			s.startLocked(at)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Source) startLocked(at fetcherID) {
	if s.fetchers[at] != nil {
		return
	}
	f := &fetcher{source: s, fetcherID: at, memory: s.memory, asked: make(map[partitionID]reader)}
	if at.ahead {
		f.memory = s.spare
	}
	s.fetchers[at] = f
	s.readers.Go(func() { f.run(s.reading) })
}

// borrow gives a fetcher what it is to read now, until it gives it back: a partition
// whose leader changes must not be read by two. changed is closed when that may be
// others; any tells whether the fetcher has any at all.
func (s *Source) borrow(f *fetcher) (due []reader, changed <-chan struct{}, any bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		if !s.readsLocked(f, p) {
			continue
		}
		any = true
		switch {
		case !f.ahead && p.lent == nil && p.ready(now):
			p.lent = f
			due = append(due, p)
		case f.ahead && p.ahead.lent == nil && p.ahead.ready(now, s.stuckLocked(p)):
			p.ahead.lent = f
			due = append(due, p.ahead)
		}
	}
	slices.SortFunc(due, func(a, b reader) int { return a.of().id.compare(b.of().id) })
	return due, s.changed, any
}

// readsLocked tells whether the partition is for that fetcher to read.
func (s *Source) readsLocked(f *fetcher, p *partition) bool {
	return p.lane == f.lane && s.there.leader(p.id) == f.broker && (!f.ahead || p.apart())
}

// stuckLocked tells whether the one who reads the partition for the output waits for it.
func (s *Source) stuckLocked(p *partition) bool {
	f := p.lent
	if f == nil {
		f = s.fetchers[fetcherID{broker: s.there.leader(p.id), lane: p.lane}]
	}
	return f != nil && f.stuck
}

func (s *Source) giveBack(parts []reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range parts {
		p := r.of()
		if r == reader(p) {
			p.lent = nil
		} else {
			p.ahead.lent = nil
		}
		if p.ended && !p.inUse() {
			p.unwatch()
		}
	}
}

// letGoLocked forgets a partition that is another member's now.
func (s *Source) letGoLocked(p *partition) {
	delete(s.partitions, p.id)
	delete(s.troubles, p.id)
	delete(s.troubles, p.ahead)
	p.ended = true
	if !p.inUse() {
		p.unwatch()
	}
}

// retire ends a fetcher that has nothing to read.
func (s *Source) retire(f *fetcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		if s.readsLocked(f, p) {
			return false
		}
	}
	delete(s.fetchers, f.fetcherID)
	delete(s.troubles, f.fetcherID)
	return true
}

// Place is a partition.
type Place struct {
	Topic     string
	Partition int
}

// Ends asks where the partitions end that this member reads. The error says why that is
// not known, also while the group has not given the member its share yet.
func (s *Source) Ends(ctx context.Context) (map[Place]int64, error) {
	s.mu.Lock()
	parts, shared := maps.Clone(s.partitions), s.shared
	s.mu.Unlock()
	if !shared {
		return nil, errors.New("the group has not shared the partitions out yet")
	}
	ends := make(map[Place]int64)
	for broker, led := range s.byLeader(parts) {
		if broker < 0 {
			return nil, fmt.Errorf("%d partitions have no leader", len(led))
		}
		if err := s.hear(ctx, broker, led); err != nil {
			return nil, err
		}
		for id, p := range led {
			ends[Place{id.topic, id.index}] = p.newest()
		}
	}
	return ends, nil
}

// Left are the partitions read here that are not delivered up to those ends.
func (s *Source) Left(ends map[Place]int64) (left []Lag) {
	for _, p := range s.owned() {
		if n := p.before(ends[Place{p.id.topic, p.id.index}]); n > 0 {
			left = append(left, Lag{p.id.topic, p.id.index, n})
		}
	}
	return left
}

// Lag is how far one partition is behind.
type Lag struct {
	Topic     string
	Partition int
	// Records are those that the output does not have yet.
	Records int64
}

// Lags are those of the partitions that this member reads.
func (s *Source) Lags() []Lag {
	var all []Lag
	for _, p := range s.owned() {
		all = append(all, Lag{p.id.topic, p.id.index, p.lag()})
	}
	return all
}
