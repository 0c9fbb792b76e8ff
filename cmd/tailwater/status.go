package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func statusCommand() *cobra.Command {
	var at where
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how far the running agent is: outputs, inputs, files behind, alerts",
		Long: `Shows what the running agent does: each output with its state and last error, each
input with its lag, and the files that are behind.

Exit codes: 0; 1 the agent cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			_, body, err := at.ask(ctx, "GET", "/api/v1/status")
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(body)
				return err
			}
			var s agent.Status
			if err := json.Unmarshal(body, &s); err != nil {
				return fmt.Errorf("the agent's answer is not a status: %w", err)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	at.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the status as JSON")
	return c
}

func printStatus(w io.Writer, s agent.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := ""
	if s.Draining {
		state = ", draining"
	}
	fmt.Fprintf(t, "tailwater %s on %s, up %v%s\n\n", s.Version, s.Host, time.Duration(s.Uptime*float64(time.Second)).Round(time.Second), state)
	fmt.Fprintln(t, "OUTPUT\tKIND\tSTATE\tDELIVERED\tDEAD\tWAITING\tLAST ERROR")
	for _, o := range s.Outputs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d B\t%s\n", o.Name, o.Kind, o.State, o.Delivered, o.DeadLetters, o.QueueBytes, o.LastError)
	}
	fmt.Fprintln(t, "\nINPUT\tFILES\tLINES\tBYTES\tNOT PARSED\tBEHIND\tOLDEST")
	for _, in := range s.Inputs {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%.1f s\n", in.Name, in.Watched, in.Lines, in.Bytes, in.ParseErrors, in.Behind(), in.LagSeconds)
	}
	if slices.ContainsFunc(s.Inputs, func(in agent.InputStatus) bool { return in.Trouble != "" }) {
		fmt.Fprintln(t, "\nINPUT\tTROUBLE")
		for _, in := range s.Inputs {
			if in.Trouble != "" {
				fmt.Fprintf(t, "%s\t%s\n", in.Name, in.Trouble)
			}
		}
	}
	if s.FilesBehind > 0 {
		fmt.Fprintln(t, "\nFILE\tINPUT\tSIZE\tREAD\tBEHIND\tOLDEST")
		for _, f := range s.Files {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d B\t%.1f s\n", f.Path, f.Input, f.Size, f.Read, f.Bytes, f.Seconds)
		}
		if more := s.FilesBehind - len(s.Files); more > 0 {
			fmt.Fprintf(t, "and %d more\n", more)
		}
	}
	if len(s.Firing) > 0 {
		fmt.Fprintln(t, "\nFIRING\tGROUP\tSINCE\tNUMBERS")
		for _, f := range s.Firing {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Rule, f.Group, f.Since, f.Numbers)
		}
	}
	return t.Flush()
}
