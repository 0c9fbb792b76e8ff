package consume

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/syncgroup"

	"github.com/tailwater/tailwater/internal/backoff"
	"github.com/tailwater/tailwater/internal/kafka/wire"
)

const (
	// sessionTimeout is how long the group waits for a member that says nothing until
	// others get what it has.
	sessionTimeout = 10 * time.Second
	heartbeatEvery = 2 * time.Second
	// rejoinTime is how long the others of a group have to join again.
	rejoinTime = 15 * time.Second
)

// membership is this member's part in the group. It runs beside the reading, so that
// the group hears of it however long the output takes.
type membership struct {
	source *Source

	former  string     // who is to leave first
	conn    *wire.Conn // to the coordinator, nil when there is none
	member  string
	joined  bool          // and has a share of the present generation
	pending []partitionID // of the share, whose offsets are not known yet
}

// run is a member of the group until ctx ends.
func (m *membership) run(ctx context.Context) {
	defer m.hangUp()
	for failures := 0; ctx.Err() == nil; {
		err := m.session(ctx, func() {
			failures = 0
			m.source.trouble("group", nil)
		})
		m.hangUp()
		if ctx.Err() != nil {
			return
		}
		failures++
		if failures > 6 || !passing(err) {
			m.source.trouble("group", m.source.explain(err))
		}
		backoff.Sleep(ctx, backoff.Policy{Cap: lookEvery}.Delay(failures))
	}
}

// passing are errors of a coordinator that is just being found.
func passing(err error) bool {
	var code kafka.Error
	return !errors.As(err, &code) || code == kafka.GroupCoordinatorNotAvailable || code == kafka.NotCoordinatorForGroup ||
		code == kafka.GroupLoadInProgress || code == kafka.RebalanceInProgress
}

func (m *membership) hangUp() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// session speaks with one coordinator until that fails or ctx ends. What this member
// has, it keeps meanwhile: the next coordinator will say when it is another's.
func (m *membership) session(ctx context.Context, well func()) (err error) {
	if m.conn, err = m.source.coordinator(ctx); err != nil {
		return err
	}
	if m.former != "" {
		if err := m.source.offsets.leave(ctx, m.former); err != nil {
			return err
		}
		m.former = ""
	}
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		if !m.joined {
			if err := m.join(ctx); err != nil {
				return err
			}
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		well()
		select {
		case <-tick.C:
		case <-m.source.regroup:
			m.joined = false
			continue
		case <-ctx.Done():
			return nil
		}
		if err := m.heartbeat(ctx); err != nil {
			return err
		}
	}
}

// ask sends one request to the coordinator.
func (m *membership) ask(ctx context.Context, req protocol.Message, within time.Duration) (protocol.Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
	defer cancel()
	return m.conn.Ask(ctx, req)
}

func (m *membership) heartbeat(ctx context.Context) error {
	who := m.source.who()
	resp, err := m.ask(ctx, &heartbeat.Request{GroupID: m.source.Group, GenerationID: who.generation, MemberID: who.id}, answerTime)
	if err != nil {
		return err
	}
	return m.obey(kafka.Error(resp.(*heartbeat.Response).ErrorCode))
}

// obey does what an error of the group asks for, and returns those that it does not
// know.
func (m *membership) obey(code kafka.Error) error {
	switch code {
	case 0:
		return nil
	case kafka.RebalanceInProgress:
	case kafka.UnknownMemberId, kafka.FencedInstanceID:
		m.lose()
		m.member = ""
	case kafka.IllegalGeneration:
		m.lose()
	default:
		return code
	}
	m.joined = false
	return nil
}

// lose gives up all that this member has: it is others' by now.
func (m *membership) lose() {
	s := m.source
	s.mu.Lock()
	lost := len(s.partitions)
	for _, p := range s.partitions {
		p.leave()
		s.letGoLocked(p)
	}
	s.member, s.basis = identity{}, nil
	s.dispatchLocked()
	s.mu.Unlock()
	m.pending = nil
	s.Log.Warn("the group has taken this member for dead; it joins again", "input", s.Name, "group", s.Group, "partitions", lost)
}

