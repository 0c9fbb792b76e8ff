package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailwater/tailwater/agent"
)

// where tells how to find a running agent.
type where struct{ config, state, addr string }

func (w *where) flags(c *cobra.Command) {
	c.Flags().StringVarP(&w.config, "config", "c", "", "find the agent by its configuration file")
	c.Flags().StringVar(&w.state, "state", "", "find the agent by its state directory")
	c.Flags().StringVar(&w.addr, "addr", "", "ask the agent at HOST:PORT, with $TAILWATER_TOKEN")
	c.MarkFlagsMutuallyExclusive("config", "state", "addr")
	c.MarkFlagFilename("config", "yaml", "yml")
	c.MarkFlagDirname("state")
}

const defaultState = "/var/lib/tailwater"

// stateDir is the agent's state directory.
func (w *where) stateDir() (string, error) {
	if w.config != "" {
		cfg, err := load(w.config)
		if err != nil {
			return "", err
		}
		return cfg.State, nil
	}
	return cmp.Or(w.state, defaultState), nil
}

// noAgentError says that nobody answers.
type noAgentError struct{ op *net.OpError }

func (e *noAgentError) Error() string {
	return fmt.Sprintf("no agent answers at %s: %v; is it running? Name it with -c, --state or --addr", e.op.Addr, e.op.Err)
}

func (e *noAgentError) Unwrap() error { return e.op }

// ask sends one request to the agent and returns what it answered.
func (w *where) ask(ctx context.Context, method, path string) (status int, body []byte, err error) {
	client, host := http.DefaultClient, w.addr
	if w.addr == "" {
		state, err := w.stateDir()
		if err != nil {
			return 0, nil, err
		}
		host = "agent"
		client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return agent.DialSocket(ctx, state)
		}}}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token := os.Getenv("TAILWATER_TOKEN"); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return 0, nil, &noAgentError{op}
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized) {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return resp.StatusCode, body, err
}
