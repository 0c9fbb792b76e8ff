package parser

import "time"

// newApp returns a parser of application text.
func newApp(*time.Location) Parser { return newPlain() }
