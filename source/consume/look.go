package consume

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/tailwater/tailwater/internal/backoff"
)

// layout is the topics that are read with the leaders of their partitions, -1 for one
// that has none at the moment. It is not changed once it is made.
type layout map[string][]int32

func (l layout) leader(id partitionID) int32 {
	if leaders := l[id.topic]; id.index < len(leaders) {
		return leaders[id.index]
	}
	return -1
}

// compare tells whether one has partitions that the other lacks.
func (l layout) compare(was layout) (more, fewer bool) {
	for topic, leaders := range l {
		more = more || len(leaders) > len(was[topic])
	}
	for topic, leaders := range was {
		fewer = fewer || len(leaders) > len(l[topic])
	}
	return more, fewer
}

// matches tells whether a topic is to be read; those of Kafka itself never are.
func matches(globs []string, topic string) bool {
	return !strings.HasPrefix(topic, "__") && slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, topic)
		return ok
	})
}

// looksUntilGone is how many looks in a row must miss a partition until it is believed
// to be gone: a broker that was away may not know it yet.
const looksUntilGone = 3

// keepLooking looks at the cluster until ctx ends, and has the partitions shared out
// anew when there are others.
func (s *Source) keepLooking(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		there, err := s.look(ctx)
		wait := lookEvery
		switch {
		case err != nil:
			failures++
			wait = backoff.Policy{Cap: lookEvery}.Delay(failures)
			if ctx.Err() == nil && failures > 1 {
				s.trouble("topics", err)
			}
		case len(there) == 0:
			failures = 0
			s.trouble("topics", fmt.Errorf("no topic matches %v yet, as far as this user may see", s.Topics))
		default:
			failures = 0
			s.trouble("topics", nil)
		}
		if err == nil && s.outdated(there) {
			select {
			case s.regroup <- struct{}{}:
			default:
			}
		}
		s.hearOfTheBusy(ctx)
		select {
		case <-time.After(wait):
		case <-s.soon:
			backoff.Sleep(ctx, lookPause) // who asks has just seen something else, and so have others
		case <-ctx.Done():
		}
	}
}

// lookPause is the least time between looks.
const lookPause = 100 * time.Millisecond

// lookSoon has the cluster looked at: a leader may be another.
func (s *Source) lookSoon() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

// outdated tells whether this member has shared out other partitions than there are.
func (s *Source) outdated(there layout) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.basis == nil {
		return false
	}
	more, fewer := there.compare(s.basis)
	if !fewer {
		s.gone = 0
	} else {
		s.gone++
	}
	if more || s.gone >= looksUntilGone {
		s.Log.Info("other partitions are there now", "input", s.Name, "topics", len(there), "before", len(s.basis))
		return true
	}
	return false
}

// look asks which topics there are, and has partitions read from their leaders.
func (s *Source) look(ctx context.Context) (layout, error) {
	s.looking.Lock()
	defer s.looking.Unlock()
	m, err := s.askAny(ctx, s.question())
	if err != nil {
		return nil, err
	}
	resp := m.(*metadata.Response)
	s.cluster.Learn(resp)
	there := make(layout)
	for _, t := range resp.Topics {
		if !matches(s.Topics, t.Name) || slices.Contains(s.Except, t.Name) {
			continue
		}
		switch code := kafka.Error(t.ErrorCode); code {
		case 0:
			there[t.Name] = leadersOf(t)
		case kafka.UnknownTopicOrPartition:
		case kafka.TopicAuthorizationFailed:
			return nil, fmt.Errorf("topic %s: not allowed: %w; give this user READ and DESCRIBE on the topic", t.Name, code)
		default: // it is there, and somehow not
			if known := s.known(t.Name); known != nil {
				there[t.Name] = known
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there = there
	for id, p := range s.partitions { // whose reader may be waiting for the output
		if there[id.topic] == nil && p.known() {
			p.vanish()
		}
	}
	s.dispatchLocked()
	return there, nil
}

func (s *Source) known(topic string) []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there[topic]
}

// question asks for the topics by their names, or for all where there are globs.
func (s *Source) question() *metadata.Request {
	if slices.ContainsFunc(s.Topics, func(glob string) bool { return strings.ContainsAny(glob, `*?[\`) }) {
		return &metadata.Request{}
	}
	return &metadata.Request{TopicNames: s.Topics}
}

func leadersOf(t metadata.ResponseTopic) []int32 {
	n := 0
	for _, p := range t.Partitions {
		n = max(n, int(p.PartitionIndex)+1)
	}
	n = min(n, 1<<20) // more there are not
	leaders := slices.Repeat([]int32{-1}, n)
	for _, p := range t.Partitions {
		if i := int(p.PartitionIndex); i >= 0 && i < n {
			leaders[i] = p.LeaderID
		}
	}
	return leaders
}

// askAny asks over the connection of the look before, or a new one.
func (s *Source) askAny(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errNoAnswer)
	defer cancel()
	if s.conn != nil {
		if m, err := s.conn.Ask(ctx, req); err == nil {
			return m, nil
		}
		s.conn.Close()
		s.conn = nil
	}
	conn, err := s.cluster.Any(ctx)
	if err != nil {
		return nil, err
	}
	m, err := conn.Ask(ctx, req)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s.conn = conn
	return m, nil
}

// unheard is how old the news of a partition's end may be.
const unheard = 4 * time.Second

// hearOfTheBusy learns the ends of the partitions that are not read, as their output
// takes nothing: how far they are behind is wanted most then.
func (s *Source) hearOfTheBusy(ctx context.Context) {
	quiet := make(map[partitionID]*partition)
	s.mu.Lock()
	for id, p := range s.partitions {
		if p.unheard() {
			quiet[id] = p
		}
	}
	s.mu.Unlock()
	for broker, parts := range s.byLeader(quiet) {
		if broker >= 0 {
			s.hear(ctx, broker, parts) // who reads from it says what is wrong
		}
	}
}

// byLeader sorts partitions by the brokers that lead them, -1 for nobody.
func (s *Source) byLeader(parts map[partitionID]*partition) map[int32]map[partitionID]*partition {
	sorted := make(map[int32]map[partitionID]*partition)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range parts {
		leader := s.there.leader(id)
		if sorted[leader] == nil {
			sorted[leader] = make(map[partitionID]*partition)
		}
		sorted[leader][id] = p
	}
	return sorted
}

// hear learns where partitions of a broker end.
func (s *Source) hear(ctx context.Context, broker int32, parts map[partitionID]*partition) error {
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	req := &listoffsets.Request{ReplicaID: -1}
	for id := range parts {
		req.Topics = append(req.Topics, offsetQuestion(id, kafka.LastOffset))
	}
	m, err := s.cluster.AskAt(ctx, s.cluster.Broker(broker), req)
	if err != nil {
		return err
	}
	for id, a := range answers(m) {
		switch p := parts[id]; {
		case p == nil:
		case a.ErrorCode != 0:
			err = fmt.Errorf("topic %s partition %d: %w", id.topic, id.index, kafka.Error(a.ErrorCode))
		default:
			p.hear(a.Offset)
		}
	}
	return err
}
