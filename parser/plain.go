package parser

import "github.com/tailwater/tailwater/record"

// plainParser takes the text as it is: message and nothing else.
type plainParser struct{}

func newPlain() Parser { return plainParser{} }

// Parse implements Parser.
func (plainParser) Parse(text []byte, r *record.Record) {
	r.Put("message", text, record.Text)
}

// unparsed makes r the record of a text that is not of the format: the message is the
// text as it stands. reason is one of a small set of constants.
func unparsed(text []byte, r *record.Record, reason string) {
	forget(r)
	r.Put("message", text, record.Text)
	r.ParseError = reason
}