// join takes part in sharing the partitions out, as often as it takes.
func (m *membership) join(ctx context.Context) error {
	for !m.joined {
		if err := m.joinOnce(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *membership) joinOnce(ctx context.Context) error {
	s := m.source
	req, err := m.joinRequest()
	if err != nil {
		return err
	}
	a, err := m.ask(ctx, req, rejoinTime+answerTime)
	if err != nil {
		return err
	}
	resp := a.(*joingroup.Response)
	switch code := kafka.Error(resp.ErrorCode); code {
	case 0:
	case kafka.MemberIDRequired:
		m.name(resp.MemberID)
		return nil
	default:
		if err := m.obey(code); err != nil {
			return err
		}
		return backoff.Sleep(ctx, lookPause)
	}
	m.name(resp.MemberID)
	who := identity{resp.MemberID, resp.GenerationID}
	var shares []syncgroup.RequestAssignment
	var basis layout
	if resp.LeaderID == resp.MemberID {
		if shares, basis, err = m.shareOut(ctx, resp.Members); err != nil {
			return err
		}
	}
	a, err = m.ask(ctx, &syncgroup.Request{GroupID: s.Group, GenerationID: who.generation, MemberID: who.id, Assignments: shares}, rejoinTime+answerTime)
	if err != nil {
		return err
	}
	synced := a.(*syncgroup.Response)
	if code := kafka.Error(synced.ErrorCode); code != 0 {
		return m.obey(code)
	}
	mine, err := decodeShare(synced.Assignments)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.member, s.basis, s.gone = who, basis, 0
	s.mu.Unlock()
	m.joined = m.adopt(ctx, mine)
	return nil
}

// name notes who this member is to the group.
func (m *membership) name(member string) {
	if member != m.member && m.source.Joined != nil {
		m.source.Joined(member)
	}
	m.member = member
}

func (m *membership) joinRequest() (*joingroup.Request, error) {
	s := m.source
	c := claim{globs: s.Topics, generation: s.who().generation}
	for _, p := range s.owned() {
		c.owned = append(c.owned, p.id)
	}
	s.mu.Lock()
	var topics []string
	for topic := range s.there {
		topics = append(topics, topic)
	}
	s.mu.Unlock()
	slices.Sort(topics)
	metadata, err := c.encode(topics)
	return &joingroup.Request{GroupID: s.Group, MemberID: m.member, ProtocolType: "consumer",
		SessionTimeoutMS: int32(sessionTimeout.Milliseconds()), RebalanceTimeoutMS: int32(rejoinTime.Milliseconds()),
		Protocols: []joingroup.RequestProtocol{{Name: protocolName, Metadata: metadata}}}, err
}

// shareOut is the leader's part: it looks at what there is and says who gets what.
func (m *membership) shareOut(ctx context.Context, members []joingroup.ResponseMember) (shares []syncgroup.RequestAssignment, there layout, err error) {
	if there, err = m.source.look(ctx); err != nil {
		return nil, nil, err
	}
	var claims []*claim
	for _, member := range members {
		c, err := decodeClaim(member.MemberID, member.Metadata)
		if err != nil {
			return nil, nil, err
		}
		claims = append(claims, c)
	}
	for member, ids := range assign(claims, there) {
		data, err := encodeShare(ids)
		if err != nil {
			return nil, nil, err
		}
		shares = append(shares, syncgroup.RequestAssignment{MemberID: member, Assignment: data})
	}
	return shares, there, nil
}

// adopt makes a share this member's. It says false when that means to give something
// up: then the members join again, for others to get it.
func (m *membership) adopt(ctx context.Context, mine []partitionID) (settled bool) {
	s := m.source
	var leaving []*partition
	s.mu.Lock()
	m.pending = nil
	for _, id := range mine {
		if s.partitions[id] == nil {
			m.pending = append(m.pending, id)
		}
	}
	for id, p := range s.partitions {
		if !slices.Contains(mine, id) {
			p.leave()
			leaving = append(leaving, p)
		}
	}
	s.mu.Unlock()
	s.Log.Info("reading partitions", "input", s.Name, "group", s.Group, "partitions", len(mine), "new", len(m.pending), "given_up", len(leaving))
	if len(leaving) == 0 {
		return true
	}
	for deadline := time.Now().Add(lastAnswers); s.busy(leaving) && time.Now().Before(deadline); {
		if backoff.Sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	for _, p := range leaving {
		p.stopCounting()
	}
	if err := s.commit(ctx); err != nil {
		s.Log.Warn("partitions go to another member without a last commit; what was delivered since the one before is read again", "input", s.Name, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range leaving {
		s.letGoLocked(p)
	}
	s.dispatchLocked()
	return false
}

// start begins to read what is new in the share.
func (m *membership) start(ctx context.Context) error {
	s := m.source
	if s.reading.Err() != nil {
		return nil
	}
	if len(m.pending) == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.shared = true
		return nil
	}
	from, err := s.offsets.fetch(ctx, m.pending)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range m.pending {
		s.partitions[id] = newPartition(s, id, from[id])
	}
	m.pending, s.shared = nil, true
	s.dispatchLocked()
	return nil
}

func (s *Source) who() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member
}
