package consume

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"

	"github.com/tailwater/tailwater/internal/kafka/wire"
)

var errNoAnswer = errors.New("no answer in time")

// coordinator connects to the broker that keeps the group.
func (s *Source) coordinator(ctx context.Context) (*wire.Conn, error) {
	m, err := s.cluster.Ask(ctx, &findcoordinator.Request{Key: s.Group})
	if err != nil {
		return nil, err
	}
	resp := m.(*findcoordinator.Response)
	if resp.ErrorCode != 0 {
		return nil, kafka.Error(resp.ErrorCode)
	}
	return s.cluster.Connect(ctx, net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port))))
}

// offsets are those that the group keeps. They have a connection of their own: on the
// membership's a join may wait for other members.
type offsets struct {
	source *Source

	mu   sync.Mutex // guards conn, and is held while it is in use
	conn *wire.Conn // nil: not connected
	bare bool       // the broker takes no sums beside the offsets
}

// ask sends one request to the coordinator. After an answer that says it is another's
// the connection is given up with drop.
func (o *offsets) ask(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errNoAnswer)
	defer cancel()
	if o.conn == nil {
		conn, err := o.source.coordinator(ctx)
		if err != nil {
			return nil, err
		}
		o.conn = conn
	}
	m, err := o.conn.Ask(ctx, req)
	if err != nil {
		o.drop()
	}
	return m, err
}

func (o *offsets) drop() {
	if o.conn != nil {
		o.conn.Close()
		o.conn = nil
	}
}

func (o *offsets) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop()
}

// fetch learns what is committed for the partitions, unknownOffset where nothing is.
func (o *offsets) fetch(ctx context.Context, ids []partitionID) (map[partitionID]mark, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	req := &offsetfetch.Request{GroupID: o.source.Group}
	for _, t := range byTopic(ids) {
		req.Topics = append(req.Topics, offsetfetch.RequestTopic{Name: t.Topic, PartitionIndexes: t.Partitions})
	}
	m, err := o.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := m.(*offsetfetch.Response)
	code := kafka.Error(resp.ErrorCode)
	found := make(map[partitionID]mark)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				code = kafka.Error(p.ErrorCode)
			}
			found[partitionID{t.Name, int(p.PartitionIndex)}] = readMark(max(p.CommittedOffset, unknownOffset), p.Metadata)
		}
	}
	if code != 0 {
		o.drop()
		return nil, fmt.Errorf("offsets: %w", code)
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			return nil, fmt.Errorf("offsets: nothing was said of topic %s partition %d", id.topic, id.index)
		}
	}
	return found, nil
}

// commit has the group keep offsets. It returns those that it has taken.
func (o *offsets) commit(ctx context.Context, who identity, all map[partitionID]mark) (taken map[partitionID]mark, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	req := &offsetcommit.Request{GroupID: o.source.Group, GenerationID: who.generation, MemberID: who.id, RetentionTimeMs: -1}
	var ids []partitionID
	for id := range all {
		ids = append(ids, id)
	}
	for _, t := range byTopic(ids) {
		topic := offsetcommit.RequestTopic{Name: t.Topic}
		for _, index := range t.Partitions {
			at := all[partitionID{t.Topic, int(index)}]
			p := offsetcommit.RequestPartition{PartitionIndex: index, CommittedOffset: at.offset, CommittedLeaderEpoch: -1}
			if !o.bare {
				p.CommittedMetadata = at.text()
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	m, err := o.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	taken = make(map[partitionID]mark)
	for _, t := range m.(*offsetcommit.Response).Topics {
		for _, p := range t.Partitions {
			id := partitionID{t.Name, int(p.PartitionIndex)}
			switch code := kafka.Error(p.ErrorCode); code {
			case 0:
				taken[id] = all[id]
			case kafka.UnknownTopicOrPartition: // it was deleted
			case kafka.OffsetMetadataTooLarge:
				o.bare, err = true, fmt.Errorf("%w; it is tried without the ledger's sums: allow some hundred bytes in offset.metadata.max.bytes", code)
			default:
				err = code
			}
		}
	}
	if err != nil && !betweenGenerations(err) {
		o.drop()
	}
	return taken, err
}

// betweenGenerations: the group is being shared out anew; a commit is for later, or for
// whoever has the partition then.
func betweenGenerations(err error) bool {
	return errors.Is(err, kafka.RebalanceInProgress) || errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId)
}

// leave tells the group that a member is no more, so that it need not wait for it.
func (o *offsets) leave(ctx context.Context, member string) error {
	if member == "" {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.ask(ctx, &leavegroup.Request{GroupID: o.source.Group, Members: []leavegroup.RequestMember{{MemberID: member}}})
	return err
}

// keepCommitting commits until ctx ends.
func (s *Source) keepCommitting(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for failures := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch err := s.commit(ctx); {
		case err == nil:
			failures = 0
			s.trouble("commit", nil)
		case ctx.Err() == nil:
			if failures++; failures > 3 {
				s.trouble("commit", fmt.Errorf("group %s: commit: %w; what is not committed is read again", s.Group, err))
			}
		}
	}
}

// commit saves the offsets that have moved.
func (s *Source) commit(ctx context.Context) error {
	offsets := make(map[partitionID]mark)
	s.mu.Lock()
	who := s.member
	parts := make(map[partitionID]*partition)
	for id, p := range s.partitions {
		if at, moved := p.toCommit(); moved {
			offsets[id], parts[id] = at, p
		}
	}
	s.mu.Unlock()
	if len(offsets) == 0 || who.id == "" {
		return nil
	}
	if s.Secure != nil {
		if err := s.Secure(); err != nil {
			return fmt.Errorf("what was counted is not on disk: %w", err)
		}
	}
	taken, err := s.offsets.commit(ctx, who, offsets)
	for id, at := range taken {
		parts[id].committed(at)
	}
	if betweenGenerations(err) {
		return nil
	}
	return err
}

// stillThere tells whether a partition whose topic was away for a moment is what it
// was: if not, it is read from its beginning.
func (s *Source) stillThere(ctx context.Context, p *partition) bool {
	same, err := s.theSame(ctx, p)
	switch {
	case err != nil:
		p.fail()
	case !same:
		s.Log.Warn("a topic was deleted and is there again; it is read from its beginning", "input", s.Name, "topic", p.id.topic, "partition", p.id.index)
		p.next = unknownOffset
	}
	return same
}

// theSame asks the group: Kafka forgets what one had read of a topic that is deleted.
func (s *Source) theSame(ctx context.Context, p *partition) (bool, error) {
	found, err := s.offsets.fetch(ctx, []partitionID{p.id})
	if err != nil || found[p.id].offset == unknownOffset {
		return false, err
	}
	p.theSame()
	return true, nil
}

// offsetQuestion asks for the first or the last offset of a partition.
func offsetQuestion(id partitionID, which int64) listoffsets.RequestTopic {
	return listoffsets.RequestTopic{Topic: id.topic, Partitions: []listoffsets.RequestPartition{
		{Partition: int32(id.index), CurrentLeaderEpoch: -1, Timestamp: which}}}
}

// answers are those to such questions, by the partitions.
func answers(m protocol.Message) iter.Seq2[partitionID, listoffsets.ResponsePartition] {
	return func(yield func(partitionID, listoffsets.ResponsePartition) bool) {
		for _, t := range m.(*listoffsets.Response).Topics {
			for _, a := range t.Partitions {
				if !yield(partitionID{t.Topic, int(a.Partition)}, a) {
					return
				}
			}
		}
	}
}
