package record

// Sum is what one output has had of a file up to a safe position: From, Bytes, Lost,
// Passed and Excluded together are that position's offset.
type Sum struct {
	From   int64 `json:"from,omitempty"`   // where the output began
	Bytes  int64 `json:"bytes,omitempty"`  // of the file: in documents, filtered, blank, or no text
	Lost   int64 `json:"lost,omitempty"`   // were gone before the output had them
	Passed int64 `json:"passed,omitempty"` // what lines had beyond max_line, and damaged bytes of a spool
	// Excluded was written while the log was to be left alone.
	Excluded int64 `json:"excluded,omitempty"`
	// Docs are the documents that the output was given, and Refused those of them that
	// became dead letters.
	Docs    int64 `json:"docs,omitempty"`
	Refused int64 `json:"refused,omitempty"`
}

// End is the offset up to which the sum goes.
func (s Sum) End() int64 { return s.From + s.Bytes + s.Lost + s.Passed + s.Excluded }

// Add adds what lies behind: o.From is left out.
func (s *Sum) Add(o Sum) {
	s.Bytes += o.Bytes
	s.Lost += o.Lost
	s.Passed += o.Passed
	s.Excluded += o.Excluded
	s.Docs += o.Docs
	s.Refused += o.Refused
}

// Lost is a range of a file that some outputs will never have.
type Lost struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Reason string `json:"reason"`
	// Unread is how many of its bytes nobody has had: the others were read for other
	// outputs before they were gone.
	Unread  int64    `json:"unread"`
	Outputs []string `json:"outputs"`
}
