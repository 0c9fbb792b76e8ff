package alert

import (
	"fmt"
	"strings"
	"testing"
)

// TestGroupsKeepTheirNumbers however many there are, however long their names, and
// though the same text is another chain's, or another key's.
func TestGroupsKeepTheirNumbers(t *testing.T) {
	var n numbers
	type name struct {
		bound uint32
		part  string
	}
	var names []name
	for i := range 2000 {
		for bound := range uint32(3) {
			part := fmt.Sprint("/", i)
			switch i % 5 {
			case 4:
				part = fmt.Sprint("/the same middle", i, "/for all of them, and end") // and hash
			case 0:
				part = strings.Repeat("x", inlinePart-len(part)) + part
			case 1:
				part = strings.Repeat("x", 150) + part + strings.Repeat("y", i%100)
			}
			names = append(names, name{bound, part})
		}
	}
	names = append(names, name{1, ""}, name{2, ""}, name{0, "/"})
	for i, x := range names {
		part := []byte(x.part)
		if got := n.find(x.bound, partHash(part), part); got != 0 {
			t.Fatalf("%v is %d before it was added", x, got)
		}
		if got := n.add(x.bound, partHash(part), part, fmt.Sprint("chain", x.bound, " ")+x.part); got != uint32(i+1) {
			t.Fatalf("%v is %d, not %d", x, got, i+1)
		}
	}
	for i, x := range names {
		part := []byte(x.part)
		if got := n.find(x.bound, partHash(part), part); got != uint32(i+1) || !strings.HasSuffix(n.keys[i], x.part) {
			t.Fatalf("%v is %d, not %d", x, got, i+1)
		}
		if got := n.find(x.bound+5, partHash(part), part); got != 0 {
			t.Fatalf("%v is known to another chain, as %d", x, got)
		}
	}
}
