package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func setupCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "setup -c FILE",
		Short: "Create or update what the outputs need: topics, index templates, lifecycle policy",
		Long: `Creates the Kafka topics that outputs name without placeholders, and the
Elasticsearch index templates that give the documents' fields their types, with a
lifecycle policy where the cluster has lifecycle management. Prints what it did; run
it again at any time. What it makes for users to change (the component template
tailwater-custom, the policy) it makes once and leaves alone afterwards.

Exit codes: 0 done; 1 an output could not be set up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			err = agent.Setup(ctx, cfg, func(text string) { fmt.Fprintln(cmd.OutOrStdout(), text) })
			if joined, many := err.(interface{ Unwrap() []error }); many {
				for _, e := range joined.Unwrap() {
					fmt.Fprintln(os.Stderr, "tailwater:", e)
				}
				return exitError{1}
			}
			return err
		},
	}
	configFlag(c, &file)
	return c
}
