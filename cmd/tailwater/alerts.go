package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/alert/notify"
)

// fetch asks the agent and decodes what it answered.
func (w *where) fetch(ctx context.Context, method, path string, into any) ([]byte, error) {
	status, body, err := w.ask(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			return nil, fmt.Errorf("the agent's answer is not understood: %w", err)
		}
	}
	return body, nil
}

func alertsCommand() *cobra.Command {
	var at where
	var asJSON bool
	c := &cobra.Command{
		Use:   "alerts",
		Short: "Show what fires now and the last notices",
		Long: `Shows the incidents that go on, and the last notices with what became of them on
each channel.

Exit codes: 0; 1 the agent cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			var s agent.AlertsStatus
			body, err := at.fetch(ctx, "GET", "/api/v1/alerts", &s)
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(body)
				return err
			}
			return printAlerts(cmd.OutOrStdout(), s)
		},
	}
	at.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return c
}

func printAlerts(w io.Writer, s agent.AlertsStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Firing) == 0 {
		fmt.Fprintln(t, "nothing fires")
	} else {
		fmt.Fprintln(t, "FIRING\tGROUP\tSINCE\tNUMBERS")
		for i := range s.Firing {
			it := &s.Firing[i]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", it.Incident.Rule, it.Group(), clock(it.Incident.Began), strings.Join(it.Numbers, ", "))
		}
	}
	if s.Fleet != nil {
		fmt.Fprintf(t, "\nfleet: %s\n", s.Fleet.Line())
	}
	for _, r := range s.Rules {
		if r.Overflow > 0 {
			fmt.Fprintf(t, "\nrule %s does not count %d lines: they are of groups beyond max_groups, such as %s\n", r.Rule, r.Overflow, strings.Join(r.Overflowed, ", "))
		}
	}
	if len(s.History) > 0 {
		fmt.Fprintln(t, "\nTIME\tNOTICE\tSENT")
	}
	for _, n := range s.History {
		what := n.Text
		switch {
		case n.Item != nil:
			what = n.Item.Headline()
		case n.Report != nil:
			what = n.Report.Title()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", clock(n.At), what, sent(&n))
	}
	return t.Flush()
}

// sent is what became of a notice, in words.
func sent(n *notify.Notice) string {
	if n.Silence != "" {
		return "silenced " + n.Silence
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(n.Sent)) {
		d := n.Sent[name]
		part := name + ": " + string(d.State)
		if d.Error != "" {
			part += " (" + d.Error + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func silenceCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "silence",
		Short: "Keep notices from being sent for a while",
		Long: `A silence keeps the notices of matching incidents from being sent until it ends.
They are in "tailwater alerts" all the same. Matchers compare labels: rule, host, the
group's fields, and the labels of the rule. A silence that is given to one process of a
fleet holds on all of them.

  tailwater silence add --for 2h --comment "database moves" rule=slow project=~"pay.*"
  tailwater silence list
  tailwater silence expire ID`,
	}, silenceAddCommand(), silenceListCommand(), silenceExpireCommand())
}

func silenceAddCommand() *cobra.Command {
	var at where
	var length, author, comment string
	c := &cobra.Command{
		Use:   "add MATCHER...",
		Short: "Begin a silence, for incidents that fulfil all the matchers",
		Long: `Begins a silence for the incidents that fulfil all the matchers: LABEL=VALUE,
LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX. It is kept through restarts.`,
		Args: takes(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"match": args, "for": {length}, "author": {author}, "comment": {comment}}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			var s notify.Silence
			if _, err := at.fetch(ctx, "POST", "/api/v1/silences?"+q.Encode(), &s); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), s.ID)
			fmt.Fprintf(os.Stderr, "silent until %s\n", clock(s.Until))
			return nil
		},
	}
	at.flags(c)
	c.Flags().StringVar(&length, "for", "1h", "how long it lasts: 30m, 2h, 7d")
	c.Flags().StringVar(&author, "author", loginName(), "who is to be asked about it")
	c.Flags().StringVar(&comment, "comment", "", "why")
	return c
}

// loginName is who runs the command, "" when that is not known.
func loginName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func silenceListCommand() *cobra.Command {
	var at where
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the silences that hold",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			var all []notify.Silence
			if _, err := at.fetch(ctx, "GET", "/api/v1/silences", &all); err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tUNTIL\tAUTHOR\tMATCHERS\tCOMMENT")
			for _, s := range all {
				var matchers []string
				for _, m := range s.Matchers {
					matchers = append(matchers, m.String())
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.ID, clock(s.Until), s.Author, strings.Join(matchers, " "), s.Comment)
			}
			return t.Flush()
		},
	}
	at.flags(c)
	return c
}

func silenceExpireCommand() *cobra.Command {
	var at where
	c := &cobra.Command{
		Use:   "expire ID",
		Short: "End a silence at once",
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			_, err := at.fetch(ctx, "DELETE", "/api/v1/silences/"+url.PathEscape(args[0]), nil)
			return err
		},
	}
	at.flags(c)
	return c
}

func notifyCommand() *cobra.Command {
	var at where
	var channels []string
	var text string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "notify --text TEXT [--channel NAME]...",
		Short: "Send a line by hand, from a release script for example",
		Long: `Has the running agent send a line to channels of its configuration (none named: to
all), and waits until they have taken it.

Exit codes: 0 every channel has taken it; 1 one has refused it, or does not answer
within --timeout (it is tried on), or the agent cannot be reached.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"text": {text}, "channel": channels, "timeout": {timeout.String()}}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout+10*time.Second)
			defer cancel()
			var n notify.Notice
			if _, err := at.fetch(ctx, "POST", "/api/v1/notify?"+q.Encode(), &n); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, sent(&n))
			for _, d := range n.Sent {
				if d.State != notify.Delivered {
					return exitError{1}
				}
			}
			return nil
		},
	}
	at.flags(c)
	c.Flags().StringVar(&text, "text", "", "the line")
	c.Flags().StringArrayVar(&channels, "channel", nil, "the channel; may be given several times")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the channels")
	c.MarkFlagRequired("text")
	return c
}
