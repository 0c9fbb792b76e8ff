package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tailwater/tailwater/internal/schema"
)

// Fleet says how the rules of scope fleet are counted over all hosts.
type Fleet struct {
	Evaluate string      `yaml:"evaluate" unset:"true where an input is Kafka, else false" oneof:"true false" also:"evaluator" doc:"Whether this process is one of those that decide the rules of scope fleet, write its reports, and tell the channels; they share the work, and when one dies another takes over. Its alerts, reports and notify are those that count. Hosts publish what they have counted in any case."`
	Topic    string      `yaml:"topic" default:"tailwater-alerts" check:"fleettopic" doc:"Topic of the counts; three more begin with its name, and the evaluators are the consumer group of that name. Hosts with the same topic are one fleet."`
	Kafka    *FleetKafka `yaml:"kafka" unset:"the cluster of the first kafka output, else of the first kafka input" doc:"The cluster of the topic."`
}

// FleetKafka is a Kafka cluster.
type FleetKafka struct {
	Brokers []string `yaml:"brokers" required:"yes" min:"1" check:"broker" also:"hosts bootstrap_servers servers" doc:"HOST:PORT of some of the brokers; the others are found through them." example:"['k1:9092', 'k2:9092']"`
	SASL    *SASL    `yaml:"sasl" unset:"no authentication" doc:"Who tailwater is."`
	TLS     *TLS     `yaml:"tls" unset:"no encryption" doc:"Encryption; {} trusts the system's authorities."`
}

// FleetCluster is the cluster of the fleet's topics; nil where there is none.
func (c *Config) FleetCluster() *FleetKafka {
	if c.Fleet.Kafka != nil {
		return c.Fleet.Kafka
	}
	for _, out := range c.Outputs {
		if k := out.Kafka; k != nil {
			return &FleetKafka{Brokers: k.Brokers, SASL: k.SASL, TLS: k.TLS}
		}
	}
	for _, in := range c.Inputs {
		if k := in.Kafka; k != nil {
			return &FleetKafka{Brokers: k.Brokers, SASL: k.SASL, TLS: k.TLS}
		}
	}
	return nil
}

// Evaluates tells whether this process decides rules of scope fleet.
func (c *Config) Evaluates() bool {
	if c.Fleet.Evaluate != "" {
		return c.Fleet.Evaluate == "true"
	}
	return slices.ContainsFunc(c.Inputs, func(in *Input) bool { return in.Kafka != nil })
}

// scopeOf is a rule's or a report's scope, the default filled in.
func (c *Config) scopeOf(scope string) string {
	switch {
	case scope != "":
		return scope
	case c.FleetCluster() != nil:
		return "fleet"
	}
	return "host"
}

// checkFleet looks at what the scopes of rules and reports need.
func (c *Config) checkFleet(problem func(key, text string)) {
	for _, a := range c.Alerts {
		c.checkScope("alerts."+a.Name, a.Scope, a.Input, problem)
	}
	for _, r := range c.Reports {
		c.checkScope("reports."+r.Name, r.Scope, r.Input, problem)
	}
	if c.Fleet.Evaluate == "true" && c.FleetCluster() == nil {
		problem("fleet.evaluate", "there is nothing to evaluate without Kafka: write fleet: {kafka: {brokers: ['HOST:9092']}}")
	}
}

// checkScope looks at one scope, and at the inputs that go with it.
func (c *Config) checkScope(key, scope string, inputs []string, problem func(key, text string)) {
	scope = c.scopeOf(scope)
	if scope == "fleet" && c.FleetCluster() == nil {
		problem(key+".scope", "fleet counts through Kafka, and there is neither a kafka output nor a kafka input; write fleet: {kafka: {brokers: ['HOST:9092']}}, or scope: host")
	}
	if scope == "fleet" && c.Evaluates() {
		return // the inputs may be other hosts'
	}
	var names []string
	for _, in := range c.Inputs {
		names = append(names, in.Name)
	}
	one := slices.ContainsFunc(inputs, func(name string) bool { return slices.Contains(names, name) })
	for i, name := range inputs {
		if slices.Contains(names, name) || len(names) == 0 {
			continue
		}
		hint := "known inputs: " + strings.Join(names, ", ")
		if near, ok := schema.Nearest(name, names); ok {
			hint = fmt.Sprintf("did you mean %q?", near)
		} else if one && scope == "fleet" {
			continue // the indexers'
		}
		at := key + ".input"
		if len(inputs) > 1 {
			at += fmt.Sprintf("[%d]", i)
		}
		problem(at, fmt.Sprintf("there is no input %q; %s", name, hint))
	}
}

var legalTopic = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,240}$`)

func checkFleetTopic(s string) error {
	if !legalTopic.MatchString(s) || s == "." || s == ".." {
		return fmt.Errorf("%q is no name of a topic; write letters, digits, '.', '_' and '-', at most 240", s)
	}
	return nil
}
