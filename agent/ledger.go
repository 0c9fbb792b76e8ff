package agent

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/journal"
	"github.com/tailwater/tailwater/record"
	"github.com/tailwater/tailwater/source/tail"
)

// Ledger tells of every generation of the watched files where its bytes have gone, and
// of every partition that is read where its records have. All numbers are bytes of the
// uncompressed file, or those records, but for documents and refused.
type Ledger struct {
	// Live is set when a running agent tells it; else it is what the state directory
	// says, as of the last checkpoint.
	Live  bool         `json:"live"`
	Files []Generation `json:"files"`
	// Older sums up, by input, the generations that are not kept one by one any more.
	Older map[string]Share `json:"older,omitempty"`
	// Inputs sums up all, the older ones too.
	Inputs map[string]Share `json:"inputs"`
	// Problems are sums that do not agree: a fault of tailwater's.
	Problems []string `json:"problems,omitempty"`
}

// Generation is the bytes of one log between two rotations, or one partition's records.
type Generation struct {
	File    string `json:"file"`              // under which it was first seen; kafka:TOPIC/PARTITION
	Current string `json:"current,omitempty"` // where its bytes are now; "" when they are gone
	Input   string `json:"input"`
	ID      string `json:"generation"` // a part of the ids of its lines; of a partition, who reads it
	Gone    string `json:"gone,omitempty"`
	// Estimated is set while Written is what a .gz says of itself.
	Estimated bool `json:"estimated,omitempty"`
	Share
	Ranges []record.Lost `json:"abandoned_ranges,omitempty"`
}

// Share adds up: skipped, read, abandoned and unread together are written.
type Share struct {
	Unit        string `json:"unit,omitempty"`        // what is counted: "records", or bytes when it is empty
	Generations int    `json:"generations,omitempty"` // how many are summed up here
	Written     int64  `json:"written"`
	Skipped     int64  `json:"skipped,omitempty"` // by start: end, ignore_older or a pod's wish, or before the group began
	Read        int64  `json:"read"`
	Abandoned   int64  `json:"abandoned"` // was gone before any output had it, or beyond max_line
	Unread      int64  `json:"unread"`
	// Outputs says the same of each output.
	Outputs map[string]OutputShare `json:"outputs"`
}

// OutputShare adds up too: skipped, delivered, abandoned and waiting together are what
// was written.
type OutputShare struct {
	Skipped   int64 `json:"skipped,omitempty"` // before the output began, or a pod's wish
	Delivered int64 `json:"delivered"`         // what the output has, what keep left out, blank lines, holes
	Abandoned int64 `json:"abandoned"`
	Waiting   int64 `json:"waiting"`
	// Documents were made of what is delivered; Refused of them are dead letters, or
	// were until they were replayed.
	Documents int64 `json:"documents"`
	Refused   int64 `json:"refused"`
}

// Add sums up.
func (s *Share) Add(o Share) {
	s.Unit = o.Unit
	s.Generations += max(o.Generations, 1)
	s.Written += o.Written
	s.Skipped += o.Skipped
	s.Read += o.Read
	s.Abandoned += o.Abandoned
	s.Unread += o.Unread
	for name, out := range o.Outputs {
		if s.Outputs == nil {
			s.Outputs = make(map[string]OutputShare)
		}
		t := s.Outputs[name]
		t.Skipped += out.Skipped
		t.Delivered += out.Delivered
		t.Abandoned += out.Abandoned
		t.Waiting += out.Waiting
		t.Documents += out.Documents
		t.Refused += out.Refused
		s.Outputs[name] = t
	}
}

