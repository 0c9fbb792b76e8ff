package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/tailwater/tailwater/config"
)

// Setup makes what the outputs and the fleet need: topics, index templates. say is told of each
// step; an output that cannot be set up does not keep the others from it.
func Setup(ctx context.Context, cfg *config.Config, say func(string)) error {
	var problems []error
	for _, out := range cfg.Outputs {
		of := func(text string) { say("output " + out.Name + ": " + text) }
		if err := setupOutput(ctx, out, of); err != nil {
			problems = append(problems, fmt.Errorf("output %s: %w", out.Name, err))
		}
	}
	if err := setupFleet(ctx, cfg, say); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func setupOutput(ctx context.Context, out *config.Output, say func(string)) error {
	switch {
	case out.Kafka != nil:
		s, err := newKafka(out.Kafka)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Setup(ctx, say)
	case out.Elasticsearch != nil:
		s, err := newElastic(out.Name, out.Elasticsearch, nil)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Setup(ctx, out.Name, say)
	}
	say("needs nothing")
	return nil
}
