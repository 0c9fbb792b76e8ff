package consume

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
)

// The members of a group agree on who reads what in the manner that Kafka calls
// cooperative: a member keeps reading through a rebalance, and gives up only what the
// leader takes from it; what is taken from one is given to another in a second
// rebalance, when the first has committed what it has read.

// protocolName is that of our way to share partitions. Members that know another way
// cannot be in the same group.
const protocolName = "tailwater"

// claim is what a member says of itself when it joins.
type claim struct {
	member     string
	globs      []string
	owned      []partitionID
	generation int32 // in which it was given what it owns
}

// claimNotes are the parts of a claim for which Kafka's own format has no place.
type claimNotes struct {
	Globs      []string `json:"globs"`
	Generation int32    `json:"generation"`
}

// encode is the claim in Kafka's format, so that Kafka's tools can show it.
func (c *claim) encode(topics []string) ([]byte, error) {
	notes, err := json.Marshal(claimNotes{c.globs, c.generation})
	if err != nil {
		return nil, err
	}
	return protocol.Marshal(consumer.MaxVersionSupported, consumer.Subscription{
		Version: consumer.MaxVersionSupported, Topics: topics, UserData: notes, OwnedPartitions: byTopic(c.owned)})
}

func decodeClaim(member string, data []byte) (*claim, error) {
	var s consumer.Subscription
	if err := protocol.Unmarshal(data, consumer.MaxVersionSupported, &s); err != nil {
		return nil, fmt.Errorf("member %s: %w", member, err)
	}
	var notes claimNotes
	if err := json.Unmarshal(s.UserData, &notes); err != nil {
		return nil, fmt.Errorf("member %s: %w", member, err)
	}
	return &claim{member, notes.Globs, ofTopics(s.OwnedPartitions), notes.Generation}, nil
}

func encodeShare(ids []partitionID) ([]byte, error) {
	return protocol.Marshal(consumer.MaxVersionSupported, consumer.Assignment{Version: consumer.MaxVersionSupported, AssignedPartitions: byTopic(ids)})
}

// decodeShare reads what a member was given; nothing is nothing.
func decodeShare(data []byte) ([]partitionID, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var a consumer.Assignment
	if err := protocol.Unmarshal(data, consumer.MaxVersionSupported, &a); err != nil {
		return nil, fmt.Errorf("what this member is to read: %w", err)
	}
	return ofTopics(a.AssignedPartitions), nil
}

func byTopic(ids []partitionID) (topics []consumer.TopicPartition) {
	for _, id := range sorted(ids) {
		if n := len(topics); n == 0 || topics[n-1].Topic != id.topic {
			topics = append(topics, consumer.TopicPartition{Topic: id.topic})
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, int32(id.index))
	}
	return topics
}

func ofTopics(topics []consumer.TopicPartition) (ids []partitionID) {
	for _, t := range topics {
		for _, index := range t.Partitions {
			ids = append(ids, partitionID{t.Topic, int(index)})
		}
	}
	return ids
}

func sorted(ids []partitionID) []partitionID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, partitionID.compare)
	return ids
}

// share is a member while it is decided what it gets.
type share struct {
	*claim
	quota int
	ids   []partitionID
}

// assign shares the partitions out: about as many to each, and to each what it has
// already where that is possible. What one member has and another is to get goes to
// nobody this time.
func assign(claims []*claim, there layout) map[string][]partitionID {
	var all []partitionID
	for topic, leaders := range there {
		for index := range leaders {
			all = append(all, partitionID{topic, index})
		}
	}
	all = sorted(all)
	owners := ownersOf(claims)
	var wanted int
	for _, id := range all {
		if slices.ContainsFunc(claims, func(c *claim) bool { return matches(c.globs, id.topic) }) {
			wanted++
		}
	}
	shares := shareOut(claims, owners, wanted)
	taken := make(map[partitionID]bool) // kept, or still another's
	for _, s := range shares {
		for _, id := range sorted(s.owned) {
			if owners[id] != s.claim || id.index >= len(there[id.topic]) || !matches(s.globs, id.topic) {
				continue
			}
			taken[id] = true
			if len(s.ids) < s.quota {
				s.ids = append(s.ids, id)
			}
		}
	}
	for _, id := range all {
		if taken[id] {
			continue
		}
		if s := neediest(shares, id.topic); s != nil {
			s.ids = append(s.ids, id)
		}
	}
	result := make(map[string][]partitionID)
	for _, s := range shares {
		result[s.member] = s.ids
	}
	return result
}

// ownersOf says who has each partition. A member that comes back from a long silence
// may still believe that it has what others got meanwhile: the latest to be given it
// has it.
func ownersOf(claims []*claim) map[partitionID]*claim {
	owners := make(map[partitionID]*claim)
	for _, c := range claims {
		for _, id := range c.owned {
			if o := owners[id]; o == nil || c.generation > o.generation {
				owners[id] = c
			}
		}
	}
	return owners
}

// shareOut says how many partitions each member is to have. Those that have most keep
// one more, where the number does not come out even.
func shareOut(claims []*claim, owners map[partitionID]*claim, partitions int) []*share {
	have := make(map[*claim]int)
	for _, c := range owners {
		have[c]++
	}
	var shares []*share
	for _, c := range claims {
		shares = append(shares, &share{claim: c})
	}
	slices.SortFunc(shares, func(a, b *share) int {
		return cmp.Or(cmp.Compare(have[b.claim], have[a.claim]), cmp.Compare(a.member, b.member))
	})
	for i, s := range shares {
		s.quota = partitions / len(shares)
		if i < partitions%len(shares) {
			s.quota++
		}
	}
	return shares
}

// neediest is the member that lacks most of those that read the topic, nil when there
// is none.
func neediest(shares []*share, topic string) *share {
	var best *share
	for _, s := range shares {
		if matches(s.globs, topic) && (best == nil || s.quota-len(s.ids) > best.quota-len(best.ids)) {
			best = s
		}
	}
	return best
}
