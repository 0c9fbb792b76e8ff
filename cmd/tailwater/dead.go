package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/sink"
)

func deadCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "dead",
		Short: "Show the documents that outputs refused, and send them again",
		Long: `A document that an output will never take (a field that does not fit the mapping,
one that is too large) goes to a dead-letter file in the state directory, with the
reason and the place that it came from. When the cause is removed, send it again:

  tailwater dead list -c FILE                  which outputs, which reasons, how many
  tailwater dead show -c FILE --output search  the letters, one a line, as JSON
  tailwater dead replay -c FILE                send them again, under the same ids`,
	}, deadListCommand(), deadShowCommand(), deadReplayCommand())
}

// letters tells which dead letters are meant, and where they are.
type letters struct {
	at                        where
	output, reason, id, since string
}

func (l *letters) flags(c *cobra.Command) {
	l.at.flags(c)
	c.Flags().StringVar(&l.output, "output", "", "only those of this output")
	c.Flags().StringVar(&l.reason, "reason", "", "only those with this reason")
	c.Flags().StringVar(&l.since, "since", "", "only those refused since then: 2h, 7d, 2026-11-23, 2026-11-23T20:00:00Z")
}

func (l *letters) pick() (sink.Pick, error) {
	since, err := agent.ParseSince(l.since, time.Now())
	return sink.Pick{Output: l.output, Reason: l.reason, ID: l.id, Since: since}, err
}

func (l *letters) query() url.Values {
	return url.Values{"output": {l.output}, "reason": {l.reason}, "id": {l.id}, "since": {l.since}}
}

// each calls f for each letter: from the state directory, whether the agent runs or
// not, or as the agent at --addr tells them.
func (l *letters) each(ctx context.Context, f func(*sink.Letter) error) error {
	pick, err := l.pick()
	if err != nil {
		return err
	}
	bad := 0
	if l.at.addr == "" {
		state, err := l.at.stateDir()
		if err != nil {
			return err
		}
		if bad, err = sink.EachLetter(agent.DeadDir(state), pick, f); err != nil {
			return err
		}
	} else {
		body, err := l.at.fetch(ctx, "GET", "/api/v1/dead?"+l.query().Encode(), nil)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(body) {
			var letter sink.Letter
			if err := json.Unmarshal(line, &letter); err != nil {
				return fmt.Errorf("the agent's answer is not understood: %w", err)
			}
			if err := f(&letter); err != nil {
				return err
			}
		}
	}
	if bad > 0 {
		fmt.Fprintf(os.Stderr, "tailwater: %d lines are no whole letters (a crash may leave one); they are left out\n", bad)
	}
	return nil
}

