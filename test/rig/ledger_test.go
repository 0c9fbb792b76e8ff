package rig

import (
	"strings"
	"testing"

	"github.com/tailwater/tailwater/agent"
)

// TestTheBooksSeeEveryFault: a check that overlooks something makes every test that
// trusts it worthless.
func TestTheBooksSeeEveryFault(t *testing.T) {
	right := func() *agent.Ledger {
		return &agent.Ledger{Inputs: map[string]agent.Share{"app": {Written: 100, Read: 90, Abandoned: 10,
			Outputs: map[string]agent.OutputShare{"out": {Delivered: 80, Abandoned: 20, Documents: 9, Refused: 1}}}}}
	}
	books := Books{Written: 100, Documents: map[string]int{"out": 8}}
	if err := books.Agree(right()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*agent.Share, *agent.OutputShare){
		"89 read":            func(s *agent.Share, _ *agent.OutputShare) { s.Read-- },
		"99 written":         func(s *agent.Share, _ *agent.OutputShare) { s.Written-- },
		"1 unread":           func(s *agent.Share, _ *agent.OutputShare) { s.Unread++ },
		"11 abandoned":       func(s *agent.Share, _ *agent.OutputShare) { s.Abandoned++ },
		"79 delivered":       func(_ *agent.Share, o *agent.OutputShare) { o.Delivered-- },
		"1 waiting":          func(_ *agent.Share, o *agent.OutputShare) { o.Waiting++ },
		"10 made":            func(_ *agent.Share, o *agent.OutputShare) { o.Documents++ },
		"0 refused":          func(_ *agent.Share, o *agent.OutputShare) { o.Refused-- },
		"21 abandoned, 0 wa": func(_ *agent.Share, o *agent.OutputShare) { o.Abandoned++ },
	} {
		l := right()
		s := l.Inputs["app"]
		o := s.Outputs["out"]
		change(&s, &o)
		s.Outputs["out"] = o
		l.Inputs["app"] = s
		if err := books.Agree(l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if err := (Books{Written: 100, Documents: map[string]int{"other": 1}}).Agree(right()); err == nil {
		t.Error("an output that is not there was overlooked")
	}
}
