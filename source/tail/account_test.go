package tail

import (
	"encoding/json"
	"testing"
)

// TestWhatIsForgottenIsToldOnce deletes a file and lets the time pass after which
// nothing is kept of it. What its account says goes to the journal with the removal.
func TestWhatIsForgottenIsToldOnce(t *testing.T) {
	p := newPlayer(t, "*.log")
	var told []Account
	p.opt.Forget = func(gone []Account) map[string]json.RawMessage {
		told = append(told, gone...)
		return map[string]json.RawMessage{"kept/" + gone[0].Gen: json.RawMessage("1")}
	}
	p.append(p.path("a.log"), "one\ntwo\n")
	p.append(p.path("b.log"), "three\n")
	for _, line := range []string{"one", "two", "three"} {
		p.want(line)
	}
	p.play([]string{"rm", "a.log"})
	p.play([]string{"wait", "20s"})
	want := func(when string, files map[string]int64) {
		t.Helper()
		p.must(p.src.Save(nil))
		for from, accounts := range map[string][]Account{"the source": p.src.Accounts(nil), "the journal": ReadAccounts(p.opt.Store)} {
			if len(accounts) != len(files) {
				t.Errorf("%s: %s has %d accounts", when, from, len(accounts))
			}
			for _, a := range accounts {
				if files[a.Path] != a.Size {
					t.Errorf("%s: %s has %d bytes of %s", when, from, a.Size, a.Path)
				}
			}
		}
	}
	a, b := p.path("a.log"), p.path("b.log")
	want("deleted", map[string]int64{a: 8, b: 6})
	if len(told) != 0 {
		t.Errorf("told too early: %+v", told)
	}
	p.now = p.now.Add(2 * tombFor)
	p.poll()
	want("forgotten", map[string]int64{b: 6})
	if len(told) != 1 || told[0].Path != a || told[0].Size != 8 || told[0].Gone == 0 || told[0].Home != "" {
		t.Errorf("told: %+v", told)
	}
	if _, kept := p.opt.Store.Get("kept/" + told[0].Gen); !kept {
		t.Error("what was made of it is not in the journal")
	}
	p.play([]string{"restart"})
	want("after a restart", map[string]int64{b: 6})
}
