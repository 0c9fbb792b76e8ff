package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Validate a configuration: every problem with its line and the remedy",
		Long: `Validates the configuration without touching anything, and prints every problem
as FILE:LINE: what is wrong, and what to write instead. What is allowed but not
advisable is a warning, of the same form.

Exit codes: 0 no problem; 1 problems.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings {
				fmt.Fprintln(os.Stderr, w.Warning())
			}
			fmt.Fprintf(os.Stderr, "%s is right: %d inputs, %d outputs\n", file, len(cfg.Inputs), len(cfg.Outputs))
			return nil
		},
	}
	configFlag(c, &file)
	return c
}
