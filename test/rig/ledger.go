package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailwater/tailwater/agent"
)

// Ledger is what `tailwater audit` tells of the home's agent, whether it runs or not.
// It is an error when the sums do not agree.
func (h *Home) Ledger(ctx context.Context, files ...string) (*agent.Ledger, error) {
	cmd := h.Command(ctx, append([]string{"audit", "--json", "--state", h.State()}, files...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("audit: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	l := new(agent.Ledger)
	return l, json.Unmarshal(out.Bytes(), l)
}

// Books is what a test knows of the bytes of its files, or of the records of the topics
// that it has read.
type Books struct {
	// Written is how many were written to them.
	Written int64
	// Documents is, by output, how many documents were found there. What an output has
	// refused is not among them.
	Documents map[string]int
	// Input is the input that reads them; "" is all together.
	Input string
}

// Agree returns an error unless the ledger accounts for everything that was written and
// every document that was found, with nothing unread or waiting.
func (b Books) Agree(l *agent.Ledger) error {
	sum := l.Inputs[b.Input]
	if b.Input == "" {
		sum = agent.Share{}
		for _, s := range l.Inputs {
			sum.Add(s)
		}
	}
	var err error
	bad := func(format string, args ...any) { err = errors.Join(err, fmt.Errorf(format, args...)) }
	if sum.Written != b.Written || sum.Skipped+sum.Read+sum.Abandoned != b.Written || sum.Unread != 0 {
		bad("%d were written; the ledger has %d written, %d skipped, %d read, %d abandoned, %d unread", b.Written, sum.Written, sum.Skipped, sum.Read, sum.Abandoned, sum.Unread)
	}
	for _, name := range slices.Sorted(maps.Keys(b.Documents)) {
		o, known := sum.Outputs[name]
		if !known {
			bad("the ledger has no output %s", name)
			continue
		}
		if o.Skipped+o.Delivered+o.Abandoned != b.Written || o.Waiting != 0 {
			bad("%d were written; output %s has %d skipped, %d delivered, %d abandoned, %d waiting", b.Written, name, o.Skipped, o.Delivered, o.Abandoned, o.Waiting)
		}
		if found := int64(b.Documents[name]); o.Documents-o.Refused != found {
			bad("output %s: %d documents were found; the ledger has %d made of its bytes, %d refused", name, found, o.Documents, o.Refused)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, describe(l))
	}
	return err
}

// Balanced waits until the ledger of the home's agent agrees with the books.
func (h *Home) Balanced(ctx context.Context, b Books) error {
	return Poll(ctx, "the ledger to agree with what was written", func() error {
		l, err := h.Ledger(ctx)
		if err != nil {
			return Final(err)
		}
		return b.Agree(l)
	})
}

// describe shows a ledger's generations.
func describe(l *agent.Ledger) string {
	var b strings.Builder
	for _, g := range l.Files {
		fmt.Fprintf(&b, "%s %s gone=%q: %+v lost=%+v\n", g.File, g.ID, g.Gone, g.Share, g.Ranges)
	}
	return b.String()
}
