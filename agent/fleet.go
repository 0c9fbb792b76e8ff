package agent

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailwater/tailwater/alert"
	"github.com/tailwater/tailwater/alert/fleet"
	"github.com/tailwater/tailwater/alert/report"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/kafka/login"
)

// fleetPart is what this process does for the fleet, of one kind: it publishes what its
// host has counted, or it decides over all hosts, or it shares the silences.
type fleetPart struct {
	log       fleet.Log
	node      *fleet.Node
	evaluator *fleet.Evaluator
	silences  *fleet.Silences
	of        any // what it was made of, to be known again at a reload
	stop      context.CancelFunc
	ended     chan struct{}
}

// fleetLogs are the connections that a configuration needs; nil where it needs none.
type fleetLogs struct{ node, evaluator, silences fleet.Log }

// newFleetLogs prepares the connections for the fleet's topics.
func (a *Agent) newFleetLogs(cfg *config.Config) (logs fleetLogs, err error) {
	rules, reports, err := fleetParts(cfg)
	if err != nil || len(rules)+len(reports) == 0 {
		return logs, err
	}
	if len(countedHere(cfg, rules))+len(reportedHere(cfg, reports)) > 0 {
		if logs.node, err = a.newFleetLog(cfg, rules); err != nil {
			return logs, err
		}
	}
	if cfg.Evaluates() {
		if logs.evaluator, err = a.newFleetLog(cfg, rules); err != nil {
			return logs, err
		}
	}
	if logs.node != nil || logs.evaluator != nil {
		logs.silences, err = a.newFleetLog(cfg, rules)
	}
	return logs, err
}

func (a *Agent) newFleetLog(cfg *config.Config, rules []*alert.Rule) (fleet.Log, error) {
	if a.opts.fleetLog != nil {
		return a.opts.fleetLog(), nil
	}
	return newFleetKafka(cfg, rules, a.log)
}

