package tail

import (
	"encoding/json"
	"strings"
)

// Account is what is known of one generation, for the ledger. Size and Start are its
// end and where its reading began, in uncompressed bytes.
type Account struct {
	Gen   string `json:"-"`
	Input string `json:"input"`
	Path  string `json:"path"` // under which it was first seen
	Home  string `json:"-"`    // where its bytes are, "" when they are nowhere
	Start int64  `json:"start,omitempty"`
	Size  int64  `json:"size"`
	Guess bool   `json:"-"` // Size is what a .gz says of itself
	Gone  int64  `json:"gone,omitempty"`
	Progress
}

// account takes stock of a file; false for one that is not to be read.
func (f *File) account() (Account, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := Account{Gen: f.gen, Input: f.input, Path: f.path, Home: f.home, Start: f.start.Off, Size: f.size, Guess: f.sizeGuess && f.gone == "", Progress: f.progressLocked()}
	if !f.tombAt.IsZero() {
		a.Home, a.Gone = "", f.tombAt.UnixMilli()
	}
	return a, !f.skip
}

// Accounts are those of all generations that are to be read or have been, and are not
// forgotten. with, when not nil, is called at the same moment: no generation is being
// forgotten (Options.Forget) before it returns.
func (s *Source) Accounts(with func()) (all []Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committing.Lock()
	defer s.committing.Unlock()
	s.saving.Lock()
	all = append(all, s.forgotten...)
	s.saving.Unlock()
	for _, fam := range s.families {
		for _, f := range fam.gens {
			if a, read := f.account(); read {
				all = append(all, a)
			}
		}
	}
	if with != nil {
		with()
	}
	return all
}

// Records is what can be read of a journal.
type Records interface {
	Range(f func(key string, value []byte))
}

// ReadAccounts returns the accounts of the generations that a Source has left in its
// journal.
func ReadAccounts(r Records) (all []Account) {
	r.Range(func(key string, value []byte) {
		gen, ok := strings.CutPrefix(key, filePrefix)
		var e entry
		if !ok || json.Unmarshal(value, &e) != nil || e.Skip {
			return
		}
		a := Account{Gen: gen, Input: e.Input, Path: e.Path, Home: e.Home, Size: e.Size, Guess: e.Guess && e.Gone == "", Gone: e.Tomb, Progress: e.Progress}
		if e.Start != nil {
			a.Start = e.Start.Off
		}
		if e.Tomb != 0 {
			a.Home = ""
		}
		all = append(all, a)
	})
	return all
}
