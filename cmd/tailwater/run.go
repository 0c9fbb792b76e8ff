package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
	"github.com/tailwater/tailwater/config"
	"github.com/tailwater/tailwater/internal/lock"
	"github.com/tailwater/tailwater/internal/systemd"
	"github.com/tailwater/tailwater/internal/terminal"
)

func runCommand() *cobra.Command {
	var file string
	var wait time.Duration
	var verbose, profiling bool
	var quiet time.Duration
	c := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Follow the logs and ship them until SIGTERM or SIGINT",
		Long: `Follows the inputs and ships to the outputs until SIGTERM or SIGINT; then stops
reading, delivers what is in flight, saves the checkpoint, and exits. SIGHUP or a
changed file reloads the configuration; one with problems is refused.

With --drain, for a sidecar, whose application has ended when SIGTERM comes, it first
ships everything up to the files' ends, an unfinished last line too, within
shutdown_timeout. --drain 3s is for one that is stopped together with its application:
it goes on until no file has grown for three seconds.

Exit codes: 0 clean; 1 could not start; 3 stopped at shutdown_timeout with lines
undelivered (they are sent after the next start).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			calm()
			return run(file, runOptions{wait: wait, verbose: verbose, profiling: profiling, drain: c.Flags().Changed("drain"), quiet: quiet})
		},
	}
	configFlag(c, &file)
	c.Flags().DurationVar(&quiet, "drain", 0, "for sidecars: at SIGTERM first ship everything, an unfinished last line too, until no file has grown for this long")
	c.Flags().DurationVar(&wait, "wait", 0, "wait this long for another instance to release the state directory")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what is of interest to developers too")
	c.Flags().BoolVar(&profiling, "pprof", false, "serve profiles under /debug/pprof on listen")
	return c
}

func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "the configuration file")
	c.MarkFlagRequired("config")
	c.MarkFlagFilename("config", "yaml", "yml")
}

// runOptions are the flags of run.
type runOptions struct {
	wait               time.Duration
	verbose, profiling bool
	drain              bool
	quiet              time.Duration
}

func run(file string, flags runOptions) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	context.AfterFunc(ctx, cancel) // a second signal ends the process at once
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	signal.Ignore(syscall.SIGPIPE) // who reads stdout may end; the other outputs go on

	cfg, err := load(file)
	if err != nil {
		return err
	}
	log := newLog(flags.verbose)
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w.String())
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		return fmt.Errorf("state: %w; set state: to a directory that this user may write", err)
	}
	release, err := takeLock(ctx, cfg.State, flags.wait)
	if err != nil {
		return err
	}
	defer release()
	o := agent.Options{Config: cfg, ConfigPath: file, Log: log, Stdout: os.Stdout, Build: build(), Profiling: flags.profiling, Drain: flags.drain, Quiet: flags.quiet}
	o.Started = func() { toManager(log, systemd.Ready()) }
	o.Stopping = func(within time.Duration) { toManager(log, systemd.Stopping(within)) }
	if terminal.Is(os.Stderr) {
		o.Progress = os.Stderr
	}
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	go reloadOnHangup(ctx, hangups, a, log)
	err = a.Run(ctx)
	if errors.Is(err, agent.ErrUndelivered) {
		return exitError{3}
	}
	return err
}

// toManager logs what kept the service manager from being told.
func toManager(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("the service manager was not told how the agent is; it may take it for hung", "error", err)
	}
}

// load reads the configuration and shows all that is wrong with it.
func load(file string) (*config.Config, error) {
	cfg, problems := config.Load(file)
	if len(problems) == 0 {
		return cfg, nil
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	return nil, exitError{1}
}

func takeLock(ctx context.Context, state string, wait time.Duration) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return lock.Acquire(ctx, state)
}

// reloadOnHangup reloads for each SIGHUP; those that come meanwhile are one.
func reloadOnHangup(ctx context.Context, hangups <-chan os.Signal, a *agent.Agent, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if err := a.Reload(); err != nil {
				log.Debug("reload refused", "error", err)
			}
		}
	}
}
