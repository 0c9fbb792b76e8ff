// Command tailwater is the log agent: it tails, splits, filters, ships and raises the
// alarm.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/internal/quietlog"
	"github.com/tailwater/tailwater/internal/terminal"
)

// Stamped in by the linker (see the Makefile).
var (
	version = "devel"
	commit  = ""
)

// exitError ends the process with a code of its own. Its message, when it has one,
// has been shown already.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

func main() {
	err := root().Execute()
	var exit exitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(exit.code)
	default:
		fmt.Fprintln(os.Stderr, "tailwater:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "tailwater",
		Short: "Tails logs, splits them into fields, ships them, and raises the alarm",
		Long: `tailwater follows nginx and application logs through rotation, restarts and
crashes, splits each line into fields, and ships the documents.

  tailwater check -c FILE            is the configuration right?
  tailwater try -c FILE app.log      what becomes of these lines?
  tailwater run -c FILE              do it`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(runCommand(), checkCommand(), tryCommand(), statusCommand(), drainCommand(), setupCommand(),
		alertsCommand(), silenceCommand(), deadCommand(), auditCommand(), notifyCommand(), backtestCommand(), imagePrepareCommand(), versionCommand())
	return c
}

// group makes c a command that only has others: one that it does not have is an error.
func group(c *cobra.Command, others ...*cobra.Command) *cobra.Command {
	c.AddCommand(others...)
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// takes bounds the number of arguments, in words that say what to write.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%d arguments do not fit; write %s", len(args), strings.TrimSuffix(c.UseLine(), " [flags]"))
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			b := build()
			fmt.Fprintf(cmd.OutOrStdout(), "tailwater %s (commit %s, %s, %s/%s)\n", b.Version, b.Commit, b.GoVersion, runtime.GOOS, runtime.GOARCH)
		},
	}
}

// build is what the linker stamped in, else what the Go toolchain knows.
func build() agent.Build {
	b := agent.Build{Version: version, Commit: commit, GoVersion: runtime.Version()}
	if b.Commit == "" {
		b.Commit = "unknown"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					b.Commit = s.Value
				}
			}
		}
	}
	return b
}

// readableDuration writes durations as 5s, in JSON too, which has them as nanoseconds.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// newLog is text for people and JSON for machines, and does not flood.
func newLog(verbose bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: readableDuration}
	if verbose {
		opts.Level = slog.LevelDebug
	}
	var h slog.Handler = slog.NewJSONHandler(os.Stderr, opts)
	if terminal.Is(os.Stderr) {
		h = slog.NewTextHandler(os.Stderr, opts)
	}
	return slog.New(quietlog.New(h))
}
