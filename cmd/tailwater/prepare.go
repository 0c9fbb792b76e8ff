package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

func imagePrepareCommand() *cobra.Command {
	var file, state string
	var o agent.ImageOptions
	c := &cobra.Command{
		Use:   "image-prepare",
		Short: "Empty the state of what must not be cloned into a disk image",
		Long: `Removes from the state directory what must not be on two machines, before a disk
image is made of this one: its identity, what fires, notices, silences. It says what
it removed and what it keeps. Read positions are kept: what was delivered of the logs
in the image is not sent again by its clones.

It refuses while the agent runs, and when logs are not delivered to their ends or
dead letters are there, which every clone would have; nothing is changed then.

Exit codes: 0 the state may be cloned; 1 it may not, and why.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				cfg, err := load(file)
				if err != nil {
					return err
				}
				state = cfg.State
			}
			report, err := agent.PrepareImage(state, o, newLog(false))
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					fmt.Fprintln(os.Stderr, "tailwater: image-prepare:", line)
				}
				return exitError{1}
			}
			out := cmd.OutOrStdout()
			for _, what := range report.Removed {
				fmt.Fprintln(out, "removed:", what)
			}
			for _, what := range report.Kept {
				fmt.Fprintln(out, "kept:", what)
			}
			if len(report.Removed) == 0 {
				fmt.Fprintln(out, "nothing of this machine's is in", state)
			}
			if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 20 {
				fmt.Fprintln(os.Stderr, "to be done by you: the image must not have this machine's id either: truncate -s 0 /etc/machine-id")
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "find the state directory by the agent's configuration file")
	c.Flags().StringVar(&state, "state", defaultState, "the state directory")
	c.MarkFlagsMutuallyExclusive("config", "state")
	c.MarkFlagFilename("config", "yaml", "yml")
	c.MarkFlagDirname("state")
	c.Flags().BoolVar(&o.ForgetPositions, "forget-positions", false, "forget the read positions too: clones send what the image has of the logs")
	c.Flags().BoolVar(&o.Undelivered, "undelivered", false, "accept that every clone sends what is not delivered")
	c.Flags().BoolVar(&o.RemoveDeadLetters, "remove-dead-letters", false, "delete the dead letters")
	return c
}
