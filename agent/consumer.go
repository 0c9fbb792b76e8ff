package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/kafka/login"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/consume"
)

// relay is one running kafka input.
type relay struct {
	in     *input
	source *consume.Source
	stop   context.CancelFunc // ends the reading
	noted  []byte             // what the journal has of its accounts; guarded by Agent.saving
}

// newRelay makes the source of a kafka input, which start runs.
func (a *Agent) newRelay(in *input) (*relay, error) {
	c := in.cfg.Kafka
	encryption, err := c.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("input %s: %w", in.name, err)
	}
	project := in.cfg.Project
	if project == "" {
		project = in.name
	}
	out := in.outputs[0]
	source := consume.Config{
		Name: in.name, Brokers: c.Brokers, Topics: c.Topics, Except: fleetTopics(a.config()), Group: c.Group, TLS: encryption,
		Project: project, Host: a.host, Extra: in.cfg.Constants(), Keep: in.keep,
		NewParser: func() consume.Parser { return in.format.NewParser() },
		NewBlock:  func() *record.Block { return a.blocks.get(largeBlocks) },
		Deliver:   out.putParcel,
		Count:     in.metrics.consumed,
		Lost:      in.metrics.drop,
		Workers:   a.config().Limits.CPUs, MemoryBytes: int(a.config().Limits.Memory) / 16,
		Log: a.log,
	}
	if in.observed {
		source.Watch = func(topic string, partition int, counted int64) consume.Watcher {
			return a.alerts.watch(in, topic, partition, counted)
		}
		source.Secure = a.save
	}
	source.Former, source.Joined = a.memberOf(in.name, c.Group)
	if c.SASL != nil {
		if source.SASL, err = login.New(c.SASL.Mechanism, c.SASL.User, c.SASL.Password.Reveal()); err != nil {
			return nil, fmt.Errorf("input %s: sasl: %w", in.name, err)
		}
	}
	return &relay{in: in, source: consume.New(source)}, nil
}

// membership is what the journal keeps of an input's part in its group.
type membership struct {
	Group  string `json:"group"`
	Member string `json:"member"`
}

// memberOf is who the last process of this state directory was to the group, which need
// not wait for it after a crash, and what notes who this one is.
func (a *Agent) memberOf(input, group string) (former string, joined func(member string)) {
	key := "member/" + input
	var was membership
	if raw, ok := a.journal.Get(key); ok && json.Unmarshal(raw, &was) == nil && was.Group == group {
		former = was.Member
	}
	return former, func(member string) {
		raw, err := json.Marshal(membership{group, member})
		if err == nil {
			err = a.journal.Commit(map[string]json.RawMessage{key: raw})
		}
		if err != nil {
			a.log.Warn("who this member of the group is could not be noted; after a crash the group waits for it in vain for a moment", "input", input, "error", err)
		}
	}
}

// startConsumers runs the kafka inputs of the configuration.
func (a *Agent) startConsumers() error {
	var all []*relay
	for _, cfg := range a.config().Inputs {
		if cfg.Kafka == nil {
			continue
		}
		a.mu.Lock()
		in := a.inputs[cfg.Name]
		a.mu.Unlock()
		c, err := a.newRelay(in)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	for _, c := range all {
		ctx, stop := context.WithCancel(context.Background())
		c.stop = stop
		go c.source.Run(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.consumers = all
	return nil
}

func (a *Agent) allConsumers() []*relay {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.consumers
}

// stopConsuming ends the reading; what has been read is delivered still.
func (a *Agent) stopConsuming() {
	for _, c := range a.allConsumers() {
		c.stop()
	}
}

// closeConsumers commits what has been delivered and leaves the groups.
func (a *Agent) closeConsumers() {
	for _, c := range a.allConsumers() {
		c.source.Close()
	}
	a.saving.Lock()
	for _, c := range a.allConsumers() {
		c.note(a.unsaved)
	}
	a.saving.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.consumers = nil
}

// settleTime is how long a reload waits for what changed inputs have under way; what
// is not delivered by then is read again.
const settleTime = 5 * time.Second

// haltConsumers ends the kafka inputs when a new configuration touches them or the
// outputs that they feed, or when rules or reports watch them: those are about to be
// others. It says whether it did.
func (a *Agent) haltConsumers(was, cfg *config.Config) bool {
	of := func(c *config.Config) (parts []any) {
		for _, in := range c.Inputs {
			if in.Kafka != nil {
				parts = append(parts, in, c.Output(in.To[0]))
			}
		}
		return parts
	}
	if reflect.DeepEqual(of(was), of(cfg)) && !watchesKafka(was) && !watchesKafka(cfg) {
		return false
	}
	a.stopConsuming()
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	for _, c := range a.allConsumers() {
		c.source.Settle(ctx)
	}
	a.closeConsumers()
	return true
}

// watchesKafka tells whether a rule or a report watches a kafka input.
func watchesKafka(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Inputs, func(in *config.Input) bool { return in.Kafka != nil && watched(cfg, in) })
}

// consumerStatus adds what is known of the kafka inputs.
func (a *Agent) consumerStatus(inputs []InputStatus) {
	for _, c := range a.allConsumers() {
		for i := range inputs {
			if inputs[i].Name != c.in.name {
				continue
			}
			inputs[i].Trouble = c.source.Trouble()
			for _, l := range c.source.Lags() {
				inputs[i].LagRecords += l.Records
			}
		}
	}
}

var errOutputClosed = errors.New("the output is closed")

// putParcel hands a parcel to the output, and waits while there is no room.
func (o *output) putParcel(ctx context.Context, p record.Parcel) error {
	for !o.queue.Room() {
		o.mu.Lock()
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		if o.queue.Room() {
			break
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !o.give(p) {
		return errOutputClosed
	}
	return nil
}
