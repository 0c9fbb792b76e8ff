package report

import (
	"cmp"
	"slices"
	"strings"
)

const (
	// topSize is how many patterns are followed for a group, topShown how many are told.
	topSize  = 24
	topShown = 3
	// maxPatterns bounds the patterns of all groups of one report and day.
	maxPatterns = 5000
)

// top follows the most frequent patterns of a group in bounded memory (Space-Saving: a
// new pattern takes the place of the rarest one). With up to topSize different patterns
// the numbers are exact; beyond it, N-Err is what a pattern has had at least.
type top struct {
	List []pattern `json:"list"`
}

type pattern struct {
	Text string `json:"t"`
	N    int64  `json:"n"`
	Err  int64  `json:"e,omitempty"`
}

// add counts a pattern. mayGrow says whether there is memory for one more; grown whether
// it was used.
func (t *top) add(text []byte, mayGrow bool) (grown bool) {
	rarest := -1
	for i := range t.List {
		p := &t.List[i]
		if p.Text == string(text) {
			p.N++
			if i > 0 && t.List[i-1].N < p.N { // the frequent ones are found first
				t.List[i-1], t.List[i] = t.List[i], t.List[i-1]
			}
			return false
		}
		if rarest < 0 || p.N <= t.List[rarest].N {
			rarest = i
		}
	}
	switch {
	case len(t.List) < topSize && mayGrow:
		t.List = append(t.List, pattern{Text: string(text), N: 1})
		return true
	case rarest >= 0:
		p := &t.List[rarest]
		p.Err = p.N
		p.N++
		p.Text = string(text)
	}
	return false
}

// shown are the patterns that are told, with what each has had at least.
func (t *top) shown() (out []pattern) {
	for _, p := range t.List {
		if n := p.N - p.Err; n > 0 && p.Text != "" {
			out = append(out, pattern{strings.ToValidUTF8(p.Text, "\uFFFD"), n, p.Err})
		}
	}
	slices.SortFunc(out, func(a, b pattern) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Text, b.Text))
	})
	return out[:min(len(out), topShown)]
}