// generation works an account out. readTo is how far the file has been read, -1 when
// only the outputs tell; outputs are those that the file is to be delivered to.
func generation(a *tail.Account, readTo int64, outputs []string) Generation {
	explain(a)
	g := Generation{File: a.Path, Current: a.Home, Input: a.Input, ID: a.Gen, Estimated: a.Guess, Ranges: a.Lost}
	g.Outputs = make(map[string]OutputShare, len(a.Sums))
	if a.Gone != 0 {
		g.Gone = time.UnixMilli(a.Gone).UTC().Format(time.RFC3339)
	}
	furthest := record.Sum{From: a.Start}
	for _, name := range outputs {
		if _, began := a.Sums[name]; !began {
			g.Outputs[name] = OutputShare{Waiting: a.Size}
		}
	}
	for name, sum := range a.Sums {
		g.Outputs[name] = OutputShare{Skipped: sum.From + sum.Excluded, Delivered: sum.Bytes, Abandoned: sum.Lost + sum.Passed, Documents: sum.Docs, Refused: sum.Refused}
		if sum.End() > furthest.End() {
			furthest = sum
		}
	}
	readTo = max(readTo, furthest.End())
	g.Written, g.Skipped = max(a.Size, readTo), a.Start+furthest.Excluded
	g.Abandoned = furthest.Passed
	for _, l := range a.Lost {
		g.Abandoned += l.Unread
	}
	g.Read = readTo - g.Skipped - g.Abandoned
	g.Unread = g.Written - readTo
	for name, out := range g.Outputs {
		out.Waiting = g.Written - a.Sums[name].End()
		g.Outputs[name] = out
	}
	return g
}

// explain gives a position that no sum belongs to, as before there were sums, one of
// bytes that nothing is known of.
func explain(a *tail.Account) {
	for name, pos := range a.Pos {
		if _, known := a.Sums[name]; !known {
			if a.Sums == nil {
				a.Sums = make(map[string]record.Sum)
			}
			a.Sums[name] = record.Sum{From: pos.Off}
		}
	}
}

// problems are what does not agree in the generation.
func (g *Generation) problems() (all []string) {
	say := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%s, generation %s: ", g.File, g.ID)+fmt.Sprintf(format, args...))
	}
	if g.Written != g.Skipped+g.Read+g.Abandoned+g.Unread || g.Read < 0 || g.Unread < 0 || g.Abandoned < 0 {
		say("of %d written, %d are skipped, %d read, %d abandoned, %d unread", g.Written, g.Skipped, g.Read, g.Abandoned, g.Unread)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Outputs)) {
		o := g.Outputs[name]
		if g.Written != o.Skipped+o.Delivered+o.Abandoned+o.Waiting || o.Delivered < 0 || o.Waiting < 0 || o.Refused > o.Documents {
			say("output %s: of %d written, %d are skipped, %d delivered, %d abandoned, %d waiting; %d documents, %d refused",
				name, g.Written, o.Skipped, o.Delivered, o.Abandoned, o.Waiting, o.Documents, o.Refused)
		}
	}
	return all
}

// misplaced are the outputs whose position is not where their sums end.
func (g *Generation) misplaced(a *tail.Account) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(a.Pos)) {
		if at, end := a.Pos[name].Off, a.Sums[name].End(); at != end {
			all = append(all, fmt.Sprintf("%s, generation %s: output %s: its position is %d, its sums end at %d", g.File, g.ID, name, at, end))
		}
	}
	return all
}

