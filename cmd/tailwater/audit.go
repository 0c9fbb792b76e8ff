package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func auditCommand() *cobra.Command {
	var at where
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit [FILE...]",
		Short: "Tell of every byte and every record that is read where it has gone",
		Long: `Tells, for each generation of a file (the bytes between two rotations), how many bytes
were written, read, delivered to each output, refused, and abandoned, with the ranges
that are lost; and checks that the sums agree. It asks the running agent, and where
none runs reads the state directory. FILE (a path, or a pattern in quotes) picks the
generations that were first seen under that path, or are there now.

Of a kafka input it tells of the partitions that this agent reads, in records: FILE is
then kafka:TOPIC/PARTITION.

  written = skipped + read + abandoned + unread
  written = skipped + delivered + abandoned + waiting      for each output

Exit codes: 0 the sums agree; 1 they do not, or there is nothing to be audited.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			for i, f := range files {
				if strings.HasPrefix(f, "kafka:") {
					continue
				}
				abs, err := filepath.Abs(f)
				if err != nil {
					return err
				}
				files[i] = abs
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			l, err := at.ledger(ctx, files)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(l)
			} else {
				err = printLedger(cmd.OutOrStdout(), l)
			}
			if err != nil {
				return err
			}
			return verdict(l, files)
		},
	}
	at.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the ledger as JSON")
	return c
}

// ledger asks the agent, or reads what it has left.
func (w *where) ledger(ctx context.Context, files []string) (*agent.Ledger, error) {
	var l agent.Ledger
	_, err := w.fetch(ctx, "GET", "/api/v1/audit?"+url.Values{"file": files}.Encode(), &l)
	if none := (*noAgentError)(nil); !errors.As(err, &none) || w.addr != "" {
		return &l, err
	}
	state, err := w.stateDir()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(state); err != nil {
		return nil, fmt.Errorf("%w; name the agent with -c, --state or --addr", err)
	}
	release, err := takeLock(ctx, state, 0)
	if err != nil {
		return nil, err
	}
	defer release()
	stopped, err := agent.ReadLedger(state, newLog(false))
	if err == nil {
		stopped.Of(files)
	}
	return stopped, err
}

// verdict shows what does not agree.
func verdict(l *agent.Ledger, files []string) error {
	if len(l.Files) == 0 && len(files) > 0 {
		return fmt.Errorf("no generation of %s is known", files[0])
	}
	for _, p := range l.Problems {
		fmt.Fprintln(os.Stderr, "tailwater: the sums do not agree: "+p)
	}
	if len(l.Problems) > 0 {
		return exitError{1}
	}
	fmt.Fprintln(os.Stderr, "the sums agree")
	return nil
}

func printLedger(w io.Writer, l *agent.Ledger) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tGENERATION\tWRITTEN\tSKIPPED\tREAD\tABANDONED\tUNREAD\tOUTPUT\tDELIVERED\tABANDONED\tWAITING\tDOCUMENTS\tREFUSED")
	row := func(file, generation string, s agent.Share) {
		if s.Unit != "" {
			file += " (" + s.Unit + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d", file, generation, s.Written, s.Skipped, s.Read, s.Abandoned, s.Unread)
		for i, name := range slices.Sorted(maps.Keys(s.Outputs)) {
			o := s.Outputs[name]
			if i > 0 {
				fmt.Fprint(t, "\t\t\t\t\t\t")
			}
			fmt.Fprintf(t, "\t%s\t%d\t%d\t%d\t%d\t%d\n", name, o.Delivered, o.Abandoned, o.Waiting, o.Documents, o.Refused)
		}
		if len(s.Outputs) == 0 {
			fmt.Fprintln(t)
		}
	}
	for _, g := range l.Files {
		name := g.ID
		if g.Gone != "" {
			name += " (gone)"
		}
		row(g.File, name, g.Share)
	}
	for _, input := range slices.Sorted(maps.Keys(l.Older)) {
		row("input "+input, fmt.Sprintf("%d older ones", l.Older[input].Generations), l.Older[input])
	}
	for _, input := range slices.Sorted(maps.Keys(l.Inputs)) {
		row("input "+input, fmt.Sprintf("all %d", l.Inputs[input].Generations), l.Inputs[input])
	}
	for _, g := range l.Files {
		for _, lost := range g.Ranges {
			fmt.Fprintf(t, "lost: %s generation %s %s %d to %d (%s), for %v\n", g.File, g.ID, cmp.Or(g.Unit, "bytes"), lost.From, lost.To, lost.Reason, lost.Outputs)
		}
	}
	return t.Flush()
}