// heap is what dead list says of the letters that share output and reason.
type heap struct {
	Output string    `json:"output"`
	Reason string    `json:"reason"`
	Count  int       `json:"letters"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Detail string    `json:"detail,omitempty"` // of the last one
}

func deadListCommand() *cobra.Command {
	var l letters
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "Count the dead letters by output and reason",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			heaps, err := l.heaps(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(heaps)
			}
			return printHeaps(cmd.OutOrStdout(), heaps)
		},
	}
	l.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the counts as JSON")
	return c
}

func (l *letters) heaps(ctx context.Context) ([]*heap, error) {
	heaps := []*heap{}
	err := l.each(ctx, func(letter *sink.Letter) error {
		i := slices.IndexFunc(heaps, func(h *heap) bool { return h.Output == letter.Output && h.Reason == letter.Reason })
		if i < 0 {
			i = len(heaps)
			heaps = append(heaps, &heap{Output: letter.Output, Reason: letter.Reason, First: letter.Time})
		}
		h := heaps[i]
		h.Count++
		h.Last, h.Detail = letter.Time, letter.Detail
		return nil
	})
	slices.SortFunc(heaps, func(a, b *heap) int { return cmp.Or(cmp.Compare(a.Output, b.Output), cmp.Compare(a.Reason, b.Reason)) })
	return heaps, err
}

func printHeaps(w io.Writer, heaps []*heap) error {
	if len(heaps) == 0 {
		_, err := fmt.Fprintln(w, "there are no dead letters")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OUTPUT\tREASON\tLETTERS\tFIRST\tLAST\tTHE LAST ONE SAYS")
	for _, h := range heaps {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%.200s\n", h.Output, h.Reason, h.Count, clock(h.First), clock(h.Last), h.Detail)
	}
	return t.Flush()
}

func deadShowCommand() *cobra.Command {
	var l letters
	var limit int
	c := &cobra.Command{
		Use:   "show [ID]",
		Short: "Print dead letters, one a line, as JSON, the oldest first",
		Long: `Prints dead letters as JSON, one a line, the oldest first: time, output, reason, what
the output said (detail), id, file and offset of the line, and the document.`,
		Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				l.id = args[0]
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetEscapeHTML(false)
			shown := 0
			err := l.each(cmd.Context(), func(letter *sink.Letter) error {
				if limit > 0 && shown == limit {
					return io.EOF
				}
				shown++
				return out.Encode(letter)
			})
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if shown == 0 && l.id != "" {
				return fmt.Errorf("there is no dead letter with the id %s", l.id)
			}
			return nil
		},
	}
	l.flags(c)
	c.Flags().IntVar(&limit, "limit", 0, "print no more than so many; 0: all")
	return c
}

func deadReplayCommand() *cobra.Command {
	var l letters
	var timeout time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "replay",
		Short: "Send dead letters again, after their cause was removed",
		Long: `Sends dead letters again through the outputs that refused them: those of the running
agent, or, with -c and when no agent runs, outputs of its own. The documents keep
their ids. What is delivered is a dead letter no more; what is refused once more
stays. A second replay therefore sends nothing twice.

Exit codes: 0 every letter is delivered; 1 it could not be done; 3 some were refused
once more, are not documents of tailwater's, or have no answer within --timeout (a
running agent goes on with these).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := l.replay(cmd.Context(), timeout)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(all)
			} else {
				err = printReplayed(cmd.OutOrStdout(), all)
			}
			if err == nil && slices.ContainsFunc(all, func(r sink.Replayed) bool { return r.Delivered < r.Letters || r.Trouble != "" }) {
				return exitError{3}
			}
			return err
		},
	}
	l.flags(c)
	c.Flags().StringVar(&l.id, "id", "", "only the document with this id")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the answers")
	c.Flags().BoolVar(&asJSON, "json", false, "print the counts as JSON")
	return c
}

// replay asks the running agent, and where there is none does it itself.
func (l *letters) replay(ctx context.Context, timeout time.Duration) (all []sink.Replayed, err error) {
	pick, err := l.pick()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout+10*time.Second, errors.New("the agent does not answer"))
	defer cancel()
	q := l.query()
	q.Set("timeout", timeout.String())
	_, err = l.at.fetch(ctx, "POST", "/api/v1/dead/replay?"+q.Encode(), &all)
	if none := (*noAgentError)(nil); !errors.As(err, &none) || l.at.config == "" {
		return all, err
	}
	cfg, err := load(l.at.config)
	if err != nil {
		return nil, err
	}
	release, err := takeLock(ctx, cfg.State, 0)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	return agent.ReplayDead(ctx, agent.Options{Config: cfg, Log: newLog(false), Stdout: os.Stdout, Build: build()}, pick)
}

func printReplayed(w io.Writer, all []sink.Replayed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "there are no dead letters")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OUTPUT\tLETTERS\tDELIVERED\tREFUSED AGAIN\tNO DOCUMENTS\tWAITING\t")
	for _, r := range all {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Output, r.Letters, r.Delivered, r.Refused, r.Unusable, r.Waiting, cmp.Or(r.Trouble, r.Why))
	}
	return t.Flush()
}
