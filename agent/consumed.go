package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/consume"
)

// consumedPrefix is for what the journal keeps of a kafka input's accounts. What counts
// is committed to Kafka with the offsets; this is for an audit while nobody runs.
const consumedPrefix = "consumed/"

// consumed is what a kafka input has had of the partitions that it reads.
type consumed struct {
	Input  string            `json:"-"`
	Group  string            `json:"group"`
	Output string            `json:"output"`
	Parts  []consume.Account `json:"partitions"`
}

func (r *relay) consumed() consumed {
	return consumed{r.in.name, r.in.cfg.Kafka.Group, r.in.outputs[0].name, r.source.Accounts()}
}

// note puts what has changed since the last time into a checkpoint. The caller holds
// Agent.saving.
func (r *relay) note(change map[string]json.RawMessage) {
	raw, err := json.Marshal(r.consumed())
	if err != nil || bytes.Equal(raw, r.noted) {
		return
	}
	r.noted = raw
	change[consumedPrefix+r.in.name] = raw
}

// readConsumed are the accounts that the last process of a state directory has noted.
func readConsumed(j *journal.Journal) (all []consumed) {
	j.Range(func(key string, value []byte) {
		input, ok := strings.CutPrefix(key, consumedPrefix)
		if c := (consumed{Input: input}); ok && json.Unmarshal(value, &c) == nil {
			all = append(all, c)
		}
	})
	return all
}

// generation works the account of one partition out; its numbers are records.
func (c *consumed) generation(a *consume.Account) (g Generation, problems []string) {
	g = Generation{File: fmt.Sprintf("kafka:%s/%d", a.Topic, a.Partition), Input: c.Input, ID: "group " + c.Group}
	g.Unit = "records"
	g.Written, g.Skipped, g.Abandoned = a.Last, a.Read.From, a.Read.Lost
	g.Read, g.Unread = a.Read.Records+a.Read.Void, a.Last-a.ReadTo
	d := a.Delivered
	g.Outputs = map[string]OutputShare{c.Output: {Skipped: d.From, Delivered: d.Records + d.Void, Abandoned: d.Lost,
		Waiting: a.Last - a.Safe, Documents: d.Docs, Refused: d.Refused}}
	for _, gap := range a.Read.Gaps {
		g.Ranges = append(g.Ranges, record.Lost{From: gap.From, To: gap.To, Reason: gap.Reason, Unread: gap.To - gap.From, Outputs: []string{c.Output}})
	}
	problems = g.problems()
	if a.Safe != d.End() || a.ReadTo != a.Read.End() || d.Docs > d.Records {
		problems = append(problems, fmt.Sprintf("%s, generation %s: delivered up to %d, the sums end at %d; read up to %d, the sums end at %d; %d documents of %d records",
			g.File, g.ID, a.Safe, d.End(), a.ReadTo, a.Read.End(), d.Docs, d.Records))
	}
	return g, problems
}
