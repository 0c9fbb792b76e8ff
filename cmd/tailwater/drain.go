package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func drainCommand() *cobra.Command {
	var at where
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "drain",
		Short: "Have the running agent ship everything up to now and stop (for scale-in)",
		Long: `Has the running agent ship everything up to the current end of every file, an
unfinished last line too, and of every partition that its kafka inputs read, and stop. When the time is over first, the agent goes on
and what is left is printed.

Exit codes: 0 everything is delivered; 3 the time was over; 1 the agent cannot be
reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout+10*time.Second)
			defer cancel()
			status, body, err := at.ask(ctx, "POST", "/api/v1/drain?timeout="+url.QueryEscape(timeout.String()))
			if err != nil {
				return err
			}
			switch status {
			case http.StatusOK:
				fmt.Fprintln(os.Stderr, "drained: everything is delivered, the agent stops")
				return nil
			case http.StatusGatewayTimeout:
			default:
				return fmt.Errorf("drain: %s", strings.TrimSpace(string(body)))
			}
			var left []agent.Undelivered
			if err := json.Unmarshal(body, &left); err != nil {
				return fmt.Errorf("the agent's answer is not understood: %w", err)
			}
			for _, f := range left {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", f.Path, f.Left())
			}
			fmt.Fprintf(os.Stderr, "not drained within %v: %d files or partitions have something undelivered; the agent goes on\n", timeout, len(left))
			return exitError{3}
		},
	}
	at.flags(c)
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long it may take")
	return c
}