func newFleetKafka(cfg *config.Config, rules []*alert.Rule, log *slog.Logger) (*fleet.Kafka, error) {
	c := cfg.FleetCluster()
	k := fleet.KafkaConfig{Brokers: c.Brokers, Topic: cfg.Fleet.Topic, Logger: log}
	for _, r := range rules {
		k.Horizon = max(k.Horizon, r.Horizon())
	}
	var err error
	if k.TLS, err = c.TLS.Config(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if c.SASL != nil {
		if k.SASL, err = login.New(c.SASL.Mechanism, c.SASL.User, c.SASL.Password.Reveal()); err != nil {
			return nil, fmt.Errorf("fleet: sasl: %w", err)
		}
	}
	return fleet.NewKafka(k), nil
}

// countedHere are the rules that watch an input of this host.
func countedHere(cfg *config.Config, rules []*alert.Rule) (out []*alert.Rule) {
	for _, r := range rules {
		if slices.ContainsFunc(cfg.Inputs, func(in *config.Input) bool { return r.Watches(in.Name, in.Kind() == "kafka") }) {
			out = append(out, r)
		}
	}
	return out
}

// reportedHere are the reports that look at an input of this host.
func reportedHere(cfg *config.Config, reports []*report.Report) (out []*report.Report) {
	for _, r := range reports {
		if slices.ContainsFunc(cfg.Inputs, func(in *config.Input) bool { return r.Watches(in.Name, in.Kind() == "kafka") }) {
			out = append(out, r)
		}
	}
	return out
}

// newNode makes the part that publishes what engine and book count; nil where there is
// nothing.
func (al *alerts) newNode(cfg *config.Config, rules []*alert.Rule, reports []*report.Report, engine *alert.Engine, log fleet.Log) *fleetPart {
	if log == nil {
		return nil
	}
	a := al.agent
	engine.Publish(a.host)
	return &fleetPart{log: log, node: fleet.NewNode(fleet.NodeConfig{Name: a.who().Name, Log: log, Rules: countedHere(cfg, fleetRules(rules)),
		Reports: reportedHere(cfg, fleetReports(reports)), Book: al.book, Host: a.host,
		Engine: engine, Ready: al.begun.Load, HandedOver: al.handedOver, Logger: a.log})}
}

// newEvaluator makes the part that decides; nil where this process does not. One that
// does the same already goes on.
func (al *alerts) newEvaluator(cfg *config.Config, rules []*alert.Rule, reports []*report.Report, log fleet.Log) *fleetPart {
	if log == nil {
		return nil
	}
	rules, reports = fleetRules(rules), fleetReports(reports)
	of := []any{cfg.FleetCluster(), cfg.Fleet.Topic, cfg.AlertMemory()}
	for _, r := range rules {
		of = append(of, r.Config())
	}
	for _, r := range reports {
		of = append(of, r.Config())
	}
	if was := al.evaluator; was != nil && reflect.DeepEqual(was.of, of) {
		log.Close()
		return was
	}
	return &fleetPart{log: log, of: of, evaluator: fleet.NewEvaluator(fleet.EvaluatorConfig{Name: al.agent.who().Name, Log: log,
		Rules: rules, Memory: int64(cfg.AlertMemory()), Notices: al.dispatch, Reports: reports, Notes: al.dispatch, Logger: al.agent.log})}
}

// newSilences makes the part that shares silences; nil where this process has no other.
func (al *alerts) newSilences(log fleet.Log, sweeps bool) *fleetPart {
	if log == nil {
		return nil
	}
	return &fleetPart{log: log, silences: fleet.NewSilences(fleet.SilencesConfig{Log: log, Silencer: al.dispatch, Sweeps: sweeps, Logger: al.agent.log})}
}

// start begins the work, unless it has been done; end ends it.
func (f *fleetPart) start() {
	if f == nil || f.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop, f.ended = stop, make(chan struct{})
	go func() {
		defer close(f.ended)
		switch {
		case f.node != nil:
			f.node.Run(ctx)
		case f.evaluator != nil:
			f.evaluator.Run(ctx)
		default:
			f.silences.Run(ctx)
		}
	}()
}

// end publishes, or writes down for others, what there is, and ends the work.
func (f *fleetPart) end() {
	if f == nil {
		return
	}
	if f.stop != nil {
		f.stop()
		<-f.ended
	}
	f.log.Close()
}

func fleetRules(rules []*alert.Rule) (out []*alert.Rule) {
	for _, r := range rules {
		if r.Config().Scope == "fleet" {
			out = append(out, r)
		}
	}
	return out
}

func fleetReports(reports []*report.Report) (out []*report.Report) {
	for _, r := range reports {
		if r.Config().Fleet {
			out = append(out, r)
		}
	}
	return out
}

// fleetParts are the rules and reports over the fleet.
func fleetParts(cfg *config.Config) ([]*alert.Rule, []*report.Report, error) {
	rules, err := compileRules(cfg)
	if err != nil {
		return nil, nil, err
	}
	reports, err := compileReports(cfg)
	return fleetRules(rules), fleetReports(reports), err
}

// handedOver notes that evaluators go on with incidents that this host has told.
func (al *alerts) handedOver(ids []string) {
	for _, id := range ids {
		al.dispatch.End(id)
	}
}

// firingOf are the incidents that go on: those of the host, and those of the fleet that
// are decided here.
func firingOf(engine *alert.Engine, evaluator *fleetPart) []alert.Incident {
	all := engine.Firing()
	if evaluator != nil {
		all = append(all, evaluator.evaluator.Firing()...)
		slices.SortStableFunc(all, func(x, y alert.Incident) int { return x.Began.Compare(y.Began) })
	}
	return all
}

// stats are the rules' numbers, those of what is decided here for the fleet put to those
// of the host.
func (al *alerts) stats() []alert.RuleStats {
	al.mu.Lock()
	engine, evaluator := al.engine, al.evaluator
	al.mu.Unlock()
	all := engine.Stats()
	if evaluator == nil {
		return all
	}
	for _, s := range evaluator.evaluator.Stats() {
		for i := range all {
			if all[i].Rule == s.Rule {
				s.Add(all[i])
				s.Groups -= all[i].Groups // the fleet's are among them
				all[i] = s
			}
		}
	}
	return all
}

// FleetStatus is what /api/v1/alerts tells of this process's part in the fleet.
type FleetStatus struct {
	Node      *fleet.NodeStatus      `json:"node,omitempty"`
	Evaluator *fleet.EvaluatorStatus `json:"evaluator,omitempty"`
}

func (al *alerts) fleetStatus() *FleetStatus {
	al.mu.Lock()
	node, evaluator := al.node, al.evaluator
	al.mu.Unlock()
	if node == nil && evaluator == nil {
		return nil
	}
	s := new(FleetStatus)
	if node != nil {
		n := node.node.Status()
		s.Node = &n
	}
	if evaluator != nil {
		e := evaluator.evaluator.Status()
		s.Evaluator = &e
	}
	return s
}

// collect sends the metrics.
func (s *FleetStatus) collect(ch chan<- prometheus.Metric) {
	if n := s.Node; n != nil {
		for rule, alone := range n.Rules {
			value := 0.0
			if alone {
				value = 1
			}
			fleetAlone.send(ch, value, rule)
		}
		fleetDropped.send(ch, float64(n.Dropped))
	}
	if e := s.Evaluator; e != nil {
		fleetShare.send(ch, float64(len(e.Partitions)))
	}
}

// setupFleet makes the fleet's topics, where a rule or a report needs them.
func setupFleet(ctx context.Context, cfg *config.Config, say func(string)) error {
	rules, reports, err := fleetParts(cfg)
	if err != nil || len(rules)+len(reports) == 0 {
		return err
	}
	k, err := newFleetKafka(cfg, rules, slog.Default())
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Setup(ctx, len(reports) > 0, func(text string) { say("fleet: " + text) }); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// fleetTopics are the topics that no input is to read, whatever its globs say.
func fleetTopics(cfg *config.Config) []string { return fleet.TopicNames(cfg.Fleet.Topic) }

// Line is the status in one line.
func (s *FleetStatus) Line() string {
	var parts []string
	if n := s.Node; n != nil {
		switch {
		case len(n.Alone) > 0:
			parts = append(parts, "this host decides "+strings.Join(n.Alone, ", ")+" on its own counts")
		case n.Error != "":
			parts = append(parts, "this host's counts do not reach the fleet: "+n.Error)
		default:
			parts = append(parts, "this host's counts reach the fleet")
		}
	}
	if e := s.Evaluator; e != nil {
		parts = append(parts, fmt.Sprintf("decided here: %d of %d partitions", len(e.Partitions), e.Of))
		if e.Error != "" {
			parts = append(parts, e.Error)
		}
	}
	return strings.Join(parts, "; ")
}
