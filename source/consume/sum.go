package consume

import (
	"cmp"
	"encoding/json"
	"slices"
)

// Sum is where the records of a partition have gone up to an offset: From, Records, Void
// and Lost together are that offset. It is committed with the offset, as its metadata,
// so that whoever reads the partition next goes on counting, and a crash changes nothing.
type Sum struct {
	From    int64 `json:"from,omitempty"`    // where the group began
	Records int64 `json:"records,omitempty"` // were read
	// Void are offsets under which there is nothing to be read: the marks of transactions
	// and what they took back, and what compaction has removed.
	Void int64 `json:"void,omitempty"`
	Lost int64 `json:"lost,omitempty"` // were gone, or damaged, before they were read
	// Docs are the documents that the output was given, and Refused those of them that
	// became dead letters.
	Docs    int64 `json:"docs,omitempty"`
	Refused int64 `json:"refused,omitempty"`
	// Gaps are the newest of the ranges that are lost.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Gap is a range of offsets that are lost.
type Gap struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"` // as Config.Lost is told
}

// maxGaps keeps a commit's metadata far below the 4096 bytes that brokers take.
const maxGaps = 16

// End is the offset up to which the sum goes.
func (s Sum) End() int64 { return s.From + s.Records + s.Void + s.Lost }

// add adds what lies behind: o.From is left out.
func (s *Sum) add(o Sum) {
	s.Records += o.Records
	s.Void += o.Void
	s.Lost += o.Lost
	s.Docs += o.Docs
	s.Refused += o.Refused
	if len(o.Gaps) > 0 { // never in place: a copy of the sum may be with a commit
		s.Gaps = slices.Concat(s.Gaps, o.Gaps)
		s.Gaps = s.Gaps[max(0, len(s.Gaps)-maxGaps):]
	}
}

// lose counts a range that cannot be read.
func (s *Sum) lose(from, to int64, reason string) {
	s.add(Sum{Lost: to - from, Gaps: []Gap{{from, to, reason}}})
}

// mark is an offset with the sum of what lies before it.
type mark struct {
	offset  int64
	sum     Sum
	watched int64 // what lies before it was shown to the watchers; at least offset
}

// note is what stands beside the offset in a commit.
type note struct {
	Sum
	Watched int64 `json:"watched,omitempty"` // where that is further than the offset
}

func (m mark) text() string {
	n := note{Sum: m.sum}
	if m.watched > m.offset {
		n.Watched = m.watched
	}
	text, err := json.Marshal(n)
	if err != nil {
		return "" // of our own making: it marshals
	}
	return string(text)
}

// readMark reads what was committed. Where the metadata is not ours, or somebody has
// moved the offset, the counting begins here.
func readMark(offset int64, metadata string) mark {
	var n note
	if err := json.Unmarshal([]byte(metadata), &n); err != nil || n.End() != offset {
		n = note{Sum: Sum{From: max(offset, 0)}}
	}
	return mark{offset, n.Sum, max(offset, n.Watched)}
}

// Account is what is known of one partition, for the ledger. Delivered and Read are the
// sums of what the output has, and of what has been read for it.
type Account struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Delivered Sum    `json:"delivered"`
	Read      Sum    `json:"read"`
	// Safe and ReadTo are the offsets at which the sums must end, Last is the partition's
	// end, as far as is known.
	Safe   int64 `json:"safe"`
	ReadTo int64 `json:"read_to"`
	Last   int64 `json:"last"`
}

// account takes stock; false while it is not known where the partition begins.
func (p *partition) account() (Account, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := Account{Topic: p.id.topic, Partition: p.id.index, Delivered: p.sum, Read: p.sum, Safe: p.safe, ReadTo: p.safe}
	for _, st := range p.steps {
		a.Read.add(st.sum)
		a.ReadTo = st.to
	}
	a.Last = max(p.last, a.ReadTo)
	return a, p.safe != unknownOffset
}

// Accounts are those of the partitions that this member reads.
func (s *Source) Accounts() []Account {
	var all []Account
	for _, p := range s.owned() {
		if a, known := p.account(); known {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b Account) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), a.Partition-b.Partition)
	})
	return all
}
