package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tailwater/tailwater/internal/schema"
)

// KafkaInput reads Kafka topics as a member of a consumer group: the indexer's side.
type KafkaInput struct {
	Brokers []string `yaml:"brokers" required:"yes" min:"1" check:"broker" also:"hosts bootstrap_servers servers" doc:"HOST:PORT of some of the brokers; the others are found through them." example:"['k1:9092', 'k2:9092']"`
	Topics  []string `yaml:"topics" required:"yes" min:"1" check:"topics" also:"topic" doc:"Topics, as globs: * ? [a-z]; new ones that match are picked up." example:"['logs-*']"`
	Group   string   `yaml:"group" default:"tailwater" also:"group_id consumer_group" doc:"Consumer group: its members share the partitions, and it remembers what has been delivered."`
	SASL    *SASL    `yaml:"sasl" unset:"no authentication" doc:"Who tailwater is."`
	TLS     *TLS     `yaml:"tls" unset:"no encryption" doc:"Encryption; {} trusts the system's authorities."`
}

// checkTopics: a glob of topics.
func checkTopics(s string) error {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return fmt.Errorf("%q is no glob of topics; write a topic's name, or logs-*", s)
	}
	return nil
}

// reads tells whether a topic of that template can be among those that are read.
func (k *KafkaInput) reads(template string) bool {
	made := wildcards(placeholder.ReplaceAllString(template, "*"))
	return slices.ContainsFunc(k.Topics, func(glob string) bool { return meet(wildcards(glob), made) })
}

// wildcards are the runes of a glob, with a '?' for each class of them.
func wildcards(glob string) []rune { return []rune(class.ReplaceAllString(glob, "?")) }

var class = regexp.MustCompile(`\[(?:\\.|[^\\\]])*\]`)

// meet tells whether two globs of * and ? have a name in common. below[j] is the same of
// what is left of a behind the rune at hand and b[j:].
func meet(a, b []rune) bool {
	below := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		here := make([]bool, len(b)+1)
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				here[j] = true
			case i < len(a) && a[i] == '*', j < len(b) && b[j] == '*':
				here[j] = i < len(a) && below[j] || j < len(b) && here[j+1]
			case i < len(a) && j < len(b):
				here[j] = (a[i] == b[j] || a[i] == '?' || b[j] == '?') && below[j+1]
			}
		}
		below = here
	}
	return below[0]
}

// sameCluster tells whether a broker is in both lists.
func sameCluster(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool { return strings.EqualFold(x, y) })
	})
}

// checkKafkaInputs: offsets are committed for one output, and what is read must not
// be written to where it is read from.
func (c *Config) checkKafkaInputs(problem func(key, text string)) {
	for _, in := range c.Inputs {
		if in.Kafka == nil {
			continue
		}
		to := in.To
		if to == nil {
			for _, out := range c.Outputs {
				to = append(to, out.Name)
			}
		}
		if len(to) != 1 {
			problem("inputs."+in.Name+".to", fmt.Sprintf("a kafka input has exactly one output, for which its offsets are committed; write to: [%s], and an input with a group of its own for each other output",
				strings.Join(to[:min(1, len(to))], "")))
			continue
		}
		out := c.Output(to[0])
		if out == nil || out.Kafka == nil || schema.Kind(out) != "kafka" {
			continue
		}
		if sameCluster(out.Kafka.Brokers, in.Kafka.Brokers) && in.Kafka.reads(out.Kafka.Topic) {
			problem("inputs."+in.Name+".kafka.topics", fmt.Sprintf("output %q writes to topics that are read here, and each line would come back for ever; write to topics of another name", out.Name))
		}
	}
}
