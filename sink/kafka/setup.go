package kafka

import (
	"context"
	"fmt"
	"strings"
)

// Setup creates the topic, when its name has no placeholders: others come into being
// with the first document that goes to them. say is told of each step.
func (s *Sink) Setup(ctx context.Context, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	name := s.cfg.Topic.String()
	if strings.Contains(name, "{") {
		if err := s.cluster.reach(ctx); err != nil {
			return err
		}
		say(fmt.Sprintf("topics %s: each is created with its first line, with the cluster's default partitions and replicas", s.cfg.Topic.Pattern()))
		return nil
	}
	n, created, err := s.cluster.partitions(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("kafka: topic %s: %w", name, err)
	case created:
		say(fmt.Sprintf("topic %s: created, %d partitions", name, n))
	default:
		say(fmt.Sprintf("topic %s: exists, %d partitions", name, n))
	}
	return nil
}