// newLedger puts the accounts together. readTo tells how far a generation was read,
// outputs which ones an input has; relays are the kafka inputs.
func newLedger(accounts []tail.Account, readTo func(gen string) int64, outputs map[string][]string, older map[string]Share, relays []consumed) *Ledger {
	l := &Ledger{Files: []Generation{}, Older: older, Inputs: make(map[string]Share)}
	total := func(input string, s Share) {
		t := l.Inputs[input]
		t.Add(s)
		l.Inputs[input] = t
	}
	for i := range accounts {
		a := &accounts[i]
		g := generation(a, readTo(a.Gen), outputs[a.Input])
		l.Problems = append(l.Problems, append(g.problems(), g.misplaced(a)...)...)
		l.Files = append(l.Files, g)
		total(g.Input, g.Share)
	}
	for i := range relays {
		for j := range relays[i].Parts {
			g, problems := relays[i].generation(&relays[i].Parts[j])
			l.Problems = append(l.Problems, problems...)
			l.Files = append(l.Files, g)
			total(g.Input, g.Share)
		}
	}
	for input, s := range older {
		total(input, s)
	}
	slices.SortFunc(l.Files, func(a, b Generation) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(boolInt(a.Gone == ""), boolInt(b.Gone == "")), cmp.Compare(a.Gone, b.Gone), cmp.Compare(a.ID, b.ID))
	})
	return l
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Ledger takes stock of all files, while they are read.
func (a *Agent) Ledger() *Ledger {
	flows := make(map[string]*flow)
	positions := make(map[string]tail.Progress)
	for _, f := range a.allFlows() {
		flows[f.file.Gen()] = f
		positions[f.file.Gen()] = f.account()
	}
	readTo := make(map[string]int64, len(flows))
	for gen, f := range flows { // after the positions, which are never ahead of it
		readTo[gen] = f.shipped.Load()
	}
	var gone []tail.Account
	var older map[string]Share
	accounts := a.source.Accounts(func() { gone, older = a.graves.all() }) // and then the sizes
	accounts = append(accounts, a.spoolAccounts()...)
	accounts = append(accounts, gone...)
	for i := range accounts {
		if p, live := positions[accounts[i].Gen]; live {
			accounts[i].Progress = p
		}
	}
	var relays []consumed
	for _, c := range a.allConsumers() {
		relays = append(relays, c.consumed())
	}
	l := newLedger(accounts, func(gen string) int64 {
		if to, live := readTo[gen]; live {
			return to
		}
		return -1
	}, a.outputsOf(), older, relays)
	l.Live = true
	return l
}

// outputsOf names the outputs of each input.
func (a *Agent) outputsOf() map[string][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string][]string)
	for name, in := range a.inputs {
		for _, out := range in.outputs {
			all[name] = append(all[name], out.name)
		}
	}
	return all
}

// account is what the outputs have of the flow's file now.
func (f *flow) account() tail.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := tail.Progress{Pos: make(map[string]record.Pos), Sums: make(map[string]record.Sum), Lost: slices.Clone(f.lost)}
	for _, t := range f.tracks {
		p.Pos[t.out.name], p.Sums[t.out.name] = t.Sum()
	}
	return p
}

// ReadLedger reads the ledger from the state directory of an agent that does not run.
// The caller holds its lock.
func ReadLedger(state string, log *slog.Logger) (*Ledger, error) {
	j, err := journal.Open(state, "checkpoint", log)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	var g graves
	g.open(j, log)
	accounts := append(tail.ReadAccounts(j), readSpoolAccounts(state, j)...)
	return newLedger(append(accounts, g.kept...), func(string) int64 { return -1 }, nil, g.older, readConsumed(j)), nil
}

// Of leaves only the generations of these files: those first seen under one of the
// paths or patterns, or there now. With no paths all stay.
func (l *Ledger) Of(paths []string) {
	if len(paths) == 0 {
		return
	}
	l.Files = slices.DeleteFunc(l.Files, func(g Generation) bool {
		return !slices.ContainsFunc(paths, func(p string) bool {
			first, _ := filepath.Match(p, g.File)
			now, _ := filepath.Match(p, g.Current)
			return first || now || p == g.File || p == g.Current
		})
	})
	l.Older, l.Inputs = nil, make(map[string]Share)
	for _, g := range l.Files {
		t := l.Inputs[g.Input]
		t.Add(g.Share)
		l.Inputs[g.Input] = t
	}
	l.Problems = slices.DeleteFunc(l.Problems, func(text string) bool {
		return !slices.ContainsFunc(l.Files, func(g Generation) bool { return strings.HasPrefix(text, g.File+", generation "+g.ID) })
	})
}

func (a *Agent) serveLedger(w http.ResponseWriter, r *http.Request) {
	l := a.Ledger()
	l.Of(r.URL.Query()["file"])
	serveJSON(w, http.StatusOK, l)
}
