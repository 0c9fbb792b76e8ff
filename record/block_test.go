package record

import "testing"

func TestBlockRemembersWhatTemplatesAskFor(t *testing.T) {
	o, r := gateway()
	freed := 0
	b := NewBlock(nil, []string{"status_code", "missing", "method"}, func(*Block) { freed++ })
	for i := range 3 {
		r.Level = Level(i)
		b.Append(o, r, int64(i), true, int64(i)*100)
	}
	for i := range 3 {
		ref := Ref{b, i}
		for name, want := range map[string]string{"status_code": "200", "missing": "", "method": "GET", "env": "prod", "project": "gateway", "level": Level(i).String(), "nothing": ""} {
			if got := ref.Value(name); got != want {
				t.Errorf("document %d: {%s} is %q, want %q", i, name, got, want)
			}
		}
	}
	if id := string(b.ID(2)); id != "k3v9x2ma-8f3kq09zt5mw-200" {
		t.Errorf("the id is %s", id)
	}
	b.Retain(1)
	b.Release()
	if freed != 0 {
		t.Fatal("freed while an output has it")
	}
	b.Release()
	if freed != 1 {
		t.Fatal("not freed")
	}
	b.Renew(nil)
	if len(b.Docs) != 0 || len(b.Data) != 0 {
		t.Fatal("not empty when renewed")
	}
}
