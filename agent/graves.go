package agent

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/source/tail"
)

const (
	gonePrefix = "gone/"
	olderKey   = "ledger/older"
	// keptGone is how many of the generations that are gone and forgotten the ledger
	// keeps one by one; the older ones are summed up.
	keptGone = 200
)

// graves is what the ledger has of generations that are gone and that the source has
// forgotten. It is written to the journal in the same change that removes them there.
type graves struct {
	mu    sync.Mutex // guards what follows
	kept  []tail.Account
	older map[string]Share // by input
}

// open reads what the journal has.
func (g *graves) open(j *journal.Journal, log *slog.Logger) {
	j.Range(func(key string, value []byte) {
		gen, ok := strings.CutPrefix(key, gonePrefix)
		a := tail.Account{Gen: gen}
		if ok && json.Unmarshal(value, &a) == nil {
			g.kept = append(g.kept, a)
		}
	})
	slices.SortFunc(g.kept, func(a, b tail.Account) int { return cmp.Or(cmp.Compare(a.Gone, b.Gone), cmp.Compare(a.Gen, b.Gen)) })
	g.older = make(map[string]Share)
	if raw, ok := j.Get(olderKey); ok {
		if err := json.Unmarshal(raw, &g.older); err != nil {
			log.Error("what the ledger has summed up is unreadable; it begins anew", "error", err)
		}
	}
}

// bury takes generations in, and returns what the journal is to be told of it.
func (g *graves) bury(gone []tail.Account) map[string]json.RawMessage {
	g.mu.Lock()
	defer g.mu.Unlock()
	change := make(map[string]json.RawMessage)
	for _, a := range gone {
		a.Progress = tail.Progress{Sums: a.Sums, Lost: a.Lost, Head: a.Head}
		raw, err := json.Marshal(a)
		if err != nil {
			continue // of our own making: it marshals
		}
		g.kept = append(g.kept, a)
		change[gonePrefix+a.Gen] = raw
	}
	for len(g.kept) > keptGone {
		a := g.kept[0]
		g.kept = slices.Delete(g.kept, 0, 1)
		s := g.older[a.Input]
		s.Add(generation(&a, -1, nil).Share)
		g.older[a.Input] = s
		change[gonePrefix+a.Gen] = nil
		change[olderKey] = nil
	}
	if _, summed := change[olderKey]; summed {
		if raw, err := json.Marshal(g.older); err == nil {
			change[olderKey] = raw
		}
	}
	return change
}

// all returns both.
func (g *graves) all() ([]tail.Account, map[string]Share) {
	g.mu.Lock()
	defer g.mu.Unlock()
	older := maps.Clone(g.older)
	for input, s := range older {
		s.Outputs = maps.Clone(s.Outputs)
		older[input] = s
	}
	return slices.Clone(g.kept), older
}
