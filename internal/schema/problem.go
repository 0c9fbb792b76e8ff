package schema

import (
	"cmp"
	"fmt"
	"slices"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	// Line and Col count from 1. Col is 0 where only the line is known.
	Line, Col int
	// Text says what is wrong and what to write instead.
	Text string
}

// String writes the problem as FILE:LINE: TEXT.
func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text) }

// Warning writes it as FILE:LINE: warning: TEXT.
func (p Problem) Warning() string { return fmt.Sprintf("%s:%d: warning: %s", p.File, p.Line, p.Text) }

// tidy sorts problems by their place and removes doubles, which an anchor that is
// used twice gives.
func tidy(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(problems)
}
