package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/alert/notify"
)

func backtestCommand() *cobra.Command {
	var file, input string
	c := &cobra.Command{
		Use:   "backtest -c FILE LOGFILE...",
		Short: "Run the alert rules over old logs and show what would have fired",
		Long: `Runs the configuration's alert rules over old logs, also .gz, by the times of their
lines, and prints each notice that would have been given, when, with its samples. A
file is read as the input does whose globs match it or the log that it was rotated
from, else as --input or the first one.`,
		Args: takes(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			notices, began := 0, time.Now()
			result, err := agent.Backtest(cfg, input, args, func(it *notify.Item) {
				notices++
				printItem(out, it)
			})
			if err != nil && len(result.Rules) == 0 {
				return err
			}
			span := ""
			if !result.First.IsZero() {
				span = fmt.Sprintf(" from %s to %s", clock(result.First), clock(result.Last))
			}
			fmt.Fprintf(os.Stderr, "%d lines%s in %v: %d notices\n", result.Lines, span, time.Since(began).Round(time.Millisecond), notices)
			if result.Untimed > 0 {
				fmt.Fprintf(os.Stderr, "%d lines before the first with a time were left out\n", result.Untimed)
			}
			if result.Future > 0 {
				fmt.Fprintf(os.Stderr, "%d lines from more than a day ahead were left out; look at the clocks\n", result.Future)
			}
			for _, r := range result.Rules {
				if r.Late+r.Overflow > 0 {
					fmt.Fprintf(os.Stderr, "rule %s: %d lines were too late, %d of groups beyond max_groups; they did not count\n", r.Rule, r.Late, r.Overflow)
				}
			}
			return err
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&input, "input", "", "the input as which the files are read")
	return c
}

// printItem prints when a notice would have been given, and all that it says.
func printItem(w io.Writer, it *notify.Item) {
	m := notify.Message{Items: []notify.Item{*it}}
	fmt.Fprintf(w, "%s %s", clock(it.At), m.Plain(1<<16))
}
