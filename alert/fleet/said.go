package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/tailwater/tailwater/alert/notify"
	"github.com/tailwater/tailwater/alert/report"
)

// said is the value of a record of Days: one of these. The keys are such that of what a
// node says of one group and day the last word is kept.
type said struct {
	Node  string        `json:"n,omitempty"`
	Share *report.Share `json:"s,omitempty"`
	Top   *report.Top   `json:"t,omitempty"`
	Mark  *report.Mark  `json:"m,omitempty"`
	State *daybookState `json:"state,omitempty"`
}

// daybookState is what is handed on of a report from evaluator to evaluator.
type daybookState struct {
	Report string            `json:"r"`
	Sums   *report.SumsState `json:"sums"`
	// Posts are what the channels have not all taken yet.
	Posts []*notePost `json:"p,omitempty"`
}

// notePost is a note with the channels that are done with it.
type notePost struct {
	Note notify.Note `json:"note"`
	Done []string    `json:"d,omitempty"`
}

// report is the identity of the report that is spoken of.
func (s *said) report() string {
	switch {
	case s.Share != nil:
		return s.Share.Report
	case s.Top != nil:
		return s.Top.Report
	case s.Mark != nil:
		return s.Mark.Report
	case s.State != nil:
		return s.State.Report
	}
	return ""
}

func (s *said) key() string {
	switch {
	case s.Share != nil && s.Share.Rest:
		return fmt.Sprintf("rest\x00%s\x00%d\x00%s", s.Share.Report, s.Share.Day, s.Node)
	case s.Share != nil:
		return fmt.Sprintf("count\x00%s\x00%d\x00%s\x00%s", s.Share.Report, s.Share.Day, s.Node, s.Share.Key)
	case s.Top != nil:
		return fmt.Sprintf("top\x00%s\x00%d\x00%s\x00%s", s.Top.Report, s.Top.Day, s.Node, s.Top.Key)
	case s.Mark != nil:
		return fmt.Sprintf("node\x00%s\x00%s", s.Mark.Report, s.Node)
	}
	return "state\x00" + s.State.Report
}

// saidRecord is a record on its way to the partition of its report.
type saidRecord struct {
	Record
	report string
}

func (s *said) record() (saidRecord, error) {
	value, err := json.Marshal(s)
	return saidRecord{Record{Key: []byte(s.key()), Value: value}, s.report()}, err
}

// reportPartition is where all that concerns a report goes: one evaluator needs it all.
func reportPartition(identity string, partitions int) int {
	h := fnv.New32a()
	h.Write([]byte(identity))
	return int(h.Sum32() % uint32(partitions))
}

func decodeSaid(value []byte) (*said, error) {
	s := new(said)
	if err := json.Unmarshal(value, s); err != nil {
		return nil, err
	}
	if s.report() == "" || s.State == nil && s.Node == "" || s.State != nil && s.State.Sums == nil {
		return nil, errors.New("it does not say of what it speaks")
	}
	return s, nil
}
