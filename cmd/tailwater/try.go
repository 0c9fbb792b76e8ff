package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func tryCommand() *cobra.Command {
	var file, input string
	c := &cobra.Command{
		Use:   "try -c FILE [LOGFILE]",
		Short: "Parse sample lines and show the documents",
		Long: `Parses the lines of LOGFILE, also a .gz, or of standard input, as the configuration
says, and prints the documents; on standard error it says how many lines matched and
which did not. Without --input the input is taken whose files match LOGFILE or the log
that it was rotated from, else the first. keep is not applied.

Exit codes: 0 every line parsed; 1 some did not.`,
		Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			var lines io.Reader = os.Stdin
			name := ""
			if len(args) == 1 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				lines = f
				if name, err = filepath.Abs(args[0]); err != nil {
					return err
				}
			}
			result, err := agent.Try(cfg, input, name, lines, cmd.OutOrStdout())
			if err != nil && result.Events == 0 {
				return err
			}
			fmt.Fprintf(os.Stderr, "input %s, format %s: %d of %d events parsed\n", result.Input, result.Format, result.Parsed, result.Events)
			for _, e := range result.Errors {
				fmt.Fprintf(os.Stderr, "line %d: %s: %s\n", e.Line, e.Reason, e.Text)
			}
			if n := result.Events - result.Parsed - len(result.Errors); n > 0 {
				fmt.Fprintf(os.Stderr, "and %d more\n", n)
			}
			if err == nil && result.Parsed < result.Events {
				err = exitError{1}
			}
			return err
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&input, "input", "", "the input whose format is tried")
	return c
}
