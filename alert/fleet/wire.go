package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/alert"
)

// counted is the value of a record of Counts: a group's counts, or marks.
type counted struct {
	Node    string         `json:"n"`
	Partial *alert.Partial `json:"c,omitempty"`
	Marks   []alert.Mark   `json:"m,omitempty"`
}

// partitionOf is where the counts of a group go: those of all nodes to one place.
func partitionOf(p *alert.Partial, partitions int) int {
	h := fnv.New32a()
	h.Write(groupKey(p))
	return int(h.Sum32() % uint32(partitions))
}

// groupKey is the key of the records of a group.
func groupKey(p *alert.Partial) []byte {
	return append([]byte(p.Rule+"\x00"+strings.Join(p.Group, "\x00")), p.Key...)
}

func encodePartial(node string, p *alert.Partial) (Record, error) {
	value, err := json.Marshal(counted{Node: node, Partial: p})
	return Record{Key: groupKey(p), Value: value}, err
}

func encodeMarks(node string, marks []alert.Mark) (Record, error) {
	value, err := json.Marshal(counted{Node: node, Marks: marks})
	return Record{Key: []byte("node\x00" + node), Value: value}, err
}

// beat is the value of a record of Beats.
type beat struct {
	Evaluator string `json:"id"`
	// Decides are the partitions, of that many, that the evaluator decides, for these
	// rules and reports.
	Decides    []int    `json:"d"`
	Partitions int      `json:"p"`
	Rules      []string `json:"r"`
	// Open are incidents that it has told and that go on.
	Open []openIncident `json:"o,omitempty"`
}

type openIncident struct {
	Incident  alert.Incident `json:"i"`
	Notified  int64          `json:"n"` // Unix milliseconds
	Partition int            `json:"p"`
}

// mostOpen bounds the incidents of a heartbeat.
const mostOpen = 200

// brief is an incident with what is needed to know it again.
func brief(in *alert.Incident) alert.Incident {
	return alert.Incident{ID: in.ID, Rule: in.Rule, Group: in.Group, Began: in.Began, Last: in.Last, Notices: in.Notices}
}

// The keys of States. A group's begins with groupPrefix.
const (
	positionKey = "position"
	groupPrefix = "group/"
)

// position is how far a partition has been decided.
type position struct {
	Offset    int64           `json:"o"` // of the counts: what comes before it is decided
	Heads     json.RawMessage `json:"h"`
	Evaluator string          `json:"id"`
	At        time.Time       `json:"at"`
}

// groupState is what is handed on of a group.
type groupState struct {
	alert.Carried
	Posts []*post `json:"p,omitempty"`
}

// post is a notice that the channels have not all taken yet.
type post struct {
	Event alert.Event `json:"e"`
	Done  []string    `json:"d,omitempty"` // the channels that are done with it
}

// add notes channels that are done with it, beside those that were with others, and
// tells whether there are new ones.
func (p *post) add(done []string) (more bool) {
	for _, name := range done {
		if !slices.Contains(p.Done, name) {
			p.Done = append(p.Done, name)
			more = true
		}
	}
	return more
}

func stateKey(c *alert.Carried) string { return groupPrefix + c.Rule + "\x00" + string(c.Key) }

// handedOn is what the topic of states holds of a partition.
type handedOn struct {
	position *position
	groups   map[string]*groupState
}

// take adds a record. One that cannot be read is an error: without it something would
// be forgotten.
func (h *handedOn) take(r *Record) error {
	switch key := string(r.Key); {
	case key == positionKey:
		p := new(position)
		if err := json.Unmarshal(r.Value, p); err != nil {
			return fmt.Errorf("the position at offset %d: %w", r.Offset, err)
		}
		h.position = p
	case !strings.HasPrefix(key, groupPrefix):
	case len(r.Value) == 0:
		delete(h.groups, key)
	default:
		g := new(groupState)
		if err := json.Unmarshal(r.Value, g); err != nil {
			return fmt.Errorf("the state at offset %d: %w", r.Offset, err)
		}
		h.groups[key] = g
	}
	return nil
}

// decodeCounted reads a record of Counts.
func decodeCounted(value []byte) (*counted, error) {
	r := new(counted)
	d := json.NewDecoder(bytes.NewReader(value))
	if err := d.Decode(r); err != nil {
		return nil, err
	}
	if r.Node == "" {
		return nil, fmt.Errorf("no node is named")
	}
	return r, nil
}
